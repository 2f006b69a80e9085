from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.engine.decode import DecodeError, loads
from barrelman.engine.documents import Documents
from barrelman.engine.problem import Found, Problem
from barrelman.engine.scanner import Scanner, Status
from barrelman.records.event import Event


def event(name: str) -> dict[str, Any]:
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "auditID": name,
        "verb": "create",
        "user": {"username": 'a "quoted" {name}', "groups": ["x", "y"]},
        "objectRef": {"resource": "pods"},
    }


def line(name: str) -> str:
    return json.dumps(event(name))


def pretty(value: Any, indent: int = 2) -> str:
    return json.dumps(value, indent=indent)


def read(text: str, **options: Any) -> list[Found]:
    documents = Documents(max_event_bytes=options.pop("max_event_bytes", 1_000_000), **options)
    found: list[Found] = []
    for number, one in enumerate(text.encode().split(b"\n"), 1):
        found += documents.line(one, number)
    return found + documents.interrupt()


def outcome(found: list[Found]) -> list[tuple[int, str]]:
    """(line, auditID or kind of problem), by line."""
    return sorted(
        (one.line, one.body.get("auditID", "?") if isinstance(one, Event) else one.kind)
        for one in found
        if isinstance(one, Event | Problem)
    )


HEAD = "\n".join(pretty(event("torn")).split("\n")[:8])
EVENT_LIST = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}}

CASES: dict[str, tuple[str, list[tuple[int, str]]]] = {
    "one line": (line("a"), [(1, "a")]),
    "pretty": (pretty(event("a")), [(1, "a")]),
    "pretty without indent": (pretty(event("a"), 0), [(1, "a")]),
    "two pretty": (pretty(event("a")) + "\n" + pretty(event("b")), [(1, "a"), (17, "b")]),
    "pretty back to back": (pretty(event("a")) + pretty(event("b")), [(1, "a"), (16, "b")]),
    "blank lines inside": (pretty(event("a")).replace("\n", "\n\n"), [(1, "a")]),
    "carriage returns": (pretty(event("a")).replace("\n", "\r\n") + "\r\n", [(1, "a")]),
    "concatenated": (line("a") + line("b") + " " + line("c"), [(1, "a"), (1, "b"), (1, "c")]),
    "pretty list": (
        pretty({**EVENT_LIST, "items": [event("a"), event("b")]}),
        [(6, "a"), (22, "b")],
    ),
    "list of lines": (
        '{"kind":"EventList","items":[\n' + line("a") + ",\n" + line("b") + "\n]}\n" + line("c"),
        [(2, "a"), (3, "b"), (5, "c")],
    ),
    "list of lines, first on the opening line": (
        "[" + line("a") + ",\n" + line("b") + ",\n" + line("c") + "]\n" + line("d"),
        [(1, "a"), (2, "b"), (3, "c"), (4, "d")],
    ),
    "comma first": (
        "[\n" + line("a") + "\n," + line("b") + "\n,\n" + line("c") + "\n]",
        [(2, "a"), (3, "b"), (5, "c")],
    ),
    "lone brace": ("{\n" + line("a") + "\n" + line("b"), [(1, "malformed"), (2, "a"), (3, "b")]),
    "lone bracket": (
        "[\n" + line("a") + "\n" + line("b"),
        [(1, "malformed"), (2, "a"), (3, "b")],
    ),
    "unclosed array": (
        "[\n" + line("a") + ",\n" + line("b") + ",",
        [(1, "malformed"), (2, "a"), (3, "b")],
    ),
    "torn pretty head": (
        HEAD + "\n" + line("a") + "\n" + line("b"),
        [(1, "malformed"), (9, "a"), (10, "b")],
    ),
    "torn pretty head before a pretty event": (
        HEAD + "\n" + pretty(event("a")),
        [(1, "malformed"), (9, "a")],
    ),
    "a key without its value": (
        '{"user":\n' + line("a") + "\n" + line("b"),
        [(1, "malformed"), (2, "a"), (3, "b")],
    ),
    "broken in the middle": (
        pretty(event("x")).replace('"verb":', '"verb"') + "\n" + line("a"),
        [(1, "malformed"), (17, "a")],
    ),
    "broken element of a pretty array": (
        "[\n  "
        + pretty([event("x"), event("a")])[4:].replace('"verb":', '"verb"', 1)
        + "\n"
        + line("b"),
        [(1, "malformed"), (18, "a"), (35, "b")],
    ),
    "torn line": (line("x")[:60] + "\n" + line("a"), [(1, "malformed"), (2, "a")]),
    "torn line at the end": (line("a") + "\n" + line("x")[:60], [(1, "a"), (2, "malformed")]),
    "junk after a torn line": (
        '{"a":1,\nnot json\n42\n' + line("a"),
        [(1, "malformed"), (2, "malformed"), (3, "malformed"), (4, "a")],
    ),
    "text behind an event": (line("a") + " trailing", [(1, "a"), (1, "malformed")]),
    "text between events": (
        line("a") + " and " + line("b"),
        [(1, "a"), (1, "b"), (1, "malformed")],
    ),
    "tail of a torn event": ('ame":"x"}}' + line("a"), [(1, "a"), (1, "malformed")]),
    "torn array on one line": (
        "[" + line("a") + "," + line("b") + "," + line("c")[:30],
        [(1, "a"), (1, "b"), (1, "malformed")],
    ),
    "half a surrogate pair in one element": (
        "[" + line("a") + ',{"auditID":"\\ud800"},' + line("b") + "]",
        [(1, "a"), (1, "b"), (1, "\ufffd")],
    ),
    "Fluentd array over lines": (
        pretty([1700000000.5, {"log": line("a")}]),
        [(3, "a")],
    ),
    "empty lists": ('[]\n{"items":[]}\n{\n  "items": [\n  ]\n}', []),
}


@pytest.mark.parametrize("name", CASES)
def test_documents(name: str) -> None:
    text, expected = CASES[name]
    assert outcome(read(text)) == expected
    # Taking lists apart from the first element on finds the same.
    streamed = [what for _, what in outcome(read(text, stream_bytes=1))]
    assert sorted(streamed) == sorted(what for _, what in expected)


@pytest.mark.parametrize("cut", range(1, len(line("torn"))))
def test_an_event_glued_to_a_torn_one_is_rescued(cut: int) -> None:
    found = outcome(read(line("torn")[:cut] + line("a") + "\n" + line("b")))
    assert found == [(1, "a"), (1, "malformed"), (2, "b")]


@pytest.mark.parametrize("cut", range(1, len(pretty(event("torn")))))
def test_a_pretty_event_torn_anywhere_swallows_nothing(cut: int) -> None:
    head = pretty(event("torn"))[:cut]
    found = read(head + "\n" + line("a") + "\n" + pretty(event("b")) + "\n" + line("c"))
    names = [one.body["auditID"] for one in found if isinstance(one, Event)]
    assert names == ["a", "b", "c"]
    assert [one.line for one in found if isinstance(one, Problem)] == [1]


@pytest.mark.parametrize(
    "text",
    ["[", "{", '{"a":', '{"a":[', "  [", '[{"a":1},', '{\n"', '{"a":1,\n  {', '[\n["a",'],
)
def test_torn_input_costs_a_bounded_factor(text: str) -> None:
    count = 20_000
    documents = Documents(max_event_bytes=1_000_000)
    lines = (text + "\n").encode() * (count // (1 + text.count("\n")))
    for number, one in enumerate(lines.split(b"\n"), 1):
        documents.line(one, number)
    documents.interrupt()
    assert documents.reread_lines <= 4 * count + 2048


@pytest.mark.parametrize("text", ['{"', '{"a":', '{"a":1{', '{"a":"{"', "[{", "}{"])
def test_one_torn_line_is_reported_once(text: str) -> None:
    found = outcome(read(text * 20_000 + "\n" + line("a")))
    assert [what for _, what in found] == ["malformed", "a"]


FRAGMENTS = st.sampled_from(
    [
        "{",
        "[",
        "}",
        "]",
        ",",
        '"kind": "Event",',
        '{"a":',
        '  "b": [',
        "  },",
        "null",
        '"x"',
        "text",
    ]
)


@given(st.lists(FRAGMENTS | st.integers(0, 150), max_size=12), st.booleans())
@settings(deadline=None, max_examples=150)
def test_whole_lines_always_come_out_once(parts: list[str | int], commas: bool) -> None:
    """A number stands for a whole event, preceded by torn lines of any kind."""
    lines, expected = [], []
    for position, part in enumerate(parts):
        if isinstance(part, int):
            name = f"e{position}"
            expected.append(name)
            lines.append(line(name) + ("," if commas else ""))
        else:
            lines.append(part)
    found = read("\n".join(lines))
    assert [one.body["auditID"] for one in found if isinstance(one, Event)] == expected
    for one in found:
        assert 1 <= one.line <= len(lines)


JSON_BITS = st.sampled_from(
    [
        *'{}[],:"',
        '"a"',
        '"\\u00e9"',
        "\\",
        "1",
        "-",
        "0",
        ".5",
        "e1",
        "true",
        "nul",
        "null",
        " ",
        "\n",
    ]
)


@given(st.lists(JSON_BITS, max_size=14).map("".join), st.integers(1, 5))
@settings(deadline=None, max_examples=250)
def test_the_scanner_agrees_with_the_decoder(text: str, step: int) -> None:
    data = text.encode()
    try:
        loads(data)
        is_json = True
    except DecodeError:
        is_json = False
    is_container = text.lstrip()[:1] in ("{", "[")
    scanner, buffer = Scanner(), bytearray()
    for at in range(0, len(data), step):
        buffer += data[at : at + step]
        scanner.scan(buffer)
    is_done = scanner.status is Status.DONE and not buffer[scanner.position :].strip(b" \n")
    assert is_done == (is_json and is_container)
    whole = Scanner()
    whole.scan(bytearray(data))
    assert (whole.status, whole.spans) == (scanner.status, scanner.spans)


SMALL_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 99)
    | st.floats(0, 1)
    | st.text('a"\\é{', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["a", "items", "hits", "records", "{"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(SMALL_JSON, st.sampled_from([None, 0, 2]), st.integers(1, 9))
@settings(deadline=None, max_examples=133)
def test_the_scanner_finds_the_elements(value: Any, indent: int | None, step: int) -> None:
    data = json.dumps({"x": 1, "items": [value, value], "y": value}, indent=indent).encode()
    scanner, buffer = Scanner(), bytearray()
    for at in range(0, len(data), step):
        buffer += data[at : at + step]
        scanner.scan(buffer)
    assert scanner.status is Status.DONE
    assert [loads(buffer[start:end]) for start, end in scanner.spans] == [value, value]


def steps_to_read(text: str) -> int:
    """How many lines of our code ran: work that no clock has a say in."""
    steps = 0

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        nonlocal steps
        steps += what == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        read(text)
    finally:
        sys.settrace(previous)
    return steps


@pytest.mark.parametrize(
    "make",
    [
        lambda count: pretty([event("a")] * count),
        lambda count: "[\n1\n" + ",\n1\n" * count + "]",
        lambda count: "[\n" + "1,\n" * count,
        lambda count: "{}" * count,
        lambda count: "[" + "1,{}," * count + "1]",
    ],
)
def test_the_work_grows_as_the_input_does(make: Callable[[int], str]) -> None:
    assert steps_to_read(make(400)) < 2.3 * steps_to_read(make(200))


def test_lines_are_remembered_in_a_few_bytes() -> None:
    text = '{"a":[\n' + "1,\n" * 30_000 + "1]}"
    lines = text.encode().split(b"\n")
    documents = Documents(max_event_bytes=1_000_000)
    tracemalloc.start()
    try:
        for number, one in enumerate(lines[:-1], 1):
            documents.line(one, number)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 30 * len(lines)
