"""The policy simulator: every recorded content vote judged again under another policy, and what that would have changed.

The rules not to break: recorded artifacts, scores and findings only; nothing here can reach a tool. What went out went out: a
rehearsal says what would have been asked of people or written again, never what would have been written instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple

from chimera.errors import ChimeraError
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import read_until
from chimera.events.does.quorum import foreseen
from chimera.events.does.trust import weigh
from chimera.events.envelope import Record
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.records import (
    ArtifactProduced,
    EffectEnded,
    EffectWithdrawn,
    Expired,
    HumanEdited,
    HumanRejected,
    JudgeVerdict,
    PlanDrafted,
    PolicyAdopted,
    PolicyInline,
)
from chimera.events.state import Agent, Campaign, Policy, Ruling, Task
from chimera.policy.boardkit import Rules, digest, inline, load_text, parse_rules
from chimera.policy.documents import DocumentError
from chimera.replay.look import Log, Progress
from chimera.replay.rehearse import NOT_REHEARSED, Words, again, changed
from chimera.replay.shares import shared_out, side_by_side

Route = Literal["auto", "people", "retry"]
POLICY_FILE = "AGENTS.md"
EXAMPLES = 5
EXCERPT = 200
Slot = tuple[str, int, int]
"""Stream, campaign, ordinal."""


class BadPolicy(ChimeraError):
    """There is no policy where one was named, or it does not parse."""


class Candidate(NamedTuple):
    """The policy that is rehearsed."""

    rules: Rules
    inline: PolicyInline
    digest: str
    source: str


class Selection(NamedTuple):
    """Which votes count: of these agents and tenants (None: all), appended within [since, until] (ms, 0: unbounded)."""

    since: int = 0
    until: int = 0
    agents: frozenset[str] | None = None
    tenant: str | None = None

    def takes(self, record: Record) -> bool:
        """Does it select this vote?"""
        return (
            (not self.since or record.append_ts >= self.since)
            and (not self.until or record.append_ts <= self.until)
            and (self.agents is None or record.key in self.agents)
            and (self.tenant is None or record.tenant == self.tenant)
        )


class Example(NamedTuple):
    """One vote whose route changes. `posted`: where what it decided on went out."""

    card: str
    at: int
    record: str
    text: str
    before: str
    before_why: str
    after: str
    after_why: str
    reasons: tuple[str, ...]


@dataclass
class Outcome:
    """What a rehearsal found; two of them add up."""

    records: int = 0
    votes: int = 0
    unread: int = 0
    """Votes under a recorded policy whose text is not on the log, which cannot be compared: left out."""
    routes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(before, after) -> votes on effects."""
    drafts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The same for artifacts that propose nothing: research, angles."""
    causes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(before, after, why after) -> changed votes; why is a rule's name or the law's reason."""
    cards: dict[str, list[int]] = field(default_factory=dict)
    """Day (UTC) -> cards before and after."""
    posts: Counter[str] = field(default_factory=Counter)
    """Effects that went out, by what would have become of them."""
    spend: dict[str, Decimal] = field(default_factory=dict)
    """US dollars of effects that went out, by what would have become of them."""
    rework: Decimal = Decimal(0)
    """What the artifacts cost that would have been written again."""
    examples: dict[str, list[Example]] = field(default_factory=dict)
    """Kind of change (`auto -> retry`) -> the first of it."""
    differs: Counter[str] = field(default_factory=Counter)
    """Fields in which recorded policies differ from the candidate, by votes under them."""

    def add(self, other: Outcome) -> None:
        """Take in what another part of the log gave."""
        self.records += other.records
        self.votes += other.votes
        self.unread += other.unread
        self.rework += other.rework
        for mine, theirs in (
            (self.routes, other.routes),
            (self.drafts, other.drafts),
            (self.causes, other.causes),
            (self.posts, other.posts),
            (self.differs, other.differs),
        ):
            mine.update(theirs)  # type: ignore[arg-type]
        for day, (before, after) in other.cards.items():
            there = self.cards.setdefault(day, [0, 0])
            there[0], there[1] = there[0] + before, there[1] + after
        for what, usd in other.spend.items():
            self.spend[what] = self.spend.get(what, Decimal(0)) + usd
        for kind, some in other.examples.items():
            self.examples[kind] = sorted([*self.examples.get(kind, []), *some], key=lambda e: e.at)[:EXAMPLES]

    @property
    def changed(self) -> int:
        """Votes on effects whose route changes."""
        return sum(n for (before, after), n in self.routes.items() if before != after)


def candidate(path: Path) -> Candidate:
    """The policy in a directory (its AGENTS.md) or file. Raises `BadPolicy`."""
    file = path / POLICY_FILE if path.is_dir() else path
    if not file.is_file():
        there = ", ".join(sorted(each.name for each in path.iterdir())[:8]) if path.is_dir() else "nothing of that name"
        raise BadPolicy(f"no policy in {path}: it must hold {POLICY_FILE}, there is {there or 'nothing in it'} (try policies/)")
    try:
        text = load_text(file)
        rules = parse_rules(text, str(file))
    except DocumentError as error:
        raise BadPolicy(f"{error} (`chimera policy lint {file}`)") from error
    return Candidate(rules, inline(rules), digest(text), str(file))


class Rehearsal:
    """Walks partitions in log order. What it keeps is bounded by what is open, not by the log."""

    def __init__(self, given: Candidate, selection: Selection) -> None:
        self.outcome = Outcome()
        self._given, self._selection = given, selection
        self._words: dict[Slot, Words] = {}
        self._cost: dict[Slot, Decimal] = {}
        self._limits: dict[tuple[str, int], dict[int, int]] = {}
        self._decided: dict[Slot, tuple[Route, Route]] = {}
        self._policies: dict[str, tuple[Rules, list[str]] | None] = {}

    def walk(self, fold: PartitionFold, raws: Iterable[RawRecord]) -> None:
        """Fold consecutive records of one partition and judge again what was judged there. Raises `UnknownLaw`."""
        for raw in raws:
            record = fold.read(raw)
            data = record.data
            vote = data if isinstance(data, JudgeVerdict) and data.judge == "content" and self._selection.takes(record) else None
            stood = _standing(fold.agents.get(record.key), vote) if vote is not None else None
            _, ruling = fold.rule(record)
            self.outcome.records += 1
            if ruling.outcome == "void":
                continue
            if vote is not None and stood is not None:
                self._vote(record, vote, *stood)
            elif data is not None:
                self._note(record)
            self._forget_what_is_over(record, ruling)

    def _note(self, record: Record) -> None:
        """Keep what later votes are about, and count what went out."""
        data, key = record.data, record.key
        if isinstance(data, ArtifactProduced):
            slot = (key, data.campaign, data.ordinal)
            limit = self._limits.get((key, data.campaign), {}).get(data.ordinal)
            self._words[slot] = _words(data, None, limit)
            self._cost[slot] = data.cost_usd
        elif isinstance(data, HumanEdited):
            slot = (key, data.campaign, data.ordinal)
            self._words[slot] = _words(data, self._words.get(slot), None)
        elif isinstance(data, PlanDrafted):
            limits = {row.ordinal: row.inputs["max_chars"] for row in data.rows if isinstance(row.inputs.get("max_chars"), int)}
            if limits:
                self._limits.setdefault((key, data.campaign), {}).update(limits)
        elif isinstance(data, PolicyAdopted):
            self._learn(data)
        elif isinstance(data, EffectEnded | HumanRejected | Expired | EffectWithdrawn):
            slot = (key, data.campaign, data.ordinal)
            routes = self._decided.get(slot)
            if isinstance(data, EffectEnded) and data.outcome == "executed" and routes is not None:
                self._went_out(routes, data.cost_usd)
            if not isinstance(data, EffectEnded) or data.outcome != "not_executed":
                self._forget(slot)

    def _forget_what_is_over(self, record: Record, ruling: Ruling) -> None:
        for change in ruling.changes:
            if change.what == "task" and change.status in ("done", "closed", "dropped"):
                self._forget((record.key, change.campaign, change.ordinal))
            elif change.what == "campaign" and change.status in ("completed", "closed"):
                self._limits.pop((record.key, change.campaign), None)

    def _forget(self, slot: Slot) -> None:
        self._words.pop(slot, None)
        self._cost.pop(slot, None)
        self._decided.pop(slot, None)

    def _learn(self, data: PolicyAdopted) -> None:
        if data.digest in self._policies:
            return
        try:
            rules = parse_rules(data.rules)
        except DocumentError:
            self._policies[data.digest] = None
            return
        self._policies[data.digest] = (rules, list(changed(rules, self._given.rules)))

    def _vote(self, record: Record, vote: JudgeVerdict, agent: Agent, c: Campaign, t: Task, said: list[tuple[str, int]]) -> None:
        assert agent.policy is not None
        known, slot = self._policies.get(agent.policy.digest), (record.key, vote.campaign, vote.ordinal)
        if known is None:
            self.outcome.unread += 1
            return
        rules, differs = known
        words = self._words.get(slot)
        before, before_why = foreseen(agent, c, t, vote, record)
        made = again(vote, words, said, rules, self._given.rules, differs) if differs else vote
        after, after_why = foreseen(_under(agent, self._given.inline), c, t, made, record) if differs else (before, before_why)
        found = self.outcome
        found.votes += 1
        found.differs.update(differs)
        if t.effect is None:
            found.drafts[before, after] += 1
        else:
            found.routes[before, after] += 1
            self._decided[slot] = (before, after)
            day = found.cards.setdefault(datetime.fromtimestamp(record.append_ts / 1000, UTC).date().isoformat(), [0, 0])
            day[0] += before == "people"
            day[1] += after == "people"
        if before == after:
            return
        cost = self._cost.get(slot, Decimal(0))
        found.rework += cost if after == "retry" else -cost if before == "retry" else Decimal(0)
        why = made.failed_rules or [after_why] if after != "auto" else vote.failed_rules or [before_why]
        found.causes.update((before, after, name or "score") for name in why)
        some = found.examples.setdefault(f"{before} -> {after}", [])
        if len(some) < EXAMPLES:
            text = (words.text if words is not None else None) or f"({t.kind})"
            card = f"{agent.name}/{vote.campaign}.{vote.ordinal}.{vote.attempt}"
            place_ = f"{record.partition}:{record.offset}"
            shown = (before, before_why, after, after_why, tuple(made.reasons[:4]))
            some.append(Example(card, record.append_ts, place_, text[:EXCERPT], *shown))

    def _went_out(self, routes: tuple[Route, Route], cost: Decimal) -> None:
        before, after = routes
        what = "not gone out" if after == "retry" else "waited for people" if (before, after) == ("auto", "people") else "gone out"
        self.outcome.posts[what] += 1
        self.outcome.spend[what] = self.outcome.spend.get(what, Decimal(0)) + cost


Stood = tuple[Agent, Campaign, Task, list[tuple[str, int]]]


def _standing(agent: Agent | None, vote: JudgeVerdict) -> Stood | None:
    """What the vote meets, copied as far as the fold will change it; None where it meets nothing."""
    if agent is None or agent.policy is None:
        return None
    c = agent.campaigns.get(vote.campaign)
    t = c.tasks.get(vote.ordinal) if c is not None else None
    if c is None or t is None or t.attempt != vote.attempt:
        return None
    e = t.effect
    said = agent.fingerprints.get(f"{e.platform}/{e.account}", ()) if e is not None else ()
    marks = [(mark[0], mark[1]) for mark in said if (mark[2], mark[3]) != (c.number, t.ordinal)]
    return replace(agent), replace(c, done=dict(c.done)), replace(t, effect=replace(e) if e is not None else None), marks


def _under(agent: Agent, numbers: PolicyInline) -> Agent:
    """The same agent under another policy; whether it is in shadow is counted from its decisions so far."""
    assert agent.policy is not None
    policy = Policy(agent.policy.edition, agent.policy.digest, agent.policy.editor, numbers, agent.policy.ref)
    made = replace(agent, policy=policy)
    if numbers.probation is not None and numbers.probation != agent.policy.inline.probation:
        weigh(made, [])
    return made


def _words(data: ArtifactProduced | HumanEdited, draft: Words | None, max_chars: int | None) -> Words:
    content, effect = data.content, data.effect
    text = content.get("text", content.get("prompt"))
    own = isinstance(data, ArtifactProduced)
    told: Any = data
    return Words(
        text=text if isinstance(text, str) else None,
        prompt="prompt" in content and "text" not in content,
        platform=str(content.get("platform", effect.platform if effect is not None else "")),
        max_chars=max_chars if own or draft is None else draft.max_chars,
        disclosure=effect.disclosure if effect is not None else told.disclosure_level,
        taint=told.taint if own else draft.taint if draft is not None else "open",
        is_reply=effect.thread is not None if effect is not None else told.kind == "reply",
        urls=tuple(s["url"] for s in told.sources if isinstance(s.get("url"), str))
        if own
        else draft.urls
        if draft is not None
        else (),
    )


def simulate(
    log: Log, given: Candidate, selection: Selection, *, partitions: Iterable[int], upto: dict[int, int], progress: Progress
) -> Outcome:
    """Rehearse these partitions from offset 0 up to and without `upto`. Raises what reading raises, `UnknownLaw`."""
    count = len(upto)
    rehearsal = Rehearsal(given, selection)
    wanted = sorted(partitions)
    folds = {p: PartitionFold(p, count, log.root_public, place) for p in wanted}
    total = sum(upto[p] for p in wanted)
    for batch in read_until(log.bootstrap, log.topic, wanted, None, upto):
        by_partition: dict[int, list[RawRecord]] = {}
        for raw in batch:
            by_partition.setdefault(raw.partition, []).append(raw)
        for partition, raws in by_partition.items():
            rehearsal.walk(folds[partition], raws)
        progress(rehearsal.outcome.records, total)
    return rehearsal.outcome


def in_processes(
    log: Log,
    given: Candidate,
    selection: Selection,
    *,
    partitions: Iterable[int],
    upto: dict[int, int],
    processes: int,
    progress: Progress,
) -> Outcome:
    """The same by several processes, each with its share of the partitions, the longest first; one is done in this one."""
    shares = shared_out(partitions, upto, processes)
    if len(shares) == 1:
        return simulate(log, given, selection, partitions=shares[0], upto=upto, progress=progress)
    found, total = Outcome(), sum(upto[p] for share in shares for p in share)
    for part in side_by_side(_share, [(log, given, selection, share, upto) for share in shares]):
        found.add(part)
        progress(found.records, total)
    return found


def _share(log: Log, given: Candidate, selection: Selection, share: list[int], upto: dict[int, int]) -> Outcome:
    return simulate(log, given, selection, partitions=share, upto=upto, progress=lambda done, total: None)


def notes(found: Outcome) -> list[str]:
    """What a reader must know of a rehearsal: fields that differ and that it says nothing of."""
    return [f"{name}: not rehearsed ({NOT_REHEARSED[name]})" for name in found.differs if name in NOT_REHEARSED]
