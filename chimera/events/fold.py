"""The one pure fold: `fold(law, agent, record) -> agent, Ruling`, and its twin for tenants. Total: no record makes it raise.

It takes ownership of the agent passed in and may reuse it (like a move): the same inputs give the same outputs, but callers that
need the old state copy it first. Everyone who says what counts calls this function, so everyone agrees.
"""

from __future__ import annotations

from chimera.events.does.copies import as_told
from chimera.events.does.ledger import look_again
from chimera.events.does.steps import ref, settle_holds
from chimera.events.envelope import Record
from chimera.events.law import TABLE, TENANT_TABLE
from chimera.events.records import ALL, AgentEnrolled, Command, Copied, Data, EffectEnded, TenantCreated
from chimera.events.state import RECENT_COMMANDS, Agent, Change, Law, Ruling
from chimera.events.tenant import Tenant

# Asking a model for a field it lacks is slow; which types have which is known beforehand.
_CARRY_COPY = frozenset(model for model in ALL if "copied" in model.model_fields)
_CARRY_DEADLINE = frozenset(model for model in ALL if "not_after" in model.model_fields)


def fold(law: Law, agent: Agent | None, r: Record) -> tuple[Agent | None, Ruling]:
    """What the law says of `r` at its place in the agent's log, and the state after it."""
    version = agent.version if agent is not None else 0
    if r.defect is not None:
        return _unreadable(agent, r, version)
    d = r.data
    row = TABLE.get(r.type)
    if d is None or row is None:
        return agent, Ruling("void", "unknown_type", version, version)
    if not may_write(law, d, r):
        return agent, Ruling("void", "forged", version, version)
    if not r.hash_ok:
        return agent, Ruling("void", "wrong_hash", version, version)
    if agent is None:
        if not isinstance(d, AgentEnrolled) or not r.key.startswith("agent/"):
            return None, Ruling("void", "unknown", 0, 0)
        subject = Agent(key=r.key, tenant=r.tenant, name=d.name)
    else:
        subject = agent
        if r.tenant != agent.tenant:
            return agent, Ruling("void", "forged", version, version)
    copied = _copied(d)
    if copied is not None and ("courier" not in row.who or copied.source != f"tenant/{subject.tenant}"):
        return agent, Ruling("void", "forged", version, version)
    reason = _number(subject, d, copied, r)
    if reason is not None:
        return agent, Ruling("void", reason, version, version)
    if copied is not None:
        r = as_told(subject, r)
    for guard in row.counts_when:
        reason = guard(subject, r)
        if reason is not None:
            if copied is None:
                return agent, Ruling("void", reason, version, version)
            subject.copies_in[copied.source] = copied.number  # a copy's number is always used up
            return agent, Ruling("rejected", reason, version, version)
    if copied is not None:
        subject.copies_in[copied.source] = copied.number
    elif isinstance(d, Command) or (isinstance(d, EffectEnded) and d.command_no):
        _used(subject, r)
    out: list[Change] = []
    reason = row.does(subject, r, out)
    return subject, Ruling("rejected" if reason else "applied", reason, version, subject.version, tuple(out))


def fold_tenant(law: Law, tenant: Tenant | None, r: Record) -> tuple[Tenant | None, Ruling]:
    """`fold` for a tenant's stream: the same order of questions, its own table, and who waits for funds is looked at last."""
    version = tenant.version if tenant is not None else 0
    d = r.data
    row = TENANT_TABLE.get(r.type)
    reason = None
    if r.defect is not None:
        reason = "unreadable"  # no quarantine: nothing of a tenant is held by a gate of its own
    elif d is None or row is None:
        reason = "unknown_type"
    elif not may_write(law, d, r):
        reason = "forged"
    elif not r.hash_ok:
        reason = "wrong_hash"
    elif tenant is None and not (isinstance(d, TenantCreated) and r.key.startswith("tenant/")):
        reason = "unknown"
    if reason is not None or d is None or row is None:
        return tenant, Ruling("void", reason or "unknown_type", version, version)
    subject = tenant if tenant is not None else Tenant(r.key, r.tenant)
    copied = _copied(d)
    if r.tenant != subject.tenant or (copied is not None and row.who != "courier"):
        return tenant, Ruling("void", "forged", version, version)
    reason = _number(subject, d, copied, r)
    if reason is not None:
        return tenant, Ruling("void", reason, version, version)
    for guard in row.counts_when:
        reason = guard(subject, r)
        if reason is not None:
            if copied is None:
                return tenant, Ruling("void", reason, version, version)
            subject.copies_in[copied.source] = copied.number
            return tenant, Ruling("rejected", reason, version, version)
    if copied is not None:
        subject.copies_in[copied.source] = copied.number
    elif isinstance(d, Command):
        _used(subject, r)
    out: list[Change] = []
    clock, day = subject.clock, subject.day
    subject.clock = max(clock, r.append_ts)
    reason = row.does(subject, r, out)
    if reason:
        subject.clock = clock
        return subject, Ruling("rejected", reason, version, version, tuple(out))
    subject.version += 1
    look_again(subject, day, r.type, out)
    return subject, Ruling("applied", "", version, subject.version, tuple(out))


def may_write(law: Law, d: Data, r: Record) -> bool:
    """Is the record signed by a key of its role, where the law asks for a signature (law, rule 5)?"""
    if d.ROLE == "courier" or _copied(d) is not None:
        # Facts cross as signed copies: the courier's own key where the law lists one, else the command service's, where it lives.
        return r.signed_by in law.keys.get("courier", law.keys.get("command", frozenset()))
    if isinstance(d, EffectEnded) and d.command_no:
        role = "command"
    else:
        role = d.ROLE
    keys = law.keys.get(role)
    if keys is None:
        return role != "command"
    return r.signed_by in keys


def _copied(d: Data) -> Copied | None:
    """Which fact of which stream this record is a copy of, if it is one."""
    if type(d) not in _CARRY_COPY:
        return None
    copied: Copied | None = d.copied  # type: ignore[attr-defined]
    return copied


def _used(stream: Agent | Tenant, r: Record) -> None:
    """The command's number and id are used up."""
    stream.command_no += 1
    stream.recent.append(r.id)
    del stream.recent[:-RECENT_COMMANDS]


def _number(agent: Agent | Tenant, d: Data, copied: Copied | None, r: Record) -> str | None:
    """Void reason of a command or copy that is not the next one, or too late; other records are numbered by their guards."""
    not_after: int = d.not_after if type(d) in _CARRY_DEADLINE else 0  # type: ignore[attr-defined]
    if copied is not None:
        last = agent.copies_in.get(copied.source, 0)
        if copied.number != last + 1:
            return "duplicate" if copied.number <= last else "conflict"
    elif isinstance(d, Command) or (isinstance(d, EffectEnded) and d.command_no):
        if r.id in agent.recent:
            return "duplicate"
        if d.command_no != agent.command_no + 1:
            return "duplicate" if d.command_no <= agent.command_no else "conflict"
    if isinstance(d, AgentEnrolled | TenantCreated) and agent.version > 0:
        return "duplicate"
    return "too_late" if 0 < not_after < r.append_ts else None


def _unreadable(agent: Agent | None, r: Record, version: int) -> tuple[Agent | None, Ruling]:
    """Changes nothing but this: the agent is quarantined (a gate) until a person releases it."""
    if agent is None or agent.quarantine is not None:
        return agent, Ruling("void", "unreadable", version, version)
    agent.quarantine = ref(r)
    settle_holds(agent, r.append_ts)
    return agent, Ruling("void", "unreadable", version, version, (Change("agent", 0, 0, 0, "quarantined", r.defect or ""),))
