"""How records of older versions read today: one function per step, a chain that is checked at start-up.

The rule not to break: an upcaster adds what the law's rules do not read, or derives it from what was written; it never invents
a field that a rule reads (design section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chimera.events.records import ALL, Data

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
Chain = Mapping[tuple[str, int], Upcaster]


def _as_it_is(data: dict[str, Any]) -> dict[str, Any]:
    """The new version only added what an older one does without."""
    return data


UPCASTERS: Chain = {
    ("BriefChanged", 1): _as_it_is,  # 2 may name the campaign by its id, as copies of the tenant's facts do
    ("CampaignStatusSet", 1): _as_it_is,
}
"""(type, version it reads) -> function giving the next version's data."""


class BrokenChain(Exception):
    """An upcaster chain with a hole, a dangling step or one beyond the current version: a programming error at start-up."""


def check_chain(types: Mapping[str, type[Data]], chain: Chain) -> None:
    """Every old version of every type must lead, step by step, to the current one, and no step may lead nowhere.

    Raises:
        BrokenChain: naming the type and version.
    """
    for name, version in chain:
        if name not in types:
            raise BrokenChain(f"upcaster for unknown type {name!r} version {version}")
        if not 1 <= version < types[name].VERSION:
            raise BrokenChain(f"upcaster for {name} version {version}, but the current version is {types[name].VERSION}")
    for name, model in types.items():
        for version in range(1, model.VERSION):
            if (name, version) not in chain:
                raise BrokenChain(f"no upcaster from {name} version {version} (current: {model.VERSION})")


def upcast(name: str, version: int, data: dict[str, Any], chain: Chain = UPCASTERS) -> dict[str, Any]:
    """Data of `version` as the current version has it."""
    while (step := chain.get((name, version))) is not None:
        data, version = step(data), version + 1
    return data


TYPES: Mapping[str, type[Data]] = {model.TYPE: model for model in ALL}
check_chain(TYPES, UPCASTERS)
