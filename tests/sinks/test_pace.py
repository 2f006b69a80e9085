"""How many messages people get, and when they get one about many."""

from __future__ import annotations

from barrelman.sinks.pace import Pace, Step

SECOND = 1_000_000


def test_without_a_bound_everything_is_told() -> None:
    assert Pace(None, seconds=60).next(10**6, now_us=0) == Step("each", 10**6)


def test_few_are_told_one_by_one_many_at_once_in_a_digest() -> None:
    pace = Pace(3, seconds=60)
    assert pace.next(3, now_us=0) == Step("each", 3)
    assert pace.next(4, now_us=0) == Step("digest")


def test_what_exceeds_the_bound_waits_for_its_turn() -> None:
    pace = Pace(3, seconds=60)
    pace.told(2, at_us=0)
    assert pace.next(2, now_us=1 * SECOND) == Step("each", 1)
    pace.told(1, at_us=1 * SECOND)
    assert pace.next(1, now_us=2 * SECOND) == Step("wait", until_us=60 * SECOND)
    assert pace.next(1, now_us=60 * SECOND) == Step("each", 1)


def test_digests_keep_their_distance() -> None:
    pace = Pace(3, seconds=60)
    pace.digested(at_us=0)
    pace.told(3, at_us=0)
    assert pace.next(50, now_us=10 * SECOND) == Step("wait", until_us=60 * SECOND)
    assert pace.next(50, now_us=60 * SECOND) == Step("digest")


def test_of_a_steady_stream_all_is_told_in_a_bounded_number_of_messages() -> None:
    pace = Pace(20, seconds=60)
    pending, singles, digests, told = 0, 0, 0, 0
    for second in range(600):
        now = second * SECOND
        pending += 2
        while (step := pace.next(pending, now_us=now)).action != "wait" and pending:
            if step.action == "digest":
                digests, told, pending = digests + 1, told + pending, 0
                pace.digested(at_us=now)
            else:
                singles, told, pending = (
                    singles + step.messages,
                    told + step.messages,
                    pending - step.messages,
                )
                pace.told(step.messages, at_us=now)
    assert told + pending == 1200
    assert singles <= 20 * 11
    assert digests <= 11
    assert pending < 2 * 61 + 20
