"""The audit page repeats what checkpoints say, and takes nothing for one that is none."""

from __future__ import annotations

from pathlib import Path

from chimera.control.auditing import checkpoints

NOTE = """inst/chimera.log/3
79
I4AatPzHxyqp5EuKcjnIR9ua9FsjkWingX6FG9eXrhc=

\N{EM DASH} inst/chimera.log/3 Us4hvm4h
\N{EM DASH} witness.example Ab12
"""


def test_a_checkpoint_is_told_with_its_size_its_root_and_who_signed_it(tmp_path: Path) -> None:
    at = tmp_path / "audit" / "chimera.log" / "3" / "checkpoint"
    at.parent.mkdir(parents=True)
    at.write_text(NOTE, encoding="utf-8")
    (found,) = checkpoints(tmp_path)
    assert (found.topic, found.partition, found.size) == ("chimera.log", 3, 79)
    assert found.root == "I4AatPzHxyqp5EuKcjnIR9ua9FsjkWingX6FG9eXrhc="
    assert found.signers == ("inst/chimera.log/3", "witness.example")


def test_what_is_no_checkpoint_is_left_out(tmp_path: Path) -> None:
    for partition, text in (("1", ""), ("2", "one\ntwo\nthree\n"), ("x", NOTE)):
        at = tmp_path / "audit" / "chimera.log" / partition / "checkpoint"
        at.parent.mkdir(parents=True)
        at.write_text(text, encoding="utf-8")
    assert checkpoints(tmp_path) == []
