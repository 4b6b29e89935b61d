"""A record is found by its id, and a task's steps move no entry of an index until it is over."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0026_records_by_id"
down_revision: str | None = "0025_engagement_days"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Two indexes, a view, room in pages."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0026_records_by_id.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
