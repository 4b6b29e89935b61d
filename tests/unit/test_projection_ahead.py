"""Reading ahead reads what reading in turn reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from chimera.events import records as rec
from chimera.events.envelope import NewRecord, SigningKey, encode
from chimera.events.raw import RawRecord
from chimera.projections.ahead import read_ahead
from chimera.projections.engine import new_fold, project
from tests.integration.projection_data import PARTITIONS, History, day, enrol, mischief


def raws_of(h: History) -> dict[int, list[RawRecord]]:
    found: dict[int, list[RawRecord]] = {}
    for e in h.entries:
        own = found.setdefault(e.partition, [])
        own.append(RawRecord(e.topic, e.partition, len(own), h.now, e.key.encode(), e.value, e.headers))
    return found


def test_a_log_read_ahead_gives_the_same_rows_and_rulings() -> None:
    h = History("ahead-chimera.log")
    for name in ("ava", "ben"):
        day(h, name)
    mischief(h, enrol(h, "cy"))
    with ThreadPoolExecutor(2) as pool:
        for partition, raws in raws_of(h).items():
            plain, ahead = (new_fold(partition, PARTITIONS, h.root.public) for _ in range(2))
            for some in (raws[:1], raws[1:9], raws[9:]):
                expected = project(plain, some, 0)
                assert project(ahead, some, 0, read_ahead(ahead, some, pool)) == expected
            assert ahead.agents == plain.agents


def test_nothing_is_read_under_a_law_that_its_stretch_changes() -> None:
    """Key rotation: the records behind the new law are signed by a key that the fold does not know before it."""
    h = History("rotated-chimera.log")
    key = enrol(h, "ava")
    partition = h.entries[-1].partition
    h.command = SigningKey.generate()
    law = rec.LawAdopted(edition=2, law=1, keys={"command": [h.command.public]})
    h._add(partition, encode(NewRecord(f"law/{partition}", law, "installation", "installer", "t", "law2"), h.root))
    assert h.add(key, rec.AgentStatusSet(command_no=6, status="paused")).outcome == "applied"
    raws = raws_of(h)[partition]
    fold = new_fold(partition, PARTITIONS, h.root.public)
    with ThreadPoolExecutor(1) as pool:
        stretch = project(fold, raws, 0, read_ahead(fold, raws, pool))
    assert stretch is not None
    assert fold.agents == h.folds[partition].agents
    assert fold.agents[key].status == "paused"
