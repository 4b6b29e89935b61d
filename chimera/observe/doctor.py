"""Looks at an installation: files, processes, Kafka, PostgreSQL. Each look is bounded in time and ends in findings, not errors.

The rule not to break: the doctor only looks. It starts, changes and removes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from chimera.commands import client, security, verbs
from chimera.commands.keys import LOG, load_installation, load_keys
from chimera.errors import ChimeraError
from chimera.eventlog import cluster, switches, topics
from chimera.eventlog.partitioner import place
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.notes import TOPIC as NOTES
from chimera.events.partition import PartitionFold
from chimera.media.place import open_media, place_of
from chimera.media.store import MediaError
from chimera.observe import findings
from chimera.observe.findings import Finding
from chimera.settings import Settings
from chimera.stack.addresses import running_stack
from chimera.stack.java import find_java

PATIENCE_S = 5.0
HEAD = 64
"""Records at the head of a partition that are searched for its law."""
EXPIRY_DEFAULT_MS = 86_400_000


class _Seen(NamedTuple):
    kafka: str | None
    postgres: str | None
    ends: dict[int, int]


def examine(settings: Settings, on_look: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Everything, in the order in which one thing needs the other. `on_look` is told what is looked at next."""
    home, stack = settings.home.resolve(), running_stack(settings.home)
    kafka = settings.kafka or stack.get("kafka")
    postgres = settings.postgres or stack.get("postgres")
    found = findings.of_stack(stack, str(home), settings.kafka is not None and settings.postgres is not None, time.time())
    found += [*_disks(home, settings), *_java(settings)]
    on_look("media")
    found.append(_media(home, settings.media))
    on_look("Kafka")
    kafka_found, ends = _kafka(kafka, home)
    seen = _Seen(kafka, postgres, ends)
    found += kafka_found
    on_look("keys, law and switches")
    found += _keys(home, seen)
    found += _switches(seen, home)
    if stack or settings.kafka is not None:  # without either, that nothing works is said already
        on_look("processes")
        found += _processes(home, len(ends))
        found += _accounts(home)
        found += _security(home)
    on_look("PostgreSQL")
    return found + list(_postgres(seen, home))


def statuses(home: Path) -> list[dict[str, Any]]:
    """What every process last wrote of itself, of dead ones too."""
    found = []
    for path in sorted((home / "run").glob("*.json")):
        try:
            status = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            continue  # it ended this moment, or nobody of ours wrote this
        if isinstance(status, dict) and "role_set" in status and isinstance(status.get("pid"), int):
            found.append(status)
    return found


def lives(pid: int) -> bool:
    """Does a process of this id exist?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _disks(home: Path, settings: Settings) -> Iterator[Finding]:
    """The home's disk, and those of local servers' data where they lie on others."""
    places = [home if home.exists() else home.parent if home.parent.exists() else Path("/")]
    own = {"kafka": settings.kafka is None, "postgres": settings.postgres is None}
    places += [home / name / "data" for name, local in own.items() if local]
    seen: set[int] = set()
    for place_ in places:
        try:
            device, usage = place_.stat().st_dev, shutil.disk_usage(place_)
        except FileNotFoundError:
            continue  # that server never ran here
        if device not in seen:
            seen.add(device)
            yield findings.of_disk(usage.free, usage.total, str(place_))


def _media(home: Path, where: str | None) -> Finding:
    """A bucket is asked once; a folder is made by whoever writes there first."""
    kept = place_of(home, where)
    if isinstance(kept, Path):
        shut = kept.exists() and not os.access(kept, os.R_OK | os.W_OK | os.X_OK)
        return findings.of_media(f"the media store {kept} may not be written" if shut else "", str(kept))
    try:
        open_media(home, where, within_s=PATIENCE_S).answers()
    except MediaError as error:
        return findings.of_media(str(error), kept)
    return findings.of_media("", kept)


def _java(settings: Settings) -> list[Finding]:
    if settings.kafka is not None:
        return []
    try:
        binary, version = find_java(settings.java)
    except ChimeraError as error:
        return [Finding("problem", str(error), "the local broker's Java", "see the message; or set CHIMERA_KAFKA to a cluster")]
    return [Finding("fine", f"Java {version} for the local broker", str(binary))]


def _kafka(kafka: str | None, home: Path) -> tuple[list[Finding], dict[int, int]]:
    if kafka is None:
        return [Finding("unknown", "Kafka, topics and law: no address", "CHIMERA_KAFKA", "start the stack first")], {}
    wanted = topics.load_topics()
    try:
        cluster.check(kafka, wanted, home, PATIENCE_S)
        drift: list[Finding] = [Finding("fine", "Kafka answers, topics are as topics.yaml says", kafka)]
    except topics.TopicDrift as error:
        todo = "`chimera topics apply` sets what may be set; the rest is refused with its reason"
        drift = [Finding("problem", f"topics differ from topics.yaml: {change}", kafka, todo) for change in error.changes]
    except ChimeraError as error:
        return [Finding("problem", str(error), kafka, "`chimera logs kafka`; is the address right, does the broker run?")], {}
    try:
        return drift, end_offsets(kafka, LOG, timeout_s=PATIENCE_S)
    except ChimeraError as error:
        return [*drift, Finding("problem", str(error), kafka, "`chimera topics apply`, then look again")], {}


def _keys(home: Path, seen: _Seen) -> list[Finding]:
    try:
        keys = load_keys(home)
    except ChimeraError as error:
        return [Finding("problem", str(error), str(home / "keys"), "see the message; without keys nobody commands this log")]
    found = [Finding("fine", f"installation {keys.installation.installation}, root key {keys.root.id}", str(home / "keys"))]
    if seen.kafka is None or not seen.ends:
        return [*found, Finding("unknown", "whether the law is adopted: the log cannot be read", LOG)]
    folds = {p: PartitionFold(p, len(seen.ends), keys.installation.root_public, place) for p in seen.ends}
    upto = {p: min(end, HEAD) for p, end in seen.ends.items() if end}
    try:
        for batch in read_until(seen.kafka, LOG, list(upto), dict.fromkeys(upto, 0), upto, no_progress_s=PATIENCE_S):
            for raw in batch:
                folds[raw.partition].apply(raw)
    except ChimeraError as error:
        return [*found, Finding("problem", str(error), LOG, "see the message")]
    lawless = sorted(p for p, fold in folds.items() if fold.law.edition == 0)
    if lawless:
        what = f"the law is not adopted in {len(lawless)} partitions: {lawless}"
        return [*found, Finding("problem", what, LOG, "`chimera keys init` in the home that holds this log's keys")]
    return [*found, Finding("fine", f"the law is adopted in all {len(folds)} partitions", LOG)]


def _switches(seen: _Seen, home: Path) -> list[Finding]:
    if seen.kafka is None or not seen.ends:
        return [Finding("unknown", "kill switches: Kafka cannot be read", switches.TOPIC)]
    try:
        keys = switches.read_keys(seen.kafka, load_installation(home).root_public)
        if keys is None:
            return [Finding("unknown", "kill switches: no law says whose records count", switches.TOPIC)]
        board = switches.read_board(seen.kafka, keys)
    except ChimeraError as error:
        return [
            Finding("problem", f"the kill switches cannot be read: {error}", switches.TOPIC, "see the message; nothing is called")
        ]
    closed = [(each.scope, each.by, each.reason) for each in board.switches.values() if each.closed]
    return findings.of_switches(sorted(closed), board.ignored, switches.TOPIC)


def _processes(home: Path, partitions: int) -> list[Finding]:
    told = statuses(home)
    alive = {int(status["pid"]): lives(int(status["pid"])) for status in told}
    found = findings.of_processes(told, alive, time.time(), partitions)
    brains = [s for s in told if s["role_set"] == "brain" and alive[int(s["pid"])]]
    for status in told:
        if status["role_set"] == findings.COMMAND and alive[int(status["pid"])]:
            found += findings.of_copies(status.get("counts", {}), str(status.get("http") or f"pid {status['pid']}"))
    names = {name for status in brains for name in status.get("counts", {})}
    return found + findings.of_counts({name: sum(s.get("counts", {}).get(name, 0) for s in brains) for name in names}, "the log")


def _security(home: Path) -> list[Finding]:
    began = security.oldest(home)
    lost = sum(int(status.get("counts", {}).get("security_lost", 0)) for status in statuses(home))
    return findings.of_security(None if began is None else time.time() - began / 1000, lost, str(home / security.FOLDER))


def _accounts(home: Path) -> list[Finding]:
    """What the running command service knows of accounts. Where none runs, that is said already, and nothing is folded for this."""
    service = client.find(home)
    if service is None:
        return []
    with service:
        try:
            rows = service.ask(verbs.AccountList())["accounts"]
        except ChimeraError as error:
            return [Finding("unknown", f"accounts and their credentials: {error}", "command service", "`chimera logs command`")]
    return findings.of_accounts(rows, time.time())


def _postgres(seen: _Seen, home: Path) -> Iterator[Finding]:
    if seen.postgres is None:
        yield Finding("unknown", "PostgreSQL: no address", "CHIMERA_POSTGRES", "start the stack first")
        return
    try:
        with psycopg.connect(seen.postgres, connect_timeout=int(PATIENCE_S), autocommit=True) as connection:
            connection.execute(f"SET statement_timeout = {int(PATIENCE_S * 1000)}".encode())
            where = f"database {connection.info.dbname} at {connection.info.host}"
            yield Finding("fine", "PostgreSQL answers", where)
            if _one(connection, "SELECT to_regclass('core.checkpoints') IS NULL"):
                todo = "the projector makes them when it starts: `chimera logs projector`"
                yield Finding("problem", "there are no read models", where, todo)
                return
            yield from _read_models(connection, seen, where)
            yield from _memory(connection, seen, home)
    except psycopg.Error as error:
        todo = "`chimera logs postgres`; is the address right, does the server run? Pausing and switches work without it"
        yield Finding("problem", f"PostgreSQL does not answer: {str(error).splitlines()[0]}", "PostgreSQL", todo)


def _memory(connection: psycopg.Connection[Any], seen: _Seen, home: Path) -> Iterator[Finding]:
    """What the projector that runs here says of memory, and what is missing in it."""
    told = [s for s in statuses(home) if s["role_set"] == "projector" and lives(int(s["pid"]))]
    trouble = next((str(s["memory"]) for s in told if "memory" in s), None)
    behind: int | None = None
    if seen.kafka is not None and _one(connection, "SELECT to_regclass('memory.builds') IS NOT NULL"):
        read = _one(
            connection,
            "SELECT sum(next_offset) FROM memory.checkpoints c JOIN memory.builds b ON c.model_set = 'notes/' || b.build"
            " WHERE b.status = 'live'",
        )
        if read is not None:
            try:
                behind = max(0, sum(end_offsets(seen.kafka, NOTES, timeout_s=PATIENCE_S).values()) - int(read))
            except ChimeraError as error:
                yield Finding("unknown", f"how far memory is: {error}", NOTES)
    yield from findings.of_memory(trouble, behind, NOTES)
    brains = [s for s in statuses(home) if s["role_set"] == "brain" and lives(int(s["pid"]))]
    yield from findings.of_recall({str(s["memory"]) for s in brains if s.get("memory")}, NOTES)
    asked = {str(s["threads"]) for s in brains if s.get("threads")}
    yield from findings.of_episodes({str(s["cache"]) for s in told if "cache" in s}, asked, "episodic cache")


def _read_models(connection: psycopg.Connection[Any], seen: _Seen, where: str) -> Iterator[Finding]:
    rows = connection.execute(
        "SELECT partition, next_offset, stopped FROM core.checkpoints WHERE model_set = 'core' AND topic = %s", (LOG,)
    ).fetchall()
    for partition, _, stopped in rows:
        if stopped:
            todo = "`chimera logs projector`; once its cause is gone, restart the projector"
            yield Finding("problem", f"the projection of partition {partition} stopped: {stopped}", where, todo)
    behind = sum(max(0, seen.ends.get(p, 0) - int(at)) for p, at, _ in rows)
    if seen.ends and not behind:
        yield Finding("fine", "the read models are caught up", where)
    elif seen.ends:
        yield Finding("fine" if behind < 1000 else "warning", f"{behind} records are not in the read models yet", where)
    if not _one(connection, "SELECT to_regclass('core.parked') IS NULL"):
        parked = connection.execute("SELECT count(*), min(model), min(since)::text FROM core.parked").fetchone()
        if parked is not None and parked[0]:
            todo = "`chimera parked list`, then `chimera parked heal`"
            yield Finding("problem", f"{parked[0]} (model, agent) pairs are parked, the first since {parked[2]}", where, todo)
    cards = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE now() - r.opened_at > half.expiry / 2),"
        " coalesce((array_agg(a.name || '/' || r.campaign || '.' || r.ordinal || '.' || r.attempt ORDER BY r.opened_at))[1], '')"
        " FROM core.reviews r JOIN core.agents a USING (agent_id)"
        " LEFT JOIN core.policies p ON p.agent_id = a.agent_id AND p.edition = a.policy_edition"
        " CROSS JOIN LATERAL (SELECT make_interval(secs => coalesce((p.inline->>'expiry_ms')::bigint, %s) / 1000.0)) half(expiry)"
        " WHERE r.status = 'waiting'",
        (EXPIRY_DEFAULT_MS,),
    ).fetchone()
    if cards is not None:
        yield from findings.of_cards(int(cards[1]), int(cards[0]), str(cards[2]))


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]
