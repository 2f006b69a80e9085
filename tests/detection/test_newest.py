"""Newest first: against a reference that looks at every run's whole window."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operatorruns import drive, holds, item_of, items, windows

from barrelman.detection.finding import Item, Window
from barrelman.detection.newest import Newest
from barrelman.detection.runs import GivenRuns

TOUCHING = [Window(10, 0, 10), Window(20, 10, 20), Window(30, 20, 30)]


def by_search(
    matches: Sequence[Item], runs: Sequence[Window], cap: int | None, *, oldest_first: bool
) -> tuple[list[tuple[int, list[int]]], int]:
    """Of each run the numbers of what it takes, and how many were read and never taken."""
    taken: set[int] = set()
    read: set[int] = set()
    given = []
    for window in runs:
        there = sorted(item for item in matches if holds(window, item))
        read |= {item.number for item in there}
        new = [item for item in there if item.number not in taken]
        chosen = new[:: 1 if oldest_first else -1][:cap]
        taken |= {item.number for item in chosen}
        given.append((window.tick_ms, [item.number for item in sorted(chosen)]))
    return given, len(read - taken)


@given(
    items(),
    windows(),
    st.sampled_from([None, 1, 2, 3]),
    st.booleans(),
    st.sampled_from([0, 7]),
)
@settings(max_examples=140)
def test_each_run_takes_what_a_search_of_its_window_would(
    matches: list[Item], runs: list[Window], cap: int | None, oldest_first: bool, ahead_ms: int
) -> None:
    operator = Newest(GivenRuns(runs), cap=cap, oldest_first=oldest_first)
    found = drive(operator, matches, runs, ahead_ms=ahead_ms)
    given = [(tick, [finding.number for finding in findings]) for tick, findings in found]
    expected, capped = by_search(matches, runs, cap, oldest_first=oldest_first)
    assert given == expected
    assert operator.capped == capped
    assert operator.evicted == 0


@pytest.mark.parametrize(
    ("oldest_first", "expected"), [(False, [[5, 6], [3, 4], []]), (True, [[1, 2], [3, 4], []])]
)
def test_what_a_run_leaves_a_later_one_takes(oldest_first: bool, expected: list[list[int]]) -> None:
    """At 10 both of the first two runs read; what happened before is the first run's alone."""
    matches = [item_of(n, t) for n, t in ((1, 1), (2, 2), (3, 10), (4, 10), (5, 10), (6, 10))]
    operator = Newest(GivenRuns(TOUCHING), cap=2, oldest_first=oldest_first)
    found = drive(operator, matches, TOUCHING)
    assert [[finding.number for finding in findings] for _, findings in found] == expected
    assert operator.capped == 2


def test_of_equal_times_the_one_that_was_read_last_is_the_newest() -> None:
    operator = Newest(GivenRuns(TOUCHING), cap=1)
    for number in (1, 2, 3):
        operator.add(item_of(number, 5))
    assert [finding.number for finding in operator.run(TOUCHING[0])] == [3]


def test_one_that_comes_when_its_runs_are_over_is_the_next_ones() -> None:
    operator = Newest(GivenRuns(TOUCHING), cap=1)
    operator.run(TOUCHING[0])
    operator.add(item_of(1, 5))
    assert [finding.number for finding in operator.run(TOUCHING[1])] == [1]
    operator.add(item_of(2, 5))
    operator.add(item_of(3, 6))
    assert [finding.number for finding in operator.run(TOUCHING[2])] == [3]
    assert operator.capped == 1


@pytest.mark.parametrize("number_of", range(2000, 2080, 7))
def test_a_flood_is_counted_and_not_kept(number_of: int) -> None:
    runs = [Window(10, 0, 10), Window(20, 5, 20)]
    operator = Newest(GivenRuns(runs), cap=3)
    for number in range(number_of):
        operator.add(item_of(number, 6))
    held = sum(len(pane.items) for pane in operator._panes.values())
    assert held < 100
    last = number_of - 1
    assert [f.number for f in operator.run(runs[0])] == [last - 2, last - 1, last]
    assert [f.number for f in operator.run(runs[1])] == [last - 5, last - 4, last - 3]
    assert operator.capped == number_of - 6


def test_beyond_its_bound_the_oldest_are_let_go() -> None:
    operator = Newest(GivenRuns(TOUCHING), cap=None, most_live=32)
    for number in range(40):
        operator.add(item_of(number, 5))
    found = operator.run(TOUCHING[0])
    assert len(found) + operator.evicted == 40
    assert len(found) <= 32
    assert [finding.number for finding in found] == list(range(operator.evicted, 40))


def test_a_finding_is_the_event() -> None:
    operator = Newest(GivenRuns(TOUCHING), cap=1)
    operator.add(item_of(7, 5, ("a", None)))
    (finding,) = operator.run(TOUCHING[0])
    assert (finding.alert_id, finding.payloads, finding.groups) == (
        "id7",
        (b"event 7",),
        ("a", None),
    )
    assert finding.suppression is None
