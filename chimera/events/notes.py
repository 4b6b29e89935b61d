"""MemoryNoted, the record of `chimera.notes`: something worth remembering, and where it comes from. No part of the law.

The rules not to break: the same source gives the same id, so that saying it again changes nothing; the words are sealed, so that
forgetting a person takes them out of every memory too.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Literal, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chimera.errors import ChimeraError
from chimera.events.records.base import Millis, Number, Part, Taint
from chimera.events.sealed import Personal

TOPIC = "chimera.notes"
TYPE = "MemoryNoted"
MOST_TEXT = 2_000
"""Characters of one note; longer words are cut."""
Kind = Literal["post_result", "reply", "fact_with_source", "human_reason"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SPACE = uuid.UUID("6f4d2c1e-8f0b-5f63-9d59-2f6f7b1c0a11")


class BadNote(ChimeraError):
    """It is no note that anybody may remember."""


class Provenance(Part):
    """The record of `chimera.log` that a note was made from."""

    record: str
    partition: Annotated[int, Field(ge=0, lt=2**15)]
    offset: Annotated[int, Field(ge=0, le=2**53)]


class Source(Part):
    """Where a fact stands: what a post that tells it links."""

    title: Annotated[str, Field(max_length=500)]
    url: Annotated[str, Field(max_length=2_000)]
    published: Annotated[str, Field(max_length=100)] | None = None


class MemoryNoted(BaseModel):
    """One thing that an agent remembers.

    `text` is sealed under the key of the person whose words it holds or answers, else under the agent's own. `ts` (ms) is when the
    source happened: of two notes with one id the newer one counts. `numbers`: what a platform last told of a post.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    agent: Annotated[str, Field(pattern=r"^agent/", max_length=100)]
    tenant: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Kind
    text: Personal
    platform: Annotated[str, Field(max_length=100)] = ""
    source: Source | None = None
    numbers: Annotated[dict[str, Annotated[float, Field(ge=0, lt=2**63)]], Field(max_length=64)] = {}
    provenance: Provenance
    taint: Taint
    policy_edition: Number
    """Edition of the policy that the agent had adopted then."""
    ts: Millis


def note_id(agent: str, kind: Kind, source: str) -> str:
    """The id of what an agent remembers of a source, for ever the same."""
    return str(uuid.uuid5(_SPACE, f"{agent}|{kind}|{source}"))


def encode(note: MemoryNoted) -> bytes:
    """The record's value; its key is `agent`."""
    return orjson.dumps({"type": TYPE, "schemaversion": 1, **note.model_dump(mode="json")})


def decode(key: bytes | None, value: bytes | None) -> MemoryNoted:
    """What a record says. Raises `BadNote`: whatever bytes it is made of."""
    try:
        said = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        raise BadNote("it is not JSON") from None
    if not isinstance(said, dict) or (said.pop("type", None), said.pop("schemaversion", None)) != (TYPE, 1):
        raise BadNote(f"it is no {TYPE} of version 1")
    try:
        note = MemoryNoted.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadNote(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    if (key or b"") != note.agent.encode():
        raise BadNote("its key is not the agent that it names")
    return note
