"""A projector process that failpoints kill: `python -m tests.integration.mortal BOOTSTRAP DSN ROOT PREFIX HOME`.

It does all that the projector process does with its topics: the log, the calls, the numbers; on topics of its own.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from chimera import failpoints
from chimera.events.metrics import TOPIC as METRICS
from chimera.projections import calls, metrics
from chimera.projections.engine import LOG, Projector


def main(bootstrap: str, dsn: str, root_public: str, prefix: str, home: str) -> None:
    failpoints.arm(Path(home), "projector")
    stop = threading.Event()
    for follow, topic in ((calls.follow, calls.CALLS), (metrics.follow, METRICS)):
        threading.Thread(target=follow, args=(bootstrap, dsn, stop), kwargs={"topic": prefix + topic}, daemon=True).start()
    Projector(bootstrap, dsn, root_public, topic=prefix + LOG, share=True, stop=stop).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
