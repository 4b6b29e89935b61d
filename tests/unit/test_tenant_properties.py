"""Properties of the tenant's fold over random histories: two readings agree, money is bounded and ties out."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chimera.events.fold import fold_tenant
from chimera.events.law import TENANT_TABLE
from chimera.events.state_codec import tenant_from_json
from chimera.events.tenant import Tenant
from tests import tenant_histories as h
from tests.slowfold.summary import summary_of_slow_tenant, summary_of_tenant

DEEP = bool(os.environ.get("CHIMERA_DEEP"))
settings.register_profile(
    "tenant",
    max_examples=2_000 if DEEP else 25,
    deadline=None,
    phases=list(Phase) if DEEP else [Phase.explicit, Phase.generate],
    derandomize=not DEEP,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
PROFILE = settings.get_profile("tenant")


@st.composite
def histories(draw: st.DrawFn) -> h.TenantLog:
    """A log that began with members and a budget and went on at random."""
    rest = random.Random(draw(st.integers(0, 2**32 - 1)))
    length = draw(st.sampled_from([30, 90, 150]))
    return h.play(h.rich(str(draw(st.sampled_from([5, 20])))), [_step(rest) for _ in range(length)])


def _step(draw: random.Random) -> h.Step:
    return draw.randrange(20), draw.randrange(12), draw.randrange(2**16), draw.randrange(10)


def test_two_readings_of_the_law_agree_over_long_lives_in_which_every_row_has_counted() -> None:
    counted: Counter[str] = Counter()
    said: Counter[str] = Counter()
    for seed in range(500 if DEEP else 25):
        draw = random.Random(seed)
        log = h.play(h.rich(str(5 + seed % 20)), [_step(draw) for _ in range(200)])
        tenant: Tenant | None = None
        for i, r in enumerate(log.records):
            tenant, ruling = fold_tenant(log.law, tenant, r)
            where = f"{r.type} at {i} of {seed}: {r.data}"
            assert (ruling.outcome, ruling.reason, ruling.version) == log.answers[i], where
            assert summary_of_tenant(tenant) == summary_of_slow_tenant(log.states[i + 1]), where
            counted[r.type if ruling.outcome == "applied" else ""] += 1
            said.update(f"{change.status} {change.reason}".strip() for change in ruling.changes if change.what == "ledger")
            said[f"rejected {ruling.reason}" if ruling.outcome == "rejected" else ""] += 1
    assert counted.keys() >= TENANT_TABLE.keys()
    assert said.keys() >= {
        "held", "held new_payee", "over_budget tenant", "over_budget day", "over_budget campaign", "over_budget agent",
        "payee not_allowed", "payee unnamed", "settled", "settled above_reserved", "rejected closed", "rejected conflict",
        "rejected bad_value",
    }  # fmt: skip


@PROFILE
@given(histories(), st.integers(0, 2**32 - 1))
def test_a_second_copy_of_any_record_at_any_later_place_is_void_and_changes_nothing(log: h.TenantLog, seed: int) -> None:
    draw = random.Random(seed)
    tenant: Tenant | None = None
    past = []
    for i, r in enumerate(log.records):
        tenant, ruling = fold_tenant(log.law, tenant, r)
        past.append((r, ruling.outcome != "void"))
        for again, counted in (past[-1], past[draw.randrange(len(past))]):
            if counted:
                before = h.snapshot(tenant)
                late = replace(again, offset=i, append_ts=log.now + draw.randrange(10_000))
                tenant, second = fold_tenant(log.law, tenant, late)
                assert second.outcome == "void", f"{again.type} of {again.offset} again after {i}: {second}"
                assert h.snapshot(tenant) == before


@PROFILE
@given(histories())
def test_only_an_applied_record_raises_the_version_and_void_changes_nothing(log: h.TenantLog) -> None:
    tenant: Tenant | None = None
    for r in log.records:
        before, version = h.snapshot(tenant), tenant.version if tenant is not None else 0
        tenant, ruling = fold_tenant(log.law, tenant, r)
        assert ruling.version_before == version
        assert ruling.version - version == (1 if ruling.outcome == "applied" else 0)
        if ruling.outcome == "void":
            assert h.snapshot(tenant) == before
            assert ruling.changes == ()


@PROFILE
@given(histories())
def test_a_state_written_and_read_back_goes_on_the_same(log: h.TenantLog) -> None:
    tenant: Tenant | None = None
    for i, r in enumerate(log.records):
        if i % 7 == 0 and tenant is not None:
            written = h.snapshot(tenant)
            tenant = tenant_from_json(written)
            assert h.snapshot(tenant) == written
        tenant, ruling = fold_tenant(log.law, tenant, r)
        assert (ruling.outcome, ruling.reason, ruling.version) == log.answers[i]
    assert h.snapshot(tenant) == h.snapshot(h.fold_all(log))
    assert tenant == h.fold_all(log)


def test_fifty_parallel_effects_of_twenty_agents_never_pass_a_budget_and_the_ledger_ties_out() -> None:
    """In every scope, at every prefix: what is reserved and spent fits, while nothing costs more than was asked for."""
    budgets = {"tenant": "60", "day": "35", "campaign/tea": "30", h.AVA: "9", h.BEN: "4"}
    crowded = 0
    for seed in range(60 if DEEP else 12):
        draw = random.Random(seed)
        log = h.TenantLog()
        log.command(h.rec.TenantCreated)
        for agent in h.AGENTS:
            log.command(h.rec.AgentJoined, agent=agent, name="n")
        for scope, limit in budgets.items():
            log.command(h.rec.BudgetSet, scope=scope, limit_usd=Decimal(limit))
        lives = [(agent, (1, n, 1)) for n in range(1, 4) for agent in h.AGENTS][:50]
        draw.shuffle(lives)
        copies: Counter[str] = Counter()
        tenant = h.fold_all(log)
        spent: dict[str, Decimal] = {}
        asked: list[tuple[str, tuple[int, int, int]]] = []
        offset, now = len(log.records), log.now
        while lives or asked:
            now += draw.choice((1, 40_000, 3_600_000))
            settles = bool(asked) and (not lives or draw.random() < 0.45)
            agent, place = asked.pop(draw.randrange(len(asked))) if settles else lives.pop()
            copies[agent] += 1
            data: Any
            if settles:
                held = tenant.reserved.get(f"{agent} {'.'.join(map(str, place))}")
                actual = draw.choice([Decimal(0), held.amount, held.amount / 2]) if held is not None else Decimal(0)
                data = h.settled(agent, copies[agent], str(actual), place)
                if held is not None:
                    for scope in ("tenant", f"day {held.day}", f"campaign/{held.campaign_id}", agent):
                        spent[scope] = spent.get(scope, Decimal(0)) + actual
            else:
                campaign_id = draw.choice(("tea", "mate"))
                data = h.funds(agent, copies[agent], draw.choice(("1", "2.5", "6.01")), place, campaign_id=campaign_id)
                asked.append((agent, place))
            folded, ruling = fold_tenant(log.law, tenant, h.record(data, offset, now))
            assert folded is not None
            assert ruling.outcome == "applied"
            tenant, offset = folded, offset + 1
            crowded += len(tenant.waiting) > 0
            for scope, window in tenant.windows.items():
                most = budgets.get("day" if scope.startswith("day/") else scope)
                assert most is None or window.reserved + window.spent <= Decimal(most), f"{scope} at {offset} of {seed}"
                assert window.reserved >= 0
        assert tenant.reserved == {}
        assert tenant.waiting == []
        for scope, total in spent.items():
            window_ = tenant.windows.get(scope)
            if not scope.startswith("day ") and total:
                assert window_ is not None
                assert window_.spent == total
        days = sum((total for scope, total in spent.items() if scope.startswith("day ")), Decimal(0))
        assert days == spent.get("tenant", Decimal(0))
        assert h.rec.FundsAnswered.TYPE in {copy.what for owed in tenant.owed.values() for copy in owed}
        for agent, owed in tenant.owed.items():
            held_for = [(c.ordinal, c.answer) for c in owed if c.answer == "held"]
            assert len(held_for) == len(set(held_for)), f"{agent} is told twice that funds are held"
    assert crowded > 50, "budgets were tight"
