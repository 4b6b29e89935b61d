"""What reviewers are told before they decide: differences to the word, the order of the queue, and files of decisions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.commands import cards, reviews, triage
from chimera.commands.cards import Card
from chimera.commands.differences import changes, in_words, word_diff
from chimera.commands.sheet import read_sheet
from chimera.policy.documents import DocumentError
from tests.unit.test_commands_decisions import AT, Log, judge, with_card

# --- differences -----------------------------------------------------------------------------------------------------


@given(st.text(alphabet="ab \n\t", max_size=40), st.text(alphabet="ab \n\t", max_size=40))
def test_the_pieces_hold_both_texts_to_the_sign(old: str, new: str) -> None:
    pieces = word_diff(old, new)
    assert "".join(piece.text for piece in pieces if piece.what != "new") == old
    assert "".join(piece.text for piece in pieces if piece.what != "old") == new


def test_a_changed_word_is_told_between_those_that_stay() -> None:
    assert in_words(word_diff("Soup warms you.", "Soup warms all.")) == "Soup warms [-you.-]{+all.+}"


def test_votes_that_moved_on_are_no_change_of_a_card_and_everything_else_is() -> None:
    shown = {"text": "a b", "edit": 0, "approvals": [], "status": "people", "arguments": {"text": "a b"}, "effect_hash": "0" * 64}
    voted = shown | {"approvals": ["kim"], "status": "approved"}
    assert changes(shown, voted) == []
    edited = shown | {"text": "a c", "edit": 1, "arguments": {"text": "a c"}, "effect_hash": "1" * 64, "edited_by": "kim"}
    assert changes(shown, edited) == [
        "text: a [-b-]{+c+}",
        "edit: 0 -> 1",
        "arguments",
        f"effect_hash: {'0' * 12} -> {'1' * 12}",
        "edited_by: none -> kim",
    ]


def test_a_card_judged_anew_under_another_policy_is_not_the_one_that_was_shown() -> None:
    log = with_card()
    seen = log.seen()
    log.ava.policy.edition = 2  # type: ignore[union-attr]
    with pytest.raises(reviews.Changed, match="judged anew under policy edition 2"):
        reviews.approve(AT, "kim", seen)(log.agent)
    with pytest.raises(reviews.Changed, match="judged anew under policy edition 2"):
        reviews.reject(AT, "unsafe", seen)(log.agent)


def test_a_rejection_of_what_was_edited_since_is_refused() -> None:
    log = with_card()
    seen = log.seen()
    log.take(reviews.edit(AT, "kim", seen, "Soup warms all.", "01" * 16)(log.agent)[0], "kim")
    judge(log)
    with pytest.raises(reviews.Changed, match="changed by kim"):
        reviews.reject(AT, "unsafe", seen)(log.agent)


# --- order -----------------------------------------------------------------------------------------------------------


def waiting() -> tuple[Log, Card]:
    log = with_card()
    return log, cards.card_at(log.ava, AT)


def test_a_card_weighs_four_times_as_much_at_its_end_as_at_its_beginning() -> None:
    log, card = waiting()
    opened, lasts = card.effect.opened_ts, log.ava.policy.inline.expiry_ms  # type: ignore[union-attr]
    first = triage.place(card, "sandbox", opened)
    assert (first.deadline, first.expires_ts) == (1.0, opened + lasts)
    assert triage.place(card, "sandbox", opened + lasts // 2).deadline == 2.5
    assert triage.place(card, "sandbox", opened + lasts).deadline == 4.0
    assert triage.place(card, "sandbox", opened + 9 * lasts).deadline == 4.0


def test_held_time_moves_the_end() -> None:
    log, card = waiting()
    opened, lasts = card.effect.opened_ts, log.ava.policy.inline.expiry_ms  # type: ignore[union-attr]
    card.campaign.held_ms = 500
    assert triage.expires_ts(card, opened) == opened + lasts + 500
    card.effect.opened_held = 500
    assert triage.expires_ts(card, opened) == opened + lasts


def test_money_outweighs_a_sensitive_post_and_that_a_plain_one_and_live_outweighs_the_sandbox() -> None:
    _, card = waiting()
    now = card.effect.opened_ts
    plain = triage.place(card, "sandbox", now)
    assert (plain.score, plain.risk, plain.reach) == (1.0, 1.0, 1.0)
    sensitive = triage.place(card._replace(why="sensitive"), "sandbox", now)
    card.effect.effect_class = "financial"
    money = triage.place(card, "sandbox", now)
    assert money.score > sensitive.score > plain.score
    assert triage.place(card, "live", now).score == 3 * money.score


def test_what_the_table_does_not_know_weighs_the_most() -> None:
    _, card = waiting()
    now = card.effect.opened_ts
    assert triage.place(card, "elsewhere", now).reach == triage.place(card, "live", now).reach
    card.effect.effect_class = "unheard_of"
    assert triage.place(card, "sandbox", now).risk == max(triage.RISK_BY_CLASS.values())


# --- files -----------------------------------------------------------------------------------------------------------

YAML = """- {card: ava/1.1.1, decision: approve, effect: "0123abcd"}
- {card: ben/1.1.1, decision: reject, reason: off_brand, comment: too dry}
- card: cid/1.2
  decision: edit
  text: Soup warms all.
- {card: dan/1.1.1}
"""
CSV = """card,decision,reason,comment,text,effect
ava/1.1.1,approve,,,,0123abcd
ben/1.1.1,reject,off_brand,too dry,,
cid/1.2,edit,,,Soup warms all.,
dan/1.1.1,,,,,
"""
JSONL = """{"card": "ava/1.1.1", "decision": "approve", "effect": "0123abcd"}
{"card": "ben/1.1.1", "decision": "reject", "reason": "off_brand", "comment": "too dry"}

{"card": "cid/1.2", "decision": "edit", "text": "Soup warms all."}
{"card": "dan/1.1.1"}
"""


@pytest.mark.parametrize(("name", "text"), [("s.yaml", YAML), ("s.csv", CSV), ("s.jsonl", JSONL)])
def test_the_three_ways_to_write_a_file_say_the_same(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    rows = read_sheet(tmp_path / name)
    assert [row.problem for row in rows] == [""] * 4
    assert [(row.line.card, row.line.decision, row.line.reason, row.line.text, row.line.effect) for row in rows if row.line] == [
        ("ava/1.1.1", "approve", "", "", "0123abcd"),
        ("ben/1.1.1", "reject", "off_brand", "", ""),
        ("cid/1.2", "edit", "", "Soup warms all.", ""),
        ("dan/1.1.1", "", "", "", ""),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"card": "ava", "decision": "approve"}', "is no card"),
        ('{"card": "ava/1.1", "decision": "maybe"}', "decision"),
        ('{"card": "ava/1.1", "decision": "reject", "reason": "ugly"}', "off_brand"),
        ('{"card": "ava/1.1", "decision": "reject"}', "off_brand"),
        ('{"card": "ava/1.1", "decision": "edit"}', "new words"),
        ('{"card": "ava/1.1", "decision": "approve", "text": "other"}', "text is for edits"),
        ('{"card": "ava/1.1", "decision": "approve", "effect": "0123abc"}', "effect"),
        ('{"card": "ava/1.1", "decision": "approve", "extra": "x"}', "extra"),
        ('{"card": "ava/1.1", ', "no JSON"),
        ("[1]", "not a decision"),
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_stops_no_other(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text(f'{line}\n{{"card": "ben/1.1", "decision": "approve"}}\n')
    bad, good = read_sheet(tmp_path / "s.jsonl")
    assert bad.line is None
    assert words in bad.problem
    assert bad.place.endswith("line 1")
    assert good.line is not None


def test_a_card_is_decided_once_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("card,decision,reason\nava/1.1.1,approve,\nava/1.1,reject,unsafe\n")
    first, second = read_sheet(tmp_path / "s.csv")
    assert first.line is not None
    assert second.line is None
    assert "line 2" in second.problem


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("s.csv", "card,verdict\n", "no column 'decision'"),
        ("s.csv", "card,decision,mood\n", "unknown column 'mood'"),
        ("s.csv", "card,decision\n", "no decisions"),
        ("s.yaml", "card: ava/1.1\n", "a list of decisions"),
        ("s.yaml", "- [\n", "no YAML"),
    ],
)
def test_a_file_that_is_none_says_what_one_looks_like(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DocumentError, match=words):
        read_sheet(tmp_path / name)
    with pytest.raises(DocumentError, match="cannot be read"):
        read_sheet(tmp_path / "none.yaml")
