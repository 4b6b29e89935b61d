"""Commands about a tenant: create it, its members, accounts, budgets, payees, editions and campaigns.

The rule not to break: a decision is a pure function of the tenant's folded state; what is so already is not said again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from chimera.commands.campaigns import campaign_id
from chimera.commands.decision import Refused, TenantDecision
from chimera.events.hashes import digest, sha256
from chimera.events.records import (
    AccountClaimed,
    AccountReleased,
    AccountVerified,
    AgentJoined,
    AgentLeft,
    BudgetSet,
    CampaignChanged,
    CampaignOpened,
    Data,
    PayeeAllowed,
    PayeeRemoved,
    PolicyInline,
    PolicyPublished,
    Selector,
    SoulPublished,
    SubjectForgotten,
    TenantCampaignStatusSet,
    TenantCreated,
)
from chimera.events.state import Ref
from chimera.events.tenant import Credential, Tenant

EVERYBODY = Selector()


def create(finance: Sequence[str] = (), people: int = 1) -> TenantDecision:
    """Begin the tenant, unless it is there. `finance` may vote on money until a policy says who may, `people` of them."""
    return lambda tenant: [] if tenant is not None else [TenantCreated(finance=list(finance), people=people)]


class Joining(NamedTuple):
    """An agent that is to be a member: its stream key, name, groups, and account by platform."""

    agent: str
    name: str
    groups: tuple[str, ...] = ()
    accounts: Mapping[str, str] = {}


def join(joining: Sequence[Joining], *, regroup: bool = True, exact: bool = False) -> TenantDecision:
    """Make agents members and claim their accounts, where they have none on that platform yet. With `regroup` members change
    groups; with `exact` they have just the accounts that are named: others are released.

    `Refused` where an account is another agent's (`contested` says so beforehand, agent by agent).
    """

    def decide(tenant: Tenant) -> Sequence[Data]:
        for why in contested(tenant, joining).values():
            raise Refused(why)
        joined: list[Data] = []
        released: list[Data] = []
        claimed: list[Data] = []
        mine: dict[str, dict[str, str]] = {}
        for name, agent in tenant.accounts.items():
            platform, _, account = name.partition("/")
            mine.setdefault(agent, {})[platform] = account
        for each in joining:
            known, has = tenant.members.get(each.agent), mine.get(each.agent, {})
            if known is None or (regroup and set(known.groups) != set(each.groups)):
                joined.append(AgentJoined(agent=each.agent, name=each.name, groups=list(each.groups)))
            if exact:
                gone = {platform: account for platform, account in has.items() if each.accounts.get(platform) != account}
                released += [AccountReleased(platform=platform, account=account) for platform, account in gone.items()]
                has = {platform: account for platform, account in has.items() if platform not in gone}
            for platform, account in each.accounts.items():
                if platform not in has:
                    claimed.append(AccountClaimed(agent=each.agent, platform=platform, account=account))
        return [*joined, *released, *claimed]

    return _of(decide)


def contested(tenant: Tenant, joining: Sequence[Joining]) -> dict[str, str]:
    """Of those who are to join, by name, whose account is somebody else's, and why; of two who ask for one the first has it."""
    held = dict(tenant.accounts)
    found: dict[str, str] = {}
    for each in joining:
        for platform, account in each.accounts.items():
            holder = held.setdefault(f"{platform}/{account}", each.agent)
            if holder != each.agent:
                other = next((j.name for j in joining if j.agent == holder), None) or _name(tenant, holder)
                why = f"{platform} account '{account}' of '{each.name}' belongs to agent '{other}' already: unlink one"
                found.setdefault(each.name, why)
    return found


def leave(agent: str) -> TenantDecision:
    """A member no more."""
    return _of(lambda tenant: [AgentLeft(agent=agent)] if agent in tenant.members else [])


def claim(agent: str, platform: str, account: str, secret_ref: str | None = None, expires_ts: int | None = None) -> TenantDecision:
    """Give the account to the agent; of its credential only what is given changes. `Refused` where the account is another's, or the
    agent has another one on that platform.
    """
    name = f"{platform}/{account}"

    def decide(tenant: Tenant) -> Sequence[Data]:
        holder = tenant.accounts.get(name)
        if holder not in (None, agent):
            raise Refused(f"{platform} account '{account}' belongs to agent '{_name(tenant, holder)}': unlink it there first")
        if agent not in tenant.members:
            raise Refused(f"{agent} is no member of tenant '{tenant.tenant}': `chimera tenant join {tenant.tenant}` first")
        for other, of in tenant.accounts.items():
            if of == agent and other != name and other.partition("/")[0] == platform:
                raise Refused(f"agent '{_name(tenant, agent)}' acts as {other} already: `chimera account unlink {other}` first")
        known = tenant.credentials.get(name, Credential())
        ref = known.secret_ref if secret_ref is None else secret_ref
        ends = known.expires_ts if expires_ts is None else expires_ts
        if holder == agent and (ref, ends) == (known.secret_ref, known.expires_ts):
            return []
        return [AccountClaimed(agent=agent, platform=platform, account=account, secret_ref=ref, expires_ts=ends)]

    return _of(decide)


def verified(said: AccountVerified) -> TenantDecision:
    """Keep what the platform said of an account."""

    def decide(tenant: Tenant) -> Sequence[Data]:
        name = f"{said.platform}/{said.account}"
        if name not in tenant.accounts:
            raise Refused(f"{name} is no account of tenant '{tenant.tenant}': `chimera account list` shows those there are")
        if tenant.credentials.get(name, Credential()).secret_ref != said.secret_ref:
            raise Refused(f"{name} has another credential by now: verify it again")
        return [said]

    return _of(decide)


def release(platform: str, account: str) -> TenantDecision:
    """Make the account nobody's."""
    there = f"{platform}/{account}"
    return _of(lambda tenant: [AccountReleased(platform=platform, account=account)] if there in tenant.accounts else [])


def set_budget(scope: str, limit_usd: Decimal) -> TenantDecision:
    """Vote for a limit; it is set by the last vote that the tenant's rules ask for."""
    return _of(lambda tenant: [] if tenant.budgets.get(scope) == limit_usd else [BudgetSet(scope=scope, limit_usd=limit_usd)])


def allow_payee(payee: str) -> TenantDecision:
    """Vote for a payee."""
    return _of(lambda tenant: [] if payee in tenant.payees else [PayeeAllowed(payee=payee)])


def remove_payee(payee: str) -> TenantDecision:
    """Nothing more may go to this payee."""
    return _of(lambda tenant: [PayeeRemoved(payee=payee)] if payee in tenant.payees else [])


def forget(subject: str, reason: str) -> TenantDecision:
    """The person's key is destroyed. Said each time: the state keeps nothing of people, not even that they were forgotten."""
    return _of(lambda tenant: [SubjectForgotten(subject=subject, reason=reason)])


class Held(NamedTuple):
    """The newest edition that a tenant has published, and what it says."""

    edition: int
    digest: str
    select: Selector


def publish_policy(
    inline: PolicyInline,
    rules: str,
    editor: str,
    *,
    above: int = 0,
    stales: bool = False,
    select: Selector = EVERYBODY,
    held: Held | None = None,
) -> TenantDecision:
    """Publish the next edition. `above` is the highest that any agent of the tenant has adopted: one that adopted by itself
    is overruled. Nothing is left to do where `held` is the newest, says the same to the same, and nobody went beyond it."""
    hashed = sha256(rules.encode())

    def decide(tenant: Tenant) -> Sequence[Data]:
        if held == (tenant.policy_no, hashed, select) and above <= tenant.policy_no:
            return []
        edition = max(tenant.policy_no, above) + 1
        return [
            PolicyPublished(edition=edition, digest=hashed, editor=editor, stales=stales, inline=inline, rules=rules, select=select)
        ]

    return _of(decide)


def publish_soul(soul: str, *, select: Selector = EVERYBODY, held: Held | None = None) -> TenantDecision:
    """Publish a persona, unless `held` is the newest and says the same to the same."""
    hashed = sha256(soul.encode())

    def decide(tenant: Tenant) -> Sequence[Data]:
        if held == (tenant.soul_no, hashed, select):
            return []
        return [SoulPublished(edition=tenant.soul_no + 1, digest=hashed, soul=soul, select=select)]

    return _of(decide)


def open_campaign(name: str, brief: dict[str, Any], *, select: Selector = EVERYBODY) -> TenantDecision:
    """Open the campaign for those selected, unless one of that id is open."""
    id_ = campaign_id(name)

    def decide(tenant: Tenant) -> Sequence[Data]:
        if id_ in tenant.campaigns:
            return []
        return [CampaignOpened(campaign_id=id_, name=name, brief=brief, brief_hash=digest(brief), select=select)]

    return _of(decide)


def change_campaign(id_: str, brief: dict[str, Any], held: Ref | None = None) -> TenantDecision:
    """The next edition of its brief; nothing where `held`, the record that says the same, is still the one in force."""

    def decide(tenant: Tenant) -> Sequence[Data]:
        edition = _open(tenant, id_) + 1
        if held is not None and tenant.campaigns[id_].brief == held:
            return []
        return [CampaignChanged(campaign_id=id_, edition=edition, brief=brief, brief_hash=digest(brief))]

    return _of(decide)


Status = Literal["running", "paused", "cancelled"]


def set_campaign_status(id_: str, status: Status, reason: str = "") -> TenantDecision:
    """Pause, resume or cancel it everywhere."""

    def decide(tenant: Tenant) -> Sequence[Data]:
        _open(tenant, id_)
        if tenant.campaigns[id_].status == status:
            return []
        return [TenantCampaignStatusSet(campaign_id=id_, status=status, reason=reason)]

    return _of(decide)


def _name(tenant: Tenant, agent: str) -> str:
    return tenant.members[agent].name if agent in tenant.members else agent


def _open(tenant: Tenant, id_: str) -> int:
    """The edition of the open campaign's brief."""
    if id_ not in tenant.campaigns:
        raise Refused(f"campaign '{id_}' is not open in tenant '{tenant.tenant}': it was cancelled, or never opened there")
    return tenant.campaigns[id_].brief_edition


def _of(decide: Callable[[Tenant], Sequence[Data]]) -> TenantDecision:
    """The decision, refused where there is no such tenant."""

    def checked(tenant: Tenant | None) -> Sequence[Data]:
        if tenant is None:
            raise Refused("no such tenant: create it first with `chimera tenant create NAME`")
        return decide(tenant)

    return checked
