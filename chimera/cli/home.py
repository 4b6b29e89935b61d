"""The home that a verb looks into: a directory in which an installation was set up.

The rule not to break: looking makes nothing; a name that was mistyped is an error and no new home.
"""

from __future__ import annotations

from chimera.commands.keys import load_installation
from chimera.settings import Settings


def settled() -> Settings:
    """The settings, where their home is one. Raises `KeyTrouble`: an account made elsewhere signs in nowhere."""
    settings = Settings()
    load_installation(settings.home)
    return settings
