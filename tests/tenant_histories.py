"""Histories of a tenant's stream: by hand (`TenantLog`) and at random, in the same way as `tests.histories` makes those of agents.

The rule not to break: nothing here knows the real fold; what is plausible is read from the slow one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.fold import fold_tenant
from chimera.events.state import Law
from chimera.events.state_codec import state_to_json
from chimera.events.tenant import DAY_MS, Tenant
from tests.histories import INLINE, KEY, LAW, STEPS_MS
from tests.histories import record as agents_record
from tests.slowfold import base as slow
from tests.slowfold.tenant import slow_tenant_step

TENANT = "tenant/22222222-2222-4222-8222-222222222222"
AGENTS = tuple(f"agent/{n:08d}-1111-4111-8111-111111111111" for n in range(20))
AVA, BEN = AGENTS[:2]
MIDNIGHT = 1_700_006_400_000
"""The beginning of a UTC day."""
assert MIDNIGHT % DAY_MS == 0
NOON = MIDNIGHT - DAY_MS // 2
POLICY: dict[str, Any] = {"digest": "d", "editor": "eve", "inline": INLINE}
GROUPS = ("", "eu", "us")


def record(data: rec.Data, offset: int, ts: int, **how: Any) -> Record:
    """A decoded, verified record of the tenant's stream."""
    return replace(agents_record(data, offset, ts, **how), key=TENANT)


def funds(agent: str, number: int, amount: str = "2", place: tuple[int, int, int] = (1, 1, 1), **fields: Any) -> rec.FundsRequested:
    """What an agent asks for."""
    at = dict(zip(("campaign", "ordinal", "attempt"), place, strict=True))
    body = {"campaign_id": "tea", "effect_class": "paid", "effect_hash": "e", "payee": None, **fields}
    return rec.FundsRequested(**at, copied=rec.Copied(source=agent, number=number), amount_usd=Decimal(amount), **body)


def settled(agent: str, number: int, actual: str = "1", place: tuple[int, int, int] = (1, 1, 1)) -> rec.FundsSettled:
    """What it cost in the end."""
    at = dict(zip(("campaign", "ordinal", "attempt"), place, strict=True))
    return rec.FundsSettled(**at, copied=rec.Copied(source=agent, number=number), actual_usd=Decimal(actual))


class TenantLog:
    """One tenant's history, folded slowly while it is written."""

    def __init__(self, law: Law = LAW, now: int = NOON) -> None:
        self.law = law
        self.records: list[Record] = []
        self.answers: list[tuple[str, str, int]] = []
        self.states: list[slow.State | None] = [None]
        self.now = now

    @property
    def state(self) -> slow.State:
        """The slow fold's state now."""
        state = self.states[-1]
        assert state is not None, "no tenant yet"
        return state

    def add(self, data: rec.Data, *, after: int = 1, actor: str = "kim", **how: Any) -> tuple[str, str, int]:
        """Append a record `after` milliseconds; the slow ruling."""
        return self.add_record(record(data, len(self.records), self.now + after, actor=actor, **how))

    def add_record(self, r: Record) -> tuple[str, str, int]:
        """Append a record as it is."""
        self.now = max(self.now, r.append_ts)
        state, answer = slow_tenant_step(self.law, self.states[-1], r)
        self.records.append(r)
        self.answers.append(answer)
        self.states.append(state)
        return answer

    def command(self, model: Callable[..., rec.Data], *, after: int = 1, actor: str = "kim", **fields: Any) -> tuple[str, str, int]:
        """Append a command with the next command number."""
        state = self.states[-1]
        number = (state["command_no"] if state else 0) + 1
        return self.add(model(command_no=number, **fields), after=after, actor=actor)

    def asks(self, agent: str, amount: str = "2", **fields: Any) -> tuple[str, str, int]:
        """Append the agent's next copy: a request."""
        return self.add(funds(agent, self.next_copy(agent), amount, **fields), actor="courier")

    def settles(self, agent: str, actual: str = "1", after: int = 1, **fields: Any) -> tuple[str, str, int]:
        """Append the agent's next copy: a settlement."""
        return self.add(settled(agent, self.next_copy(agent), actual, **fields), actor="courier", after=after)

    def next_copy(self, agent: str) -> int:
        """Number of the next copy of an agent's stream."""
        return int(self.state["copies_in"].get(agent, 0)) + 1


def fold_all(log: TenantLog) -> Tenant:
    """The real fold's state after a history."""
    tenant: Tenant | None = None
    for r in log.records:
        tenant, _ = fold_tenant(log.law, tenant, r)
    assert tenant is not None
    return tenant


def snapshot(tenant: Tenant | None) -> bytes:
    """Comparable bytes of a state; nothing for no tenant."""
    return b"" if tenant is None else state_to_json(tenant)


def rich(limit: str = "10", *agents: str, people: int = 1) -> TenantLog:
    """A tenant with members in group `eu` and a budget."""
    log = TenantLog()
    log.command(rec.TenantCreated, people=people)
    for agent in agents or (AVA, BEN):
        log.command(rec.AgentJoined, agent=agent, name=agent[6:14], groups=["eu"])
    log.command(rec.BudgetSet, scope="tenant", limit_usd=Decimal(limit))
    return log


# --- at random -------------------------------------------------------------------------------------------------------

Move = Callable[[], tuple[str, rec.Data]]
PEOPLE = ("ann", "bob", "cyd", "eve", "kim")
AMOUNTS = ("0.5", "1", "2", "3.25", "7")
PAYEES = (None, None, "ads", "mint")


def moves(s: slow.State, n: int) -> list[Move]:
    """What people and the courier may say at any time."""
    own = {"command_no": s["command_no"] + 1}
    agent, person = AGENTS[n % 6], PEOPLE[n // 7 % len(PEOPLE)]
    members = list(s["members"]) or [agent]
    some = members[n // 3 % len(members)]
    select = rec.Selector(group=GROUPS[n // 5 % 3], share_ppm=(1_000_000, 1_000_000, 400_000)[n % 3])
    campaigns = list(s["campaigns"]) or ["tea"]
    campaign_id = campaigns[n // 11 % len(campaigns)]
    c = s["campaigns"].get(campaign_id)
    limit = Decimal(n // 13 % 40)
    scope = ("tenant", "day", "campaign/tea", some, "day", "week")[n // 2 % 6]
    approvers = {"financial": ["ann", "bob", "cyd"]} if n % 4 == 0 else {}
    inline = INLINE.model_copy(update={"approvers": approvers, "people": {"financial": 1 + n % 3}})
    accounts = list(s["accounts"]) or [("x", "@none")]
    platform, account = accounts[n % len(accounts)]
    named, ref = {"platform": platform, "account": account}, ("", "env:X")[n // 3 % 2]
    claim: dict[str, Any] = {"agent": some, "platform": ("x", "ig")[n % 2], "account": f"@{n // 2 % 4}"}
    if n % 5 > 2:  # whose it is gives it another credential
        claim = {"agent": s["accounts"].get((platform, account), some), **named, "secret_ref": ref, "expires_ts": n % 2}
    policy, soul = s["policies"], s["souls"]
    next_policy = (policy[-1]["edition"] if policy else 0) + 1 + n % 2
    next_soul = (soul[-1]["edition"] if soul else 0) + 1
    place = (1 + n % 2, 1 + n // 2 % 3, 1)
    copy = int(s["copies_in"].get(some, 0)) + 1
    held = [q for q in s["requests"] if q["status"] in ("held", "waiting")]
    q = held[n // 3 % len(held)] if held else None
    owed = [agent for agent, debts in s["owed"].items() if debts]
    target = owed[n % len(owed)] if owed else some

    def ask() -> tuple[str, rec.Data]:
        kind = ("paid", "paid", "publish", "financial")[n // 4 % 4]
        fields = {"campaign_id": ("tea", "mate")[n % 2], "effect_class": kind, "payee": PAYEES[n // 9 % 4]}
        return "courier", funds(some, copy, AMOUNTS[n // 6 % 5] if n % 31 else "-1", place, **fields)

    def settle() -> tuple[str, rec.Data]:
        if q is None:
            return "courier", settled(some, copy, "1", place)
        actual = (q["amount"], Decimal(0), q["amount"] + 1, q["amount"] / 2, Decimal(-1))[n // 5 % 5]
        return "courier", settled(q["agent"], int(s["copies_in"].get(q["agent"], 0)) + 1, str(actual), q["place"])

    return [
        ask,
        ask,
        ask,
        settle,
        settle,
        lambda: (person, rec.BudgetSet(**own, scope=scope, limit_usd=limit)),
        lambda: (person, rec.BudgetSet(**own, scope="tenant", limit_usd=Decimal(20))),
        lambda: (person, rec.PayeeAllowed(**own, payee=PAYEES[2 + n % 2])),
        lambda: (person, rec.PayeeAllowed(**own, payee="ads")),
        lambda: ("kim", rec.PayeeRemoved(**own, payee=PAYEES[2 + n % 2])),
        lambda: ("kim", rec.AgentJoined(**own, agent=agent, name="n", groups=[g for g in (GROUPS[n % 3],) if g])),
        lambda: ("kim", rec.AgentLeft(**own, agent=some)),
        lambda: ("kim", rec.AccountClaimed(**own, **claim)),
        lambda: ("kim", rec.AccountReleased(**own, **named) if n % 5 < 3 else rec.AccountVerified(**own, **named, secret_ref=ref)),
        lambda: ("eve", rec.PolicyPublished(**own, **{**POLICY, "inline": inline}, edition=next_policy, select=select)),
        lambda: ("kim", rec.SoulPublished(**own, edition=next_soul, digest="s", soul="calm", select=select)),
        lambda: (
            "kim",
            rec.CampaignOpened(**own, campaign_id=("tea", "mate")[n % 2], name="t", brief={}, brief_hash="b", select=select),
        ),
        lambda: (
            "kim",
            rec.CampaignChanged(**own, campaign_id=campaign_id, edition=(c["edition"] if c else 1) + 1, brief={}, brief_hash="b"),
        ),
        lambda: (
            "kim",
            rec.TenantCampaignStatusSet(**own, campaign_id=campaign_id, status=("paused", "running", "cancelled")[n // 2 % 3]),
        ),
        lambda: ("courier", rec.DayOpened(day=s["now"] // DAY_MS + (n % 3 > 0))),
        lambda: ("courier", rec.CopiesDelivered(target=target, upto=max(0, s["owed_no"].get(target, 0) - n % 3))),
        lambda: ("kim", rec.SubjectForgotten(**own, subject="p")),
        lambda: ("kim", rec.TenantCreated(**own)),
    ]


Step = tuple[int, int, int, int]


def play(log: TenantLog, steps: Sequence[Step]) -> TenantLog:
    """Go on with a log: each step is one record by somebody."""
    for what, age, n, pace in steps:
        ms = DAY_MS // 3 if pace == 0 and n % 5 == 0 else STEPS_MS[pace % len(STEPS_MS)]
        ts, offset, kind = log.now + ms, len(log.records), what % 20
        if kind == 19:  # a late copy of any record
            log.add_record(replace(log.records[n % offset], offset=offset, append_ts=ts))
            continue
        seen = log.states[-1 - age % 3] if kind == 18 and len(log.states) > 6 else log.states[-1]
        s = seen if seen is not None else log.state
        options = moves(s, n)
        actor, data = options[(n // 3 + age + what) % len(options)]()
        if isinstance(data, rec.DayOpened) and n % 8 > 2:  # the courier writes it when the day has begun
            ts = max(ts, data.day * DAY_MS)
        made = record(data, offset, ts, actor=actor)
        if kind == 17 and n % 3 == 0:
            made = (
                replace(made, signed_by=None),
                replace(made, tenant="other"),
                replace(made, data=None, defect="no value"),
                replace(made, data=None, type="FromTheFuture"),
            )[n // 3 % 4]
        log.add_record(made)
    return log


__all__ = ["KEY", "LAW", "TenantLog", "fold_all", "funds", "play", "record", "rich", "settled", "snapshot"]
