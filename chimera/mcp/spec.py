"""What a profile file may say: servers, capabilities, result rules. Pure data; reading and rendering are `profiles`.

The one rule: a field that nothing reads is refused, so a typing error in a profile is found when it is loaded.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chimera.mcp.quotes import Quote
from chimera.mcp.tiers import TierTable
from chimera.shapes import Shaped

Mode = Literal["sandbox", "dry_run", "live"]
EffectClass = Literal["none", "publish", "paid", "financial"]
ToolClass = Literal["read", "keyed", "reconcilable", "at_most_once"]
Taint = Literal["owner", "allowlisted", "open"]

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class ProfileError(Exception):
    """A profile file is unusable; the text names the file, the place and what to do."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stdio(_Frozen):
    """A child process. `{python}`, `{home}` and `{account}` are filled in `command`, `args` and `env` values."""

    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}


class ServerSpec(_Frozen):
    """Where one mode's server is: an address by the name of a setting, else a child process."""

    address: str | None = None
    stdio: Stdio | None = None
    secrets: dict[str, str] = {}
    """Environment variable (stdio) or header (HTTP) -> reference `env:NAME` or `file:PATH`; `{account}` is filled."""
    per_account: bool = False
    """One connection per account, because the server takes one account's credentials."""


class Submitted(_Frozen):
    """How a platform says that it took a job and has not done it yet."""

    handle: str
    """Path of the job's handle."""
    match: str | None = None
    """Regular expression that the answer's text must contain as well."""


class Find(_Frozen):
    """How to find out on the platform whether an effect happened: read a list, and look for the same thing in it."""

    by: str
    """The capability that reads the list, newest first."""
    inputs: dict[str, Any] = {}
    """Its inputs; `{me}` is the platform id that `me` tells."""
    me: str | None = None
    """The capability that tells who the account is there."""
    items: str
    """Path of the list; absent when it is empty."""
    limit: int = Field(gt=0)
    """As many items as this, and there may be more that were not shown."""
    id: str = "id"
    at: str = "created_at"
    """Path of an item's time, ISO 8601."""
    mine: str | None = None
    """Path of who made an item, where the list holds other people's too: only what `me` made counts."""
    gone: bool = False
    """The effect takes away what `same` names by its id: its absence proves it, and its presence that it did not happen."""
    same: dict[str, str] = Field(min_length=1)
    """Path in an item -> path in the effect's arguments: words that must agree, addresses apart (platforms rewrite them)."""


class Answering(_Frozen):
    """How one answers an item of a list: the capability, and which of its inputs is which part of the item."""

    by: str
    inputs: dict[str, Literal["external_id", "author", "address"]]
    """Input -> which part of what was heard. The text is the input `text`; `address` is the author as the list names them."""


class People(_Frozen):
    """Where a list that names authors by their ids says who they are."""

    items: str
    id: str = "id"
    name: str


class Hears(_Frozen):
    """This reading capability lists what people say to the account, newest first; paths lead to the parts of an item."""

    me: str | None = None
    """The capability that tells who the account is there; its id is the input `id`."""
    page: int = Field(default=100, gt=0)
    items: str
    id: str = "id"
    """Grows with time; the input `since_id` asks for what is newer, `until_id` for what is older."""
    next: str | None = None
    """Path of the token of the next page (input `pagination_token`), of lists that know no `since_id` and `until_id`."""
    text: str = "text"
    author: str
    people: People | None = None
    thread: str
    room: str = ""
    """What its threads are told apart by from others of the platform, and asked for by in a policy: private messages are `dm`."""
    mine: str | None = None
    """Path of who said it, where the list holds the account's own words too: those are nobody's to answer."""
    only: dict[str, str] = {}
    """Path -> regular expression that the part must match as a whole; other items are nobody's to answer."""
    at: str = "created_at"
    answer: Answering


class Entries(_Frozen):
    """How a list is read from an answer of words; each entry becomes an item of `data.items`."""

    pattern: str | None = None
    """Regular expression with named groups, found again and again in the text; None: every text block is a JSON object."""
    fields: dict[str, str] = {}
    """Name in the item -> its name in the block or its group; others are left out."""


class MediaRule(_Frozen):
    """A success brings a file: it is taken into the media store at once, since its address dies soon."""

    at: str
    """Path of its address, or of its file below `roots`."""
    kind: Literal["image", "video"]
    roots: tuple[str, ...] = ()
    """Folders that the server puts files into; `{home}` is filled. Empty: it is fetched by address."""


class UploadRule(_Frozen):
    """The tool takes files by the platform's own ids: they go up before it is called, by calls that show
    nobody anything."""

    at: str
    """Path of the list of files: addresses of the media store when it is judged, the platform's ids when it is sent."""
    begin: str
    """The capability that takes `media_type`, `total_bytes` and `category` and tells the id."""
    append: str
    """It takes `id`, `segment_index` and `media` (base64)."""
    finish: str
    """It takes `id`."""
    status: str | None = None
    """It takes `id`, and tells how far the platform is with a file that takes time."""
    id: str
    lives_s: str
    """Path, in the answer of `finish`, of the seconds for which the id may be used."""
    state: str
    """Path of how far the platform is; absent where the file is ready."""
    done: str
    failed: str
    categories: dict[Literal["image", "video"], str]
    piece_bytes: int = Field(default=1024 * 1024, gt=0)
    stand_in: str
    """What fits the pinned schema in place of an id."""


class ResultRules(_Frozen):
    """What an answer means. Success needs every `require`d path; then the patterns; then `submitted`; all else is unknown."""

    fields: dict[str, str] = {}
    """Name -> regular expression with one group: what is read from the words of an answer that is no JSON."""
    entries: Entries | None = None
    media: MediaRule | None = None
    cost: str | None = None
    """Path of what the call cost in US dollars, where the answer says so."""
    receipt: dict[str, str] = {}
    """Name -> path of what the log keeps of the answer: numbers, hashes and codes, never words."""

    require: tuple[str, ...] = Field(min_length=1)
    match: str | None = None
    """Regular expression that the answer's text must contain as well."""
    refused: dict[str, str] = {}
    """reason code -> pattern: the platform said no, nothing happened."""
    not_sent: dict[str, str] = {}
    """reason code -> pattern: nothing happened and trying later is right (429 before the write)."""
    submitted: Submitted | None = None
    id: str | None = None
    account: str | None = None
    """Path of the account's name, where the answer tells whose credential it is."""
    url: dict[str, str] = {}
    """mode -> template over `{id}`, `{account}` and `{origin}` (scheme, host and port of the server)."""


class RateLimit(_Frozen):
    calls: int = Field(gt=0)
    per_s: float = Field(gt=0)


class TaintRule(_Frozen):
    """What an answer's words are worth. `by` is the input that names the source."""

    default: Taint = "open"
    by: str | None = None
    allowlisted: tuple[str, ...] = ()
    """URLs; a source of the same scheme and host whose path begins with it is allow-listed."""
    local_files: Taint | None = None
    """Taint of sources that are files (under the roots of `egress`)."""


class Egress(_Frozen):
    locations: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    """Folders that file arguments may lie under; `{home}` and `{cwd}` are filled."""
    media: tuple[str, ...] = ()
    """Arguments that name files of the media store by their public addresses, and may name nothing else."""


class Inputs(_Frozen):
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


class CapabilitySpec(_Frozen):
    tool: str
    inputs: Inputs = Inputs()
    arguments: dict[str, Any] = {}
    effect_class: EffectClass
    tool_class: ToolClass | dict[str, ToolClass]
    """One class, or one per mode: a sandbox may know idempotency keys where the platform does not."""
    result: ResultRules
    cost_usd: str | dict[str, str] = "0"
    tiers: TierTable | None = None
    """What it costs by its arguments, instead of `cost_usd`; arguments in no row are refused."""
    quote: Quote | None = None
    """What it moves and what that is in US dollars, instead of `cost_usd`; assets that are not in its table are refused."""
    rate: str | None = None
    timeout_s: float = Field(gt=0, le=900)
    disclosure: dict[str, dict[str, Any]] = {}
    """disclosure_level -> arguments that say so. Present: the level must be given and must be in the table."""
    labels: dict[str, str] = {}
    """Label (`is_ai_generated`, `paid_partnership` ...) -> words for the text, where no argument of the tool can say it."""
    words: str | None = None
    """The input that is read by people: what was written, with the labels' words."""
    translate: dict[str, dict[str, Any]] = {}
    """Input -> how its values are called by this provider; a value that is not listed cannot be had here."""
    taint: TaintRule = TaintRule()
    egress: Egress = Egress()
    poll: str | None = None
    """The capability that says what became of a submitted job; it takes `handle`, and its own result rules judge the answer."""
    find: Find | None = None
    """How to reconcile an unknown end; without it a person finds out."""
    numbers: dict[str, str] = {}
    """What a post has brought about (likes, replies, reposts, quotes, impressions) -> its path in the answer."""
    uploads: UploadRule | None = None
    hears: Hears | None = None
    """Present: what people say to the account is read here."""

    @model_validator(mode="after")
    def _names_agree(self) -> CapabilitySpec:
        declared = set(self.inputs.required) | set(self.inputs.optional)
        used = set(PLACEHOLDER.findall(json.dumps(self.arguments)))
        if used != declared:
            raise ValueError(f"inputs {sorted(declared)} and placeholders {sorted(used)} differ")
        if self.effect_class == "none" and self.tool_class != "read":
            raise ValueError("effect_class none goes with tool_class read")
        strange = sorted(set(self.translate) - declared)
        if strange:
            raise ValueError(f"translates {', '.join(strange)}, which it does not take")
        rules = self.result
        submitted = rules.submitted.match if rules.submitted is not None else None
        listed = rules.entries.pattern if rules.entries is not None else None
        patterns = [*rules.refused.values(), *rules.not_sent.values(), *rules.fields.values()]
        for pattern in [*patterns, rules.match or "", submitted or "", listed or ""]:
            re.compile(pattern)
        return self


class ProfileFile(_Frozen):
    name: Annotated[
        str, Shaped(r"^[a-z][a-z0-9_-]*$", "begin with a small letter; then small letters, digits, '_' and '-', as in tavily")
    ]
    platform: str | None = None
    """Platform of the capabilities, for profiles that act on one (`x`)."""
    servers: dict[Literal["sandbox", "live"], ServerSpec]
    rates: dict[str, RateLimit] = {}
    capabilities: dict[str, CapabilitySpec]

    @model_validator(mode="after")
    def _rates_exist(self) -> ProfileFile:
        for name, capability in self.capabilities.items():
            if capability.rate is not None and capability.rate not in self.rates:
                raise ValueError(f"capability {name} names rate {capability.rate!r}, which is not in rates")
            find = capability.find
            up = capability.uploads
            steps = (up.begin, up.append, up.finish, up.status) if up is not None else ()
            for other in (capability.poll, *steps, *((find.by, find.me) if find is not None else ())):
                if other is None:
                    continue
                if other not in self.capabilities or self.capabilities[other].effect_class != "none":
                    raise ValueError(f"capability {name} asks {other!r} what became of it, which is no reading capability here")
            hears = capability.hears
            if hears is not None:
                paging = ("since_id", "until_id", "max_results") if hears.next is None else ("pagination_token", "max_results")
                if not set(paging) <= set(capability.inputs.optional):
                    raise ValueError(f"capability {name} hears, and so takes {', '.join(paging)}")
                if hears.mine is not None and hears.me is None:
                    raise ValueError(f"capability {name} leaves its own words out, and so names `me`")
            for other in (hears.me, hears.answer.by) if hears is not None else ():
                if other is not None and other not in self.capabilities:
                    raise ValueError(f"capability {name} hears with {other!r}, which is no capability here")
            if capability.result.submitted is not None and capability.effect_class != "none" and capability.poll is None:
                raise ValueError(f"capability {name} may be submitted, and names no capability to poll")
        return self
