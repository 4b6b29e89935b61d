"""Notes in Weaviate: one multi-tenant collection for each build, with vectors of our own.

The rule not to break: the checkpoint is kept in PostgreSQL and moved after Weaviate took the notes, so a crash on either side only
makes some notes be put again, which changes nothing.
"""

from __future__ import annotations

import hashlib
import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import orjson

from chimera.events.notes import KINDS, Kind
from chimera.memory.contract import Found, MemoryAway, Query, allowed
from chimera.memory.embedding import EXTRA, Vector
from chimera.memory.store import Row, newest, subject_key
from chimera.projections.write import Connection

T = TypeVar("T")
PATIENCE_S = 5.0
PUT_S = 60.0
TOGETHER = 128
"""Objects of one request."""
LOOK_S = 1.0
"""How often it is looked whether the server is there at all."""
SIDE_BY_SIDE = 2
"""Requests under way at once: while one waits for the server's disk, it works on another."""


class Place(NamedTuple):
    """Where a server is: `http` as `http(s)://host:port`, `grpc` as `host:port`; the file that holds its API key."""

    http: str
    grpc: str
    key_file: Path | None


class Weaviate:
    """The store over one server, which is looked for when it is first asked. Safe for several threads. Raises `MemoryAway`."""

    kind = "weaviate"

    def __init__(self, place: Callable[[], Place]) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._connected: Any = None
        self._looked = -math.inf

    # --- writing ------------------------------------------------------------------------------------------------------

    def make(self, connection: Connection, build: int, dimensions: int) -> None:
        from weaviate.classes.config import Configure, DataType, Property, Tokenization

        def exact(name: str) -> Property:
            return Property(
                name=name, data_type=DataType.TEXT, tokenization=Tokenization.FIELD, index_filterable=True, index_searchable=False
            )

        with self._client() as client:
            if client.collections.exists(_name(build)):
                return
            client.collections.create(
                _name(build),
                multi_tenancy_config=Configure.multi_tenancy(enabled=True, auto_tenant_creation=True),
                # Half of the server's own links and search when a note is kept: questions look at more than they ask for instead.
                vector_config=Configure.Vectors.self_provided(
                    vector_index_config=Configure.VectorIndex.hnsw(max_connections=16, ef_construction=64, ef=96),
                    quantizer=Configure.VectorIndex.Quantizer.none(),
                ),
                properties=[
                    *map(exact, ("agent", "kind", "taint", "subject_key")),
                    Property(name="ts", data_type=DataType.INT, index_filterable=True, index_range_filters=True),
                    Property(name="words", data_type=DataType.TEXT, index_filterable=False, index_searchable=True),
                    Property(name="note", data_type=DataType.TEXT, index_filterable=False, index_searchable=False),
                ],
            )

    def drop(self, connection: Connection, build: int) -> None:
        with self._client() as client:
            client.collections.delete(_name(build))

    def put(self, connection: Connection, build: int, rows: Sequence[Row]) -> None:
        with self._client() as client:
            for tenant in sorted({row.note.tenant for row in rows}):
                mine = newest(row for row in rows if row.note.tenant == tenant)
                notes = client.collections.get(_name(build)).with_tenant(_tenant(tenant))
                parts = [mine[begin : begin + TOGETHER] for begin in range(0, len(mine), TOGETHER)]
                side_by_side(*(partial(self._put, notes, some) for some in parts))

    def _put(self, notes: Any, rows: Sequence[Row]) -> None:
        """Those of one tenant that are not there, or older."""
        from weaviate.classes.data import DataObject

        there = self._times(notes, [row.note.id for row in rows])
        new = [row for row in rows if row.note.ts >= there.get(row.note.id, row.note.ts)]
        if not new:
            return
        objects = [DataObject(uuid=row.note.id, properties=_properties(row), vector=_plain(row.vector)) for row in new]
        done = notes.data.insert_many(objects)
        if done.has_errors:
            first = next(iter(done.errors.values()))
            raise MemoryAway(f"Weaviate did not take {len(done.errors)} of {len(new)} notes: {first.message}")

    def _times(self, notes: Any, ids: list[str]) -> dict[str, int]:
        """The `ts` of those that are there. A tenant without notes has no place yet."""
        try:
            found = notes.query.fetch_objects_by_ids(ids, limit=len(ids), return_properties=["ts"])
        except Exception as error:
            if _no_tenant(error):
                return {}
            raise
        return {str(each.uuid): int(each.properties["ts"]) for each in found.objects}

    def forget(self, connection: Connection, build: int, subjects: Collection[str]) -> int:
        from weaviate.classes.query import Filter

        count = 0
        with self._client() as client:
            notes = client.collections.get(_name(build))
            for tenant in notes.tenants.get():
                done = notes.with_tenant(tenant).data.delete_many(Filter.by_property("subject_key").contains_any(sorted(subjects)))
                if done.failed:
                    raise MemoryAway(f"Weaviate did not take out {done.failed} notes of somebody forgotten; it is tried again")
                count += int(done.successful)
        return count

    # --- reading ------------------------------------------------------------------------------------------------------

    def candidates(self, build: int, tenant: str, query: Query, vector: Vector, most: int) -> list[Found]:
        from weaviate.classes.query import MetadataQuery

        asked = _plain(vector)

        def near(notes: Any) -> list[Found]:
            found = notes.query.near_vector(
                asked,
                limit=most,
                filters=_filters(query),
                return_metadata=MetadataQuery(distance=True),
                return_properties=["note"],
            )
            return [_found(each, 1.0 - float(each.metadata.distance)) for each in found.objects]

        def worded(notes: Any) -> list[Found]:
            found = notes.query.bm25(
                query.text,
                query_properties=["words"],
                limit=most,
                filters=_filters(query),
                include_vector=True,
                return_properties=["note"],
            )
            return [_found(each, _cosine(asked, each.vector["default"])) for each in found.objects]

        nearest, sharing = side_by_side(partial(self._of, build, tenant, near), partial(self._of, build, tenant, worded))
        return [*nearest, *sharing]

    def contents(self, build: int) -> Iterator[Found]:
        found: list[tuple[str, str, Found]] = []
        with self._client() as client:
            notes = client.collections.get(_name(build))
            for tenant in notes.tenants.get():
                for each in notes.with_tenant(tenant).iterator(return_properties=["note"]):
                    found.append((orjson.loads(each.properties["note"])["tenant"], str(each.uuid), _found(each, 0.0)))
        yield from (note for _, _, note in sorted(found, key=lambda each: each[:2]))

    def kinds(self, build: int, tenant: str, agent: str) -> frozenset[Kind]:
        def ask(notes: Any) -> list[Kind]:
            return [
                kind
                for kind in KINDS
                if notes.query.fetch_objects(limit=1, filters=_filters(Query("", agent, (kind,))), return_properties=[]).objects
            ]

        return frozenset(self._of(build, tenant, ask))

    def counts(self, build: int) -> list[tuple[str, str, int, int]]:
        notes: Counter[tuple[str, str]] = Counter()
        last: dict[tuple[str, str], int] = {}
        with self._client() as client:
            collection = client.collections.get(_name(build))
            for tenant in collection.tenants.get():
                for each in collection.with_tenant(tenant).iterator(return_properties=["note"]):
                    said = orjson.loads(each.properties["note"])
                    key = said["tenant"], said["kind"]
                    notes[key] += 1
                    last[key] = max(last.get(key, 0), said["ts"])
        return [(*key, count, last[key]) for key, count in sorted(notes.items())]

    def get(self, build: int, tenant: str, note: str) -> Found | None:
        def ask(notes: Any) -> list[Found]:
            found = notes.query.fetch_objects_by_ids([note], return_properties=["note"])
            return [_found(each, 0.0) for each in found.objects]

        return next(iter(self._of(build, tenant, ask)), None)

    def close(self) -> None:
        with self._lock:
            self._let_go()

    # --- the server ---------------------------------------------------------------------------------------------------

    def _of(self, build: int, tenant: str, ask: Any) -> list[Any]:
        """What one tenant's notes answer; nothing where the tenant has none."""
        with self._client() as client:
            try:
                found: list[Any] = ask(client.collections.get(_name(build)).with_tenant(_tenant(tenant)))
            except Exception as error:
                if _no_tenant(error):
                    return []
                raise
            return found

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """The connection, made where there is none; let go after trouble, so that the next question begins anew."""
        try:
            with self._lock:
                if self._connected is None:
                    self._connected = _connect(self._place())
                elif time.monotonic() - self._looked > LOOK_S:
                    _reach(self._place())
                    self._looked = time.monotonic()
                client = self._connected
            yield client
        except MemoryAway:
            raise
        except Exception as error:
            if not _of_server(error):
                raise
            with self._lock:
                self._let_go()
                self._looked = -math.inf
            said = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise MemoryAway(f"Weaviate at {self._place().http} does not answer: {said}") from error

    def _let_go(self) -> None:
        if self._connected is not None:
            self._connected.close()
            self._connected = None


def side_by_side(*works: Callable[[], T]) -> list[T]:
    """What each answers. All have ended before the first error of one is raised: nothing is written after it was given up."""
    if len(works) < 2:
        return [work() for work in works]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return [each.result() for each in [pool.submit(work) for work in works]]


def _reach(place: Place) -> None:
    """Is somebody there? The client itself tries again and again, for longer than anybody waits. Raises `OSError`."""
    parts = urlsplit(place.http)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname or "", port), timeout=PATIENCE_S).close()


def _connect(place: Place) -> Any:
    try:
        import weaviate
        from weaviate.classes.init import AdditionalConfig, Auth, Timeout
    except ImportError as error:
        raise MemoryAway(f"no client of Weaviate ({error}): {EXTRA}") from error
    http, (host, _, port) = urlsplit(place.http), place.grpc.rpartition(":")
    try:
        key = place.key_file.read_text().strip() if place.key_file is not None else None
    except OSError as error:
        raise MemoryAway(f"the key of Weaviate cannot be read from {place.key_file}: {error.strerror}") from error
    _reach(place)
    secure = http.scheme == "https"
    return weaviate.connect_to_custom(
        http.hostname or "", http.port or (443 if secure else 80), secure, host, int(port), secure,
        auth_credentials=None if key is None else Auth.api_key(key),
        additional_config=AdditionalConfig(timeout=Timeout(init=PATIENCE_S, query=PATIENCE_S, insert=PUT_S), trust_env=False),
    )  # fmt: skip


def _of_server(error: BaseException) -> bool:
    """Does an error come from the server, or from the way to it? The client lets some of its transports' own errors through."""
    from weaviate.exceptions import WeaviateBaseError

    return isinstance(error, WeaviateBaseError | OSError) or type(error).__module__.split(".")[0] in ("httpx", "httpcore", "grpc")


def _no_tenant(error: BaseException) -> bool:
    return "tenant not found" in str(error).lower()


def _name(build: int) -> str:
    return f"ChimeraNotes{build}"


def _tenant(tenant: str) -> str:
    """A tenant as Weaviate may name one."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:32]


def _filters(query: Query) -> Any:
    from weaviate.classes.query import Filter

    wanted = []
    if query.agent:
        wanted.append(Filter.by_property("agent").equal(query.agent))
    if query.kinds:
        wanted.append(Filter.by_property("kind").contains_any(list(query.kinds)))
    if query.worst != "open":
        wanted.append(Filter.by_property("taint").contains_any(list(allowed(query.worst))))
    if query.since_ts:
        wanted.append(Filter.by_property("ts").greater_or_equal(query.since_ts))
    return Filter.all_of(wanted) if wanted else None


def _properties(row: Row) -> dict[str, Any]:
    note = row.note
    return {
        "agent": note.agent,
        "kind": note.kind,
        "taint": note.taint,
        "subject_key": subject_key(note.text.subject),
        "ts": note.ts,
        "words": row.words,
        "note": orjson.dumps({**note.model_dump(mode="json"), "at": row.at}).decode(),
    }


def _found(each: Any, alike: float) -> Found:
    said = orjson.loads(each.properties["note"])
    source, made = said["source"] or {}, said["provenance"]
    return Found(
        said["id"], said["agent"], said["kind"], said["platform"], said["text"], source.get("title", ""), source.get("url", ""),
        source.get("published") or "", said["numbers"], said["taint"], said["policy_edition"], said["ts"], made["record"],
        (made["partition"], made["offset"]), (said["at"][0], said["at"][1]), alike,
    )  # fmt: skip


def _plain(vector: Vector) -> list[float]:
    return [float(each) for each in vector]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(map(mul, one, other))
