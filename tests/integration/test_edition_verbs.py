"""What a tenant publishes, on a real broker: policies and personas to all, a group, a canary; who has which; the way back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chimera.commands import verbs, wiring
from chimera.commands.courier import Courier
from chimera.commands.decision import NO_CHANGE, Refused
from chimera.commands.desk import Desk
from chimera.commands.room import Seen
from chimera.events.envelope import Record
from chimera.events.state import Ruling
from chimera.policy.boardkit import digest
from chimera.policy.documents import DocumentError
from chimera.settings import Settings
from tests.integration.ownlog import installed, own_log

SOUL = "---\nname: {name}\nvoice: {{tone: [warm]}}\ntopics: [soup]\n---\nCooks.\n"
POLICY = "---\nboardkit: 1\nname: house rules\napprove_above: {above}\napprovers: {{publish: [kim]}}\n---\nBe kind.\n"
FIRST, STRICT, LOOSE = (POLICY.format(above=above) for above in (0.9, 0.95, 0.8))
EU, US = ("ava", "ben"), ("cem", "dea")
DEADLINE_S = 60.0


class House:
    """A desk and the courier beside it, on one service."""

    def __init__(self, desk: Desk, courier: Courier) -> None:
        self.desk, self.courier = desk, courier

    def enrol(self, *names: str, policy: str = FIRST, update: bool = False) -> None:
        made = [verbs.NewAgent(name=n, soul=SOUL.format(name=n), policy=0, groups=("eu" if n in EU else "us",)) for n in names]
        wish = verbs.wish(verbs.Enrol, "op", tenant="acme", policies=(policy,), agents=tuple(made), update=update)
        assert {a.outcome for _, a in verbs.answers_of(self.desk.perform(wish))} == {"applied"}

    def publish(self, text: str, verb: str = "policy.publish", **fields: Any) -> verbs.Reply:
        return self.desk.perform(verbs.wish(verbs.Publish, "eve", verb=verb, text=text, **fields))

    def rollback(self, **fields: Any) -> verbs.Reply:
        return self.desk.perform(verbs.wish(verbs.Rollback, "eve", **fields))

    def standing(self) -> dict[str, tuple[int, str]]:
        rows = self.desk.perform(verbs.PolicyStatus())["members"]
        return {row["agent"]: (row["has"], row["state"]) for row in rows}

    def rules_of(self, name: str) -> str:
        return str(self.desk.perform(verbs.PolicyShow(agent=name))["rules"])

    def carry(self) -> None:
        """Let the courier work until nothing is owed."""
        deadline = time.monotonic() + DEADLINE_S
        while any(tenant.owed for tenant in self.desk.service.tenants.values()):
            assert time.monotonic() < deadline, "copies are still owed"
            self.courier.step(self.desk.service)
            self.desk.service.follow(0.02)


@pytest.fixture
def house(kafka_bootstrap: str, tmp_path: Path) -> Iterator[House]:
    name = own_log(kafka_bootstrap, "editions")
    settings = installed(Settings(home=tmp_path / "home", kafka=kafka_bootstrap), name)
    seen, courier = Seen(), Courier()

    def observe(record: Record, ruling: Ruling) -> None:
        seen(record, ruling)
        courier.note(record, ruling)

    with wiring.open_service(settings, observe=observe, topic=name) as service:
        made = House(Desk(service, seen, settings.home), courier)
        yield made
        courier.close()


@pytest.fixture
def acme(house: House) -> House:
    """A tenant of four members, each with the policy of the fleet file."""
    house.enrol(*EU, *US)
    house.desk.perform(verbs.wish(verbs.TenantCreate, "op", tenant="acme"))
    house.desk.perform(verbs.wish(verbs.TenantJoin, "op", tenant="acme"))
    return house


def test_a_published_policy_reaches_every_member_and_publishing_it_again_changes_nothing(acme: House) -> None:
    told = acme.publish(STRICT)
    assert (told["edition"], told["told"], told["digest"]) == (2, 4, digest(STRICT)), "above what the agents adopted by themselves"
    status = acme.desk.perform(verbs.PolicyStatus(tenant="acme"))
    assert {(row["meant"], row["has"], row["state"]) for row in status["members"]} == {(2, 1, "owed")}
    (edition,) = status["editions"]
    assert (edition["for"], edition["editor"], edition["told"], edition["adopted"]) == ("all", "eve", 4, 0)
    assert {row["since_ts"] for row in status["members"]} == {edition["published_ts"]}
    acme.carry()
    assert set(acme.standing().values()) == {(2, "adopted")}
    assert acme.rules_of("ava") == STRICT
    again = acme.publish(STRICT)
    assert (again["answers"][0]["outcome"], again["answers"][0]["reason"]) == ("applied", NO_CHANGE)
    acme.enrol("ava", policy=STRICT, update=True)
    assert acme.standing()["ava"] == (2, "adopted"), "the fleet file with the same text finds nothing to change"


def test_a_group_gets_its_own_edition_and_a_dry_run_names_who_would(acme: House) -> None:
    planned = acme.publish(STRICT, group="eu", dry_run=True)
    assert (planned["edition"], planned["agents"], planned["members"]) == (2, ["ava", "ben"], 4)
    assert acme.standing()["ava"] == (1, "none published"), "nothing was appended"
    assert acme.publish(STRICT, group="eu")["told"] == 2
    acme.carry()
    assert acme.standing() == dict.fromkeys(EU, (2, "adopted")) | dict.fromkeys(US, (1, "none published"))
    with pytest.raises(Refused, match="no member of tenant 'acme' is in group 'eur': did you mean eu"):
        acme.publish(STRICT, group="eur")


def test_a_canary_reaches_those_that_its_dry_run_named_and_rolling_back_reaches_them_again(acme: House) -> None:
    acme.publish(FIRST)
    acme.carry()
    planned = acme.publish(LOOSE, share_ppm=500_000, dry_run=True)
    assert acme.publish(LOOSE, share_ppm=500_000)["told"] == len(planned["agents"])
    acme.carry()
    assert [name for name in (*EU, *US) if acme.rules_of(name) == LOOSE] == planned["agents"]
    back = acme.rollback()
    assert (back["edition"], back["text_of"], back["told"]) == (4, 2, 4)
    acme.carry()
    assert {acme.rules_of(name) for name in (*EU, *US)} == {FIRST}
    assert acme.desk.perform(verbs.PolicyShow(edition=3))["rules"] == LOOSE, "what was published stays readable"


def test_rolling_back_goes_to_the_text_before_or_to_the_one_that_is_named(acme: House) -> None:
    with pytest.raises(Refused, match="has published no policy"):
        acme.rollback()
    acme.publish(STRICT)
    with pytest.raises(Refused, match="published no other policy to all before"):
        acme.rollback()
    acme.publish(LOOSE)
    acme.publish(FIRST)
    assert acme.rollback(dry_run=True)["agents"] == sorted((*EU, *US))
    assert acme.rollback()["text_of"] == 3
    assert acme.rollback(edition=2)["text_of"] == 2
    assert acme.desk.perform(verbs.PolicyShow())["rules"] == STRICT
    with pytest.raises(Refused, match=r"no policy edition 9: the latest are 2, 3, 4, 5, 6"):
        acme.rollback(edition=9)


def test_an_agent_that_went_its_own_way_is_shown_and_is_overruled_by_publishing_again(acme: House) -> None:
    acme.publish(STRICT)
    acme.carry()
    acme.enrol("ava", policy=LOOSE, update=True)
    assert acme.standing()["ava"] == (3, "its own")
    assert acme.publish(STRICT)["edition"] == 4
    acme.carry()
    assert acme.standing()["ava"] == (4, "adopted")


def test_an_agent_that_took_the_same_number_by_itself_has_not_adopted_what_was_published(acme: House) -> None:
    acme.publish(STRICT)
    acme.enrol("ava", policy=LOOSE, update=True)
    assert acme.standing()["ava"] == (2, "its own"), "before the copy came"
    acme.courier.step(acme.desk.service)
    assert acme.rules_of("ava") == LOOSE
    acme.publish(STRICT)
    acme.carry()
    assert acme.rules_of("ava") == STRICT


def test_a_persona_is_published_likewise(acme: House) -> None:
    text = SOUL.format(name="house voice")
    assert acme.publish(text, "soul.publish", group="us")["told"] == 2
    assert acme.publish(text, "soul.publish", group="us")["answers"][0]["reason"] == NO_CHANGE
    acme.carry()
    service = acme.desk.service
    souls = {a.name: getattr(service.read_data(a.soul), "soul", "") for a in service.agents.values() if a.soul is not None}
    assert [name for name, soul in sorted(souls.items()) if soul == text] == ["cem", "dea"]


@pytest.mark.parametrize(
    ("text", "verb", "where"),
    [
        (STRICT.replace("0.95", "0.5"), "policy.publish", "people_from is above approve_above"),
        (STRICT.replace("---\nBe", "lapse_s: 30\n---\nBe"), "policy.publish", "raise lapse_s"),
        (SOUL.format(name="x"), "policy.publish", "boardkit"),
        (STRICT, "soul.publish", "voice"),
    ],
)
def test_a_text_that_nobody_could_work_by_is_not_published(acme: House, text: str, verb: str, where: str) -> None:
    with pytest.raises((DocumentError, Refused), match=where):
        acme.publish(text, verb)
    assert set(acme.standing().values()) == {(1, "none published")}


def test_without_a_tenant_or_with_several_the_message_says_what_to_do(house: House) -> None:
    with pytest.raises(Refused, match="chimera tenant create"):
        house.publish(FIRST)
    for name in ("acme", "bolt"):
        house.desk.perform(verbs.wish(verbs.TenantCreate, "op", tenant=name))
    with pytest.raises(Refused, match="there are acme, bolt: say --tenant"):
        house.publish(FIRST)
    with pytest.raises(Refused, match="no tenant 'acne'"):
        house.publish(FIRST, tenant="acne")
