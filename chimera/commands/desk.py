"""The desk: what each verb does, on the command service's own fold. One table, for the socket and for the embedded service alike.

The rule not to break: a verb gives the same answer wherever it is handed in, and handed in twice it counts once. Nothing here
trusts what a client computed: texts are read again, and a decision on a card must name what this desk shows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chimera.commands import (
    at_accounts,
    at_agents,
    at_campaigns,
    at_editions,
    at_fleet,
    at_posts,
    at_privacy,
    at_reviews,
    at_tenants,
    at_wallet,
    verbs,
)
from chimera.commands.decision import NotEntitled
from chimera.commands.history import History
from chimera.commands.room import Room, Seen
from chimera.commands.security import note
from chimera.commands.service import CommandService
from chimera.commands.verbs import Reply, Verb
from chimera.events.security import noted


class Desk:
    """Performs verbs on a service that `seen` observes; `history` knows what a service that began at snapshots has not folded.

    Thread-safe.
    """

    def __init__(self, service: CommandService, seen: Seen, home: Path, history: History | None = None) -> None:
        self.service = service
        self._room = Room(service, seen, home, history)

    def perform(self, verb: Verb) -> Reply:
        """The verb's reply. Raises `Refused` where it cannot count as things are, and other `ChimeraError`s."""
        if isinstance(verb, verbs.Read):
            if verb.after is None:
                self.service.catch_up()
            else:
                self.service.reach({partition: offset + 1 for partition, offset in verb.after})
        try:
            return PERFORM[type(verb)](self._room, verb)
        except NotEntitled:
            who, at = str(getattr(verb, "actor", "")), str(getattr(verb, "card", ""))
            event = noted(
                "command_refused",
                door="command_service",
                who=who,
                outcome="refused",
                action=verb.verb,
                resource=at,
                reason="not_entitled",
            )
            note(self._room.home, event)
            raise


PERFORM: Mapping[type, Callable[[Room, Any], Reply]] = {
    verbs.AgentList: at_agents.agent_list,
    verbs.AgentShow: at_agents.agent_show,
    verbs.CampaignList: at_campaigns.campaign_list,
    verbs.CampaignShow: at_campaigns.campaign_show,
    verbs.CardList: at_reviews.card_list,
    verbs.CardShow: at_reviews.card_show,
    verbs.CardHolds: at_reviews.card_holds,
    verbs.CardReread: at_reviews.card_reread,
    verbs.FleetStatus: at_fleet.fleet_status,
    verbs.SwitchStopped: at_fleet.switch_stopped,
    verbs.SwitchList: at_fleet.switch_list,
    verbs.SwitchTurn: at_fleet.switch_turn,
    verbs.LawShow: at_fleet.law_show,
    verbs.Enrol: at_agents.enrol,
    verbs.AgentStatus: at_agents.agent_status,
    verbs.ToolStale: at_agents.tool_stale,
    verbs.CampaignStart: at_campaigns.campaign_start,
    verbs.CampaignChange: at_campaigns.campaign_change,
    verbs.CampaignStatus: at_campaigns.campaign_status,
    verbs.Approve: at_reviews.approve,
    verbs.Reject: at_reviews.reject,
    verbs.Edit: at_reviews.edit,
    verbs.Withdraw: at_reviews.withdraw,
    verbs.Hold: at_reviews.hold,
    verbs.Release: at_reviews.release,
    verbs.Resolve: at_reviews.resolve,
    **at_posts.PERFORM,
    **at_tenants.PERFORM,
    **at_wallet.PERFORM,
    **at_accounts.PERFORM,
    **at_privacy.PERFORM,
    **at_editions.PERFORM,
}
"""Verb -> what it does. The table is the whole of what the command service can be asked for."""
