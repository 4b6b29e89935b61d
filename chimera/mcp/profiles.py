"""Profiles: which server, tool and arguments a capability means, as data. Pure: reads files once, calls nothing.

The one rule: what `render` returns is exactly what is judged, hashed and sent; nothing adds to it afterwards. Arguments
are validated closed-world against the pinned schema, so no field that nobody approved can travel along.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chimera.mcp.quotes import Quote
from chimera.mcp.tiers import TierTable, UnknownTier

Mode = Literal["sandbox", "dry_run", "live"]
EffectClass = Literal["none", "publish", "paid", "financial"]
ToolClass = Literal["read", "keyed", "reconcilable", "at_most_once"]
Taint = Literal["owner", "allowlisted", "open"]

PROFILES_DIR = Path(__file__).parent / "profiles"
"""The profiles shipped with Chimera."""

_NAME = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_ABSENT: Any = object()


class ProfileError(Exception):
    """A profile file is unusable; the text names the file, the place and what to do."""


class BadArguments(Exception):
    """Inputs do not fit the capability or the pinned schema; the text names places and rules, never contents."""


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
    hears: Hears | None = None
    """Present: what people say to the account is read here."""

    @model_validator(mode="after")
    def _names_agree(self) -> CapabilitySpec:
        declared = set(self.inputs.required) | set(self.inputs.optional)
        used = set(_NAME.findall(json.dumps(self.arguments)))
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
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
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
            for other in (capability.poll, *((find.by, find.me) if find is not None else ())):
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


@dataclass(frozen=True)
class Rendered:
    """One call as it will be sent. `cost_usd` is what the profile's table says it costs, in US dollars."""

    capability: str
    profile: str
    mode: str
    tool: str
    tool_schema_sha256: str
    arguments: dict[str, Any]
    effect_class: str
    tool_class: str
    timeout_s: float
    cost_usd: Decimal

    @property
    def arguments_sha256(self) -> str:
        return canonical_sha256(self.arguments)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "cost_usd": str(self.cost_usd)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rendered:
        return cls(**{**data, "cost_usd": Decimal(data["cost_usd"])})


def canonical_sha256(value: Any) -> str:
    """SHA-256 (hex) over JSON with sorted keys and no blanks, UTF-8."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def tool_sha256(tool: Mapping[str, Any]) -> str:
    """Hash of a tool as listed (`model_dump(by_alias=True, exclude_none=True)`); key order differs by wire era, so sorted."""
    return hashlib.sha256(json.dumps(tool, sort_keys=True).encode()).hexdigest()


def closed(schema: Any) -> Any:
    """The same JSON Schema, with `additionalProperties: false` wherever an object lists its properties and says nothing."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(value) if key not in ("enum", "const", "default", "examples") else value for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type", "object") == "object":
        out.setdefault("additionalProperties", False)
    return out


@dataclass(frozen=True)
class PinnedTool:
    """A tool as it was when a person pinned it."""

    sha256: str
    schema: dict[str, Any]


@dataclass(frozen=True)
class Profile:
    spec: ProfileFile
    tools: Mapping[str, PinnedTool]
    _validators: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.spec.name

    def problems(self, tool: str, arguments: Mapping[str, Any]) -> list[str]:
        """Where `arguments` break the pinned schema, by JSON path and rule; contents are never quoted."""
        validator = self._validators.get(tool)
        if validator is None:
            validator = self._validators[tool] = Draft202012Validator(self.tools[tool].schema)
        return [_problem(error) for error in validator.iter_errors(arguments)]


def _problem(error: Any) -> str:
    rule = str(error.validator)
    if rule == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))
        return f"{error.json_path}: {', '.join(missing)} missing"
    if rule == "additionalProperties":
        known = set(error.schema.get("properties", {}))
        return f"{error.json_path}: {', '.join(sorted(set(error.instance) - known))} not in the pinned schema"
    return f"{error.json_path}: breaks {rule} {json.dumps(error.validator_value)[:80]}"


@dataclass(frozen=True)
class Profiles:
    """All profiles of an installation."""

    by_name: Mapping[str, Profile]
    chosen: Mapping[str, str] = field(default_factory=dict)
    """Family of capabilities (`image` of `image.generate`) -> the profile that serves it, where several could."""

    def provider(self, capability: str, platform: str | None = None) -> Profile:
        """The one profile that offers `capability` (on `platform`), or the chosen one. Raises BadArguments naming the choices."""
        found = [
            profile
            for profile in self.by_name.values()
            if capability in profile.spec.capabilities and platform in (None, profile.spec.platform)
        ]
        if len(found) > 1:
            wanted = self.chosen.get(capability.partition(".")[0])
            found = [profile for profile in found if profile.name == wanted] or found
        if len(found) == 1:
            return found[0]
        where = f" on platform {platform!r}" if platform else ""
        if found:
            names = ", ".join(profile.name for profile in found)
            raise BadArguments(
                f"capability {capability!r}{where} is offered by {names}: name the platform, or choose in CHIMERA_PROVIDERS"
            )
        offered = ", ".join(sorted({name for profile in self.by_name.values() for name in profile.spec.capabilities}))
        raise BadArguments(f"no profile offers {capability!r}{where}; offered: {offered}")

    def capability(self, capability: str, platform: str | None = None) -> CapabilitySpec:
        """What the one profile that offers it says of it. Raises BadArguments naming the choices."""
        return self.provider(capability, platform).spec.capabilities[capability]

    def answer_to(self, capability: str, platform: str) -> Answering:
        """How one answers what `capability` hears. Raises BadArguments where it hears nothing."""
        hears = self.capability(capability, platform).hears
        if hears is None:
            raise BadArguments(f"{capability} on {platform} hears nobody: its profile has no `hears`")
        return hears.answer

    def hearing(self, platform: str, room: str = "") -> list[str]:
        """The capabilities that list what people say to an account on `platform`: in public, or in a room of that name."""
        mine = [profile for profile in self.by_name.values() if profile.spec.platform == platform]
        every = [(name, spec.hears) for profile in mine for name, spec in profile.spec.capabilities.items()]
        return sorted(name for name, hears in every if hears is not None and hears.room == room)

    def quota_ms(self, capability: str, platform: str) -> int:
        """How long to leave between two calls so that the capability's rate limit is never reached; 0 where it has none."""
        profile = self.provider(capability, platform)
        rate = profile.spec.capabilities[capability].rate
        limit = profile.spec.rates[rate] if rate is not None else None
        return 0 if limit is None else math.ceil(limit.per_s * 1000 / limit.calls)

    def moves(self, profile: str, capability: str, mode: str, arguments: Mapping[str, Any]) -> str | None:
        """The symbol of the asset that a call with these arguments moves; None where it moves none that the profile knows."""
        known = self.by_name.get(profile)
        spec = known.spec.capabilities.get(capability) if known is not None else None
        try:
            return None if spec is None or spec.quote is None else spec.quote.asset(arguments, mode).symbol
        except UnknownTier:
            return None

    def transfer(self, platform: str, symbol: str, to: str, amount: str, mode: str) -> tuple[str, dict[str, str]]:
        """The capability that moves an asset on a platform, and its inputs. Raises BadArguments naming the assets there are."""
        there = [profile.spec.capabilities for profile in self.by_name.values() if profile.spec.platform == platform]
        moved = {
            each: (name, spec.quote)
            for capabilities in there
            for name, spec in capabilities.items()
            if spec.quote is not None
            for each in spec.quote.symbols()
        }
        if symbol not in moved:
            known = ", ".join(sorted(moved)) or "none"
            raise BadArguments(f"no asset {symbol[:20]!r} can be moved on {platform}; there are: {known}")
        capability, quote = moved[symbol]
        try:
            contract = quote.address_of(symbol, mode)
        except UnknownTier as unknown:
            raise BadArguments(str(unknown)) from unknown
        return capability, {"to": to, "amount": amount} | ({} if contract is None else {"token": contract})

    def price(self, profile: str, capability: str, mode: str, arguments: Mapping[str, Any] | None = None) -> Decimal | None:
        """What a call with these arguments costs in US dollars; None where this profile does not offer it in this mode.

        Raises UnknownTier for arguments that its tier table does not price.
        """
        known = self.by_name.get(profile)
        spec = known.spec.capabilities.get(capability) if known is not None else None
        if spec is None:
            return None
        try:
            return _price(spec, mode, arguments or {})
        except BadArguments:
            return None

    def render(self, capability: str, inputs: Mapping[str, Any], *, platform: str | None = None, mode: str = "sandbox") -> Rendered:
        """The exact call that `inputs` mean; None counts as absent. Raises BadArguments.

        `dry_run` renders as `live` would, so that what people are shown is what would be sent.
        """
        profile = self.provider(capability, platform)
        spec = profile.spec.capabilities[capability]
        arguments = _arguments(capability, spec, {key: value for key, value in inputs.items() if value is not None})
        problems = profile.problems(spec.tool, arguments)
        if problems:
            raise BadArguments(f"{capability} ({profile.name}.{spec.tool}): {'; '.join(problems)}")
        try:
            cost = _price(spec, mode, arguments)
        except UnknownTier as unknown:
            raise BadArguments(f"{capability} ({profile.name}.{spec.tool}): {unknown}") from unknown
        return Rendered(
            capability=capability,
            profile=profile.name,
            mode=mode,
            tool=spec.tool,
            tool_schema_sha256=profile.tools[spec.tool].sha256,
            arguments=arguments,
            effect_class=spec.effect_class,
            tool_class=_by_mode(spec.tool_class, mode),
            timeout_s=spec.timeout_s,
            cost_usd=cost,
        )


def _price(spec: CapabilitySpec, mode: str, arguments: Mapping[str, Any]) -> Decimal:
    if spec.quote is not None:
        return spec.quote.price(arguments, mode)
    return spec.tiers.price(arguments) if spec.tiers is not None else Decimal(_by_mode(spec.cost_usd, mode))


def _by_mode(value: Any, mode: str) -> str:
    if isinstance(value, str):
        return value
    key = "live" if mode == "dry_run" and "live" in value else mode
    if key not in value:
        raise BadArguments(f"mode {mode!r} is not offered; offered: {', '.join(value)}")
    return str(value[key])


def _arguments(capability: str, spec: CapabilitySpec, inputs: Mapping[str, Any]) -> dict[str, Any]:
    known = {*spec.inputs.required, *spec.inputs.optional}
    if spec.disclosure:
        known.add("disclosure_level")
    unknown = sorted(set(inputs) - known)
    if unknown:
        raise BadArguments(f"{capability} takes no {', '.join(unknown)}; it takes {', '.join(sorted(known))}")
    missing = [name for name in spec.inputs.required if name not in inputs]
    if spec.disclosure and "disclosure_level" not in inputs:
        missing.append("disclosure_level")
    if missing:
        raise BadArguments(f"{capability} needs {', '.join(missing)}")
    filled = _fill(spec.arguments, _translated(capability, spec, inputs))
    arguments: dict[str, Any] = {} if filled is _ABSENT else filled
    if spec.disclosure:
        level = str(inputs["disclosure_level"])
        if level not in spec.disclosure:
            raise BadArguments(f"{capability} cannot express disclosure_level {level!r}; it can: {', '.join(spec.disclosure)}")
        arguments |= spec.disclosure[level]
    return arguments


def _translated(capability: str, spec: CapabilitySpec, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The inputs as this provider calls them."""
    out = dict(inputs)
    for name, values in spec.translate.items():
        if name not in out:
            continue
        if str(out[name]) not in values:
            raise BadArguments(f"{capability}: {name} {str(out[name])[:40]!r} cannot be had here; to be had: {', '.join(values)}")
        out[name] = values[str(out[name])]
    return out


def _fill(template: Any, inputs: Mapping[str, Any]) -> Any:
    """The template with inputs in place; parts whose inputs are all absent drop out."""
    if isinstance(template, dict):
        items = {key: _fill(value, inputs) for key, value in template.items()}
        kept = {key: value for key, value in items.items() if value is not _ABSENT}
        return _ABSENT if items and not kept else kept
    if isinstance(template, list):
        kept_items = [value for value in (_fill(item, inputs) for item in template) if value is not _ABSENT]
        return _ABSENT if template and not kept_items else kept_items
    if not isinstance(template, str):
        return template
    names = _NAME.findall(template)
    if any(name not in inputs for name in names):
        return _ABSENT
    if len(names) == 1 and template == f"{{{names[0]}}}":
        return inputs[names[0]]
    return _NAME.sub(lambda found: str(inputs[found[1]]), template)


def read_profile(path: Path) -> ProfileFile:
    """One profile file, without its pins. Raises ProfileError."""
    try:
        return ProfileFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ProfileError(f"profile {path}: {error}") from error


def pins_path(path: Path) -> Path:
    """Where the pins of a profile file are kept."""
    return path.with_suffix(".schemas.json")


PROVIDERS: Mapping[str, str] = {"image": "ideogram", "video": "runway", "search": "brave"}
"""Which profile serves a family of capabilities where nobody chose another (setting `providers`)."""


def load_profiles(
    directory: Path = PROFILES_DIR, names: Iterable[str] | None = None, providers: Mapping[str, str] | None = None
) -> Profiles:
    """All profiles of a folder, or those named, with their pinned schemas; `providers` over `PROVIDERS`. Raises ProfileError."""
    paths = sorted(directory.glob("*.yaml")) if names is None else [directory / f"{name}.yaml" for name in names]
    if not paths:
        raise ProfileError(f"no profile (*.yaml) in {directory}")
    loaded = {}
    for path in paths:
        spec = read_profile(path)
        pins = pins_path(path)
        try:
            raw = json.loads(pins.read_text(encoding="utf-8"))["tools"]
            tools = {tool: PinnedTool(sha256=entry["sha256"], schema=entry["schema"]) for tool, entry in raw.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProfileError(f"pins {pins}: {error!r}: run `python -m chimera.mcp.pin {spec.name}`") from error
        lacking = sorted({capability.tool for capability in spec.capabilities.values()} - set(tools))
        if lacking:
            raise ProfileError(f"pins {pins} lack {', '.join(lacking)}: run `python -m chimera.mcp.pin {spec.name}`")
        loaded[spec.name] = Profile(spec=spec, tools=tools)
    for family, name in (providers or {}).items():
        if not any(each.partition(".")[0] == family for each in (loaded[name].spec.capabilities if name in loaded else ())):
            raise ProfileError(f"provider {name!r} of {family!r}: no such profile offers it: use one of {', '.join(loaded)}")
    return Profiles(by_name=loaded, chosen={**PROVIDERS, **(providers or {})})
