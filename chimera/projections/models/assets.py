"""Media that artifacts carry: what they are, what they were made from, with which tool, and when what happened to them.

An artifact carries media as `content["assets"]`: a list of objects with `sha256` (hex of the bytes) and, as far as known, role,
media_type, bytes, width, height, duration_s, derived_from (a list of hashes, or of {sha256, step}), platform, profile, tool,
tool_version, model, prompt_sha256, seed, parameters, request, response, tier, estimate_usd, cost_usd. Who makes media fills it in.
The rule not to break: whatever an artifact says there, a row can be made of it, or the asset is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from chimera.events.envelope import Record
from chimera.events.records import ArtifactProduced, HumanEdited
from chimera.events.state import Agent, Ruling
from chimera.projections.rows import (
    COUNTS,
    Insert,
    Model,
    Put,
    Row,
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

ASSETS = Table("assets", ("agent_id", "sha256"), once=frozenset({"campaign", "ordinal", "attempt", "edit", "created_at"}))
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
_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """An asset that is made again keeps the task that made it first; every making is an event."""
    data = record.data
    if not isinstance(data, ArtifactProduced | HumanEdited) or "assets" not in data.content:
        return []
    out: list[Row] = []
    edit = data.edit if isinstance(data, HumanEdited) else 0
    for sha256, said in _carried(data.content["assets"]):
        out.append(Put(ASSETS, (record.key, sha256), _asset(record, data, edit, said)))
        out.append(Put(PROVENANCE, (record.key, sha256), _provenance(said) | stamp(record)))
        for parent, step in _parents(said.get("derived_from")).items():
            out.append(Put(LINEAGE, (record.key, sha256, parent), {"step": step, **stamp(record)}))
        happened = ["edited" if edit else "produced"] + ["proposed"] * (data.effect is not None)
        platform = data.effect.platform if data.effect is not None else ""
        for event in happened:
            n = sum(isinstance(row, Insert) for row in out)
            detail = as_json({"role": _role(said), "media_type": _text(said, "media_type"), "tier": _text(said, "tier")})
            values: tuple[Value, ...] = (
                record.key, sha256, event, data.campaign, data.ordinal, data.attempt, record.actor, platform, detail,
                ts(record.append_ts), record.partition, record.offset, n,
            )  # fmt: skip
            out.append(Insert(EVENTS, values))
    return out


def _carried(said: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    seen: set[str] = set()
    for item in said[:MOST] if isinstance(said, list) else []:
        sha256 = _hash(item.get("sha256")) if isinstance(item, dict) else None
        if sha256 is not None and sha256 not in seen:
            seen.add(sha256)
            yield sha256, item


def _asset(record: Record, data: ArtifactProduced | HumanEdited, edit: int, said: Mapping[str, Any]) -> dict[str, Value]:
    return {
        "role": _role(said),
        "media_type": _text(said, "media_type"),
        "bytes": _count(said.get("bytes")),
        "width": small(said.get("width")),
        "height": small(said.get("height")),
        "duration_s": _length(said.get("duration_s")),
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
    "assets", (ASSETS, LINEAGE, PROVENANCE, EVENTS), rows, types=frozenset({"ArtifactProduced", "HumanEdited"}), outcomes=COUNTS
)
