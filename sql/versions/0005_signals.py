"""What outside people said to agents, and which task answers it."""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

revision = "0005_signals"
down_revision: str | None = "0004_tenants"
branch_labels: str | None = None
depends_on: str | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    """One table, and a view over it."""
    options = context.config.attributes
    _run("0005_signals.sql", options["schema"])
    if options["analytics"]:
        _run("0005_signals_analytics.sql", options["schema"])


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")


def _run(name: str, schema: str) -> None:
    text = (HERE / name).read_text(encoding="utf-8").replace("{schema}", f'"{schema}"')
    op.get_bind().exec_driver_sql(text)
