"""Media that artifacts carry: what they are, what they were made from, with which tool, and when what happened to them.

An artifact carries media as `content["assets"]`: a list of objects with `sha256` (hex of the bytes) and, as far as known, role,
media_type, bytes, width, height, duration_s, codec, derived_from (a list of hashes, or of {sha256, step}), platform, profile, tool,
tool_version, model, prompt_sha256, seed, parameters, request, response, tier, estimate_usd, cost_usd. Who makes media fills it in.
What an order brought is named by its end (`EffectEnded.assets`), what is shown or made from by `EffectProposal.asset_hashes`.
The rule not to break: whatever an artifact says there, a row can be made of it, or the asset is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, EffectEnded, EffectProposal, HumanEdited
from chimera.events.records.base import TaskRecord
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import (
    COUNTS,
    Insert,
    Model,
    Put,
    Row,
    Set,
    Table,
    Value,
    as_json,
    big,
    clipped,
    money,
    real,
    small,
    stamp,
    ts,
)

ASSETS = Table(
    "assets", ("agent_id", "sha256"), once=frozenset({"campaign", "ordinal", "attempt", "edit", "created_at"}), optional=True
)
USES = Table("asset_uses", ("agent_id", "campaign", "ordinal", "attempt", "sha256"), once=frozenset({"created_at"}))
LINEAGE = Table("asset_lineage", ("agent_id", "sha256", "parent"))
PROVENANCE = Table("asset_provenance", ("agent_id", "sha256"))
EVENTS = Table(
    "asset_events",
    ("partition", "offset", "n"),
    (
        "agent_id", "sha256", "event", "campaign", "ordinal", "attempt", "actor", "platform", "detail", "created_at", "partition",
        "offset", "n",
    ),
)  # fmt: skip
ROLES = frozenset({"prompt", "source", "render", "edit", "final"})
MOST = 200
"""Assets, and parents of one, that an artifact is heard on."""
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "mp4": "video/mp4", "webm": "video/webm"}
"""By the extension of a name in the media store."""
_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """An asset that is made again keeps the task that made it first; every making is an event."""
    data = record.data
    if isinstance(data, EffectEnded):
        return _brought(record, data) if data.assets else []
    if not isinstance(data, (ArtifactProduced, HumanEdited)):
        return []
    if "assets" not in data.content and (data.effect is None or not data.effect.asset_hashes):  # most of them
        return []
    out: list[Row] = []
    edit = data.edit if isinstance(data, HumanEdited) else 0
    effect, told = data.effect, set[str]()
    for sha256, said in _carried(data.content.get("assets")):
        told.add(sha256)
        out.append(Put(ASSETS, (record.key, sha256), _asset(record, data, edit, said)))
        out.append(Put(PROVENANCE, (record.key, sha256), _provenance(said) | stamp(record)))
        for parent, step in _parents(said.get("derived_from")).items():
            out.append(Put(LINEAGE, (record.key, sha256, parent), {"step": step, **stamp(record)}))
        happened = ["edited" if edit else "produced"] + ["proposed"] * (effect is not None)
        detail = {"role": _role(said), "media_type": _text(said, "media_type"), "tier": _text(said, "tier")}
        for event in happened:
            out.append(_event(record, data, out, sha256, event, "" if effect is None else effect.platform, detail))
        if effect is not None:
            out.append(_use(record, data, effect, sha256))
    if effect is None:
        return out
    for sha256 in dict.fromkeys(filter(None, map(_hash, effect.asset_hashes[:MOST]))):
        if sha256 in told:
            continue
        out.append(_use(record, data, effect, sha256))
        if effect.effect_class != "paid":
            out.append(Set(ASSETS, (record.key, sha256), {"role": "final", **stamp(record)}))
            out.append(_event(record, data, out, sha256, "proposed", effect.platform, {"role": "final"}))
    return out


def _brought(record: Record, data: EffectEnded) -> list[Row]:
    """What an order brought. What it cost is the first one's cost, so that sums stay true."""
    out: list[Row] = []
    known = dict(zip(data.assets, data.asset_facts, strict=False))  # records of before say nothing of what files are
    for number, name in enumerate(dict.fromkeys(data.assets[:MOST])):
        stem, _, extension = name.partition(".")
        sha256 = _hash(stem)
        if sha256 is None:
            continue
        facts = known[name].model_dump() if name in known else {}
        said = {"media_type": MEDIA_TYPES.get(extension, ""), "cost_usd": data.cost_usd if number == 0 else 0, **facts}
        out.append(Put(ASSETS, (record.key, sha256), _asset(record, data, 0, said)))
        out.append(Put(PROVENANCE, (record.key, sha256), _provenance({"tool_version": data.server_version}) | stamp(record)))
        out.append(
            _event(record, data, out, sha256, "produced", "", {"role": "render", "media_type": said["media_type"], "tier": ""})
        )
    return out


def _use(record: Record, data: ArtifactProduced | HumanEdited, effect: EffectProposal, sha256: str) -> Put:
    """An order is made from media; every other effect shows them."""
    told: dict[str, Value] = {
        "use": "source" if effect.effect_class == "paid" else "shown",
        "platform": clipped(effect.platform),
        "disclosure": effect.disclosure,
        "actor": record.actor,
        "created_at": ts(record.append_ts),
    }
    return Put(USES, (record.key, data.campaign, data.ordinal, data.attempt, sha256), told | stamp(record))


def _event(
    record: Record, data: TaskRecord, before: list[Row], sha256: str, event: str, platform: str, detail: dict[str, Any]
) -> Insert:
    n = sum(isinstance(row, Insert) for row in before)
    values: tuple[Value, ...] = (
        record.key, sha256, event, data.campaign, data.ordinal, data.attempt, record.actor, platform, as_json(detail),
        ts(record.append_ts), record.partition, record.offset, n,
    )  # fmt: skip
    return Insert(EVENTS, values)


def _carried(said: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    seen: set[str] = set()
    for item in said[:MOST] if isinstance(said, list) else []:
        sha256 = _hash(item.get("sha256")) if isinstance(item, dict) else None
        if sha256 is not None and sha256 not in seen:
            seen.add(sha256)
            yield sha256, item


def _asset(record: Record, data: TaskRecord, edit: int, said: Mapping[str, Any]) -> dict[str, Value]:
    return {
        "role": _role(said),
        "media_type": _text(said, "media_type"),
        "bytes": _count(said.get("bytes")),
        "width": small(said.get("width")),
        "height": small(said.get("height")),
        "duration_s": _length(said.get("duration_s")),
        "codec": _text(said, "codec"),
        "campaign": data.campaign,
        "ordinal": data.ordinal,
        "attempt": data.attempt,
        "edit": edit,
        "tier": _text(said, "tier"),
        "estimate_usd": _usd(said.get("estimate_usd")),
        "cost_usd": _usd(said.get("cost_usd")),
        "created_at": ts(record.append_ts),
        **stamp(record),
    }


def _provenance(said: Mapping[str, Any]) -> dict[str, Value]:
    seed = said.get("seed")
    return {
        "platform": _text(said, "platform"),
        "profile": _text(said, "profile"),
        "tool_name": _text(said, "tool"),
        "tool_version": _text(said, "tool_version"),
        "model": _text(said, "model"),
        "prompt_sha256": _hash(said.get("prompt_sha256")),
        "seed": big(seed) if isinstance(seed, int) else None,
        **{name: as_json(said[name] if isinstance(said.get(name), dict) else {}) for name in ("parameters", "request", "response")},
    }


def _parents(said: object) -> dict[str, str]:
    """Parent -> step."""
    found: dict[str, str] = {}
    for item in said[:MOST] if isinstance(said, list) else []:
        parent = _hash(item.get("sha256") if isinstance(item, dict) else item)
        if parent is not None:
            found[parent] = _text(item, "step") if isinstance(item, dict) else ""
    return found


def _role(said: Mapping[str, Any]) -> str:
    role = said.get("role")
    return role if isinstance(role, str) and role in ROLES else "render"


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    return clipped(value) if isinstance(value, str) else ""


def _hash(value: object) -> str | None:
    found = _HASH.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else None


def _count(value: object) -> int | None:
    return big(value) if isinstance(value, int) and value >= 0 else None


def _length(value: object) -> float | None:
    return real(float(value)) if isinstance(value, int | float) and 0 <= value < 1e9 else None


def _usd(value: object) -> Decimal | None:
    try:
        return None if value is None else money(Decimal(str(value)))
    except InvalidOperation:
        return None


MODEL = Model(
    "assets",
    (ASSETS, USES, LINEAGE, PROVENANCE, EVENTS),
    rows,
    types=frozenset({"ArtifactProduced", "HumanEdited", "EffectEnded"}),
    outcomes=COUNTS,
)
