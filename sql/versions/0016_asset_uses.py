"""Which effects show which media: what becomes of an effect becomes of them."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0016_asset_uses"
down_revision: str | None = "0015_builds"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """A table and an index."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0016_asset_uses.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
