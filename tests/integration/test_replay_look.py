"""Looking back on a real log: agents at versions and moments, what changed through which records, and records by what they say."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from chimera.cli import grep as grepping
from chimera.cli import past
from chimera.cli.bars import Bar
from chimera.cli.main import build
from chimera.commands import lookup
from chimera.commands.keys import log_topics
from chimera.eventlog import moments
from chimera.eventlog.cluster import apply
from chimera.eventlog.partitioner import partition_for
from chimera.events.state_codec import state_to_json
from chimera.replay import look
from chimera.replay.look import Log, NotThere
from tests.integration.projection_data import History, day, enrol, mischief


class Place:
    """Three agents' days on a log of their own."""

    def __init__(self, bootstrap: str) -> None:
        topic = f"look-{uuid.uuid4().hex[:8]}-chimera.log"
        apply(bootstrap, log_topics(topic))
        self.h = History(topic)
        self.ava, self.ben = day(self.h, "ava"), day(self.h, "ben")
        mischief(self.h, enrol(self.h, "cy"))
        self.ends = self.h.send(bootstrap)
        self.log = Log(bootstrap, topic, self.h.root.public)


@pytest.fixture(scope="module")
def place(kafka_bootstrap: str) -> Place:
    return Place(kafka_bootstrap)


@pytest.fixture
def chimera(place: Place, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(past, "open_log", lambda: place.log)
    monkeypatch.setattr(grepping, "open_log", lambda: place.log)

    def run(*words: str) -> Result:
        return CliRunner().invoke(build(list(words)), list(words), env={"COLUMNS": "200"})

    return run


def test_the_state_now_is_the_folds_own(place: Place) -> None:
    seen = look.at_cut(place.log, place.ava, look.now(place.log))
    _, fold = lookup.stream(lookup.Log(*place.log), partition_for(place.ava, 24), place.ava.encode(), lambda done, total: None)
    assert seen.state == orjson.loads(state_to_json(fold.agents[place.ava]))
    assert seen.version == fold.agents[place.ava].version > 4


def test_at_a_version_one_sees_the_state_of_the_moment_when_it_was_reached(place: Place) -> None:
    seen = look.at_version(place.log, place.ava, 3)
    assert (seen.version, seen.record.type, seen.ruling.version_before) == (3, "AccountLinked", 2)
    assert seen.state["accounts"] == {"x": "ava_x"}
    assert "campaigns" not in seen.state


def test_at_a_record_one_sees_what_was_there_up_to_it(place: Place) -> None:
    by_version = look.at_version(place.log, place.ava, 3)
    at = f"{by_version.record.partition}:{by_version.record.offset}"
    seen = look.at_cut(place.log, place.ava, moments.moment(place.log.bootstrap, place.log.topic, at))
    assert seen.state == by_version.state


def test_what_changed_is_told_by_field_with_the_records_that_did_it(place: Place) -> None:
    found = look.between(place.log, place.ava, 1, 3)
    assert [(s.record.type, s.record.actor) for s in found.steps] == [
        ("SoulAdopted", "svc"),
        ("PolicyAdopted", "svc"),
        ("AccountLinked", "svc"),
    ]
    by = {field.path: [r.type for r in field.by] for field in found.fields}
    assert by["soul"] == ["SoulAdopted"]
    assert by["policy.edition"] == ["PolicyAdopted"]
    assert by["version"] == ["SoulAdopted", "AccountLinked"]
    version = next(field for field in found.fields if field.path == "version")
    assert (version.before, version.after) == (1, 3)


def test_differences_add_up_to_the_state(place: Place) -> None:
    newest = look.at_cut(place.log, place.ben, look.now(place.log)).version
    found = look.between(place.log, place.ben, 1, newest)
    made = look.flatten(look.at_version(place.log, place.ben, 1).state)
    for field in found.fields:
        made[field.path] = field.after
    there = look.flatten(look.at_version(place.log, place.ben, newest).state)
    assert {path: value for path, value in made.items() if value is not None} == {
        path: value for path, value in there.items() if value is not None
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--at-version", "999"), "has never been at version 999"),
        (("--diff", "5", "2"), "write the lower one first"),
        (("--at", "2026-11-22T10:00"), "names no time zone"),
        (("--at", "yesterday"), "is no time"),
        (("--at", "2999-01-01T00:00Z"), "still to come"),
        (("--at", "2001-01-01T00:00Z"), "the log begins at"),
        (("--at", "3:999999"), "beyond the end of partition 3"),
        (("--at", "77:0"), "has the partitions 0 to 23"),
    ],
)
def test_a_moment_that_is_not_there_is_refused_with_what_to_write(
    place: Place, chimera: Any, words: tuple[str, ...], says: str
) -> None:
    done = chimera("replay", "agent", place.ava, *words)
    assert done.exit_code == 1
    assert says in str(done.exception)


def test_an_agent_that_nobody_knows_is_refused_with_who_there_is(place: Place, chimera: Any) -> None:
    done = chimera("replay", "agent", "zed")
    assert isinstance(done.exception, NotThere)
    assert "there are ava, ben, cy" in str(done.exception)


def test_two_ways_of_asking_at_once_are_wrong_usage(place: Place, chimera: Any) -> None:
    assert chimera("replay", "agent", "ava", "--at-version", "3", "--diff", "1", "2").exit_code == 2


def test_the_command_prints_a_difference_for_people_and_for_programs(place: Place, chimera: Any) -> None:
    shown = chimera("replay", "agent", "ava", "--diff", "1", "3")
    assert shown.exit_code == 0, shown.output
    assert "policy.edition" in shown.output
    told = orjson.loads(chimera("replay", "agent", "ava", "--diff", "1", "3", "--json").stdout)
    assert [r["type"] for r in told["records"]] == ["SoulAdopted", "PolicyAdopted", "AccountLinked"]
    assert orjson.loads(chimera("replay", "agent", "ava", "--at-version", "3", "--json").stdout)["state"]["version"] == 3


# --- grep ------------------------------------------------------------------------------------------------------------


def lines(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 0, done.output
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def test_records_are_found_by_type_ruling_and_what_they_say(place: Place, chimera: Any) -> None:
    found = lines(chimera("events", "grep", "--type", "JudgeVerdict", "--where", "payload.confidence<0.7", "--json"))
    made = [r for r in place.h.entries if b"JudgeVerdict" in dict(r.headers).values()]
    wanted = [r for r in made if (c := orjson.loads(r.value)["confidence"]) is not None and c < 0.7]
    assert len(found) == len(wanted) > 0
    assert all(r["outcome"] in ("applied", "rejected", "void") for r in found)


def test_rulings_are_the_laws(place: Place, chimera: Any) -> None:
    void = sum(r.outcome == "void" for r in place.h.rulings)
    assert orjson.loads(chimera("events", "grep", "--outcome", "void", "--count", "--json").stdout) == {"records": void}


def test_one_agents_records_are_those_of_its_stream(place: Place, chimera: Any) -> None:
    mine = sum(e.key == place.ava for e in place.h.entries)
    assert len(lines(chimera("events", "grep", "--agent", "ava", "--json"))) == mine
    assert len(lines(chimera("events", "grep", "--agent", "ava", "--no-ruling", "--json"))) == mine
    assert len(lines(chimera("events", "grep", "--agent", "ava", "-n", "3", "--json"))) == 3


def test_times_bound_what_is_found(place: Place, chimera: Any) -> None:
    seen = look.at_version(place.log, place.ava, 4).record
    every = len(place.h.entries)
    after = len(
        lines(chimera("events", "grep", "--since", moments.said(seen.append_ts + 1), "--no-ruling", "--json"))
        if later(place, seen.append_ts)
        else []
    )
    upto = len(lines(chimera("events", "grep", "--until", moments.said(seen.append_ts), "--json")))
    assert after + upto == every


def later(place: Place, ts: int) -> bool:
    ends = moments.offsets_after(place.log.bootstrap, place.log.topic, ts)
    return any(ends[p] < place.ends[p] for p in ends)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--type", "Nothing"), "is no record type"),
        (("--where", "confidence<1"), "a path begins with payload"),
        (("--outcome", "void", "--no-ruling"), "--no-ruling leaves out"),
        (("--follow", "--count"), "has no end"),
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(chimera: Any, words: tuple[str, ...], says: str) -> None:
    done = chimera("events", "grep", *words)
    assert done.exit_code == 2
    assert says in " ".join(done.output.replace("│", " ").split())


def test_where_nothing_matches_the_exit_code_says_so(chimera: Any) -> None:
    done = chimera("events", "grep", "--tenant", "nobody")
    assert done.exit_code == 3
    assert "no record matched" in done.output


def test_a_follower_is_given_what_comes_later(place: Place) -> None:
    asked = grepping.Asked(frozenset({"AgentEnrolled"}), None, None, None, None, 0, 0, ())
    found = grepping._matches(place.log, asked, True, True, Bar())
    assert {next(found)[2] for _ in range(3)} == {"ava", "ben", "cy"}
    late = enrol(place.h, "late")
    place.h.send(place.log.bootstrap)
    record, ruling, name = next(found)
    assert isinstance(found, Generator)
    found.close()
    assert ruling is not None
    assert (record.key, ruling.outcome, name) == (late, "applied", "late")
