"""A post's newest day lies in engagement_latest alone: an observation is one row of the rollups instead of two."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0025_engagement_days"
down_revision: str | None = "0024_codecs"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Columns, an index, views."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0025_engagement_days.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
