"""Transfers of coins and tokens, with what the chain's receipts say."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0013_transactions"
down_revision: str | None = "0012_assets"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """One table."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0013_transactions.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
