"""A tool that changes: what waits for it becomes stale and is made anew, and pins are read while processes run."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chimera.commands import agents, at_agents, verbs
from chimera.commands.decision import Answer, Order
from chimera.commands.room import Room
from chimera.events import records as rec
from chimera.mcp import pins as pins_module
from chimera.mcp import profiles as profiles_module
from chimera.mcp.pins import Pins, write_pins
from chimera.mcp.profiles import PROFILES_DIR, load_profiles
from chimera.mcp.sandbox.timeline import Timeline
from chimera.mcp.sandbox.x import XSandbox
from chimera.mcp.spec import ProfileError
from chimera.policy.boardkit import load_text
from chimera.policy.brief import load_brief
from tests.swarmhouse import REQUESTER, SwarmHouse
from tests.unit.test_commands_decisions import KEY, with_card

EXAMPLES = Path("examples")
AVA = "agent/ava"


def house_with_cards(home: Path, **policy: str) -> SwarmHouse:
    rules = load_text(EXAMPLES / "AGENTS.md")
    for name, value in policy.items():
        for line in rules.splitlines():
            rules = rules.replace(line, f"{name}: {value}") if line.startswith(f"{name}:") else rules
    house = SwarmHouse(EXAMPLES, rules, x=XSandbox(Timeline(home)))
    house.enrol(AVA, load_text(EXAMPLES / "souls/ava.md"), load_brief(EXAMPLES / "briefs/autumn.yaml"), "ava")
    asyncio.run(house.run())
    return house


def waiting(house: SwarmHouse) -> dict[int, tuple[int, str]]:
    """Task -> (attempt, how its effect stands)."""
    tasks = house.agents[AVA].campaigns[1].tasks.values()
    return {t.ordinal: (t.attempt, t.effect.status) for t in tasks if t.effect is not None}


def test_cards_that_wait_for_a_changed_tool_are_made_anew_and_say_why(tmp_path: Path) -> None:
    house = house_with_cards(tmp_path)
    before = waiting(house)
    assert "people" in {status for _, status in before.values()}
    changed = rec.ToolChanged(command_no=house.agents[AVA].command_no + 1, platform="x", tool="x.createPosts", reason="pinned anew")
    assert house.add(AVA, changed, REQUESTER).outcome == "applied"
    assert all(task.stale for task in house.agents[AVA].campaigns[1].tasks.values() if task.effect is not None)
    asyncio.run(house.run())
    after = waiting(house)
    again = {ordinal for ordinal, (_, status) in before.items() if status == "people"}
    assert again
    assert all(after[ordinal][0] == before[ordinal][0] + 1 for ordinal in again), "the next attempt, rendered anew"
    told = [r.data for r in house.records if isinstance(r.data, rec.TaskPlanned) and r.data.ordinal in again]
    assert len(told) == 2 * len(again)


def test_what_is_approved_and_not_yet_claimed_is_not_sent_either(tmp_path: Path) -> None:
    house = house_with_cards(tmp_path, taint_auto="{publish: allowlisted, paid: allowlisted}", audit_sample_ppm="0", undo_s="0")
    approved = [ordinal for ordinal, (_, status) in waiting(house).items() if status == "approved"]
    assert approved
    changed = rec.ToolChanged(command_no=house.agents[AVA].command_no + 1, platform="x", tool="x.createPosts")
    assert house.add(AVA, changed, REQUESTER).outcome == "applied"
    task = house.agents[AVA].campaigns[1].tasks[approved[0]]
    assert task.effect is not None
    at = {"campaign": 1, "ordinal": task.ordinal, "attempt": task.attempt, "claim": 1, "token": "t"}
    claim = rec.EffectClaimed(**at, effect_hash=task.effect.hash, lease_ms=60_000)
    ruling = house.add(AVA, claim)
    assert (ruling.outcome, ruling.reason) == ("rejected", "stale")


class Service:
    """As much of a command service as finding cards takes."""

    def __init__(self) -> None:
        self.log = with_card()
        self.agents = {KEY: self.log.ava}
        self.given: list[Order] = []

    def still(self) -> Any:
        return nullcontext()

    def catch_up(self) -> None:
        return None

    def read_data(self, ref: Any) -> Any:
        return self.log.contents[ref.offset]

    def submit_many(self, orders: list[Order]) -> list[Answer]:
        self.given += orders
        return [Answer(order.key, order.id, "applied", "", 1) for order in orders]


@pytest.mark.parametrize(
    ("profile", "pins", "told"),
    [
        ("x", {"createPosts": "1"}, [rec.ToolChanged(platform="x", tool="x.createPosts", reason="why")]),
        ("x", {"createPosts": ""}, [rec.ToolChanged(platform="x", tool="x.createPosts", reason="why")]),
        ("x", {"createPosts": "0"}, []),
        ("x", {"deletePosts": "1"}, []),
        ("instagram", {"createPosts": "1"}, []),
    ],
)
def test_only_those_are_told_who_wait_with_something_rendered_for_another_schema(
    profile: str, pins: dict[str, str], told: list[rec.ToolChanged]
) -> None:
    service = Service()
    room = SimpleNamespace(service=service)
    room.order = lambda *given: Room.order(cast(Room, room), *given)
    room.submit = lambda *given: Room.submit(cast(Room, room), *given)
    wish = verbs.wish(verbs.ToolStale, "kim", profile=profile, pins=pins, reason="why")
    at_agents.tool_stale(cast(Room, room), wish)
    assert [data for order in service.given for data in order.decide(service.log.ava)] == told


def test_an_account_that_was_unlinked_meanwhile_is_told_nothing() -> None:
    log = with_card()
    log.ava.accounts.clear()
    assert agents.tool_changed({"x": "x.createPosts"}, "why")(log.ava) == []


def test_pins_that_a_person_changed_are_read_while_the_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins_module, "PINS_LOOK_S", 0.0)
    for name in ("x.yaml", "x.schemas.json"):
        shutil.copy(PROFILES_DIR / name, tmp_path / name)
    profiles = load_profiles(tmp_path)
    inputs = {"text": "a", "disclosure_level": "none"}
    before = profiles.render("social.publish", inputs, platform="x")
    path = tmp_path / "x.schemas.json"
    body = json.loads(path.read_text())
    body["tools"]["createPosts"]["sha256"] = "f" * 64
    body["tools"]["createPosts"]["schema"]["required"] = ["text", "media"]
    write_pins(path, json.dumps(body))
    with pytest.raises(profiles_module.BadArguments, match="media missing"):
        profiles.render("social.publish", inputs, platform="x")
    body["tools"]["createPosts"]["sha256"] = "e" * 64
    del body["tools"]["createPosts"]["schema"]["required"]
    write_pins(path, json.dumps(body))
    assert profiles.render("social.publish", inputs, platform="x").tool_schema_sha256 == "e" * 64 != before.tool_schema_sha256
    path.write_text("{half a file")
    assert profiles.render("social.publish", inputs, platform="x").tool_schema_sha256 == "e" * 64, "the last usable ones hold"
    with pytest.raises(ProfileError, match="x"):
        Pins(path)
