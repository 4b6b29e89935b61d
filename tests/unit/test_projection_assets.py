"""Media that an artifact carries become rows, whatever the artifact says of them."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from chimera.events import records as rec
from chimera.events.state import Ruling
from chimera.projections.copying import copy_text
from chimera.projections.models import assets, models_for
from chimera.projections.rows import Insert, Put

PROMPT, RENDER, FINAL = "a" * 64, "b" * 64, "c" * 64
VIDEO: dict[str, Any] = {
    "sha256": FINAL, "role": "final", "media_type": "video/mp4", "bytes": 10, "width": 1080, "height": 1920, "duration_s": 8.5,
    "derived_from": [RENDER, {"sha256": PROMPT, "step": "cut"}], "platform": "runway", "profile": "runway", "tool": "generate",
    "tool_version": "4.1", "model": "gen4", "prompt_sha256": PROMPT, "seed": 7, "parameters": {"ratio": "9:16"},
    "request": {"prompt": "…"}, "response": {"id": "1"}, "tier": "standard", "estimate_usd": "0.50", "cost_usd": 0.45,
}  # fmt: skip


def rows_of(carried: object) -> list[Any]:
    content = {"text": "see", "assets": carried}
    made = rec.ArtifactProduced(
        campaign=1, ordinal=2, attempt=3, input_state_version=4, kind="video", artifact_hash="h", content=content,
        confidence_score=0.9, taint="owner",
    )  # fmt: skip
    record: Any = SimpleNamespace(
        key="agent/1", data=made, type=made.TYPE, actor="worker", append_ts=1_700_000_000_000, partition=5, offset=6
    )
    ruling = Ruling("applied", "", 1, 1)
    assert assets.MODEL in models_for(record, ruling)
    return assets.rows(record, ruling, None)


def test_an_asset_brings_its_making_its_parents_and_an_event() -> None:
    rows = rows_of([VIDEO, {"sha256": "sha256:" + RENDER}])
    puts = {(row.table.name, *row.key[1:]): row.values for row in rows if isinstance(row, Put)}
    assert set(puts) == {
        ("assets", FINAL), ("asset_provenance", FINAL), ("asset_lineage", FINAL, RENDER), ("asset_lineage", FINAL, PROMPT),
        ("assets", RENDER), ("asset_provenance", RENDER),
    }  # fmt: skip
    assert puts[("assets", FINAL)]["duration_s"] == 8.5
    assert str(puts[("assets", FINAL)]["cost_usd"]) == "0.45000000"
    assert puts[("asset_lineage", FINAL, PROMPT)]["step"] == "cut"
    assert puts[("asset_provenance", FINAL)]["parameters"] == b'{"ratio":"9:16"}'
    assert puts[("assets", RENDER)]["role"] == "render"
    events = [row.values for row in rows if isinstance(row, Insert)]
    assert [(values[1], values[2], values[-1]) for values in events] == [(FINAL, "produced", 0), (RENDER, "produced", 1)]


@pytest.mark.parametrize("carried", [None, 7, "x", {}, [None], [[]], [{"sha256": 3}], [{"sha256": "short"}], [{"role": "final"}]])
def test_what_names_no_bytes_is_passed_over(carried: object) -> None:
    assert rows_of(carried) == []


@pytest.mark.parametrize("name", [name for name in VIDEO if name != "sha256"])
@pytest.mark.parametrize("nonsense", [None, -1, 1e300, float("nan"), 10**40, True, "\x00", [], {"a": {}}, "x" * 5_000, "1e999"])
def test_a_row_can_be_made_whatever_is_said(name: str, nonsense: object) -> None:
    rows = rows_of([{**VIDEO, name: nonsense}])
    assert rows
    for row in rows:
        values = row.values if isinstance(row, Insert) else tuple(row.values.values())
        assert copy_text([values])


def test_the_same_asset_twice_in_one_artifact_is_one() -> None:
    assert len(rows_of([VIDEO, VIDEO])) == len(rows_of([VIDEO]))


def rows_for(data: Any) -> list[Any]:
    record: Any = SimpleNamespace(
        key="agent/1", data=data, type=data.TYPE, actor="gate", append_ts=1_700_000_000_000, partition=5, offset=6
    )
    assert assets.MODEL in models_for(record, Ruling("applied", "", 1, 1))
    return assets.rows(record, Ruling("applied", "", 1, 1), None)


def proposed(effect_class: str, *hashes: str) -> rec.ArtifactProduced:
    effect = rec.EffectProposal(
        effect_hash="e",
        effect_class=effect_class,
        tool_class="keyed",
        profile="x",
        mode="sandbox",
        tool="createPosts",
        schema_sha256="s",
        arguments={},
        asset_hashes=[*hashes],
        platform="x",
        account="a",
        disclosure="automated",
        agent="agent/1",
        input_state_version=4,
        salt="s",
        text_hash="t",
        simhash="0" * 16,
    )
    return rec.ArtifactProduced(
        campaign=1, ordinal=3, attempt=1, input_state_version=4, kind="publish", artifact_hash="h", content={"text": "see"},
        confidence_score=0.9, taint="owner", effect=effect,
    )  # fmt: skip


def test_what_an_order_brought_is_made_there_and_its_cost_is_counted_once() -> None:
    ended = rec.EffectEnded(
        campaign=1, ordinal=2, attempt=1, claim=1, outcome="executed", token="t",
        assets=[f"{RENDER}.mp4", "nonsense", f"{FINAL}.png"], cost_usd=Decimal("0.45"),
        asset_facts=[
            rec.AssetFacts(bytes=7, width=9, height=16, duration_s=5.0, codec="h264"),
            rec.AssetFacts(bytes=1),
            rec.AssetFacts(bytes=3),
        ],
        server_version="studio 2.1",
    )  # fmt: skip
    rows = rows_for(ended)
    made = {row.key[1]: row.values for row in rows if isinstance(row, Put) and row.table is assets.ASSETS}
    assert {sha256: (row["media_type"], str(row["cost_usd"]), row["role"]) for sha256, row in made.items()} == {
        RENDER: ("video/mp4", "0.45000000", "render"),
        FINAL: ("image/png", "0E-8", "render"),
    }
    told = {sha256: [row[name] for name in ("bytes", "width", "height", "duration_s", "codec")] for sha256, row in made.items()}
    assert told == {RENDER: [7, 9, 16, 5.0, "h264"], FINAL: [3, None, None, None, ""]}
    assert [(row.values[1], row.values[2], row.values[-1]) for row in rows if isinstance(row, Insert)] == [
        (RENDER, "produced", 0), (FINAL, "produced", 1)
    ]  # fmt: skip
    provenance = [row.values["tool_version"] for row in rows if isinstance(row, Put) and row.table is assets.PROVENANCE]
    assert provenance == ["studio 2.1", "studio 2.1"]
    before = rows_for(ended.model_copy(update={"asset_facts": [], "server_version": ""}))
    values = {row.table.name: row.values for row in before if isinstance(row, Put)}
    assert (values["assets"]["bytes"], values["asset_provenance"]["tool_version"]) == (None, ""), "records of before told nothing"


def test_what_an_effect_shows_is_final_and_what_an_order_is_made_from_is_not() -> None:
    shown = rows_for(proposed("publish", FINAL, FINAL, "nonsense"))
    assert [(row.table.name, row.values.get("use"), row.values.get("role")) for row in shown if not isinstance(row, Insert)] == [
        ("asset_uses", "shown", None), ("assets", None, "final")
    ]  # fmt: skip
    assert [row.values[2] for row in shown if isinstance(row, Insert)] == ["proposed"]
    assert [row.values["use"] for row in rows_for(proposed("paid", RENDER))] == ["source"]
