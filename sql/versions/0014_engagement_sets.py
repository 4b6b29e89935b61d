"""Last values of numbers that were told together are one row."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0014_engagement_sets"
down_revision: str | None = "0013_transactions"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Tables; the views on them are built anew after all migrations."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0014_engagement_sets.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
