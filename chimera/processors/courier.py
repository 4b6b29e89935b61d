"""The courier: carries copies between streams. Until tenants' streams exist it answers for them: what costs money is refused.

The rule not to break: it owes copy n iff n is the next one the target expects; numbers make a second copy harmless.
"""

from __future__ import annotations

from typing import Any

from chimera.events.records import Copied, CopiesDelivered, FundsAnswered
from chimera.events.state import Agent
from chimera.processors.jobs import Answer, Due, Job, Role, Tools

NAME = "courier"


def due(agent: Agent, now: int) -> Due:
    """Answers to asked-for funds, then receipts for the copies that were owed."""
    tenant = f"tenant/{agent.tenant}"
    owed = agent.owed.get(tenant, [])
    facts: dict[str, Any]
    for c in agent.campaigns.values():
        for t in c.tasks.values():
            if t.effect is not None and t.effect.funds == "asked":
                number = agent.copies_in.get(tenant, 0) + 1
                facts = {"source": tenant, "cause": t.effect.ref}
                return Due(
                    [Job(NAME, "funds", agent.key, agent.tenant, c.campaign_id, c.number, t.ordinal, t.attempt, number, facts)]
                )
    if owed:
        facts = {"target": tenant, "upto": owed[-1].number}
        return Due([Job(NAME, "delivered", agent.key, agent.tenant, "", 0, 0, 0, owed[-1].number, facts)])
    return Due([])


async def do(job: Job, tools: Tools) -> Answer | None:
    """One copy, or one receipt."""
    if job.what == "delivered":
        return Answer(CopiesDelivered(target=job.facts["target"], upto=job.facts["upto"]))
    cause = await tools.read(job.facts["cause"])
    data = FundsAnswered(
        copied=Copied(source=job.facts["source"], number=job.number),
        campaign=job.campaign,
        ordinal=job.ordinal,
        attempt=job.attempt,
        answer="payee",
        reason="this installation has no ledger yet: what costs money is refused",
    )
    return Answer(data, cause.id)


def role() -> Role:
    return Role(NAME, due, do)
