"""Somebody spoke to agents and is forgotten: their words and name stand nowhere in clear, and what was exported before verifies."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import orjson
import psycopg
import pyarrow.parquet as pq
from psycopg import sql
from redis import Redis

from chimera.audit.sealed import DISCLOSED
from chimera.audit.verify import verify
from chimera.eventlog.read import end_offsets, read_until
from chimera.eventlog.topics import load_topics
from chimera.events.sealed import subject_of
from chimera.memory.episodes.wiring import server_in
from chimera.memory.store import subject_key
from chimera.settings import Settings
from tests.e2e.house import House

TENANT, PERSON = "lethe", "zymurgist77"
WORDS = "quixotry"


def forms(word: bytes) -> Iterator[bytes]:
    """What a word looks like where bytes are told in hex (tables) or base64 (exports), at whatever place it begins."""
    yield from (word, word.hex().encode())
    for before in range(3):
        spans = len(word) + before
        yield b64encode(bytes(before) + word)[-(-before * 4 // 3) : spans // 3 * 4].lower()  # without what its neighbours share


SENTINELS = tuple(form for word in (PERSON, WORDS) for form in forms(word.encode()))
FOREIGN = {"mcp", "files", "kafka", "postgres", "valkey"}
"""Not searched as files: platforms' own books, what the test wrote, and servers, which are asked for all they hold instead."""


def test_after_a_person_is_forgotten_no_word_of_theirs_stands_anywhere_in_clear(house: House, tmp_path: Path) -> None:
    # given an agent that heard somebody, and an export from before that discloses everybody's keys
    names = house.enrol("lethe", 1, tenant=TENANT, listen={"x": {"every_s": 1}}, taint_auto={"publish": "open"}, frequency={})
    house.done("tenant", "create", TENANT, "--as", "dora")
    house.done("tenant", "join", TENANT, *names, "--as", "dora")
    house.start(house.brief("Forgotten", 1, replies={"days": 2}), names)
    said = house.says(PERSON, f"@lethe0_x which food is in season in autumn, and is {WORDS} one?")
    subject = subject_of(TENANT, "x", PERSON)

    def heard() -> bool:
        house.approve_all(names)
        told = [data.model_dump_json() for seen in house.records("SignalObserved", names) if (data := seen.record.data)]
        return any(subject in each for each in told) and bool(house.platform("SELECT 1 FROM posts WHERE reply_to = ?", said))

    house.until(heard, "the agent has heard it and answered", 120)
    house.until(lambda: remembered(house, subject), "it remembers what was said")
    house.until(
        lambda: {"them", "us"} <= {by for by, _ in thread(house, names[0])}, "the thread is at hand, with what was answered"
    )
    assert any(WORDS in text for _, text in thread(house, names[0]))
    before = tmp_path / "before"
    house.done("audit", "export", "--out", before, "--redact", "none")
    assert subject in (before / DISCLOSED).read_text(), "there was something to forget"

    # when they are forgotten
    house.done("privacy", "forget", f"x/{PERSON}", "--reason", "asked for it", "--tenant", TENANT, "--as", "dora", "--yes")
    house.until(lambda: any(seen.record.data.subject == subject for seen in house.records("SubjectForgotten")), "it is recorded")  # type: ignore[union-attr]
    assert not any(WORDS in text for _, text in thread(house, names[0])), "at once"
    house.until_projected()
    house.until(lambda: not remembered(house, subject), "memory has let it go")
    after = tmp_path / "after"
    house.done("audit", "export", "--out", after, "--redact", "none")

    # then no topic, table, tile, export or process log holds a word or the name, and no key opens them
    disclosed = after / DISCLOSED
    assert not disclosed.exists() or subject not in disclosed.read_text()
    found = {"topics": 0, "tables": 0, "cache": 0, "parquet": 0, "files": 0}
    for kind, where, content in everything(house, [after]):
        found[kind] += TENANT.encode() in content  # what is not forgotten is seen in each of them
        for sentinel in SENTINELS:
            assert sentinel not in content.lower(), f"{sentinel!r} stands in {where}"
    assert min(found.values()) > 0, found
    assert house.platform("SELECT 1 FROM posts WHERE text LIKE ?", f"%{WORDS}%"), "the platform still has what was said there"

    # and both exports verify, the later one as the continuation of the earlier
    assert verify(after, previous=before).damages == []
    assert verify(before).damages == []


def remembered(house: House, subject: str) -> list[tuple[object, ...]]:
    """What memory keeps of somebody."""
    [(build,)] = house.sql("SELECT build FROM memory.builds WHERE status = 'live'")
    return house.sql(f"SELECT id FROM memory.notes_{build} WHERE subject_key = %s", subject_key(subject))


def thread(house: House, agent: str) -> list[tuple[str, str]]:
    """(who, words) of the agent's threads, as the episodic cache tells them."""
    whose = (agent, "--tenant", TENANT)
    said: list[tuple[str, str]] = []
    for name in house.done("memory", "thread", *whose)["threads"]:
        told = house.run("memory", "thread", agent, name, *whose[1:], "--json")
        if told.code == 0:
            said += [(each["by"], each["text"]) for each in orjson.loads(told.out)["said"]]
    return said


def everything(house: House, exports: list[Path]) -> Iterator[tuple[str, str, bytes]]:
    """(kind, where, bytes) of all that the installation holds, outside the platforms."""
    for spec in load_topics().topics:
        ends = end_offsets(house.addresses.kafka, spec.name)
        for raws in read_until(house.addresses.kafka, spec.name, sorted(ends), None, ends):
            for raw in raws:
                headers = b"|".join(value or b"" for _, value in raw.headers)
                yield "topics", f"{spec.name}[{raw.partition}]@{raw.offset}", b"|".join((raw.key or b"", raw.value or b"", headers))
    with psycopg.connect(house.addresses.postgres) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            rows = connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(schema, table))).fetchall()
            yield "tables", f"{schema}.{table}", "\n".join(row for (row,) in rows).encode()
    server = server_in(Settings(home=house.home))
    assert server is not None
    assert server.key_file is not None
    with Redis.from_url(server.url, password=server.key_file.read_text().strip()) as cache:
        read = {b"list": lambda key: cache.lrange(key, 0, -1), b"hash": cache.hgetall, b"set": cache.smembers}
        for key in cache.scan_iter():
            yield "cache", str(key), b"|".join((key, repr(read[cache.type(key)](key)).encode()))
    for top in [path for path in house.home.iterdir() if path.name not in FOREIGN] + exports:
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.suffix == ".parquet":  # its cells are compressed
                yield "parquet", str(path), repr(pq.read_table(path).to_pylist()).encode()
            elif path.is_file():
                yield "files", str(path), path.read_bytes()
