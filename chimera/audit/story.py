"""Why did this go out? The records of one effect from the brief to the platform's id, in order, each in a sentence.

The rule not to break: what a step says is read from its record; nothing is told from memory, from read models or by a platform.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from chimera.audit.book import Book, Page, signed_by
from chimera.audit.proof import Proof
from chimera.commands.cards import Address
from chimera.commands.trace import Node, Ruled, about, numbers, tree
from chimera.errors import ChimeraError
from chimera.eventlog.partitioner import partition_for
from chimera.events import records as rec
from chimera.events.envelope import decode


class NoSuchEffect(ChimeraError):
    """Nothing in the log goes by this name, or too much does."""


class Step(NamedTuple):
    """One record of the story: what it says, and its proof."""

    page: Page
    says: str
    proof: Proof

    @property
    def at(self) -> str:
        """Append time, UTC."""
        return moment(self.page.raw.append_ts)


class Story(NamedTuple):
    """An effect's story. `effect_hash` and `platform_id` are empty where it did not get so far."""

    stream: str
    address: Address
    effect_hash: str
    platform_id: str
    account: str
    text: str
    steps: list[Step]

    @property
    def executed(self) -> bool:
        return any(isinstance(s.page.record.data, rec.EffectEnded) and s.page.record.data.outcome == "executed" for s in self.steps)


def moment(append_ts: int) -> str:
    """An append time for people, UTC, to the millisecond."""
    return datetime.fromtimestamp(append_ts / 1000, UTC).isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def find(book: Book, name: str) -> tuple[str, Address]:
    """The stream and place of an effect named by platform id, effect hash (or its beginning), a record's id, or its card.

    Raises `NoSuchEffect`.
    """
    needle = name.rpartition("/")[2] if "/" in name and not name.startswith("agent/") else name
    agent, _, card = name.rpartition("/")
    names: dict[str, str] = {}
    found: set[tuple[str, int, int, int]] = set()
    cards: set[tuple[str, int, int, int]] = set()
    for partition in sorted(book.sizes):
        for raw in book.read(partition):
            headers = dict(raw.headers)
            if headers.get("ce_type") == b"AgentEnrolled":
                enrolled = decode(raw)
                if isinstance(enrolled.data, rec.AgentEnrolled):
                    names[enrolled.key] = enrolled.data.name
            if needle.encode() not in (raw.value or b"") and headers.get("ce_id") != name.encode():
                continue
            record = decode(raw)
            data = record.data
            place = (record.key, getattr(data, "campaign", 0), getattr(data, "ordinal", 0), getattr(data, "attempt", 0))
            hashes = [data.effect.effect_hash] if isinstance(data, rec.ArtifactProduced | rec.HumanEdited) and data.effect else []
            ids = [data.platform_id] if isinstance(data, rec.EffectEnded) else []
            if place[2] and (record.id == name or name in ids or (len(name) >= 8 and any(h.startswith(name) for h in hashes))):
                found.add(place)
    numbers_ = card.split(".")
    if not found and agent and len(numbers_) == 3 and all(part.isdigit() for part in numbers_):
        campaign, ordinal, attempt = map(int, numbers_)
        cards = {(key, campaign, ordinal, attempt) for key, called in names.items() if agent in (called, key)}
    places = sorted(found or cards)
    if not places:
        raise NoSuchEffect(
            f"no signed record knows an effect {name!r}: give a platform id, an effect hash, a record's id or a card (ava/1.4.1)"
        )
    if len(places) > 1:
        shown = ", ".join(f"{key}/{c}.{o}.{a}" for key, c, o, a in places[:5])
        raise NoSuchEffect(f"{name!r} names {len(places)} effects: give one of {shown}")
    key, campaign, ordinal, attempt = places[0]
    return key, Address(names.get(key, key), campaign, ordinal, attempt)


def story_of(book: Book, name: str) -> Story:
    """The story of an effect. Raises `NoSuchEffect`, and what proving raises."""
    stream, at = find(book, name)
    partition = partition_for(stream, len(book.sizes))
    pages = [page for page in book.pages(partition) if page.record.key == stream]
    log = [Ruled(page.record, page.ruling) for page in pages]
    ids = {ruled.record.id for node in tree(log, about(log, at)) for ruled in _flat(node)}
    own = [page for page in pages if page.record.id in ids]
    first = min((page.raw.offset for page in own), default=0)
    editions = {data.policy_edition for page in own if isinstance(data := page.record.data, rec.JudgeVerdict | rec.HumanApproved)}
    frame = [page for page in pages if _frames(page, first, editions)]
    chosen = sorted({page.raw.offset: page for page in [*frame, *own]}.values(), key=lambda page: page.raw.offset)
    effect = next((e for page in reversed(own) if (e := _effect(page)) is not None), None)
    ended = next((d for page in own if isinstance(d := page.record.data, rec.EffectEnded) and d.outcome == "executed"), None)
    return Story(
        stream=stream,
        address=at,
        effect_hash="" if effect is None else effect.effect_hash,
        platform_id="" if ended is None else ended.platform_id or "",
        account="" if effect is None else f"{effect.platform}/{effect.account}",
        text="" if effect is None else str(effect.arguments.get("text") or effect.arguments.get("caption") or ""),
        steps=[Step(page, says(page), book.prove(page.raw)) for page in chosen],
    )


def _flat(node: Node) -> Iterable[Ruled]:
    yield node.ruled
    for child in node.children:
        yield from _flat(child)


def _effect(page: Page) -> rec.EffectProposal | None:
    data = page.record.data
    return data.effect if isinstance(data, rec.ArtifactProduced | rec.HumanEdited) and page.ruling.outcome == "applied" else None


def _frames(page: Page, first: int, editions: set[int]) -> bool:
    """What the story stands on: the agent, its account, and the policy editions under which was voted."""
    data = page.record.data
    if page.ruling.outcome != "applied":
        return False
    if isinstance(data, rec.PolicyAdopted):
        return data.edition in editions
    return isinstance(data, rec.AgentEnrolled | rec.AccountLinked) and page.raw.offset < first


def says(page: Page) -> str:
    """What a record says, in a sentence; with its ruling where it did not count."""
    told = _says(page)
    key = signed_by(page)
    told += f"; signed with key {key}" if key else ""
    if page.ruling.outcome != "applied":
        told += f". It did not count: {page.ruling.outcome} ({page.ruling.reason})"
    return told


def _says(page: Page) -> str:
    record, data = page.record, page.record.data
    who = record.actor
    match data:
        case rec.AgentEnrolled():
            return f"{who} enrolled the agent {data.name}"
        case rec.AccountLinked():
            return f"{who} linked the account {data.account} on {data.platform}"
        case rec.PolicyAdopted():
            return f"policy edition {data.edition} (digest {data.digest}), edited last by {data.editor}, came into force"
        case rec.CampaignStarted():
            return f"{who} started the campaign “{data.name}” ({data.campaign_id}) with the brief {data.brief_hash}"
        case rec.BriefChanged():
            return f"{who} changed the brief"
        case rec.PlanDrafted():
            return f"the planner ({who}) drafted a plan of {len(data.rows)} tasks"
        case rec.TaskPlanned():
            return f"the planner ({who}) opened attempt {data.attempt} of task {data.ordinal}"
        case rec.ArtifactProduced():
            effect = f"and proposed the effect {data.effect.effect_hash}" if data.effect else "without an effect"
            return f"the worker ({who}) produced the artifact {data.artifact_hash} {effect}; disclosure: {data.disclosure_level}"
        case rec.JudgeVerdict():
            sure = "none" if data.confidence is None else f"{data.confidence:.2f}"
            why = f"; failed rules: {', '.join(data.failed_rules)}" if data.failed_rules else ""
            return f"the {data.judge} judge ({who}) voted {data.decision} on effect {data.effect_hash}, confidence {sure}{why}"
        case rec.HumanApproved():
            return f"{who} approved effect {data.effect_hash}, having been shown {data.shown_hash}"
        case rec.HumanRejected():
            return f"{who} rejected effect {data.effect_hash}: {data.reason_code}"
        case rec.HumanEdited():
            return f"{who} edited effect {data.old_effect_hash}; it is {data.effect.effect_hash} now"
        case rec.FundsAnswered():
            return f"the tenant's ledger answered: {data.answer}"
        case rec.EffectClaimed():
            return f"the executor ({who}) claimed effect {data.effect_hash}, claim {data.claim}"
        case rec.EffectEnded():
            where = f" as {data.platform_id} ({data.url})" if data.platform_id else ""
            return f"the effect ended: {data.outcome}{where}, cost {data.cost_usd} USD"
    return f"{record.type or 'a record'} by {who or 'nobody'}, about {numbers(Ruled(record, page.ruling))}"
