"""What media were made from and what happens to them by day is kept, and posts of which numbers are told apart are known."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0022_media_sums"
down_revision: str | None = "0021_security"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Tables, views and the triggers that say what is to be made anew; the projector makes it."""
    text = (Path(__file__).parent / "0022_media_sums.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(text.replace("%", "%%"))  # the driver takes % for the beginning of a parameter


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
