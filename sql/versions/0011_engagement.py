"""What platforms say of posts: observations by the day they were appended, and the last value of each day."""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

revision = "0011_engagement"
down_revision: str | None = "0010_analysts"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Tables; the parts of the observations are made by `chimera.projections.parts`."""
    text = (Path(__file__).parent / "0011_engagement.sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(text)
    if context.config.attributes["schema"] == "core":
        op.execute("CREATE SCHEMA IF NOT EXISTS priv")
        op.execute("REVOKE ALL ON SCHEMA priv FROM PUBLIC")


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
