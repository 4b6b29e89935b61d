"""What every decision and every answer looks like.

The rule not to break: a decision is a pure function of the agent's folded state; it returns the records to append (none when
nothing is left to do) without their numbers, which the command service fills in, or raises `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from chimera.errors import ChimeraError

if TYPE_CHECKING:  # who only hands commands in does not pay for the language of the log
    from chimera.events.records import Data
    from chimera.events.state import Agent, Change
    from chimera.events.tenant import Tenant

Decision: TypeAlias = "Callable[[Agent | None], Sequence[Data]]"
"""Folded state (None: no such agent yet) -> records to append, in order."""

TenantDecision: TypeAlias = "Callable[[Tenant | None], Sequence[Data]]"
"""The same for a tenant's stream."""

NO_CHANGE = "no change"
"""Reason of an answer whose decision had nothing left to do."""


class Refused(ChimeraError):
    """The law would not let this command count in the state as it is; the message says why and what to do instead."""


class NotEntitled(Refused):
    """Whoever commands this lacks the right to it, however the state stands. It is noted as a security event."""


class Order(NamedTuple):
    """One command for one stream. `id` names it: repeating the id of one that was applied is answered, never applied twice.

    `causation` is the id of the record that the command answers (a card's artifact), `correlation` that of the story it
    belongs to; empty where the command begins one.
    """

    key: str
    tenant: str
    actor: str
    decide: Callable[[Any], Sequence[Data]]
    """A `Decision`, or for a tenant's stream a `TenantDecision`."""
    id: str
    causation: str = ""
    correlation: str = ""


class Answer(NamedTuple):
    """What became of a command.

    `outcome`: applied | rejected | void (the law's ruling; of several records the first that did not count), `refused` (the
    decision saw that it could not count, nothing was appended) or `appended` (on the log, ruling not yet known).
    `position`: (partition, offset) of the last record; None where nothing was appended.
    """

    key: str
    command_id: str
    outcome: str
    reason: str
    state_version: int
    position: tuple[int, int] | None = None
    records: int = 0
    changes: tuple[Change, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether a record was appended and applied."""
        return self.outcome == "applied" and self.records > 0


def existing(agent: Agent | None) -> Agent:
    """The agent, or `Refused` where the stream holds none."""
    if agent is None:
        raise Refused("no such agent: enrol it first with `chimera agent enrol -f fleet.yaml`")
    return agent
