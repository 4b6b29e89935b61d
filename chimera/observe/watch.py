"""One process's window: `/metrics` and `/health` on a loopback port of its own, and what goes into its status file.

The rule not to break: watching never blocks and never fails what is watched; a window that cannot be opened is a log line.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

from chimera import failpoints
from chimera.errors import ChimeraError
from chimera.observe.health import unwell
from chimera.observe.lag import Lag
from chimera.observe.look import Look
from chimera.observe.metrics import CONTENT_TYPE, Metrics, Told

log = logging.getLogger(__name__)

EVERY_S = 1.0
"""How often the log's ends are asked for."""


class Watch:
    """Watches one process of a role. Thread-safe; `tell` is called by the process, the rest by its own threads.

    `ends` asks the broker where the log ends (it may block and raise `ChimeraError`); it is called from one thread.
    """

    def __init__(self, role: str, home: Path, ends: Callable[[], Mapping[int, int]]) -> None:
        self.role = role
        self.metrics = Metrics(role)
        self.url = ""
        self.status_file = home / "run" / f"{role}.{os.getpid()}.json"
        self._ends = ends
        self._lag = Lag()
        self._lock = threading.Lock()
        self._look: Look | None = None
        began = time.monotonic()
        self._told_at = self._ends_at = self._lit_at = began
        self._known_ends: dict[int, int] = {}
        self._stop = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._unwritten = False
        self._follower = threading.Thread(target=self._follow, name=f"watch-{role}", daemon=True)
        self.metrics.watch(self._told)

    def start(self) -> None:
        """Open the window and begin to follow the log's ends. Where no port can be had, the process goes on unseen."""
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        except OSError as error:
            log.warning("no port for /metrics and /health of %s: %s", self.role, error)
        else:
            self._server.daemon_threads = True
            self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
            threading.Thread(target=self._server.serve_forever, name=f"window-{self.role}", daemon=True).start()
            log.info("%s shows /metrics and /health at %s", self.role, self.url)
        self._follower.start()

    def tell(self, look: Look) -> dict[str, Any]:
        """How the process goes now. Returns what its status file says beside its own words."""
        now = time.monotonic()
        with self._lock:
            self._look, self._told_at = look, now
            if not look.dark:
                self._lit_at = now
            self._lag.saw(look.positions, self._known_ends, now)
            records, seconds = self._lag.records(), self._lag.seconds(now)
            ill = self._unwell(now)
        return {
            "role_set": self.role,
            "pid": os.getpid(),
            "at": time.time(),
            "http": self.url,
            "rss_mb": rss_mb(),
            "lag": {"records": sum(records.values()), "seconds": round(max(seconds.values(), default=0.0), 1)},
            "unwell": ill,
            "failpoints": failpoints.active(),
            "jobs_by_role": dict(look.jobs),
            "counts": dict(look.counts),
        }

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replace the status file in one step. Where there is no room for it the old one stays, and its age tells."""
        fresh = self.status_file.with_suffix(".new")
        try:
            self.status_file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(status))
            fresh.replace(self.status_file)
        except OSError as error:
            if not self._unwritten:
                log.warning("%s cannot be written (%s): the doctor will find this process silent", self.status_file, error)
            self._unwritten = True
        else:
            self._unwritten = False

    def health(self) -> list[str]:
        """Why the process is not well; empty = it is."""
        with self._lock:
            return self._unwell(time.monotonic())

    def close(self) -> None:
        """Shut the window; the status file goes with it."""
        self._stop.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self.status_file.unlink(missing_ok=True)

    def _unwell(self, now: float) -> list[str]:
        return unwell(self._look, self._lag, now, told_at=self._told_at, ends_at=self._ends_at, lit_at=self._lit_at)

    def _told(self) -> Told | None:
        with self._lock:
            now = time.monotonic()
            if self._look is None:
                return None
            return Told(self._look, self._lag.records(), self._lag.seconds(now), len(self._unwell(now)))

    def _follow(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                ends = dict(self._ends())
            except ChimeraError as error:
                log.debug("%s", error)  # how long it has been so is what /health tells
                continue
            now = time.monotonic()
            with self._lock:
                self._known_ends, self._ends_at = ends, now
                if self._look is not None:
                    self._lag.saw(self._look.positions, ends, now)


def rss_mb() -> float:
    """Resident memory of this process in MB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _handler(watch: Watch) -> type[BaseHTTPRequestHandler]:
    class Window(BaseHTTPRequestHandler):
        """Two pages, for whoever is on this machine."""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE, watch.metrics.text())
            elif path == "/health":
                ill = watch.health()
                body = {"role": watch.role, "pid": os.getpid(), "healthy": not ill, "reasons": ill}
                self._answer(503 if ill else 200, "application/json", orjson.dumps(body))
            else:
                self._answer(404, "text/plain", b"there are /metrics and /health\n")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    return Window
