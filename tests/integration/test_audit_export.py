"""The audit export of a real log: what is there is signed first, then exported, and verified without a server."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from chimera.audit import notary
from chimera.audit.export import export
from chimera.audit.lines import parse
from chimera.audit.notary import sign_now
from chimera.audit.source import TOPICS, KafkaSource
from chimera.audit.standalone import CHECKS
from chimera.audit.verify import verify
from chimera.cli.main import build
from chimera.errors import ChimeraError
from chimera.eventlog.cluster import apply
from chimera.eventlog.read import read_until
from chimera.eventlog.topics import load_topics
from chimera.events.records import SoulAdopted
from tests.audithouse import home_for
from tests.integration.projection_data import History, day, enrol, mischief

LOG = TOPICS[0].name
Sworn = tuple[History, KafkaSource, Path, Path]


@pytest.fixture(scope="module")
def sworn(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Sworn:
    """A history, its log, its home, and an export of it."""
    prefix = f"audit-{uuid.uuid4().hex[:8]}-"
    for topic in TOPICS:
        apply(kafka_bootstrap, load_topics().only(topic.name).with_prefix(prefix))
    made = History(prefix + LOG)
    for name in ("ava", "ben"):
        day(made, name)
    mischief(made, enrol(made, "cy"))
    made.send(kafka_bootstrap)
    home = home_for(tmp_path_factory.mktemp("audit") / "home", made)
    sign_now(kafka_bootstrap, home, prefix=prefix)
    source, out = KafkaSource(kafka_bootstrap, prefix), home.parent / "out"
    export(source, home, out)
    return made, source, home, out


def test_an_export_of_a_real_log_holds_every_record_and_verifies(sworn: Sworn) -> None:
    made, source, _, out = sworn
    report = verify(out, root=made.root.id)
    assert report.damages == []
    for raws in read_until(source.bootstrap, source.prefix + LOG, range(24)):
        for raw in raws:
            lines = (out / f"records/{LOG}-{raw.partition:02d}.jsonl").read_bytes().split(b"\n")
            assert parse(lines[raw.offset], raw.topic)[0] == raw


def test_while_a_notary_runs_an_export_waits_for_its_signature_and_signs_nothing_beside_it(sworn: Sworn) -> None:
    made, source, home, _ = sworn
    made.add(enrol(made, "dot"), SoulAdopted(command_no=6, digest="e", soul="# more"))
    made.send(source.bootstrap)
    with notary.alone(home, 0) as mine, notary.alone(home, 0) as other:
        assert (mine, other) == (True, False)
        with pytest.raises(ChimeraError, match="did not sign what is in the log"):
            sign_now(source.bootstrap, home, prefix=source.prefix, patience_s=0)
    with notary.alone(home, 0), pytest.raises(ChimeraError, match="another notary signs"):
        notary.follow(source.bootstrap, home, threading.Event(), lambda _: None, patience_s=0)
    sign_now(source.bootstrap, home, prefix=source.prefix)
    again = home.parent / "again"
    export(source, home, again)
    assert verify(again, previous=home.parent / "out").damages == []


def test_verifying_on_the_command_line_has_a_verdict_per_claim_and_an_exit_code(sworn: Sworn) -> None:
    made, _, home, out = sworn
    runner, app = CliRunner(), build(["audit"])
    told = orjson.loads((out / "manifest.json").read_bytes())
    good = runner.invoke(app, ["audit", "verify", str(out), "--root", made.root.id, "--key", told["notary"][0]])
    assert good.exit_code == 0
    assert sum(line.startswith("holds") for line in good.stdout.splitlines()) == len(CHECKS) - 1
    assert "NOT CHECKED previous" in good.stdout
    path = out / f"records/{LOG}-05.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b"{}\n")
    bad = runner.invoke(app, ["audit", "verify", str(out), "--json"])
    path.write_bytes(whole)
    assert bad.exit_code == 1
    found = orjson.loads(bad.stdout)
    assert not found["intact"]
    assert {(d["file"], d["check"]) for d in found["damages"]} >= {
        (f"records/{LOG}-05.jsonl", c) for c in ("records", "files", "counts")
    }
    assert runner.invoke(app, ["audit", "verify", str(home / "nowhere")]).exit_code == 2
    stranger = runner.invoke(app, ["audit", "verify", str(out), "--key", "A" * 43 + "="])
    assert stranger.exit_code == 1
    assert "is not signed by a key that was given" in stranger.stdout
