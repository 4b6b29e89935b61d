"""The policy simulator on a swarm's votes: what a policy changes is told, what it does not change stays, and nothing is asked."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
import tempfile
import uuid
from collections import Counter
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chimera.eventlog.partitioner import partition_for
from chimera.events import records as rec
from chimera.events.envelope import decode
from chimera.events.raw import RawRecord
from chimera.mcp.sandbox.timeline import Timeline
from chimera.mcp.sandbox.x import XSandbox
from chimera.policy.boardkit import Rules, digest, inline, load_text, parse_rules
from chimera.policy.brief import load_brief
from chimera.policy.rules import RULES
from chimera.projections.engine import new_fold
from chimera.projections.shares import WORTH, shared_out
from chimera.replay import report
from chimera.replay.outcome import Outcome, notes
from chimera.replay.rehearse import BY_THE_LAW, LOOKS_AT, NOT_REHEARSED, SAME, again, changed
from chimera.replay.simulate import BadPolicy, Candidate, Rehearsal, Selection, candidate
from tests.integration.projection_data import PARTITIONS, History
from tests.swarmhouse import SwarmHouse

EXAMPLES = Path("examples")
POLICY = load_text(EXAMPLES / "AGENTS.md").replace("undo_s: 30\n", "undo_s: 0\n")
AGENTS = 6


TIMES: list[int] = []
"""Append times, in the order of the history's entries."""


@cache
def history() -> History:
    """A swarm of six wrote, judged and published; its records as they lie on a log."""
    room = tempfile.TemporaryDirectory(prefix="chimera-test-x-")
    house = SwarmHouse(EXAMPLES, POLICY, x=XSandbox(Timeline(Path(room.name) / "x")))
    brief = load_brief(EXAMPLES / "briefs/autumn.yaml")
    souls = sorted((EXAMPLES / "souls").glob("*.md"))
    for n in range(AGENTS):
        house.enrol(f"agent/{uuid.UUID(int=n)}", load_text(souls[n % len(souls)]), brief, f"a{n}")

    async def live() -> None:
        await house.run()
        house.later += 600_000
        await house.go_out()

    asyncio.run(live())
    room.cleanup()
    h = History("simulated-chimera.log")
    TIMES.extend([h.now] * len(h.entries))
    for made, ruling in zip(house.records, house.rulings, strict=True):
        h.now = made.append_ts
        TIMES.append(h.now)
        assert made.data is not None
        again_ = h.add(made.key, made.data, actor=made.actor, id_=made.id)
        assert (again_.outcome, again_.version) == (ruling.outcome, ruling.version)
    return h


@cache
def raws() -> list[RawRecord]:
    h = history()
    offsets: Counter[int] = Counter()
    found = []
    for e, ts in zip(h.entries, TIMES, strict=True):
        found.append(RawRecord(h.topic, e.partition, offsets[e.partition], ts, e.key.encode(), e.value, e.headers))
        offsets[e.partition] += 1
    return found


def given(text: str) -> Candidate:
    rules = parse_rules(text)
    return Candidate(rules, inline(rules), digest(text), "here")


def rehearsed(text: str, selection: Selection | None = None) -> Outcome:
    walk = Rehearsal(given(text), selection or Selection())
    for p in range(PARTITIONS):
        walk.walk(new_fold(p, PARTITIONS, history().root.public), [raw for raw in raws() if raw.partition == p])
    return walk.outcome


def with_(**changes: str) -> str:
    """The policy with some lines said otherwise."""
    lines, skipped = [], False
    for line in POLICY.splitlines():
        if line[:1].isalpha() or line.startswith("---"):
            skipped = line.split(":")[0] in changes
        if not skipped:
            lines.append(line)
    at = lines.index("boardkit: 1")
    return "\n".join([*lines[: at + 1], *(f"{name}: {value}" for name, value in changes.items()), *lines[at + 1 :]]) + "\n"


def votes() -> list[rec.JudgeVerdict]:
    return [d for raw in raws() if isinstance(d := decode(raw).data, rec.JudgeVerdict)]


def test_the_same_policy_changes_nothing() -> None:
    found = rehearsed(POLICY)
    assert found.votes == len(votes()) > 20
    assert found.changed == 0
    assert all(before == after for before, after in (*found.routes, *found.drafts))
    assert found.records == len(raws())
    assert found.posts["gone out"] > 0


def test_every_rule_run_again_under_the_same_policy_says_what_the_judge_said(monkeypatch: pytest.MonkeyPatch) -> None:
    every = list(Rules.model_fields)
    monkeypatch.setattr("chimera.replay.simulate.changed", lambda before, after: every)
    found = rehearsed(POLICY)
    assert found.changed == 0, found.causes
    assert all(before == after for before, after in found.drafts)


def test_a_higher_threshold_sends_more_to_people_and_says_how_many_a_day() -> None:
    found = rehearsed(with_(approve_above="0.999", people_from="0.70"))
    before, after = report.cards(found)
    assert found.routes["auto", "people"] > 0
    assert after - before == found.routes["auto", "people"]
    assert found.causes["auto", "people", "confidence"] == found.routes["auto", "people"]
    assert found.posts["waited for people"] > 0
    assert not found.routes["auto", "retry"]


def test_a_banned_phrase_names_the_posts_that_would_not_have_gone_out() -> None:
    word = "the"
    found = rehearsed(with_(banned_phrases=f"[{word}]"))
    assert found.posts["not gone out"] > 0
    assert found.causes["auto", "retry", "banned_phrases"] == found.routes["auto", "retry"] + found.drafts["auto", "retry"]
    example = found.examples["auto -> retry"][0]
    assert word in example.text.casefold().split()
    assert example.after == "retry"
    assert any(reason.startswith(f"banned_phrases[{word}]") for reason in example.reasons)
    assert example.card.count("/") == 1


def test_shadow_and_probation_ask_people_about_all_that_passed() -> None:
    for changes in ({"shadow": "true"}, {"probation": "{decisions: 50}"}):
        found = rehearsed(with_(**changes))
        assert found.routes["auto", "auto"] == 0
        assert found.causes["auto", "people", "shadow"] == found.routes["auto", "people"] > 0


def test_votes_are_selected_by_agent_tenant_and_time() -> None:
    one = f"agent/{uuid.UUID(int=1)}"
    mine = rehearsed(POLICY, Selection(agents=frozenset({one}))).votes
    assert 0 < mine < rehearsed(POLICY).votes
    assert rehearsed(POLICY, Selection(tenant="nobody")).votes == 0
    assert rehearsed(POLICY, Selection(until=1)).votes == 0
    assert rehearsed(POLICY, Selection(since=history().now + 1)).votes == 0


def test_parts_of_the_log_add_up_to_the_whole() -> None:
    text = with_(approve_above="0.999", banned_phrases="[the]")
    total = Outcome()
    for p in range(PARTITIONS):
        walk = Rehearsal(given(text), Selection())
        walk.walk(new_fold(p, PARTITIONS, history().root.public), [raw for raw in raws() if raw.partition == p])
        total.add(walk.outcome)
    whole = rehearsed(text)
    for each in fields(Outcome):
        if each.name != "examples":
            assert getattr(total, each.name) == getattr(whole, each.name), each.name
    assert {k: len(v) for k, v in total.examples.items()} == {k: len(v) for k, v in whole.examples.items()}


def test_what_it_keeps_is_what_is_open() -> None:
    walk = Rehearsal(given(POLICY), Selection())
    for p in range(PARTITIONS):
        fold = new_fold(p, PARTITIONS, history().root.public)
        walk.walk(fold, [raw for raw in raws() if raw.partition == p])
        open_ = {(a.key, c.number, t.ordinal) for a in fold.agents.values() for c in a.campaigns.values() for t in c.tasks.values()}
        mine = {slot for slot in walk._words if partition_for(slot[0], PARTITIONS) == p}
        assert mine <= open_


def test_every_field_of_a_policy_is_rehearsed_or_said_not_to_be() -> None:
    looked_at = {field for fields_ in LOOKS_AT.values() for field in fields_}
    assert set(Rules.model_fields) == looked_at | BY_THE_LAW | set(NOT_REHEARSED) | SAME
    assert set(LOOKS_AT) <= {rule.name for rule in RULES}


def test_what_is_not_rehearsed_is_said() -> None:
    assert any(note.startswith("undo_s: not rehearsed") for note in notes(rehearsed(with_(undo_s="60"))))
    assert notes(rehearsed(with_(approve_above="0.95"))) == []


def test_rules_that_look_at_the_policy_are_those_of_the_table() -> None:
    for rule in RULES:
        seen = set(re.findall(r"ctx\.rules\.(\w+)", inspect.getsource(rule.find)))
        named = {"max_chars" if field == "max_chars_on" else field for field in seen}
        if rule.name == "tenant_duplicate":
            continue  # what it compares with is not on the log
        assert named == set(LOOKS_AT.get(rule.name, ())), rule.name


def test_nothing_is_asked_of_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    raws()
    asked: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *where: asked.append(where))
    rehearsed(with_(approve_above="0.999", banned_phrases="[the]"))
    assert asked == []


def test_a_directory_without_a_policy_is_refused_with_what_lies_there(tmp_path: Path) -> None:
    with pytest.raises(BadPolicy, match=r"must hold AGENTS\.md, there is nothing in it"):
        candidate(tmp_path)
    with pytest.raises(BadPolicy, match="there is nothing of that name"):
        candidate(tmp_path / "nowhere")
    (tmp_path / "AGENTS.md").write_text("---\nboardkit: 1\n---\n")
    with pytest.raises(BadPolicy, match="chimera policy lint"):
        candidate(tmp_path)
    assert candidate(Path("policies")).rules.boardkit == 1


def test_the_page_holds_all_it_shows_and_escapes_what_agents_wrote() -> None:
    found = rehearsed(with_(approve_above="0.999", banned_phrases="[the]"))
    kind = next(iter(found.examples))
    found.examples[kind][0] = found.examples[kind][0]._replace(text="<script>alert(1)</script>")
    page = report.html(found, candidate(Path("policies")), "all votes")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 2
    assert "src=" not in page
    assert "href=" not in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_partitions_are_shared_out_by_length() -> None:
    assert shared_out(range(4), {0: 10 * WORTH, 1: 9 * WORTH, 2: 1, 3: 0}, 2) == [[0], [1, 2]]
    assert shared_out(range(4), {0: 10, 1: 9, 2: 1, 3: 0}, 2) == [[0, 1, 2]]
    assert shared_out(range(2), {0: 0, 1: 0}, 4) == [[]]


def test_a_vote_that_a_new_policy_does_not_touch_is_the_very_same() -> None:
    rules, other = parse_rules(POLICY), parse_rules(with_(undo_s="60"))
    for vote in votes():
        assert again(vote, None, (), rules, other, changed(rules, other)) is vote
