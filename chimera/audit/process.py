"""The notary as a process: `chimera run notary`.

The rule not to break: a signal stops it after what it took in is signed; a start takes up where the last checkpoints stand.
"""

from __future__ import annotations

import logging
import signal
import threading
import time

from chimera.audit.notary import TOPICS, Notary, follow, make_notary_key
from chimera.eventlog.cluster import require_topics
from chimera.eventlog.ends import Ends
from chimera.eventlog.topics import load_topics
from chimera.observe import logs
from chimera.observe.look import Look
from chimera.observe.watch import Watch
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

log = logging.getLogger(__name__)

LOG = TOPICS[0]
TELL_S = 0.5


def run(settings: Settings) -> None:
    """Sign until SIGTERM or SIGINT. Makes the notary's key where there is none.

    Raises `LogChanged`, `TreeDamaged`, `BadNote` and `KeyTrouble` where signing on would be wrong.
    """
    logs.set_up("notary", settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    bootstrap, topics = load_kafka(settings), load_topics()
    require_topics(bootstrap, topics, settings.home)
    if make_notary_key(settings.home):
        log.info("a key of the notary was made: `chimera audit keygen` tells its public half, which auditors need")
    partitions = next(spec.partitions for spec in topics.topics if spec.name == LOG)
    watch = Watch("notary", settings.home, Ends(bootstrap, LOG, range(partitions)).now)
    watch.start()
    told_at = -TELL_S

    def tell(notaries: list[Notary]) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at < TELL_S:
            return
        told_at = now
        of_log = next(each for each in notaries if each.topic == LOG)
        positions = {partition: writer.size for partition, writer in of_log.writers.items()}
        signed = {each.topic: each.signed() for each in notaries}
        unsigned = sum(each.behind() for each in notaries)
        offsets = {str(partition): at for partition, at in positions.items()}
        look = Look(positions=positions, written=of_log.signed())
        told = {"partitions": sorted(positions), "offsets": offsets, "signed": signed, "unsigned": unsigned}
        watch.write_status(watch.tell(look) | told)

    try:
        follow(bootstrap, settings.home, stop, tell)
    finally:
        watch.close()
