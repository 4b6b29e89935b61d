"""Profiles: which server, tool and arguments a capability means, as data. Reads files and calls nothing.

The one rule: what `render` returns is exactly what is judged, hashed and sent; nothing adds to it afterwards. Arguments
are validated closed-world against the pinned schema, so no field that nobody approved can travel along.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import ValidationError

from chimera.mcp.pins import PinnedTool, Pins, pins_path
from chimera.mcp.schemas import BadSchema, Misfit, Schema
from chimera.mcp.spec import PLACEHOLDER, Answering, CapabilitySpec, ProfileError, ProfileFile, UploadRule
from chimera.mcp.tiers import UnknownTier

PROFILES_DIR = Path(__file__).parent / "profiles"
"""The profiles shipped with Chimera."""

_ABSENT: Any = object()
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is there: every process reads all profiles when it starts, 55 ms by the other."""


class BadArguments(Exception):
    """Inputs do not fit the capability or the pinned schema; the text names places and rules, never contents."""


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


@dataclass(frozen=True)
class Profile:
    spec: ProfileFile
    tools: Mapping[str, PinnedTool]
    _compiled: dict[str, tuple[str, Schema]] = field(default_factory=dict, compare=False, repr=False)
    """Tool -> the hash that it was pinned by, and its schema."""

    @property
    def name(self) -> str:
        return self.spec.name

    def problems(self, tool: str, arguments: Mapping[str, Any]) -> list[str]:
        """Where `arguments` break the pinned schema, by JSON path and rule; contents are never quoted."""
        pinned = self.tools[tool]
        sha256, schema = self._compiled.get(tool, (None, None))
        if schema is None or sha256 != pinned.sha256:
            try:
                schema = Schema(pinned.schema)
            except BadSchema as error:
                return [f"$: the pinned schema of {tool} is {error}"]
            self._compiled[tool] = pinned.sha256, schema
        return [_problem(misfit) for misfit in schema.misfits(arguments)]


def _problem(misfit: Misfit) -> str:
    if misfit.rule == "required":
        return f"{misfit.at}: {misfit.wanted} missing"
    if misfit.rule == "additionalProperties":
        return f"{misfit.at}: {misfit.wanted} not in the pinned schema"
    return f"{misfit.at}: breaks {misfit.rule} {misfit.wanted}".rstrip()


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
        problems = profile.problems(spec.tool, stood_in(spec, arguments))
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


def files_in(rule: UploadRule, arguments: Mapping[str, Any]) -> list[str]:
    """The files that arguments name where the rule says."""
    found: Any = arguments
    for step in rule.at.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def with_files(rule: UploadRule, arguments: Mapping[str, Any], files: list[str]) -> dict[str, Any]:
    """A copy of arguments that name files, with others in their place."""
    out = deepcopy(dict(arguments))
    *steps, last = rule.at.split(".")
    place = out
    for step in steps:
        place = place[step]
    place[last] = files
    return out


def stood_in(spec: CapabilitySpec, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments to be held against the pinned schema while files have no ids yet."""
    rule = spec.uploads
    named = files_in(rule, arguments) if rule is not None else []
    return with_files(rule, arguments, [rule.stand_in for _ in named]) if rule is not None and named else arguments


_CARE = {"read": 0, "keyed": 1, "reconcilable": 2, "at_most_once": 3}
"""Class of tools -> how much care an unknown end takes."""


def misstated(spec: CapabilitySpec, call: Rendered) -> str:
    """What a call says of itself that is less than its profile says: another class than asked for its quorum, a tool that may be
    called again sooner, a price below the table's or none that the table can tell.

    "" where it says nothing wrong, and for a dry run, of which nothing is sent."""
    if call.mode == "dry_run":
        return ""
    try:
        tool_class, price = _by_mode(spec.tool_class, call.mode), _price(spec, call.mode, call.arguments)
    except (BadArguments, UnknownTier) as error:
        return str(error)
    if call.effect_class != spec.effect_class or _CARE.get(call.tool_class, -1) < _CARE[tool_class]:
        return f"{call.capability} is {spec.effect_class}, {tool_class}: it was judged as {call.effect_class}, {call.tool_class}"
    return f"{call.capability} costs {price}: it was judged at {call.cost_usd}" if call.cost_usd < price else ""


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
    names = _placeholders(template)
    for name in names:
        if name not in inputs:
            return _ABSENT
    if len(names) == 1 and template == f"{{{names[0]}}}":
        return inputs[names[0]]
    return PLACEHOLDER.sub(lambda found: str(inputs[found[1]]), template)


@lru_cache(maxsize=1024)
def _placeholders(template: str) -> tuple[str, ...]:
    return tuple(PLACEHOLDER.findall(template))


def read_profile(path: Path) -> ProfileFile:
    """One profile file, without its pins. Raises ProfileError."""
    try:
        return ProfileFile.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ProfileError(f"profile {path}: {error}") from error


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
        tools = Pins(pins)
        lacking = sorted({capability.tool for capability in spec.capabilities.values()} - set(tools))
        if lacking:
            raise ProfileError(f"pins {pins} lack {', '.join(lacking)}: run `python -m chimera.mcp.pin {spec.name}`")
        loaded[spec.name] = Profile(spec=spec, tools=tools)
    for family, name in (providers or {}).items():
        if not any(each.partition(".")[0] == family for each in (loaded[name].spec.capabilities if name in loaded else ())):
            raise ProfileError(f"provider {name!r} of {family!r}: no such profile offers it: use one of {', '.join(loaded)}")
    return Profiles(by_name=loaded, chosen={**PROVIDERS, **(providers or {})})
