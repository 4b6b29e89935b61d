"""Episodes on a Valkey or Redis server (redis-py): one list for each agent and kind, and one hash of checkpoints.

The rules not to break: rows and checkpoints are written in one MULTI, watched since the checkpoints were read, so a server that is
killed has both or neither; every key of a tenant begins with the tenant's name, quoted so that no name reads as another's.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote

from chimera.memory.contract import MemoryAway
from chimera.memory.episodes.contract import Clock, Kind, Limits, Moved, Moves, Place, Row, by_list, now_ms
from chimera.memory.store import subject_key

EXTRA = "install the extra 'cache': pip install 'chimera-swarm[cache]'"
PATIENCE_S = 3.0
"""What one question may take; whoever asked goes on without."""
SCANNED = 1_000
"""Keys that one step of a scan looks at."""
_SHAPE = "shape"


class Server(NamedTuple):
    """Where the server is: `redis://host:port/0` (or `rediss://`, `unix://`), and the file that holds its password, if any.

    `space` begins every key: the installation's name, so that several may share a server.
    """

    url: str
    key_file: Path | None = None
    space: str = "chimera"


class Valkey:
    """See `chimera.memory.episodes.contract.Store`. Safe for several threads; connects when it is first asked."""

    def __init__(self, server: Server, limits: Limits | None = None, clock: Clock = now_ms) -> None:
        self._server, self._limits, self._clock = server, limits or Limits(), clock
        self._prefix = f"{quote(server.space, safe='')}:episodes"
        self._at = f"{self._prefix}:at"
        self._gone = f"{self._prefix}:swept"
        self._lock = threading.Lock()
        self._client: Any = None

    # --- writing ------------------------------------------------------------------------------------------------------

    def checkpoints(self) -> dict[Place, int]:
        with self._asking() as client:
            found = client.hgetall(self._at)
        if found.get(_SHAPE.encode()) != self._limits.shape.encode():
            return {}
        return {_place(name.decode()): int(offset) for name, offset in found.items() if name != _SHAPE.encode()}

    def begin(self, offsets: Mapping[Place, int]) -> None:
        with self._asking() as client:
            # The checkpoints first: what is cut short here has none, so it is emptied once more.
            client.delete(self._at)
            for keys in _some(client.scan_iter(match=f"{_literal(self._prefix)}:*", count=SCANNED)):
                client.unlink(*keys)
            client.hset(self._at, mapping={_SHAPE: self._limits.shape, **{_name(p): offset for p, offset in offsets.items()}})

    def write(self, moves: Moves, rows: Sequence[Row]) -> None:
        from redis.exceptions import WatchError

        with self._asking() as client, client.pipeline(transaction=True) as change:
            change.watch(self._at)
            places = list(moves)
            stands = change.hmget(self._at, [_SHAPE, *map(_name, places)])
            wanted = [self._limits.shape, *(str(moves[place][0]) for place in places)]
            if [None if each is None else each.decode() for each in stands] != wanted:
                raise Moved(f"episodes do not stand where they were read from ({self._at}): they were written or lost meanwhile")
            change.multi()
            if moves:
                change.hset(self._at, mapping={_name(place): after for place, (_, after) in moves.items()})
            for where, new in by_list(rows).items():
                key = self._key(*where)
                change.rpush(key, *(_value(row) for row in new))
                change.ltrim(key, -self._limits.rows, -1)
                change.pexpireat(key, max(row.ts for row in new) + self._limits.ttl_ms)
            try:
                change.execute()
            except WatchError:
                raise Moved(f"episodes were written by somebody else ({self._at})") from None

    def swept(self) -> set[str]:
        with self._asking() as client:
            return {each.decode() for each in client.smembers(self._gone)}

    def forget(self, subjects: Collection[str]) -> int:
        count = 0
        with self._asking() as client:
            for keys in _some(client.scan_iter(match=f"{_literal(self._prefix)}:of:*", count=SCANNED)):
                with client.pipeline(transaction=False) as asked:
                    for key in keys:
                        asked.lrange(key, 0, -1)
                    lists = asked.execute()
                gone = [(k, v) for k, values in zip(keys, lists, strict=True) for v in values if _subject_key(v) in subjects]
                with client.pipeline(transaction=True) as change:
                    for key, value in gone:
                        change.lrem(key, 0, value)
                    change.execute()
                count += len(gone)
            if subjects:
                client.sadd(self._gone, *subjects)
        return count

    # --- reading ------------------------------------------------------------------------------------------------------

    def last(self, tenant: str, agent: str, kind: Kind, name: str = "") -> list[bytes]:
        with self._asking() as client:
            return self._young(client.lrange(self._key(tenant, agent, kind, name), 0, -1))

    def threads(self, tenant: str, agent: str) -> list[str]:
        first = self._key(tenant, agent, "thread", "")
        with self._asking() as client:
            keys = sorted(client.scan_iter(match=f"{_literal(first)}*", count=SCANNED))
        names = [unquote(key.decode().removeprefix(first)) for key in keys]
        return [name for name in names if self.last(tenant, agent, "thread", name)]

    def contents(self) -> dict[tuple[str, str, Kind, str], list[bytes]]:
        first = f"{self._prefix}:of:"
        with self._asking() as client:
            keys = sorted(client.scan_iter(match=f"{_literal(first)}*", count=SCANNED))
            lists = {key.decode().removeprefix(first): self._young(client.lrange(key, 0, -1)) for key in keys}
        found: dict[tuple[str, str, Kind, str], list[bytes]] = {}
        for key, bodies in lists.items():
            tenant, agent, kind, name = map(unquote, key.split(":"))
            if bodies:
                found[tenant, agent, cast(Kind, kind), name] = bodies
        return found

    def _young(self, values: list[bytes]) -> list[bytes]:
        since = self._clock() - self._limits.ttl_ms
        split = (value.split(b"\n", 2) for value in values)
        return [body for ts, _, body in split if int(ts) > since]

    # --- the server ---------------------------------------------------------------------------------------------------

    def _key(self, tenant: str, agent: str, kind: Kind, name: str) -> str:
        return ":".join((self._prefix, "of", *map(_quoted, (tenant, agent, kind, name))))

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """The client. Whatever it says against it is `MemoryAway`."""
        try:
            from redis.exceptions import RedisError
        except ImportError as error:
            raise MemoryAway(f"no client for Valkey ({error}): {EXTRA}") from error
        try:
            with self._lock:
                if self._client is None:
                    self._client = _client(self._server)
            yield self._client
        except (RedisError, OSError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise MemoryAway(f"Valkey at {_shown(self._server.url)} does not answer as it should: {said}") from error

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


def _client(server: Server) -> Any:
    """Raises `MemoryAway` where the address or the password cannot be read. Nothing is tried twice: whoever asks decides that."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        password = None if server.key_file is None else server.key_file.read_text().strip()
        return Redis.from_url(
            server.url,
            **({} if password is None else {"password": password}),
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
            client_name="chimera",
        )
    except OSError as error:
        raise MemoryAway(f"the password of Valkey cannot be read: {error}; set CHIMERA_CACHE_KEY_FILE") from error
    except ValueError as error:
        raise MemoryAway(f"CHIMERA_CACHE is no address ({error}): write redis://host:port/0") from error


@lru_cache(maxsize=4_096)
def _quoted(part: str) -> str:
    return quote(part, safe="")


def _value(row: Row) -> bytes:
    """Time, subject and body: what is young, and whose it is, is seen without opening the body."""
    return b"%d\n%b\n%b" % (row.ts, subject_key(row.subject).encode() if row.subject else b"", row.body)


def _subject_key(value: bytes) -> str:
    return value.split(b"\n", 2)[1].decode()


def _name(place: Place) -> str:
    return f"{place[0]}/{place[1]}"


def _place(name: str) -> Place:
    topic, _, partition = name.rpartition("/")
    return topic, int(partition)


def _literal(text: str) -> str:
    """As a pattern that only it fits."""
    return "".join(f"\\{sign}" if sign in "*?[]\\^" else sign for sign in text)


def _shown(url: str) -> str:
    """An address without what stands before its host: it may be a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _some(keys: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Keys, so many at a time."""
    held: list[bytes] = []
    for key in keys:
        held.append(key)
        if len(held) == SCANNED:
            yield held
            held = []
    if held:
        yield held
