"""The clock of a service: never back, whatever is done to the wall's."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from barrelman.service.clock import Clock

SECOND = 1_000_000


class Times:
    """A wall's clock and a monotonic one, both set by hand."""

    def __init__(self, wall_us: int) -> None:
        self.wall_us = wall_us
        self.ns = 0

    def clock(self, **more: Any) -> Clock:
        return Clock(lambda: self.wall_us, monotonic_ns=lambda: self.ns, **more)

    def pass_(self, us: int, *, wall: bool = True) -> None:
        self.ns += us * 1000
        if wall:
            self.wall_us += us


def test_it_is_the_walls_time_as_long_as_that_goes_on() -> None:
    times = Times(1000 * SECOND)
    clock = times.clock()
    assert clock.now_us() == 1000 * SECOND
    times.pass_(5 * SECOND)
    assert clock.now_us() == 1005 * SECOND
    assert clock.ahead_us == 0


def test_a_wall_set_back_neither_stops_it_nor_takes_it_back() -> None:
    times = Times(1000 * SECOND)
    clock = times.clock()
    clock.now_us()
    times.wall_us -= 100 * SECOND
    assert clock.now_us() == 1000 * SECOND
    times.pass_(10 * SECOND)
    assert clock.now_us() == 1009 * SECOND, "it goes on, slower than the wall"
    assert clock.ahead_us == 99 * SECOND


def test_the_wall_catches_up_with_it() -> None:
    times = Times(1000 * SECOND)
    clock = times.clock()
    clock.now_us()
    times.wall_us -= 10 * SECOND
    for _ in range(200):
        times.pass_(SECOND)
        clock.now_us()
    assert clock.now_us() == times.wall_us
    assert clock.ahead_us == 0


def test_a_jump_ahead_is_followed() -> None:
    times = Times(1000 * SECOND)
    clock = times.clock()
    clock.now_us()
    times.wall_us += 86_400 * SECOND
    assert clock.now_us() == times.wall_us


def test_what_was_stored_before_lies_in_the_past() -> None:
    times = Times(1000 * SECOND)
    assert times.clock(at_least_us=2000 * SECOND).now_us() == 2000 * SECOND
    clock = times.clock()
    clock.not_before(3000 * SECOND)
    assert clock.now_us() == 3000 * SECOND
    clock.not_before(1500 * SECOND)
    assert clock.now_us() == 3000 * SECOND, "an earlier bound changes nothing"
    times.pass_(10 * SECOND)
    assert clock.now_us() == 3009 * SECOND


def test_time_goes_on_however_often_it_is_asked() -> None:
    times = Times(1000 * SECOND)
    clock = times.clock()
    clock.now_us()
    times.wall_us -= 500 * SECOND
    for _ in range(10_000):  # less than a microsecond's worth each time
        times.ns += 1000
        clock.now_us()
    assert clock.now_us() >= 1000 * SECOND + 8_900


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 10**10)), max_size=60))
def test_it_never_goes_back(steps: list[tuple[int, int]]) -> None:
    times = Times(10**12)
    clock = times.clock()
    last = clock.now_us()
    for wall_step, ns_step in steps:
        times.wall_us += wall_step
        times.ns += ns_step
        now = clock.now_us()
        assert now >= max(last, times.wall_us)
        last = now


def test_a_wall_that_is_far_ahead_for_a_moment_is_not_believed() -> None:
    times = Times(1000 * SECOND)
    clock = times.clock(patience_seconds=60)
    clock.now_us()
    times.wall_us += 10**6 * SECOND
    for _ in range(30):
        times.pass_(SECOND)
        clock.now_us()
    times.wall_us -= 10**6 * SECOND
    assert clock.now_us() == times.wall_us == 1030 * SECOND
    assert (clock.jumped_us, clock.ahead_us) == (0, 0)


def test_a_wall_that_stays_ahead_is_followed_and_what_is_deleted_is_not() -> None:
    times = Times(1000 * SECOND)
    clock = times.clock(patience_seconds=60)
    clock.now_us()
    times.wall_us += 10**6 * SECOND
    for second in range(59):
        assert clock.now_us() == (1000 + second) * SECOND
        times.pass_(SECOND)
    times.pass_(5 * SECOND)
    clock.now_us()
    assert clock.now_us() == times.wall_us
    assert clock.jumped_us == 10**6 * SECOND
    assert clock.steady_us() == times.wall_us - 10**6 * SECOND


def test_the_first_look_at_the_wall_is_believed_and_small_steps_are() -> None:
    times = Times(10**6 * SECOND)
    clock = times.clock(at_least_us=1000 * SECOND, patience_seconds=60)
    assert clock.now_us() == 10**6 * SECOND, "the service was down for long"
    times.wall_us += 59 * SECOND
    assert clock.now_us() == times.wall_us
    assert clock.jumped_us == 0
