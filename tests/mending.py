"""The campaign that texts are written and rated for in tests of writers."""

from __future__ import annotations

from typing import Any

from chimera.policy.brief import Brief


def brief(**fields: Any) -> Brief:
    """A brief of a mending workshop, with these fields otherwise."""
    told = {
        "name": "Mend",
        "goal": "Show people that mending broken things is quick",
        "audience": "people who mend",
        "key_messages": ["Mending beats buying new"],
        "feeds": ["/feed.xml"],
        "formats": [{"platform": "x", "format": "post"}],
    }
    return Brief.model_validate(told | fields)
