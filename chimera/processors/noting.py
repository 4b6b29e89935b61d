"""Noting: what a swarm folds and hears that its agents should remember, on its way to `chimera.notes`.

The rules not to break: a note is made from a record that counted and says which; a fact is noted only as it stands in its source;
what was folded is noted before any snapshot says that it was, so that a crash repeats notes (which changes nothing) and loses none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from chimera.commands.subjects import SubjectForgotten
from chimera.errors import ChimeraError
from chimera.eventlog.bulk import Entry
from chimera.eventlog.store import RecordMissing
from chimera.events.envelope import Record
from chimera.events.hashes import digest
from chimera.events.notes import MOST_TEXT, TOPIC, Kind, MemoryNoted, Provenance, Source, encode, note_id
from chimera.events.records import ArtifactProduced, EffectEnded, HumanEdited, HumanRejected, SignalObserved, Taint
from chimera.events.sealed import KeysAtHand, Sealed, SubjectKeys, seal
from chimera.events.state import Agent, Ref, Ruling
from chimera.policy.writing import Article, read_article

log = logging.getLogger(__name__)

LOOK_S, BUSY_LOOK_S = 0.25, 1.0
"""How often what was folded is looked through, and how often while each look finds much: a look costs a request per partition."""
MUCH = 20
"""So many notes of one look are much."""
MOST_AT_ONCE = 200
"""Records whose notes go to the broker together."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""How long what could not be noted waits before it is tried again: doubling."""
UNMAKABLE = (RecordMissing, AssertionError, LookupError, TypeError, ValueError)
"""What says that no note can be made of a record, now or later."""
_NOTED = frozenset(("ArtifactProduced", "EffectEnded", "HumanEdited", "HumanRejected", "SignalObserved"))
Read = Callable[[Ref], Awaitable[Record]]


class Seen(NamedTuple):
    """A record that may be worth a note. `about`: the record whose words it is about; `edition`: of the agent's policy then."""

    at: Ref
    about: Ref | None
    edition: int


def seen(record: Record, agent: Agent | None) -> Seen | None:
    """What is kept of a record about to be folded until its notes are made; None where there is nothing to remember."""
    if record.type not in _NOTED or agent is None:
        return None
    d = record.data
    about: Ref | None = None
    if isinstance(d, ArtifactProduced):
        if "angles" not in d.content and d.kind != "reply":
            return None
    elif isinstance(d, HumanRejected | EffectEnded):
        if isinstance(d, EffectEnded) and (d.outcome != "executed" or not d.platform_id):
            return None
        campaign = agent.campaigns.get(d.campaign)
        task = None if campaign is None else campaign.tasks.get(d.ordinal)
        about = None if task is None or task.effect is None else task.effect.ref
    elif isinstance(d, HumanEdited) and not d.comment:
        return None
    return Seen(_ref(record), about, 0 if agent.policy is None else agent.policy.edition)


class Scribe:
    """Makes notes of records. `read` gives the record at a place, `keys` seal."""

    def __init__(self, read: Read, keys: SubjectKeys) -> None:
        self._read, self._keys = read, KeysAtHand(keys)

    async def notes(self, what: Seen) -> list[MemoryNoted]:
        """The notes of one record, in its order. Whoever asked to be forgotten is not noted."""
        record = await self._read(what.at)
        self._keys.afresh()
        made = [note async for note in self._made(record, what)]
        return [note for note in made if note is not None]

    async def _made(self, record: Record, what: Seen) -> AsyncIterator[MemoryNoted | None]:
        d = record.data
        if isinstance(d, SignalObserved):
            for item in d.items:
                identity = f"{d.source}|{item.external_id}"
                yield self._note(record, what, "reply", identity, item.text, item.taint, platform=d.source.split("/", 1)[0])
        elif isinstance(d, ArtifactProduced):
            for article, quote in await self._facts(d):
                source = Source(title=article.title[:500], url=article.url[:2_000], published=article.published)
                identity = f"{article.url}|{digest(quote)}"
                yield self._note(record, what, "fact_with_source", identity, quote, d.taint, source=source)
        elif isinstance(d, HumanRejected):
            words, taint = await self._words(what.about)
            about = f' (of: "{words}")' if words and taint != "open" else ""
            said = f"{d.reason_code}: {d.comment}" if d.comment else d.reason_code
            yield self._note(record, what, "human_reason", record.id, said + about, taint if about else "owner")
        elif isinstance(d, HumanEdited):
            yield self._note(record, what, "human_reason", record.id, f"edited: {d.comment}", "owner")
        elif isinstance(d, EffectEnded) and d.platform_id:
            made = await self.post(record.tenant, record.key, what.about, d.platform_id, {}, record.append_ts, what.edition)
            yield made

    async def post(
        self,
        tenant: str,
        agent: str,
        made: Ref | None,
        platform_id: str,
        numbers: Mapping[str, float],
        ts: int,
        edition: int,
    ) -> MemoryNoted | None:
        """What an agent remembers of a post of its own: its words, and what the platform last told of it.

        `made`: the record that holds the words. None where it says nothing in words, or answers somebody who is forgotten.
        """
        if made is None:
            return None
        record = await self._read(made)
        words, taint = await self._words(made)
        d = record.data
        if not words or not isinstance(d, ArtifactProduced | HumanEdited):
            return None
        origin = await self._origin(d)
        platform = str(d.content.get("platform", ""))
        text: str | Sealed = words
        if "signal" in origin.provenance:
            heard = (await self._read(Ref(*origin.provenance["signal"]))).data
            assert isinstance(heard, SignalObserved)
            person = heard.items[origin.provenance["item"]].text.subject
            sealed = self._sealed(person, words)
            if sealed is None:
                return None
            text = sealed
        where = Seen(made, None, edition)
        note = self._note(record, where, "post_result", f"{platform}|{platform_id}", text, taint, platform=platform)
        return (
            None if note is None else note.model_copy(update={"numbers": dict(numbers), "ts": ts, "agent": agent, "tenant": tenant})
        )

    def _note(
        self,
        record: Record,
        what: Seen,
        kind: Kind,
        identity: str,
        text: str | Sealed,
        taint: Taint,
        *,
        source: Source | None = None,
        platform: str = "",
    ) -> MemoryNoted | None:
        sealed = text if isinstance(text, Sealed) else self._sealed(record.key, text)
        if sealed is None:
            return None
        return MemoryNoted(
            id=note_id(record.key, kind, identity),
            agent=record.key,
            tenant=record.tenant,
            kind=kind,
            text=sealed,
            platform=platform,
            source=source,
            provenance=Provenance(record=record.id, partition=record.partition, offset=record.offset),
            taint=taint,
            policy_edition=what.edition,
            ts=record.append_ts,
        )

    def _sealed(self, subject: str, text: str) -> Sealed | None:
        try:
            return seal(self._keys, subject, text[:MOST_TEXT])
        except SubjectForgotten:
            return None

    async def _facts(self, d: ArtifactProduced) -> list[tuple[Article, str]]:
        """(article, passage) for each that stands word for word in the article it names: what a writer made up is no fact."""
        research = (await self._read(Ref(*d.provenance["research"]))).data
        assert isinstance(research, ArtifactProduced)
        articles = {a["id"]: read_article(a) for a in research.content["articles"]}
        quotes = [s for angle in d.content.get("angles", ()) for s in angle["support"]] or d.content.get("quotes", ())
        found: dict[tuple[str, str], tuple[Article, str]] = {}
        for quote in quotes:
            article = articles.get(quote["article_id"])
            if article is not None and quote["quote"] in f"{article.title}\n{article.summary}\n{article.text}":
                found.setdefault((article.id, quote["quote"]), (article, quote["quote"]))
        return list(found.values())

    async def _words(self, at: Ref | None) -> tuple[str, Taint]:
        """The words of an artifact, or of a person's edit of one, and what they are worth; "" where there are none."""
        d = None if at is None else (await self._read(at)).data
        if not isinstance(d, ArtifactProduced | HumanEdited):
            return "", "open"
        return str(d.content.get("text", "")), (await self._origin(d)).taint

    async def _origin(self, d: ArtifactProduced | HumanEdited) -> ArtifactProduced:
        """What a worker made, behind a person's edits."""
        while isinstance(d, HumanEdited):
            before = (await self._read(Ref(*d.content["draft"]))).data
            assert isinstance(before, ArtifactProduced | HumanEdited)
            d = before
        return d


class Noter:
    """The notes of one process, in the order in which their records were folded.

    Args:
        scribe: makes them.
        append_many: appends entries and blocks until all are in the log; runs in a thread.
        serves: whether a partition is still this process's; what another serves, that one notes.
    """

    def __init__(
        self, scribe: Scribe, append_many: Callable[[Sequence[Entry]], object], serves: Callable[[int], bool] = lambda _: True
    ) -> None:
        self._scribe, self._append_many, self._serves = scribe, append_many, serves
        self._waiting: deque[Seen] = deque()
        self._told: deque[MemoryNoted] = deque()
        self._taken: list[Seen] = []
        self._came, self._went = 0, 0
        """Records that were folded, and those whose notes are in the log."""
        self._moved = asyncio.Event()
        self._waited_for = asyncio.Event()
        self.noted = 0
        """Notes in the log so far."""

    def heed(self, record: Record, agent: Agent | None) -> Callable[[Ruling], None] | None:
        """A record is about to be folded, here or in the thread that catches up: who wants to know how it is ruled."""
        what = seen(record, agent)
        return None if what is None else lambda ruling: self._ruled(what, ruling)

    def _ruled(self, what: Seen, ruling: Ruling) -> None:
        if ruling.outcome == "applied":
            self._waiting.append(what)
            self._came += 1

    async def observed(
        self, tenant: str, agent: str, made: Ref, platform_id: str, numbers: Mapping[str, float], ts: int, edition: int
    ) -> None:
        """A platform told numbers of a post. Best effort: the next look tells them again."""
        try:
            note = await self._scribe.post(tenant, agent, made, platform_id, numbers, ts, edition)
        except (ChimeraError, *UNMAKABLE) as error:
            log.warning("what %s told of %s is not remembered this time: %r", agent, platform_id, error)
            return
        if note is not None:
            self._told.append(note)

    @property
    def waiting(self) -> int:
        """Records whose notes are not in the log yet."""
        return self._came - self._went

    async def settled(self) -> None:
        """Return when the notes of all that was folded by now are in the log."""
        upto = self._came
        while self._went < upto:
            self._waited_for.set()
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """For the life of the process. Notes are owed: where log or broker do not answer they wait, ever longer, like any debt."""
        delay_s, trouble_s = LOOK_S, 0.0
        while True:
            if trouble_s:
                await asyncio.sleep(trouble_s)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay_s):
                        await self._waited_for.wait()
            self._waited_for.clear()
            try:
                delay_s = BUSY_LOOK_S if await self.round() >= MUCH else LOOK_S
                trouble_s = 0.0
            except ChimeraError as trouble:
                trouble_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, trouble_s * 2))
                log.warning("%d records wait for their notes, tried again in %.1f s: %s", self.waiting, trouble_s, trouble)

    async def round(self) -> int:
        """Note what waits; how many notes. Raises `ChimeraError` where that cannot be done now: nothing is lost by it."""
        before = self.noted
        while self._taken or self._waiting or self._told:
            while self._waiting and len(self._taken) < MOST_AT_ONCE:
                self._taken.append(self._waiting.popleft())
            notes = [note for each in await self._all_made() for note in each]
            told = list(islice(self._told, MOST_AT_ONCE))
            entries = [Entry(TOPIC, note.agent, encode(note), []) for note in (*notes, *told)]
            if entries:
                await asyncio.to_thread(self._append_many, entries)
            for _ in told:  # only now: a broker that is away takes nothing
                self._told.popleft()
            self.noted += len(entries)
            self._went += len(self._taken)
            self._taken.clear()
            self._moved.set()
        return self.noted - before

    async def _all_made(self) -> list[list[MemoryNoted]]:
        """The notes of each record that was taken. With full hands, as after a restart, side by side: what is not at hand any more
        is then read back together, in the order of the log."""
        if len(self._taken) < MOST_AT_ONCE:
            return [await self._made(what) for what in self._taken]
        outcomes = await asyncio.gather(*map(self._made, self._taken), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]

    async def _made(self, what: Seen) -> list[MemoryNoted]:
        if not self._serves(what.at.partition):
            return []
        try:
            return await self._scribe.notes(what)
        except UNMAKABLE as error:
            if self._serves(what.at.partition):
                # What no note can be made of now can be made into none later: records do not change.
                log.error("chimera.log[%d]%d is not remembered: %r", what.at.partition, what.at.offset, error)
            return []


def _ref(record: Record) -> Ref:
    return Ref(record.partition, record.offset)
