"""`chimera policy`: scores that do not fall below what was measured, and a table of calibration from people's decisions."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from chimera.cli import policy
from chimera.policy import labelled
from chimera.policy.boardkit import load_text, parse_rules
from chimera.policy.calibration import Decided, brier
from chimera.policy.report import NoTexts
from chimera.policy.rules import RULES

ROOT = Path(__file__).resolve().parents[2]
LABELLED = ROOT / "tests/golden/labelled"
FLOOR = {"all_labels": (0.90, 0.94), "stopped": (0.94, 0.95)}
"""Precision and recall that either half must keep (docs/policy.md says what was measured)."""
TOPIC_RECALL = 0.95


def test_precision_and_recall_keep_the_floor_on_both_halves_of_the_labelled_set() -> None:
    ended = CliRunner().invoke(policy.app, ["score", "--json", "--labelled", str(LABELLED)])
    assert ended.exit_code == 0, ended.output
    told = orjson.loads(ended.output)
    assert told["tune"]["texts"] + told["held_out"]["texts"] >= 300
    for half in told.values():
        for what, (precision, recall) in FLOOR.items():
            assert half[what]["precision"] >= precision, what
            assert half[what]["recall"] >= recall, what
        for topic in ("health", "finance", "politics"):
            assert half["rules"][f"sensitive:{topic}"]["recall"] >= TOPIC_RECALL, topic


def test_the_halves_are_drawn_by_the_text_alone_and_errors_are_shown_of_one_only() -> None:
    _, wrong = labelled.score(labelled.load(LABELLED))
    ended = CliRunner().invoke(policy.app, ["score", "--errors", "--labelled", str(LABELLED)])
    for w in wrong:
        if all(c.isprintable() for c in w.text):
            assert (w.text in ended.output) == (w.half == "tune"), w.text


def test_no_text_is_labelled_twice_and_every_rule_is_asked_for() -> None:
    sheets = labelled.load(LABELLED)
    texts = [entry.text for sheet in sheets for entry in sheet.texts]
    assert len(texts) == len(set(texts))
    assert {label for sheet in sheets for entry in sheet.texts for label in entry.labels} == labelled.known_labels()


def test_a_label_that_no_rule_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("domain: d\ntexts:\n  - {text: t, labels: [sparkle]}\n")
    with pytest.raises(NoTexts, match=r"called sparkle: use banned_phrases"):
        labelled.load(tmp_path)


# --- calibration -----------------------------------------------------------------------------------------------------


def decided(path: Path, count: int) -> list[Decided]:
    """A judge that is sure of everything, and people who approve less the less it is sure."""
    draw = random.Random(7)
    rows = [Decided(round(0.7 + 0.3 * draw.random(), 3), False) for _ in range(count)]
    rows = [Decided(raw, draw.random() < (raw - 0.7) / 0.3) for raw, _ in rows]
    path.write_text("agent,raw,approved\n" + "".join(f"ava,{raw},{str(ok).lower()}\n" for raw, ok in rows))
    return rows


def test_the_table_makes_the_brier_score_better_and_goes_into_the_policy(tmp_path: Path) -> None:
    said = decided(tmp_path / "d.csv", 400)
    board = tmp_path / "AGENTS.md"
    board.write_text(load_text(ROOT / "policies/AGENTS.md"))
    ended = CliRunner().invoke(policy.app, ["calibrate", "--decisions", str(tmp_path / "d.csv"), "--write", str(board), "--json"])
    assert ended.exit_code == 0, ended.output
    told = orjson.loads(ended.output)
    assert told["decisions"] == 400
    assert told["brier"]["after"] < told["brier"]["before"] - 0.1
    rules = parse_rules(board.read_text())
    assert brier(said, rules.calibration) == pytest.approx(told["brier"]["after"], abs=1e-3)
    assert rules == parse_rules(load_text(ROOT / "policies/AGENTS.md")).model_copy(update={"calibration": rules.calibration})


def test_a_policy_without_the_line_gets_it(tmp_path: Path) -> None:
    decided(tmp_path / "d.csv", 400)
    board = tmp_path / "AGENTS.md"
    board.write_text(load_text(ROOT / "examples/AGENTS.md"))
    assert (
        CliRunner().invoke(policy.app, ["calibrate", "--decisions", str(tmp_path / "d.csv"), "--write", str(board)]).exit_code == 0
    )
    assert len(parse_rules(board.read_text()).calibration) > 2


def test_reliability_is_shown_before_and_after(tmp_path: Path) -> None:
    decided(tmp_path / "d.csv", 400)
    shown = CliRunner().invoke(policy.app, ["calibrate", "--decisions", str(tmp_path / "d.csv")]).output
    assert "400 decisions\nBrier score: 0." in shown
    assert "raw" in shown
    assert "calibrated" in shown
    assert "calibration: [[0, 0], " in shown


def test_few_decisions_change_nothing_and_are_not_written(tmp_path: Path) -> None:
    decided(tmp_path / "d.csv", 40)
    shown = CliRunner().invoke(policy.app, ["calibrate", "--decisions", str(tmp_path / "d.csv")]).output
    assert "40 decisions: fewer than 100" in shown
    assert "calibration: []" in shown
    ended = CliRunner().invoke(policy.app, ["calibrate", "--decisions", str(tmp_path / "d.csv"), "--write", "AGENTS.md"])
    assert isinstance(ended.exception, policy.NotCalibrated)


@pytest.mark.parametrize(
    ("line", "says"), [("ava,1.4,true", "line 2: a raw confidence of 1.4"), ("ava,0.4,maybe", "line 2: needs raw")]
)
def test_a_line_that_is_no_decision_is_named(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "d.csv").write_text(f"agent,raw,approved\n{line}\n")
    ended = CliRunner().invoke(policy.app, ["calibrate", "--decisions", str(tmp_path / "d.csv")])
    assert isinstance(ended.exception, policy.NotCalibrated)
    assert says in str(ended.exception)


def test_the_page_lists_every_rule_as_the_table_has_it() -> None:
    page = (ROOT / "docs/policy.md").read_text()
    for rule in RULES:
        finds = " ".join((rule.find.__doc__ or "").split())
        assert f"| `{rule.name}` | {rule.does} | {finds} | {rule.source} |" in page, rule.name
