"""The machine of sequences and that of samples, on events that are given as the stages they meet.

`A1 B3/x` is an event of stage A at one second, and one of stage B at three, joined by `x`;
`AB2` meets both. `U` is `until`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sequenceoracle import Fed, sample_of, samples_of, sequences_of, stages_of

from barrelman.engine.sample import SampleMachine, find_samples
from barrelman.engine.sequence import SequenceMachine, find_sequences
from barrelman.query.eqltree import Sequence


def events_of(text: str, query: Sequence) -> list[Fed]:
    """The events in the order in which they stand."""
    names = [chr(ord("A") + number) for number in range(len(query.stages))] + ["U"]
    positive = [n for n, stage in enumerate(query.stages) if not stage.is_missing]
    order = [*reversed(positive), *(n for n in range(len(names)) if n not in positive)]
    made: list[Fed] = []
    for each in text.split():
        name, _, keys = each.partition("/")
        letters = name.rstrip("0123456789.")
        at_ms = round(float(name[len(letters) :]) * 1000)
        slots = tuple(
            (stage, (key,) if key else ())
            for stage in order
            if names[stage] in letters
            for key in (keys.split(",") if keys else [""])
        )
        made.append((at_ms, slots, each))
    return made


def shown(query: Sequence, text: str) -> str:
    found = find_sequences(query, events_of(text, query))
    return " | ".join(" ".join(item or "-" for item in each.items) for each in found)


PLAIN = [
    pytest.param("A1 B2", "A1 B2", id="one after the other"),
    pytest.param("B1 A2", "", id="not the other way round"),
    pytest.param("A1 A2 B3", "A2 B3", id="a newer first event takes the older one's place"),
    pytest.param("A1 B2 B3", "A1 B2", id="a sequence that is complete does not wait any more"),
    pytest.param("A1 B2 A3 B4", "A1 B2 | A3 B4", id="again"),
    pytest.param("A1 B1", "A1 B1", id="equal times: in the order of arrival"),
    pytest.param("B1 A1", "", id="equal times, the other order"),
    pytest.param("AB1", "", id="no event takes two places of one sequence"),
    pytest.param("AB1 AB2 AB3", "AB1 AB2 | AB2 AB3", id="an event may serve two sequences"),
    pytest.param("A1/x B2/y B3/x", "A1/x B3/x", id="keys are joined"),
    pytest.param("A1/x,y B2/y B3/x", "A1/x,y B2/y | A1/x,y B3/x", id="one partial for each key"),
    pytest.param("A1/x,y B2/x,y", "A1/x,y B2/x,y | A1/x,y B2/x,y", id="one sequence for each key"),
]


@pytest.mark.parametrize(("events", "expected"), PLAIN)
def test_two_stages(events: str, expected: str) -> None:
    assert shown(stages_of("A B"), events) == expected


THREE = [
    pytest.param("A1 B2 C3", "A1 B2 C3", id="three"),
    pytest.param("A1 B2 A3 C4", "A1 B2 C4", id="a newer start does not disturb what went on"),
    pytest.param("A1 B2 A3 B4 C5", "A3 B4 C5", id="the latest wins at every stage"),
    pytest.param("A1 B2 B3 C4", "A1 B2 C4", id="a second B finds nothing to follow"),
    pytest.param("A1 B2 C3 C4", "A1 B2 C3", id="once"),
    pytest.param("A1 AB2 ABC3 ABC4", "A1 AB2 ABC3 | AB2 ABC3 ABC4", id="partly overlapping"),
    pytest.param("A1/x B2/x A3/y C4/x B5/y C6/y", "A1/x B2/x C4/x | A3/y B5/y C6/y", id="two keys"),
]


@pytest.mark.parametrize(("events", "expected"), THREE)
def test_three_stages(events: str, expected: str) -> None:
    assert shown(stages_of("A B C"), events) == expected


SPANS = [
    pytest.param("A1 B6", "A1 B6", id="just as long is within"),
    pytest.param("A1 B6.001", "", id="a millisecond more is not"),
    pytest.param("A1 B7 B8", "", id="what took too long is gone"),
    pytest.param("A1 A4 B8", "A4 B8", id="the span is that of the latest"),
]


@pytest.mark.parametrize(("events", "expected"), SPANS)
def test_maxspan(events: str, expected: str) -> None:
    assert shown(stages_of("A B", maxspan_ms=5000), events) == expected


def test_maxspan_is_from_the_first_event() -> None:
    query = stages_of("A B C", maxspan_ms=5000)
    assert shown(query, "A1 B5 C6") == "A1 B5 C6"
    assert shown(query, "A1 B5 C7") == ""
    assert shown(query, "A1 B2 A4 B8 C9") == "A4 B8 C9"


UNTIL = [
    pytest.param("A1 U2 B3", "", id="until between"),
    pytest.param("A1 U2 A3 B4", "A3 B4", id="until ends what came before it"),
    pytest.param("U1 A2 B3", "A2 B3", id="until before"),
    pytest.param("A1 B2 U3", "A1 B2", id="until after"),
    pytest.param("A1/x U2/y B3/x", "A1/x B3/x", id="until of another key"),
    pytest.param("AU1 B2", "AU1 B2", id="the first event is not between"),
    pytest.param("A1 BU2", "A1 BU2", id="the last event is not between"),
    pytest.param("A1 U1 B1", "", id="between at equal times"),
]


@pytest.mark.parametrize(("events", "expected"), UNTIL)
def test_until(events: str, expected: str) -> None:
    assert shown(stages_of("A B", until=True), events) == expected


def test_until_ends_every_stage() -> None:
    assert shown(stages_of("A B C", until=True), "A1 B2 U3 C4") == ""
    assert shown(stages_of("A B C", until=True), "A1 BU2 C4") == "A1 BU2 C4"


def test_runs() -> None:
    assert shown(stages_of("A*3"), "A1 A2") == ""
    assert shown(stages_of("A*3"), "A1 A2 A3") == "A1 A2 A3"
    assert shown(stages_of("A*3"), "A1 A2 A3 A4") == "A1 A2 A3 | A2 A3 A4"
    assert shown(stages_of("A*2 B"), "A1 A2 A3 B4 B5") == "A2 A3 B4"
    assert shown(stages_of("A B*2"), "A1 B2 A3 B4 B5") == "A1 B2 B4 | A3 B4 B5"
    assert shown(stages_of("A B*2 C"), "A1 B2 C3 B4 C5") == "A1 B2 B4 C5"


MIDDLE = [
    pytest.param("A1 C3", "A1 - C3", id="nothing between"),
    pytest.param("A1 B2 C3", "", id="something between"),
    pytest.param("A1 B2 C3 C4", "", id="what was refused is gone"),
    pytest.param("A1 B2 A3 C4", "A3 - C4", id="a later start is free of it"),
    pytest.param("B1 A2 C3 B4", "A2 - C3", id="before and after do not matter"),
    pytest.param("A1/x B2/y C3/x", "A1/x - C3/x", id="of another key"),
    pytest.param("AB1 C2", "AB1 - C2", id="the first event is not between"),
    pytest.param("A1 BC2", "A1 - BC2", id="the last event is not between"),
    pytest.param("A1 B1 C1", "", id="between at equal times"),
    pytest.param("A1 C1 B1", "A1 - C1", id="behind at equal times"),
]


@pytest.mark.parametrize(("events", "expected"), MIDDLE)
def test_missing_in_the_middle(events: str, expected: str) -> None:
    assert shown(stages_of("A !B C", maxspan_ms=10_000), events) == expected


def test_a_partial_that_dies_of_a_forbidden_event_leaves_others_alone() -> None:
    query = stages_of("A !B C D", maxspan_ms=10_000)
    assert shown(query, "A1 C2 A3 B4 C5 D6") == "A1 - C2 D6"
    assert shown(query, "A1 C2 B3 D4") == "A1 - C2 D4"


def test_several_in_the_middle() -> None:
    query = stages_of("A !B !C D", maxspan_ms=10_000)
    assert shown(query, "A1 D2") == "A1 - - D2"
    assert shown(query, "A1 B2 D3") == shown(query, "A1 C2 D3") == ""


def test_missing_before_a_stage_that_runs() -> None:
    query = stages_of("A !B C*2", maxspan_ms=10_000)
    assert shown(query, "A1 C2 C3") == "A1 - C2 C3"
    assert shown(query, "A1 C2 B2.5 C3") == "A1 - C2 C3"
    assert shown(query, "A1 B1.5 C2 C3") == ""


LEADING = [
    pytest.param("B10 C12", "- B10 C12", id="nothing before"),
    pytest.param("A7 B10 C12", "", id="just as far from the last event as the span is long"),
    pytest.param("A6.999 B10 C12", "- B10 C12", id="farther"),
    pytest.param("A9 B10 C12", "", id="right before"),
    pytest.param("A9 B14 C15", "- B14 C15", id="not in the span that ends with the last"),
    pytest.param("A9/x B10/y C12/y", "- B10/y C12/y", id="of another key"),
    pytest.param("AB10 C12", "- AB10 C12", id="the first event is not before itself"),
    pytest.param("A10 B10 C12", "", id="before at equal times"),
    pytest.param("B10 A10 C12", "- B10 C12", id="after the first at equal times"),
    pytest.param("B10 A11 C12", "- B10 C12", id="between does not matter"),
]


@pytest.mark.parametrize(("events", "expected"), LEADING)
def test_missing_at_the_start(events: str, expected: str) -> None:
    assert shown(stages_of("!A B C", maxspan_ms=5000), events) == expected


TRAILING = [
    pytest.param("A10 B12", "A10 B12 -", id="nothing after"),
    pytest.param("A10 B12 C15", "", id="just as far from the first event as the span is long"),
    pytest.param("A10 B12 C15.001", "A10 B12 -", id="farther"),
    pytest.param("A10/x B12/x C13/y", "A10/x B12/x -", id="of another key"),
    pytest.param("A10 BC12", "A10 BC12 -", id="the last event is not after itself"),
    pytest.param("A10 B12 C12", "", id="after at equal times"),
    pytest.param("A10 C12 B12", "A10 B12 -", id="before the last at equal times"),
    pytest.param("A1/x A3/y B4/y B5/x", "A3/y B4/y - | A1/x B5/x -", id="in the order of ends"),
]


@pytest.mark.parametrize(("events", "expected"), TRAILING)
def test_missing_at_the_end(events: str, expected: str) -> None:
    assert shown(stages_of("A B !C", maxspan_ms=5000), events) == expected


def test_what_ends_with_missing_is_given_once_it_is_known() -> None:
    query = stages_of("A B !C", maxspan_ms=5000)
    given_at: list[str] = []

    def feed() -> Iterator[Fed]:
        for each in events_of("A10 B12 U15 U15.001 U20", query):
            given_at.append(each[2])
            yield each

    assert next(find_sequences(query, feed())).items == ("A10", "B12", None)
    assert given_at[-1] == "U15.001"


BOTH = [
    pytest.param("B10 C12", "- B10 C12 -", id="nothing on either side"),
    pytest.param("A9 B10 C12", "- B10 C12 -", id="an interval that begins later is free"),
    pytest.param("B10 C12 D13", "- B10 C12 -", id="an interval that ends sooner is free"),
    pytest.param("A9 B10 C12 D14", "", id="as far apart as the span: none is free"),
    pytest.param("A9 B10 C12 D14.001", "- B10 C12 -", id="farther apart"),
    pytest.param("A10 B10 C12 D15", "", id="at equal times with the first"),
    pytest.param("B10 C12 D12", "- B10 C12 -", id="an interval that ends with the last"),
    pytest.param("A7 B10 C12 D12", "", id="as far before the last as the span"),
    pytest.param("A10 B10 C15 D15", "", id="as long as the span, with both at its ends"),
    pytest.param("A10 B10 C12 D15.001", "- B10 C12 -", id="an interval that begins at the first"),
]


@pytest.mark.parametrize(("events", "expected"), BOTH)
def test_missing_at_both_ends(events: str, expected: str) -> None:
    assert shown(stages_of("!A B C !D", maxspan_ms=5000), events) == expected


def test_one_positive_stage_before_a_missing_one() -> None:
    query = stages_of("A !B", maxspan_ms=5000)
    assert shown(query, "A1 B3 A10 A11 B16") == "A10 -"


# --- against the oracle --------------------------------------------------------------------

SHAPES = [
    "A B",
    "A B C",
    "A*3",
    "A*2 B*2",
    "A !B C",
    "A !B C D",
    "A !B !C D*2",
    "!A B C",
    "A B !C",
    "!A B C !D",
    "!A !B C !D E !F",
    "A !B",
]


@st.composite
def fed_events(draw: st.DrawFn, stages: int) -> list[Fed]:
    """Events in order, with ties, that meet any stages under any of a few keys."""
    times = sorted(draw(st.lists(st.integers(0, 30), max_size=40)))
    slot = st.tuples(st.integers(0, stages), st.sampled_from("xy"))
    made: list[Fed] = []
    for number, at_ms in enumerate(times):
        met = draw(st.sets(slot, max_size=3))
        made.append((at_ms, tuple((stage, (key,)) for stage, key in met), number))
    return made


def in_order(query: Sequence, events: list[Fed]) -> list[Fed]:
    """Their slots as a program gives them: the last positive stage first, the others behind."""
    positive = [n for n, stage in enumerate(query.stages) if not stage.is_missing]

    def place(slot: tuple[int, Any]) -> tuple[bool, int, Any]:
        return slot[0] not in positive, -slot[0], slot[1]

    return [(ms, tuple(sorted(slots, key=place)), item) for ms, slots, item in events]


@settings(max_examples=140, deadline=None)
@given(st.data(), st.sampled_from(SHAPES), st.booleans(), st.integers(0, 12))
def test_machine_equals_oracle(data: st.DataObject, shape: str, until: bool, span_ms: int) -> None:
    query = stages_of(shape, until=until, maxspan_ms=span_ms)
    events = in_order(query, data.draw(fed_events(len(query.stages))))
    found = [(each.key, each.items) for each in find_sequences(query, events)]
    assert sorted(found, key=repr) == sorted(sequences_of(query, events), key=repr)


@settings(max_examples=140, deadline=None)
@given(st.data(), st.sampled_from(SHAPES), st.booleans(), st.integers(0, 12))
def test_a_machine_answers_for_every_window(
    data: st.DataObject, shape: str, until: bool, span_ms: int
) -> None:
    """As one that was fed nothing but the window's events."""
    query = stages_of(shape, until=until, maxspan_ms=span_ms)
    events = in_order(query, data.draw(fed_events(len(query.stages))))
    machine = SequenceMachine(query)
    everything = [found for each in events for found in machine.feed(*each)]
    low, high = sorted(data.draw(st.tuples(st.integers(0, 30), st.integers(0, 30))))
    inside = [each for each in events if low <= each[0] <= high]
    assert [(each.key, each.items) for each in everything if each.holds(low, high)] == [
        (each.key, each.items) for each in find_sequences(query, inside)
    ]


@settings(deadline=None)
@given(st.data(), st.integers(1, 4))
def test_samples_equal_oracle(data: st.DataObject, count: int) -> None:
    query = sample_of(count)
    events = data.draw(fed_events(count - 1))
    found = [(each.key, each.items) for each in find_samples(query, events)]
    assert sorted(found, key=repr) == sorted(samples_of(query, events), key=repr)


def test_a_sample_takes_distinct_events_in_any_order() -> None:
    query = sample_of(2)
    only = ((0, ("x",)), (1, ("x",)))
    assert list(find_samples(query, [(1, only, "both")])) == []
    [found] = find_samples(query, [(1, only, "both"), (2, only[:1], "first")])
    assert found.items == ("first", "both")
    assert found.keys == ("x",)
    assert (found.first_ms, found.last_ms) == (1, 2)


# --- bounds --------------------------------------------------------------------------------


def test_state_is_no_larger_than_what_is_live() -> None:
    machine = SequenceMachine(stages_of("A B", maxspan_ms=1000))
    most = 0
    for number in range(100_000):
        machine.feed(number, ((0, (number,)),), None)
        most = max(most, machine.live)
    assert most < 10_000
    assert machine.evicted == 0


def test_the_oldest_make_room() -> None:
    machine = SequenceMachine(stages_of("A B"), most=5000)
    for number in range(50_000):
        machine.feed(number, ((0, (number,)),), None)
    assert machine.live <= 5000 + 1024
    assert machine.evicted >= 50_000 - 5000 - 1024
    assert machine.feed(50_000, ((1, (49_999,)),), None)
    assert not machine.feed(50_000, ((1, (7,)),), None)


def test_too_many_open_ends_are_let_go() -> None:
    machine = SequenceMachine(stages_of("A !B", maxspan_ms=10**9), most=5000)
    found = [each for n in range(20_000) for each in machine.feed(n, ((0, (n,)),), None)]
    assert machine.evicted > 0
    assert not found[0].holds()
    assert found[-1].holds()


class Thing:
    """An event that can be looked for in memory."""


@pytest.mark.parametrize("keys", [1, 100, 50_000])
def test_open_ends_are_held_no_longer_than_their_span(keys: int) -> None:
    machine = SequenceMachine(stages_of("A !B", maxspan_ms=1000))
    alive: weakref.WeakSet[Thing] = weakref.WeakSet()
    most = 0
    for number in range(50_000):
        thing = Thing()
        alive.add(thing)
        machine.feed(number * 1000, ((0, (number % keys,)),), thing)
        if not number % 1000:
            most = max(most, len(alive))
    assert most < 10_000
    assert machine.evicted == 0
    machine.expire(50_000_000)
    del thing
    assert not alive


def test_few_keys_hold_no_more_open_ends_than_many() -> None:
    machine = SequenceMachine(stages_of("A !B", maxspan_ms=10**9), most=5000)
    alive: weakref.WeakSet[Thing] = weakref.WeakSet()
    for number in range(20_000):
        thing = Thing()
        alive.add(thing)
        machine.feed(number, ((0, (number % 3,)),), thing)
    assert len(alive) < 5000 + 1024
    assert machine.evicted == 20_000 - len(alive)
    machine.expire(20_000)
    del thing
    assert not alive


def test_what_is_expired_is_no_longer_open_and_the_rest_is() -> None:
    machine = SequenceMachine(stages_of("A !B", maxspan_ms=10**9))
    (first,) = machine.feed(1, ((0, ("x",)),), None)
    (second,) = machine.feed(2, ((0, ("y",)),), None)
    (third,) = machine.feed(3, ((0, ("x",)),), None)
    machine.expire(3)
    machine.feed(4, ((1, ("x",)), (1, ("y",))), None)
    assert [each.trailing_ms for each in (first, second, third)] == [4, None, 4]


def test_expire_lets_go_of_what_ended_before() -> None:
    machine = SequenceMachine(stages_of("A B C"))
    machine.feed(1, ((0, ("x",)),), None)
    machine.feed(2, ((0, ("y",)),), None)
    machine.feed(3, ((1, ("y",)),), None)
    machine.expire(3)
    assert machine.live == 1


def test_samples_are_bounded() -> None:
    machine = SampleMachine(sample_of(2), most=100)
    for number in range(1000):
        machine.feed(number, ((0, (number,)),), None)
    assert machine.evicted == 900
