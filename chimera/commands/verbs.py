"""What may be asked of the command service: a closed set of named verbs with data, and how answers travel.

The rule not to break: a verb is data that anybody may read in a log, never code; what it does is decided by the service that
gets it, on the state of that moment. A field that the model does not know is refused, not ignored.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chimera.commands.decision import NO_CHANGE, Answer
from chimera.errors import ChimeraError

Reply = dict[str, Any]
"""What a verb is answered with: JSON, the same whether it crossed a socket or not."""

MOST_AGENTS = 500
"""Agents that one `agent.enrol` may carry; more travel in several."""
MOST_POSTS = 500
"""Posts that one `post.list` may ask for."""


class BadVerb(ChimeraError):
    """What arrived is no verb that this version knows."""


class Part(BaseModel):
    """A piece of a verb: frozen and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Read(Part):
    """A question. It is answered from a fold that has seen the log's end as it is now, or just the positions `after`
    (partition, offset) where they are given: enough to read one's own writes, and cheaper.
    """

    after: tuple[tuple[int, int], ...] | None = None


class Wish(Part):
    """A command. `id` names it: sent twice it counts once. `actor` is who gives it (recorded as `ce_actor`)."""

    id: str = Field(min_length=8, max_length=64, pattern=r"^[\w.-]+$")
    actor: str = Field(min_length=1, max_length=120, pattern=r"^[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$")


REASON_CODES = ("off_brand", "inaccurate", "unsafe", "duplicate", "timing", "other")
"""Why a card may be rejected."""

W = TypeVar("W", bound=Wish)

Names = Annotated[tuple[str, ...], Field(min_length=1)]
TenantName = Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]


# --- reads -----------------------------------------------------------------------------------------------------------


class AgentList(Read):
    """All agents, or one tenant's."""

    verb: Literal["agent.list"] = "agent.list"
    tenant: str | None = None


class AgentShow(Read):
    """One agent by name or stream key."""

    verb: Literal["agent.show"] = "agent.show"
    name: str


class CampaignList(Read):
    """All campaigns, open and closed."""

    verb: Literal["campaign.list"] = "campaign.list"


class CampaignShow(Read):
    """One campaign, agent by agent."""

    verb: Literal["campaign.show"] = "campaign.show"
    campaign: str


class CardList(Read):
    """Effects in these statuses, each with all that a reviewer is shown."""

    verb: Literal["review.list"] = "review.list"
    statuses: tuple[str, ...] = ("people",)


class CardShow(Read):
    """What a decision on one card should rest on. With `deciding`, a task closed in just that way is no refusal."""

    verb: Literal["review.show"] = "review.show"
    card: str
    deciding: str = ""


class CardHolds(Read):
    """Which waiting cards somebody holds: card -> by whom, until when."""

    verb: Literal["review.holds"] = "review.holds"


class PostList(Read):
    """What agents have published, newest first; `standing`: without what was taken down."""

    verb: Literal["post.list"] = "post.list"
    agent: str | None = None
    standing: bool = False
    limit: int = Field(default=50, ge=1, le=MOST_POSTS)


class CardReread(Read):
    """What the judge's rules say of other words for a card; nothing is put there."""

    verb: Literal["review.reread"] = "review.reread"
    card: str
    text: str


class FleetStatus(Read):
    """The fleet, counted."""

    verb: Literal["fleet.status"] = "fleet.status"


class SwitchStopped(Read):
    """The effects that closed kill switches hold back."""

    verb: Literal["switch.stopped"] = "switch.stopped"


class SwitchList(Read):
    """Every switch that was ever set, as the topic says now."""

    verb: Literal["switch.list"] = "switch.list"


class LawShow(Read):
    """The law and the keys in force, partition by partition."""

    verb: Literal["law.show"] = "law.show"


# --- agents ----------------------------------------------------------------------------------------------------------


class NewAgent(Part):
    """One agent of `agent.enrol`; `policy` is an index into the verb's policies."""

    name: str = Field(min_length=1, max_length=64)
    groups: tuple[str, ...] = ()
    soul: str
    policy: int = Field(ge=0)
    accounts: Mapping[str, str] = {}
    limit_usd: Decimal = Field(default=Decimal(0), ge=0)
    window_ms: int = Field(default=86_400_000, gt=0)


class Enrol(Wish):
    """Give agents what they lack; with `update` also what differs. Texts travel whole and are read by the service."""

    verb: Literal["agent.enrol"] = "agent.enrol"
    tenant: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    policies: tuple[str, ...]
    agents: Annotated[tuple[NewAgent, ...], Field(max_length=MOST_AGENTS)]
    update: bool = False
    dry_run: bool = False


class AgentStatus(Wish):
    """Pause, resume, retire or release agents by name."""

    verb: Literal["agent.pause", "agent.resume", "agent.retire", "agent.release"]
    names: Names
    reason: str = ""


class ToolStale(Wish):
    """Make what waits to be sent through a profile's tools stale where it was rendered for another schema than `pins` says.

    `pins`: tool -> SHA-256 of its schema as it is now, "" for a tool that is there no more.
    """

    verb: Literal["tool.stale"] = "tool.stale"
    profile: str = Field(min_length=1, max_length=100)
    pins: dict[str, str] = Field(min_length=1)
    reason: str = Field(default="", max_length=500)


class SwitchTurn(Wish):
    """Close or open a kill switch. Opening needs a reason. Given twice it changes nothing the second time."""

    verb: Literal["switch.close", "switch.open"]
    scope: str = Field(min_length=1, max_length=320)
    reason: str = Field(default="", max_length=500)


# --- campaigns -------------------------------------------------------------------------------------------------------


class CampaignStart(Wish):
    """Start a campaign for the named agents, a group, or everyone. With `tenant` it is opened there, for its members: all, those of
    `group`, and of these a canary share in parts per million; who becomes one later has it too."""

    verb: Literal["campaign.start"] = "campaign.start"
    brief: dict[str, Any]
    names: Names | None = None
    group: str | None = None
    everyone: bool = False
    tenant: TenantName | None = None
    share_ppm: int = Field(default=1_000_000, gt=0, le=1_000_000)
    dry_run: bool = False


class CampaignChange(Wish):
    """Give a campaign another brief; for all agents that have it, or the named ones. Where a tenant opened it, through that."""

    verb: Literal["campaign.change"] = "campaign.change"
    campaign: str
    brief: dict[str, Any]
    names: Names | None = None
    tenant: TenantName | None = None


class CampaignStatus(Wish):
    """Pause, resume or cancel a campaign; for all agents that have it, or the named ones. Where a tenant opened it, through it."""

    verb: Literal["campaign.pause", "campaign.resume", "campaign.cancel"]
    campaign: str
    names: Names | None = None
    tenant: TenantName | None = None
    reason: str = ""


# --- posts -----------------------------------------------------------------------------------------------------------


class PostTakedown(Wish):
    """Take down what an agent published. `post` is its platform id or address; with `platform` also one not known here."""

    verb: Literal["post.takedown"] = "post.takedown"
    agent: str
    post: str = Field(min_length=1, max_length=256)
    platform: str | None = None
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False


class PostBoost(Wish):
    """Show what an agent published to more people, for money. `tier` and `days` are priced by the profile of ads."""

    verb: Literal["post.boost"] = "post.boost"
    agent: str
    post: str = Field(min_length=1, max_length=256)
    platform: str | None = None
    tier: str = Field(min_length=1, max_length=64)
    days: int = Field(default=1, ge=1, le=366)
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False


class WalletTransfer(Wish):
    """Pay a payee of the agent's tenant from the agent's wallet; always shown to people before."""

    verb: Literal["wallet.transfer"] = "wallet.transfer"
    agent: str
    to: str = Field(min_length=1, max_length=200)
    amount: str = Field(min_length=1, max_length=60)
    asset: str = Field(min_length=1, max_length=20)
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False


# --- tenants ---------------------------------------------------------------------------------------------------------


class TenantShow(Read):
    """One tenant (the only one where none is named): members, budgets with what lies in them, payees, who waits, copies owed."""

    verb: Literal["tenant.show"] = "tenant.show"
    tenant: TenantName | None = None


class TenantCreate(Wish):
    """Begin a tenant. `finance` votes on budgets and payees, `people` of them, until a policy says who does."""

    verb: Literal["tenant.create"] = "tenant.create"
    tenant: TenantName
    finance: tuple[str, ...] = ()
    people: int = Field(default=1, ge=1)


class TenantJoin(Wish):
    """Make agents of the tenant its members, with their groups, and claim their accounts for them; all where none is named."""

    verb: Literal["tenant.join"] = "tenant.join"
    tenant: TenantName
    names: Names | None = None


class TenantBudget(Wish):
    """Vote for a limit: of the tenant, the day, `campaign/<id>` or `agent/<name or uuid>`."""

    verb: Literal["tenant.budget"] = "tenant.budget"
    tenant: TenantName | None = None
    scope: str = Field(max_length=200)
    limit_usd: Decimal = Field(ge=0)


class TenantPayee(Wish):
    """Vote for a payee, or forbid one."""

    verb: Literal["tenant.allow", "tenant.forbid"]
    tenant: TenantName | None = None
    payee: str = Field(min_length=1, max_length=200)


# --- accounts --------------------------------------------------------------------------------------------------------

Platform = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")]
Account = Annotated[str, Field(min_length=1, max_length=200)]


class AccountList(Read):
    """Every account: whose it is, where its credential lies, when that ends, and whose the platform says it is."""

    verb: Literal["account.list"] = "account.list"
    tenant: TenantName | None = None


class AccountLink(Wish):
    """Give an account of a platform to an agent, through its tenant; said again, what is given of the credential changes."""

    verb: Literal["account.link"] = "account.link"
    agent: str
    platform: Platform
    account: Account
    secret_ref: str | None = Field(default=None, max_length=500, pattern=r"^((env|file|command):.+)?$")
    expires_ts: int | None = Field(default=None, ge=0)


class AccountUnlink(Wish):
    """Make an account nobody's."""

    verb: Literal["account.unlink"] = "account.unlink"
    platform: Platform
    account: Account
    tenant: TenantName | None = None


class AccountSaid(Wish):
    """Keep what the platform said, asked with the account's credential, of whose it is."""

    verb: Literal["account.verified"] = "account.verified"
    tenant: TenantName
    platform: Platform
    account: Account
    secret_ref: str = Field(default="", max_length=500)
    found: str = Field(default="", max_length=200)
    platform_id: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=64)
    mode: Literal["sandbox", "live"]


# --- privacy ---------------------------------------------------------------------------------------------------------


class PrivacyForget(Wish):
    """Destroy the key of a person's words and name, for all agents of a tenant. `subject` is a pseudonym, never a handle."""

    verb: Literal["privacy.forget"] = "privacy.forget"
    tenant: TenantName | None = None
    subject: str = Field(pattern=r"^person/[0-9a-f]{32}$")
    reason: str = Field(min_length=1, max_length=1000)
    dry_run: bool = False


# --- policies and personas -------------------------------------------------------------------------------------------


class Publish(Wish):
    """Publish a policy or a persona to the members of a tenant (the only one where none is named): to all, to those of `group`,
    and of these to a canary share in parts per million. The text travels whole and is read by the service."""

    verb: Literal["policy.publish", "soul.publish"]
    tenant: TenantName | None = None
    text: str
    group: str = Field(default="", max_length=64)
    share_ppm: int = Field(default=1_000_000, gt=0, le=1_000_000)
    dry_run: bool = False


class Rollback(Wish):
    """Publish the text of an earlier policy edition (the one before where none is named) as a new one."""

    verb: Literal["policy.rollback"] = "policy.rollback"
    tenant: TenantName | None = None
    edition: int | None = Field(default=None, gt=0)
    dry_run: bool = False


class PolicyShow(Read):
    """One policy edition with its text: of an agent, else of a tenant (the newest where no number is given)."""

    verb: Literal["policy.show"] = "policy.show"
    tenant: TenantName | None = None
    edition: int | None = Field(default=None, gt=0)
    agent: str | None = None


class PolicyStatus(Read):
    """Which policy edition each member of a tenant has, and which one it is meant to have."""

    verb: Literal["policy.status"] = "policy.status"
    tenant: TenantName | None = None


# --- reviews ---------------------------------------------------------------------------------------------------------


class Shown(Part):
    """What the reviewer had before their eyes: `review.show` gave these."""

    shown_hash: str
    effect_hash: str
    edit: int = 0


class CardWish(Wish):
    """A command on one card. With `dry_run` it is decided and told, and nothing is appended."""

    card: str
    dry_run: bool = False


class Approve(CardWish):
    """The actor's vote for exactly what was shown."""

    verb: Literal["review.approve"] = "review.approve"
    shown: Shown
    comment: str = ""


class Reject(CardWish):
    """Close the card and its task. `shown` is absent only where the card was rejected already."""

    verb: Literal["review.reject"] = "review.reject"
    shown: Shown | None = None
    reason_code: str
    comment: str = ""


class Edit(CardWish):
    """Other words in place of those shown."""

    verb: Literal["review.edit"] = "review.edit"
    shown: Shown
    text: str
    comment: str = ""


class Withdraw(CardWish):
    """Undo an approval that nobody has claimed."""

    verb: Literal["review.withdraw"] = "review.withdraw"
    reason: str = ""


class Hold(CardWish):
    """Mark a card as somebody's, until `until` (ms since the epoch; 0: until released)."""

    verb: Literal["review.hold"] = "review.hold"
    reason: str = Field(min_length=1, max_length=500)
    until: int = Field(default=0, ge=0)


class Release(CardWish):
    """Take the mark off a card."""

    verb: Literal["review.release"] = "review.release"
    reason: str = Field(default="", max_length=500)


class Resolve(CardWish):
    """Say, with proof, how a call ended of which nobody knows."""

    verb: Literal["review.resolve"] = "review.resolve"
    outcome: Literal["executed", "refused", "not_executed"]
    proof: str
    platform_id: str | None = None
    url: str | None = None


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


# --- answers ---------------------------------------------------------------------------------------------------------


def answered(answers: Sequence[tuple[str, Answer]]) -> Reply:
    """(name, answer) pairs as a reply."""
    return {
        "answers": [
            {
                "name": name,
                "key": answer.key,
                "command_id": answer.command_id,
                "outcome": answer.outcome,
                "reason": answer.reason,
                "state_version": answer.state_version,
                "position": answer.position,
                "records": answer.records,
            }
            for name, answer in answers
        ]
    }


def nothing_to_do(key: str, version: int, id_: str = "") -> Answer:
    """The answer to a command whose work is done already."""
    return Answer(key, id_, "applied", NO_CHANGE, version)


def answers_of(reply: Reply) -> list[tuple[str, Answer]]:
    """The (name, answer) pairs of a reply; changes do not travel."""
    return [
        (
            row["name"],
            Answer(
                row["key"],
                row["command_id"],
                row["outcome"],
                row["reason"],
                row["state_version"],
                None if row["position"] is None else (row["position"][0], row["position"][1]),
                row["records"],
            ),
        )
        for row in reply["answers"]
    ]
