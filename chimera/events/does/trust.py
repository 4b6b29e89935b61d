"""Whether an agent is in shadow: counted from what people made of its last cards (law: Quorum).

The rule not to break: only people's decisions are counted, each card once, and an agent that lost its trust earns all of it anew.
"""

from __future__ import annotations

from typing import NamedTuple

from chimera.events.principals import is_machine
from chimera.events.state import Agent, Change

MOST_DECISIONS = 100
"""So many of the last decisions stay in the state."""
AGREED, EDITED, REJECTED = "a", "e", "r"
_WHOLE_PPM = 1_000_000


class Standing(NamedTuple):
    """What the policy's window holds: decisions, and those of them that overrode the agent."""

    decided: int
    overridden: int


def in_shadow(agent: Agent) -> bool:
    """People see all that it wants to do: policy says so of everybody, or of whom people have not agreed with often enough."""
    p = agent.policy.inline if agent.policy is not None else None
    return p is not None and (p.shadow or (p.probation is not None and not agent.trusted))


def standing(agent: Agent) -> Standing:
    """Of the last decisions that the adopted policy looks at; all that are kept where it names no window."""
    p = agent.policy.inline.probation if agent.policy is not None else None
    recent = agent.decided[-max(1, min(p.window, MOST_DECISIONS)) :] if p is not None else agent.decided
    return Standing(len(recent), len(recent) - recent.count(AGREED))


def decided(agent: Agent, actor: str, what: str, out: list[Change]) -> None:
    """A person decided on one of its cards."""
    if is_machine(actor):
        return
    agent.decided = (agent.decided + what)[-MOST_DECISIONS:]
    weigh(agent, out)


def weigh(agent: Agent, out: list[Change]) -> None:
    """Trust it, or take its trust away, where the decisions in the window are enough to say so."""
    p = agent.policy.inline.probation if agent.policy is not None else None
    n, overridden = standing(agent)
    if p is None or n < p.decisions:
        return
    told = f"{overridden} of {n} overridden"
    if not agent.trusted and overridden * _WHOLE_PPM <= p.overrides_ppm * n:
        agent.trusted = True
        out.append(Change("trust", 0, 0, 0, "trusted", "", told))
    elif agent.trusted and overridden * _WHOLE_PPM > p.demote_above_ppm * n:
        agent.trusted, agent.decided = False, ""
        out.append(Change("trust", 0, 0, 0, "shadow", "overridden", told))
