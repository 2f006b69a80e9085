"""Folding what runs find: against a reference that looks at every run's whole window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operatorruns import drive, holds, items, time_ms, windows

from barrelman.detection.finding import (
    Finding,
    Holding,
    Item,
    NewTerms,
    SequenceOf,
    ThresholdResult,
    Window,
)
from barrelman.detection.match import pack
from barrelman.detection.newest import Newest
from barrelman.detection.runs import GivenRuns
from barrelman.detection.suppression import Suppressor, candidate_cap
from barrelman.records.event import Event
from barrelman.rules.rule import AlertSuppression

OVERLAPPING = [Window(10, 0, 10), Window(20, 5, 20), Window(30, 15, 30)]
APART = [Window(t, t - 9, t) for t in (10, 20, 30, 40)]


class Scripted:
    """An operator whose findings are known beforehand, run by run."""

    def __init__(self, *found: list[Finding]) -> None:
        self.capped = self.suppressed = self.evicted = 0
        self._found = iter(found)

    def add(self, item: Item) -> None:
        raise AssertionError

    def run(self, window: Window) -> list[Finding]:
        return next(self._found, [])


def finding_at(number: int, at_ms: int, **more: Any) -> Finding:
    time_us = at_ms * 1000
    return Finding(f"id{number}", time_us, time_us, number, (b"",), **more)


def suppressor_of(
    inner: Any,
    *,
    cap: int | None = 100,
    names: tuple[str, ...] = ("f",),
    duration_ms: int | None = None,
    strategy: str = "suppress",
) -> Suppressor:
    suppression = AlertSuppression(names, duration_ms, strategy)
    return Suppressor(inner, suppression=suppression, rule_id="r", cap=cap)


@dataclass
class Written:
    """An alert as it is in the end."""

    tick_ms: int
    identity: str
    groups: tuple[Any, ...] | None = None
    start_ms: int = 0
    end_ms: int = 0
    docs_count: int = 0
    last_detected_ms: int | None = None

    @property
    def shown(self) -> tuple[Any, ...]:
        span = self.start_ms, self.end_ms, self.docs_count, self.last_detected_ms
        return (self.tick_ms, self.identity, self.groups, *span)


def as_written(tick_ms: int, finding: Finding) -> tuple[Any, ...]:
    folded = finding.suppression
    tick_ms = tick_ms if finding.tick_ms is None else finding.tick_ms
    if folded is None:
        return Written(tick_ms, finding.alert_id).shown
    return Written(
        tick_ms,
        finding.alert_id,
        tuple(value for _, value in folded.terms),
        folded.start_ms,
        folded.end_ms,
        folded.docs_count,
        folded.last_detected_ms,
    ).shown


def shown(operator: Suppressor, runs: Sequence[Window]) -> list[tuple[Any, ...]]:
    """All alerts in the end."""
    given = [
        as_written(tick, finding)
        for tick, findings in drive(operator, [], runs)
        for finding in findings
    ]
    return given + [as_written(0, finding) for finding in operator.finish()]


@dataclass
class Search:
    """Run by run: candidates oldest first, folded, and looked up among the alerts there are."""

    cap: int | None
    duration_ms: int | None
    strategy: str
    alerts: list[Written] = field(default_factory=list)
    settled: set[int] = field(default_factory=set)
    read: set[int] = field(default_factory=set)
    raised: int = 0

    def run(self, window: Window, matches: Sequence[Item]) -> None:
        there = sorted(item for item in matches if holds(window, item))
        self.read |= {item.number for item in there}
        new = [item for item in there if item.number not in self.settled]
        new = new if self.cap is None else new[: 5 * self.cap]
        groups: dict[Any, list[Item]] = {}
        for item in new:
            alone = self.strategy == "doNotSuppress" and None in (item.groups or ())
            groups.setdefault(item.number if alone else item.groups, []).append(item)
        room = self.cap
        for key, members in groups.items():
            numbers = {item.number for item in members}
            if not isinstance(key, int) and self.is_folded(window.tick_ms, members):
                self.settled |= numbers
                continue
            if room == 0:
                continue
            room = None if room is None else room - 1
            self.settled |= numbers
            self.raised += 1
            alert = Written(window.tick_ms, members[0].identity)
            if not isinstance(key, int):
                alert.groups = members[0].groups
                alert.start_ms, alert.end_ms = time_ms(members[0]), time_ms(members[-1])
                alert.docs_count = len(members) - 1
            self.alerts.append(alert)

    def is_folded(self, tick_ms: int, members: list[Item]) -> bool:
        if self.duration_ms is None:
            return False
        for alert in reversed(self.alerts):
            if alert.groups == members[0].groups:
                if alert.tick_ms < tick_ms - self.duration_ms:
                    return False
                if alert.end_ms < time_ms(members[-1]):
                    alert.docs_count += len(members)
                    alert.end_ms = time_ms(members[-1])
                    alert.last_detected_ms = tick_ms
                return True
        return False


@given(
    st.integers(1, 2).flatmap(lambda n: st.tuples(st.just(("f", "g")[:n]), items(fields=n))),
    windows(),
    st.sampled_from([None, 1, 2, 4]),
    st.sampled_from([None, 1, 7, 30, 1000]),
    st.sampled_from(["suppress", "doNotSuppress"]),
)
@settings(max_examples=133)
def test_runs_fold_as_a_search_of_each_window_would(
    drawn: tuple[tuple[str, ...], list[Item]],
    runs: list[Window],
    cap: int | None,
    duration_ms: int | None,
    strategy: str,
) -> None:
    names, matches = drawn
    search = Search(cap, duration_ms, strategy)
    for window in runs:
        search.run(window, matches)
    inner = Newest(GivenRuns(runs), cap=candidate_cap(cap), oldest_first=True)
    operator = suppressor_of(
        inner, cap=cap, names=names, duration_ms=duration_ms, strategy=strategy
    )
    found = drive(operator, matches, runs)
    given = [as_written(tick, finding) for tick, findings in found for finding in findings]
    given += [as_written(0, finding) for finding in operator.finish()]
    expected = [alert.shown for alert in search.alerts]
    assert sorted(map(repr, given)) == sorted(map(repr, expected))
    assert operator.suppressed == len(search.settled) - search.raised
    assert operator.capped == len(search.read - search.settled)
    assert isinstance(operator, Holding)


# --- the surprising ones ---


def test_the_first_of_a_group_is_its_alert() -> None:
    found = [finding_at(n, t, groups=("a",)) for n, t in ((3, 9), (1, 4), (2, 4))]
    operator = suppressor_of(Scripted(found))
    assert shown(operator, APART) == [(10, "id1", ("a",), 4, 9, 2, None)]
    assert operator.suppressed == 2


def test_a_list_is_one_value() -> None:
    values = (("a", "b"), "a", ("a", "b"), "b")
    found = [finding_at(n, n + 1, groups=(value,)) for n, value in enumerate(values)]
    assert shown(suppressor_of(Scripted(found)), APART) == [
        (10, "id0", (("a", "b"),), 1, 3, 1, None),
        (10, "id1", ("a",), 2, 2, 0, None),
        (10, "id3", ("b",), 4, 4, 0, None),
    ]


def test_a_text_is_no_number() -> None:
    found = [finding_at(n, n + 1, groups=(value,)) for n, value in enumerate(("1", 1, None, "-"))]
    assert [docs for *_, docs, _ in shown(suppressor_of(Scripted(found)), APART)] == [0] * 4


@pytest.mark.parametrize(("strategy", "counts"), [("suppress", [1]), ("doNotSuppress", [0, 0])])
def test_missing_values_are_a_group_or_are_not_folded(strategy: str, counts: list[int]) -> None:
    found = [finding_at(n, n + 1, groups=("a", None)) for n in range(2)]
    operator = suppressor_of(Scripted(found), names=("f", "g"), strategy=strategy)
    given = shown(operator, APART)
    assert [docs_count for *_, docs_count, _ in given] == counts
    assert [each[2] for each in given] == ([("a", None)] if strategy == "suppress" else [None] * 2)


def test_findings_of_one_run_are_not_folded_into_the_next_ones_without_a_duration() -> None:
    found = [[finding_at(n, n, groups=("a",))] for n in (5, 15)]
    assert [each[:2] for each in shown(suppressor_of(Scripted(*found)), APART)] == [
        (10, "id5"),
        (20, "id15"),
    ]


def test_groups_beyond_the_cap_wait_for_a_run_that_still_reads_them() -> None:
    found = [finding_at(n, t, groups=(v,)) for n, t, v in ((1, 2, "a"), (2, 3, "b"), (3, 8, "b"))]
    found.append(finding_at(4, 9, groups=("a",)))
    operator = suppressor_of(Scripted(found), cap=1)
    assert shown(operator, OVERLAPPING) == [
        (10, "id1", ("a",), 2, 9, 1, None),
        (20, "id3", ("b",), 8, 8, 0, None),
    ]
    assert (operator.suppressed, operator.capped) == (1, 1)


def test_no_more_than_five_times_the_cap_is_looked_at() -> None:
    found = [finding_at(n, 6, groups=("a",)) for n in range(7)]
    operator = suppressor_of(Scripted(found), cap=1)
    assert shown(operator, OVERLAPPING[:1]) == [(10, "id0", ("a",), 6, 6, 4, None)]
    assert (operator.suppressed, operator.capped) == (4, 2)
    again = suppressor_of(Scripted(found), cap=1)
    assert [each[-2] for each in shown(again, OVERLAPPING)] == [4, 1]


def test_new_terms_that_a_run_had_no_room_for_must_still_be_new() -> None:
    """At the very beginning of a window they are of its past."""
    about = NewTerms(("x",))
    for at_ms, ticks in ((5, [10]), (6, [10, 20])):
        found = [finding_at(n, at_ms, groups=(n,), about=about) for n in (1, 2)]
        operator = suppressor_of(Scripted(found), cap=1)
        assert [tick for tick, *_ in shown(operator, OVERLAPPING)] == ticks
        assert operator.capped == 2 - len(ticks)


# --- by duration ---


def test_the_duration_begins_with_the_alert_and_repeats_do_not_lengthen_it() -> None:
    found = [[finding_at(t, t, groups=("a",))] for t in (5, 15, 25, 35)]
    assert shown(suppressor_of(Scripted(*found), duration_ms=20), APART) == [
        (10, "id5", ("a",), 5, 25, 2, 30),
        (40, "id35", ("a",), 35, 35, 0, None),
    ]


def test_repeats_need_no_room() -> None:
    found = [
        [finding_at(t, t, groups=(v,)) for t, v in each]
        for each in ([(5, "a")], [(15, "a"), (16, "b"), (17, "a"), (18, "c")])
    ]
    operator = suppressor_of(Scripted(*found), cap=1, duration_ms=50)
    assert shown(operator, APART) == [
        (10, "id5", ("a",), 5, 17, 2, 20),
        (20, "id16", ("b",), 16, 16, 0, None),
    ]
    assert (operator.suppressed, operator.capped) == (2, 1)


def test_what_ends_no_later_than_the_alert_was_counted_before() -> None:
    found = [[finding_at(1, 8, groups=("a",))], [finding_at(2, 8, groups=("a",))]]
    operator = suppressor_of(Scripted(*found), duration_ms=50)
    assert shown(operator, OVERLAPPING) == [(10, "id1", ("a",), 8, 8, 0, None)]
    assert operator.suppressed == 1


def test_live_alerts_are_given_at_once_and_again() -> None:
    found = [[finding_at(t, t, groups=("a",))] for t in (5, 15, 25, 35)]
    operator = suppressor_of(Scripted(*found), duration_ms=20)
    assert operator.go_live() == []
    (first,) = operator.run(APART[0])
    assert operator.take_changed() == []
    assert operator.run(APART[1]) == []
    (changed,) = operator.take_changed()
    assert as_written(0, changed) == (10, "id5", ("a",), 5, 15, 1, 20)
    assert operator.run(APART[2]) == []
    # Its time is over before anyone asked: the last change is told all the same.
    (second,) = operator.run(APART[3])
    assert [as_written(0, each) for each in operator.take_changed()] == [
        (10, "id5", ("a",), 5, 25, 2, 30)
    ]
    assert (first.alert_id, second.alert_id) == ("id5", "id35")
    assert (operator.finish(), operator.take_changed()) == ([], [])


# --- thresholds and sequences ---


def threshold_at(number: int, first_ms: int, last_ms: int, count: int) -> Finding:
    about = ThresholdResult(count, 0, last_ms, (("g", "x"),), first_ms=first_ms)
    return finding_at(number, last_ms, about=about)


def test_a_threshold_is_folded_by_its_terms_and_counts_its_events() -> None:
    found = [[threshold_at(1, 2, 8, 5)], [threshold_at(2, 12, 18, 3)]]
    operator = suppressor_of(Scripted(*found), names=(), duration_ms=50)
    assert shown(operator, APART) == [(10, "id1", ("x",), 2, 18, 7, 20)]


def test_a_threshold_without_fields_is_one_group() -> None:
    about = ThresholdResult(5, 0, 8, (), first_ms=2)
    found = [[finding_at(n, 8 + 10 * n, about=about)] for n in range(2)]
    operator = suppressor_of(Scripted(*found), names=(), duration_ms=50)
    assert len(shown(operator, APART)) == 1


def sequence_of(number: int, at_ms: int, *users: object) -> Finding:
    events = [Event({"user": {"name": user}}, is_document=True) for user in users]
    payloads = tuple(pack(f"e{n}", event) for n, event in enumerate(events))
    finding = finding_at(number, at_ms, about=SequenceOf(()))
    finding.payloads = payloads
    return finding


@pytest.mark.parametrize(
    ("users", "value"),
    [
        (("ann", "ann"), "ann"),
        (("ann", "bob"), None),
        (("ann", None), None),
        ((["ann", "bob"], ["cyd", "bob", "ann"]), ("ann", "bob")),
        ((["ann", "bob"], ["bob"]), "bob"),
        ((1, "1"), None),
    ],
)
def test_a_sequence_is_folded_by_what_its_events_share(
    users: tuple[object, ...], value: object
) -> None:
    operator = suppressor_of(Scripted([sequence_of(1, 5, *users)]), names=("user.name",))
    (alert,) = shown(operator, APART)
    assert alert == (10, "id1", (value,), 5, 5, 0, None)


def test_sequences_whose_events_share_nothing_are_not_folded_where_the_rule_says_so() -> None:
    found = [sequence_of(n, 5 + n, "ann", "bob") for n in range(2)]
    operator = suppressor_of(Scripted(found), names=("user.name",), strategy="doNotSuppress")
    assert [groups for _, _, groups, *_ in shown(operator, APART)] == [None, None]
    found = [sequence_of(n, 5 + n, "ann", "ann") for n in range(2)]
    operator = suppressor_of(Scripted(found), names=("user.name",), strategy="doNotSuppress")
    assert [docs_count for *_, docs_count, _ in shown(operator, APART)] == [1]


def test_sequences_beyond_the_cap_never_come_again() -> None:
    found = [sequence_of(n, 9, f"u{n}") for n in range(3)]
    operator = suppressor_of(Scripted(found), cap=1, names=("user.name",))
    assert len(shown(operator, OVERLAPPING)) == 1
    assert operator.capped == 2
