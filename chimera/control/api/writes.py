"""The API's wishes: each is one verb of the command service, given in the account's name.

The rule not to break: what costs or moves money is decided by a person at the desk who has just shown a password; no token does it.
"""

from __future__ import annotations

import uuid
from typing import Any, TypeVar

from psycopg.rows import dict_row
from pydantic import ValidationError

from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.control.access import action_for
from chimera.control.api import models
from chimera.control.api.calls import Api, Call

W = TypeVar("W", bound=verbs.Wish)
_SPACE = uuid.UUID("6b1f52f4-6d0c-5f0e-9d0b-2a7c3a5b8d11")
_PARTS = "SELECT agent_id FROM analytics_v1.campaigns WHERE tenant = %(tenant)s AND campaign_id = %(campaign)s ORDER BY agent_id"


async def approve(api: Api, call: Call) -> models.Answers:
    """The account's vote for exactly what was shown."""
    body: models.Approve = call.body
    return await _on_card(api, call, _wish(verbs.Approve, call, card=call.card, shown=_shown(body.shown), comment=body.comment))


async def reject(api: Api, call: Call) -> models.Answers:
    """Close the card and its task."""
    body: models.Reject = call.body
    given = {"shown": _shown(body.shown), "reason_code": body.reason_code, "comment": body.comment}
    return await _on_card(api, call, _wish(verbs.Reject, call, card=call.card, **given), "rejected")


async def edit(api: Api, call: Call) -> models.Answers:
    """Other words in place of those shown."""
    body: models.Edit = call.body
    given = {"shown": _shown(body.shown), "text": body.text, "comment": body.comment}
    return await _on_card(api, call, _wish(verbs.Edit, call, card=call.card, **given))


async def undo(api: Api, call: Call) -> models.Answers:
    """Take an approval back that nobody has claimed."""
    return await _on_card(api, call, _wish(verbs.Withdraw, call, card=call.card, reason=call.body.reason), "withdrawn")


async def hold(api: Api, call: Call) -> models.Answers:
    """Mark a card as one's own."""
    body: models.Hold = call.body
    return await _on_card(api, call, _wish(verbs.Hold, call, card=call.card, reason=body.reason, until=body.until_ms))


async def release(api: Api, call: Call) -> models.Answers:
    """Take the mark off."""
    return await _on_card(api, call, _wish(verbs.Release, call, card=call.card, reason=call.body.reason))


async def pause(api: Api, call: Call) -> models.Answers:
    """Nothing new is begun by the agent, and nothing of it leaves."""
    return await _agent(api, call, "agent.pause")


async def resume(api: Api, call: Call) -> models.Answers:
    """The agent goes on."""
    return await _agent(api, call, "agent.resume")


async def pause_campaign(api: Api, call: Call) -> models.Answers:
    """The campaign stands still at every agent of the tenant."""
    return await _campaign(api, call, "campaign.pause")


async def resume_campaign(api: Api, call: Call) -> models.Answers:
    """The campaign goes on."""
    return await _campaign(api, call, "campaign.resume")


async def cancel_campaign(api: Api, call: Call) -> models.Answers:
    """The campaign ends; what was published stays."""
    return await _campaign(api, call, "campaign.cancel")


async def _on_card(api: Api, call: Call, wish: verbs.Wish, closes_as: str = "") -> models.Answers:
    try:
        seen = await api.asking.ask(verbs.CardShow(card=call.card, deciding=closes_as))
    except Refused:
        if not call.key:
            raise
        # There is no card any more: perhaps by this very wish, sent before. The service remembers it, and refuses any other.
        return _answers(await api.asking.ask(wish))  # type: ignore[arg-type]  # a wish is one of the verbs
    if not seen["closed_as"]:  # else it is as wished already, and nothing will be appended
        call.demand(action_for(seen["card"]["effect_class"]), seen["card"]["tenant"])
    return _answers(await api.asking.ask(wish))  # type: ignore[arg-type]  # a wish is one of the verbs


async def _agent(api: Api, call: Call, verb: str) -> models.Answers:
    wish = _wish(verbs.AgentStatus, call, verb=verb, names=(call.path["name"],), reason=call.body.reason)
    return _answers(await api.asking.ask(wish))


async def _campaign(api: Api, call: Call, verb: str) -> models.Answers:
    tenant, campaign = call.path["tenant"], call.path["campaign"]
    async with api.reading() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_PARTS, {"tenant": tenant, "campaign": campaign})
        parts = [row["agent_id"] for row in await cursor.fetchall()]
    if not parts:
        raise LookupError(f"there is no such campaign in tenant {tenant}")
    opened_by = (await api.asking.ask(verbs.CampaignShow(campaign=campaign)))["tenants"]
    # What the tenant opened is commanded through it, so that members who come later are told too; else agent by agent.
    whom: dict[str, Any] = {"tenant": tenant} if any(row["tenant"] == tenant for row in opened_by) else {"names": tuple(parts)}
    wish = _wish(verbs.CampaignStatus, call, verb=verb, campaign=campaign, reason=call.body.reason, **whom)
    return _answers(await api.asking.ask(wish))


def _wish(model: type[W], call: Call, **fields: Any) -> W:
    """The wish, named by the caller's idempotency key where they gave one: the same account, path and key is the same wish."""
    id_ = str(uuid.uuid4())
    if call.key:
        id_ = str(uuid.uuid5(_SPACE, "\n".join((call.principal.name, call.at, call.key))))
    try:
        return model(id=id_, actor=call.principal.name, **fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise verbs.BadVerb(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def _shown(shown: models.Shown) -> verbs.Shown:
    return verbs.Shown(shown_hash=shown.shown_hash, effect_hash=shown.effect_hash, edit=shown.edit)


def _answers(reply: verbs.Reply) -> models.Answers:
    told = [
        models.Answer(
            name=name,
            command_id=answer.command_id,
            outcome=answer.outcome,
            reason=answer.reason,
            state_version=answer.state_version,
            position=answer.position,
        )
        for name, answer in verbs.answers_of(reply)
    ]
    return models.Answers(answers=told)
