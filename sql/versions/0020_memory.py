"""Builds and checkpoints of long-term memory."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0020_memory"
down_revision: str | None = "0017_rollups"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Two tables in a schema of their own."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0020_memory.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
