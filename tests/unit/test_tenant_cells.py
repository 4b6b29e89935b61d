"""Every cell of the tenant's table, walked as `test_law_cells` walks the agent's: what counts, and for each guard what does not.

Each record is tried twice: the second is void and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple, cast

import pytest

from chimera.events import records as rec
from chimera.events.fold import fold_tenant
from chimera.events.law import TENANT_TABLE
from chimera.events.state import Ruling
from chimera.events.state_codec import tenant_from_json
from chimera.events.tenant import DAY_MS, Credential, Tenant
from tests.histories import INLINE
from tests.tenant_histories import (
    AVA,
    BEN,
    KEY,
    MIDNIGHT,
    POLICY,
    TENANT,
    TenantLog,
    fold_all,
    funds,
    record,
    rich,
    settled,
    snapshot,
)

FINANCE = INLINE.model_copy(update={"approvers": {"financial": ["ann", "bob", "eve"]}, "people": {"financial": 2}})
AVAS: dict[str, Any] = {"platform": "x", "account": "@ava"}
TODAY = MIDNIGHT // DAY_MS - 1


class Then(NamedTuple):
    ruling: Ruling
    state: Tenant | None

    @property
    def said(self) -> tuple[str, str]:
        return self.ruling.outcome, self.ruling.reason

    @property
    def changes(self) -> str:
        return " ".join(f"{c.what}:{c.status}" for c in self.ruling.changes)

    def owed(self, agent: str) -> list[tuple[str, str, str]]:
        """(what, answer, reason) of the copies owed to an agent."""
        assert self.state is not None
        return [(copy.what, copy.answer, copy.reason) for copy in self.state.owed.get(agent, [])]


def when(log: TenantLog, said: rec.Data, *, after: int = 1, actor: str = "kim", **how: Any) -> Then:
    """One record on the state after the log; then the same again, which must be void and change nothing."""
    tenant = tenant_from_json(snapshot(fold_all(log))) if log.records else None
    before = snapshot(tenant)
    r = replace(record(said, len(log.records), log.now + after, actor=actor), **how)
    tenant, ruling = fold_tenant(log.law, tenant, r)
    now = snapshot(tenant)
    if ruling.outcome == "void":
        assert now == before
    copied = tenant_from_json(now) if now else None
    again, second = fold_tenant(log.law, copied, replace(r, offset=r.offset + 1))
    assert second.outcome == "void"
    assert snapshot(again) == now
    return Then(ruling, tenant)


# --- situations ------------------------------------------------------------------------------------------------------


def _nobody() -> TenantLog:
    return TenantLog()


def _rich() -> TenantLog:
    return rich("10")


def _two_people() -> TenantLog:
    return rich("10", people=2)


def _ruled() -> TenantLog:
    """Budgets and payees take two of ann, bob and eve, who edited the policy."""
    log = _rich()
    log.command(rec.PolicyPublished, **{**POLICY, "inline": FINANCE}, edition=3)
    return log


def _voted() -> TenantLog:
    log = _ruled()
    log.command(rec.BudgetSet, actor="ann", scope="day", limit_usd=Decimal(5))
    log.command(rec.PayeeAllowed, actor="ann", payee="ads")
    return log


def _claimed() -> TenantLog:
    log = _rich()
    log.command(rec.AccountClaimed, agent=AVA, platform="x", account="@ava")
    return log


def _secret() -> TenantLog:
    """Ava's account with a credential, that the platform said is hers."""
    log = _claimed()
    log.command(rec.AccountClaimed, agent=AVA, **AVAS, secret_ref="env:X", expires_ts=5)
    log.command(rec.AccountVerified, **AVAS, secret_ref="env:X", found="@ava", platform_id="7")
    return log


def _payee() -> TenantLog:
    log = _rich()
    log.command(rec.PayeeAllowed, payee="ads")
    return log


def _campaign() -> TenantLog:
    log = _claimed()
    log.command(rec.CampaignOpened, campaign_id="tea", name="tea", brief={}, brief_hash="b")
    return log


def _asked() -> TenantLog:
    log = _payee()
    log.asks(AVA, "6", payee="ads")
    return log


def _waiting() -> TenantLog:
    """6 of 10 are reserved and 6 more are asked for; a day may cost 100."""
    log = _asked()
    log.asks(BEN, "6")
    return log


def _waiting_for_tomorrow() -> TenantLog:
    log = rich("100")
    log.command(rec.BudgetSet, scope="day", limit_usd=Decimal(6))
    log.asks(AVA, "6")
    log.asks(BEN, "6")
    return log


def _stranger_waits() -> TenantLog:
    log = rich("10", BEN)
    log.asks(AVA, "6")
    return log


@cache
def log_of(situation: Callable[[], TenantLog]) -> TenantLog:
    return situation()


Make = Callable[[TenantLog], rec.Data]


def command(model: type[rec.Data], **fields: Any) -> Make:
    def make(log: TenantLog) -> rec.Data:
        number = (log.state["command_no"] if log.states[-1] else 0) + 1
        return model(**{"command_no": number, **fields})

    return make


def plain(data: rec.Data) -> Make:
    return lambda log: data


class Counts(NamedTuple):
    given: Callable[[], TenantLog]
    when: Make
    changes: str
    reason: str = ""
    actor: str = "kim"
    after: int = 1


class Wrong(NamedTuple):
    given: Callable[[], TenantLog]
    when: Make
    reason: str
    actor: str = "kim"
    after: int = 1
    outcome: str = "void"


OPENED: dict[str, Any] = {"name": "n", "brief": {}, "brief_hash": "b"}
BRIEF: dict[str, Any] = {"brief": {}, "brief_hash": "b"}
NEXT_DAY = DAY_MS // 2

COUNTS: dict[str, list[Counts]] = {
    "TenantCreated": [Counts(_nobody, command(rec.TenantCreated), "tenant:created")],
    "BudgetSet": [
        Counts(_rich, command(rec.BudgetSet, scope="day", limit_usd=Decimal(5)), "budget:set"),
        Counts(_two_people, command(rec.BudgetSet, scope="tenant", limit_usd=Decimal(11)), "budget:voted"),
        Counts(_two_people, command(rec.BudgetSet, scope="tenant", limit_usd=Decimal("10.0")), "budget:set", actor="ann"),
        Counts(_voted, command(rec.BudgetSet, scope="day", limit_usd=Decimal("5.00")), "budget:set", actor="bob"),
        Counts(_waiting, command(rec.BudgetSet, scope="tenant", limit_usd=Decimal(12)), "budget:set ledger:held"),
        Counts(_waiting, command(rec.BudgetSet, scope="tenant", limit_usd=Decimal("11.99")), "budget:set"),
    ],
    "PayeeAllowed": [
        Counts(_rich, command(rec.PayeeAllowed, payee="ads"), "payee:allowed"),
        Counts(_voted, command(rec.PayeeAllowed, payee="ads"), "payee:allowed", actor="bob"),
    ],
    "PayeeRemoved": [Counts(_payee, command(rec.PayeeRemoved, payee="ads"), "payee:removed")],
    "AgentJoined": [
        Counts(_nobody_joined := (lambda: rich("10", BEN)), command(rec.AgentJoined, agent=AVA, name="ava"), "member:joined"),
        Counts(_rich, command(rec.AgentJoined, agent=AVA, name="ava", groups=["us"]), "member:joined"),
        Counts(_stranger_waits, command(rec.AgentJoined, agent=AVA, name="ava"), "member:joined ledger:held"),
    ],
    "AgentLeft": [Counts(_campaign, command(rec.AgentLeft, agent=AVA), "account_claim:released member:left")],
    "AccountClaimed": [
        Counts(_rich, command(rec.AccountClaimed, agent=AVA, platform="x", account="@ava"), "account_claim:claimed"),
        Counts(_claimed, command(rec.AccountClaimed, agent=BEN, platform="x", account="@ava"), "", "conflict"),
        Counts(_claimed, command(rec.AccountClaimed, agent=AVA, platform="x", account="@two"), "", "conflict"),
        Counts(_claimed, command(rec.AccountClaimed, agent=AVA, platform="ig", account="@ava"), "account_claim:claimed"),
        Counts(_claimed, command(rec.AccountClaimed, agent=AVA, **AVAS), "", "conflict"),
        Counts(_claimed, command(rec.AccountClaimed, agent=AVA, **AVAS, expires_ts=1), "account_claim:claimed"),
        Counts(_secret, command(rec.AccountClaimed, agent=AVA, **AVAS, secret_ref="file:/y"), "account_claim:claimed"),
        Counts(_secret, command(rec.AccountClaimed, agent=BEN, **AVAS, secret_ref="file:/y"), "", "conflict"),
    ],
    "AccountVerified": [
        Counts(_claimed, command(rec.AccountVerified, platform="x", account="@ava", found="@ava"), "account_claim:verified"),
        Counts(_secret, command(rec.AccountVerified, **AVAS, secret_ref="env:X", reason="unauthorized"), "account_claim:verified"),
    ],
    "AccountReleased": [Counts(_claimed, command(rec.AccountReleased, platform="x", account="@ava"), "account_claim:released")],
    "SubjectForgotten": [Counts(_rich, command(rec.SubjectForgotten, subject="s"), "subject:forgotten")],
    "PolicyPublished": [Counts(_rich, command(rec.PolicyPublished, **POLICY, edition=7), "edition:policy")],
    "SoulPublished": [Counts(_rich, command(rec.SoulPublished, edition=1, digest="s", soul="calm"), "edition:soul")],
    "CampaignOpened": [Counts(_rich, command(rec.CampaignOpened, campaign_id="tea", **OPENED), "tenant_campaign:running")],
    "CampaignChanged": [
        Counts(_campaign, command(rec.CampaignChanged, campaign_id="tea", edition=2, **BRIEF), "tenant_campaign:changed")
    ],
    "TenantCampaignStatusSet": [
        Counts(_campaign, command(rec.TenantCampaignStatusSet, campaign_id="tea", status="paused"), "tenant_campaign:paused"),
        Counts(_campaign, command(rec.TenantCampaignStatusSet, campaign_id="tea", status="cancelled"), "tenant_campaign:cancelled"),
    ],
    "FundsRequested": [
        Counts(_payee, plain(funds(AVA, 1, "10")), "ledger:held"),
        Counts(_payee, plain(funds(AVA, 1, "10.000000000000000001")), "ledger:over_budget"),
        Counts(_payee, plain(funds(AVA, 1, "1", payee="mint")), "ledger:payee"),
        Counts(_payee, plain(funds(AVA, 1, "1", effect_class="financial")), "ledger:payee"),
        Counts(_payee, plain(funds(AVA, 1, "1", effect_class="financial", payee="ads")), "ledger:held"),
        Counts(_asked, plain(funds(BEN, 1, "4")), "ledger:held"),
        Counts(_asked, plain(funds(BEN, 1, "4.01")), "ledger:over_budget"),
        Counts(_nobody_joined, plain(funds(AVA, 1, "1")), "ledger:over_budget"),
        Counts(_asked, plain(funds(AVA, 2, "1")), "", "conflict"),
        Counts(_waiting, plain(funds(BEN, 2, "1")), "", "conflict"),
        Counts(_rich, plain(funds(AVA, 1, "0")), "", "bad_value"),
        Counts(_rich, plain(funds(AVA, 1, "1.0000000000000000001")), "", "bad_value"),
        Counts(_rich, plain(funds("tenant/other", 1, "1")), "", "unknown"),
    ],
    "FundsSettled": [
        Counts(_asked, plain(settled(AVA, 2, "5")), "ledger:settled"),
        Counts(_waiting, plain(settled(AVA, 2, "4")), "ledger:settled ledger:held"),
        Counts(_waiting, plain(settled(AVA, 2, "4.01")), "ledger:settled"),
        Counts(_waiting, plain(settled(BEN, 2, "0")), "ledger:settled"),
        Counts(_rich, plain(settled(AVA, 1, "0")), "", "closed"),
    ],
    "DayOpened": [
        Counts(_waiting_for_tomorrow, plain(rec.DayOpened(day=TODAY + 1)), "ledger:held", after=NEXT_DAY),
        Counts(_waiting, plain(rec.DayOpened(day=TODAY + 1)), "", after=NEXT_DAY),
    ],
    "CopiesDelivered": [Counts(_campaign, plain(rec.CopiesDelivered(target=AVA, upto=2)), "")],
}

WRONG: dict[str, list[Wrong]] = {
    "TenantCreated": [Wrong(_rich, command(rec.TenantCreated), "duplicate")],
    "BudgetSet": [
        Wrong(_rich, command(rec.BudgetSet, scope=scope, limit_usd=Decimal(1)), "bad_value")
        for scope in ("", "week", "campaign", "campaign/", "agent", "agent/", "tenant/acme", "day/1")
    ]
    + [Wrong(_rich, command(rec.BudgetSet, scope="day", limit_usd=Decimal(x)), "bad_value") for x in ("-1", "1e10", "1e-19")]
    + [
        Wrong(_voted, command(rec.BudgetSet, scope="day", limit_usd=Decimal(5)), "duplicate", "ann"),
        Wrong(_voted, command(rec.BudgetSet, scope="day", limit_usd=Decimal(5)), "not_entitled", "kim"),
        Wrong(_voted, command(rec.BudgetSet, scope="day", limit_usd=Decimal(5)), "not_entitled", "eve"),
    ],
    "PayeeAllowed": [
        Wrong(_payee, command(rec.PayeeAllowed, payee="ads"), "conflict"),
        Wrong(_voted, command(rec.PayeeAllowed, payee="ads"), "duplicate", "ann"),
        Wrong(_voted, command(rec.PayeeAllowed, payee="ads"), "not_entitled", "eve"),
    ],
    "PayeeRemoved": [Wrong(_rich, command(rec.PayeeRemoved, payee="ads"), "unknown")],
    "AgentJoined": [Wrong(_rich, command(rec.AgentJoined, agent=AVA, name="ava", groups=["eu"]), "conflict")],
    "AgentLeft": [Wrong(_rich, command(rec.AgentLeft, agent="agent/x"), "unknown")],
    "AccountClaimed": [
        Wrong(_rich, command(rec.AccountClaimed, agent="agent/x", platform="x", account="@x"), "unknown"),
    ],
    "AccountVerified": [
        Wrong(_rich, command(rec.AccountVerified, **AVAS), "unknown"),
        Wrong(_secret, command(rec.AccountVerified, **AVAS), "conflict"),
    ],
    "AccountReleased": [Wrong(_rich, command(rec.AccountReleased, platform="x", account="@ava"), "unknown")],
    "PolicyPublished": [
        Wrong(_ruled, command(rec.PolicyPublished, **POLICY, edition=3), "duplicate"),
        Wrong(_rich, command(rec.PolicyPublished, **POLICY, edition=0), "duplicate"),
    ],
    "SoulPublished": [Wrong(_rich, command(rec.SoulPublished, edition=0, digest="s", soul="calm"), "duplicate")],
    "CampaignOpened": [Wrong(_campaign, command(rec.CampaignOpened, campaign_id="tea", **OPENED), "conflict")],
    "CampaignChanged": [
        Wrong(_campaign, command(rec.CampaignChanged, campaign_id="mate", edition=2, **BRIEF), "unknown"),
        Wrong(_campaign, command(rec.CampaignChanged, campaign_id="tea", edition=1, **BRIEF), "duplicate"),
        Wrong(_campaign, command(rec.CampaignChanged, campaign_id="tea", edition=3, **BRIEF), "conflict"),
    ],
    "TenantCampaignStatusSet": [
        Wrong(_campaign, command(rec.TenantCampaignStatusSet, campaign_id="mate", status="paused"), "unknown"),
        Wrong(_campaign, command(rec.TenantCampaignStatusSet, campaign_id="tea", status="running"), "conflict"),
    ],
    "FundsRequested": [
        Wrong(_asked, plain(funds(AVA, 1, "1", (1, 2, 1))), "duplicate"),
        Wrong(_asked, plain(funds(AVA, 3, "1", (1, 2, 1))), "conflict"),
    ],
    "FundsSettled": [
        Wrong(_asked, plain(settled(AVA, 1)), "duplicate"),
        Wrong(_asked, plain(settled(AVA, 3)), "conflict"),
    ],
    "DayOpened": [
        Wrong(_waiting, plain(rec.DayOpened(day=TODAY)), "duplicate"),
        Wrong(_waiting, plain(rec.DayOpened(day=TODAY + 1)), "too_early", after=NEXT_DAY - 1000),
        Wrong(_asked, plain(rec.DayOpened(day=TODAY + 1)), "conflict", after=NEXT_DAY),
    ],
    "CopiesDelivered": [
        Wrong(_campaign, plain(rec.CopiesDelivered(target=AVA, upto=3)), "conflict"),
        Wrong(_campaign, plain(rec.CopiesDelivered(target=AVA, upto=0)), "duplicate"),
        Wrong(_campaign, plain(rec.CopiesDelivered(target="agent/x", upto=1)), "conflict"),
    ],
}

COUNTING = [pytest.param(cell, id=f"{name}-{i}") for name, cells in COUNTS.items() for i, cell in enumerate(cells)]
REFUSED = [pytest.param(cell, id=f"{name}-{i}-{cell.reason}") for name, cells in WRONG.items() for i, cell in enumerate(cells)]


@pytest.mark.parametrize("cell", COUNTING)
def test_a_record_that_counts_does_what_the_law_says(cell: Counts) -> None:
    log = log_of(cell.given)
    then = when(log, cell.when(log), actor=cell.actor, after=cell.after)
    assert then.said == (("rejected", cell.reason) if cell.reason else ("applied", ""))
    assert then.changes == cell.changes


@pytest.mark.parametrize("cell", REFUSED)
def test_a_record_that_does_not_count_is_void(cell: Wrong) -> None:
    log = log_of(cell.given)
    assert when(log, cell.when(log), actor=cell.actor, after=cell.after).said == ("void", cell.reason)


@pytest.mark.parametrize("name", COUNTS)
class TestWhateverTheRecordIs:
    """Cells that every row has."""

    def cell(self, name: str) -> tuple[TenantLog, rec.Data, dict[str, Any]]:
        first = COUNTS[name][0]
        log = log_of(first.given)
        return log, first.when(log), {"actor": first.actor, "after": first.after}

    def test_it_must_be_readable_known_whole_and_of_this_tenant(self, name: str) -> None:
        log, data, how = self.cell(name)
        assert when(log, data, **how, data=None, defect="no value").said == ("void", "unreadable")
        assert when(log, data, **how, data=None, type=f"{name}2").said == ("void", "unknown_type")
        assert when(log, data, **how, hash_ok=False).said == ("void", "wrong_hash")
        if name != "TenantCreated":
            assert when(log, data, **how, tenant="other").said == ("void", "forged")
            assert when(TenantLog(), data, **how).said == ("void", "unknown")

    def test_it_is_signed_by_the_command_service_or_the_couriers_own_key(self, name: str) -> None:
        log, data, how = self.cell(name)
        for signer in (None, "another key"):
            assert when(log, data, **how, signed_by=signer).said == ("void", "forged")
        if data.ROLE == "courier":
            hard = rich("10")
            hard.records, hard.states, hard.now = log.records, log.states, log.now
            hard.law = replace(log.law, keys={**log.law.keys, "courier": frozenset(["own"])})
            tenant = fold_all(log)
            r = record(data, len(log.records), log.now + how["after"])
            assert fold_tenant(hard.law, tenant, r)[1].reason == "forged"
            assert fold_tenant(hard.law, tenant, replace(r, signed_by="own"))[1].outcome == "applied"

    def test_a_command_is_the_next_one_in_time_and_no_copy(self, name: str) -> None:
        log, data, how = self.cell(name)
        if data.ROLE != "command":
            return
        number: int = data.command_no  # type: ignore[attr-defined]
        for shift, reason in ((-1, "duplicate"), (1, "conflict")):
            assert when(log, data.model_copy(update={"command_no": number + shift}), **how).said == ("void", reason)
        assert when(log, data.model_copy(update={"not_after": log.now}), **how).said == ("void", "too_late")
        copied = data.model_copy(update={"copied": rec.Copied(source=AVA, number=1), "command_no": 0})
        assert when(log, copied, **how).said == ("void", "forged")


def test_every_row_has_a_record_that_counts() -> None:
    assert COUNTS.keys() == TENANT_TABLE.keys()


def test_every_guard_of_every_row_is_the_one_that_says_no_in_some_cell() -> None:
    walked = set()
    cells = [
        (name, cell) for name, found in cast("list[tuple[str, list[Any]]]", [*COUNTS.items(), *WRONG.items()]) for cell in found
    ]
    for name, cell in cells:
        log = log_of(cell.given)
        if not log.records:
            continue
        tenant = fold_all(log)
        r = record(cell.when(log), len(log.records), log.now + cell.after, actor=cell.actor)
        for guard in TENANT_TABLE[name].counts_when:
            if guard(tenant, r) is not None:
                walked.add((name, guard.__name__))
                break
    expected = {(name, guard.__name__) for name, row in TENANT_TABLE.items() for guard in row.counts_when}
    assert walked >= expected, f"guards that no cell has seen saying no: {sorted(expected - walked)}"


# --- sentences of the law --------------------------------------------------------------------------------------------


def test_an_agents_record_on_a_tenants_stream_is_of_unknown_type() -> None:
    assert when(_rich(), rec.TaskPlanned(campaign=1, ordinal=1, attempt=1)).said == ("void", "unknown_type")


def test_another_credential_is_owed_to_the_agent_and_nothing_is_known_of_it_until_it_is_verified() -> None:
    then = when(_secret(), command(rec.AccountClaimed, agent=AVA, **AVAS, secret_ref="file:/y")(_secret()))
    assert then.state is not None
    assert [what for what, _, _ in then.owed(AVA)] == ["AccountLinked"] * 3
    assert then.state.credentials["x/@ava"] == Credential("file:/y")


def test_another_end_of_a_credential_is_told_nobody_and_leaves_what_the_platform_said() -> None:
    then = when(_secret(), command(rec.AccountClaimed, agent=AVA, **AVAS, secret_ref="env:X", expires_ts=9)(_secret()))
    assert then.state is not None
    assert [what for what, _, _ in then.owed(AVA)] == ["AccountLinked"] * 2
    known = then.state.credentials["x/@ava"]
    assert (known.expires_ts, known.found, known.verified_ts > 0) == (9, "@ava", True)


def test_an_account_that_goes_takes_what_is_known_of_its_credential_along() -> None:
    for data in (command(rec.AccountReleased, **AVAS), command(rec.AgentLeft, agent=AVA)):
        then = when(_secret(), data(_secret()))
        assert then.state is not None
        assert (then.state.accounts, then.state.credentials) == ({}, {})


def test_the_votes_that_set_a_budget_drop_other_votes_on_it() -> None:
    log = _voted()
    log.command(rec.BudgetSet, actor="bob", scope="day", limit_usd=Decimal(7))
    then = when(log, command(rec.BudgetSet, scope="day", limit_usd=Decimal(5))(log), actor="bob")
    assert then.state is not None
    assert then.state.budgets["day"] == 5
    assert [v.subject for v in then.state.pending] == ["payee/ads"]


def test_votes_of_who_may_decide_no_more_do_not_count_towards_a_payee() -> None:
    """Ann voted, and then another edition took her off the list and made bob its editor's only judge."""
    log = _voted()
    others = FINANCE.model_copy(update={"approvers": {"financial": ["bob", "cid"]}})
    log.command(rec.PolicyPublished, **{**POLICY, "inline": others}, edition=4)
    first = when(log, command(rec.PayeeAllowed, payee="ads")(log), actor="bob")
    assert first.state is not None
    assert "ads" not in first.state.payees
    log.command(rec.PayeeAllowed, actor="bob", payee="ads")
    second = when(log, command(rec.PayeeAllowed, payee="ads")(log), actor="cid")
    assert second.state is not None
    assert "ads" in second.state.payees


def test_a_copys_number_is_used_up_by_a_rejected_one_so_that_it_does_not_block_the_next() -> None:
    log = _asked()
    log.asks(AVA, "1")  # asked twice
    then = when(log, settled(AVA, 3))
    assert log.answers[-1][:2] == ("rejected", "conflict")
    assert then.said == ("applied", "")


def test_who_asked_before_midnight_and_settles_after_it_pays_in_the_day_of_the_request() -> None:
    log = rich("100")
    log.command(rec.BudgetSet, scope="day", limit_usd=Decimal(6))
    log.add(funds(AVA, 1, "6"), after=MIDNIGHT - 1 - log.now)  # the last millisecond of the day
    assert when(log, funds(BEN, 1, "6"), after=1).owed(BEN) == [("FundsAnswered", "held", "")]
    late = when(log, settled(AVA, 2, "6"), after=1)
    assert late.state is not None
    assert sorted(late.state.windows) == [AVA, "campaign/tea", "tenant"], "yesterday is settled and has left"
    log.settles(AVA, "6")
    then = when(log, funds(BEN, 1, "6"))
    assert then.owed(BEN) == [("FundsAnswered", "held", "")], "what was paid counts yesterday, not today"
    assert then.state is not None
    assert then.state.windows["tenant"].spent == 6


def test_a_new_day_holds_who_waited_for_it_oldest_first() -> None:
    log = _waiting_for_tomorrow()
    log.asks(AVA, "5", place=(1, 2, 1))
    then = when(log, rec.DayOpened(day=TODAY + 1), after=NEXT_DAY)
    assert then.owed(BEN) == [("FundsAnswered", "over_budget", "day"), ("FundsAnswered", "held", "")]
    assert then.owed(AVA)[-1] == ("FundsAnswered", "over_budget", "day"), "the day has room for one of them"


def test_the_day_never_goes_back_with_the_brokers_clock() -> None:
    log = _waiting_for_tomorrow()
    log.add(rec.DayOpened(day=TODAY + 1), after=NEXT_DAY)
    then = when(log, funds(AVA, 2, "1", (1, 9, 1)), after=-1000)
    assert then.owed(AVA)[-1] == ("FundsAnswered", "over_budget", "day")


def test_a_payee_is_new_until_something_was_paid_to_it() -> None:
    log = _asked()
    assert when(log, funds(BEN, 1, "1", payee="ads")).owed(BEN) == [("FundsAnswered", "held", "new_payee")]
    log.settles(AVA, "0")
    assert when(log, funds(BEN, 1, "1", payee="ads")).owed(BEN) == [("FundsAnswered", "held", "new_payee")]
    log.asks(AVA, "1", place=(1, 2, 1), payee="ads")
    log.settles(AVA, "0.01", place=(1, 2, 1))
    assert when(log, funds(BEN, 1, "1", payee="ads")).owed(BEN) == [("FundsAnswered", "held", "")]


def test_a_cost_above_what_was_reserved_is_counted_and_raises_an_alarm() -> None:
    then = when(_asked(), settled(AVA, 2, "60"))
    assert [(c.status, c.reason) for c in then.ruling.changes] == [("settled", "above_reserved")]
    assert then.state is not None
    assert then.state.windows["tenant"].spent == 60


def test_who_waits_for_a_payee_that_is_removed_is_refused() -> None:
    log = _asked()
    log.asks(BEN, "6", payee="ads")
    then = when(log, command(rec.PayeeRemoved, payee="ads")(log))
    assert then.owed(BEN)[-1] == ("FundsAnswered", "payee", "not_allowed")
    assert then.state is not None
    assert then.state.waiting == []


def test_who_joins_late_is_owed_what_is_in_force_and_nothing_twice() -> None:
    log = rich("10", BEN)
    for edition, select in ((1, {}), (2, {"group": "us"}), (3, {"group": "eu"})):
        log.command(rec.PolicyPublished, **POLICY, edition=edition, select=rec.Selector(**select))
    log.command(rec.SoulPublished, edition=1, digest="s", soul="calm")
    log.command(rec.CampaignOpened, campaign_id="tea", **OPENED)
    log.command(rec.CampaignChanged, campaign_id="tea", edition=2, **BRIEF)
    log.command(rec.TenantCampaignStatusSet, campaign_id="tea", status="paused")
    log.command(rec.AgentJoined, agent=AVA, name="ava", groups=["us"])
    told = [copy[1] for copy in log.state["owed"][AVA]]
    assert told == ["PolicyAdopted", "SoulAdopted", "CampaignStarted", "BriefChanged", "CampaignStatusSet"]
    then = when(log, command(rec.AgentJoined, agent=AVA, name="ava", groups=["eu", "us"])(log))
    assert [what for what, _, _ in then.owed(AVA)] == [*told, "PolicyAdopted"], "edition 3 is new to it, the rest is not"


def test_a_canary_is_the_same_agents_for_everybody_and_about_its_share() -> None:
    agents = [f"agent/{n}" for n in range(400)]
    log = rich("10", *agents)
    log.command(rec.PolicyPublished, **POLICY, edition=1, select=rec.Selector(share_ppm=50_000))
    tenant = fold_all(log)
    drawn = {agent for agent in agents if tenant.owed.get(agent)}
    assert drawn == {agent for agent in agents if log.state["owed"].get(agent)}
    assert 5 <= len(drawn) <= 40


def test_a_thousand_agents_cost_little_while_owed_and_next_to_nothing_when_told() -> None:
    agents = [f"agent/{n:08d}-1111-4111-8111-111111111111" for n in range(1000)]
    tenant: Tenant | None = None
    law = TenantLog().law
    made: list[rec.Data] = [rec.TenantCreated(command_no=1)]
    made += [rec.AgentJoined(command_no=i + 2, agent=agent, name=f"n{i}", groups=["eu"]) for i, agent in enumerate(agents)]
    for offset, data in enumerate(made):
        tenant, _ = fold_tenant(law, tenant, record(data, offset, MIDNIGHT))
    assert tenant is not None
    bare = len(snapshot(tenant))
    tenant, _ = fold_tenant(law, tenant, record(rec.PolicyPublished(command_no=1002, **POLICY, edition=1), 1001, MIDNIGHT))
    owing = len(snapshot(tenant))
    assert (owing - bare) / 1000 <= 250
    for i, agent in enumerate(agents):
        tenant, _ = fold_tenant(law, tenant, record(rec.CopiesDelivered(target=agent, upto=1), 1002 + i, MIDNIGHT))
    assert tenant is not None
    assert tenant.owed == {}
    assert (len(snapshot(tenant)) - bare) / 1000 <= 150, "the numbers of copies stay"


def test_the_tenant_is_known_by_its_key() -> None:
    assert fold_all(_rich()).key == TENANT
    assert KEY in _rich().law.keys["command"]
