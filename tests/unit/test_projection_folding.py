"""A stretch is the same whether it is folded at once or piece by piece, and the law is the one in force at each place."""

from __future__ import annotations

import pytest

from chimera.events import records as rec
from chimera.events.envelope import NewRecord, SigningKey, encode
from chimera.events.partition import AHEAD
from chimera.events.raw import RawRecord
from chimera.projections import folding, models
from chimera.projections.batch import Entry, NotKept, Stretch, collapse
from chimera.projections.folding import closed, entries_for, extend, new_fold, project
from chimera.projections.models import models_for
from chimera.projections.rows import Insert, Row
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


def test_records_read_ahead_are_those_read_one_by_one() -> None:
    h = History("ahead-chimera.log")
    day(h, "ava", 12)
    mischief(h, enrol(h, "cy"))
    partition, raws = max(raws_of(h).items(), key=lambda item: len(item[1]))
    assert len(raws) > AHEAD
    raws.insert(AHEAD + 3, raws[AHEAD]._replace(key=b"agent/of-another-partition", headers=[]))
    turns, ahead = (new_fold(partition, PARTITIONS, h.root.public) for _ in range(2))
    one_by_one = [turns.apply(raw) for raw in raws]
    assert [ahead.rule(record) for record in ahead.read_ahead(raws)] == one_by_one
    assert any(record.signed_by for record, _ in one_by_one[AHEAD:])


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


def test_rows_taken_apart_by_model_are_what_each_model_made() -> None:
    """Where a row is refused or a model failed, who writes looks at each model of each record by itself."""
    h = History("parted-chimera.log")
    day(h, "ava")
    partition, raws = max(raws_of(h).items(), key=lambda item: len(item[1]))
    fold = new_fold(partition, PARTITIONS, h.root.public)
    one_by_one: list[Entry] = []
    for raw in raws:
        record, ruling = fold.rule(fold.read(raw))
        one_by_one += entries_for(models_for(record, ruling), record, ruling, fold.state(record.key))
    stretch = project(new_fold(partition, PARTITIONS, h.root.public), raws, 0)
    assert stretch is not None
    assert stretch.batch == collapse(one_by_one)
    assert stretch.parted() == one_by_one
    assert stretch.batch is None
    assert stretch.parted() == one_by_one, "asking twice changes nothing"


def fail(*_: object) -> list[Row]:
    raise ValueError("planted")


def test_a_model_that_fails_says_so_and_the_other_models_rows_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    h = History("failing-chimera.log")
    day(h, "ava")
    partition, raws = max(raws_of(h).items(), key=lambda item: len(item[1]))
    whole = project(new_fold(partition, PARTITIONS, h.root.public), raws, 0)
    assert whole is not None
    wanted = whole.parted()
    failing = models.BY_NAME["commits"]
    planted = failing._replace(rows=fail)
    monkeypatch.setattr(folding, "models_for", lambda *asked: [planted if m is failing else m for m in models_for(*asked)])
    found = project(new_fold(partition, PARTITIONS, h.root.public), raws, 0)
    assert found is not None
    assert {e.error for e in found.parted() if e.model == "commits"} == {"ValueError: planted"}
    others = [e for e in found.entries if e.model != "commits"]
    assert others == [e for e in wanted if e.model != "commits"]


def test_where_only_the_sum_of_rows_is_kept_it_is_the_same_and_says_so_when_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    h = History("summed-chimera.log")
    day(h, "ava")
    partition, raws = max(raws_of(h).items(), key=lambda item: len(item[1]))
    whole = project(new_fold(partition, PARTITIONS, h.root.public), raws, 0)
    summed = extend(None, new_fold(partition, PARTITIONS, h.root.public), raws, 0, kept=False)
    assert whole is not None
    assert summed is not None
    assert summed.batch == whole.batch
    assert summed.made == []
    with pytest.raises(NotKept, match=rf"summed-chimera.log\[{partition}\] from offset 0 on"):
        summed.parted()
    monkeypatch.setattr(folding, "models_for", lambda *_: [models.BY_NAME["events"]._replace(rows=fail)])
    with pytest.raises(NotKept):
        extend(None, new_fold(partition, PARTITIONS, h.root.public), raws, 0, kept=False)


def test_an_artifacts_proposal_is_one_row_and_asks_for_no_card_and_an_edits_is_said_where_its_card_was() -> None:
    h = History("cards-chimera.log")
    day(h, "ava")
    partition, raws = max(raws_of(h).items(), key=lambda item: len(item[1]))
    fold = new_fold(partition, PARTITIONS, h.root.public)
    made: dict[str, set[tuple[str, ...]]] = {"ArtifactProduced": set(), "HumanEdited": set()}
    for raw in raws:
        record, ruling = fold.rule(fold.read(raw))
        if record.type in made and ruling.outcome == "applied":
            state = fold.state(record.key)
            rows = [row for name in ("effects", "reviews") for row in models.BY_NAME[name].rows(record, ruling, state)]
            said = [str(row.values["status"]) for row in rows if not isinstance(row, Insert)]
            made[record.type].add(tuple(f"{row.table.name} {status}" for row, status in zip(rows, said, strict=True)))
    assert made["ArtifactProduced"] == {(), ("effects proposed",)}
    assert made["HumanEdited"] == {("effects proposed", "effects proposed", "reviews edited")}
