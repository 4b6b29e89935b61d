"""When a reader lets records gather at the broker: only while much comes in small portions."""

from __future__ import annotations

from chimera.eventlog.trickle import BUSY_PER_S, CALM_PER_S, LASTING, Trickle


def second(trickle: Trickle, at: float, reads: int, records: int) -> list[bool]:
    """A second of evenly spaced reads that bring so many records each; what each said about a change."""
    return [trickle.saw(records, at + n / reads) for n in range(1, reads + 1)]


def test_who_reads_little_gets_each_record_at_once() -> None:
    trickle = Trickle()
    trickle.saw(0, 0.0)
    assert not any(second(trickle, 0.0, 100, int(BUSY_PER_S / 100) - 1))
    assert not trickle.busy


def test_many_small_portions_are_gathered_from_the_next_second_on_until_it_is_calm() -> None:
    trickle = Trickle()
    trickle.saw(0, 0.0)
    assert second(trickle, 0.0, 600, 1) == [False] * 599 + [True]
    assert trickle.busy
    between = int((BUSY_PER_S + CALM_PER_S) / 2 / 50)
    assert not any(any(second(trickle, at, 50, between)) for at in (1.0, 2.0, 3.0, 4.0)), "between the two borders nothing changes"
    assert trickle.busy
    assert sum(second(trickle, 5.0, 50, 1) + second(trickle, 6.0, 50, 1)) == 1
    assert not trickle.busy


def test_who_catches_up_in_large_portions_is_left_alone() -> None:
    trickle = Trickle()
    trickle.saw(0, 0.0)
    assert not any(second(trickle, 0.0, 10, 5_000))
    assert not trickle.busy


def test_silence_is_calm() -> None:
    trickle = Trickle()
    trickle.saw(0, 0.0)
    second(trickle, 0.0, 600, 1)
    assert trickle.busy
    assert trickle.saw(0, 2.5)
    assert not trickle.busy


def test_the_end_of_a_burst_is_seen_sooner_than_its_beginning() -> None:
    trickle = Trickle()
    trickle.saw(0, 0.0)
    assert second(trickle, 0.0, 600, 1) == [False] * 599 + [True]
    assert not any(trickle.saw(1, at) for at in (1.25, 1.375))
    assert trickle.saw(1, 1.5), "half a second with three records"
    assert not trickle.busy
    assert second(trickle, 1.5, 600, 1) == [False] * 599 + [True], "to be busy again takes a second"


def test_who_has_been_busy_for_long_stays_so_over_a_lull() -> None:
    trickle = Trickle()
    trickle.saw(0, 0.0)
    for at in range(5):
        second(trickle, float(at), 600, 1)
    assert trickle.busy
    assert not any(trickle.saw(0, at) for at in (5.25, 5.5))
    assert not any(second(trickle, 5.5, 800, 1))
    assert trickle.busy


def test_a_burst_does_not_change_who_looks_twice() -> None:
    trickle = Trickle(lasting=LASTING)
    trickle.saw(0, 0.0)
    for at in (0.0, 2.0, 4.0):
        assert not any(second(trickle, at, 600, 1))
        assert not any(second(trickle, at + 1, 200, 1))
    assert not any(second(trickle, 6.0, 600, 1))
    assert sum(second(trickle, 7.0, 600, 1)) == 1, "two seconds are no burst"
    assert trickle.busy
