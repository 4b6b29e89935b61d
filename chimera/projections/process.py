"""The projector as a process: `chimera run projector`.

The rule not to break: a signal stops it between transactions, never inside one.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time

from chimera.commands.keys import load_installation
from chimera.eventlog.topics import load_topics, require_topics
from chimera.projections import calls
from chimera.projections.engine import Projector, Stopped
from chimera.projections.schema import MigrationFailed, migrate
from chimera.settings import Settings
from chimera.stack.addresses import load

log = logging.getLogger(__name__)

REPORT_S = 30.0


def run(settings: Settings) -> None:
    """Project until SIGTERM or SIGINT. Raises `ChimeraError` where going on would be wrong (hole, drift, unknown law)."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    follow(settings, stop)


def follow(settings: Settings, stop: threading.Event) -> None:
    """Bring the schema up to date, then project log and calls until `stop`."""
    addresses = load(settings)
    require_topics(addresses.kafka, load_topics(), settings.home)
    root_public = load_installation(settings.home).root_public
    # Folded agents live as long as the process: looking at all of them for garbage after every few hundred rows costs a fifth.
    gc.set_threshold(100_000, 20, 50)
    _migrate_patiently(addresses.postgres, stop)
    failed: list[BaseException] = []
    side = threading.Thread(target=_side, args=(addresses.kafka, addresses.postgres, stop, failed), name="calls")
    projector = Projector(addresses.kafka, addresses.postgres, root_public, stop=stop)
    reporter = threading.Thread(target=_report, args=(stop, projector), name="report", daemon=True)
    side.start()
    reporter.start()
    try:
        projector.run()
    except Stopped as error:
        log.info("%s", error)
    finally:
        stop.set()
        side.join()
        projector.close()
    if failed:
        raise failed[0]


def _side(bootstrap: str, dsn: str, stop: threading.Event, failed: list[BaseException]) -> None:
    try:
        calls.follow(bootstrap, dsn, stop)
    except BaseException as error:  # noqa: BLE001  # handed to the main thread, which raises it
        failed.append(error)
        stop.set()


def _migrate_patiently(dsn: str, stop: threading.Event, patience_s: float = 60.0) -> None:
    deadline, delay = time.monotonic() + patience_s, 0.2
    while True:
        try:
            migrate(dsn)
            return
        except MigrationFailed as error:
            if time.monotonic() > deadline or stop.is_set():
                raise
            log.warning("%s; trying again in %.1f s", error, delay)
            stop.wait(delay)
            delay = min(delay * 2, 5.0)


def _report(stop: threading.Event, projector: Projector) -> None:
    """One line each half minute while there is something to say."""
    before = 0
    while not stop.wait(REPORT_S):
        progress = projector.progress
        if progress.written != before or progress.stopped or progress.waiting_for:
            log.info(
                "projected %d records in %d transactions; stopped: %s; waiting for: %s",
                progress.written,
                progress.transactions,
                progress.stopped or "none",
                progress.waiting_for or "nothing",
            )
        before = progress.written
