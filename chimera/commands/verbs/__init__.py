"""What may be asked of the command service: a closed set of named verbs with data, and how answers travel.

The rule not to break: a verb is data that anybody may read in a log, never code; what it does is decided by the service that
gets it, on the state of that moment. A field that the model does not know is refused, not ignored.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from chimera.commands.verbs.accounts import Account, AccountLink, AccountList, AccountSaid, AccountUnlink, Platform
from chimera.commands.verbs.agents import MOST_AGENTS, AgentStatus, Enrol, NewAgent, SwitchTurn, ToolStale
from chimera.commands.verbs.answers import Reply, answered, answers_of, nothing_to_do
from chimera.commands.verbs.base import Names, Part, Read, TenantName, Wish
from chimera.commands.verbs.campaigns import CampaignChange, CampaignStart, CampaignStatus
from chimera.commands.verbs.policies import PolicyShow, PolicyStatus, Publish, Rollback
from chimera.commands.verbs.posts import PostBoost, PostTakedown, WalletTransfer
from chimera.commands.verbs.privacy import PrivacyForget
from chimera.commands.verbs.reads import (
    MOST_POSTS,
    AgentList,
    AgentShow,
    CampaignList,
    CampaignShow,
    CardHolds,
    CardList,
    CardReread,
    CardShow,
    FleetStatus,
    LawShow,
    PostList,
    SwitchList,
    SwitchStopped,
)
from chimera.commands.verbs.reviews import REASON_CODES, Approve, CardWish, Edit, Hold, Reject, Release, Resolve, Shown, Withdraw
from chimera.commands.verbs.tenants import TenantBudget, TenantCreate, TenantJoin, TenantPayee, TenantShow
from chimera.errors import ChimeraError

__all__ = [
    "MOST_AGENTS",
    "MOST_POSTS",
    "REASON_CODES",
    "Account",
    "AccountLink",
    "AccountList",
    "AccountSaid",
    "AccountUnlink",
    "AgentList",
    "AgentShow",
    "AgentStatus",
    "Approve",
    "BadVerb",
    "CampaignChange",
    "CampaignList",
    "CampaignShow",
    "CampaignStart",
    "CampaignStatus",
    "CardHolds",
    "CardList",
    "CardReread",
    "CardShow",
    "CardWish",
    "Edit",
    "Enrol",
    "FleetStatus",
    "Hold",
    "LawShow",
    "Names",
    "NewAgent",
    "Part",
    "Platform",
    "PolicyShow",
    "PolicyStatus",
    "PostBoost",
    "PostList",
    "PostTakedown",
    "PrivacyForget",
    "Publish",
    "Read",
    "Reject",
    "Release",
    "Reply",
    "Resolve",
    "Rollback",
    "Shown",
    "SwitchList",
    "SwitchStopped",
    "SwitchTurn",
    "TenantBudget",
    "TenantCreate",
    "TenantJoin",
    "TenantName",
    "TenantPayee",
    "TenantShow",
    "ToolStale",
    "Verb",
    "WalletTransfer",
    "Wish",
    "Withdraw",
    "answered",
    "answers_of",
    "nothing_to_do",
    "read_verb",
    "wish",
]


class BadVerb(ChimeraError):
    """What arrived is no verb that this version knows."""


W = TypeVar("W", bound=Wish)
Verb = (
    AgentList
    | AgentShow
    | CampaignList
    | CampaignShow
    | CardList
    | CardShow
    | CardHolds
    | PostList
    | CardReread
    | FleetStatus
    | SwitchStopped
    | SwitchList
    | LawShow
    | Enrol
    | AgentStatus
    | SwitchTurn
    | ToolStale
    | CampaignStart
    | CampaignChange
    | CampaignStatus
    | PostTakedown
    | PostBoost
    | WalletTransfer
    | TenantShow
    | TenantCreate
    | TenantJoin
    | TenantBudget
    | TenantPayee
    | AccountList
    | AccountLink
    | AccountUnlink
    | AccountSaid
    | PrivacyForget
    | Publish
    | Rollback
    | PolicyShow
    | PolicyStatus
    | Approve
    | Reject
    | Edit
    | Withdraw
    | Hold
    | Release
    | Resolve
)
_VERB: TypeAdapter[Verb] = TypeAdapter(Annotated[Verb, Field(discriminator="verb")])


def wish(model: type[W], actor: str, **fields: Any) -> W:
    """A new command under an id of its own. Raises `BadVerb` for a value that no command may carry."""
    try:
        return model(id=str(uuid.uuid4()), actor=actor, **fields)
    except ValidationError as error:
        raise BadVerb(_first_problem(error)) from None


def read_verb(body: bytes) -> Verb:
    """The verb in a request's body. Raises `BadVerb` naming what is wrong, without repeating the content."""
    try:
        return _VERB.validate_json(body)
    except ValidationError as error:
        raise BadVerb(f"not a verb of this version: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'body'}: {first['msg']}"
