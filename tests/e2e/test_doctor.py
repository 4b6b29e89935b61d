"""The tools to see it with, on a stack that works: what they say is true, complete and free of secrets."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.house import House

ROLES = {"command", "brain", "gate", "projector"}


def doctor(house: House) -> dict[str, Any]:
    typed = house.run("doctor", "--json")
    found: dict[str, Any] = json.loads(typed.out)
    assert typed.code == (0 if found["fine"] else 1)
    return found


def processes(house: House) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(house.run("top", "--once", "--json").out)["processes"]
    return told


def test_the_doctor_finds_nothing_wrong_with_a_stack_at_work_and_has_looked_at_everything(house: House) -> None:
    house.until(lambda: {process["role"] for process in processes(house)} >= ROLES, "every role tells of itself")
    house.until_well()
    said = " | ".join(finding["what"] for finding in doctor(house)["findings"])
    for thing in (
        "GB free",
        "Kafka answers",
        "root key",
        "law is adopted in all 24",
        "PostgreSQL answers",
        "read models",
        "cards",
        *ROLES,
    ):
        assert thing in said


def test_every_finding_that_is_not_fine_says_what_to_do(house: House) -> None:
    assert all(finding["todo"] for finding in doctor(house)["findings"] if finding["level"] in ("warning", "problem"))


def test_what_is_stopped_by_hand_and_what_is_parked_is_shown_with_the_way_out(house: House) -> None:
    house.done("switch", "close", "platform:x", "--reason", "looks odd", "--as", "kim")
    [name] = house.enrol("dok", 1)
    key = house.agent(name).key
    with psycopg.connect(house.addresses.postgres) as connection:
        connection.execute(f"ALTER TABLE core.events ADD CONSTRAINT planted CHECK (stream <> '{key}') NOT VALID".encode())
    try:
        house.done("agent", "pause", name)
        house.until(lambda: house.sql("SELECT model FROM core.parked") == [("events",)], "a row is parked")
        found = {finding["what"]: finding for finding in doctor(house)["findings"]}
        [switch] = [f for what, f in found.items() if "kill switch" in what]
        assert switch["what"] == "the kill switch platform:x is closed by kim: looks odd"
        assert (switch["level"], "chimera switch open platform:x" in switch["todo"]) == ("warning", True)
        [parked] = [f for what, f in found.items() if "parked" in what]
        assert "1 (model, agent) pairs" in parked["what"]
        assert (parked["level"], "chimera parked heal" in parked["todo"]) == ("problem", True)
    finally:
        with psycopg.connect(house.addresses.postgres) as connection:
            connection.execute("ALTER TABLE core.events DROP CONSTRAINT planted")
        house.done("switch", "open", "platform:x", "--reason", "the test is over")
    assert house.run("parked", "heal").code == 0
    said = [finding["what"] for finding in doctor(house)["findings"]]
    assert "no kill switch is closed" in said
    assert not [what for what in said if "parked" in what]


def test_every_process_answers_at_its_own_address_with_health_and_figures(house: House) -> None:
    for process in processes(house):
        with urllib.request.urlopen(f"{process['http']}/health", timeout=30) as answer:
            assert json.loads(answer.read())["healthy"] is True
        with urllib.request.urlopen(f"{process['http']}/metrics", timeout=30) as answer:
            page = answer.read().decode()
        assert f'chimera_lag_records{{partition="0",role="{process["role"]}"}}' in page
        if process["role"] == "brain":
            assert 'chimera_rulings_total{outcome="applied"' in page
            assert "chimera_append_seconds_count" in page
            assert "chimera_unknown_effects" in page


def test_what_the_role_processes_log_is_one_json_object_per_line(house: House) -> None:
    for role in ROLES:
        lines = (house.home / "logs" / f"{role}.log").read_text().splitlines()
        ours = [json.loads(line) for line in lines if line and not line.startswith("=== started")]
        assert {line["process"] for line in ours} == {role}
        assert all({"time", "level", "message"} <= set(line) for line in ours)


def test_in_a_home_where_nothing_is_the_doctor_says_how_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from chimera.cli.main import build

    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path))
    for name in ("CHIMERA_KAFKA", "CHIMERA_POSTGRES"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(build(["doctor"]), ["doctor", "--quiet"])
    assert done.exit_code == 1
    assert "chimera up" in done.output
    assert not list(tmp_path.iterdir()), "the doctor only looks"
