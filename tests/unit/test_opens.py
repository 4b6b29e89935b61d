"""Gates as processes of their own: who opens what, who makes which effects, and whose credentials are in whose environment."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from chimera.errors import ChimeraError
from chimera.events.state import Agent
from chimera.mcp.gate import Gate
from chimera.mcp.opens import EFFECTS, credentials, gate_effects, opens, refuse_foreign, withheld
from chimera.mcp.profiles import load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.processors.executor import due
from chimera.settings import Settings
from chimera.stack.children import kept_back
from chimera.stack.process import spawn
from tests.unit.test_drift import AVA, house_with_cards

PROFILES = load_profiles()
SPECS = [profile.spec for profile in PROFILES.by_name.values()]
GATES = {"social": ["publish", "paid"], "wallet": ["financial"]}
SENTINELS = {
    "CHIMERA_X_AUTHORIZATION_ava": "publish",
    "CHIMERA_INSTAGRAM_AUTHORIZATION_ava": "publish",
    "CHIMERA_WALLET_AUTHORIZATION_ava": "financial",
    "CHIMERA_IDEOGRAM_API_KEY": "paid",
    "CHIMERA_ACEDATACLOUD_API_TOKEN": "paid",
    "CHIMERA_RUNWAY_AUTHORIZATION": "paid",
    "CHIMERA_LUMA_API_KEY": "paid",
    "CHIMERA_BRAVE_API_KEY": "none",
    "CHIMERA_TAVILY_API_KEY": "none",
}
"""Every credential that the packaged profiles name -> for what it is."""


def test_every_credential_of_every_profile_is_looked_after_here() -> None:
    patterns = credentials(SPECS)
    assert [name for name in SENTINELS if not any(each.fullmatch(name) for each in patterns)] == []
    assert [each.pattern for each in patterns if not any(each.fullmatch(name) for name in SENTINELS)] == []


def test_a_gate_opens_what_its_effects_need_and_the_wallet_gate_reads_no_outside_text() -> None:
    wallet = {spec.name for spec in SPECS if opens(spec, frozenset(["financial"]))}
    social = {spec.name for spec in SPECS if opens(spec, frozenset(["publish", "paid"]))}
    assert wallet == {"wallet"}
    assert {"x", "instagram", "ads", "runway"} <= social
    assert not social & {"wallet", "feeds", "brave", "tavily", "writer"}
    assert {spec.name for spec in SPECS if opens(spec, None)} == set(PROFILES.by_name)


@pytest.mark.parametrize(
    ("gates", "name", "said"),
    [
        ({"a": ["publish"]}, "a", "no gate makes financial, paid"),
        ({"a": ["publish", "paid"], "b": ["paid", "financial"]}, "a", "is in the gates 'a' and 'b'"),
        ({"a": [*EFFECTS, "magic"]}, "a", "'magic' of gate 'a'"),
        (GATES, "wallets", "no gate 'wallets'"),
        (GATES, None, "run one of them"),
        ({}, "wallet", "no gate makes"),
    ],
)
def test_gates_that_would_make_effects_twice_or_never_are_refused(gates: dict[str, list[str]], name: str | None, said: str) -> None:
    with pytest.raises(ChimeraError, match=said):
        gate_effects(gates, name)


def test_without_the_setting_one_gate_makes_all() -> None:
    assert gate_effects({}, None) is None


@pytest.mark.parametrize(
    ("process", "gate", "has"),
    [
        ("gate", "wallet", {"financial"}),
        ("gate", "social", {"publish", "paid"}),
        ("brain", None, {"publish", "paid", "none"}),
        ("command", None, set()),
        ("projector", None, set()),
        ("kafka", None, set()),
        ("x", None, set()),
        ("writer", None, {"model"}),
        ("embeddings", None, {"embedding model"}),
    ],
)
def test_a_process_is_given_the_credentials_that_it_needs_and_no_others(
    process: str, gate: str | None, has: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SENTINELS:
        monkeypatch.setenv(name, "sentinel")
    models = {"CHIMERA_LLM_KEY": "model", "CHIMERA_EMBEDDING_KEY": "embedding model"}
    for name in models:
        monkeypatch.setenv(name, "sentinel")
    settings = Settings(home=tmp_path, gates=GATES if gate else {})
    code = "import json, os; print(json.dumps([name for name, value in os.environ.items() if value == 'sentinel']))"
    child = spawn([sys.executable, "-c", code], tmp_path / "log", without=kept_back(process, settings, gate))
    assert child.wait(60) == 0
    there = json.loads((tmp_path / "log").read_text().splitlines()[-1])
    assert set(there) == {name for name, of in {**SENTINELS, **models}.items() if of in has}


def test_a_gate_with_anothers_credentials_refuses_to_start() -> None:
    names = ["PATH", "CHIMERA_X_AUTHORIZATION_ava", "CHIMERA_WALLET_AUTHORIZATION_ava"]
    with pytest.raises(ChimeraError, match="must not be able to read CHIMERA_X_AUTHORIZATION_ava: take"):
        refuse_foreign(names, SPECS, frozenset(["financial"]))
    refuse_foreign(names, SPECS, None)
    assert withheld(names, SPECS, SPECS) == []


def test_a_gate_calls_nothing_that_it_does_not_open(tmp_path: Path) -> None:
    async def on_call(record: ToolCallRecord) -> None:
        return None

    async def go() -> Outcome:
        async with Gate(PROFILES, {}, on_call=on_call, home=tmp_path, effects=frozenset(["financial"])) as gate:
            call = PROFILES.render("social.publish", {"text": "a", "disclosure_level": "none"}, platform="x")
            return await gate.send(call, agent="a", tenant="t", account="ava", idempotency_key="k")

    outcome = asyncio.run(go())
    assert (outcome.result, outcome.reason) == ("not_sent", "not_this_gate")


def test_an_executor_owes_the_effects_of_its_gate_and_leaves_the_others_to_theirs(tmp_path: Path) -> None:
    house = house_with_cards(tmp_path, taint_auto="{publish: allowlisted}", audit_sample_ppm="0", undo_s="0")
    agent: Agent = house.agents[AVA]
    now = house.broker_now()
    assert due(agent, now).jobs
    assert due(agent, now, effects={"publish", "paid"}).jobs == due(agent, now).jobs
    assert not due(agent, now, effects={"financial"}).jobs
