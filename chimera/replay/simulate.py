"""The policy simulator: every recorded content vote judged again under another policy, and what that would have changed.

The rules not to break: recorded artifacts, scores and findings only; nothing here can reach a tool. What went out went out: a
rehearsal says what would have been asked of people or written again, never what would have been written instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from chimera.errors import ChimeraError
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import read_until
from chimera.events.does.people import foreseen
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
from chimera.projections.shares import shared_out, side_by_side
from chimera.replay.look import Log, Progress
from chimera.replay.outcome import EXAMPLES, Example, Outcome, Route
from chimera.replay.rehearse import Words, again, changed

POLICY_FILE = "AGENTS.md"
EXCERPT = 200
OVER = (EffectEnded, HumanRejected, Expired, EffectWithdrawn)
"""What ends, or may end, an effect."""
NOTED = frozenset((ArtifactProduced, HumanEdited, PlanDrafted, PolicyAdopted, *OVER))
"""What votes are about, and what became of that."""
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


class Judged(NamedTuple):
    """One vote under both policies. `made` None: the policy that it was made under cannot be read."""

    name: str
    kind: str
    effect: bool
    before: Route
    before_why: str
    after: Route
    after_why: str
    made: JudgeVerdict | None
    words: Words | None
    differs: Sequence[str]


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
        for record in fold.read_ahead(raws):
            data = record.data
            vote = data if isinstance(data, JudgeVerdict) and data.judge == "content" and self._selection.takes(record) else None
            # Before the fold moves on: the vote is judged by the state that it meets, and that needs no copy.
            judged = self._judge(record, vote, fold.agents.get(record.key)) if vote is not None else None
            _, ruling = fold.rule(record)
            self.outcome.records += 1
            if ruling.outcome == "void":
                continue
            if vote is not None and judged is not None:
                self._count(record, vote, judged)
            elif type(data) in NOTED:
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
        elif isinstance(data, OVER):
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

    def _judge(self, record: Record, vote: JudgeVerdict, agent: Agent | None) -> Judged | None:
        """Both routes of a vote; None where it meets nothing that it could be a vote on."""
        if agent is None or agent.policy is None:
            return None
        c = agent.campaigns.get(vote.campaign)
        t = c.tasks.get(vote.ordinal) if c is not None else None
        if c is None or t is None or t.attempt != vote.attempt:
            return None
        known = self._policies.get(agent.policy.digest)
        if known is None:
            return Judged(agent.name, t.kind, t.effect is not None, "auto", "", "auto", "", None, None, ())
        rules, differs = known
        words = self._words.get((record.key, vote.campaign, vote.ordinal))
        before, before_why = foreseen(agent, c, t, vote, record)
        made, after, after_why = vote, before, before_why
        if differs:
            said = _said(agent, c, t) if "similar_bits" in differs else ()
            made = again(vote, words, said, rules, self._given.rules, differs)
            with _under(agent, self._given.inline):
                after, after_why = foreseen(agent, c, t, made, record)
        return Judged(agent.name, t.kind, t.effect is not None, before, before_why, after, after_why, made, words, differs)

    def _count(self, record: Record, vote: JudgeVerdict, judged: Judged) -> None:
        """Take a vote that the law did not void into the outcome."""
        found, slot, made, words = self.outcome, (record.key, vote.campaign, vote.ordinal), judged.made, judged.words
        before, after = judged.before, judged.after
        if made is None:
            found.unread += 1
            return
        found.votes += 1
        found.differs.update(judged.differs)
        if not judged.effect:
            found.drafts[before, after] += 1
        else:
            found.routes[before, after] += 1
            self._decided[slot] = (before, after)
            day = found.cards.setdefault(_day(record.append_ts // 86_400_000), [0, 0])
            day[0] += before == "people"
            day[1] += after == "people"
        if before == after:
            return
        cost = self._cost.get(slot, Decimal(0))
        found.rework += cost if after == "retry" else -cost if before == "retry" else Decimal(0)
        why = made.failed_rules or [judged.after_why] if after != "auto" else vote.failed_rules or [judged.before_why]
        found.causes.update((before, after, name or "score") for name in why)
        some = found.examples.setdefault(f"{before} -> {after}", [])
        if len(some) < EXAMPLES:
            text = (words.text if words is not None else None) or f"({judged.kind})"
            card = f"{judged.name}/{vote.campaign}.{vote.ordinal}.{vote.attempt}"
            shown = (before, judged.before_why, after, judged.after_why, tuple(made.reasons[:4]))
            some.append(Example(card, record.append_ts, f"{record.partition}:{record.offset}", text[:EXCERPT], *shown))

    def _went_out(self, routes: tuple[Route, Route], cost: Decimal) -> None:
        before, after = routes
        what = "not gone out" if after == "retry" else "waited for people" if (before, after) == ("auto", "people") else "gone out"
        self.outcome.posts[what] += 1
        self.outcome.spend[what] = self.outcome.spend.get(what, Decimal(0)) + cost


def _said(agent: Agent, c: Campaign, t: Task) -> list[tuple[str, int]]:
    """Fingerprints of what the account had said, the task's own left out."""
    e = t.effect
    marks = agent.fingerprints.get(f"{e.platform}/{e.account}", ()) if e is not None else ()
    return [(mark[0], mark[1]) for mark in marks if (mark[2], mark[3]) != (c.number, t.ordinal)]


@contextmanager
def _under(agent: Agent, numbers: PolicyInline) -> Iterator[None]:
    """The agent under another policy for the length of a question; whether it is in shadow is counted from its decisions so far.

    Swapped and put back, because a copy of the state per vote would be most of what a rehearsal costs.
    """
    policy, trusted, decisions = agent.policy, agent.trusted, agent.decided
    assert policy is not None
    agent.policy = Policy(policy.edition, policy.digest, policy.editor, numbers, policy.ref)
    try:
        if numbers.probation is not None and numbers.probation != policy.inline.probation:
            weigh(agent, [])
        yield
    finally:
        agent.policy, agent.trusted, agent.decided = policy, trusted, decisions


@lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).date().isoformat()


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
