"""What becomes of an effect becomes of the media that it shows: each step is an event of theirs, with its own record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from chimera.events import records as rec
from chimera.events.hashes import digest
from chimera.projections.checkpoints import LOG, MODEL_SET, connect, open_checkpoints
from chimera.projections.engine import new_fold, project
from chimera.projections.schema import migrate
from chimera.projections.write import Connection, write
from tests.integration.projection_data import PARTITIONS, History, enrol, propose, publish, vote, vote_fields

KINDS = ("publish", "refuse", "reject", "lose", "takedown")
FILMS = {kind: letter * 64 for kind, letter in zip(KINDS, "abcde", strict=True)}


@pytest.fixture
def connection(make_database: Callable[[], str]) -> Iterator[Connection]:
    dsn = make_database()
    migrate(dsn)
    with connect(dsn) as made:
        yield made


def show(h: History, key: str, ordinal: int, shown: list[str]) -> None:
    """An attempt whose post shows these files."""
    assert h.add(key, rec.TaskPlanned(campaign=1, ordinal=ordinal, attempt=1), actor="planner").outcome == "applied"
    version = h.agent(key).campaigns[1].tasks[ordinal].input_state_version
    text = f"the {ordinal}. film of the autumn sale, with {ordinal * 7919} leaves"
    effect = propose(h, key, version, text).model_copy(update={"asset_hashes": shown})
    effect = effect.model_copy(update={"effect_hash": digest(rec.effect_body(effect))})
    carried = [{"sha256": sha256, "role": "final", "media_type": "video/mp4"} for sha256 in shown if sha256 != FILMS["lose"]]
    content: dict[str, Any] = {"text": text, "assets": carried} if shown else {"takedown": "11", "platform": "x"}
    made = rec.ArtifactProduced(
        campaign=1, ordinal=ordinal, attempt=1, input_state_version=version, kind="post", artifact_hash=digest(content),
        content=content, confidence_score=0.97, taint="allowlisted", effect=effect,
    )  # fmt: skip
    assert h.add(key, made, actor="worker").outcome == "applied"


def claim(h: History, key: str, ordinal: int) -> dict[str, Any]:
    task = h.agent(key).campaigns[1].tasks[ordinal]
    assert task.effect is not None
    held = {"campaign": 1, "ordinal": ordinal, "attempt": 1, "claim": task.effect.claim + 1, "token": "t"}
    made = rec.EffectClaimed(**held, effect_hash=task.effect.hash, lease_ms=60_000)
    assert h.add(key, made, actor="gate").outcome == "applied"
    return held


def told(h: History) -> str:
    """An agent whose posts end in every way; its stream key."""
    key = enrol(h, "ava")
    brief = rec.CampaignStarted(command_no=h.agent(key).command_no + 1, campaign_id="c", name="Films", brief={}, brief_hash="b")
    assert h.add(key, brief, actor="op").outcome == "applied"
    down = {"platform": "x", "platform_id": "11", "reason": "the shop has closed"}
    rows = [
        rec.PlanRow(ordinal=n, kind="takedown" if kind == "takedown" else "post", title=kind, reads=["soul"], inputs=down)
        for n, kind in enumerate(KINDS, 1)
    ]
    assert h.add(key, rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=rows), actor="planner").outcome == "applied"
    for n, kind in enumerate(KINDS, 1):
        h.now += 1_000
        show(h, key, n, [FILMS[kind]] if kind != "takedown" else [])
        h.now += 1_000
        vote(h, key, 1, n, 0.8 if kind == "reject" else 0.95)
        h.now += 1_000
        if kind in ("publish", "takedown"):
            publish(h, key, 1, n)
        elif kind == "refuse":
            ended = rec.EffectEnded(**claim(h, key, n), outcome="refused", reason="too long")
            assert h.add(key, ended, actor="gate").outcome == "applied"
        elif kind == "lose":
            assert h.add(key, rec.EffectUnknown(**claim(h, key, n), reason="no answer"), actor="gate").outcome == "applied"
        else:
            asked = vote_fields(h, key, 1, n)
            named = {name: asked[name] for name in ("campaign", "ordinal", "attempt", "policy_edition", "effect_hash")}
            assert h.add(key, rec.HumanRejected(**named, reason_code="off_brand"), actor="lee").outcome == "applied"
    return key


def test_each_step_of_an_effect_is_an_event_of_the_media_that_it_shows(connection: Connection) -> None:
    h = History(LOG)
    told(h)
    open_checkpoints(connection, "core", MODEL_SET, LOG, range(PARTITIONS))
    folds = {p: new_fold(p, PARTITIONS, h.root.public) for p in range(PARTITIONS)}
    for raw in h.raws():
        stretch = project(folds[raw.partition], [raw], raw.offset)
        assert stretch is not None
        write(connection, "core", MODEL_SET, [stretch])

    def steps(kind: str) -> list[str]:
        rows = connection.execute(
            "SELECT event FROM analytics_v1.asset_events WHERE sha256 = %s"
            " ORDER BY created_at, array_position(ARRAY['produced', 'final', 'proposed', 'disclosed'], event)",
            (FILMS[kind],),
        ).fetchall()
        return [row[0] for row in rows]

    shown = ["produced", "final", "proposed", "disclosed"]
    assert steps("publish") == [*shown, "scheduled", "published", "deleted"]
    assert steps("refuse") == [*shown, "scheduled", "failed"]
    assert steps("reject") == [*shown, "failed"]
    assert steps("lose") == [*shown[1:], "scheduled", "unknown"], "its making is not in this log"
    states = connection.execute("SELECT sha256, state FROM analytics_v1.publishing_state ORDER BY 1").fetchall()
    assert states == [(FILMS["publish"], "deleted"), (FILMS["refuse"], "failed"), (FILMS["reject"], "failed")]
    because = "SELECT DISTINCT detail ->> 'reason' FROM analytics_v1.asset_events WHERE event = %s AND sha256 = %s"
    assert connection.execute(because, ("deleted", FILMS["publish"])).fetchall() == [("the shop has closed",)]
    assert connection.execute(because, ("failed", FILMS["reject"])).fetchall() == [("rejected",)]


def test_what_an_order_brought_names_its_tool_prompt_and_seed_and_what_it_was_made_from(connection: Connection) -> None:
    prompt, picture, film = "c" * 64, "a" * 64, "b" * 64
    asked = {"promptText": "leaves fall", "promptImage": "sha256:" + picture, "seed": 41, "model": "gen4", "ratio": "720:1280"}
    now, ordered = "now(), 0, 1", "'agent/1', 1, 1, 1"
    for statement in (
        f"core.agents VALUES ('agent/1', 'acme', 'ava', 'active', false, 1, 1, 1, 0, 0, {now})",
        "core.campaigns VALUES ('agent/1', 1, 'c', 'Films', 'op', 'running', '', 1, '{}', 'b', 1, NULL, '', now(), " + now + ")",
        "core.tasks (agent_id, campaign, ordinal, kind, title, status, plan_round, reads, max_cost_usd, criteria, inputs, costly,"
        ' created_at, updated_at, partition, "offset")'
        f" VALUES ('agent/1', 1, 1, 'video', 't', 'done', 1, '{{}}', 1, '[]', '[]', true, now(), {now})",
        "core.effects (agent_id, campaign, ordinal, attempt, effect_hash, effect_class, tool_class, profile, mode, tool, platform,"
        ' account, arguments, max_cost_usd, disclosure, edit, status, proposed_at, updated_at, partition, "offset")'
        f" VALUES ({ordered}, 'h', 'paid', 'keyed', 'runway', 'sandbox', 'runway_generateVideo', 'runway', '', '{{}}', 1, 'none',"
        f" 0, 'executed', now(), {now})",
        f"core.asset_uses VALUES ({ordered}, '{picture}', 'source', '', 'none', 'w', now(), {now})",
        f"core.asset_provenance VALUES ('agent/1', '{film}', '', '', '', '', '', NULL, NULL, '{{}}', '{{}}', '{{}}', {now})",
        f"core.asset_lineage VALUES ('agent/1', '{picture}', '{prompt}', 'render', {now})",
        *(
            f"core.assets VALUES ('agent/1', '{made}', 'render', '', NULL, NULL, NULL, NULL, 1, 1, 1, 0, '', NULL, 1, now(), {now})"
            for made in (picture, film)
        ),
    ):
        connection.execute(b"INSERT INTO " + statement.encode())
    connection.execute("UPDATE core.effects SET arguments = %s", (Jsonb(asked),))
    told = "SELECT profile, tool_name, model, prompt_sha256, seed, parameters FROM analytics_v1.asset_provenance WHERE sha256 = %s"
    words = hashlib.sha256(b"leaves fall").hexdigest()
    parameters = {"seed": 41, "model": "gen4", "ratio": "720:1280"}
    assert connection.execute(told, (film,)).fetchone() == ("runway", "runway_generateVideo", "gen4", words, 41, parameters)
    ways = "SELECT ancestor, distance, steps FROM analytics_v1.asset_lineage WHERE sha256 = %s ORDER BY distance"
    ordered_from = [(picture, 1, ["runway_generateVideo"]), (prompt, 2, ["runway_generateVideo", "render"])]
    assert connection.execute(ways, (film,)).fetchall() == ordered_from
    assert connection.execute(ways, (picture,)).fetchall() == [(prompt, 1, ["render"])], "it is not made from itself"
