"""How a member stands to the policy edition that it is meant to have."""

from __future__ import annotations

import pytest

from chimera.commands.at_editions import standing
from chimera.events.records import PolicyInline
from chimera.events.state import Agent, Policy, Ref
from chimera.events.tenant import Member, Tenant, Told

AVA = "agent/ava"


@pytest.mark.parametrize(
    ("meant", "has", "owed", "taken", "state"),
    [
        (0, 1, False, 0, "none published"),
        (0, 0, False, 0, "none published"),
        (2, 2, False, 1, "adopted"),
        (2, 3, False, 1, "its own"),
        (2, 1, True, 0, "owed"),
        (2, 1, True, 1, "refused"),
        (2, 1, False, 1, "refused"),
        (2, 0, True, 0, "owed"),
    ],
)
def test_a_member_stands_where_its_number_and_the_copies_say(meant: int, has: int, owed: bool, taken: int, state: str) -> None:
    tenant = Tenant("tenant/1", "acme", owed={AVA: [Told(1, "PolicyAdopted", Ref(0, 7))]} if owed else {})
    agent = Agent(AVA, "acme", "ava", copies_in={"tenant/acme": taken})
    agent.policy = Policy(has, "d", "eve", PolicyInline(), Ref(0, 1)) if has else None
    assert standing(tenant, AVA, Member("ava", policy=meant), agent)["state"] == state


def test_a_member_that_nobody_has_enrolled_is_owed_what_waits_for_it() -> None:
    tenant = Tenant("tenant/1", "acme", owed={AVA: [Told(1, "PolicyAdopted", Ref(0, 7))]})
    row = standing(tenant, AVA, Member("ava", policy=2), None)
    assert (row["has"], row["state"]) == (0, "owed")
