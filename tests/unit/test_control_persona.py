"""An agent's page tells a persona in lines that people read, not as the file's own notation."""

from __future__ import annotations

from chimera.control.agent import facts_of


def test_each_part_of_a_persona_has_a_line_of_its_own_without_the_files_notation() -> None:
    front = {
        "name": "ava",
        "topics": ["soup", "market"],
        "handles": {"x": "ava_cooks"},
        "voice": {"emoji": True, "sentence_words": 26, "openers": ["Kitchen note:", "From the market:"]},
    }
    assert facts_of(front) == {
        "topics": "soup · market",
        "handles, x": "ava_cooks",
        "voice, emoji": "yes",
        "voice, sentence words": "26",
        "voice, openers": "Kitchen note: · From the market:",
    }
