"""The projector's cuts: kept when their rows are written, never before; trouble costs time and nothing else."""

from __future__ import annotations

import threading

from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.projections.cuts import Cuts
from chimera.projections.engine import new_fold, project
from chimera.snapshots.cutter import Cutter
from chimera.snapshots.state import Cut, PartitionSnapshot, Saved, SnapshotUnavailable
from tests.integration.projection_data import PARTITIONS, History, day


class Store:
    """Keeps cuts in memory; may be down."""

    def __init__(self) -> None:
        self.cuts: list[Cut] = []
        self.down = False

    def load(self, partition: int) -> PartitionSnapshot | None:
        return None

    def save(self, cut: Cut) -> Saved:
        if self.down:
            raise SnapshotUnavailable("it is down")
        self.cuts.append(cut)
        return Saved.KEPT


class Given:
    """One partition of a log, folded record by record under the eyes of `Cuts`."""

    def __init__(self, every_s: float = 0.0) -> None:
        h = History("cuts-chimera.log")
        key = day(h, "ava")
        self.partition = next(e.partition for e in h.entries if e.key == key)
        own = [e for e in h.entries if e.partition == self.partition]
        self.raws = [RawRecord(h.topic, self.partition, n, h.now, e.key.encode(), e.value, e.headers) for n, e in enumerate(own)]
        self.fold: PartitionFold = new_fold(self.partition, PARTITIONS, h.root.public)
        self.store = Store()
        self.cuts = Cuts("nowhere", h.topic, self.store, every_s=every_s)
        self.cuts._cutters[self.partition] = Cutter(self.fold, None)
        self.cuts._begun_at[self.partition] = 0.0

    def fold_upto(self, end: int) -> None:
        project(self.fold, self.raws[self.fold.next_offset : end], 0, self.cuts.before(self.partition))

    def go_on(self, written: int, until: int | None = None) -> None:
        """Some rounds between batches; with `until`, so many as it takes to have so many cuts kept."""
        pause = threading.Event()
        for _ in range(2000 if until is not None else 50):
            self.cuts.go_on({self.partition: self.fold}, {self.partition: written})
            if until is not None and self.cuts.saved >= until:
                return
            if until is not None:
                pause.wait(0.005)
        assert until is None, "the cut was not kept in time"


def test_a_cut_waits_until_its_rows_are_written() -> None:
    given = Given(every_s=30.0)
    given.fold_upto(20)
    given.go_on(written=19)
    assert given.store.cuts == []
    given.go_on(written=20, until=1)
    assert [(cut.since, cut.next_offset, cut.count) for cut in given.store.cuts] == [(None, 20, 1)]


def test_a_cut_is_the_state_at_its_offset_though_folding_went_on() -> None:
    given = Given(every_s=30.0)
    given.fold_upto(20)
    given.go_on(written=0)
    then = given.fold.agents[next(iter(given.fold.agents))].version
    given.fold_upto(len(given.raws))
    given.go_on(written=len(given.raws), until=1)
    cut = given.store.cuts[0]
    assert cut.next_offset == 20
    assert f'"version":{then}'.encode() in cut.agents[0].state
    assert given.fold.agents[cut.agents[0].key].version > then


def test_the_next_cut_builds_on_the_one_before() -> None:
    given = Given()
    given.fold_upto(20)
    given.go_on(written=20, until=1)
    given.go_on(written=20)
    assert len(given.store.cuts) == 1, "nothing moved on"
    given.fold_upto(30)
    given.go_on(written=30, until=2)
    assert [(cut.since, cut.next_offset) for cut in given.store.cuts] == [(None, 20), (20, 30)]
    assert given.cuts.status()["behind"] == 0


def test_a_store_that_is_down_is_said_and_tried_again_later() -> None:
    given = Given()
    given.store.down = True
    given.fold_upto(20)
    pause = threading.Event()
    for _ in range(2000):
        given.cuts.go_on({given.partition: given.fold}, {given.partition: 20})
        if given.cuts.status()["trouble"]:
            break
        pause.wait(0.005)
    assert given.cuts.status()["trouble"] == "it is down"
    given.store.down = False
    given.go_on(written=20)
    assert given.store.cuts == [], "it rests first"
    given.go_on(written=20, until=1)
    assert given.cuts.status()["trouble"] is None
    assert given.store.cuts[0].since is None


def test_what_another_projector_has_now_is_not_cut() -> None:
    given = Given()
    given.fold_upto(20)
    given.go_on(written=0)
    given.cuts.release(given.partition)
    given.go_on(written=20)
    assert given.store.cuts == []
    assert given.cuts.before(given.partition) is None
