"""The root of every error that Chimera explains to a person.

The rule not to break: a `ChimeraError` message says what is wrong, where, and the way out, in one line; the command line
prints exactly that line and nothing else.
"""

from __future__ import annotations


class ChimeraError(Exception):
    """A known failure. `str(error)` names the thing, the place and what to do; it never holds a secret."""
