"""When a pipe counts as live: never for history that is piped, soon for events of now."""

from __future__ import annotations

import pytest

from barrelman.detection.live import LATENESS_US, MOMENT_SECONDS, SECOND_US, LivePipe

NOW = 1_800_000_000 * SECOND_US
HOUR = 3600 * SECOND_US


def look(
    pipe: LivePipe, *, end: int | None, at: int = NOW, last: int | None = None, idle: float = 0.0
) -> int | None:
    return pipe.look(end_us=end, last_us=last or end, clock_us=at, idle_seconds=idle)


def test_nothing_is_known_before_the_first_event() -> None:
    assert look(LivePipe(), end=None, idle=10) is None


@pytest.mark.parametrize("end", [NOW - HOUR, NOW + HOUR, NOW + 10 * SECOND_US])
def test_events_of_another_time_wait_for_a_pause(end: int) -> None:
    pipe = LivePipe()
    looks = [look(pipe, end=end, idle=MOMENT_SECONDS) for _ in range(8)]
    assert looks == [None] * 7 + [end]
    assert look(pipe, end=end) is None
    assert look(pipe, end=end, idle=1.5) is None, "a read ends the pause"


def test_events_of_now_follow_the_clock_when_nothing_comes() -> None:
    pipe = LivePipe()
    assert look(pipe, end=NOW - SECOND_US, idle=0.25) == NOW - LATENESS_US
    assert look(pipe, end=NOW - SECOND_US, at=NOW + 60 * SECOND_US, idle=0.25) == (
        NOW + 60 * SECOND_US - LATENESS_US
    )


def test_a_busy_live_pipe_is_looked_at_in_passing() -> None:
    pipe = LivePipe()
    assert look(pipe, end=NOW) is None
    assert look(pipe, end=NOW + SECOND_US // 2, at=NOW + SECOND_US // 2) is None
    later = NOW + 2 * SECOND_US
    assert look(pipe, end=later, at=later) == later - LATENESS_US


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (NOW + 3 * SECOND_US, NOW - HOUR),  # a second, older log behind the first
        (NOW, None),  # caught up from an hour ago within two seconds
    ],
)
def test_recent_history_that_is_piped_is_not_live(end: int, last: int | None) -> None:
    pipe = LivePipe()
    look(pipe, end=NOW - 500 * SECOND_US)
    assert look(pipe, end=end, last=last, at=NOW + 2 * SECOND_US) is None


def test_an_event_from_the_future_closes_nothing_early() -> None:
    pipe = LivePipe()
    look(pipe, end=NOW)
    later = NOW + 2 * SECOND_US
    ahead = NOW + 5 * SECOND_US
    assert look(pipe, end=ahead, at=later) == later - LATENESS_US
