"""What the records about a tenant itself do: its members, their accounts, who may be paid how much."""

from __future__ import annotations

from chimera.events.does.publishing import owe, tell_all, untell
from chimera.events.does.steps import ref, usable_amount
from chimera.events.envelope import Record
from chimera.events.hashes import digest
from chimera.events.principals import is_machine
from chimera.events.records import (
    AccountClaimed,
    AccountReleased,
    AccountVerified,
    AgentJoined,
    AgentLeft,
    BudgetSet,
    PayeeAllowed,
    PayeeRemoved,
    SubjectForgotten,
    TenantCreated,
)
from chimera.events.state import Change
from chimera.events.tenant import Credential, Member, Rulers, Tenant, Votes

MAX_PENDING = 100
"""Contents that wait for more votes; the oldest gives way."""


# --- guards ----------------------------------------------------------------------------------------------------------


def member_there(t: Tenant, r: Record) -> str | None:
    """The agent that it names belongs to the tenant."""
    agent: str = r.data.agent  # type: ignore[union-attr]
    return None if agent in t.members else "unknown"


def other_groups(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, AgentJoined)
    known = t.members.get(d.agent)
    return "conflict" if known is not None and known.groups == _groups(d) else None


def account_claimed_there(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, AccountReleased | AccountVerified)
    return None if f"{d.platform}/{d.account}" in t.accounts else "unknown"


def same_credential(t: Tenant, r: Record) -> str | None:
    """The credential that was asked with is still the account's."""
    d = r.data
    assert isinstance(d, AccountVerified)
    return None if t.credentials.get(f"{d.platform}/{d.account}", Credential()).secret_ref == d.secret_ref else "conflict"


def sane_budget(t: Tenant, r: Record) -> str | None:
    """A scope that the ledger knows, and an amount."""
    d = r.data
    assert isinstance(d, BudgetSet)
    kind, _, name = d.scope.partition("/")
    named = kind in ("campaign", "agent") and name != ""
    return None if usable_amount(d.limit_usd) and (named or d.scope in ("tenant", "day")) else "bad_value"


def other_payee(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, PayeeAllowed)
    return "conflict" if d.payee in t.payees else None


def payee_there(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, PayeeRemoved)
    return None if d.payee in t.payees else "unknown"


def may_vote(t: Tenant, r: Record) -> str | None:
    """A person and approver of financial effects, not the policy's last editor; once for each content."""
    rulers = t.rulers
    if is_machine(r.actor) or (rulers.approvers is not None and (r.actor not in rulers.approvers or r.actor == rulers.editor)):
        return "not_entitled"
    content = _content(r)[1]
    return "duplicate" if any(v.content == content and r.actor in v.people for v in t.pending) else None


# --- what they do ----------------------------------------------------------------------------------------------------


def tenant_created(t: Tenant, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, TenantCreated)
    t.rulers = Rulers(d.people, tuple(d.finance) or None)
    out.append(Change("tenant", 0, 0, 0, "created"))
    return ""


def agent_joined(t: Tenant, r: Record, out: list[Change]) -> str:
    """It is owed what is in force for it, as far as it was not told before."""
    d = r.data
    assert isinstance(d, AgentJoined)
    member = t.members.setdefault(d.agent, Member(d.name))
    member.name, member.groups = d.name, _groups(d)
    out.append(Change("member", 0, 0, 0, "joined", " ".join(member.groups), d.agent))
    tell_all(t, d.agent, member)
    return ""


def agent_left(t: Tenant, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, AgentLeft)
    member = t.members[d.agent]
    for name in sorted(name for name, agent in t.accounts.items() if agent == d.agent):
        del t.accounts[name]
        t.credentials.pop(name, None)
        platform, _, account = name.partition("/")
        owe(t, d.agent, "AccountUnlinked", ref(r), platform)
        out.append(Change("account_claim", 0, 0, 0, "released", platform, account))
    for campaign_id in list(member.campaigns):
        untell(t, d.agent, campaign_id, ref(r))
    del t.members[d.agent]
    out.append(Change("member", 0, 0, 0, "left", "", d.agent))
    return ""


def account_claimed(t: Tenant, r: Record, out: list[Change]) -> str:
    """One account belongs to one agent, and an agent has one account on a platform."""
    d = r.data
    assert isinstance(d, AccountClaimed)
    name = f"{d.platform}/{d.account}"
    known, new = t.credentials.get(name, Credential()), Credential(d.secret_ref, d.expires_ts)
    if t.accounts.get(name) == d.agent:
        if new[:2] == known[:2]:
            return "conflict"
        if new.secret_ref != known.secret_ref:
            owe(t, d.agent, "AccountLinked", ref(r))
        else:  # what the platform said of it is still so
            new = known._replace(expires_ts=d.expires_ts)
    elif name in t.accounts or any(agent == d.agent and n.partition("/")[0] == d.platform for n, agent in t.accounts.items()):
        return "conflict"
    else:
        t.accounts[name] = d.agent
        owe(t, d.agent, "AccountLinked", ref(r))
    t.credentials.pop(name, None)
    if new != Credential():
        t.credentials[name] = new
    out.append(Change("account_claim", 0, 0, 0, "claimed", d.platform, d.account))
    return ""


def account_released(t: Tenant, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, AccountReleased)
    name = f"{d.platform}/{d.account}"
    t.credentials.pop(name, None)
    owe(t, t.accounts.pop(name), "AccountUnlinked", ref(r), d.platform)
    out.append(Change("account_claim", 0, 0, 0, "released", d.platform, d.account))
    return ""


def account_verified(t: Tenant, r: Record, out: list[Change]) -> str:
    """Kept for people to see; what the platform found instead stops nothing by itself."""
    d = r.data
    assert isinstance(d, AccountVerified)
    name = f"{d.platform}/{d.account}"
    known = t.credentials.get(name, Credential())
    t.credentials[name] = Credential(d.secret_ref, known.expires_ts, r.append_ts, d.found, d.platform_id, d.reason)
    out.append(Change("account_claim", 0, 0, 0, "verified", d.platform, d.account))
    return ""


def budget_set(t: Tenant, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, BudgetSet)
    decided = _vote(t, r)
    if decided:
        t.budgets[d.scope] = d.limit_usd
    out.append(Change("budget", 0, 0, 0, "set" if decided else "voted", d.scope, str(d.limit_usd)))
    return ""


def payee_allowed(t: Tenant, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, PayeeAllowed)
    decided = _vote(t, r)
    if decided:
        t.payees[d.payee] = False
    out.append(Change("payee", 0, 0, 0, "allowed" if decided else "voted", "", d.payee))
    return ""


def payee_removed(t: Tenant, r: Record, out: list[Change]) -> str:
    """One person is enough to say no."""
    d = r.data
    assert isinstance(d, PayeeRemoved)
    del t.payees[d.payee]
    out.append(Change("payee", 0, 0, 0, "removed", "", d.payee))
    return ""


def subject_forgotten(t: Tenant, r: Record, out: list[Change]) -> str:
    """The fold keeps nothing of people; who holds keys destroys this one."""
    d = r.data
    assert isinstance(d, SubjectForgotten)
    out.append(Change("subject", 0, 0, 0, "forgotten", "", d.subject))
    return ""


def _groups(d: AgentJoined) -> tuple[str, ...]:
    return tuple(sorted(set(d.groups)))


def _content(r: Record) -> tuple[str, str]:
    """What is voted on, and the digest of what is voted for."""
    d = r.data
    if isinstance(d, BudgetSet):
        return f"budget/{d.scope}", digest({"scope": d.scope, "limit_usd": d.limit_usd})
    assert isinstance(d, PayeeAllowed)
    return f"payee/{d.payee}", digest({"payee": d.payee})


def _vote(t: Tenant, r: Record) -> bool:
    """Count a vote; True where it is the last one needed, and then every other vote on the same subject is void."""
    subject, content = _content(r)
    before = next((v.people for v in t.pending if v.content == content), ())
    people = (*before, r.actor)
    if len(people) >= t.rulers.people:
        t.pending = [v for v in t.pending if v.subject != subject]
        return True
    t.pending = [*(v for v in t.pending if v.content != content), Votes(content, subject, people)][-MAX_PENDING:]
    return False
