"""Suppression of query rules: against a reference that aggregates every run's whole window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operatorruns import drive, holds, item_of, items, time_ms, windows

from barrelman.detection.composite import SuppressedQuery
from barrelman.detection.finding import Finding, GroupValue, Item, Window
from barrelman.detection.runs import GivenRuns
from barrelman.records.fields import Catalogue, FieldType
from barrelman.rules.rule import AlertSuppression

OVERLAPPING = [Window(10, 0, 10), Window(20, 5, 20), Window(30, 15, 30)]
TOUCHING = [Window(10, 0, 10), Window(20, 10, 20), Window(30, 20, 30)]


def operator_of(
    runs: Sequence[Window],
    *,
    cap: int | None = 100,
    names: tuple[str, ...] = ("f",),
    duration_ms: int | None = None,
    strategy: str = "suppress",
    **more: Any,
) -> SuppressedQuery:
    suppression = AlertSuppression(names, duration_ms, strategy)
    return SuppressedQuery(GivenRuns(runs), suppression=suppression, rule_id="r", cap=cap, **more)


# --- the reference ---


@dataclass
class Written:
    """An alert as it is in the end."""

    tick_ms: int
    number: int
    key: tuple[Any, ...] | None = None
    start_ms: int = 0
    end_ms: int = 0
    docs_count: int = 0
    last_detected_ms: int | None = None

    @property
    def shown(self) -> tuple[Any, ...]:
        key = None if self.key is None else tuple(map(repr, self.key))
        return (
            *(self.tick_ms, self.number, key),
            *(self.start_ms, self.end_ms, self.docs_count, self.last_detected_ms),
        )


def values_of(group: GroupValue) -> list[Any]:
    return list(dict.fromkeys(group)) if isinstance(group, tuple) else [group]


def rank(key: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Missing first, then numbers, then texts."""
    return [() if value is None else (isinstance(value, str), value) for value in key]


@dataclass
class Search:
    """Run by run, with what Elastic remembers between them."""

    cap: int | None
    duration_ms: int | None
    strategy: str
    alerts: list[Written] = field(default_factory=list)
    history: list[tuple[tuple[Any, ...], int]] = field(default_factory=list)
    ordinary: set[int] = field(default_factory=set)
    read: set[int] = field(default_factory=set)
    counted: set[int] = field(default_factory=set)
    raisers: int = 0

    def is_out(self, item: Item) -> bool:
        assert item.groups is not None
        return any(
            time_ms(item) <= end_ms
            and all(value in values_of(g) for value, g in zip(key, item.groups, strict=True))
            for key, end_ms in self.history
        )

    def run(self, window: Window, matches: Sequence[Item]) -> None:
        self.history = [(key, end) for key, end in self.history if end >= window.from_ms]
        there = sorted(item for item in matches if holds(window, item))
        self.read |= {item.number for item in there}
        incomplete = [
            i for i in there if self.strategy == "doNotSuppress" and None in (i.groups or ())
        ]
        buckets: dict[tuple[Any, ...], list[Item]] = {}
        for item in there:
            if item in incomplete or self.is_out(item):
                continue
            for key in product(*map(values_of, item.groups or ())):
                buckets.setdefault(key, []).append(item)
        keys = sorted(buckets, key=rank)
        keys = keys if self.cap is None else keys[: self.cap + 1]
        raisers = set()
        for key in keys:
            self.history.append((key, time_ms(buckets[key][-1])))
            self.counted |= {item.number for item in buckets[key]}
            if self.write(window.tick_ms, key, buckets[key]):
                raisers.add(buckets[key][0].number)
        self.raisers += len(raisers)
        room = len(incomplete) if self.cap is None else max(self.cap - len(keys), 0)
        for item in [item for item in incomplete if item.number not in self.ordinary][:room]:
            self.ordinary.add(item.number)
            self.alerts.append(Written(window.tick_ms, item.number))

    def write(self, tick_ms: int, key: tuple[Any, ...], bucket: list[Item]) -> bool:
        end_ms = time_ms(bucket[-1])
        if self.duration_ms is not None:
            standing = [
                alert
                for alert in self.alerts
                if alert.key == key and alert.tick_ms >= tick_ms - self.duration_ms
            ]
            if standing:
                newest = standing[-1]
                if newest.end_ms < end_ms:
                    newest.docs_count += len(bucket)
                    newest.end_ms = end_ms
                    newest.last_detected_ms = tick_ms
                return False
        first = bucket[0]
        self.alerts.append(
            Written(tick_ms, first.number, key, time_ms(first), end_ms, len(bucket) - 1)
        )
        return True


def as_written(tick_ms: int, finding: Finding) -> tuple[Any, ...]:
    folded = finding.suppression
    tick_ms = tick_ms if finding.tick_ms is None else finding.tick_ms
    if folded is None:
        return Written(tick_ms, finding.number).shown
    return Written(
        tick_ms,
        finding.number,
        tuple(value for _, value in folded.terms),
        folded.start_ms,
        folded.end_ms,
        folded.docs_count,
        folded.last_detected_ms,
    ).shown


def in_order(shown: list[tuple[Any, ...]]) -> list[str]:
    return sorted(map(repr, shown))


@given(
    st.integers(1, 2).flatmap(lambda n: st.tuples(st.just(n), items(fields=n))),
    windows(),
    st.sampled_from([None, 1, 2, 4]),
    st.sampled_from([None, 1, 7, 30, 1000]),
    st.sampled_from(["suppress", "doNotSuppress"]),
    st.sampled_from([0, 7]),
)
@settings(max_examples=133)
def test_runs_fold_as_an_aggregation_of_each_window_would(
    drawn: tuple[int, list[Item]],
    runs: list[Window],
    cap: int | None,
    duration_ms: int | None,
    strategy: str,
    ahead_ms: int,
) -> None:
    fields, matches = drawn
    names = ("f", "g")[:fields]
    search = Search(cap, duration_ms, strategy)
    for window in runs:
        search.run(window, matches)
    operator = operator_of(runs, cap=cap, names=names, duration_ms=duration_ms, strategy=strategy)
    found = drive(operator, matches, runs, ahead_ms=ahead_ms)
    shown = [as_written(tick, finding) for tick, findings in found for finding in findings]
    shown += [as_written(0, finding) for finding in operator.finish()]
    assert in_order(shown) == in_order([alert.shown for alert in search.alerts])
    assert operator.suppressed == len(search.counted) - search.raisers
    assert operator.capped == len(search.read - search.counted - search.ordinary)
    assert (operator.known, operator.evicted) == (0, 0)
    assert len({f.alert_id for _, findings in found for f in findings}) == sum(
        len(findings) for _, findings in found
    )


@given(items(fields=1), windows(), st.sampled_from([1, 3]), st.sampled_from([None, 20]))
@settings(max_examples=100)
def test_a_run_alone_gives_what_it_gives_among_others(
    matches: list[Item], runs: list[Window], cap: int, duration_ms: int | None
) -> None:
    """A service makes an operator for each run, over the events that it reads."""
    whole = operator_of(runs, cap=cap)
    expected = [
        sorted(repr(finding) for finding in findings) for _, findings in drive(whole, matches, runs)
    ]
    memories: list[tuple[tuple[Any, ...], int]] = []
    given = []
    for window in runs:
        single = operator_of([window], cap=cap)
        for key, until_ms in memories:
            single.remember(key, until_ms)
        there = [item for item in matches if holds(window, item)]
        ((_, findings),) = drive(single, there, [window])
        given.append(sorted(repr(finding) for finding in findings))
        memories = single.memories()
    assert given == expected


# --- the surprising ones ---


def folded(
    operator: SuppressedQuery, matches: Sequence[Item], runs: Sequence[Window]
) -> list[tuple[Any, ...]]:
    """Tick, number of the first event, terms' values, start, end, docs_count of each alert."""
    return [
        as_written(tick, finding)[:-1]
        for tick, findings in drive(operator, matches, runs)
        for finding in findings
    ]


def test_a_bucket_is_one_alert_from_its_oldest_event() -> None:
    matches = [item_of(n, t, ("a",)) for n, t in ((1, 2), (2, 4), (3, 9))]
    operator = operator_of(TOUCHING)
    assert folded(operator, matches, TOUCHING) == [(10, 1, ("'a'",), 2, 9, 2)]
    assert (operator.suppressed, operator.capped) == (2, 0)


def test_an_event_of_two_windows_is_counted_once() -> None:
    matches = [item_of(1, 7, ("a",)), item_of(2, 12, ("a",)), item_of(3, 10, ("a",))]
    given = folded(operator_of(OVERLAPPING), sorted(matches), OVERLAPPING)
    assert given == [(10, 1, ("'a'",), 7, 10, 1), (20, 2, ("'a'",), 12, 12, 0)]


def test_at_the_border_of_windows_that_touch_an_event_is_the_first_ones() -> None:
    assert folded(operator_of(TOUCHING), [item_of(1, 10, ("a",))], TOUCHING) == [
        (10, 1, ("'a'",), 10, 10, 0)
    ]


def test_a_list_falls_into_each_of_its_buckets() -> None:
    """The event raises two alerts, and none of its values is counted again."""
    operator = operator_of(OVERLAPPING)
    matches = [item_of(1, 6, (("b", "a", "a"),)), item_of(2, 8, ("b",))]
    assert folded(operator, matches, OVERLAPPING) == [
        (10, 1, ("'a'",), 6, 6, 0),
        (10, 1, ("'b'",), 6, 8, 1),
    ]
    assert operator.suppressed == 1


def test_who_is_in_a_counted_bucket_is_counted_for_all_its_buckets() -> None:
    """The first run takes two buckets: in that of "z" the event with both values is lost."""
    matches = [item_of(1, 6, (("a", "z"),)), item_of(2, 7, ("b",)), item_of(3, 8, ("z",))]
    operator = operator_of(OVERLAPPING, cap=1)
    assert folded(operator, matches, OVERLAPPING) == [
        (10, 1, ("'a'",), 6, 6, 0),
        (10, 2, ("'b'",), 7, 7, 0),
        (20, 3, ("'z'",), 8, 8, 0),
    ]
    assert (operator.suppressed, operator.capped) == (0, 0)


@pytest.mark.parametrize(("cap", "raised", "capped"), [(1, 2, 3), (2, 3, 2), (4, 5, 0), (5, 5, 0)])
def test_a_run_takes_one_bucket_more_than_its_cap(cap: int, raised: int, capped: int) -> None:
    operator = operator_of(TOUCHING, cap=cap)
    matches = [item_of(n, 5, (f"v{n}",)) for n in range(5)]
    given = folded(operator, matches, TOUCHING)
    assert [number for _, number, *_ in given] == list(range(raised))
    assert operator.capped == capped


def test_buckets_are_taken_by_their_values_and_not_by_time() -> None:
    """Missing first, then numbers, then texts; alerts are written oldest first all the same."""
    values: list[GroupValue] = ["b", "a", 10, 9.5, None]
    matches = [item_of(n, n + 1, (value,)) for n, value in enumerate(values)]
    given = folded(operator_of(TOUCHING, cap=2), matches, TOUCHING)
    assert [number for _, number, *_ in given] == [2, 3, 4]


def test_addresses_are_in_the_order_of_their_numbers() -> None:
    catalogue = Catalogue(exact={"f": FieldType.IP})
    matches = [
        item_of(n, 5, (text,)) for n, text in enumerate(["10.0.0.1", "9.0.0.1", "100.0.0.1"])
    ]
    operator = operator_of(TOUCHING, cap=1, catalogue=catalogue)
    assert [number for _, number, *_ in folded(operator, matches, TOUCHING)] == [0, 1]


def test_of_two_fields_one_may_be_missing() -> None:
    matches = [item_of(1, 5, ("a", None)), item_of(2, 6, ("a", None)), item_of(3, 7, (None, "a"))]
    operator = operator_of(TOUCHING, names=("f", "g"))
    assert folded(operator, matches, TOUCHING) == [
        (10, 1, ("'a'", "None"), 5, 6, 1),
        (10, 3, ("None", "'a'"), 7, 7, 0),
    ]


def test_what_is_not_suppressed_gets_the_room_that_buckets_leave() -> None:
    operator = operator_of(OVERLAPPING, cap=3, strategy="doNotSuppress")
    matches = [item_of(n, n, (None,)) for n in (3, 4, 6, 7)] + [
        item_of(10, 8, ("a",)),
        item_of(11, 9, ("a",)),
    ]
    given = folded(operator, matches, OVERLAPPING)
    assert [(tick, number) for tick, number, *_ in given] == [
        (10, 3),
        (10, 4),
        (10, 10),
        (20, 6),
        (20, 7),
    ]
    assert (operator.capped, operator.suppressed) == (0, 1)


def test_buckets_beyond_the_cap_leave_no_room() -> None:
    operator = operator_of(TOUCHING, cap=1, strategy="doNotSuppress")
    matches = [item_of(1, 1, (None,)), item_of(2, 2, ("a",)), item_of(3, 3, ("b",))]
    assert [number for _, number, *_ in folded(operator, matches, TOUCHING)] == [2, 3]
    assert operator.capped == 1


def test_without_fields_read_a_match_is_an_ordinary_alert() -> None:
    operator = operator_of(TOUCHING)
    (given,) = folded(operator, [item_of(1, 1)], TOUCHING)
    assert given == (10, 1, None, 0, 0, 0)


def test_one_that_comes_late_is_the_next_runs_unless_its_bucket_was_counted() -> None:
    operator = operator_of(OVERLAPPING)
    operator.add(item_of(1, 8, ("a",)))
    operator.run(OVERLAPPING[0])
    operator.add(item_of(2, 7, ("a",)))
    operator.add(item_of(3, 2, ("b",)))
    operator.add(item_of(4, 9, ("a",)))
    numbers = [finding.number for finding in operator.run(OVERLAPPING[1])]
    assert numbers == [3, 4]
    assert operator.known == 1


def test_the_oldest_is_the_first_by_time_whatever_came_first() -> None:
    operator = operator_of(OVERLAPPING)
    for number, at_ms in ((1, 8), (2, 7), (3, 3), (4, 2), (5, 9)):
        operator.add(item_of(number, at_ms, ("a",)))
    (finding,) = operator.run(OVERLAPPING[0])
    assert as_written(10, finding) == (10, 4, ("'a'",), 2, 9, 4, None)


def test_what_was_counted_at_the_beginning_of_a_window_stays_counted() -> None:
    runs = [Window(10, 0, 10), Window(20, 10, 20), Window(30, 10, 30)]
    operator = operator_of(runs)
    operator.add(item_of(1, 10, ("a",)))
    assert len(operator.run(runs[0])) == 1
    operator.run(runs[1])
    operator.add(item_of(2, 10, ("a",)))
    assert operator.run(runs[2]) == []
    assert operator.known == 1


def test_a_flood_of_values_is_counted_and_not_kept() -> None:
    runs = [Window(10, 0, 10), Window(20, 5, 20)]
    operator = operator_of(runs, cap=3)
    for number in range(4000):
        value = f"v{(number * 7919) % 4000:04}"
        operator.add(item_of(number, 6, (value,)))
    assert operator._live < 200
    assert [len(findings) for _, findings in drive(operator, [], runs)] == [4, 4]
    assert operator.capped == 4000 - 8


def test_long_lists_make_no_more_buckets_than_are_taken() -> None:
    long = tuple(f"v{n:04}" for n in range(1000))
    operator = operator_of(TOUCHING, cap=2, names=("f", "g", "h"))
    given = folded(operator, [item_of(1, 5, (long, long, long))], TOUCHING)
    assert [key for _, _, key, *_ in given] == [
        ("'v0000'", "'v0000'", f"'v000{n}'") for n in range(3)
    ]
    operator = operator_of(TOUCHING, cap=None, names=("f", "g", "h"))
    assert len(folded(operator, [item_of(1, 5, (long, long, long))], TOUCHING)) == 10_000
    assert operator.evicted == 1000**3 - 10_000


def test_beyond_its_bound_the_oldest_groups_are_let_go() -> None:
    operator = operator_of(TOUCHING, cap=None, most_live=32)
    matches = [item_of(n, 5, (f"v{n}",)) for n in range(40)]
    given = folded(operator, matches, TOUCHING)
    assert [number for _, number, *_ in given] == list(range(operator.evicted, 40))
    assert len(given) <= 32


# --- by duration ---


def test_repeats_of_later_runs_are_folded_until_the_duration_is_over() -> None:
    """It counts from the run that raised the alert, its last millisecond included."""
    runs = [Window(t, t - 9, t) for t in (10, 20, 30, 40)]
    matches = [item_of(t, t, ("a",)) for t in (3, 12, 28, 35)]
    operator = operator_of(runs, duration_ms=20)
    found = drive(operator, matches, runs)
    assert [len(findings) for _, findings in found] == [0, 0, 0, 1]
    assert as_written(40, found[3][1][0]) == (10, 3, ("'a'",), 3, 28, 2, 30)
    (last,) = operator.finish()
    assert as_written(0, last) == (40, 35, ("'a'",), 35, 35, 0, None)
    assert operator.suppressed == 2


def test_on_a_pipe_an_alert_is_given_at_once_and_again() -> None:
    runs = [Window(t, t - 9, t) for t in (10, 20, 30)]
    operator = operator_of(runs, duration_ms=10)
    operator.add(item_of(1, 5, ("a",)))
    assert operator.run(runs[0]) == []
    (first,) = operator.go_live()
    assert as_written(0, first) == (10, 1, ("'a'",), 5, 5, 0, None)
    assert (operator.take_changed(), operator.go_live()) == ([], [])
    operator.add(item_of(2, 12, ("a",)))
    operator.add(item_of(3, 13, ("b",)))
    (second,) = operator.run(runs[1])
    assert as_written(20, second) == (20, 3, ("'b'",), 13, 13, 0, None)
    (changed,) = operator.take_changed()
    assert changed.alert_id == first.alert_id
    assert as_written(0, changed) == (10, 1, ("'a'",), 5, 12, 1, 20)
    operator.add(item_of(4, 22, ("a",)))
    (third,) = operator.run(runs[2])
    assert third.alert_id != first.alert_id
    assert (operator.take_changed(), operator.finish()) == ([], [])


def test_an_event_that_raises_two_alerts_gives_each_an_id() -> None:
    operator = operator_of(TOUCHING)
    ((_, findings), *_) = drive(operator, [item_of(1, 5, (("a", "b"),))], TOUCHING)
    assert len({finding.alert_id for finding in findings}) == 2
    assert len({f.suppression.instance_id for f in findings if f.suppression}) == 2
