"""Whose turn it is among agents of several partitions."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from chimera.processors.rota import Rota


def served(rota: Rota, most: int | None = None) -> list[str]:
    """Agents in the order of their turns, all that wait or so many."""
    order: list[str] = []
    while rota and (most is None or len(order) < most):
        order.append(rota.next())
    return order


def waiting(*agents: tuple[str, int]) -> Rota:
    rota = Rota()
    for key, partition in agents:
        rota.wait(key, partition)
    return rota


def test_agents_of_one_partition_come_one_after_the_other_and_partitions_in_the_order_in_which_they_began_to_wait() -> None:
    rota = waiting(("a", 7), ("b", 2), ("c", 7), ("d", 5), ("e", 2))
    assert served(rota) == ["a", "c", "b", "e", "d"]
    assert not rota


def test_who_waits_already_keeps_its_place_and_has_one_turn() -> None:
    assert served(waiting(("a", 0), ("b", 0), ("a", 0))) == ["a", "b"]


def test_who_comes_while_its_partition_is_served_waits_behind_all_other_partitions() -> None:
    rota = waiting(("a", 0), ("b", 0), ("c", 1))
    assert rota.next() == "a"
    rota.wait("a", 0)
    rota.wait("d", 0)
    assert served(rota) == ["b", "c", "a", "d"]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_nobody_who_has_always_more_to_do_is_served_twice_before_all_others_were_once(partitions: list[int]) -> None:
    rota = waiting(*((f"agent {n}", partition) for n, partition in enumerate(partitions)))
    turns = Counter[str]()
    for _ in range(5 * len(partitions)):
        key = rota.next()
        rota.wait(key, partitions[int(key.split()[1])])
        turns[key] += 1
        assert max(turns.values()) - min(turns[f"agent {n}"] for n in range(len(partitions))) <= 1
