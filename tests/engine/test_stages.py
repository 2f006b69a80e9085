"""Which stages an event meets, and the keys that join it."""

from __future__ import annotations

import marshal
from typing import Any

import pytest

from barrelman.engine.sample import SampleMachine
from barrelman.engine.sequence import SequenceMachine
from barrelman.engine.stages import LEFT_OUT, Slots, StageProgram, compile_stages, shown_keys
from barrelman.query.ast import MATCH_ALL, Is, Node, Or, Text
from barrelman.query.eqltree import EventFilter, FieldUse, Sample, Sequence, Stage
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldType


def is_(field: str, value: str) -> Node:
    return Is(Text(field), Text(value, quoted=True), exact=True)


def stage(node: Node = MATCH_ALL, *keys: str, category: str | None = None) -> Stage:
    uses = tuple(FieldUse(key.removeprefix("?"), key.startswith("?")) for key in keys)
    return Stage(EventFilter(category, node), uses)


def slots_of(program: StageProgram, document: dict[str, Any]) -> Slots:
    return program.slots(Event(document, is_document=True), 0)


def keys_of(
    document: dict[str, Any], *keys: str, kind: FieldType | None = None
) -> list[tuple[Any, ...]]:
    catalogue = Catalogue(exact={} if kind is None else {key.strip("?"): kind for key in keys})
    program = compile_stages(Sequence((stage(MATCH_ALL, *keys),)), catalogue)
    return [key for _, key in slots_of(program, document)]


def test_slots_are_those_of_the_stages_met_the_last_first() -> None:
    stages = (stage(is_("a", "1")), stage(is_("b", "1")), stage(is_("c", "1")))
    program = compile_stages(Sequence(stages), Catalogue())
    assert slots_of(program, {"a": "1", "c": "1"}) == ((2, ()), (0, ()))
    assert slots_of(program, {"a": "2"}) == ()


def test_missing_stages_and_until_come_behind() -> None:
    missing = Stage(EventFilter(None, is_("a", "1")), is_missing=True)
    query = Sequence((missing, stage(is_("a", "1")), stage(is_("a", "1"))), 1000, stage())
    program = compile_stages(query, Catalogue())
    assert [number for number, _ in slots_of(program, {"a": "1"})] == [2, 1, 0, 3]


def test_node_is_what_an_event_must_meet_to_matter() -> None:
    query = Sequence((stage(is_("a", "1")), stage(is_("a", "1"))), None, stage(is_("b", "1")))
    program = compile_stages(query, Catalogue())
    assert isinstance(program.node, Or)
    assert set(program.node.children) == {is_("a", "1"), is_("b", "1")}
    one = Sequence((stage(is_("a", "1")), stage(is_("a", "1"))))
    assert compile_stages(one, Catalogue()).node == is_("a", "1")


def test_category() -> None:
    stages = (stage(category="process"), stage(category="file"))
    document = {"event": {"category": ["process", "x"]}, "kind": "file"}
    assert slots_of(compile_stages(Sequence(stages), Catalogue()), document) == ((0, ()),)
    by_kind = compile_stages(Sequence(stages), Catalogue(), category_field="kind")
    assert slots_of(by_kind, document) == ((1, ()),)


KEYS = [
    pytest.param({"k": "x"}, ["k"], [("x",)], id="a value"),
    pytest.param({}, ["k"], [], id="none"),
    pytest.param({"k": None}, ["k"], [], id="null"),
    pytest.param({"k": []}, ["k"], [], id="an empty array"),
    pytest.param({}, ["?k"], [(None,)], id="none of an optional field"),
    pytest.param({"k": ["x", None, "y", "x"]}, ["k"], [("x",), ("y",)], id="an array"),
    pytest.param({"k": ["x", None]}, ["?k"], [("x",)], id="null in an array is skipped"),
    pytest.param({"k": [None]}, ["?k"], [(None,)], id="an array of null"),
    pytest.param({"k": "x", "l": ["1", "2"]}, ["k", "l"], [("x", "1"), ("x", "2")], id="product"),
    pytest.param({"k": "x"}, ["k", "l"], [], id="one of two"),
    pytest.param({"k": "x"}, ["k", "?l"], [("x", None)], id="one of two, optional"),
    pytest.param({"k": [1, 1.0, True, "1"]}, ["k"], [(1,), ((True,),), ("1",)], id="by value"),
]


@pytest.mark.parametrize(("document", "keys", "expected"), KEYS)
def test_keys(document: dict[str, Any], keys: list[str], expected: list[Any]) -> None:
    assert keys_of(document, *keys) == expected


TYPED = [
    pytest.param(FieldType.KEYWORD, [1, "1", True], [("1",), ("true",)], id="keyword"),
    pytest.param(FieldType.LONG, ["5", 5, 5.7, "x"], [(5,)], id="long"),
    pytest.param(FieldType.DOUBLE, ["5.5", 5.5, "x"], [(5.5,)], id="double"),
    pytest.param(FieldType.BOOLEAN, [True, "true", "x"], [((True,),)], id="boolean"),
    pytest.param(
        FieldType.IP,
        ["::ffff:10.0.0.1", "10.0.0.1", "FE80:0::1", "x"],
        [("10.0.0.1",), ("fe80::1",)],
        id="ip",
    ),
    pytest.param(
        FieldType.DATE,
        ["2025-01-01T00:00:00Z", "2025-01-01T01:00:00+01:00", "x"],
        [("2025-01-01T00:00:00.000Z",)],
        id="date",
    ),
]


@pytest.mark.parametrize(("kind", "values", "expected"), TYPED)
def test_keys_are_compared_as_their_type_says(
    kind: FieldType, values: list[Any], expected: list[Any]
) -> None:
    assert keys_of({"k": values}, "k", kind=kind) == expected


def test_keys_as_they_are_shown() -> None:
    assert shown_keys((1, (True,), None, "x")) == (1, True, None, "x")


def test_slots_are_plain_values() -> None:
    program = compile_stages(Sequence((stage(MATCH_ALL, "k", "?l"),)), Catalogue())
    slots = slots_of(program, {"k": [True, "x", 1.5]})
    assert marshal.loads(marshal.dumps(slots)) == slots


def test_long_arrays_do_not_multiply_without_end() -> None:
    many = {"k": list(range(2000)), "l": list(range(2000))}
    program = compile_stages(Sequence((stage(MATCH_ALL, "k", "l"),)), Catalogue())
    *slots, left_out = slots_of(program, many)
    assert len(slots) == 10_000
    assert left_out == (LEFT_OUT, (2000 * 2000 - 10_000,))


def test_one_long_array_is_not_cut_whatever_stands_beside_it() -> None:
    document = {"k": [str(n) for n in range(20_000)], "l": ["x"]}
    for names in (("k",), ("k", "l"), ("l", "k")):
        keys = keys_of(document, *names)
        assert len(keys) == 20_000
        assert "19999" in keys[-1]


def test_keys_that_were_left_out_are_counted_and_only_they() -> None:
    stages = stage(MATCH_ALL, "k", "l"), stage(MATCH_ALL, "k", "l")
    many, just = [{"k": list(range(n)), "l": list(range(n))} for n in (101, 100)]
    for query in (Sequence(stages), Sample(stages)):
        program = compile_stages(query, Catalogue())
        machine = SequenceMachine(query) if isinstance(query, Sequence) else SampleMachine(query)
        machine.feed(1, slots_of(program, just), None)
        assert machine.evicted == 0
        machine.feed(2, slots_of(program, many), None)
        assert machine.evicted == 101 * 101 - 10_000


def test_many_keys_of_several_stages_are_not_too_many() -> None:
    stages = stage(MATCH_ALL, "k"), stage(MATCH_ALL, "k")
    program = compile_stages(Sequence(stages), Catalogue())
    machine = SequenceMachine(Sequence(stages))
    machine.feed(1, slots_of(program, {"k": list(range(5000))}), None)
    assert machine.evicted == 0


def test_raw_events_and_documents_are_joined_alike() -> None:
    user = stage(MATCH_ALL, "user.name")
    program = compile_stages(Sequence((user, user)), AUDIT_CATALOGUE)
    raw = Event({"auditID": "1", "user": {"username": "jane"}})
    slots = program.slots(raw, 0)
    assert slots == ((1, ("jane",)), (0, ("jane",)))
    assert slots_of(program, {"user": {"name": "jane"}}) == slots


def test_samples_are_compiled_alike() -> None:
    program = compile_stages(
        Sample((stage(is_("a", "1"), "k"), stage(MATCH_ALL, "k"))), Catalogue()
    )
    assert slots_of(program, {"a": "1", "k": "x"}) == ((1, ("x",)), (0, ("x",)))
