"""Snapshots of folded partitions: schema `snapshots`, beside `core` only (a scratch schema has none)."""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

revision = "0003_snapshots"
down_revision: str | None = "0002_parking"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the schema and its tables once per database."""
    if context.config.attributes["schema"] == "core":
        op.get_bind().exec_driver_sql((Path(__file__).parent / "0003_snapshots.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Snapshots cost only time: they are dropped whole."""
    if context.config.attributes["schema"] == "core":
        op.execute("DROP SCHEMA IF EXISTS snapshots CASCADE")
