"""Builds of the read models: which there are, and who made, swapped and dropped them."""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

revision = "0015_builds"
down_revision: str | None = "0014_engagement_sets"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Beside `core` only: a scratch schema is nobody's build."""
    if context.config.attributes["schema"] == "core":
        op.get_bind().exec_driver_sql((Path(__file__).parent / "0015_builds.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
