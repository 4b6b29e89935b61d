"""Which commands that wait are worked on together."""

from __future__ import annotations

from collections import deque

from chimera.commands.decision import Order
from chimera.commands.tickets import LARGEST_BATCH, Ticket, next_batch


def ticket(*keys: str) -> Ticket:
    """One caller's orders, one for each of these streams."""
    return Ticket([Order(key, "acme", "kim", lambda state: [], f"command for {key}") for key in keys])


def test_commands_to_different_streams_are_worked_on_together_in_the_order_in_which_they_came() -> None:
    first, second = ticket("agent/a"), ticket("agent/b", "agent/c")
    waiting = deque([first, second])
    assert next_batch(waiting) == [first, second]
    assert not waiting


def test_the_second_command_to_a_stream_waits_and_so_do_those_behind_it() -> None:
    first, second, third = ticket("agent/a"), ticket("agent/b", "agent/a"), ticket("agent/c")
    waiting = deque([first, second, third])
    assert next_batch(waiting) == [first]
    assert next_batch(waiting) == [second, third]


def test_a_batch_is_no_larger_than_it_may_be() -> None:
    most, more = ticket(*(f"agent/{n}" for n in range(LARGEST_BATCH))), ticket("agent/x")
    waiting = deque([most, more])
    assert next_batch(waiting) == [most]
    assert next_batch(waiting) == [more]
