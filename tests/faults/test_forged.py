"""Records that somebody writes straight to Kafka: unsigned, signed by the wrong key, moved, replayed, or changed on the way.

Everything is judged on a real broker by command service, brain and projector alike; and nothing leaves by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from chimera.commands import cards, reviews
from chimera.commands.cards import Card
from chimera.commands.keys import agent_key, law_entry, load_keys
from chimera.eventlog.partitioner import law_key, partition_for
from chimera.eventlog.store import RecordStore
from chimera.eventlog.switches import TOPIC as SWITCHES
from chimera.eventlog.switches import SwitchSet
from chimera.events import records as rec
from chimera.events.envelope import SigningKey, Wire
from chimera.events.state_codec import state_to_json
from tests.e2e.house import House, accounts
from tests.faults.forger import LOG, PARTITIONS, Forger, nothing_left, signed
from tests.faults.oracle import every_effect_happened_once, no_task_is_lost

MALLORY = SigningKey.generate()
JUDGE = SigningKey.generate()
EXECUTOR = SigningKey.generate()

pytestmark = pytest.mark.timeout(200)


class Scene(NamedTuple):
    """Agents whose cards wait for people, and one whose partition lists keys for judge and executor."""

    ann: str
    bea: str
    hard: str


@pytest.fixture(scope="module")
def scene(house: House) -> Iterator[Scene]:
    keys = load_keys(house.home)
    taken: set[int] = set()
    prefixes = []
    for n in range(60):  # each on a partition of its own
        place = partition_for(agent_key(keys.installation.installation, "acme", f"for{n}x0"), PARTITIONS)
        if place not in taken:
            taken.add(place)
            prefixes.append(f"for{n}x")
    ann, bea, hard = (house.enrol(prefix, 1, approve_above=1.0)[0] for prefix in prefixes[:3])
    place = partition_for(house.agent(hard).key, PARTITIONS)
    listed = {"command": [keys.command.public]}
    forger = Forger(house)

    def adopt(edition: int, more: Mapping[str, list[str]]) -> None:
        entry = law_entry(keys, place, LOG, rec.LawAdopted(edition=edition, law=1, keys={**listed, **more}))
        forger.append(Wire(entry.key, entry.value, entry.headers))
        house.until(lambda: house.service.laws[place].edition == edition, f"edition {edition} is law", 30)

    adopt(2, {"judge": [JUDGE.public], "executor": [EXECUTOR.public]})
    house.start(house.brief("Forged", 3), [ann, bea, hard])
    house.until(lambda: house.resting([ann, bea]), "cards wait", 90)
    yield Scene(ann, bea, hard)
    house.done("agent", "retire", hard, "--reason", "the test is over")
    adopt(3, {})


def waiting(house: House, name: str) -> list[Card]:
    """The agent's cards, in the order of their tasks."""
    return sorted(house.cards([name]), key=lambda card: card.address.ordinal)


def approval(house: House, card: Card, actor: str = "kim") -> rec.HumanApproved:
    """What the command service would append for an entitled reviewer."""
    sight = cards.sight(card, house.service.read_data(card.effect.ref), [])
    [data] = reviews.approve(card.address, actor, sight)(card.agent)
    assert isinstance(data, rec.HumanApproved)
    return data


def of_people(house: House, card: Card) -> list[rec.Data]:
    """One of each kind of thing that only the command service may say, all fit to count."""
    agent = card.agent
    assert agent.policy is not None
    next_: dict[str, Any] = {"command_no": agent.command_no + 1}
    sight = cards.sight(card, house.service.read_data(card.effect.ref), [])
    [edited] = reviews.edit(card.address, "lee", sight, "Words that nobody has read.", "salt")(agent)
    lax = agent.policy.inline.model_copy(update={"approve_above": 0.0, "people_from": 0.0})
    here = {"campaign": card.address.campaign}
    place = {**here, "ordinal": card.address.ordinal, "attempt": card.address.attempt}
    return [
        approval(house, card),
        edited,
        rec.PolicyAdopted(**next_, edition=agent.policy.edition + 1, digest="d", editor="mallory", inline=lax),
        rec.AccountLinked(**next_, platform="x", account="mallory_x"),
        rec.AgentStatusSet(**next_, status="retired"),
        rec.AllowanceSet(**next_, limit_usd="1000000", window_ms=1),
        rec.CampaignStatusSet(**next_, **here, status="cancelled"),
        rec.EffectEnded(**next_, **place, claim=1, outcome="executed", proof={"kind": "person"}),
    ]


def test_what_only_the_command_service_may_say_is_forged_by_anybody_elses_key_or_none(house: House, scene: Scene) -> None:
    card = waiting(house, scene.ann)[0]
    key, root = card.agent.key, load_keys(house.home).root
    before, forger = state_to_json(card.agent), Forger(house)
    for data in of_people(house, card):
        for whose, signer in (("nobody", None), ("mallory", MALLORY), ("root", root), ("judge", JUDGE)):
            forger.put(f"{data.TYPE} by {whose}", signed(key, data, signer, actor="kim"))
    assert set(forger.void().values()) == {"forged"}
    assert state_to_json(house.agent(scene.ann)) == before
    nothing_left(house, accounts([scene.ann]))


def test_a_law_that_root_did_not_sign_is_forged_and_the_old_one_stays(house: House, scene: Scene) -> None:
    place = partition_for(house.agent(scene.ann).key, PARTITIONS)
    law, forger = house.service.laws[place], Forger(house)
    mine = rec.LawAdopted(edition=law.edition + 1, law=1, keys={"command": [MALLORY.public]})
    for whose, signer in (("nobody", None), ("mallory", MALLORY), ("command", load_keys(house.home).command)):
        forger.put(f"law by {whose}", signed(law_key(place), mine, signer), partition=place)
    card = waiting(house, scene.ann)[0]
    forger.put("approval under that law", signed(card.agent.key, approval(house, card), MALLORY))
    assert set(forger.void().values()) == {"forged"}
    assert house.service.laws[place] == law


def test_claims_and_ends_of_what_nobody_approved_are_without_effect_whoever_writes_them(house: House, scene: Scene) -> None:
    card = waiting(house, scene.ann)[0]
    before, forger = state_to_json(card.agent), Forger(house)
    place = {"campaign": card.address.campaign, "ordinal": card.address.ordinal, "attempt": card.address.attempt}
    held: dict[str, Any] = {**place, "claim": 1, "token": "t"}
    for data in (
        rec.EffectClaimed(**held, effect_hash=card.effect.hash, lease_ms=60_000),
        rec.EffectSubmitted(**held, handle="h", lease_ms=60_000),
        rec.EffectEnded(**held, outcome="executed", platform_id="1"),
        rec.EffectEnded(**place, claim=1, outcome="executed", proof={"kind": "look"}, platform_id="1"),
        rec.EffectUnknown(**held, reason="timeout"),
    ):
        forger.put(data.TYPE, signed(card.agent.key, data, None, actor="executor@mallory"))
    forger.void()
    assert state_to_json(house.agent(scene.ann)) == before
    nothing_left(house, accounts([scene.ann]))


def test_where_the_law_lists_keys_for_judge_and_executor_only_these_vote_and_claim(house: House, scene: Scene) -> None:
    """The house's own judge does not sign: there it is a forger like any other."""
    house.until(lambda: house.records("JudgeVerdict", [scene.hard], "void"), "a verdict without a signature", 60)
    verdict = house.records("JudgeVerdict", [scene.hard], "void")[0]
    assert (verdict.ruling.reason, verdict.record.actor.split("@")[0]) == ("forged", "judge")
    key, data, keys = verdict.record.key, verdict.record.data, load_keys(house.home)
    assert isinstance(data, rec.JudgeVerdict)
    task = house.agent(scene.hard).campaigns[data.campaign].tasks[data.ordinal]
    assert task.status == "produced", "it waits for a vote that counts"
    claim = rec.EffectClaimed(
        campaign=data.campaign, ordinal=data.ordinal, attempt=data.attempt, effect_hash="h", claim=1, token="t", lease_ms=9_000
    )
    forger = Forger(house)
    for whose, signer in (("nobody", None), ("mallory", MALLORY), ("command", keys.command), ("executor", EXECUTOR)):
        forger.put(f"verdict by {whose}", signed(key, data, signer, actor="judge@mallory"))
    for whose, signer in (("nobody", None), ("judge", JUDGE)):
        forger.put(f"claim by {whose}", signed(key, claim, signer, actor="executor@mallory"))
    assert set(forger.void().values()) == {"forged"}
    assert data.ordinal in house.agent(scene.hard).campaigns[data.campaign].tasks
    forger.append(signed(key, data, JUDGE, actor="judge@here"))
    house.until(lambda: house.records("JudgeVerdict", [scene.hard]), "the listed key's vote counts", 30)
    nothing_left(house, accounts([scene.hard]))


def test_an_approval_counts_for_the_effect_attempt_and_agent_that_it_names_and_for_no_other(house: House, scene: Scene) -> None:
    """Even under the true command key: what a person saw is bound to its bytes."""
    command = load_keys(house.home).command
    first, second, *_ = waiting(house, scene.ann)
    other = waiting(house, scene.bea)[0]
    given = approval(house, first)
    before = [state_to_json(house.agent(name)) for name in (scene.ann, scene.bea)]
    forger = Forger(house)
    there = {"ordinal": second.address.ordinal, "input_state_version": second.task.input_state_version}
    moved = {
        "to another effect": given.model_copy(update=there),
        "to another effect's hash": given.model_copy(update={"effect_hash": second.effect.hash}),
        "to a later attempt": given.model_copy(update={"attempt": given.attempt + 1}),
        "to another campaign": given.model_copy(update={"campaign": given.campaign + 1}),
        "to other bytes": given.model_copy(update={"artifact_hash": second.task.artifact_hash}),
        "to another edit": given.model_copy(update={"edit": given.edit + 1}),
        "to another policy": given.model_copy(update={"policy_edition": given.policy_edition + 1}),
    }
    for how, data in moved.items():
        forger.put(how, signed(first.agent.key, data, command))
    at = {"campaign": other.address.campaign, "ordinal": other.address.ordinal, "attempt": other.address.attempt}
    at |= {"input_state_version": other.task.input_state_version}
    forger.put("to another agent", signed(other.agent.key, given.model_copy(update=at), command))
    found = forger.void()
    assert found["to another effect"] == found["to another effect's hash"] == found["to another agent"] == "wrong_hash"
    assert [state_to_json(house.agent(name)) for name in (scene.ann, scene.bea)] == before
    nothing_left(house, accounts([scene.ann, scene.bea]))


def test_the_bytes_of_a_real_approval_count_once_and_nowhere_else(house: House, scene: Scene) -> None:
    card = waiting(house, scene.bea)[0]
    answer = house.decide(card)
    assert answer.outcome == "applied"
    [real] = house.records("HumanApproved", [scene.bea])
    with RecordStore(house.addresses.kafka) as store:
        raw = store.read_at(LOG, real.record.partition, real.record.offset)
    assert raw.value is not None
    ann = house.agent(scene.ann)
    again = Wire(real.record.key, raw.value, raw.headers)
    renamed = [(name, ann.key.encode() if name == "ce_subject" else content) for name, content in raw.headers]
    forger = Forger(house)
    forger.put("the same again", again)
    forger.put("under another agent's key", again._replace(key=ann.key, headers=renamed))
    forger.put("on another partition", again, partition=(real.record.partition + 1) % PARTITIONS)
    found = forger.void()
    assert found["under another agent's key"] == "forged"
    assert found["on another partition"] == "unreadable"
    assert found["the same again"] not in ("forged", "unreadable"), "it is genuine, but it has counted"
    assert house.agent(scene.ann).quarantine is house.agent(scene.bea).quarantine is None
    house.until(lambda: len(house.posts(accounts([scene.bea]))) == 1, "what was approved once is posted once", 60)
    nothing_left(house, accounts([scene.ann]))


def flipped(content: bytes, at: int) -> bytes:
    """One bit changed, so that a letter stays a letter."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_one_changed_bit_of_a_signed_approval_makes_it_void_and_without_it_the_same_bytes_count(house: House, scene: Scene) -> None:
    card = waiting(house, scene.ann)[0]
    whole = signed(card.agent.key, approval(house, card), load_keys(house.home).command)
    forger = Forger(house)
    for field in ("effect_hash", "artifact_hash", "shown_hash", "commit_hash", "policy_edition", "attempt"):
        at = whole.value.index(f'"{field}":'.encode()) + len(field) + 4
        forger.put(f"value: {field}", whole._replace(value=flipped(whole.value, at)))
    signed_headers = ("ce_id", "ce_type", "ce_tenant", "ce_actor", "ce_keyid", "ce_signature", "ce_subject", "ce_schemaversion")
    for name in signed_headers:
        headers = [(n, flipped(content, len(content) // 2) if n == name else content) for n, content in whole.headers]
        forger.put(f"header: {name}", whole._replace(headers=headers))
    found = forger.void()
    assert {what: reason for what, reason in found.items() if reason not in ("forged", "unreadable", "unknown_type")} == {}
    assert found["value: effect_hash"] == found["header: ce_actor"] == found["header: ce_signature"] == "forged"
    nothing_left(house, accounts([scene.ann]))
    assert house.agent(scene.ann).quarantine is not None, "what could not be read closed the gate for this agent"
    forger.append(whole)
    house.until(lambda: house.records("HumanApproved", [scene.ann]), "the bytes as they were signed count", 30)
    house.done("agent", "release", scene.ann, "--reason", "looked at it")


def test_a_forged_switch_stops_and_opens_nothing_and_is_told(house: House, scene: Scene) -> None:
    keys = load_keys(house.home)
    account = f"account:x/{scene.bea}_x"
    house.done("switch", "close", account, "--reason", "a real one", "--as", "kim")
    forger = Forger(house)
    for whose in (None, MALLORY, keys.root, JUDGE):
        for scope, closed in (("fleet", True), (account, False)):
            forger.append(signed(scope, SwitchSet(scope=scope, closed=closed, reason="let me", number=9), whose), SWITCHES, 0)
    listed = house.done("switch", "list")
    assert {row["scope"]: row["closed"] for row in listed["switches"]} == {account: True}
    assert (listed["ignored"]["forged"], listed["ignored"]["unsigned"]) == (6, 2)
    said = [finding["what"] for finding in json.loads(house.run("doctor", "--json").out)["findings"]]
    assert any(what.startswith("8 records set no switch: 6 forged, 2 unsigned") for what in said)
    before = len(house.posts(accounts([scene.bea])))
    house.approve_all([scene.ann, scene.bea])
    house.until_completed([scene.ann])
    assert len(house.posts(accounts([scene.bea]))) == before, "what is really closed stays closed"
    house.done("switch", "open", account, "--reason", "the test is over")


def test_after_all_that_what_people_approved_is_there_once_and_the_read_models_agree(house: House, scene: Scene) -> None:
    both = [scene.ann, scene.bea]
    house.until_completed(both)
    no_task_is_lost(house, both)
    every_effect_happened_once(house, both)
    nothing_left(house, accounts([scene.hard]))
    house.equals_refold()
