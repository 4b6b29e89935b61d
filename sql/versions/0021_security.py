"""Security events: what doors noted, as rows."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0021_security"
down_revision: str | None = "0020_memory"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """A table and its indexes."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0021_security.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
