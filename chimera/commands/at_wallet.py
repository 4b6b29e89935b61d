"""Verbs on wallets, performed: pay somebody.

The rule not to break: a payment is an effect like any other. It starts a campaign of its own whose one task is judged, held in
the ledger, approved by people, claimed and recorded; and it goes to a payee of the agent's tenant or nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from chimera.commands import campaigns, verbs
from chimera.commands.decision import Refused
from chimera.commands.room import Room
from chimera.commands.verbs import Reply
from chimera.events.tenant import Tenant
from chimera.policy.brief import WALLET, Transfer


def wallet_transfer(room: Room, verb: verbs.WalletTransfer) -> Reply:
    """Start the campaign that makes one payment; nothing where the same payment is on its way."""
    agent = room.fresh(lambda: room.agent(verb.agent))
    account = agent.accounts.get(WALLET)
    if account is None:
        raise Refused(f"agent '{agent.name}' has no wallet: `chimera account link {agent.name} {WALLET}/{agent.name}` gives it one")
    to = room.fresh(lambda: _payee(room.tenant(agent.tenant), verb.to))
    wanted = _wanted(verb, to)
    name = f"pay {wanted.amount} {wanted.asset} to {to}"
    id_ = campaigns.campaign_id(name)
    order = room.order(verb, agent, campaigns.start(name, {"transfer": wanted.model_dump(mode="json")}))
    with room.service.still():
        under_way = campaigns.open_campaign(agent, id_) is not None
    about = {"campaign_id": id_, "payment": {"agent": agent.name, "account": account, **wanted.model_dump(mode="json")}}
    if verb.dry_run:
        return about | {"plan": {agent.name: "nothing: under way already" if under_way else "CampaignStarted"}}
    return room.submit([order], [agent.name]) | about


def _payee(tenant: Tenant, said: str) -> str:
    """The payee as the tenant lists it: addresses are the same in capitals and small letters. Raises `Refused`."""
    if said in tenant.payees:
        return said
    for listed in tenant.payees:
        if listed.startswith("0x") and listed.lower() == said.lower():
            return listed
    raise Refused(
        f"{said} is no payee of tenant '{tenant.tenant}': `chimera payee list` shows who may be paid,"
        f" `chimera payee allow {said}` votes for another"
    )


def _wanted(verb: verbs.WalletTransfer, to: str) -> Transfer:
    try:
        return Transfer(asset=verb.asset.upper(), amount=verb.amount, to=to, reason=verb.reason)
    except ValidationError as error:
        at = str(error.errors(include_url=False, include_input=False)[0]["loc"][0])
        ways = {"amount": "write whole units as digits, e.g. 0.5", "asset": "write its symbol, e.g. ETH or USDC"}
        raise Refused(f"'{getattr(verb, at)}' is no {at}: {ways.get(at, 'correct it')}") from error


PERFORM: Mapping[type, Callable[[Room, Any], Reply]] = {verbs.WalletTransfer: wallet_transfer}
