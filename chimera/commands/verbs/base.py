"""What every verb is: frozen, closed, and either a question or a command."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A piece of a verb: frozen and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Read(Part):
    """A question. It is answered from a fold that has seen the log's end as it is now, or just the positions `after`
    (partition, offset) where they are given: enough to read one's own writes, and cheaper.
    """

    after: tuple[tuple[int, int], ...] | None = None


class Wish(Part):
    """A command. `id` names it: sent twice it counts once. `actor` is who gives it (recorded as `ce_actor`)."""

    id: str = Field(min_length=8, max_length=64, pattern=r"^[\w.-]+$")
    actor: str = Field(min_length=1, max_length=120, pattern=r"^[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$")


Names = Annotated[tuple[str, ...], Field(min_length=1)]
TenantName = Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
