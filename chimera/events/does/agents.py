"""What the records about the agent itself do: enrolment, persona, policy, accounts, status, allowance, signals."""

from __future__ import annotations

from chimera.events.does.steps import UNCLAIMED, cancel, judge_again, ref, settle_holds, usable_amount, write
from chimera.events.does.trust import weigh
from chimera.events.envelope import Record
from chimera.events.records import (
    AccountLinked,
    AccountUnlinked,
    AgentStatusSet,
    AllowanceSet,
    PolicyAdopted,
    SignalObserved,
    ToolChanged,
)
from chimera.events.records.agents import shared
from chimera.events.state import MAX_HEARD, NO_WINDOW, ZERO, Agent, Allowance, Change, Policy


def newer_edition(agent: Agent, r: Record) -> str | None:
    """Editions only go up: going back is publishing the old rules as a new edition."""
    d = r.data
    assert isinstance(d, PolicyAdopted)
    return "duplicate" if agent.policy is not None and d.edition <= agent.policy.edition else None


def legal_step(agent: Agent, r: Record) -> str | None:
    """active <-> paused -> retired; released only out of quarantine; retired is final."""
    d = r.data
    assert isinstance(d, AgentStatusSet)
    if d.status == "released":
        return None if agent.quarantine is not None else "conflict"
    return "conflict" if agent.status in ("retired", d.status) else None


def account_there(agent: Agent, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, AccountUnlinked | ToolChanged)
    return None if d.platform in agent.accounts else "unknown"


def sane_allowance(agent: Agent, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, AllowanceSet)
    return None if usable_amount(d.limit_usd) else "bad_value"


def next_signal(agent: Agent, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, SignalObserved)
    last = agent.signals.get(d.source, (0, ""))[0]
    return None if d.number == last + 1 else "duplicate" if d.number <= last else "conflict"


def enrolled(agent: Agent, r: Record, out: list[Change]) -> str:
    agent.version = 1
    out.append(Change("agent", 0, 0, 0, "enrolled"))
    return ""


def soul_adopted(agent: Agent, r: Record, out: list[Change]) -> str:
    agent.soul = ref(r)
    write(agent, ("soul",))
    out.append(Change("soul", 0, 0, 0, "adopted"))
    return ""


def policy_adopted(agent: Agent, r: Record, out: list[Change]) -> str:
    """Effects that nobody claimed yet are judged again under the new edition; what is committed stays committed."""
    d = r.data
    assert isinstance(d, PolicyAdopted)
    agent.policy = Policy(d.edition, d.digest, d.editor, shared(d.inline), ref(r))
    for c in agent.campaigns.values():
        for t in c.tasks.values():
            e = t.effect
            if e is not None and e.status in UNCLAIMED:
                judge_again(c, t, e, out)
    if d.stales:
        write(agent, ("policy",))
    out.append(Change("policy", 0, 0, 0, "adopted", "", str(d.edition)))
    weigh(agent, out)  # what people decided so far may be enough for this edition, or too little
    return ""


def account_linked(agent: Agent, r: Record, out: list[Change]) -> str:
    """What is so already is not written again: a tenant's copy of what enrolling said makes nothing stale."""
    d = r.data
    assert isinstance(d, AccountLinked)
    if (agent.accounts.get(d.platform), agent.credentials.get(d.platform, "")) == (d.account, d.secret_ref):
        return ""
    agent.accounts[d.platform] = d.account
    agent.credentials.pop(d.platform, None)
    if d.secret_ref:
        agent.credentials[d.platform] = d.secret_ref
    write(agent, (f"account/{d.platform}",))
    out.append(Change("account", 0, 0, 0, "linked", d.platform, d.account))
    return ""


def account_unlinked(agent: Agent, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, AccountUnlinked)
    account = agent.accounts.pop(d.platform)
    agent.credentials.pop(d.platform, None)
    write(agent, (f"account/{d.platform}",))
    out.append(Change("account", 0, 0, 0, "unlinked", d.platform, account))
    return ""


def tool_changed(agent: Agent, r: Record, out: list[Change]) -> str:
    """What acts on the platform reads the account, and so is stale: judged for a schema that is no more."""
    d = r.data
    assert isinstance(d, ToolChanged)
    write(agent, (f"account/{d.platform}",))
    out.append(Change("account", 0, 0, 0, "tool_changed", d.platform, d.tool))
    return ""


def status_set(agent: Agent, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, AgentStatusSet)
    if d.status == "released":
        agent.quarantine = None
    else:
        agent.status = d.status
    out.append(Change("agent", 0, 0, 0, d.status, d.reason))
    settle_holds(agent, r.append_ts)
    if d.status == "retired":
        for c in list(agent.campaigns.values()):
            cancel(agent, c, "retired", out)
    return ""


def allowance_set(agent: Agent, r: Record, out: list[Change]) -> str:
    """A new limit for the running window: what was used in it stays used. Another window begins with nothing used, and what is
    reserved in earlier ones is settled in none: windows of two lengths may begin at the same time."""
    d = r.data
    assert isinstance(d, AllowanceSet)
    old = agent.allowance
    start = r.append_ts // d.window_ms * d.window_ms
    used = ZERO
    if old is not None and (old.window_ms, old.window_start) == (d.window_ms, start):
        used = old.used
    else:
        for t in (t for c in agent.campaigns.values() for t in c.tasks.values() if t.reserved):
            t.reserved_window = NO_WINDOW
    agent.allowance = Allowance(d.limit_usd, d.window_ms, start, used)
    out.append(Change("allowance", 0, 0, 0, "set", "", str(d.limit_usd)))
    return ""


def signal_observed(agent: Agent, r: Record, out: list[Change]) -> str:
    d = r.data
    assert isinstance(d, SignalObserved)
    if len(agent.heard) >= MAX_HEARD:
        agent.signals[d.source] = (d.number, agent.signals.get(d.source, (0, ""))[1])  # asked for again from where it was
        return "backlog"
    agent.signals[d.source] = (d.number, d.cursor)
    agent.heard.append(ref(r))
    write(agent, dict.fromkeys(f"thread/{item.thread}" for item in d.items))
    out.append(Change("signal", 0, 0, 0, "observed", d.source, str(len(d.items))))
    return ""
