"""What the log holds of a person: where their sealed words lie, and whether anybody can still open them.

The rule not to break: nothing is opened here, and no handle is written down: a report names pseudonyms and places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from chimera.audit.sealed import sealed_in
from chimera.audit.source import TOPICS, Source
from chimera.audit.story import moment
from chimera.events.raw import RawRecord


class Held(NamedTuple):
    """A record that names the person: `fields` are sealed under their key; `forgets`: it says that the key is destroyed."""

    place: str
    at: str
    type: str
    stream: str
    fields: int
    forgets: bool


def held_of(source: Source, subject: str) -> Iterator[Held]:
    """Every record of the exported topics that names the pseudonym. Raises what reading raises."""
    for topic in TOPICS:
        for partition, end in sorted(source.ends(topic.name).items()):
            for raws in source.read(topic.name, partition, end):
                yield from (held for raw in raws if (held := _held(raw, subject)) is not None)


def _held(raw: RawRecord, subject: str) -> Held | None:
    if raw.value is None or subject.encode() not in raw.value:
        return None
    type_ = (dict(raw.headers).get("ce_type") or b"?").decode(errors="replace")
    stream = (raw.key or b"").decode(errors="replace")
    fields = sum(each["subject"] == subject for each in sealed_in(raw.value))
    place = f"{raw.topic}[{raw.partition}]@{raw.offset}"
    return Held(place, moment(raw.append_ts), type_, stream, fields, type_ == "SubjectForgotten")
