"""A service or desk opened by the command line: where it has to fold a long log for that, it shows how far it is.

The rule not to break: what it says goes to standard error; standard output belongs to the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from chimera.cli.bars import showing
from chimera.commands import wiring
from chimera.commands.wiring import OpenDesk
from chimera.settings import Settings

if TYPE_CHECKING:
    from chimera.commands.service import CommandService


@contextmanager
def open_desk(settings: Settings, *, set_up: bool = False) -> Iterator[OpenDesk]:
    """See `wiring.open_desk`."""
    what = "no command service runs here: folding the log"
    with showing(what) as bar, wiring.open_desk(settings, set_up=set_up, progress=bar) as desk:
        yield desk


@contextmanager
def open_service(settings: Settings, **how: Any) -> Iterator[CommandService]:
    """See `wiring.open_service`."""
    with ExitStack() as stack:
        bar = stack.enter_context(showing("folding the log"))
        yield stack.enter_context(wiring.open_service(settings, progress=bar, **how))
