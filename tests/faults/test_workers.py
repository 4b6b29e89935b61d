"""Up to four brains that share the log: one joins, one dies, one is told to end, one sleeps beyond its session and wakes again.

The writer is held still while it happens, so that every text is in flight at that moment. What a disturbance may cost is stated:
the work in flight on the processes that it hits, once more each, and nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count

import orjson
import pytest

from chimera.commands.keys import agent_key, load_keys
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.read import end_offsets, read_until
from chimera.events.records import ArtifactProduced, Data, JudgeVerdict
from tests.e2e.house import House
from tests.faults.oracle import every_effect_happened_once, no_task_is_lost, plans

LOG, CALLS = "chimera.log", "chimera.calls"
PARTITIONS = 24
SLOW_S = 150
"""What a start, a rebalance or a campaign may take on a machine that others use as well."""


def held(house: House, pid: int) -> set[int]:
    """Partitions that a process serves now."""
    status = house.status(pid)
    return set(status["partitions"]) if status else set()


def share(house: House, pids: Sequence[int]) -> bool:
    """Each of them serves some partitions, and together they serve each once."""
    all_held = [p for pid in pids for p in held(house, pid)]
    return sorted(all_held) == list(range(PARTITIONS)) and all(held(house, pid) for pid in pids)


def enrol_on(house: House, prefix: str, partitions: set[int], agents: int) -> list[str]:
    """So many agents whose logs lie on these partitions."""
    installation = load_keys(house.home).installation.installation
    names = []
    for n in count():
        name = f"{prefix}{n}x"
        if partition_for(agent_key(installation, "acme", f"{name}0"), PARTITIONS) in partitions:
            names += house.enrol(name, 1, approve_above=1.0)  # so that everything waits for people in the end
            if len(names) == agents:
                return names
    raise AssertionError("names do not end")


def begin(house: House, name: str, names: Sequence[str]) -> None:
    """A first campaign to its rest: every process that serves one of these agents is then connected to the writer."""
    house.start(house.brief(name, 1), names)
    house.until(lambda: house.resting(names), f"the first campaign of {name} rests", SLOW_S)


@contextmanager
def writer_still(house: House) -> Iterator[None]:
    """Nobody gets a text until the block ends; who is connected waits (a new connection is given up after 15 s)."""
    pid = house.pid("writer")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def texts_in_flight(house: House, pids: Sequence[int]) -> int:
    """Jobs that wait for the writer: nothing else is owed once each campaign has got so far."""
    return sum(int((house.status(pid) or {"running": 0})["running"]) for pid in pids)


def texts_asked_for(house: House, names: Sequence[str]) -> int:
    """Calls of the writer on record for these agents, whatever came of them."""
    keys = {agent.key for agent in house.agents(names)}
    calls = [
        orjson.loads(raw.value or b"")
        for batch in read_until(house.addresses.kafka, CALLS, range(12))
        for raw in batch
        if (raw.key or b"").decode() in keys
    ]
    return sum(call["capability"] == "text.complete" for call in calls)


def texts_that_counted(house: House, names: Sequence[str]) -> int:
    """Answers to the writer's calls that the log took: a text, a rating of one, or that none was to be had."""

    def counted(type_: str) -> list[Data | None]:
        return [s.record.data for outcome in ("applied", "rejected") for s in house.records(type_, names, outcome)]

    texts = sum(isinstance(d, ArtifactProduced) and d.kind in ("angles", "draft") for d in counted("ArtifactProduced"))
    # A proposal whose draft the same judge had rated is rated by what it was told then: nobody is asked.
    votes = [d for d in counted("JudgeVerdict") if isinstance(d, JudgeVerdict) and "score" in d.trace]
    ratings = sum(vote.trace.get("rated") != "before" for vote in votes)
    return texts + ratings + len(counted("WorkFailed"))


def asked_once(house: House, names: Sequence[str]) -> bool:
    """Every answer of the writer counted, and every call for one is on record: those of looks come a moment after their records."""
    return texts_asked_for(house, names) == texts_that_counted(house, names)


def said_in_vain(house: House, names: Sequence[str]) -> int:
    """Records about these agents that were void."""
    keys = {agent.key for agent in house.agents(names)}
    return sum(s.record.key in keys and s.ruling.outcome == "void" for s in house.seen)


def said_by(house: House, pid: int, since: int) -> set[str]:
    """How what a process appended was ruled, from so many records on."""
    return {s.ruling.outcome for s in house.seen[since:] if s.record.actor.endswith(f"-{pid}")}


def read_whole(house: House, pids: Sequence[int]) -> bool:
    """Each of them stands at the end of all that it holds."""
    ends = end_offsets(house.addresses.kafka, LOG)
    told = [house.status(pid) for pid in pids]
    return all(status and all(status["offsets"][str(p)] == ends[p] for p in status["partitions"]) for status in told)


@pytest.mark.timeout(600)
def test_brains_that_join_die_end_and_sleep_cost_what_was_in_flight_and_nothing_else(house: House) -> None:
    first, starts = house.pid("brain"), house.restarts("brain")
    assert first is not None
    with ExitStack() as stack:

        def brain(name: str) -> subprocess.Popen[bytes]:
            return stack.enter_context(house.another("brain", instance=name))

        second, third = brain("brain-2"), brain("brain-3")
        three = [first, second.pid, third.pid]
        house.until(lambda: share(house, three), "three share the partitions", SLOW_S)

        # One joins.
        joined = [name for pid in three for name in enrol_on(house, f"joi{pid}", held(house, pid), 2)]
        begin(house, "Early", joined)
        with writer_still(house):
            house.start(house.brief("Joined", 2), joined)
            house.until(lambda: texts_in_flight(house, three) == len(joined), "each agent waits for a text", SLOW_S)
            had = {pid: held(house, pid) for pid in three}
            fourth = brain("brain-4")
            four = [*three, fourth.pid]
            house.until(lambda: share(house, four), "four share the partitions", SLOW_S)
            kept = {partition for pid in three for partition in held(house, pid) & had[pid]}
        house.until(lambda: house.resting(joined), "all is done though one joined", SLOW_S)
        assert texts_asked_for(house, joined) - texts_that_counted(house, joined) <= len(joined)
        assert said_in_vain(house, joined) <= len(joined)
        unmoved = [name for name in joined if partition_for(house.agent(name).key, PARTITIONS) in kept]
        # Faust may move them all; below, one brain keeps what it has for certain.
        house.until(lambda: asked_once(house, unmoved), "a rebalance ends no job that stays", SLOW_S)

        # One dies, one is told to end, one sleeps; the fourth pays what they owed.
        stays = enrol_on(house, "sta", held(house, first), 2)
        hit = [name for each in (second, third, fourth) for name in enrol_on(house, f"hit{each.pid}", held(house, each.pid), 1)]
        begin(house, "Late", [*stays, *hit])
        with writer_still(house):
            house.start(house.brief("Hit", 2), [*stays, *hit])
            house.until(lambda: texts_in_flight(house, four) == len(stays) + len(hit), "each agent waits for a text", SLOW_S)
            busy = (second, third, fourth)  # what each tells of itself is half a second old, and not of the same moment
            house.until(lambda: all(texts_in_flight(house, [each.pid]) for each in busy), "each of them is busy", SLOW_S)
            second.kill()
            third.terminate()
            fourth.send_signal(signal.SIGSTOP)
            house.until(lambda: len(held(house, first)) == PARTITIONS, "the first has taken over all", SLOW_S)
        house.until(lambda: house.resting([*stays, *hit]), "all is done by the one that is left", SLOW_S)
        woken_at = len(house.seen)
        fourth.send_signal(signal.SIGCONT)
        house.until(lambda: share(house, [first, fourth.pid]), "the sleeper is back", SLOW_S)
        house.until(lambda: read_whole(house, [first, fourth.pid]), "both have read the whole log", SLOW_S)
        assert said_by(house, fourth.pid, woken_at) <= {"void"}, "what it said in its sleep counted"
        house.until(lambda: asked_once(house, stays), "whoever keeps his partitions repeats nothing", SLOW_S)
        assert texts_asked_for(house, hit) - texts_that_counted(house, hit) <= len(hit)
        assert said_in_vain(house, [*stays, *hit]) <= len(hit)
        assert third.wait(20) == 0, "told to end, it ended well"
        assert fourth.poll() is None, "nobody had to end the sleeper"
    assert (house.pid("brain"), house.restarts("brain")) == (first, starts), "nor the first: no hole, nothing stuck"
    everyone = [*joined, *stays, *hit]
    house.until_completed(everyone, SLOW_S)
    assert set(plans(house, everyone).values()) == {1}
    no_task_is_lost(house, everyone, campaigns=2)
    every_effect_happened_once(house, everyone)
    house.equals_refold()
