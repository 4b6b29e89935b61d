"""Which profiles a process may open, by the effects that it makes, and which credentials are thus none of its business.

The one rule: what is not opened is not connected to, and its credentials are not even in the environment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from chimera.errors import ChimeraError
from chimera.mcp.spec import ProfileFile

EFFECTS = frozenset(("publish", "paid", "financial"))
"""All classes of effects (design section 7)."""


def gate_effects(gates: Mapping[str, Collection[str]], name: str | None) -> frozenset[str] | None:
    """The classes of effects that the gate of that name makes; None for the one gate that makes all and opens everything.

    Raises ChimeraError for a name that the setting does not know, a class that is none, and one that is in two gates or in none.
    """
    if name is None and not gates:
        return None
    held: dict[str, str] = {}
    known = ", ".join(sorted(EFFECTS))
    for gate, classes in gates.items():
        for each in classes:
            if each not in EFFECTS:
                raise ChimeraError(f"CHIMERA_GATES: '{each}' of gate '{gate}' is no class of effects: use {known}")
            if each in held:
                both = f"'{held[each]}' and '{gate}'"
                raise ChimeraError(f"CHIMERA_GATES: '{each}' is in the gates {both}: two would make its effects")
            held[each] = gate
    if missing := sorted(EFFECTS - held.keys()):
        raise ChimeraError(f"CHIMERA_GATES: no gate makes {', '.join(missing)}: add it to one, or its effects wait for ever")
    if name is None or name not in gates:
        which, names = f"no gate '{name}'" if name else "several gates", ", ".join(gates)
        raise ChimeraError(f"{which} in CHIMERA_GATES: run one of them, `chimera run gate --gate NAME`, NAME being {names}")
    return frozenset(gates[name])


def opens(profile: ProfileFile, effects: frozenset[str] | None) -> bool:
    """May who makes these effects (None: everything) connect to the profile's servers?"""
    return effects is None or any(spec.effect_class in effects for spec in profile.capabilities.values())


def reads_only_or_more(profile: ProfileFile) -> bool:
    """May a process that makes no effects ask this profile's servers? Not where all that it is for is money."""
    classes = {spec.effect_class for spec in profile.capabilities.values()}
    return "financial" not in classes


def credentials(profiles: Iterable[ProfileFile]) -> list[re.Pattern[str]]:
    """The environment variables that profiles name as secrets, for any account."""
    named = [ref for profile in profiles for server in profile.servers.values() for ref in server.secrets.values()]
    variables = sorted({ref.removeprefix("env:") for ref in named if ref.startswith("env:")})
    return [re.compile(re.escape(each).replace(re.escape("{account}"), ".+")) for each in variables]


def withheld(environment: Iterable[str], closed: Iterable[ProfileFile], opened: Iterable[ProfileFile] = ()) -> list[str]:
    """Names in the environment that only closed profiles need."""
    secret, needed = credentials(closed), credentials(opened)
    names = [name for name in environment if any(each.fullmatch(name) for each in secret)]
    return sorted(name for name in names if not any(each.fullmatch(name) for each in needed))


def refuse_foreign(environment: Iterable[str], profiles: Iterable[ProfileFile], effects: frozenset[str] | None) -> None:
    """Raises ChimeraError where the environment holds credentials that only profiles need which these effects do not open."""
    every = list(profiles)
    opened = [profile for profile in every if opens(profile, effects)]
    strange = withheld(environment, [profile for profile in every if profile not in opened], opened)
    if strange:
        raise ChimeraError(f"this gate must not be able to read {', '.join(strange)}: take them out of its environment")
