"""An export that is killed again and again, while the log goes on, ends in the same bytes as one that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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
import os, signal, sys
from pathlib import Path
from chimera.audit.export import export
from chimera.audit.source import KafkaSource
bootstrap, prefix, home, out, jobs, cut_at = sys.argv[1:]
really, begun = KafkaSource.read, []

def cut(source, topic, partition, end):
    begun.append(partition)
    for batch in really(source, topic, partition, end):
        if len(begun) == int(cut_at):
            yield batch[:1]
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

KafkaSource.read = cut
export(KafkaSource(bootstrap, prefix), Path(home), Path(out), jobs=int(jobs))
"""
KILLS = 2


def exporter(bootstrap: str, prefix: str, home: Path, out: Path, jobs: int, cut_at: int) -> int:
    """A process that exports, with others of its own where there are `jobs`; it is killed within the `cut_at`-th partition that it
    writes itself, 0: never. Its exit code."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [bootstrap, prefix, str(home), str(out), str(jobs), str(cut_at)]
    return subprocess.run([sys.executable, "-c", EXPORTER, *words], env=env, cwd="/", timeout=240, check=False).returncode


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
        assert exporter(kafka_bootstrap, prefix, home, out, 1 + kill, 3) == -signal.SIGKILL
        assert list((out / RECEIPTS).glob("*.json"))
        assert not (out / MANIFEST).exists()
        day(made, f"late{kill}")
        made.send(kafka_bootstrap)
        sign_now(kafka_bootstrap, home, prefix=prefix)
    assert exporter(kafka_bootstrap, prefix, home, out, 2, 0) == 0

    # then it is the export that was begun, byte for byte, and the log's later records are in none of it
    files = [
        {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (tmp_path / "whole", out)
    ]
    assert files[0] == files[1]
    assert verify(out, root=made.root.id).damages == []
