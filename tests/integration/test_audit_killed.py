"""An export that is killed again and again, while the log goes on, ends in the same bytes as one that nobody disturbed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

from chimera.audit.export import export
from chimera.audit.manifest import MANIFEST
from chimera.audit.notary import sign_now
from chimera.audit.partition import RECEIPTS
from chimera.audit.source import TOPICS, KafkaSource
from chimera.audit.verify import verify
from chimera.eventlog.cluster import apply
from chimera.eventlog.topics import load_topics
from tests.audithouse import home_for
from tests.integration.projection_data import History, day

ROOT = Path(__file__).resolve().parents[2]
EXPORTER = """
import sys
from pathlib import Path
from chimera.audit.export import export
from chimera.audit.source import KafkaSource
bootstrap, prefix, home, out, jobs = sys.argv[1:]
export(KafkaSource(bootstrap, prefix), Path(home), Path(out), jobs=int(jobs))
"""
KILLS = 2


def exporter(bootstrap: str, prefix: str, home: Path, out: Path, jobs: int) -> subprocess.Popen[bytes]:
    """A process that exports, with others of its own where there are `jobs`, and does nothing else."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", EXPORTER, bootstrap, prefix, str(home), str(out), str(jobs)], env=env, cwd="/")


def killed_when(process: subprocess.Popen[bytes], out: Path, partitions: int) -> None:
    """SIGKILL as soon as so many partitions are finished: the next one is half written then."""
    deadline = time.monotonic() + 90
    try:
        while len(list((out / RECEIPTS).glob("*.json"))) < partitions:
            assert process.poll() is None, "the export ended before it was killed"
            assert time.monotonic() < deadline, f"{partitions} partitions were not finished within 90 s"
    finally:
        process.kill()
        process.wait(30)


def test_an_export_killed_again_and_again_under_load_resumes_to_the_same_bytes(kafka_bootstrap: str, tmp_path: Path) -> None:
    # given a log that is signed, and an export of it that nobody disturbed
    prefix, out = f"killed-{uuid.uuid4().hex[:8]}-", tmp_path / "out"
    for topic in TOPICS:
        apply(kafka_bootstrap, load_topics().only(topic.name).with_prefix(prefix))
    made = History(prefix + TOPICS[0].name)
    day(made, "ava")
    made.send(kafka_bootstrap)
    home = home_for(tmp_path / "home", made)
    sign_now(kafka_bootstrap, home, prefix=prefix)
    export(KafkaSource(kafka_bootstrap, prefix), home, tmp_path / "whole")

    # when another is killed at several places, and in between the log grows and is signed
    for kill in range(KILLS):
        killed_when(exporter(kafka_bootstrap, prefix, home, out, 1 + kill), out, 5 * kill + 2)
        assert not (out / MANIFEST).exists()
        day(made, f"late{kill}")
        made.send(kafka_bootstrap)
        sign_now(kafka_bootstrap, home, prefix=prefix)
    last = exporter(kafka_bootstrap, prefix, home, out, 2)
    assert last.wait(90) == 0

    # then it is the export that was begun, byte for byte, and the log's later records are in none of it
    files = [
        {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (tmp_path / "whole", out)
    ]
    assert files[0] == files[1]
    assert verify(out, root=made.root.id).damages == []
