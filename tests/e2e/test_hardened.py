"""A hardened installation: judge, executor and courier sign what they decide, and nobody else decides in their place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chimera.commands.keys import key_path, read_key
from chimera.events.records import CopiesDelivered
from tests.e2e.house import House, Seen, accounts

ROLES = ("judge", "executor", "courier")


@pytest.fixture
def hardened(house: House) -> Iterator[dict[str, str]]:
    """Role -> id of the key that its records must be signed with. Taken back afterwards: others forge on the same log."""
    made = {role: str(house.done("keys", "harden", role)["new"]) for role in ROLES}
    yield made
    for role in ROLES:
        house.done("keys", "soften", role)
    house.service.catch_up()
    assert {tuple(law.keys) for law in house.service.laws.values()} == {("command",)}


def test_roles_whose_keys_the_law_lists_sign_and_the_swarm_works_on(house: House, hardened: dict[str, str]) -> None:
    # given the law in every partition lists a key of each role, and each lies in a private file
    house.service.catch_up()
    for law in house.service.laws.values():
        assert {role: law.keys[role] for role in ROLES} == {role: frozenset({id_}) for role, id_ in hardened.items()}
    assert {role: read_key(key_path(house.home, role)).id for role in ROLES} == hardened
    assert house.done("keys", "harden", "judge")["partitions"] == 0, "asking again does nothing"

    # when agents work under it, no process having been restarted
    names = house.enrol("harda", 2, tenant="sealed")  # of its own: its editions reach nobody else here
    house.start(house.brief("Signed and sealed", 2), names)
    house.until_completed(names)

    # then what they decided is signed by their own keys, and it went out
    judged, claimed, ended = (house.records(type_, names) for type_ in ("JudgeVerdict", "EffectClaimed", "EffectEnded"))
    assert {seen.record.signed_by for seen in judged} == {hardened["judge"]}
    assert {seen.record.signed_by for seen in claimed + ended} == {hardened["executor"]}
    assert len(house.posts(accounts(names))) == 4

    # and so are the copies between streams: the editions that a tenant publishes reach its agents
    house.done("tenant", "create", "sealed", "--as", "dora")
    house.done("tenant", "join", "sealed", *names, "--as", "dora")
    house.done("policy", "publish", house.home / "files" / "harda" / "AGENTS.md", "--tenant", "sealed", "--as", "dora")
    house.until(lambda: len(house.records("PolicyAdopted", names)) == 4, "both adopted the published edition")
    house.until(lambda: len(_delivered_to(house, names)) > 0, "a copy is delivered")
    carried = [seen for seen in house.records("PolicyAdopted", names) if getattr(seen.record.data, "copied", None)]
    assert {seen.record.signed_by for seen in carried + _delivered_to(house, names)} == {hardened["courier"]}

    # and a rotation needs no restart either: the new key signs, the old one can be dropped
    rotated = house.done("keys", "rotate", "judge")
    house.until(lambda: all(each["signs"] == {"judge": rotated["new"]} for each in house.serving("brain")), "it is taken up", 30)
    house.start(house.brief("Signed anew", 1), names[:1])
    house.until_completed(names[:1])
    assert {seen.record.signed_by for seen in house.records("JudgeVerdict", names[:1])[-1:]} == {rotated["new"]}
    assert house.done("keys", "drop", hardened["judge"])["old"] == hardened["judge"]
    refused = house.run("keys", "drop", rotated["new"])
    assert refused.code == 1
    assert "signs for the judge now" in refused.out


def _delivered_to(house: House, names: list[str]) -> list[Seen]:
    """Copies that these agents took in. Those of other tests in this house went out before the law asked for a courier's key."""
    keys = {agent.key for agent in house.agents(names)}
    delivered = house.records("CopiesDelivered")
    return [seen for seen in delivered if isinstance(seen.record.data, CopiesDelivered) and seen.record.data.target in keys]


def test_when_the_law_asks_no_more_the_courier_signs_as_before_it_did(house: House) -> None:
    names = ["harda0", "harda1"]
    before = len(house.records("PolicyAdopted", names))
    text = (house.home / "files" / "harda" / "AGENTS.md").read_text() + "\nSay it in one breath.\n"
    (house.home / "files" / "harda" / "AGENTS.md").write_text(text)
    house.done("policy", "publish", house.home / "files" / "harda" / "AGENTS.md", "--tenant", "sealed", "--as", "dora")
    house.until(lambda: len(house.records("PolicyAdopted", names)) == before + 2, "both adopted it")
    command = house.service.keys.command.id
    assert {seen.record.signed_by for seen in house.records("PolicyAdopted", names)[-2:]} == {command}


def test_a_role_that_never_signs_cannot_be_hardened(house: House) -> None:
    refused = house.run("keys", "harden", "planner")
    assert refused.code == 2
    assert "'planner' is none of judge, executor, courier" in refused.out
