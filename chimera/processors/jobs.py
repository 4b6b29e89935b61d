"""What a role owes (`Job`), what it answers (`Answer`), and the tools that it answers with.

The rule not to break: a job carries every number that its answer needs; `do` never looks at a state, which may have moved on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from chimera.events.envelope import Record
from chimera.events.notes import Kind
from chimera.events.records import Data
from chimera.events.state import Agent, Ref, Ruling
from chimera.memory.contract import Query, Remembered
from chimera.memory.episodes.contract import Told

JobKey = tuple[str, str, str, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Job:
    """One debt of one role to one agent. `facts` are the plain values (refs, hashes, versions) that the answer needs."""

    role: str
    what: str
    agent: str
    tenant: str
    correlation: str
    campaign: int
    ordinal: int
    attempt: int
    number: int
    """What tells this debt from a later one of the same attempt: claim, edit and edition, round."""
    facts: dict[str, Any]

    @property
    def key(self) -> JobKey:
        """Equal for the same debt, however often it is asked about."""
        return (self.role, self.what, self.agent, self.campaign, self.ordinal, self.attempt, self.number)


class Due(NamedTuple):
    """What a role owes now, and the broker time (ms) at which it should be asked again even if nothing happens."""

    jobs: list[Job]
    wake_at: int | None = None


class Answer(NamedTuple):
    """The one record that ends a job; `causation` is the id of the record it answers."""

    data: Data
    causation: str = ""


class CannotWork(Exception):
    """The attempt is over without an artifact. `retry` = a closed gate outside, no failure; `again_at` (ms) = not before then, no
    failure either; `needless` = nothing is to be made any more."""

    def __init__(self, reason: str, *, retry: bool = False, again_at: int | None = None, needless: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry = retry
        self.again_at = again_at
        self.needless = needless


class NotNow(Exception):
    """A closed gate outside (a kill switch): the job can have no answer now. It is asked for again later, as nobody's failure."""


class Tools(Protocol):
    """What a job may use."""

    async def say(self, job: Job, answer: Answer) -> Ruling:
        """Append a record and wait for its ruling."""

    async def read(self, ref: Ref) -> Record:
        """The record at a place of `chimera.log`, decoded and its signature verified."""

    async def tool(
        self, job: Job, capability: str, inputs: dict[str, Any], account: str | None = None, platform: str | None = None
    ) -> Any:
        """A reading call through the gate (`chimera.mcp.records.Outcome`); with `platform` where several profiles offer it."""

    async def remembered(self, job: Job) -> frozenset[Kind]:
        """The kinds of notes that the job's agent has in memory; none where there is no memory, or it is away."""

    async def recall(self, job: Job, query: Query) -> list[Remembered]:
        """What the job's tenant remembers, best first; nothing where there is no memory, or it is away."""

    async def earlier(self, job: Job, thread: str) -> list[Told]:
        """The last words of a thread of the job's agent, oldest first; nothing where no episodes are kept, or they are away."""

    def broker_now(self) -> int:
        """A lower bound of the broker's clock, in ms (law, rule 4)."""


class Role(NamedTuple):
    """A role, whole."""

    name: str
    due: Callable[[Agent, int], Due]
    do: Callable[[Job, Any], Awaitable[Answer | None]]


def soonest(*times: int | None) -> int | None:
    """The earliest of some times."""
    return min((t for t in times if t is not None), default=None)
