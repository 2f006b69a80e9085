"""Runs and matches for tests of operators: random ones, and what drives an operator over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from hypothesis import strategies as st

from barrelman.detection.finding import Finding, GroupValue, Item, Operator, Window

END_MS = 60
"""Events happen from 0 to this."""

GROUP_VALUES: list[GroupValue] = [
    None,
    "a",
    "b",
    "c",
    1,
    2.5,
    ("a", "b"),
    ("b", "c"),
    ("c", "c", 2),
]


def item_of(
    number: int, time_ms: int, groups: tuple[GroupValue, ...] | None = None, *, us: int = 0
) -> Item:
    time_us = time_ms * 1000 + us
    return Item(time_us, time_us, number, f"id{number}", (), groups, b"event %d" % number)


@st.composite
def windows(draw: st.DrawFn) -> list[Window]:
    """Runs whose windows overlap, touch, leave holes, or repeat: their ends only move forward."""
    step = draw(st.integers(1, 12))
    reach = draw(st.integers(0, 25))
    delay = draw(st.integers(0, 6))
    steady = [Window(t, t - delay - reach, t - delay) for t in range(0, END_MS + 40, step)]
    if draw(st.booleans()):
        return steady
    starts = sorted(draw(st.lists(st.integers(-5, END_MS), min_size=1, max_size=8)))
    ends = sorted(draw(st.lists(st.integers(0, END_MS + 5), min_size=len(starts), max_size=8)))
    pairs = [(s, e) for s, e in zip(starts, ends, strict=False) if s <= e]
    return [Window(100 + n, s, e) for n, (s, e) in enumerate(pairs)]


@st.composite
def items(draw: st.DrawFn, *, fields: int = 1) -> list[Item]:
    """Matches in the order of their times, many of them at equal ones."""
    value = st.sampled_from(GROUP_VALUES)
    groups = st.tuples(*[value] * fields)
    drawn = draw(
        st.lists(st.tuples(st.integers(0, END_MS), st.sampled_from([0, 1]), groups), max_size=25)
    )
    numbers = draw(st.permutations(range(len(drawn))))
    made = [item_of(n, t, g, us=us) for n, (t, us, g) in zip(numbers, drawn, strict=True)]
    return sorted(made)


def drive(
    operator: Operator,
    matches: Iterable[Item],
    runs: Sequence[Window],
    *,
    ahead_ms: int = 0,
    after: Callable[[Window], None] = lambda window: None,
) -> list[tuple[int, list[Finding]]]:
    """What each run gives. `ahead_ms`: so far beyond a run's window matches are known to it."""
    waiting = list(matches)[::-1]
    given = []
    for window in runs:
        while waiting and waiting[-1].time_us // 1000 <= window.to_ms + ahead_ms:
            operator.add(waiting.pop())
        given.append((window.tick_ms, operator.run(window)))
        after(window)
    return given


def time_ms(item: Item) -> int:
    return item.time_us // 1000


def holds(window: Window, item: Item) -> bool:
    return window.from_ms <= time_ms(item) <= window.to_ms
