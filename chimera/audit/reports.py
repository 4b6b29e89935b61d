"""What auditors ask for beside proofs: a sample drawn by a seed, who did what (separation of duties), and what changed the rules.

The rule not to break: a report is a pure function of the signed records; whoever has them can draw it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from chimera.audit import tlog
from chimera.audit.book import Book, Page
from chimera.audit.leaf import leaf_of
from chimera.audit.story import moment
from chimera.events import records as rec
from chimera.events.envelope import key_id
from chimera.events.raw import RawRecord
from chimera.events.security import security_of


class Drawn(NamedTuple):
    """An executed effect of a sample. `rank`: SHA-256 over seed and leaf hash, hex; the smallest are drawn."""

    rank: str
    place: str
    at: str
    stream: str
    card: str
    platform_id: str


def sample(book: Book, n: int, seed: str) -> tuple[list[Drawn], int]:
    """`n` of the executed effects, and how many there are: those whose SHA-256(seed, line break, leaf hash) is smallest.

    Nobody can choose what is drawn, as long as the seed is chosen after the log was signed.
    """
    drawn: list[Drawn] = []
    for page in book.all_pages():
        data = page.record.data
        if isinstance(data, rec.EffectEnded) and data.outcome == "executed" and page.ruling.outcome == "applied":
            rank = hashlib.sha256(seed.encode() + b"\n" + tlog.leaf_hash(leaf_of(page.raw))).hexdigest()
            card = f"{data.campaign}.{data.ordinal}.{data.attempt}"
            drawn.append(Drawn(rank, place_of(page), moment(page.raw.append_ts), page.record.key, card, data.platform_id or ""))
    return sorted(drawn)[:n], len(drawn)


def place_of(page: Page) -> str:
    """As `audit prove` takes it."""
    return f"{page.raw.partition}@{page.raw.offset}"


@dataclass
class Duties:
    """Who did what about one executed effect."""

    place: str
    stream: str
    card: str
    platform_id: str
    requester: str
    policy_editor: str
    text_editors: list[str] = field(default_factory=list)
    approvers: list[str] = field(default_factory=list)
    executor: str = ""
    financial: bool = False

    @property
    def conflicts(self) -> list[str]:
        """Roles that one person had and should not have: what the law forbids, and a judge or approver who also executed."""
        found = [f"{who} requested and approved" for who in self.approvers if who == self.requester]
        found += [f"{who} edited the policy and approved" for who in self.approvers if who == self.policy_editor]
        found += [f"{who} edited the text and approved" for who in self.approvers if self.financial and who in self.text_editors]
        found += [f"{who} approved twice" for who in sorted(set(self.approvers)) if self.approvers.count(who) > 1]
        found += [f"{who} approved and executed" for who in self.approvers if who == self.executor]
        return found


def duties(book: Book) -> Iterator[Duties]:
    """Every executed effect with those who had a hand in it."""
    for partition in sorted(book.sizes):
        requesters: dict[tuple[str, int], str] = {}
        editors: dict[str, str] = {}
        open_: dict[tuple[str, int, int, int], Duties] = {}
        for page in book.pages(partition):
            if page.ruling.outcome == "applied":
                yield from _duty(page, requesters, editors, open_)


def _duty(
    page: Page, requesters: dict[tuple[str, int], str], editors: dict[str, str], open_: dict[tuple[str, int, int, int], Duties]
) -> Iterator[Duties]:
    key, who, data = page.record.key, page.record.actor, page.record.data
    if isinstance(data, rec.CampaignStarted):
        number = next((change.campaign for change in page.ruling.changes if change.what == "campaign"), 0)
        requesters[key, number] = who
    elif isinstance(data, rec.PolicyAdopted):
        editors[key] = data.editor
    elif isinstance(data, rec.ArtifactProduced) and data.effect is not None:
        at = (key, data.campaign, data.ordinal, data.attempt)
        financial = data.effect.effect_class == "financial"
        card = f"{data.campaign}.{data.ordinal}.{data.attempt}"
        requester = requesters.get((key, data.campaign), "")
        open_[at] = Duties("", key, card, "", requester, editors.get(key, ""), financial=financial)
    else:
        found = open_.get((key, getattr(data, "campaign", 0), getattr(data, "ordinal", 0), getattr(data, "attempt", 0)))
        if found is None:
            return
        if isinstance(data, rec.HumanApproved):
            found.approvers.append(who)
            found.policy_editor = editors.get(key, "")
        elif isinstance(data, rec.HumanEdited):
            found.text_editors.append(who)
            found.approvers = [who]  # an edit asks everybody again, and carries the editor's vote
        elif isinstance(data, rec.EffectClaimed):
            found.executor = who
        elif isinstance(data, rec.EffectEnded) and data.outcome == "executed":
            found.place, found.platform_id = place_of(page), data.platform_id or ""
            yield found


class Change(NamedTuple):
    """A record that changed what counts from then on."""

    at: str
    place: str
    kind: str
    by: str
    ruling: str
    says: str


def changes(book: Book) -> list[Change]:
    """Every change of keys (law) and policy, counted or not, in order of append time. The law is told once, not per partition."""
    found: list[tuple[int, Change]] = []
    seen: set[tuple[str, str]] = set()
    for page in book.all_pages():
        told = _change(page)
        if told is None:
            continue
        kind, said = told
        ruling = page.ruling.outcome + (f" ({page.ruling.reason})" if page.ruling.reason else "")
        once = (said, ruling)
        if kind == "keys" and once in seen:
            continue
        seen.add(once)
        at = moment(page.raw.append_ts)
        found.append((page.raw.append_ts, Change(at, place_of(page), kind, page.record.actor, ruling, said)))
    return [change for _, change in sorted(found)]


NOTED = {
    "switch_closed": "switch",
    "switch_opened": "switch",
    "account_added": "account",
    "account_changed": "account",
    "account_removed": "account",
    "analyst_made": "account",
    "analyst_changed": "account",
    "analyst_removed": "account",
    "token_made": "account",
    "token_revoked": "account",
    "notary_key_made": "keys",
    "notary_key_rotated": "keys",
    "notary_key_retired": "keys",
}
"""Security events that change what counts and that the law knows nothing of -> kind of change. Keys of roles are the law's."""


def noted_changes(raws: Iterable[RawRecord]) -> list[Change]:
    """The changes that records of `chimera.security` tell, each once, in their order. None of them is ruled: `noted`."""
    found: dict[bytes | None, Change] = {}
    for raw in raws:
        said = security_of(raw)
        if said is not None and said.what in NOTED:
            id_ = next((value for name, value in raw.headers if name == "ce_id"), None)
            text = " ".join(filter(None, (said.what.replace("_", " "), said.resource, said.action, f"at {said.door}")))
            place = f"{raw.topic}[{raw.partition}]@{raw.offset}"
            found.setdefault(id_, Change(moment(raw.append_ts), place, NOTED[said.what], said.who, "noted", text))
    return list(found.values())


def _change(page: Page) -> tuple[str, str] | None:
    data = page.record.data
    match data:
        case rec.LawAdopted():
            listed = "; ".join(f"{role}: {', '.join(_ids(publics))}" for role, publics in sorted(data.keys.items()))
            return "keys", f"law {data.law}, edition {data.edition}, lists {listed}"
        case rec.PolicyPublished():
            return "policy", f"{page.record.key}: edition {data.edition} published, digest {data.digest}"
        case rec.PolicyAdopted():
            return "policy", f"{page.record.key}: edition {data.edition} adopted, digest {data.digest}, edited by {data.editor}"
        case rec.SoulPublished() | rec.SoulAdopted():
            return "persona", f"{page.record.key}: persona {data.digest}"
    return None


def _ids(publics: Iterable[str]) -> list[str]:
    found = []
    for public in publics:
        try:
            found.append(key_id(public))
        except ValueError:
            found.append("no key")
    return found


__all__ = ["Change", "Drawn", "Duties", "changes", "duties", "noted_changes", "place_of", "sample"]
