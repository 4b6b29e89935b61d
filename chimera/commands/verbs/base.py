"""What every verb is: frozen, closed, and either a question or a command."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from chimera.shapes import Shaped
from chimera.shapes import TenantName as TenantName


class Part(BaseModel):
    """A piece of a verb: frozen and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Read(Part):
    """A question. It is answered from a fold that has seen the log's end as it is now, or just the positions `after`
    (partition, offset) where they are given: enough to read one's own writes, and cheaper.
    """

    after: tuple[tuple[int, int], ...] | None = None


Actor = Annotated[
    str,
    Shaped(
        r"^[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$",
        "write up to 120 signs in one line, with no blanks at its ends, as in kim",
        1,
        120,
    ),
]


class Wish(Part):
    """A command. `id` names it: sent twice it counts once. `actor` is who gives it (recorded as `ce_actor`)."""

    id: Annotated[str, Shaped(r"^[\w.-]+$", "write 8 to 64 letters, digits, '.', '_' and '-'", 8, 64)]
    actor: Actor


Names = Annotated[tuple[str, ...], Field(min_length=1)]
