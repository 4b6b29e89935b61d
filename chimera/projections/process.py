"""The projector as a process: `chimera run projector`.

The rule not to break: a signal stops it between transactions, never inside one.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable

from chimera.commands.keys import load_installation
from chimera.eventlog.cluster import require_topics
from chimera.eventlog.ends import Ends
from chimera.eventlog.topics import load_topics
from chimera.memory import wiring as memory
from chimera.memory.episodes import wiring as episodes
from chimera.memory.episodes.projector import Follower as Episodes
from chimera.memory.projector import Follower
from chimera.observe import logs
from chimera.observe.look import Look
from chimera.observe.watch import Watch
from chimera.projections import calls, keeping, metrics, security
from chimera.projections.cuts import Cuts, cuts_in
from chimera.projections.engine import LOG, Projector, Stopped
from chimera.projections.schema import MigrationFailed, migrate
from chimera.projections.tuned import tuned
from chimera.settings import Settings
from chimera.stack.addresses import load

log = logging.getLogger(__name__)

REPORT_S = 30.0
TELL_S = 0.5


def run(settings: Settings, embedder: memory.Make | None = None) -> None:
    """Project until SIGTERM or SIGINT; `embedder` as `chimera.memory.wiring` wants it.

    Raises `ChimeraError` where going on would be wrong (hole, drift, unknown law).
    """
    logs.set_up("projector", settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    follow(settings, stop, embedder)


def follow(settings: Settings, stop: threading.Event, embedder: memory.Make | None = None) -> None:
    """Bring the schema up to date, then project the log and the topics beside it until `stop`."""
    addresses = load(settings)
    topics = load_topics()
    require_topics(addresses.kafka, topics, settings.home)
    partitions = next(spec.partitions for spec in topics.topics if spec.name == LOG)
    installation = load_installation(settings.home)
    tuned()
    _migrate_patiently(addresses.postgres, stop)
    failed: list[BaseException] = []
    sides = [
        threading.Thread(target=_side, args=(work, arguments, stop, failed), name=name)
        for name, work, arguments in (
            ("calls", calls.follow, (addresses.kafka, addresses.postgres)),
            ("metrics", metrics.follow, (addresses.kafka, addresses.postgres)),
            ("security", security.follow, (addresses.kafka, addresses.postgres)),
            ("keeping", keeping.keep, (addresses.postgres,)),
        )
    ]
    notes = memory.follower(settings, addresses.kafka, addresses.postgres, embedder)
    if notes is not None:
        sides.append(threading.Thread(target=_side, args=(notes.run, (), stop, failed), name="notes"))
    kept = episodes.follower(settings, addresses.kafka, addresses.postgres)
    if kept is not None:
        sides.append(threading.Thread(target=_side, args=(kept.run, (), stop, failed), name="episodes"))
    cuts = cuts_in(addresses.postgres, addresses.kafka, LOG, installation.root)
    projector = Projector(addresses.kafka, addresses.postgres, installation.root_public, share=True, stop=stop, cuts=cuts)
    watch = Watch("projector", settings.home, Ends(addresses.kafka, LOG, range(partitions)).now)
    reporter = threading.Thread(target=_report, args=(stop, projector, cuts, watch, notes, kept), name="report", daemon=True)
    for side in sides:
        side.start()
    watch.start()
    reporter.start()
    try:
        projector.run()
    except Stopped as error:
        log.info("%s", error)
    finally:
        stop.set()
        for side in sides:
            side.join()
        reporter.join()
        watch.close()
        projector.close()
        cuts.close()
    if failed:
        raise failed[0]


def _side(work: Callable[..., None], arguments: tuple[str, ...], stop: threading.Event, failed: list[BaseException]) -> None:
    try:
        work(*arguments, stop)
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


def _report(
    stop: threading.Event, projector: Projector, cuts: Cuts, watch: Watch, notes: Follower | None, kept: Episodes | None
) -> None:
    """Tell how it goes twice a second, and one line each half minute while there is something to say."""
    began, reported, reported_at, checkpointed_at, before = time.monotonic(), 0, time.monotonic(), time.monotonic(), 0
    while not stop.wait(TELL_S):
        now, progress = time.monotonic(), projector.progress
        if progress.written != before:
            before, checkpointed_at = progress.written, now
        troubles = [*progress.stopped.values(), *([f"it waits for {progress.waiting_for}"] if progress.waiting_for else [])]
        look = Look(
            positions=projector.positions,
            written=progress.written,
            checkpoint_age_s=now - checkpointed_at,
            troubles=tuple(troubles),
        )
        offsets = {str(p): at for p, at in look.positions.items()}
        watch.write_status(
            watch.tell(look)
            | {
                "offsets": offsets,
                "snapshots": cuts.status(),
                "memory": "off" if notes is None else notes.trouble,
                "cache": "off" if kept is None else kept.trouble,
            }
        )
        if now - reported_at < REPORT_S:
            continue
        if progress.written != reported or troubles:
            log.info(
                "projected %d records in %d transactions since %.0f s; stopped: %s; waiting for: %s",
                progress.written,
                progress.transactions,
                now - began,
                progress.stopped or "none",
                progress.waiting_for or "nothing",
            )
        reported, reported_at = progress.written, now
