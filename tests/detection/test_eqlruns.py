"""Runs of EQL rules: against what each window would give on its own, and case by case."""

from __future__ import annotations

import marshal
from collections.abc import Sequence as Ordered
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sequenceoracle import sample_of, samples_of, sequences_of, stages_of

from barrelman.detection.eqlruns import EqlOperator, eql_operand
from barrelman.detection.finding import Finding, Item, SequenceOf, Window
from barrelman.detection.runs import GivenRuns
from barrelman.engine.stages import Slots
from barrelman.query.ast import MATCH_ALL
from barrelman.query.eql import parse_eql
from barrelman.query.eqltree import EqlQuery, EventFilter, Pipe, Sequence
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue
from barrelman.records.times import parse_date_math
from barrelman.rules.rule import Rule

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


@settings(max_examples=80, deadline=None)
@given(st.data(), all_windows(), PIPES, CAPS, st.booleans())
def test_events_are_those_of_each_window(
    data: st.DataObject, windows: list[Window], pipes: Any, cap: int | None, differ: bool
) -> None:
    items = data.draw(all_items(0, differ=differ))
    check(EqlQuery(EventFilter(None, MATCH_ALL), pipes), items, windows, cap)


@settings(max_examples=140, deadline=None)
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


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 3), all_windows(), PIPES, CAPS)
def test_samples_are_those_of_each_window(
    data: st.DataObject, count: int, windows: list[Window], pipes: Any, cap: int | None
) -> None:
    items = data.draw(all_items(count - 1, differ=data.draw(st.booleans())))
    check(EqlQuery(sample_of(count), pipes), items, windows, cap)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(["A B", "A B !C"]), all_windows(), CAPS, st.randoms())
def test_the_order_in_which_events_come_does_not_matter_before_their_run(
    data: st.DataObject, shape: str, windows: list[Window], cap: int | None, random: Any
) -> None:
    top = stages_of(shape, maxspan_ms=10)
    items = ordered(EqlQuery(top), data.draw(all_items(len(top.stages), differ=False)))
    in_turn, _ = drive(EqlQuery(top), items, windows, cap=cap)
    runs = GivenRuns(windows)
    operator = EqlOperator(EqlQuery(top), runs=runs, cap=cap)
    waiting = [item for item in items if (ends := runs.ticks(item.time_us // 1000))[0] <= ends[1]]
    given = []
    for each in windows:
        now = [item for item in waiting if item.time_us // 1000 <= each.to_ms]
        waiting = waiting[len(now) :]
        random.shuffle(now)
        for item in now:
            operator.add(item)
        given.append(list(map(name_of, operator.run(each))))
    assert given == in_turn


# --- case by case --------------------------------------------------------------------------

A_B = EqlQuery(stages_of("A B"))
A: Slots = ((0, ()),)
B: Slots = ((1, ()),)


def at(number: int, time_ms: float, slots: Slots = (), **options: Any) -> Item:
    return item_of(number, round(time_ms * 1000), slots, **options)


def test_a_run_returns_the_newest_events() -> None:
    items = [at(n, n) for n in range(1, 6)]
    given, operator = drive(EVERY_EVENT, items, [window(0, 10)], cap=2)
    assert given == [["4", "5"]]
    assert operator.capped == 3


def test_what_the_first_run_leaves_no_later_run_takes() -> None:
    """It returns the newest of all that its window holds, those it has alerted among them."""
    items = [at(n, n) for n in range(1, 6)]
    given, operator = drive(EVERY_EVENT, items, [window(0, 5), window(1, 6)], cap=2)
    assert given == [["4", "5"], []]
    assert operator.capped == 3


def test_what_was_alerted_takes_room() -> None:
    items = [at(1, 4), at(2, 5), at(3, 6)]
    given, operator = drive(EVERY_EVENT, items, [window(0, 5), window(1, 6)], cap=2)
    assert given == [["1", "2"], ["3"]]
    assert operator.capped == 0


def test_without_a_cap_all_are_returned() -> None:
    given, operator = drive(EVERY_EVENT, [at(n, n) for n in range(500)], [window(0, 1000)])
    assert len(given[0]) == 500
    assert operator.capped == 0


def test_a_flood_is_counted_and_not_held() -> None:
    runs = GivenRuns([window(0, 100_000)])
    operator = EqlOperator(EVERY_EVENT, runs=runs, cap=10, most_live=200)
    for number in range(50_000):
        operator.add(at(number, number))
    assert [name_of(each) for each in operator.run(window(0, 100_000))] == [
        str(number) for number in range(49_990, 50_000)
    ]
    assert (operator.capped, operator.evicted) == (49_990, 0)


def test_more_than_is_held_is_said() -> None:
    runs = GivenRuns([window(0, 100_000)])
    operator = EqlOperator(EVERY_EVENT, runs=runs, cap=None, most_live=1000)
    for number in range(1600):
        operator.add(at(number, number))
    assert len(operator.run(window(0, 100_000))) + operator.evicted == 1600
    assert 0 < operator.evicted < 1000


def test_events_at_one_time_are_in_the_order_of_the_tiebreaker() -> None:
    """Numbers, then texts, then those without one: which comes last is the newest."""
    items = [
        at(1, 1),
        at(2, 1, tiebreaker=(1, "x")),
        at(3, 1, tiebreaker=(0, 7)),
        at(4, 1, tiebreaker=(0, 3)),
    ]
    for cap, expected in ((1, ["1"]), (2, ["1", "2"]), (3, ["1", "2", "3"])):
        given, _ = drive(EVERY_EVENT, items, [window(0, 1)], cap=cap)
        assert given == [expected]


def test_a_tiebreaker_decides_what_follows_what() -> None:
    later, sooner = (0, 2), (0, 1)
    items = [at(1, 1, B, tiebreaker=later), at(2, 1, A, tiebreaker=sooner)]
    assert drive(A_B, items, [window(0, 1)])[0] == [["2 1"]]
    items = [at(1, 1, B), at(2, 1, A)]
    assert drive(A_B, items, [window(0, 1)])[0] == [[]]


def test_order_is_by_another_field_than_the_window() -> None:
    """The window sees B first; by the field that orders them A comes before it."""
    items = [at(1, 1, B, order_us=9000), at(2, 2, A, order_us=8000)]
    assert drive(A_B, items, [window(0, 5)])[0] == [["2 1"]]


def test_a_sequence_lies_within_one_window() -> None:
    items = [at(1, 1, A), at(2, 12, B)]
    assert drive(A_B, items, [window(0, 10), window(11, 20)])[0] == [[], []]
    assert drive(A_B, items, [window(0, 10), window(1, 20)])[0] == [[], ["1 2"]]
    assert drive(A_B, items, [window(0, 10), window(2, 20)])[0] == [[], []]


def test_a_sequence_in_two_windows_is_alerted_once() -> None:
    items = [at(1, 5, A), at(2, 6, B)]
    assert drive(A_B, items, [window(0, 10), window(5, 15)])[0] == [["1 2"], []]


def test_the_newest_sequences_are_those_that_were_complete_last() -> None:
    by_key = [
        at(1, 1, ((0, ("x",)),)),
        at(2, 2, ((0, ("y",)),)),
        at(3, 3, ((1, ("y",)),)),
        at(4, 4, ((1, ("x",)),)),
    ]
    given, operator = drive(A_B, by_key, [window(0, 10)], cap=1)
    assert given == [["1 4"]]
    assert operator.capped == 1
    # In the next window the first of them has no place, and the other comes to its turn.
    given, operator = drive(A_B, by_key, [window(0, 10), window(2, 12)], cap=1)
    assert given == [["1 4"], ["2 3"]]
    assert operator.capped == 0


def test_events_joined_by_two_keys_are_one_alert() -> None:
    both = (("x",), ("y",))
    items = [at(1, 1, tuple((0, k) for k in both)), at(2, 2, tuple((1, k) for k in both))]
    given, operator = drive(A_B, items, [window(0, 10)], cap=1)
    assert given == [["1 2"]]
    assert operator.capped == 0


def test_a_run_does_not_see_forbidden_events_outside_its_window() -> None:
    leading = EqlQuery(stages_of("!A B", maxspan_ms=10))
    items = [at(1, 1, A), at(2, 5, B)]
    assert drive(leading, items, [window(0, 8)])[0] == [[]]
    assert drive(leading, items, [window(0, 8), window(2, 10)])[0] == [[], ["2"]]
    trailing = EqlQuery(stages_of("A !B", maxspan_ms=10))
    items = [at(1, 5, A), at(2, 9, B)]
    assert drive(trailing, items, [window(0, 10)])[0] == [[]]
    assert drive(trailing, items, [window(0, 8), window(1, 10)])[0] == [["1"], []]


class TestTrailing:
    """`[A] ![B]` with maxspan=10: a run every 5, over windows of 20."""

    QUERY = EqlQuery(stages_of("A !B", maxspan_ms=10))

    def found(self, times: dict[int, Slots], *, reach_ms: int = 20) -> list[int]:
        """The ends of the runs that alert, for events of a stage at times."""
        windows = [Window(end, end - reach_ms, end) for end in range(5, 60, 5)]
        operator = EqlOperator(self.QUERY, runs=GivenRuns(windows), cap=None, interval_ms=5)
        items = [at(number, *each) for number, each in enumerate(sorted(times.items()))]
        given = []
        for each in windows:
            for item in items:
                if each.to_ms - 5 < item.time_us // 1000 <= each.to_ms:
                    operator.add(item)
            given += [each.to_ms for _ in operator.run(each)]
        return given

    def test_a_run_that_cannot_know_leaves_it_to_the_next(self) -> None:
        assert self.found({7: A}) == [20]  # 17 is over then
        assert self.found({5: A}) == [15]  # it is over with 15, which the run reads

    def test_what_comes_in_time_refutes_it(self) -> None:
        assert self.found({7: A, 17: B}) == []
        assert self.found({7: A, 18: B}) == [20]

    def test_where_no_run_can_know_the_last_one_decides(self) -> None:
        assert self.found({7: A}, reach_ms=7) == [10]
        assert self.found({7: A, 9: B}, reach_ms=7) == []
        assert self.found({7: A, 12: B}, reach_ms=7) == [10]


def test_pipes_are_applied_to_each_window() -> None:
    items = [at(n, n) for n in range(1, 5)]
    head = EqlQuery(EVERY_EVENT.top, (Pipe("head", 1),))
    assert drive(head, items, [window(0, 4), window(2, 6)])[0] == [["1"], ["2"]]
    both = EqlQuery(EVERY_EVENT.top, (Pipe("head", 3), Pipe("tail", 1)))
    assert drive(both, items, [window(0, 4)])[0] == [["3"]]


def test_what_pipes_leave_out_is_not_capped() -> None:
    query = EqlQuery(EVERY_EVENT.top, (Pipe("tail", 3),))
    _, operator = drive(query, [at(n, n) for n in range(10)], [window(0, 10)], cap=2)
    assert operator.capped == 1


def test_findings_say_what_they_are_of() -> None:
    operator = EqlOperator(A_B, runs=GivenRuns([window(0, 10)]), cap=None)
    operator.add(at(7, 1, ((0, ("x", None)),)))
    operator.add(at(8, 2, ((1, ("x", None)),)))
    [finding] = operator.run(window(0, 10))
    assert finding.about == SequenceOf(("x", None))
    assert finding.payloads == (b"7", b"8")
    assert finding.order == (1000, 1000, 7)
    event = EqlOperator(EVERY_EVENT, runs=GivenRuns([window(0, 10)]), cap=None)
    event.add(at(7, 1)._replace(groups=("g",)))
    [alone] = event.run(window(0, 10))
    assert (alone.alert_id, alone.about, alone.groups) == ("7", None, ("g",))


# --- what comes late -----------------------------------------------------------------------


def late(windows: list[Window]) -> EqlOperator:
    return EqlOperator(A_B, runs=GivenRuns(windows), cap=None)


def test_a_late_event_gets_its_place() -> None:
    windows = [window(0, 10), window(5, 20)]
    operator = late(windows)
    operator.add(at(1, 8, B))
    operator.add(at(2, 9, A))
    assert operator.run(windows[0]) == []
    operator.add(at(3, 7, A))
    operator.add(at(4, 11, B))
    assert list(map(name_of, operator.run(windows[1]))) == ["3 1", "2 4"]


def test_a_late_event_that_no_window_holds_any_more_is_in_no_sequence() -> None:
    windows = [window(0, 10), window(11, 20)]
    operator = late(windows)
    assert operator.run(windows[0]) == []
    operator.add(at(1, 7, A))
    operator.add(at(2, 12, B))
    assert operator.run(windows[1]) == []


def test_a_late_single_event_is_the_next_runs() -> None:
    windows = [window(0, 10), window(11, 20), window(21, 30)]
    operator = EqlOperator(EVERY_EVENT, runs=GivenRuns(windows), cap=None)
    assert operator.run(windows[0]) == []
    operator.add(at(1, 7))
    assert list(map(name_of, operator.run(windows[1]))) == ["1"]
    assert operator.run(windows[2]) == []


def test_an_event_that_comes_behind_very_many_is_let_go() -> None:
    windows = [window(0, 100_000), window(0, 200_000)]
    operator = late(windows)
    for number in range(10_000):
        operator.add(at(number, number + 10, A))
    assert operator.run(windows[0]) == []
    operator.add(at(10_001, 1, A))
    operator.add(at(10_002, 100_001, B))
    assert list(map(name_of, operator.run(windows[1]))) == ["9999 10002"]
    assert operator.evicted == 1


def test_windows_may_begin_to_see_events_by_another_time() -> None:
    """And cease to: one machine serves all windows again, and nothing was lost between."""
    windows = [window(0, 10), window(5, 20), window(15, 30), window(25, 40)]
    runs = GivenRuns(windows)
    operator = EqlOperator(A_B, runs=runs, cap=None)
    given = []
    rounds = [
        [at(1, 8, A)],
        [at(2, 12, A, order_us=7000), at(3, 13, B)],
        [at(4, 22, A), at(5, 23, B)],
        [at(6, 31, A), at(7, 32, B)],
    ]
    for each, items in zip(windows, rounds, strict=True):
        for item in items:
            operator.add(item)
        given.append(list(map(name_of, operator.run(each))))
    assert given == [[], ["1 3"], ["4 5"], ["6 7"]]


# --- operands ------------------------------------------------------------------------------


def rule_of(query: str, **fields: Any) -> Rule:
    now = parse_date_math("now")
    return Rule(
        rule_id="r",
        type="eql",
        name="",
        description="",
        risk_score=1,
        severity="low",
        interval="5m",
        interval_ms=300_000,
        from_=now,
        to=now,
        eql=parse_eql(query),
        **fields,
    )


def operand_of(query: str, document: dict[str, Any], **fields: Any) -> Any:
    read = eql_operand(rule_of(query, **fields), catalogue=Catalogue())
    return read(Event(document, is_document=True), 0)


def test_operand_of_an_event_query() -> None:
    assert operand_of("any where true", {"a": 1}) == ((), None, NONE)


def test_operand_of_a_sequence() -> None:
    query = "sequence by k [any where a == 1] [any where a == 2]"
    assert operand_of(query, {"a": 1, "k": "x"}) == (((0, ("x",)),), None, NONE)
    assert operand_of(query, {"a": 1}) is None
    assert operand_of(query, {"a": 3, "k": "x"}) is None


def test_category_of_a_rule() -> None:
    query = "sequence [file where true] [process where true]"
    document = {"event": {"category": "file"}, "kind": "process"}
    assert operand_of(query, document)[0] == ((0, ()),)
    assert operand_of(query, document, event_category_override="kind")[0] == ((1, ()),)


def test_times_and_tiebreakers_of_a_rule() -> None:
    fields = {"timestamp_field": "t", "tiebreaker_field": "n"}
    document: dict[str, Any] = {"t": ["2025-01-02T00:00:00Z", "2025-01-01T00:00:00Z"], "n": [3, 2]}
    assert operand_of("any where true", document, **fields)[1:] == (1_735_689_600_000_000, (0, 2))
    assert operand_of("any where true", {"t": "x"}, **fields) is None
    assert operand_of("any where true", {"t": 1, "n": "x"}, **fields)[1:] == (1000, (1, "x"))
    assert operand_of("any where true", {"t": 1}, **fields)[2] == NONE
    assert operand_of("any where true", {}, timestamp_field="@timestamp") == ((), None, NONE)


def test_operands_are_plain_values() -> None:
    query = "sequence by ?k, ?l [any where true] [any where true]"
    operand = operand_of(query, {"k": [True, 1], "n": 1}, tiebreaker_field="n")
    assert marshal.loads(marshal.dumps(operand)) == operand
