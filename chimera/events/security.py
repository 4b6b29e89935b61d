"""SecurityNoted, the record of `chimera.security`: who came in, who was turned away, who changed what guards the fleet.

No part of the law. The rule not to break: a closed world. No password, token, link or key ever stands in it, and no words from
outside: names are bounded and cleaned, reasons are codes of our own, and a name that nobody has (it may be a password typed into
the wrong field) is not repeated.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal, NamedTuple, get_args

import orjson
from pydantic import Field, ValidationError

from chimera.events.envelope import NewRecord, Wire, encode
from chimera.events.raw import RawRecord
from chimera.events.records.base import Data, Millis, Number

TOPIC = "chimera.security"
EVERY_TENANT = "*"
UNKNOWN = "unknown"
"""Who did it where nobody is known to be at the other end."""

What = Literal[
    "login_accepted",
    "login_refused",
    "login_link_made",
    "login_link_used",
    "locked_out",
    "signed_off",
    "account_added",
    "account_changed",
    "account_removed",
    "token_made",
    "token_refused",
    "token_revoked",
    "right_refused",
    "command_refused",
    "card_shown",
    "switch_closed",
    "switch_opened",
    "analyst_made",
    "analyst_changed",
    "analyst_removed",
    "key_rotated",
    "key_dropped",
    "key_asked_for",
    "key_asked_no_more",
    "notary_key_made",
    "notary_key_rotated",
    "notary_key_retired",
    "export_made",
    "forget_asked",
    "events_lost",
]
"""What happened; the names are stored for ever.

`right_refused`: Mission Control let somebody do or see nothing of that kind (`action` on `resource`). `command_refused`: the
command service did. `card_shown`: these bytes (`digest`) of a card were shown to somebody. `key_asked_for`, `key_asked_no_more`:
the law asks for a role's signature from now on, or no more. `events_lost`: `count` events could be kept nowhere.
"""

Door = Literal["mission_control", "command_service", "shell"]
Outcome = Literal["done", "refused", "failed"]

LONGEST = 200
_STRANGE = re.compile(r"[^\w @.:/+*#=,\[\]-]")
_CODE = re.compile(r"[^a-z0-9_]")


class SecurityNoted(Data):
    """Something that those who guard the installation look at. `who` did it (`unknown`: nobody known) at `door`, coming from
    `origin` (an address, or `uid N`); `at` and `until` are the clock of the process that noted it, ms since 1970.

    `count` like attempts between `at` and `until` are one record.
    """

    TYPE: ClassVar[str] = "SecurityNoted"
    ROLE: ClassVar[str] = "command"

    what: What
    outcome: Outcome
    door: Door
    who: str = Field(max_length=LONGEST)
    origin: str = Field(max_length=LONGEST)
    action: str = Field(max_length=LONGEST)
    resource: str = Field(max_length=LONGEST)
    reason: str = Field(max_length=LONGEST)
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    at: Millis
    until: Millis
    count: Number = Field(ge=1)


class Noted(NamedTuple):
    """A security event on its way: its id, whose it is (`*`: the installation's), and what it says."""

    id: str
    tenant: str
    said: SecurityNoted

    def line(self) -> bytes:
        """One line of the file in which it waits; `read_line` is the way back."""
        return orjson.dumps({"id": self.id, "tenant": self.tenant, "said": self.said.model_dump()}) + b"\n"

    def wire(self) -> Wire:
        """What goes to Kafka."""
        return encode(
            NewRecord(
                key=self.tenant,
                data=self.said,
                tenant=self.tenant,
                actor=self.said.who,
                time=datetime.fromtimestamp(self.said.at / 1000, UTC).isoformat(timespec="milliseconds"),
                id=self.id,
            )
        )


def noted(
    what: What,
    *,
    door: Door,
    who: str = UNKNOWN,
    tenant: str = EVERY_TENANT,
    outcome: Outcome = "done",
    origin: str = "",
    action: str = "",
    resource: str = "",
    reason: str = "",
    digest: str = "",
    count: int = 1,
    at: int | None = None,
) -> Noted:
    """A security event. Never raises over what it is told: names are cut to 200 signs and signs of no name become `?`, what is no
    SHA-256 in hex is no digest, and a reason keeps small letters, digits and `_` alone.

    Name in `who` only somebody who is known here: what was typed into a form and is nobody's name may be a secret.
    """
    now = round(time.time() * 1000) if at is None else at
    said = SecurityNoted(
        what=what,
        outcome=outcome,
        door=door,
        who=_name(who) or UNKNOWN,
        origin=_name(origin),
        action=_name(action),
        resource=_name(resource),
        reason=_CODE.sub("_", reason.lower())[:LONGEST],
        digest=digest if re.fullmatch(r"[0-9a-f]{64}", digest) else "",
        at=now,
        until=now,
        count=max(1, min(count, 2**31 - 1)),
    )
    return Noted(str(uuid.uuid4()), _name(tenant) or EVERY_TENANT, said)


def _name(text: str) -> str:
    return _STRANGE.sub("?", text)[:LONGEST]


def read_line(text: bytes) -> Noted | None:
    """What a waiting line says; None where it was cut off or is of no version that is known here."""
    try:
        told = orjson.loads(text)
        return Noted(str(told["id"]), str(told["tenant"]), SecurityNoted.model_validate(told["said"]))
    except (orjson.JSONDecodeError, ValidationError, TypeError, KeyError):
        return None


def gathered(events: Iterable[Noted]) -> list[Noted]:
    """Like refusals as one with their number: who knocks a thousand times a second must not fill a topic that is kept for ever.

    The id is that of the first; what was done is never gathered.
    """
    found: dict[tuple[object, ...], Noted] = {}
    for each in events:
        said = each.said
        alike: tuple[object, ...] = (each.id,)
        if said.outcome == "refused":
            alike = (each.tenant, *(getattr(said, name) for name in _ALIKE))
        first = found.get(alike)
        if first is None:
            found[alike] = each
            continue
        times = {"until": max(said.until, first.said.until), "at": min(said.at, first.said.at)}
        count = min(first.said.count + said.count, 2**31 - 1)
        found[alike] = first._replace(said=first.said.model_copy(update={**times, "count": count}))
    return list(found.values())


_ALIKE = ("what", "outcome", "door", "who", "origin", "action", "resource", "reason", "digest")


def security_of(raw: RawRecord) -> SecurityNoted | None:
    """What a record of the topic says; None where it is none that is known here. The tenant is its key."""
    headers = dict(raw.headers)
    if headers.get("ce_type") != SecurityNoted.TYPE.encode() or headers.get("ce_schemaversion") != b"1":
        return None
    try:
        return SecurityNoted.model_validate_json(raw.value or b"")
    except ValidationError:
        return None


WHATS: tuple[str, ...] = get_args(What)
