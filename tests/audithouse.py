"""An export without servers: a log in memory, trees as the notary makes them, and the home that holds its keys.

The rule not to break: nothing here decides; records are made by `History`, leaves and trees by the code under test.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from chimera.audit.leaf import leaf_of
from chimera.audit.notary import directory_of, load_notary_keys, make_notary_key, origin_of
from chimera.audit.note import sign
from chimera.audit.source import TOPICS
from chimera.audit.tree import TreeWriter
from chimera.commands.keys import create_private
from chimera.events.raw import RawRecord
from chimera.events.security import noted
from tests.integration.projection_data import History, day, enrol, mischief

LOG, CALLS, SECURITY = (topic.name for topic in TOPICS)


class MemorySource(NamedTuple):
    """Topics as lists of records per partition."""

    topics: dict[str, dict[int, list[RawRecord]]]

    def ends(self, topic: str) -> dict[int, int]:
        return {partition: len(records) for partition, records in self.topics[topic].items()}

    def read(self, topic: str, partition: int, end: int) -> Iterator[list[RawRecord]]:
        records = self.topics[topic][partition][:end]
        for at in range(0, len(records), 7):
            yield records[at : at + 7]


def history() -> History:
    """A day of two agents, and bad input."""
    made = History(LOG, partitions=4)
    for name in ("ava", "ben"):
        day(made, name)
    mischief(made, enrol(made, "cy"))
    return made


def short_history() -> History:
    """A day of one agent."""
    made = History(LOG, partitions=2)
    day(made, "ava")
    return made


def source_of(made: History, *, at_most: int = 10_000, start_ms: int = 1_700_000_000_000) -> MemorySource:
    """The history as a log: a record every 10 ms, `at_most` in a partition; a few tool calls and a log-in beside it."""
    log: dict[int, list[RawRecord]] = {partition: [] for partition in range(made.partitions)}
    for n, entry in enumerate(made.entries):
        rows = log[entry.partition]
        rows.append(RawRecord(LOG, entry.partition, len(rows), start_ms + 10 * n, entry.key.encode(), entry.value, entry.headers))
    key = next(entry.key for entry in made.entries if entry.key.startswith("agent/"))
    calls = [
        RawRecord(
            CALLS, 0, n, start_ms + 20 * n, key.encode(), orjson.dumps({"tenant": "acme", "call": n}), [("ce_type", b"ToolCalled")]
        )
        for n in range(5)
    ]
    told = [
        noted("login_refused", door="mission_control", who="kim", outcome="refused", origin="10.0.0.7", reason="wrong_password"),
        noted("switch_closed", door="shell", who="lea", tenant="acme", resource="tenant:acme"),
    ]
    at = {"at": start_ms, "until": start_ms}
    wires = [each._replace(id=f"noted-{n}", said=each.said.model_copy(update=at)).wire() for n, each in enumerate(told)]
    logins = [RawRecord(SECURITY, 0, 0, start_ms, None, b"\xffnot text", [])]
    logins += [RawRecord(SECURITY, 0, n, start_ms + n, w.key.encode(), w.value, w.headers) for n, w in enumerate(wires, 1)]
    log = {partition: rows[:at_most] for partition, rows in log.items()}
    return MemorySource({LOG: log, CALLS: {0: calls}, SECURITY: {0: logins}})


def home_for(home: Path, made: History) -> Path:
    """A home with the installation of this history and a notary's key."""
    told = {"installation": f"chimera-{uuid.uuid4().hex[:8]}", "root": made.root.id, "root_public": made.root.public}
    (home / "keys").mkdir(parents=True)
    create_private(home / "installation.json", orjson.dumps(told))
    make_notary_key(home)
    return home


def notarise(home: Path, source: MemorySource) -> None:
    """Sign what the source holds."""
    installation, keys = orjson.loads((home / "installation.json").read_bytes())["installation"], load_notary_keys(home)
    for topic, partitions in source.topics.items():
        for partition, records in partitions.items():
            writer = TreeWriter(directory_of(home, topic, partition), origin_of(installation, topic, partition))
            for raw in records:
                writer.extend(leaf_of(raw))
            if records:
                writer.commit(sign(writer.checkpoint().text, keys.signers(writer.origin)))
