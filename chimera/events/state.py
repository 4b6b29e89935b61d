"""What an agent's log folds to: small, made of hashes, numbers and coordinates of the record that holds the content.

The rule not to break: content never enters the state (design section 4: idle agent <= 4 KB, open task <= 400 B serialised).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from chimera.events.records import PolicyInline

ZERO = Decimal(0)
MAX_OPEN_TASKS = 500
RECENT_COMMANDS = 32
FINGERPRINTS = 64
MAX_HEARD = 32
"""SignalObserved records that may wait for the planner; while so many wait, no more are taken in."""
LESSONS = 8
"""Refusals by people that later tasks are told of, the latest ones."""
NO_WINDOW = -1
"""Where a reservation lies whose window is gone."""
THREADS = 32
"""Threads whose answers are counted, the latest ones."""


class Ref(NamedTuple):
    """Where in `chimera.log` the content of something lies."""

    partition: int
    offset: int


class Hold(NamedTuple):
    """Who looks into a card, until when (ms, 0 = until released), and the record that says why."""

    by: str
    until: int
    ref: Ref

    def stands(self, now: int) -> bool:
        """Whether the mark has not ended by itself at `now` (ms)."""
        return not self.until or now < self.until


class Lesson(NamedTuple):
    """A person's no: the HumanRejected record with its reason, and the record that holds the words it was about."""

    by: Ref
    about: Ref


class Change(NamedTuple):
    """One transition that a record brought about; read models are made of these.

    what: agent | soul | policy | account | allowance | campaign | brief | plan | task | effect | funds | commit | signal | trust |
    hold;
    `campaign`, `ordinal`, `attempt` are 0 where they say nothing.
    """

    what: str
    campaign: int
    ordinal: int
    attempt: int
    status: str
    reason: str = ""
    detail: str = ""


class Ruling(NamedTuple):
    """What the law says of one record."""

    outcome: str
    """applied | rejected | void"""
    reason: str
    version_before: int
    version: int
    """The agent's state_version after the record."""
    changes: tuple[Change, ...] = ()


@dataclass(slots=True)
class Allowance:
    """Money for metered calls per window of broker time; `used` includes what is reserved."""

    limit: Decimal
    window_ms: int
    window_start: int = 0
    used: Decimal = ZERO


@dataclass(slots=True)
class Policy:
    """The adopted edition: numbers inline, text by reference."""

    edition: int
    digest: str
    editor: str
    inline: PolicyInline
    ref: Ref


@dataclass(slots=True)
class Effect:
    """One proposed act on the outside world."""

    hash: str
    effect_class: str
    tool_class: str
    platform: str
    account: str
    thread: str | None
    text_hash: str
    simhash: int
    taint: str
    tags: tuple[str, ...]
    """Risk tags of worker and judges."""
    max_cost: Decimal
    payee: str | None
    not_before: int
    ref: Ref
    """The record that holds the bytes: ArtifactProduced or HumanEdited."""
    status: str = "proposed"
    """proposed | people | approved | claimed | submitted | unknown"""
    edit: int = 0
    editor: str = ""
    content_ask: str | None = None
    """Content vote: None = no vote yet; "" = passes by itself; else why people are asked."""
    content_by: Ref | None = None
    cap: float = 1.0
    confidence: float | None = None
    """What the content vote is worth; None before it, where the judge could not say, and once it is approved."""
    cfo: str | None = None
    """CFO vote: None | pass | people."""
    funds: str | None = None
    """None = not asked; asked | held | over_budget."""
    new_payee: bool = False
    """Nothing was ever paid to its payee: two people decide."""
    approvals: list[str] = field(default_factory=list)
    decided_by: list[Ref] = field(default_factory=list)
    """The records that make up the quorum, read back before any call."""
    held: Hold | None = None
    """The mark that a person put on its card; it decides nothing."""
    opened_ts: int = 0
    opened_held: int = 0
    approved_edition: int = 0
    """The policy edition whose votes approved it."""
    approved_ts: int = 0
    approved_held: int = 0
    ahead_ms: int = 0
    """How long after its approval it may be claimed first: that time counts towards no lapse."""
    committed: bool = False
    claim: int = 0
    """The last claim number used up."""
    tokens: list[tuple[int, str]] = field(default_factory=list)
    """(claim, token) of applied claims, oldest first: a late "executed" may name any of them."""
    claimed_ts: int = 0
    lease_until: int = 0
    handle: str = ""
    wait_reason: str = ""


@dataclass(slots=True)
class Task:
    """One row of a plan and, while it is open, its attempt."""

    ordinal: int
    kind: str
    depends_on: tuple[int, ...]
    reads: tuple[str, ...]
    max_cost: Decimal
    plan_not_before: int
    costly: bool
    ref: Ref
    """The PlanDrafted record that holds title, inputs and acceptance criteria."""
    status: str = "planned"
    """planned (waits to be opened) | open (waits for work) | produced (waits for votes or its effect)"""
    attempt: int = 0
    failures: int = 0
    not_before: int = 0
    """Not to be opened earlier: what a gate asked for, or `wait_ms` after what it depends on."""
    wait_ms: int = 0
    """Not to be opened earlier than so long after the last task that it depends on was done."""
    wait_reason: str = ""
    """Why the last attempt ended or was not opened."""
    feedback: Ref | None = None
    """The record whose reasons the next attempt should know."""
    input_state_version: int = 0
    conflict_at: int = 0
    strict: bool = False
    """The policy demanded, when the attempt was opened, that it reads everything."""
    opened_ts: int = 0
    start_until: int = 0
    """End of the live start's lease; 0 = not started in this attempt."""
    reserved: Decimal = ZERO
    reserved_window: int = 0
    artifact_hash: str = ""
    artifact: Ref | None = None
    effect: Effect | None = None

    @property
    def aspects(self) -> tuple[str, ...]:
        """What the attempt reads: as planned, or everything."""
        return ("*",) if self.strict else self.reads

    @property
    def stale(self) -> bool:
        """Something that this attempt read was written after its input version (law, rule 3)."""
        return self.conflict_at > self.input_state_version


class Done(NamedTuple):
    """A finished task: cap on the confidence of what is made from it, its artifact, and how its effect ended."""

    cap: float
    artifact: Ref
    ended: Ref | None = None
    """The EffectEnded record of what it did outside: when, and as what the platform knows it."""


@dataclass(slots=True)
class Campaign:
    """An open campaign."""

    number: int
    campaign_id: str
    requester: str
    brief_edition: int
    brief: Ref
    status: str = "running"
    """running | paused | cancelled (closing: what was claimed runs to its end)"""
    round: int = 0
    planned_edition: int = 0
    plan_failures: int = 0
    next_ordinal: int = 1
    tasks: dict[int, Task] = field(default_factory=dict)
    done: dict[int, Done] = field(default_factory=dict)
    closed: dict[int, str] = field(default_factory=dict)
    passing: list[int] = field(default_factory=list)
    """Ordinals of rows that answer signals: once over and depended on by nobody they leave the state."""
    delayed: list[int] = field(default_factory=list)
    """Ordinals of tasks with a `wait_ms`."""
    listens_until: int = 0
    """Broker time until which it answers what people say; it does not complete before."""
    held_ms: int = 0
    held_since: int = 0
    """Append time since which a gate (agent or campaign) holds the work; 0 = not held."""

    def held(self, now: int) -> int:
        """Milliseconds held up to `now`: they count towards no expiry and no lapse."""
        return self.held_ms + (max(0, now - self.held_since) if self.held_since else 0)


class Owed(NamedTuple):
    """A copy that this stream owes another until it is delivered."""

    number: int
    what: str
    """FundsRequested | FundsSettled"""
    campaign: int
    ordinal: int
    attempt: int
    amount: Decimal
    campaign_id: str = ""
    """This and what follows: of what asks for funds. The task may be over before the copy is made."""
    effect_class: str = ""
    effect_hash: str = ""
    payee: str | None = None


@dataclass(slots=True)
class Agent:
    """The state of one agent's stream."""

    key: str
    tenant: str
    name: str
    version: int = 0
    status: str = "active"
    """active | paused | retired"""
    quarantine: Ref | None = None
    """The unreadable record that closed this gate."""
    command_no: int = 0
    recent: list[str] = field(default_factory=list)
    """The last command ids, oldest first: retries are answered, never applied twice."""
    copies_in: dict[str, int] = field(default_factory=dict)
    owed: dict[str, list[Owed]] = field(default_factory=dict)
    owed_no: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)
    soul: Ref | None = None
    policy: Policy | None = None
    accounts: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, str] = field(default_factory=dict)
    """Platform -> where the account's credential lies, where that is not as the profile says."""
    allowance: Allowance | None = None
    next_campaign: int = 1
    campaigns: dict[int, Campaign] = field(default_factory=dict)
    signals: dict[str, tuple[int, str]] = field(default_factory=dict)
    heard: list[Ref] = field(default_factory=list)
    """SignalObserved records that wait for the planner, oldest first."""
    answered: list[tuple[str, int]] = field(default_factory=list)
    """Thread and committed answers in it, of the latest THREADS threads, the one answered last at the end."""
    lessons: list[Lesson] = field(default_factory=list)
    """What people refused of its words, oldest first: the reasons feed later tasks."""
    fingerprints: dict[str, list[tuple[str, int, int, int]]] = field(default_factory=dict)
    """Per account, oldest first: text hash, SimHash, campaign, ordinal of claimed effects."""
    claims: dict[str, list[int]] = field(default_factory=dict)
    """Per platform: append times of claims within the frequency window."""
    decided: str = ""
    """What people made of its last cards, a letter each, oldest first: a(greed), e(dited), r(ejected)."""
    trusted: bool = False
    """People agreed with it as often as policy asks of new agents, and did not override it too often since."""
    open_tasks: int = 0
    readers: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    """Index: aspect -> open tasks (campaign, ordinal) that read it; derived, never serialised."""

    @property
    def held(self) -> bool:
        """The agent's own gates: nothing new begins while one is closed."""
        return self.status != "active" or self.quarantine is not None


@dataclass(frozen=True, slots=True)
class Law:
    """The law in force in one partition: its number and the keys per role."""

    number: int = 1
    edition: int = 0
    keys: dict[str, frozenset[str]] = field(default_factory=dict)
    """Role -> key ids. A role that is listed must sign; `command` always must."""
    public: dict[str, str] = field(default_factory=dict)
    """Key id -> public key (base64), for verifying ahead of the fold; of every key that any edition listed, and of root."""
    ever: dict[str, frozenset[str]] = field(default_factory=dict)
    """Role -> key ids that any edition so far listed for it."""
    root: str = ""
    """Key id of the root key pinned in the settings."""
