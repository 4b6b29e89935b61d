"""How pictures and films are encoded stands beside their size."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0024_codecs"
down_revision: str | None = "0022_media_sums"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """A column."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0024_codecs.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
