"""What posts gained by agent and day and what calls cost by day are kept, and posts are found without reading every artifact."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0017_rollups"
down_revision: str | None = "0016_asset_uses"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Tables, an index and the view of posts; what the tables hold of the past is made here or by the projector."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0017_rollups.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
