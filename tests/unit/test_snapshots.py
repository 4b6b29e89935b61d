"""Snapshots: whatever was cut, at whatever moments, in whatever slices, going on from it is as good as folding everything.

The rule not to break: no test looks at how a cut is made, only at what going on from the store gives.
"""

from __future__ import annotations

import asyncio
import random
import threading
import uuid
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera.events import records as rec
from chimera.events.envelope import NewRecord, SigningKey, encode
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.state import Agent
from chimera.events.state_codec import state_to_json
from chimera.snapshots import keeper as keeping
from chimera.snapshots.cutter import Cutter
from chimera.snapshots.keeper import Keeper
from chimera.snapshots.state import (
    AgentState,
    Cut,
    PartitionSnapshot,
    Saved,
    SnapshotUnavailable,
    SnapshotUnusable,
    law_from_json,
    law_to_json,
    maker,
    restore,
)

ROOT, COMMAND, LATER = (SigningKey.from_bytes(bytes([n]) * 32) for n in (1, 2, 3))
KEYS = [f"{kind}/{uuid.UUID(int=n)}" for n, kind in enumerate(("agent", "agent", "agent", "agent", "agent", "tenant"))]
START = 1_700_000_000_000


class Memory:
    """A store that keeps snapshots by the same rules as the real one."""

    def __init__(self) -> None:
        self.kept: dict[int, PartitionSnapshot] = {}
        self.cuts: list[Cut] = []
        self.down = False

    def load(self, partition: int) -> PartitionSnapshot | None:
        if self.down:
            raise SnapshotUnavailable("the store is down")
        return self.kept.get(partition)

    def save(self, cut: Cut) -> Saved:
        if self.down:
            raise SnapshotUnavailable("the store is down")
        old = self.kept.get(cut.partition)
        if old is not None and old.next_offset > cut.next_offset:
            return Saved.BEHIND
        if cut.since is not None and (old is None or old.next_offset < cut.since):
            return Saved.GAP
        rows = {} if cut.since is None or old is None else dict(old.agents)
        rows.update(cut.agents)
        assert len(rows) == cut.count
        agents = tuple(AgentState(*row) for row in rows.items())
        self.kept[cut.partition] = PartitionSnapshot(
            cut.partition, cut.next_offset, cut.last_append_ts, cut.unreadable, cut.law, agents
        )
        self.cuts.append(cut)
        return Saved.KEPT


def empty() -> PartitionFold:
    return PartitionFold(0, 24, ROOT.public)


def raw(offset: int, key: str, data: rec.Data, signer: SigningKey | None) -> RawRecord:
    made = encode(NewRecord(key, data, "acme", "svc", "2026-11-22T00:00:00Z", f"id-{offset}"), signer)
    return RawRecord("chimera.log", 0, offset, START + 10 * offset, key.encode(), made.value, made.headers)


@cache
def life(seed: int, length: int) -> list[RawRecord]:
    """A partition's log: enrolments, writes, a second law, unreadable bytes before and after an agent is there, foreign keys."""
    dice = random.Random(seed)
    log = [raw(0, "law/0", rec.LawAdopted(edition=1, law=1, keys={"command": [COMMAND.public]}), ROOT)]
    numbers = dict.fromkeys(KEYS, 0)
    signer, edition = COMMAND, 1
    for offset in range(1, length):
        key = dice.choice(KEYS)
        what = dice.randrange(12)
        if what == 0:
            log.append(RawRecord("chimera.log", 0, offset, START + 10 * offset, key.encode(), b"{", []))
        elif what == 1:
            log.append(RawRecord("chimera.log", 0, offset, START + 10 * offset, None, b"", []))
        elif what == 2 and edition < 3:
            edition, signer = edition + 1, dice.choice([COMMAND, LATER])
            log.append(raw(offset, "law/0", rec.LawAdopted(edition=edition, law=1, keys={"command": [signer.public]}), ROOT))
        else:
            numbers[key] += 1
            n = numbers[key]
            data: rec.Data = (
                rec.AgentEnrolled(command_no=1, name=key[-1]) if n == 1 else rec.SoulAdopted(command_no=n, digest=f"{n}", soul="s")
            )
            if key.startswith("tenant/"):
                data = rec.TenantCreated(command_no=1) if n == 1 else rec.PayeeAllowed(command_no=n, payee=f"p{n}")
            log.append(raw(offset, key, data, signer))
    return log


def picture(fold: PartitionFold) -> tuple[object, ...]:
    """All that a fold knows."""
    states = {key: state_to_json(cast("Agent", state)) for key, state in {**fold.agents, **fold.tenants}.items()}
    return states, law_to_json(fold.law), fold.next_offset, fold.unreadable


def whole(log: list[RawRecord]) -> PartitionFold:
    fold = empty()
    for each in log:
        fold.apply(each)
    return fold


class Reader:
    """A process that folds a partition and cuts now and then."""

    def __init__(self, store: Memory) -> None:
        self.fold = empty()
        snapshot = store.load(0)
        if snapshot is not None:
            restore(self.fold, snapshot)
        self.cutter = Cutter(
            self.fold, None if snapshot is None else snapshot.next_offset, snapshot.last_append_ts if snapshot else 0
        )
        self.store = store
        self.cutting = False

    def fold_next(self, log: list[RawRecord]) -> None:
        if self.fold.next_offset < len(log):
            each = log[self.fold.next_offset]
            record = self.fold.read(each)
            self.cutter.before(record.key, each.append_ts)
            self.fold.rule(record)

    def cut(self, agents: int) -> None:
        """Begin a cut or go on with the one in the making."""
        if not self.cutting:
            self.cutter.begin()
            self.cutting = True
        cut = self.cutter.slice(agents)
        if cut is not None:
            self.cutter.ended(self.store.save(cut))
            self.cutting = False

    def give_up(self) -> None:
        self.cutter.ended(None)
        self.cutting = False


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fold", "fold", "fold", "cut", "cut", "give up", "die", "lose"]), st.integers(0, 1), st.integers(0, 3)
    ),
    max_size=90,
)


@cache
def folded_up_to(seed: int, offset: int) -> tuple[object, ...]:
    return picture(whole(life(seed, 40)[:offset]))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 15), steps=STEPS)
def test_going_on_from_a_snapshot_is_as_good_as_folding_everything(seed: int, steps: list[tuple[str, int, int]]) -> None:
    """Two rivals on one partition fold, cut in slices, give up, die and lose the store's content at any moments."""
    log = life(seed, 40)
    store = Memory()
    readers = [Reader(store), Reader(store)]
    for what, who, n in steps:
        reader = readers[who]
        if what == "fold":
            for _ in range(n + 1):
                reader.fold_next(log)
        elif what == "cut":
            reader.cut(n)
        elif what == "give up":
            reader.give_up()
        elif what == "die":
            readers[who] = Reader(store)
        elif n == 0:
            store.kept.clear()
        kept = store.load(0)
        if kept is not None:
            restored = empty()
            restore(restored, kept)
            assert picture(restored) == folded_up_to(seed, kept.next_offset)
            assert kept.last_append_ts == (START + 10 * (kept.next_offset - 1) if kept.next_offset else 0)
    for reader in [*readers, Reader(store)]:
        while reader.fold.next_offset < len(log):
            reader.fold_next(log)
        assert picture(reader.fold) == folded_up_to(seed, 40)


def test_the_property_would_see_an_agent_cut_too_late() -> None:
    """The same story with a cutter that does not copy before a change: the test above rests on that."""
    log = life(1, 40)
    store = Memory()
    reader = Reader(store)
    for _ in range(30):
        reader.fold_next(log)
    reader.cutter.begin()
    reader.cutter.slice(0)
    for each in log[30:]:
        reader.fold.apply(each)  # nobody told the cutter
    cut = reader.cutter.slice(100)
    assert cut is not None
    assert store.save(cut) is Saved.KEPT
    restored = empty()
    restore(restored, store.kept[0])
    assert picture(restored) != picture(whole(log[:30]))


def test_only_what_changed_is_written_again() -> None:
    log, store = life(2, 40), Memory()
    reader = Reader(store)
    while reader.fold.next_offset < 35:
        reader.fold_next(log)
    reader.cut(100)
    reader.fold_next(log)
    touched = log[35].key
    reader.cut(100)
    everything, change = store.cuts
    assert len(everything.agents) == reader.fold.streams > 1
    assert {agent.key.encode() for agent in change.agents} <= {touched}
    assert (change.since, change.next_offset) == (35, 36)


def test_a_late_writer_changes_nothing_and_one_whose_base_is_gone_writes_everything() -> None:
    log, store = life(3, 40), Memory()
    early, late = Reader(store), Reader(store)
    for reader, upto in ((early, 20), (late, 30)):
        while reader.fold.next_offset < upto:
            reader.fold_next(log)
    late.cut(100)
    early.cut(100)
    assert store.kept[0].next_offset == 30, "the earlier cut came later and was refused"
    store.kept.clear()
    late.fold_next(log)
    late.cut(100)
    assert store.kept == {}, "nothing to build on"
    late.cut(100)
    assert len(store.kept[0].agents) == late.fold.streams


def test_a_snapshot_of_another_installation_or_of_broken_bytes_leaves_the_fold_as_it_was() -> None:
    log, store = life(4, 30), Memory()
    reader = Reader(store)
    while reader.fold.next_offset < 30:
        reader.fold_next(log)
    reader.cut(100)
    good = store.kept[0]
    key = good.agents[0].key
    broken = [
        PartitionSnapshot(**{**vars(good), "agents": (AgentState(key, b"{"), *good.agents[1:])}),
        PartitionSnapshot(**{**vars(good), "agents": (AgentState(KEYS[0] + "x", good.agents[0].state),)}),
        PartitionSnapshot(**{**vars(good), "law": b"[]"}),
        PartitionSnapshot(**{**vars(good), "law": b"null"}),
        PartitionSnapshot(**{**vars(good), "partition": 1}),
    ]
    for each in broken:
        fold = empty()
        with pytest.raises(SnapshotUnusable):
            restore(fold, each)
        assert picture(fold) == picture(empty())
    stranger = PartitionFold(0, 24, LATER.public)
    with pytest.raises(SnapshotUnusable, match="another root key"):
        restore(stranger, good)


def test_a_law_reads_back_as_it_was_written() -> None:
    law = whole(life(5, 40)).law
    assert law.keys
    assert law_from_json(law_to_json(law)) == law


def test_snapshots_are_told_apart_by_log_law_format_and_code() -> None:
    mine = maker("0123456789abcdef")
    assert mine == maker("0123456789abcdef")
    assert mine != maker("fedcba9876543210")
    assert len(mine.code) == 16


# --- the keeper: what a process does with them ----------------------------------------------------------------------------


class Housed:
    """A keeper over a store in memory, with one partition."""

    def __init__(self, store: Memory, *, writes: bool = True) -> None:
        self.live: set[int] = set()
        self.fold = empty()
        self.keeper = Keeper(store, self.live, writes=writes)
        self.times = self.keeper.restore([self.fold])

    def read(self, log: list[RawRecord]) -> None:
        for each in log[self.fold.next_offset :]:
            record = self.fold.read(each)
            self.keeper.before(0, record.key, each.append_ts)
            self.fold.rule(record)
        self.live.add(0)


def test_a_restart_reads_only_what_came_after_the_last_snapshot_and_knows_the_brokers_time() -> None:
    log, store = life(6, 40), Memory()
    first = Housed(store)
    first.read(log)
    assert asyncio.run(first.keeper.save())
    again = Housed(store)
    assert again.fold.next_offset == 40
    assert again.times == {0: log[-1].append_ts}, "without a record to fold, this is all it knows of the broker's clock"
    assert picture(again.fold) == picture(whole(log))
    asyncio.run(again.keeper.save())
    assert len(store.cuts) == 1, "nothing new, nothing written"
    first.keeper.close()
    again.keeper.close()


def test_a_store_that_is_down_costs_time_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    log, store = life(7, 40), Memory()
    store.down = True
    house = Housed(store)
    assert house.fold.next_offset == 0
    house.read(log)
    assert not asyncio.run(house.keeper.save())
    assert not asyncio.run(house.keeper.save())
    said = [r.message for r in caplog.records if "restart will take longer" in r.message]
    assert len(said) == 1, "said once, not every five seconds"
    assert house.keeper.status()["trouble"] == "the store is down"
    store.down = False
    assert asyncio.run(house.keeper.save())
    assert store.kept[0].next_offset == 40
    assert house.keeper.status()["trouble"] is None
    house.keeper.close()


def test_a_store_that_hangs_is_waited_for_no_longer_than_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LOAD_DEADLINE_S", 0.05)
    monkeypatch.setattr(keeping, "SAVE_DEADLINE_S", 0.05)
    release = threading.Event()

    class Hanging(Memory):
        def load(self, partition: int) -> PartitionSnapshot | None:
            release.wait(20)
            return super().load(partition)

    log = life(8, 40)
    house = Housed(Hanging())
    house.read(log)
    assert not asyncio.run(house.keeper.save())
    release.set()
    until(lambda: asyncio.run(house.keeper.save()))
    house.keeper.close()


def test_a_partition_that_is_dark_or_lost_is_not_cut_and_a_cut_in_the_making_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SLICE_AGENTS", 1)
    log, store = life(9, 40), Memory()
    house = Housed(store)
    house.read(log)

    async def story() -> None:
        saving = asyncio.get_running_loop().create_task(house.keeper.save())
        await asyncio.sleep(0)
        house.live.clear()
        house.keeper.pause()
        await saving
        assert store.cuts == []
        assert await house.keeper.save()
        assert store.cuts == [], "dark"
        house.live.add(0)
        assert await house.keeper.save()
        assert [len(cut.agents) for cut in store.cuts] == [house.fold.streams], "what was given up is owed still"
        house.keeper.keep_only(())
        assert await house.keeper.save()
        assert len(store.cuts) == 1

    asyncio.run(story())
    house.keeper.close()


def test_a_snapshot_of_another_log_is_refused_and_never_overwritten(caplog: pytest.LogCaptureFixture) -> None:
    log, store = life(10, 40), Memory()
    first = Housed(store)
    first.read(log)
    asyncio.run(first.keeper.save())
    other = Housed(store)
    other.keeper.refuse(0, "the log ends at 7")
    assert "partition 0: the log ends at 7; folding it from offset 0" in caplog.text
    other.fold = empty()
    other.read(log[:7])
    asyncio.run(other.keeper.save())
    assert len(store.cuts) == 1
    first.keeper.close()
    other.keeper.close()


def test_a_role_set_that_only_reads_writes_nothing() -> None:
    store = Memory()
    house = Housed(store, writes=False)
    house.read(life(11, 40))
    assert asyncio.run(house.keeper.save())
    assert store.cuts == []
    assert house.keeper.age_s() is None
    house.keeper.close()


def test_the_age_of_snapshots_begins_with_the_process_and_anew_with_every_round_that_went_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(keeping, "time", SimpleNamespace(monotonic=lambda: now[0]))
    store = Memory()
    house = Housed(store)
    house.read(life(11, 40))
    now[0], store.down = 107.0, True
    assert not asyncio.run(house.keeper.save())
    assert house.keeper.age_s() == 7.0
    now[0], store.down = 110.0, False
    assert asyncio.run(house.keeper.save())
    now[0] = 112.5
    assert house.keeper.age_s() == 2.5
    house.keeper.close()


def test_the_status_can_be_asked_while_a_thread_restores() -> None:
    house = Housed(Memory())
    folds = [PartitionFold(p, 10_000, ROOT.public) for p in range(3_000)]
    restoring = threading.Thread(target=house.keeper.restore, args=(folds,))
    restoring.start()
    while restoring.is_alive():
        house.keeper.status()
    restoring.join()
    assert house.keeper.status()["behind"] == 0
    house.keeper.close()


def until(condition: Callable[[], bool]) -> None:
    """Await a condition at most five seconds."""
    over = threading.Event()
    for _ in range(500):
        if condition():
            return
        over.wait(0.01)
    raise AssertionError("it did not come about within 5 s")
