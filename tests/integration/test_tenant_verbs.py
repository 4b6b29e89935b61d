"""What operators ask of a tenant, on a real broker: create it, let agents join, vote on money, look at it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from chimera.commands import courier as courier_module
from chimera.commands import verbs, wiring
from chimera.commands.campaigns import UnknownCampaign
from chimera.commands.courier import Courier
from chimera.commands.decision import NO_CHANGE, Answer, Refused
from chimera.commands.desk import Desk
from chimera.commands.keys import log_topics
from chimera.commands.room import Seen
from chimera.commands.subjects import KEYS, SubjectForgotten, SubjectKeyFiles
from chimera.eventlog.append import Appender
from chimera.eventlog.bulk import Entry
from chimera.eventlog.read import read_until
from chimera.events.envelope import NewRecord, encode
from chimera.events.records import Signal, SignalObserved
from chimera.events.sealed import Forgotten, seal, subject_of, unseal
from chimera.settings import Settings
from tests.integration.ownlog import installed, own_log

SOUL = "---\nname: {name}\nhandles: {{x: {name}_x}}\nvoice: {{tone: [warm]}}\ntopics: [soup]\n---\nCooks.\n"
POLICY = "---\nboardkit: 1\nname: house rules\napprovers: {publish: [kim]}\n---\nBe kind.\n"


@pytest.fixture
def desk(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Desk]:
    name = own_log(kafka_bootstrap, "tenants")
    settings = installed(Settings(home=tmp_path / "home", kafka=kafka_bootstrap), name)
    seen = Seen()
    with wiring.open_service(settings, observe=seen, topic=name) as service:
        yield Desk(service, seen, settings.home)


def enrol(desk: Desk, *agents: tuple[str, str], group: str = "eu", **how: bool) -> dict[str, Answer]:
    return dict(verbs.answers_of(desk.perform(enrolment(*agents, group=group, **how))))


def enrolment(*agents: tuple[str, str], group: str = "eu", **how: bool) -> verbs.Enrol:
    made = [verbs.NewAgent(name=n, soul=SOUL.format(name=n), policy=0, accounts={"x": a}, groups=(group,)) for n, a in agents]
    return verbs.wish(verbs.Enrol, "op", tenant="acme", policies=(POLICY,), agents=tuple(made), **how)


def account(desk: Desk, model: type[verbs.Wish], **fields: object) -> Answer:
    ((_, answer),) = verbs.answers_of(desk.perform(verbs.wish(model, "kim", platform="x", **fields)))  # type: ignore[arg-type]
    return answer


def give(desk: Desk, model: type[verbs.Wish], actor: str = "kim", **fields: object) -> Answer:
    ((name, answer),) = verbs.answers_of(desk.perform(verbs.wish(model, actor, tenant="acme", **fields)))  # type: ignore[arg-type]
    assert name == "acme"
    return answer


def test_a_tenant_takes_its_agents_in_with_groups_and_accounts_and_doing_it_again_changes_nothing(desk: Desk) -> None:
    enrol(desk, ("ava", "a_x"), ("ben", "b_x"))
    with pytest.raises(Refused, match="no tenant 'acme': there is none"):
        desk.perform(verbs.TenantShow(tenant="acme"))
    refused = give(desk, verbs.TenantJoin)
    assert (refused.outcome, "chimera tenant create" in refused.reason) == ("refused", True)
    assert give(desk, verbs.TenantCreate).outcome == "applied"
    assert give(desk, verbs.TenantJoin).records == 4
    for again in (give(desk, verbs.TenantJoin), give(desk, verbs.TenantCreate)):
        assert (again.outcome, again.reason) == ("applied", NO_CHANGE)
    (tenant,) = desk.service.tenants.values()
    assert {m.name: m.groups for m in tenant.members.values()} == {"ava": ("eu",), "ben": ("eu",)}
    assert set(tenant.accounts) == {"x/a_x", "x/b_x"}
    shown = desk.perform(verbs.TenantShow(tenant="acme"))
    assert (shown["members"], shown["accounts"], shown["copies_owed"]) == (2, 2, 2)


def test_two_agents_of_one_account_are_not_both_let_in(desk: Desk) -> None:
    enrol(desk, ("ava", "same"), ("ben", "same"))
    give(desk, verbs.TenantCreate)
    refused = give(desk, verbs.TenantJoin)
    assert refused.outcome == "refused"
    assert "account 'same' of 'ben' belongs to agent 'ava' already" in refused.reason
    assert give(desk, verbs.TenantJoin, names=("ava",)).outcome == "applied"
    assert give(desk, verbs.TenantJoin, names=("ben",)).outcome == "refused"


def test_a_budget_and_a_payee_take_the_votes_of_those_who_may(desk: Desk) -> None:
    give(desk, verbs.TenantCreate, finance=("kim", "lee"), people=2)
    assert give(desk, verbs.TenantBudget, scope="day", limit_usd=Decimal("2.5")).outcome == "applied"
    assert give(desk, verbs.TenantBudget, scope="day", limit_usd=Decimal("2.5")).reason == "duplicate"
    assert give(desk, verbs.TenantBudget, "sam", scope="day", limit_usd=Decimal("2.5")).reason == "not_entitled"
    shown = desk.perform(verbs.TenantShow(tenant="acme"))
    assert (shown["budgets"], shown["votes"]) == ([], [{"on": "budget/day", "name": "budget/day", "by": ["kim"], "needs": 2}])
    assert give(desk, verbs.TenantBudget, "lee", scope="day", limit_usd=Decimal("2.50")).outcome == "applied"
    give(desk, verbs.TenantPayee, verb="tenant.allow", payee="ads")
    give(desk, verbs.TenantPayee, "lee", verb="tenant.allow", payee="ads")
    shown = desk.perform(verbs.TenantShow(tenant="acme"))
    money = {"limit_usd": "2.50", "reserved_usd": "0", "spent_usd": "0", "left_usd": "2.50"}
    assert shown["budgets"] == [{"scope": "day", "name": "day", **money}]
    assert (shown["payees"], shown["votes"]) == ({"ads": "new"}, [])
    give(desk, verbs.TenantPayee, verb="tenant.forbid", payee="ads")
    assert desk.perform(verbs.TenantShow(tenant="acme"))["payees"] == {}
    for scope in ("week", "campaign/", "agent"):
        with pytest.raises(Refused, match="no scope of a budget: use tenant, day, campaign/<id> or agent/<name>"):
            give(desk, verbs.TenantBudget, scope=scope, limit_usd=Decimal(1))


def test_an_account_is_one_agents_with_a_credential_and_what_the_platform_says_of_it_until_it_is_unlinked(desk: Desk) -> None:
    enrol(desk, ("ava", "a_x"), ("ben", "b_x"))
    give(desk, verbs.TenantCreate)
    no_member = account(desk, verbs.AccountLink, agent="ava", account="a_x")
    assert (no_member.outcome, "chimera tenant join acme" in no_member.reason) == ("refused", True)
    give(desk, verbs.TenantJoin)
    link = {"agent": "ava", "account": "a_x", "secret_ref": "env:AVA", "expires_ts": 5_000}
    assert account(desk, verbs.AccountLink, **link).records == 1
    assert account(desk, verbs.AccountLink, **link).reason == NO_CHANGE
    assert account(desk, verbs.AccountLink, agent="ava", account="a_x", expires_ts=9_000).records == 1
    for fields, why in (
        ({"agent": "ben", "account": "a_x"}, "belongs to agent 'ava'"),
        ({"agent": "ava", "account": "c_x"}, "chimera account unlink x/a_x"),
    ):
        refused = account(desk, verbs.AccountLink, **fields)
        assert (refused.outcome, why in refused.reason) == ("refused", True), refused

    def row() -> dict[str, object]:
        (found,) = [each for each in desk.perform(verbs.AccountList())["accounts"] if each["account"] == "a_x"]
        return found

    said = {"tenant": "acme", "account": "a_x", "secret_ref": "env:AVA", "mode": "live"}
    assert row()["verdict"] == "never_asked"
    for found, verdict in (("@A_X", "confirmed"), ("mallory", "somebody_else"), ("", "not_told")):
        assert account(desk, verbs.AccountSaid, **said, found=found).outcome == "applied"
        assert row()["verdict"] == verdict
    shown = row()
    assert (shown["agent"], shown["secret_ref"], shown["expires_ts"], shown["claimed"]) == ("ava", "env:AVA", 9_000, True)
    assert account(desk, verbs.AccountLink, agent="ava", account="a_x", secret_ref="env:NEW").outcome == "applied"
    stale = account(desk, verbs.AccountSaid, **said, found="a_x")
    assert (stale.outcome, "verify it again" in stale.reason) == ("refused", True), "it was asked with the old credential"
    assert row()["verdict"] == "never_asked"
    assert account(desk, verbs.AccountUnlink, account="a_x").outcome == "applied"
    assert account(desk, verbs.AccountLink, agent="ben", account="a_x").outcome == "refused", "ben has one on x"
    with pytest.raises(verbs.BadVerb):
        verbs.wish(verbs.AccountLink, "kim", agent="ava", platform="x", account="a_x", secret_ref="the secret itself")


def test_an_account_that_no_tenant_keeps_is_shown_as_such_and_can_be_unlinked(desk: Desk) -> None:
    enrol(desk, ("ava", "a_x"))
    (row,) = desk.perform(verbs.AccountList())["accounts"]
    assert (row["claimed"], row["agent"], row["verdict"]) == (False, "ava", "never_asked")
    assert account(desk, verbs.AccountUnlink, account="a_x").outcome == "applied"
    assert desk.perform(verbs.AccountList())["accounts"] == []
    with pytest.raises(Refused, match="nobody acts as x/a_x"):
        account(desk, verbs.AccountUnlink, account="a_x")


def test_enrolling_where_there_is_a_tenant_is_joining_it_and_enrolling_again_changes_nothing(desk: Desk) -> None:
    give(desk, verbs.TenantCreate)
    plan = desk.perform(enrolment(("ava", "a_x"), ("ben", "b_x"), dry_run=True))["plan"]
    assert plan[0] == {"agent": "tenant acme", "would_append": ["AgentJoined"] * 2 + ["AccountClaimed"] * 2}
    assert "AccountLinked" in plan[1]["would_append"], "a new agent may be given work at once"
    assert enrol(desk, ("ava", "a_x"), ("ben", "b_x"))["tenant acme"].records == 4
    again = enrol(desk, ("ava", "a_x"), ("ben", "b_x"), group="us")
    assert {name: answer.records for name, answer in again.items()} == {"ava": 0, "ben": 0}, "groups change by --update alone"
    (tenant,) = desk.service.tenants.values()
    assert {m.name: m.groups for m in tenant.members.values()} == {"ava": ("eu",), "ben": ("eu",)}
    changed = enrol(desk, ("ava", "new_x"), group="us", update=True)
    assert {name: answer.records for name, answer in changed.items()} == {"tenant acme": 3, "ava": 0}
    assert tenant.accounts.keys() == {"x/new_x", "x/b_x"}
    assert [copy.what for copy in tenant.owed[next(iter(tenant.members))]] == ["AccountLinked", "AccountUnlinked", "AccountLinked"]


def test_who_wants_an_account_that_is_anothers_is_not_enrolled_and_stops_nobody_else(desk: Desk) -> None:
    give(desk, verbs.TenantCreate)
    enrol(desk, ("ava", "a_x"))
    told = desk.perform(enrolment(("ben", "a_x"), ("cem", "c_x"), dry_run=True))
    assert [row["agent"] for row in told["plan"]] == ["tenant acme", "cem"]
    assert told["refused"][0]["agent"] == "ben"
    answers = enrol(desk, ("ben", "a_x"), ("cem", "c_x"))
    assert {name: answer.outcome for name, answer in answers.items()} == {
        "tenant acme": "applied",
        "cem": "applied",
        "ben": "refused",
    }
    assert "belongs to agent 'ava' already" in answers["ben"].reason
    assert {agent.name for agent in desk.service.agents.values()} == {"ava", "cem"}


BRIEF = {
    "name": "Autumn Days",
    "goal": "be read by many",
    "audience": "everybody",
    "key_messages": ["tea is warm"],
    "feeds": ["https://feeds.example/autumn.xml"],
    "formats": [{"platform": "x", "format": "post"}],
}
"""Of a campaign `autumn-days`."""


def carry(desk: Desk, most: int = 1_000) -> int:
    """A courier's work until nothing is owed, or so many records."""
    courier, carried = Courier(), 0
    try:
        while carried < most and (some := courier.step(desk.service)):
            carried += some
            desk.service.catch_up()
    finally:
        courier.close()
    return carried


def show(desk: Desk) -> tuple[dict[str, object], list[str]]:
    """What is told of the tenant's campaign, and the status of each agent's."""
    found = desk.perform(verbs.CampaignShow(campaign="autumn-days"))
    (told,) = found["tenants"]
    return told, sorted(f"{row['agent']} {row['status']} {row['brief_edition']}" for row in found["agents"])


def answers(desk: Desk, wish: verbs.Wish) -> dict[str, tuple[str, str]]:
    given = verbs.answers_of(desk.perform(wish))  # type: ignore[arg-type]
    return {name: (answer.outcome, answer.reason) for name, answer in given}


def test_a_tenants_campaign_reaches_its_group_by_copies_and_it_is_told_who_has_not_heard(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(desk, verbs.TenantCreate)
    enrol(desk, ("ava", "a_x"), ("ben", "b_x"), ("cem", "c_x"))
    enrol(desk, ("dov", "d_x"), group="us")
    carry(desk)

    def opening(**fields: object) -> verbs.CampaignStart:
        return verbs.wish(verbs.CampaignStart, "kim", brief=BRIEF, **{"tenant": "acme", "group": "eu", **fields})

    assert list(desk.perform(opening(dry_run=True))["plan"]) == ["ava", "ben", "cem"]
    for wrong, why in (
        ({"group": "asia"}, "no member of tenant 'acme' is in group 'asia'"),
        ({"tenant": "none"}, "there are acme"),
    ):
        with pytest.raises(Refused, match=why):
            desk.perform(opening(**wrong))
    assert answers(desk, opening()) == {"tenant acme": ("applied", "")}
    assert answers(desk, opening()) == {"tenant acme": ("applied", NO_CHANGE)}
    told, rows = show(desk)
    assert (told["told"], told["delivered"], told["owed"], rows) == (3, 0, 3, [])
    monkeypatch.setattr(courier_module, "BATCH", 1)
    carry(desk, 1)  # and there its process ends
    told, rows = show(desk)
    assert (told["told"], told["delivered"], told["owed"], len(rows)) == (3, 1, 2, 1)
    assert [(row["owed"], row["since_ts"] > 0) for row in told["laggards"]] == [(["CampaignStarted"], True)] * 2  # type: ignore[attr-defined]
    monkeypatch.setattr(courier_module, "BATCH", 500)
    carry(desk)
    told, rows = show(desk)
    assert (told["delivered"], told["laggards"]) == (3, [])
    assert rows == ["ava running 1", "ben running 1", "cem running 1"]

    pause = verbs.wish(verbs.CampaignStatus, "kim", verb="campaign.pause", campaign="autumn-days")
    assert answers(desk, pause) == {"tenant acme": ("applied", "")}
    change = verbs.wish(verbs.CampaignChange, "kim", campaign="autumn-days", brief=BRIEF | {"goal": "be loved by many"})
    assert answers(desk, change) == {"tenant acme": ("applied", "")}
    same = verbs.wish(verbs.CampaignChange, "kim", campaign="autumn-days", brief=BRIEF | {"goal": "be loved by many"})
    assert answers(desk, same) == {"tenant acme": ("applied", NO_CHANGE)}
    enrol(desk, ("eda", "e_x"))
    carry(desk)
    told, rows = show(desk)
    assert rows == [f"{name} paused 2" for name in ("ava", "ben", "cem", "eda")], "who comes later hears all of it"
    assert (told["status"], told["brief_edition"], told["told"], told["delivered"]) == ("paused", 2, 4, 4)

    cancel = verbs.wish(verbs.CampaignStatus, "kim", verb="campaign.cancel", campaign="autumn-days", reason="over")
    assert answers(desk, cancel) == {"tenant acme": ("applied", "")}
    told, _ = show(desk)
    assert (told["status"], told["told"], told["owed"]) == ("cancelled", 0, 4)
    carry(desk)
    assert answers(desk, cancel)["tenant acme"][1] == "applied before"
    found = desk.perform(verbs.CampaignShow(campaign="autumn-days"))
    assert (found["tenants"], {row["status"] for row in found["agents"]}) == ([], {"closed"})


def test_a_command_on_a_tenants_campaign_also_means_agents_that_have_it_on_their_own_and_with_names_only_those(desk: Desk) -> None:
    give(desk, verbs.TenantCreate)
    enrol(desk, ("ava", "a_x"), ("ben", "b_x"))
    enrol(desk, ("dov", "d_x"), group="us")
    desk.perform(verbs.wish(verbs.CampaignStart, "kim", brief=BRIEF, tenant="acme", group="eu"))
    desk.perform(verbs.wish(verbs.CampaignStart, "kim", brief=BRIEF, names=("dov",)))
    carry(desk)
    only = verbs.wish(verbs.CampaignStatus, "kim", verb="campaign.pause", campaign="autumn-days", names=("ava",))
    assert answers(desk, only) == {"ava": ("applied", "")}
    every = verbs.wish(verbs.CampaignStatus, "kim", verb="campaign.cancel", campaign="autumn-days")
    assert answers(desk, every) == {"tenant acme": ("applied", ""), "dov": ("applied", "")}
    with pytest.raises(verbs.BadVerb, match="a tenant's campaign is for all its members"):
        desk.perform(verbs.wish(verbs.CampaignStart, "kim", brief=BRIEF, tenant="acme", names=("ava",)))
    carry(desk)
    with pytest.raises(UnknownCampaign):
        desk.perform(verbs.wish(verbs.CampaignStatus, "kim", verb="campaign.pause", campaign="autumn-days"))


def test_a_budget_of_an_agent_is_set_by_name_and_the_only_tenant_need_not_be_named(desk: Desk) -> None:
    with pytest.raises(Refused, match="no tenant: there is none"):
        desk.perform(verbs.TenantShow())
    give(desk, verbs.TenantCreate)
    enrol(desk, ("ava", "a_x"))
    ((_, set_),) = verbs.answers_of(desk.perform(verbs.wish(verbs.TenantBudget, "kim", scope="agent/ava", limit_usd=Decimal(3))))
    assert set_.outcome == "applied"
    (budget,) = desk.perform(verbs.TenantShow())["budgets"]
    assert (budget["name"], budget["left_usd"]) == ("agent/ava", "3")
    assert give(desk, verbs.TenantBudget, scope=budget["scope"], limit_usd=Decimal(3)).reason == NO_CHANGE
    with pytest.raises(Refused, match="no member of tenant 'acme' is called 'avva': did you mean ava"):
        give(desk, verbs.TenantBudget, scope="agent/avva", limit_usd=Decimal(3))
    desk.perform(verbs.wish(verbs.TenantCreate, "kim", tenant="other"))
    with pytest.raises(Refused, match="there are acme, other: say --tenant"):
        desk.perform(verbs.wish(verbs.TenantPayee, "kim", verb="tenant.allow", payee="ads"))


SENTINEL = "zq-the-words-of-mallory"


def hear(desk: Desk, agent: str, number: int = 1) -> None:
    """Mallory says something to the agent: a worker's record, with its words sealed."""
    keys, known = SubjectKeyFiles(desk._room.home / KEYS), desk.service.agents
    (found,) = [each for each in known.values() if each.name == agent]
    person = subject_of("acme", "x", "Mallory")
    author, text = seal(keys, person, "Mallory"), seal(keys, person, SENTINEL)
    signal = Signal(thread=f"x:{number}", external_id=str(number), author=author, text=text, observed_at=1)
    data = SignalObserved(source="x/social.mentions", number=number, cursor=str(number), items=[signal])
    new = NewRecord(found.key, data, "acme", "worker@test", "2026-01-01T00:00:00Z", str(uuid.uuid4()))
    with Appender(desk.service.bootstrap, log_topics(desk.service.topic), "worker") as appender:
        wire = encode(new)
        appender.append_many([Entry(desk.service.topic, wire.key, wire.value, wire.headers)])
    desk.service.catch_up()


def test_a_person_who_is_forgotten_can_be_read_in_no_agents_log_and_is_kept_by_nobody_again(desk: Desk) -> None:
    home = desk._room.home
    keys = SubjectKeyFiles(home / KEYS)
    person = subject_of("acme", "x", "mallory")
    give(desk, verbs.TenantCreate)
    enrol(desk, ("ava", "a_x"), ("ben", "b_x"))
    for agent in ("ava", "ben"):
        hear(desk, agent)
    said = [item for agent in desk.service.agents.values() for ref in agent.heard for item in desk.service.read_data(ref).items]  # type: ignore[attr-defined]
    assert [unseal(keys, item.text) for item in said] == [SENTINEL] * 2
    secret = keys.known_key(person)
    assert secret is not None

    wish = {"tenant": "acme", "subject": person, "reason": "asked for it"}
    look = desk.perform(verbs.wish(verbs.PrivacyForget, "kim", **wish, dry_run=True))
    assert (look["key"], keys.known_key(person)) == ("there", secret), "a dry run destroys nothing"
    done = desk.perform(verbs.wish(verbs.PrivacyForget, "kim", **wish))
    assert (verbs.answers_of(done)[0][1].outcome, done["key"]) == ("applied", "gone")
    for item in said:
        for sealed in (item.text, item.author):
            with pytest.raises(Forgotten):
                unseal(keys, sealed)
    for file in home.rglob("*"):
        if file.is_file():
            assert secret not in file.read_bytes(), f"{file} still holds the key"
    told = b"".join(
        raw.value or b"" for batch in read_until(desk.service.bootstrap, desk.service.topic, range(24)) for raw in batch
    )
    assert b"mallory" not in told.lower(), "the log never held a name or a word in clear"
    assert SENTINEL.encode() not in told
    with pytest.raises(SubjectForgotten):
        hear(desk, "ava", 2)
    with pytest.raises(verbs.BadVerb):
        verbs.wish(verbs.PrivacyForget, "kim", tenant="acme", subject="x/mallory", reason="a handle is no pseudonym")
