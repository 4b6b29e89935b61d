"""The reference pages say what the code says, and each says it in a form that its readers can use."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import yaml
from jsonschema_rs import Draft202012Validator, meta

from chimera.events.docs import HEADERS, ROOT, main, schema, table
from chimera.events.envelope import NewRecord, encode
from chimera.events.headers import KNOWN, REQUIRED
from chimera.events.law import TABLE, TENANT_TABLE
from chimera.events.records import ALL, AgentEnrolled, PolicyAdopted, PolicyInline

REFERENCE = ROOT / "docs" / "reference"


def test_the_committed_reference_is_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / "docs"), "--check"]) == 0, capsys.readouterr().out


def test_the_check_finds_a_page_that_was_changed_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0
    page = tmp_path / "reference" / "records.md"
    page.write_text(page.read_text().replace("EffectClaimed", "EffectTaken"))
    assert main([str(tmp_path), "--check"]) == 1
    assert "records.md is not what the code says" in capsys.readouterr().out
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0


def test_every_record_and_every_row_of_the_law_has_its_line() -> None:
    page = table()
    for model in ALL:
        assert f"| [{model.TYPE}](#{model.TYPE.lower()}) |" in page
        assert f"### {model.TYPE}" in page
    assert {*TABLE, *TENANT_TABLE} == {model.TYPE for model in ALL} - {"LawAdopted"}


def test_records_as_they_are_written_fit_the_schema_and_others_do_not() -> None:
    made = orjson.loads((REFERENCE / "records.schema.json").read_bytes())
    assert made == orjson.loads(orjson.dumps(schema()))
    meta.validate(made)
    for data in (
        AgentEnrolled(command_no=1, name="ava", groups=["autumn"]),
        PolicyAdopted(command_no=2, edition=1, digest="d", editor="kim", inline=PolicyInline()),
    ):
        wire = encode(NewRecord("agent/0", data, "acme", "kim", "2026-01-01T00:00:00Z", "1"))
        one = Draft202012Validator({"$ref": f"#/$defs/{type(data).__name__}", "$defs": made["$defs"]})
        one.validate(orjson.loads(wire.value))
        assert not one.is_valid({**orjson.loads(wire.value), "surprise": 1})


def test_the_asyncapi_page_names_every_topic_message_and_header_and_its_references_lead_somewhere() -> None:
    page = yaml.safe_load((REFERENCE / "asyncapi.yaml").read_text())
    topics = yaml.safe_load((ROOT / "topics.yaml").read_text())["topics"]
    assert page["asyncapi"].startswith("3.")
    assert list(page["channels"]) == [topic["name"] for topic in topics]
    assert list(page["channels"]["chimera.log"]["messages"]) == [model.TYPE for model in ALL]
    assert {name for name, _, _ in HEADERS} == KNOWN
    assert {name for name, required, _ in HEADERS if required} == set(REQUIRED)
    for reference in _references(page):
        file, _, pointer = reference.partition("#")
        target = orjson.loads((REFERENCE / file).read_bytes()) if file else page
        for step in filter(None, pointer.split("/")):
            target = target[step]


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for content in value.values() for each in _references(content)]
    return [each for content in value for each in _references(content)] if isinstance(value, list) else []
