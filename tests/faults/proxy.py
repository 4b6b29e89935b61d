"""A TCP proxy between Chimera and one of its servers, whose weather can be changed while it runs.

The rule not to break: bytes are delayed, held back or cut off, never altered; whoever sees an error sees one that a network makes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

T = TypeVar("T")

CHUNK = 64 * 1024
HELD_CHUNKS = 64
"""What one direction may hold back; then the sender's own window fills up."""


class Weather(NamedTuple):
    """How the way is. `delay_s` is added to each direction; `bytes_per_s` bounds each direction of each connection.

    `refuse`: nobody listens, and what was connected is reset. `silent`: connections are taken and stay, but no byte arrives (half
    open); what was held back arrives when it is over.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    refuse: bool = False
    silent: bool = False


CLEAR = Weather()
GONE = Weather(refuse=True)
SILENT = Weather(silent=True)


class Proxy:
    """Listens on 127.0.0.1 and passes on to `(host, port)` or to a Unix socket. A context manager with a thread of its own."""

    def __init__(self, upstream: tuple[str, int] | Path, port: int) -> None:
        self.upstream, self.port = upstream, port
        self.carried = 0
        """Bytes that were passed on so far."""
        self.turned_away = 0
        """Connections that were reset, at the change of weather or because the server was not there."""
        self._weather = CLEAR
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def set(self, weather: Weather) -> None:
        """Change the weather; returns when it has changed."""

        async def change() -> None:
            self._weather = weather
            if weather.refuse:
                await self._close_door()
                self._reset_all()
            elif self._server is None:
                await self._listen()
            self._flows.clear() if weather.silent else self._flows.set()

        self._do(change)

    def reset(self) -> None:
        """Reset every connection that is open now; new ones are taken."""

        async def change() -> None:
            self._reset_all()

        self._do(change)

    # --- on the loop's thread -----------------------------------------------------------------------------------------

    def _do(self, what: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(what(), self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port, limit=CHUNK)

    async def _close_door(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end(self) -> None:
        await self._close_door()
        self._reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()
            self.turned_away += 1

    async def _take(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(near_out)
        far_out: asyncio.StreamWriter | None = None
        try:
            if isinstance(self.upstream, Path):
                far_in, far_out = await asyncio.open_unix_connection(str(self.upstream))
            else:
                far_in, far_out = await asyncio.open_connection(*self.upstream)
            self._open.add(far_out)
            await asyncio.gather(self._carry(near_in, far_out), self._carry(far_in, near_out))
        except asyncio.CancelledError:
            return  # the proxy ends; asyncio's own callback would make noise about a cancelled connection
        except OSError:
            self.turned_away += 1  # reset by either side, or the server is not there: the other side hears of it below
        finally:
            for writer in (near_out, far_out):
                if writer is not None:
                    self._open.discard(writer)
                    writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """One direction: read at once, hand on when it is due."""
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS)

        async def read() -> None:
            while chunk := await source.read(CHUNK):
                await held.put((self._loop.time() + self._weather.delay_s, chunk))
            await held.put((0.0, b""))

        reading = self._loop.create_task(read())
        try:
            while True:
                due, chunk = await held.get()
                if not chunk:
                    break
                await asyncio.sleep(due - self._loop.time())
                await self._flows.wait()
                sink.write(chunk)
                await sink.drain()
                self.carried += len(chunk)
                if self._weather.bytes_per_s:
                    await asyncio.sleep(len(chunk) / self._weather.bytes_per_s)
            with suppress(OSError, RuntimeError):
                sink.write_eof()
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await reading
