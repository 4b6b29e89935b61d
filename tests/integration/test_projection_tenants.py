"""The tenant's read models on a real log and a real database: the ledger ties out, and a refold gives the same rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from chimera.commands.keys import log_topics
from chimera.eventlog.cluster import apply
from chimera.events import records as rec
from chimera.projections.engine import Projector, catch_up
from chimera.projections.schema import migrate
from chimera.projections.verify import verify
from tests.integration.projection_data import INLINE, History, enrol

TENANT = "tenant/33333333-3333-4333-8333-333333333333"


def command(h: History, model: Callable[..., rec.Data], actor: str = "kim", **fields: Any) -> None:
    from chimera.eventlog.partitioner import partition_for

    tenant = h.folds[partition_for(TENANT, 24)].tenants.get(TENANT)
    number = (tenant.command_no if tenant is not None else 0) + 1
    assert h.add(TENANT, model(command_no=number, **fields), actor=actor).outcome == "applied"


def asks(h: History, agent: str, number: int, amount: str, ordinal: int, **fields: Any) -> None:
    body = {"campaign_id": "tea", "effect_class": "paid", "effect_hash": "e", "amount_usd": Decimal(amount), **fields}
    copied = rec.Copied(source=agent, number=number)
    assert h.add(TENANT, rec.FundsRequested(copied=copied, campaign=1, ordinal=ordinal, attempt=1, **body)).outcome == "applied"


def settles(h: History, agent: str, number: int, amount: str, ordinal: int, outcome: str = "applied") -> None:
    copied = rec.Copied(source=agent, number=number)
    settled = rec.FundsSettled(copied=copied, campaign=1, ordinal=ordinal, attempt=1, actual_usd=Decimal(amount))
    assert h.add(TENANT, settled).outcome == outcome


@pytest.fixture
def projected(kafka_bootstrap: str, make_database: Callable[[], str]) -> tuple[History, str, str, str]:
    """ava and ben share 10 dollars: one request waits for another's settlement, one is refused, one settles after it."""
    topic = f"tenants-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(kafka_bootstrap, log_topics(topic))
    h = History(topic)
    ava, ben = enrol(h, "ava"), enrol(h, "ben")
    command(h, rec.TenantCreated, people=2)
    for agent, name in ((ava, "ava"), (ben, "ben")):
        command(h, rec.AgentJoined, agent=agent, name=name, groups=["eu"])
    for person in ("kim", "lee"):
        command(h, rec.BudgetSet, person, scope="tenant", limit_usd=Decimal(10))
    command(h, rec.BudgetSet, scope="day", limit_usd=Decimal(99))
    command(h, rec.PolicyPublished, edition=2, digest="d", editor="eve", inline=INLINE)
    command(h, rec.CampaignOpened, campaign_id="tea", name="Tea", brief={}, brief_hash="b")
    command(h, rec.CampaignChanged, campaign_id="tea", edition=2, brief={}, brief_hash="b")
    command(h, rec.AccountClaimed, agent=ava, platform="x", account="@a")
    asks(h, ava, 1, "7.25", 1)
    asks(h, ben, 1, "5", 1)
    asks(h, ben, 2, "1", 2, payee="nobody")
    settles(h, ava, 2, "4.50", 1)
    settles(h, ben, 3, "0", 2, "rejected")
    settles(h, ben, 4, "5.75", 1)
    asks(h, ava, 3, "9", 2)
    h.add(TENANT, rec.CopiesDelivered(target=ava, upto=2))
    command(h, rec.AgentLeft, agent=ben)
    dsn = make_database()
    migrate(dsn)
    projector = Projector(kafka_bootstrap, dsn, h.root.public, topic=topic)
    catch_up(projector, h.send(kafka_bootstrap))
    projector.close()
    return h, dsn, ava, ben


def read(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def test_the_ledger_says_what_happened_to_each_dollar(projected: tuple[History, str, str, str]) -> None:
    _, dsn, ava, ben = projected
    told = read(dsn, 'SELECT agent_id, ordinal, entry, reason, amount_usd FROM core.ledger ORDER BY partition, "offset", n')
    assert [(agent, ordinal, entry, reason, str(amount.normalize())) for agent, ordinal, entry, reason, amount in told] == [
        (ava, 1, "held", "", "7.25"),
        (ben, 1, "over_budget", "tenant", "5"),
        (ben, 2, "payee", "not_allowed", "1"),
        (ava, 1, "settled", "", "4.5"),
        (ben, 1, "held", "", "5"),
        (ben, 1, "settled", "above_reserved", "5.75"),
        (ava, 2, "over_budget", "tenant", "9"),
    ]
    ((spent, reserved, held, waiting, members),) = read(
        dsn, "SELECT spent_usd, reserved_usd, held, waiting, members FROM core.tenants"
    )
    assert (spent, reserved, held, waiting, members) == (Decimal("10.25"), 0, 0, 1, 1)
    assert read(dsn, "SELECT sum(amount_usd) FROM core.ledger WHERE entry = 'settled'") == [(spent,)]
    balance = read(dsn, "SELECT agent, settled_usd, executed_usd, difference_usd FROM analytics_v1.ledger_balance ORDER BY agent")
    assert balance == [
        ("ava", Decimal("4.50"), 0, Decimal("4.50")),
        ("ben", Decimal("5.75"), 0, Decimal("5.75")),
    ], "no effect of theirs was executed: the view shows what the ledger cannot explain"


def test_everything_else_of_a_tenant_is_a_row(projected: tuple[History, str, str, str]) -> None:
    _, dsn, ava, ben = projected
    assert read(dsn, "SELECT scope, limit_usd, asked_usd FROM analytics_v1.budgets ORDER BY scope") == [
        ("day", None, Decimal(99)),
        ("tenant", Decimal(10), None),
    ]
    assert read(dsn, "SELECT agent_id, groups, status FROM core.tenant_members ORDER BY status") == [
        (ava, ["eu"], "joined"),
        (ben, ["eu"], "left"),
    ]
    assert read(dsn, "SELECT what, edition, selector, told FROM core.published") == [("policy", 2, "all", 2)]
    assert read(dsn, "SELECT campaign_id, status, brief_edition, told, requester FROM core.tenant_campaigns") == [
        ("tea", "running", 2, 2, "kim")
    ]
    assert read(dsn, "SELECT platform, account, agent_id, status FROM core.tenant_accounts") == [("x", "@a", ava, "claimed")]
    owed = {agent: rest for agent, *rest in read(dsn, "SELECT agent_id, number, delivered, owed, next FROM core.copies_owed")}
    assert owed[ava] == [6, 2, 4, "BriefChanged"]
    assert read(dsn, "SELECT type, reason FROM core.rejections") == [("FundsSettled", "closed")]
    assert read(dsn, "SELECT model, reason FROM core.parked") == []


def test_a_refold_gives_the_same_rows(kafka_bootstrap: str, projected: tuple[History, str, str, str]) -> None:
    h, dsn, _, _ = projected
    report = verify(kafka_bootstrap, dsn, h.root.public, topic=h.topic)
    assert report.equal, report.difference
    assert {"ledger", "tenants", "copies_owed"} <= {table.table for table in report.tables if table.live_rows}
