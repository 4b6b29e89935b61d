"""The one pure fold: `fold(law, agent, record) -> agent, Ruling`, and its twin for tenants. Total: no record makes it raise.

It takes ownership of the agent passed in and may reuse it (like a move): the same inputs give the same outputs, but callers that
need the old state copy it first. Everyone who says what counts calls this function, so everyone agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from chimera.events.does.campaigns import spot_of
from chimera.events.does.copies import as_told
from chimera.events.does.ledger import look_again
from chimera.events.does.steps import ref, settle_holds
from chimera.events.envelope import Record
from chimera.events.law import TABLE, TENANT_TABLE, TaskRow
from chimera.events.records import ALL, AgentEnrolled, Command, Copied, Data, EffectEnded, TenantCreated
from chimera.events.state import RECENT_COMMANDS, Agent, Change, Law, Ruling
from chimera.events.tenant import Tenant


class _Kind(NamedTuple):
    """What is asked of a record's type for every record: known beforehand, since asking a model costs more than a look-up."""

    role: str
    plain: bool
    """None of what follows, nor a command's: all that is asked is whether its role's key signed it, where the law lists one."""
    copies: bool
    """It may be the copy of a fact of another stream."""
    expires: bool
    """It carries `not_after`."""
    commands: bool
    """It always carries the next command number."""
    ends: bool
    """EffectEnded: it carries a command number where a person proves how an effect ended."""
    begins: bool
    """It makes the stream, and so is the first of it."""


def _kind(model: type[Data]) -> _Kind:
    copies, expires = "copied" in model.model_fields, "not_after" in model.model_fields
    commands, ends, begins = issubclass(model, Command), model is EffectEnded, model in (AgentEnrolled, TenantCreated)
    plain = not (copies or expires or commands or ends or begins) and model.ROLE not in ("command", "courier")
    return _Kind(model.ROLE, plain, copies, expires, commands, ends, begins)


_KINDS: dict[type[Data], _Kind] = {model: _kind(model) for model in ALL}
_NOBODY: frozenset[str] = frozenset()


def fold(law: Law, agent: Agent | None, r: Record) -> tuple[Agent | None, Ruling]:
    """What the law says of `r` at its place in the agent's log, and the state after it."""
    version = agent.version if agent is not None else 0
    if r.defect is not None:
        return _unreadable(agent, r, version)
    d = r.data
    row = TABLE.get(r.type)
    if d is None or row is None:
        return agent, Ruling("void", "unknown_type", version, version)
    kind = _KINDS[type(d)]
    copied: Copied | None = None
    numbered = False
    # Most records: what is asked of the others says the same of them, in more words. (An end's number and deadline are a person's.)
    plain = kind.plain or (kind.ends and not (d.command_no or d.not_after))  # type: ignore[attr-defined]
    if plain:
        keys = law.keys.get(kind.role)
        signed = keys is None or r.signed_by in keys
    else:
        copied = d.copied if kind.copies else None  # type: ignore[attr-defined]
        numbered = kind.commands or (kind.ends and bool(d.command_no))  # type: ignore[attr-defined]
        signed = _signed(law, kind, copied, numbered, r)
    if not signed:
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
    if copied is not None and ("courier" not in row.who or copied.source != f"tenant/{subject.tenant}"):
        return agent, Ruling("void", "forged", version, version)
    if not plain:
        reason = _number(subject, kind, copied, numbered, r)
        if reason is not None:
            return agent, Ruling("void", reason, version, version)
        if copied is not None:
            r = as_told(subject, r)
    at: Any = subject
    reason = None
    if type(row) is TaskRow:
        at = spot_of(subject, r)
        reason = at if type(at) is str else None
    if reason is None:
        for guard in row.counts_when:
            reason = guard(at, r)
            if reason is not None:
                break
    if reason is not None:
        if copied is None:
            return agent, Ruling("void", reason, version, version)
        subject.copies_in[copied.source] = copied.number  # a copy's number is always used up
        return agent, Ruling("rejected", reason, version, version)
    if copied is not None:
        subject.copies_in[copied.source] = copied.number
    elif numbered:
        _used(subject, r)
    out: list[Change] = []
    reason = row.does(at, r, out)
    return subject, _ruling(("rejected" if reason else "applied", reason, version, subject.version, tuple(out)))


_ruling: Callable[[tuple[str, str, int, int, tuple[Change, ...]]], Ruling] = partial(tuple.__new__, Ruling)
"""A ruling of all its parts, past its own constructor, which takes longer than the tuple."""


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
    kind = _KINDS[type(d)]
    copied: Copied | None = d.copied if kind.copies else None  # type: ignore[attr-defined]
    if r.tenant != subject.tenant or (copied is not None and row.who != "courier"):
        return tenant, Ruling("void", "forged", version, version)
    reason = _number(subject, kind, copied, kind.commands, r)
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
    elif kind.commands:
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
    kind = _KINDS[type(d)]
    copied: Copied | None = d.copied if kind.copies else None  # type: ignore[attr-defined]
    return _signed(law, kind, copied, kind.ends and bool(d.command_no), r)  # type: ignore[attr-defined]


def _signed(law: Law, kind: _Kind, copied: Copied | None, numbered: bool, r: Record) -> bool:
    """`may_write` for a record whose kind is known; `numbered`: it carries a command number."""
    if copied is not None or kind.role == "courier":
        # Facts cross as signed copies: the courier's own key where the law lists one, else the command service's, where it lives.
        return r.signed_by in law.keys.get("courier", law.keys.get("command", _NOBODY))
    role = "command" if kind.ends and numbered else kind.role
    keys = law.keys.get(role)
    if keys is None:
        return role != "command"
    return r.signed_by in keys


def _used(stream: Agent | Tenant, r: Record) -> None:
    """The command's number and id are used up."""
    stream.command_no += 1
    stream.recent.append(r.id)
    del stream.recent[:-RECENT_COMMANDS]


def _number(stream: Agent | Tenant, kind: _Kind, copied: Copied | None, numbered: bool, r: Record) -> str | None:
    """Void reason of a command or copy that is not the next one, or too late; other records are numbered by their guards."""
    if copied is not None:
        last = stream.copies_in.get(copied.source, 0)
        if copied.number != last + 1:
            return "duplicate" if copied.number <= last else "conflict"
    elif numbered:
        if r.id in stream.recent:
            return "duplicate"
        number: int = r.data.command_no  # type: ignore[union-attr]
        if number != stream.command_no + 1:
            return "duplicate" if number <= stream.command_no else "conflict"
    if kind.begins and stream.version > 0:
        return "duplicate"
    return "too_late" if kind.expires and 0 < r.data.not_after < r.append_ts else None  # type: ignore[union-attr]


def _unreadable(agent: Agent | None, r: Record, version: int) -> tuple[Agent | None, Ruling]:
    """Changes nothing but this: the agent is quarantined (a gate) until a person releases it."""
    if agent is None or agent.quarantine is not None:
        return agent, Ruling("void", "unreadable", version, version)
    agent.quarantine = ref(r)
    settle_holds(agent, r.append_ts)
    return agent, Ruling("void", "unreadable", version, version, (Change("agent", 0, 0, 0, "quarantined", r.defect or ""),))
