"""What the judge's rules say of words that a person means to put into a card, before they are put there.

The rule not to break: this is advice from the same table that the judge votes by, and no vote: whatever it says, the judges are
asked again. What it could not look at it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chimera.commands.cards import Card, Sight
from chimera.commands.decision import Refused
from chimera.events.records import ArtifactProduced, Data, PlanDrafted, PlanRow, PolicyAdopted, SoulAdopted
from chimera.events.state import Ref
from chimera.policy.boardkit import parse_rules, parse_soul
from chimera.policy.brief import read_criteria
from chimera.policy.context import Context, Findings
from chimera.policy.documents import DocumentError
from chimera.policy.rules import judge
from chimera.policy.writing import Article, read_article

Fetch = Callable[[Ref], Data]
"""The content of a record that the state names."""


def reread(card: Card, seen: Sight, text: str, fetch: Fetch) -> dict[str, Any]:
    """What fails the new words, what would show them to people, their tags, and what was not looked at. Raises `Refused` where
    the agent's policy or persona cannot be read."""
    agent = card.agent
    if agent.policy is None or agent.soul is None:
        raise Refused(f"card {card.address}: '{agent.name}' has no policy or no persona to read the words by")
    policy, persona = fetch(agent.policy.ref), fetch(agent.soul)
    if not isinstance(policy, PolicyAdopted) or not isinstance(persona, SoulAdopted):
        raise Refused(
            f"card {card.address}: policy and persona of '{agent.name}' are not where its state says: run `chimera replay verify`"
        )
    unseen = ["texts of the tenant's other accounts", "the quality score"]
    try:
        draft = _draft(seen, fetch)
        row = _row(card, fetch)
        sources = _sources(draft, fetch)
        if not sources:
            unseen.append("the articles (numbers and quotations)")
        if row is None:
            unseen.append("the acceptance criteria")
        context = Context(
            rules=parse_rules(policy.rules),
            soul=parse_soul(persona.soul),
            platform=card.effect.platform,
            sources=sources,
            max_chars=row.inputs.get("max_chars") if row is not None else None,
            disclosure=seen.card["disclosure"],
            criteria=read_criteria(row.criteria) if row is not None else (),
            fingerprints=[
                (mark[0], mark[1])
                for mark in agent.fingerprints.get(f"{card.effect.platform}/{card.effect.account}", ())
                if (mark[2], mark[3]) != (card.campaign.number, card.task.ordinal)
            ],
            taint=draft.taint if draft is not None else "open",
            is_reply=card.effect.thread is not None,
            addressee=str(seen.artifact.content.get("addressee", "")),
        )
    except (DocumentError, ValueError, LookupError) as error:
        raise Refused(
            f"card {card.address}: the rules cannot be asked about the new words ({type(error).__name__}: {error})"
        ) from error
    return _told(judge(text, context)) | {"unseen": unseen}


def _told(findings: Findings) -> dict[str, Any]:
    return {
        "failed": [hit.reason for hit in findings.failed],
        "asked": [hit.reason for hit in findings.asked],
        "tags": list(findings.tags),
    }


def _draft(seen: Sight, fetch: Fetch) -> ArtifactProduced | None:
    """The worker's draft: what is shown, or what an edit names."""
    if isinstance(seen.artifact, ArtifactProduced):
        return seen.artifact
    named = seen.artifact.content.get("draft")
    found = fetch(Ref(*named)) if named else None
    return found if isinstance(found, ArtifactProduced) else None


def _row(card: Card, fetch: Fetch) -> PlanRow | None:
    plan = fetch(card.task.ref)
    rows = plan.rows if isinstance(plan, PlanDrafted) else []
    return next((row for row in rows if row.ordinal == card.task.ordinal), None)


def _sources(draft: ArtifactProduced | None, fetch: Fetch) -> list[Article]:
    named = draft.provenance.get("research") if draft is not None else None
    research = fetch(Ref(*named)) if named else None
    if draft is None or not isinstance(research, ArtifactProduced):
        return []
    used = {source.get("id") for source in draft.sources}
    return [read_article(article) for article in research.content.get("articles", ()) if article["id"] in used]
