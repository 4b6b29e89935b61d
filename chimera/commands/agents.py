"""Commands about agents: enrol one with all it needs, pause, resume, retire, release.

The rule not to break: enrolling states what an agent shall have, so repeating it appends only what is missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from chimera.commands.decision import Decision, Refused, existing
from chimera.errors import ChimeraError
from chimera.events.records import (
    AccountLinked,
    AccountUnlinked,
    AgentEnrolled,
    AgentStatusSet,
    AllowanceSet,
    Data,
    PolicyAdopted,
    PolicyInline,
    SoulAdopted,
    ToolChanged,
)
from chimera.events.state import Agent


class UnknownAgent(ChimeraError):
    """A name that no enrolled agent has; the message suggests near ones."""


@dataclass(frozen=True)
class PolicyText:
    """A policy bundle ready to be adopted."""

    digest: str
    text: str
    inline: PolicyInline
    stales: bool = False


@dataclass(frozen=True)
class Enrolment:
    """What one agent of a fleet shall have. `accounts` maps platform to handle; `window_ms` is the allowance's window."""

    name: str
    groups: tuple[str, ...]
    soul_digest: str
    soul: str
    policy: PolicyText
    accounts: Mapping[str, str] = field(default_factory=dict)
    limit_usd: Decimal = Decimal(0)
    window_ms: int = 86_400_000
    place: str = ""
    """Where it is written, for messages: `fleet.yaml, line 7`."""


# --- decisions -------------------------------------------------------------------------------------------------------


def enrol(
    wanted: Enrolment, editor: str, adopted_soul: str | None = None, update: bool = False, tenant_keeps: bool = False
) -> Decision:
    """What the agent still lacks. With `update` also what differs; `adopted_soul` is then the digest of the soul it has.

    `tenant_keeps`: its tenant says whose accounts are, and tells the agent by copies; only a new agent, which may be given work at
    once, is told of them here.
    """

    def decide(agent: Agent | None) -> Sequence[Data]:
        records: list[Data] = []
        if agent is None:
            records.append(AgentEnrolled(name=wanted.name, groups=list(wanted.groups)))
        elif agent.status == "retired":
            raise Refused(f"agent '{agent.name}' is retired for good: enrol a new one under another name")
        has_soul = agent is not None and agent.soul is not None
        if not has_soul or (update and adopted_soul is not None and adopted_soul != wanted.soul_digest):
            records.append(SoulAdopted(digest=wanted.soul_digest, soul=wanted.soul))
        policy = agent.policy if agent is not None else None
        if policy is None or (update and policy.digest != wanted.policy.digest):
            records.append(_policy(wanted.policy, 1 if policy is None else policy.edition + 1, editor))
        linked = agent.accounts if agent is not None else {}
        accounts = wanted.accounts if agent is None or not tenant_keeps else linked
        for platform, account in sorted(accounts.items()):
            if platform not in linked or (update and linked[platform] != account):
                records.append(AccountLinked(platform=platform, account=account))
        if update:
            records += [AccountUnlinked(platform=platform) for platform in sorted(linked.keys() - accounts.keys())]
        has = agent.allowance if agent is not None else None
        if has is None or (update and (has.limit, has.window_ms) != (wanted.limit_usd, wanted.window_ms)):
            records.append(AllowanceSet(limit_usd=wanted.limit_usd, window_ms=wanted.window_ms))
        return records

    return decide


def adopt_policy(policy: PolicyText, editor: str) -> Decision:
    """The next edition, unless this very text is adopted already."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        has = existing(agent).policy
        if has is not None and has.digest == policy.digest:
            return []
        return [_policy(policy, 1 if has is None else has.edition + 1, editor)]

    return decide


def pause(reason: str = "") -> Decision:
    """Hold the agent's work; nothing is destroyed."""
    return _status("paused", reason, frozenset(("active",)))


def resume(reason: str = "") -> Decision:
    """Let a paused agent go on."""
    return _status("active", reason, frozenset(("paused",)))


def retire(reason: str = "") -> Decision:
    """For good: closes what is open, as a cancelled campaign does."""
    return _status("retired", reason, frozenset(("active", "paused")))


def release(reason: str = "") -> Decision:
    """End a quarantine: the broken record has been looked at."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        if existing(agent).quarantine is None:
            return []
        return [AgentStatusSet(status="released", reason=reason)]

    return decide


def _status(status: str, reason: str, legal_from: frozenset[str]) -> Decision:
    def decide(agent: Agent | None) -> Sequence[Data]:
        found = existing(agent)
        if found.status == status:
            return []
        if found.status not in legal_from:
            raise Refused(f"agent '{found.name}' is {found.status}, which is for good: enrol a new one instead")
        return [AgentStatusSet.model_validate({"status": status, "reason": reason})]

    return decide


def _policy(policy: PolicyText, edition: int, editor: str) -> PolicyAdopted:
    return PolicyAdopted(
        edition=edition,
        digest=policy.digest,
        editor=editor,
        stales=policy.stales,
        inline=policy.inline,
        rules=policy.text,
    )


# --- finding agents --------------------------------------------------------------------------------------------------


def find(agents: Iterable[Agent], name: str) -> Agent:
    """The agent of that name or stream key. Raises `UnknownAgent` with near names, or when tenants share the name."""
    known = list(agents)
    found = [agent for agent in known if agent.name == name or agent.key == name]
    if len(found) == 1:
        return found[0]
    if found:
        keys = ", ".join(f"{agent.key} (tenant {agent.tenant})" for agent in found)
        raise UnknownAgent(f"'{name}' is the name of several agents: use a stream key: {keys}")
    raise UnknownAgent(f"no agent is called '{name}'{near(name, [agent.name for agent in known])}")


def near(name: str, names: Iterable[str]) -> str:
    """The way out of a mistyped name, as the end of a sentence."""
    known = sorted(set(names))
    close = difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.5)
    if close:
        return f": did you mean {' or '.join(close)}?"
    if not known:
        return ": none is enrolled yet, use `chimera agent enrol -f fleet.yaml`"
    return f": known are {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}"


def tool_changed(tools: Mapping[str, str], reason: str) -> Decision:
    """Platform -> the tool (`profile.tool`) that has another schema: what waits to be sent there is made anew."""

    def decide(agent: Agent | None) -> Sequence[Data]:
        there = existing(agent).accounts
        return [ToolChanged(platform=name, tool=tool, reason=reason) for name, tool in sorted(tools.items()) if name in there]

    return decide
