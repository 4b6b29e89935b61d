"""Reports for auditors from an export alone: why an effect went out, a sample that can be drawn again, who did what."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from chimera.audit import reports
from chimera.audit.book import Book, book_of, live_book, noted_in
from chimera.audit.export import export
from chimera.audit.manifest import ManifestTrouble, load_manifest
from chimera.audit.note import Verifier
from chimera.audit.paper import page_of
from chimera.audit.proof import Proof, check
from chimera.audit.reports import Duties
from chimera.audit.source import Selection
from chimera.audit.story import NoSuchEffect, story_of
from chimera.cli.main import build
from chimera.events.records import EffectEnded
from tests.audithouse import history, home_for, notarise, source_of


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = history()
    source, home = source_of(made), home_for(tmp_path_factory.mktemp("home") / "home", made)
    notarise(home, source)
    export(source, home, home.parent / "out")
    export(source, home, home.parent / "few", selection=Selection(types=("EffectEnded",)))
    assert [page.raw for page in live_book(source, home).all_pages()] == [
        page.raw for page in book_of(home.parent / "out").all_pages()
    ]
    return home.parent / "out"


@pytest.fixture(scope="module")
def book(out: Path) -> Book:
    return book_of(out)


def executed(book: Book) -> str:
    """The record that says that something went out."""
    pages = (page for page in book.all_pages() if page.ruling.outcome == "applied")
    return next(p.record.id for p in pages if isinstance(d := p.record.data, EffectEnded) and d.outcome == "executed")


def test_the_story_of_an_effect_runs_from_the_brief_to_the_platforms_id_and_each_step_is_proven(book: Book, out: Path) -> None:
    story = story_of(book, executed(book))
    kinds = [step.page.record.type for step in story.steps]
    told = ["AgentEnrolled", "PolicyAdopted", "AccountLinked", "CampaignStarted", "PlanDrafted", "TaskPlanned", "ArtifactProduced"]
    assert [kind for kind in kinds if kind in (*told, "JudgeVerdict", "EffectClaimed", "EffectEnded")][: len(told)] == told
    assert kinds[-1] == "EffectEnded"
    assert {"JudgeVerdict", "EffectClaimed"} <= set(kinds)
    assert story.executed
    assert story.effect_hash in story.steps[kinds.index("EffectClaimed")].says
    public = b64decode(load_manifest(out).notary[0])
    for step in story.steps:
        origin = step.proof.note.decode().split("\n")[0]
        assert check(Proof.read(step.proof.text()), [Verifier(origin, public)], step.page.raw)[1]["type"] == step.page.record.type


def test_an_effect_is_found_by_its_hash_its_record_and_its_card_and_a_wrong_name_says_what_to_give(book: Book) -> None:
    story = story_of(book, executed(book))
    at = story.address
    for name in (story.effect_hash[:12], story.steps[-1].page.record.id, f"{at.agent}/{at.campaign}.{at.ordinal}.{at.attempt}"):
        assert story_of(book, name).steps == story.steps
    with pytest.raises(NoSuchEffect, match="names 2 effects: give one of agent/"):
        story_of(book, story.platform_id)  # each of two agents has a post of this id
    with pytest.raises(NoSuchEffect, match=r"give a platform id, an effect hash, a record's id or a card"):
        story_of(book, "nothing")


def test_the_page_holds_the_proofs_themselves_and_no_text_of_a_record_is_markup(book: Book) -> None:
    story = story_of(book, executed(book))._replace(text="<script>alert(1)</script>")
    page = page_of(story, book.whence, ["KEY"])
    assert "&lt;script&gt;" in page
    assert not re.search(r"<script|<img|<link|src=|href=", page)
    assert page.count("c2sp.org/tlog-proof@v1") == len(story.steps)
    assert "LogAppendTime" in page
    assert page == page_of(story, book.whence, ["KEY"])


def test_a_sample_is_drawn_again_by_its_seed_and_differs_by_another(book: Book) -> None:
    everything, total = reports.sample(book, 1000, "a")
    assert len(everything) == total > 1
    assert reports.sample(book, 1, "a")[0] == everything[:1]
    orders = {tuple(d.place for d in reports.sample(book, 1000, str(seed))[0]) for seed in range(8)}
    assert len(orders) > 1


def test_who_did_what_is_told_for_every_executed_effect_and_two_duties_of_one_person_are_a_conflict(book: Book) -> None:
    found = list(reports.duties(book))
    assert len(found) == reports.sample(book, 1000, "a")[1]
    assert {(each.requester, each.policy_editor) for each in found} == {("op", "mo")}
    assert [each.conflicts for each in found] == [[]] * len(found)
    one = Duties("1@2", "agent/x", "1.2.1", "7", "kim", "mo", ["lee"], ["kim", "mo", "lee"], "gate", financial=True)
    assert one.conflicts == ["kim requested and approved", "mo edited the policy and approved", "lee edited the text and approved"]
    assert replace(one, approvers=["ann", "ann"], executor="ann").conflicts[0] == "ann approved twice"


def test_changes_tell_the_law_once_and_every_policy(book: Book) -> None:
    found = reports.changes(book)
    assert [each.kind for each in found].count("keys") == 1
    assert {each.kind for each in found} == {"keys", "policy", "persona"}
    assert found == sorted(found)


def test_changes_that_the_law_knows_nothing_of_are_told_from_the_security_stream_of_an_export(out: Path) -> None:
    (switch,) = reports.noted_changes(noted_in(out))
    assert (switch.kind, switch.by, switch.ruling) == ("switch", "lea", "noted")
    assert switch.says == "switch closed tenant:acme at shell"
    assert [*reports.noted_changes([*noted_in(out), *noted_in(out)])] == [switch], "what was sent twice is told once"


def test_reports_are_asked_for_on_the_command_line_without_a_server(out: Path, tmp_path: Path, book: Book) -> None:
    runner, app = CliRunner(), build(["audit"])
    name, file = executed(book), tmp_path / "why.html"
    told = runner.invoke(app, ["audit", "report", "--effect", name, "--export", str(out), "--out", str(file), "--json"])
    assert told.exit_code == 0, told.output
    assert orjson.loads(told.stdout)["steps"][-1]["record"] == name
    assert file.read_text().startswith("<!doctype html>")
    for verb in ("sample", "duties", "changes"):
        said = runner.invoke(app, ["audit", verb, "--export", str(out), "--json"])
        assert said.exit_code == 0, said.output
        assert orjson.loads(said.stdout)
        assert runner.invoke(app, ["audit", verb, "--export", str(out)]).exit_code == 0
    with pytest.raises(ManifestTrouble, match="does not hold the whole log"):
        book_of(out.parent / "few")


def test_each_control_names_a_test_that_exists_and_a_command_that_is_there() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "auditors" / "controls.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) > 15
    for rule, _, test, command in rows:
        name, file = re.fullmatch(r"\[`(\w+)`\]\(\.\./\.\./([\w/.]+)\)", test).groups()  # type: ignore[union-attr]
        assert re.search(rf"^(async )?def {name}\(", (root / file).read_text(), re.MULTILINE), rule
        for words in re.findall(r"`chimera ([a-z]+ [a-z-]+)", command):
            argv = [*words.split(), "--help"]
            assert CliRunner().invoke(build(argv), argv).exit_code == 0, words
