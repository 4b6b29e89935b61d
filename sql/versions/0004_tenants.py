"""The tenant's stream: members, accounts, money, editions, campaigns, copies owed; the ledger for analysts."""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

revision = "0004_tenants"
down_revision: str | None = "0003_snapshots"
branch_labels: str | None = None
depends_on: str | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    """Tables, and views over them."""
    options = context.config.attributes
    _run("0004_tenants.sql", options["schema"])
    if options["analytics"]:
        _run("0004_tenants_analytics.sql", options["schema"])


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")


def _run(name: str, schema: str) -> None:
    text = (HERE / name).read_text(encoding="utf-8").replace("{schema}", f'"{schema}"')
    op.get_bind().exec_driver_sql(text)
