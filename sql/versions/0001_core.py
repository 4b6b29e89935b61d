"""First tables and views: schema `core` (or the scratch schema of a verification) and, beside `core`, `analytics_v1`."""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

HERE = Path(__file__).parent


def upgrade() -> None:
    """Create everything in the schema that `env.py` put on the search path."""
    options = context.config.attributes
    _run("0001_core.sql", options["schema"])
    _run("0001_views.sql", options["schema"])
    if options["analytics"]:
        op.execute("CREATE SCHEMA IF NOT EXISTS analytics_v1")
        _run("0001_analytics.sql", options["schema"])


def downgrade() -> None:
    """There is nothing before the first tables: a projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")


def _run(name: str, schema: str) -> None:
    text = (HERE / name).read_text(encoding="utf-8").replace("{schema}", f'"{schema}"')
    op.get_bind().exec_driver_sql(text)
