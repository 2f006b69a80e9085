"""Runs of EQL rules: against what each window would give on its own, and case by case."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sequenceoracle import sample_of, samples_of, sequences_of, stages_of

from barrelman.detection.eqlruns import EqlOperator
from barrelman.detection.finding import Finding, Item, Window
from barrelman.detection.runs import GivenRuns
from barrelman.engine.stages import Slots
from barrelman.query.ast import MATCH_ALL
from barrelman.query.eqltree import EqlQuery, EventFilter, Pipe, Sequence

EVERY_EVENT = EqlQuery(EventFilter(None, MATCH_ALL))
NONE = (2, 0)


def item_of(
    number: int,
    time_us: int,
    slots: Slots = (),
    *,
    order_us: int | None = None,
    tiebreaker: tuple[int, Any] = NONE,
) -> Item:
    """An event whose name is its number."""
    operand = (slots, order_us, tiebreaker)
    return Item(time_us, time_us, number, str(number), operand, None, str(number).encode())


def drive(
    query: EqlQuery, items: Ordered[Item], windows: Ordered[Window], *, cap: int | None = None
) -> tuple[list[list[str]], EqlOperator]:
    """Each run is done once all that it reads is there; what no run reads is left out."""
    runs = GivenRuns(windows)
    operator = EqlOperator(query, runs=runs, cap=cap)
    given: list[list[str]] = []

    def run_before(time_ms: float) -> None:
        while len(given) < len(windows) and windows[len(given)].to_ms < time_ms:
            given.append(list(map(name_of, operator.run(windows[len(given)]))))

    for item in items:
        run_before(item.time_us // 1000)
        first, last = runs.ticks(item.time_us // 1000)
        if first <= last:
            operator.add(item)
    run_before(float("inf"))
    return given, operator


def name_of(finding: Finding) -> str:
    return " ".join(payload.decode() for payload in finding.payloads)


def window(from_ms: int, to_ms: int) -> Window:
    return Window(to_ms, from_ms, to_ms)


# --- against windows on their own ----------------------------------------------------------


def oracle(
    query: EqlQuery, items: Ordered[Item], windows: Ordered[Window], *, cap: int | None
) -> tuple[list[set[str]], int]:
    """What each run raises, and how many results no run had room for."""
    raised: set[str] = set()
    left: set[str] = set()
    given = []
    for each in windows:
        seen = [item for item in items if each.from_ms <= item.time_us // 1000 <= each.to_ms]
        seen.sort(key=order_of)
        results = results_of(query, seen)
        for pipe in query.pipes:
            results = results[: pipe.count] if pipe.name == "head" else results[-pipe.count :]
        taken = results if cap is None else results[-cap:]
        left |= set(results) - set(taken)
        given.append(set(taken) - raised)
        raised |= set(taken)
    return given, len(left - raised)


def order_of(item: Item) -> tuple[int, tuple[int, Any], int]:
    _, time_us, tiebreaker = item.operand
    return item.timestamp_us if time_us is None else time_us, tiebreaker, item.number


def results_of(query: EqlQuery, items: list[Item]) -> list[str]:
    if isinstance(query.top, EventFilter):
        return [item.identity for item in items]
    fed = [(order_of(item)[0] // 1000, item.operand[0], item) for item in items]
    find: Any = sequences_of if isinstance(query.top, Sequence) else samples_of
    place = {item.number: number for number, item in enumerate(items)}
    found = [tuple(item for item in each if item is not None) for _, each in find(query.top, fed)]
    found.sort(key=lambda each: max(place[item.number] for item in each))
    return list(dict.fromkeys(" ".join(item.identity for item in each) for each in found))


SHAPES = ["A B", "A B C", "A*3", "A !B C", "!A B C", "A B !C", "!A B !C"]


@st.composite
def all_windows(draw: st.DrawFn) -> list[Window]:
    """They overlap, touch, or leave holes."""
    made = []
    from_ms, to_ms = 0, draw(st.integers(0, 12))
    for _ in range(draw(st.integers(1, 6))):
        made.append(window(from_ms, to_ms))
        from_ms += draw(st.integers(0, 12))
        to_ms = max(to_ms + draw(st.integers(0, 12)), from_ms)
    return made


@st.composite
def all_items(draw: st.DrawFn, stages: int, *, keys: int = 1, differ: bool) -> list[Item]:
    times = sorted(draw(st.lists(st.integers(0, 40_000), max_size=30)))
    slot = st.tuples(st.integers(0, stages), st.sampled_from("xy"))
    ties = st.sampled_from([(0, 1), (0, 2), (1, "x"), NONE])
    made = []
    for number, time_us in enumerate(times):
        slots = draw(st.sets(slot, max_size=2 * keys))
        order_us = draw(st.integers(0, 40_000)) if differ and draw(st.booleans()) else None
        time_us = draw(st.sampled_from([time_us, time_us // 1000 * 1000]))
        made.append(
            item_of(
                number,
                time_us,
                tuple((stage, (key,)) for stage, key in slots),
                order_us=order_us,
                tiebreaker=draw(ties),
            )
        )
    return sorted(made)


def ordered(query: EqlQuery, items: list[Item]) -> list[Item]:
    """Their slots as a program gives them."""
    if isinstance(query.top, EventFilter):
        return items
    positive = [n for n, stage in enumerate(query.top.stages) if not stage.is_missing]

    def place(slot: tuple[int, Any]) -> tuple[bool, int, Any]:
        return slot[0] not in positive, -slot[0], slot[1]

    return [
        item._replace(
            operand=(tuple(sorted(item.operand[0], key=place)), *item.operand[1:]),
        )
        for item in items
    ]


PIPES = st.lists(
    st.builds(Pipe, st.sampled_from(["head", "tail"]), st.integers(1, 4)), max_size=2
).map(tuple)
CAPS = st.one_of(st.none(), st.integers(1, 4))


def check(query: EqlQuery, items: list[Item], windows: list[Window], cap: int | None) -> None:
    items = ordered(query, items)
    runs = GivenRuns(windows)
    reach = {item.number: runs.ticks(item.time_us // 1000) for item in items}
    read = [item for item in items if reach[item.number][0] <= reach[item.number][1]]
    expected, capped = oracle(query, read, windows, cap=cap)
    given, operator = drive(query, items, windows, cap=cap)
    assert [set(each) for each in given] == expected
    assert [len(each) for each in given] == [len(each) for each in expected]
    assert (operator.capped, operator.evicted) == (capped, 0)


@settings(max_examples=150)
@given(st.data(), all_windows(), PIPES, CAPS, st.booleans())
def test_events_are_those_of_each_window(
    data: st.DataObject, windows: list[Window], pipes: Any, cap: int | None, differ: bool
) -> None:
    items = data.draw(all_items(0, differ=differ))
    check(EqlQuery(EventFilter(None, MATCH_ALL), pipes), items, windows, cap)


@settings(max_examples=300)
@given(st.data(), st.sampled_from(SHAPES), st.booleans(), all_windows(), PIPES, CAPS)
def test_sequences_are_those_of_each_window(
    data: st.DataObject,
    shape: str,
    until: bool,
    windows: list[Window],
    pipes: Any,
    cap: int | None,
) -> None:
    top = stages_of(shape, until=until, maxspan_ms=data.draw(st.integers(0, 12)))
    items = data.draw(all_items(len(top.stages), differ=data.draw(st.booleans())))
    check(EqlQuery(top, pipes), items, windows, cap)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 3), all_windows(), PIPES, CAPS)
def test_samples_are_those_of_each_window(
    data: st.DataObject, count: int, windows: list[Window], pipes: Any, cap: int | None
) -> None:
    items = data.draw(all_items(count - 1, differ=data.draw(st.booleans())))
    check(EqlQuery(sample_of(count), pipes), items, windows, cap)
