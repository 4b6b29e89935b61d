"""A stretch is the same whether it is folded at once or piece by piece, and the law is the one in force at each place."""

from __future__ import annotations

from chimera.events import records as rec
from chimera.events.envelope import NewRecord, SigningKey, encode
from chimera.events.raw import RawRecord
from chimera.projections.batch import Stretch
from chimera.projections.folding import closed, extend, new_fold, project
from tests.integration.projection_data import PARTITIONS, History, day, enrol, mischief


def raws_of(h: History) -> dict[int, list[RawRecord]]:
    found: dict[int, list[RawRecord]] = {}
    for e in h.entries:
        own = found.setdefault(e.partition, [])
        own.append(RawRecord(e.topic, e.partition, len(own), h.now, e.key.encode(), e.value, e.headers))
    return found


def test_a_log_folded_piece_by_piece_gives_the_same_stretch() -> None:
    h = History("pieces-chimera.log")
    for name in ("ava", "ben"):
        day(h, name)
    mischief(h, enrol(h, "cy"))
    for partition, raws in raws_of(h).items():
        whole, pieces = (new_fold(partition, PARTITIONS, h.root.public) for _ in range(2))
        stretch: Stretch | None = None
        for some in (raws[:1], raws[1:9], [], raws[9:]):
            stretch = extend(stretch, pieces, some, 3)
        assert (None if stretch is None else closed(stretch, pieces)) == project(whole, raws, 3)
        assert pieces.agents == whole.agents


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
    assert project(fold, raws, 0) is not None
    assert fold.agents == h.folds[partition].agents
    assert fold.agents[key].status == "paused"
