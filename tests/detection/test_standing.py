"""Alerts that repeats are folded into, for as long as their duration is."""

from __future__ import annotations

from barrelman.detection.finding import Finding, Suppression, pack_finding, unpack_finding
from barrelman.detection.standing import Standing, fold


def suppression_of(name: str, end_ms: int, *, docs_count: int = 0) -> Suppression:
    return Suppression((("f", name),), name, 1, end_ms, docs_count)


def finding_of(name: str, end_ms: int) -> Finding:
    folded = suppression_of(name, end_ms)
    return Finding(f"id-{name}-{end_ms}", 1, 1, 1, (b"",), suppression=folded)


def test_a_group_is_added_with_its_own_first_event() -> None:
    kept = suppression_of("a", 5, docs_count=2)
    later = suppression_of("a", 9, docs_count=3)
    assert fold(kept, later, now_ms=20) == Suppression((("f", "a"),), "a", 1, 9, 6, 20)


def test_what_ends_no_later_changes_nothing() -> None:
    kept = suppression_of("a", 5)
    assert fold(kept, suppression_of("a", 5, docs_count=3), now_ms=20) is None


def test_the_last_millisecond_of_the_duration_counts() -> None:
    for tick_ms, stands in ((15, True), (16, False)):
        standing = Standing(duration_ms=5)
        assert standing.open(finding_of("a", 8), tick_ms=10) == []
        given = standing.begin(tick_ms)
        assert [finding.alert_id for finding in given] == ([] if stands else ["id-a-8"])
        assert standing.fold(suppression_of("a", 12), tick_ms=tick_ms) is stands


def test_without_a_duration_nothing_stands() -> None:
    standing = Standing(duration_ms=None)
    finding = finding_of("a", 8)
    assert standing.open(finding, tick_ms=10) == [finding]
    assert not standing.fold(suppression_of("a", 9), tick_ms=10)
    assert (standing.begin(11), standing.finish(), standing.go_live()) == ([], [], [])


def test_what_was_held_is_given_with_its_own_run() -> None:
    standing = Standing(duration_ms=100)
    standing.open(finding_of("a", 8), tick_ms=10)
    standing.open(finding_of("b", 18), tick_ms=20)
    standing.fold(suppression_of("a", 25), tick_ms=30)
    first, second = standing.finish()
    assert (first.tick_ms, second.tick_ms) == (10, 20)
    assert first.suppression == Suppression((("f", "a"),), "a", 1, 25, 1, 30)
    assert unpack_finding(pack_finding(first)) == first
    assert standing.finish() == []


def test_going_live_gives_what_was_held_as_it_stands() -> None:
    standing = Standing(duration_ms=100)
    standing.open(finding_of("a", 8), tick_ms=10)
    standing.fold(suppression_of("a", 15), tick_ms=20)
    (given,) = standing.go_live()
    assert given.suppression is not None
    assert given.suppression.docs_count == 1
    assert (standing.go_live(), standing.take_changed()) == ([], [])
    standing.fold(suppression_of("a", 25), tick_ms=30)
    (changed,) = standing.take_changed()
    assert changed.suppression is not None
    assert (changed.alert_id, changed.suppression.docs_count) == (given.alert_id, 2)
    assert (standing.take_changed(), standing.finish()) == ([], [])


def test_beyond_the_bound_the_oldest_stands_no_longer() -> None:
    standing = Standing(duration_ms=100, most_live=2)
    for name in "abc":
        given = standing.open(finding_of(name, 8), tick_ms=10)
    assert [finding.alert_id for finding in given] == ["id-a-8"]
    assert standing.evicted == 1
    assert not standing.fold(suppression_of("a", 12), tick_ms=20)
    assert standing.fold(suppression_of("b", 12), tick_ms=20)


def test_live_a_change_is_told_though_the_alert_is_let_go() -> None:
    standing = Standing(duration_ms=100, most_live=1)
    standing.go_live()
    standing.open(finding_of("a", 8), tick_ms=10)
    standing.fold(suppression_of("a", 12), tick_ms=20)
    assert [each.alert_id for each in standing.open(finding_of("b", 18), tick_ms=20)] == ["id-b-18"]
    assert [each.alert_id for each in standing.take_changed()] == ["id-a-8"]
