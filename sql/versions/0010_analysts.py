"""Who may see which tenant; `analytics_v1` is from here on built from `sql/views` after each migration."""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

revision = "0010_analysts"
down_revision: str | None = "0005_signals"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Beside `core` only: a scratch schema has no analysts."""
    if context.config.attributes["analytics"]:
        op.get_bind().exec_driver_sql((Path(__file__).parent / "0010_analysts.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
