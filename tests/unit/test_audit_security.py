"""Security events beside an export: derived from its records alone, in OCSF, and both verifiers derive them again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from chimera.audit import standalone
from chimera.audit.export import export
from chimera.audit.manifest import ENVELOPE, MANIFEST, SUMS, envelope
from chimera.audit.notary import load_notary_keys
from chimera.audit.source import Selection
from chimera.audit.standalone import NOTED_TYPES, SECURITY, SECURITY_TYPES, Line, Security
from chimera.audit.verify import verify
from chimera.events.records import ALL
from chimera.events.security import TOPIC as SECURITY_TOPIC
from chimera.events.security import WHATS, noted
from tests.audithouse import LOG, MemorySource, history, home_for, notarise, source_of

Sworn = tuple[MemorySource, Path]


@pytest.fixture(scope="module")
def sworn(tmp_path_factory: pytest.TempPathFactory) -> Sworn:
    made = history()
    source, home = source_of(made), home_for(tmp_path_factory.mktemp("sworn") / "home", made)
    notarise(home, source)
    export(source, home, home.parent / "out")
    return source, home


def events(out: Path) -> list[dict[str, Any]]:
    return [orjson.loads(text) for text in (out / SECURITY).read_bytes().splitlines()]


def test_changes_of_keys_and_policies_and_forged_records_are_told_as_ocsf_events(sworn: Sworn) -> None:
    source, home = sworn
    found = events(home.parent / "out")
    kinds = Counter((event["metadata"]["event_code"], event["type_uid"]) for event in found)
    assert kinds["LawAdopted", 300403] == 4, "one for each partition"
    assert kinds["PolicyAdopted", 300403] > 0
    forged = [event for event in found if event["class_uid"] == 2004]
    assert forged
    for event in found:
        assert event["category_uid"] == event["class_uid"] // 1000
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        place = event["unmapped"]
        raw = source.topics[place["topic"]][place["partition"]][place["offset"]]
        assert event["time"] == raw.append_ts
    assert {(event["severity_id"], event["status_id"], event["status_detail"]) for event in forged} == {(4, 2, "forged")}


def test_every_type_of_record_that_is_told_exists_and_has_the_member_that_names_it() -> None:
    known = {record.TYPE: record for record in ALL}
    for type_, (_, _, named) in SECURITY_TYPES.items():
        assert named in known[type_].model_fields


@pytest.mark.parametrize(("how", "said"), [("change", "does not tell"), ("drop", "does not tell"), ("add", "tells more of")])
def test_an_event_that_does_not_follow_from_its_record_is_named_by_both_verifiers(sworn: Sworn, how: str, said: str) -> None:
    out = sworn[1].parent / "out"
    path = out / SECURITY
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    last = next(n for n in range(len(lines)) if b'"partition":1,' in lines[n]) - 1  # of partition 0
    lines[last:] = {
        "change": [lines[last].replace(b'"status_id":1', b'"status_id":2').replace(b'"status_id":2', b'"status_id":9')]
    }.get(how, [] if how == "drop" else [lines[last]] * 2) + lines[last + 1 :]
    path.write_bytes(b"".join(lines))
    try:
        for report in (verify(out), standalone.verify(out)):
            assert report.state("security") == standalone.BROKEN
            assert [d.file for d in report.damages if d.check == "security" and said in d.text] == [SECURITY]
        ran = subprocess.run(
            [sys.executable, "-I", "-B", str(out / "verify.py")], capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 1
        assert f"{SECURITY}: record" in ran.stdout or how == "add"
    finally:
        path.write_bytes(whole)
    assert verify(out).damages == []


def test_a_filtered_export_tells_the_events_of_what_it_shows(sworn: Sworn, tmp_path: Path) -> None:
    source, home = sworn
    export(source, home, tmp_path / "few", selection=Selection(types=("PolicyAdopted",)), formats=["jsonl"])
    assert {event["metadata"]["event_code"] for event in events(tmp_path / "few")} == {"LawAdopted", "PolicyAdopted"}
    assert verify(tmp_path / "few").state("security") == standalone.HOLDS
    export(source, home, tmp_path / "cells", formats=["parquet"])
    assert (tmp_path / "cells" / SECURITY).read_bytes() == (home.parent / "out" / SECURITY).read_bytes()
    assert verify(tmp_path / "cells").state("security") == standalone.UNCHECKED


def test_an_export_of_a_version_that_told_no_events_still_verifies(sworn: Sworn, tmp_path: Path) -> None:
    source, home = sworn
    export(source, home, tmp_path)
    (tmp_path / SECURITY).unlink()
    sums = b"".join(line for line in (tmp_path / SUMS).read_bytes().splitlines(keepends=True) if SECURITY.encode() not in line)
    (tmp_path / SUMS).write_bytes(sums)
    told = orjson.loads((tmp_path / MANIFEST).read_bytes()) | {"sums": hashlib.sha256(sums).hexdigest()}
    del told["security"]
    payload = orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
    (tmp_path / MANIFEST).write_bytes(payload)
    (tmp_path / ENVELOPE).write_bytes(envelope(payload, load_notary_keys(home).keys))
    report = verify(tmp_path)
    assert report.damages == []
    assert report.state("security") == standalone.UNCHECKED


def decided(type_: str, ruling: str = "applied", **data: Any) -> Line:
    """A record about card 1.2.1 of an agent."""
    value = orjson.dumps({"campaign": 1, "ordinal": 2, "attempt": 1} | data)
    members = {
        "id": f"{type_}-1",
        "type": type_,
        "subject": "agent/a",
        "partition": 0,
        "ruling": ruling,
        "rulingreason": "",
        "actor": "kim",
    }
    return Line(7, 1_700_000_000_000, b"agent/a", value, [], members, "00")


def test_refused_log_ins_and_kill_switches_are_told_from_their_own_topic(sworn: Sworn) -> None:
    login, switch = [e for e in events(sworn[1].parent / "out") if e["unmapped"]["topic"] == SECURITY_TOPIC]
    assert (login["type_uid"], login["status_id"], login["status_detail"], login["src_endpoint"]) == (
        300201,
        2,
        "wrong_password",
        {"ip": "10.0.0.7"},
    )
    assert (login["user"], login["service"], login["metadata"]["tenant_uid"]) == ({"name": "kim"}, {"name": "mission_control"}, "*")
    assert (switch["type_uid"], switch["status_id"], switch["actor"]["user"]["name"]) == (300403, 1, "lea")
    assert switch["entity"] == {"type": "kill switch", "uid": "tenant:acme", "name": "tenant:acme"}
    assert (switch["metadata"]["tenant_uid"], switch["metadata"]["event_code"]) == ("acme", "SecurityNoted/switch_closed")
    assert [e["unmapped"]["offset"] for e in (login, switch)] == [1, 2]


def test_everything_that_is_noted_has_a_class_of_ocsf() -> None:
    assert set(NOTED_TYPES) == set(WHATS)
    activities = {3001: range(1, 12), 3002: range(1, 6), 3004: range(1, 5)}  # of OCSF 1.1
    assert all(activity in activities[class_] for class_, activity, _ in NOTED_TYPES.values())


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" " * 20_000,
        b"[" * 10_000,
        b'{"what":"switch_closed"}',
        b'"switch_closed"',
        orjson.dumps(noted("signed_off", door="shell").said.model_dump() | {"what": "coffee"}),
        orjson.dumps(noted("signed_off", door="shell").said.model_dump()).replace(b'"count":1', b'"count":1e999'),
        orjson.dumps(noted("signed_off", door="shell").said.model_dump()).replace(b'"who":"unknown"', b'"who":"\\ud800"'),
        orjson.dumps(noted("signed_off", door="shell").said.model_dump()).replace(b'"what":"signed_off"', b'"what":["a"]'),
    ],
)
def test_a_record_of_the_topic_that_says_nothing_known_is_no_event_and_stops_nothing(value: bytes) -> None:
    security = Security(SECURITY_TOPIC, 0, "chimera-swarm@1")
    line = decided("SecurityNoted")._replace(value=value)
    assert security.concerns("SecurityNoted", "", value)
    assert security.event(line) is None


@pytest.mark.parametrize(("class_", "told"), [("financial", 1), ("publish", 0)])
def test_an_approval_is_told_where_it_is_of_money(class_: str, told: int) -> None:
    security = Security(LOG, 0, "chimera-swarm@1")
    proposed = decided("ArtifactProduced", effect={"effect_class": class_})
    assert security.concerns("ArtifactProduced", "", proposed.value) == (class_ == "financial")
    assert security.event(proposed) is None
    found = security.event(decided("HumanApproved", effect_hash="e7"))
    assert (found is not None) == bool(told)
    if found is not None:
        event = orjson.loads(found)
        assert event["entity"] == {"type": "payment", "uid": "agent/a", "name": "e7"}
        assert event["actor"]["user"]["name"] == "kim"
    assert security.event(decided("HumanApproved", "void", effect_hash="e7")) is None
