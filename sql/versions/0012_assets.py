"""Media: what was made, from what, with which tool, and what became of it."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0012_assets"
down_revision: str | None = "0011_engagement"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Tables; the parts of the events are made by `chimera.projections.parts`."""
    op.get_bind().exec_driver_sql((Path(__file__).parent / "0012_assets.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """A projection is dropped whole and rebuilt from the log."""
    raise NotImplementedError("drop the schema and rebuild it from the log instead")
