"""What a run prints at its end can be used as it stands, also in a narrow terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console, Group

from chimera.cli.summary import _part, _places
from chimera.stack.addresses import Addresses

LINK = "http://127.0.0.1:28570/enter/" + "k" * 43
"""As long as such a link is."""


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_link_that_signs_in_stands_whole_on_a_line(width: int) -> None:
    out = io.StringIO()
    addresses = Addresses(kafka="127.0.0.1:1", postgres="", mcp={"x": "http://127.0.0.1:2/mcp"})
    for shown in _part("7  Where things are", *_places(addresses, Path("/home/you/chimera/.chimera"), "chimera", ("kim", LINK))):
        Console(file=out, width=width).print(Group(shown), crop=False)
    assert LINK in [line.strip() for line in out.getvalue().splitlines()]
