"""Texts as vectors by an endpoint, for whoever remembers or recalls: a gate of its own, with the switches and the log of calls.

The rules not to break: everything outside is reached through the gate; vectors of another size than the first are never handed on.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import math
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import orjson

from chimera.commands.keys import load_installation
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.read import end_offsets, read_until
from chimera.eventlog.switches import SwitchFollower, SwitchKeys, keys_of, scopes_of
from chimera.eventlog.topics import load_topics
from chimera.events.envelope import LAW_KEY_PREFIX
from chimera.events.partition import PartitionFold
from chimera.mcp.gate import Gate
from chimera.mcp.guards import CallPlace
from chimera.mcp.profiles import PROFILES_DIR, load_profiles
from chimera.mcp.records import ToolCallRecord
from chimera.memory.contract import MemoryAway
from chimera.memory.embedding import Embedder, Kept, Vector
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka, mcp_urls

CALLS = "chimera.calls"
LOG = "chimera.log"
WHO = "memory"
"""Who asks, in the log of calls: texts of several agents go together, so no call is one agent's."""
TOGETHER = 64
"""Texts of one call."""
CALL_S = 120.0
"""What one call may take, with connecting and waiting for its turn, where nobody waits for it."""
QUESTION_S = 3.0
"""What a role waits for it: less than it waits for what it remembers."""
HELD_S = 5.0
"""After trouble nothing is asked for so long: those who wait in line are told at once."""
KEYS_S = 10.0
"""How often it is looked whose switches count."""
PROBE = "How long is a vector?"
T = TypeVar("T")


class ByGate:
    """`chimera.memory.embedding.Embedder` by the capability `text.embed`. Blocks; safe for several threads; `close` it.

    The size of its vectors is what the first call says, and part of its name: a model that changes its size is another one.
    Raises `MemoryAway`, now and later, where the gate or the endpoint gives no vectors.

    Args:
        opened: opens the gate, for as long as the embedder lasts.
        patience_s: what one call may take once the first one was answered.
        held_s: for how long nothing is asked after trouble.
    """

    def __init__(
        self, opened: Callable[[], AbstractAsyncContextManager[Gate]], *, patience_s: float = CALL_S, held_s: float = HELD_S
    ) -> None:
        self._patience_s, self._held_s = CALL_S, held_s
        self._trouble, self._held_until = "", -math.inf
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedding", daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self.dimensions = 0
        try:
            self._gate = self._done(self._stack.enter_async_context(opened()))
            model, [first] = self._done(self._asked([PROBE]))
        except BaseException:
            self.close()
            raise
        self._patience_s, self._model, self.dimensions = patience_s, model, len(first)
        self.name = f"{model}/{self.dimensions}"
        self._kept = Kept(self._made)

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One unit vector for each text. Raises `MemoryAway`."""
        return self._kept.embed(texts)

    def close(self) -> None:
        """Let the gate go. Repeating it does nothing."""
        if self._loop.is_closed():
            return
        try:
            self._done(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CALL_S)
            self._loop.close()

    def _made(self, texts: Sequence[str]) -> list[Vector]:
        if time.monotonic() < self._held_until:
            raise MemoryAway(self._trouble)
        try:
            return [vector for begin in range(0, len(texts), TOGETHER) for vector in self._fitting(texts[begin : begin + TOGETHER])]
        except MemoryAway as trouble:
            self._trouble, self._held_until = str(trouble), time.monotonic() + self._held_s
            raise

    def _fitting(self, texts: Sequence[str]) -> list[Vector]:
        model, vectors = self._done(self._asked(texts))
        sizes = {len(vector) for vector in vectors}
        if model != self._model or sizes != {self.dimensions}:
            raise MemoryAway(
                f"the embedding endpoint answers by {model} with {max(sizes)} numbers and memory is kept by {self.name}: set"
                " CHIMERA_EMBEDDING_MODEL back, or start anew and run `chimera memory rebuild`"
            )
        return vectors

    async def _asked(self, texts: Sequence[str]) -> tuple[str, list[Vector]]:
        """(model, vectors) of one call."""
        # Endpoints refuse a text without a letter.
        outcome = await self._gate.call(
            "text.embed", {"texts": [text.strip() or "-" for text in texts]}, agent=WHO, tenant="", mode="live"
        )
        if outcome.result != "ok":
            why = f"{outcome.reason} {outcome.detail}"[:300].strip()
            raise MemoryAway(f"the embedding endpoint gives no vectors ({why}): see CHIMERA_EMBEDDING_URL, `chimera switch list`")
        vectors = [_unit(base64.b64decode(packed)) for packed in outcome.data["vectors"]]
        if len(vectors) != len(texts):
            raise MemoryAway(f"the embedding endpoint gives {len(vectors)} vectors for {len(texts)} texts: choose another model")
        return str(outcome.data["model"]), vectors

    def _done(self, work: Coroutine[Any, Any, T]) -> T:
        under_way = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return under_way.result(self._patience_s)
        except TimeoutError as error:
            under_way.cancel()
            raise MemoryAway(f"the embedding endpoint has not answered in {self._patience_s:g} s") from error
        except MemoryAway:
            raise
        except ChimeraError as error:
            raise MemoryAway(f"the embedding endpoint cannot be asked: {error}") from error


class Making:
    """Makes an embedder for those who cannot wait: beside them, and again at the next question after it went wrong."""

    def __init__(self, make: Callable[[], Embedder]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._under_way: Future[Embedder] | None = None

    def __call__(self) -> Embedder:
        """It, if it is there within a moment. Raises `MemoryAway`."""
        with self._lock:
            begun = self._under_way is None
            if self._under_way is None:
                self._under_way = Future()
                threading.Thread(target=self._run, args=(self._under_way,), name="embedding-made", daemon=True).start()
            under_way = self._under_way
        try:
            return under_way.result(QUESTION_S if begun else 0)
        except TimeoutError as error:
            raise MemoryAway("the embedding endpoint has not told yet how long its vectors are") from error
        except MemoryAway:
            with self._lock:
                if self._under_way is under_way:
                    self._under_way = None
            raise

    def _run(self, made: Future[Embedder]) -> None:
        try:
            made.set_result(self._make())
        except BaseException as error:  # noqa: BLE001  # whoever asks is told
            made.set_exception(error)


def from_settings(settings: Settings, *, waits: bool = True) -> Callable[[], Embedder] | None:
    """How to make the embedder of these settings; None where it needs no gate. Making it raises `MemoryAway`.

    `waits`: whether those who ask can wait for an endpoint that is slow.
    """
    if settings.embedding != "endpoint":
        return None
    return partial(_made_of, settings, CALL_S) if waits else Making(partial(_made_of, settings, QUESTION_S))


def _made_of(settings: Settings, patience_s: float) -> Embedder:
    made = ByGate(lambda: _gate(settings), patience_s=patience_s)
    atexit.register(made.close)  # the profile's server may be our own child
    return made


@asynccontextmanager
async def _gate(settings: Settings) -> AsyncIterator[Gate]:
    bootstrap = load_kafka(settings)
    keys = _Keys(bootstrap, load_installation(settings.home).root_public)
    switches = SwitchFollower(bootstrap, keys.now).start()
    try:
        with Appender(bootstrap, load_topics().only(CALLS), "chimera-embedding") as appender:

            async def stops(place: CallPlace) -> str | None:
                scopes = scopes_of(
                    agent=place.agent, tenant=place.tenant, platform=place.platform, account=place.account, tool=place.tool
                )
                return await switches.stops(scopes)

            async def told(call: ToolCallRecord) -> None:
                await appender.append(CALLS, call.agent, orjson.dumps(call.to_json()), [("ce_type", b"ToolCalled")])

            profiles = load_profiles(settings.profiles or PROFILES_DIR, ["embeddings"])
            async with Gate(profiles, mcp_urls(settings), on_call=told, home=settings.home, switch=stops) as gate:
                yield gate
    finally:
        switches.close()  # here, and in no other thread: when a program ends there are no new ones


class _Keys:
    """Whose kill switches count, by the law as it is now: every partition holds every edition, so one is followed."""

    def __init__(self, bootstrap: str, root_public: str) -> None:
        self._bootstrap = bootstrap
        ends = end_offsets(bootstrap, LOG)
        self._partition = min(ends, key=lambda p: (ends[p], p))
        self._fold = PartitionFold(self._partition, len(ends), root_public)
        self._next, self._looked = 0, -math.inf

    def now(self) -> SwitchKeys | None:
        """None while no law was adopted."""
        if time.monotonic() - self._looked > KEYS_S:
            end = end_offsets(self._bootstrap, LOG)[self._partition]
            for batch in read_until(self._bootstrap, LOG, [self._partition], {self._partition: self._next}, {self._partition: end}):
                for raw in batch:
                    if raw.key is not None and raw.key.startswith(LAW_KEY_PREFIX.encode()):
                        self._fold.apply(raw)
            self._next, self._looked = end, time.monotonic()
        return keys_of(self._fold.law)


def _unit(packed: bytes) -> Vector:
    """A vector of length 1, of 32-bit numbers."""
    numbers = struct.unpack(f"<{len(packed) // 4}f", packed)
    size = math.sqrt(sum(number * number for number in numbers))
    return [number / size for number in numbers]
