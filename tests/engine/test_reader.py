from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.engine.decode import dumps, loads
from barrelman.engine.reader import EventOrProblem, EventReader
from barrelman.records.event import Event

TIME = "2026-11-23T07:06:00.123456789Z"


def event(name: str) -> dict[str, Any]:
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "auditID": name,
        "verb": "create",
        "user": {"username": 'a "quoted" näme', "groups": ["x", "y"]},
        "requestObject": {"spec": {"hostIPC": True}},
    }


def line(name: str) -> str:
    return json.dumps(event(name), ensure_ascii=False)


def cri(text: str, *, mark: str = "F", stream: str = "stdout") -> str:
    return "\n".join(f"{TIME} {stream} {mark} {one}" for one in text.split("\n"))


def docker(text: str, *, end: str = "\n", stream: str = "stdout") -> str:
    return "\n".join(
        json.dumps({"log": one + end, "stream": stream, "time": TIME}) for one in text.split("\n")
    )


def read(data: str | bytes, *, step: int = 0, **options: Any) -> list[EventOrProblem]:
    raw = data.encode() if isinstance(data, str) else data
    reader = EventReader(**options)
    found: list[EventOrProblem] = []
    for at in range(0, len(raw), step or len(raw) or 1):
        found += reader.feed(raw[at : at + (step or len(raw))])
    found += reader.finish()
    counts = reader.counts
    assert counts.events == sum(isinstance(one, Event) for one in found)
    problems = sum(one.count for one in found if not isinstance(one, Event))
    assert counts.malformed + counts.foreign + counts.gke == problems
    return found


def outcome(found: list[EventOrProblem]) -> list[tuple[int, str]]:
    return sorted(
        (one.line, one.body.get("auditID", "?") if isinstance(one, Event) else one.kind)
        for one in found
    )


def events_in(found: list[EventOrProblem]) -> list[Event]:
    return [one for one in found if isinstance(one, Event)]


def lines_with(found: list[EventOrProblem], kind: str) -> set[int]:
    return {one.line for one in found if not isinstance(one, Event) and one.kind == kind}


KINDS = {"malformed", "foreign", "gke"}
PRETTY = json.dumps(event("p"), indent=2)
CASES: dict[str, tuple[str | bytes, list[tuple[int, str]]]] = {
    "nothing": ("", []),
    "blank": ("\n \r\n\t\n", []),
    "lines": (line("a") + "\n" + line("b") + "\n", [(1, "a"), (2, "b")]),
    "no last line feed": (line("a") + "\n" + line("b"), [(1, "a"), (2, "b")]),
    "carriage returns": (line("a") + "\r\n\r\n" + line("b") + "\r\n", [(1, "a"), (3, "b")]),
    "spaces around": ("  " + line("a") + " \t\n", [(1, "a")]),
    "byte order mark": (b"\xef\xbb\xbf" + line("a").encode(), [(1, "a")]),
    "values that are no objects": (
        "42\nnull\n" + line("a") + '\ntrue\n"x"\n-1.5e3',
        [(1, "malformed"), (2, "malformed"), (3, "a")]
        + [(number, "malformed") for number in (4, 5, 6)],
    ),
    "not UTF-8": (
        b'\xff\xfe\n{"auditID":"\xff"}\n' + line("a").encode(),
        [(1, "malformed"), (2, "malformed"), (3, "a")],
    ),
    "NUL bytes": (
        b"\0\0\0\n" + line("a").encode() + b"\n\0",
        [(1, "malformed"), (2, "a"), (3, "malformed")],
    ),
    "too deep": ("[" * 2000 + "]" * 2000 + "\n" + line("a"), [(1, "malformed"), (2, "a")]),
    "too deep inside": (
        '{"auditID":' + '{"a":' * 1024 + "1" + "}" * 1025 + "\n" + line("a"),
        [(1, "malformed"), (2, "a")],
    ),
    "unhashable apiVersion": ('{"kind":"Event","apiVersion":[]}', [(1, "foreign")]),
    "foreign": (
        '{"kind": 0}\n{"kind":"Event","apiVersion":"v1"}',
        [(1, "foreign"), (2, "foreign")],
    ),
    "gke": ('{"insertId":"x","protoPayload":{}}', [(1, "gke")]),
    "text": ("I1123 07:06:00 started\n" + line("a"), [(1, "malformed"), (2, "a")]),
    "text with a time": (TIME + " I1123 started\n" + line("a"), [(1, "foreign"), (2, "a")]),
    "S3 export": (f"{TIME} {line('a')}\n{TIME} {line('b')[:50]}", [(1, "a"), (2, "malformed")]),
    "aws logs tail, pretty": (f"{TIME} stream-1 {PRETTY}\n{line('b')}", [(1, "p"), (19, "b")]),
    "CRI": (cri(line("a") + "\n" + line("b")), [(1, "a"), (2, "b")]),
    "CRI pretty": (cri(PRETTY) + "\n" + cri(line("b")), [(1, "p"), (19, "b")]),
    "CRI parts": (
        cri(line("a")[:30], mark="P")
        + "\n"
        + cri(line("a")[30:60], mark="P")
        + "\n"
        + cri(line("b"), stream="stderr")
        + "\n"
        + cri(line("a")[60:]),
        [(1, "a"), (3, "b")],
    ),
    "CRI part without its end": (
        cri(line("x")[:30], mark="P") + "\n" + cri(line("b")) + "\n" + cri(line("c")),
        [(1, "malformed"), (2, "b"), (3, "c")],
    ),
    "CRI part at the end": (cri(line("x")[:30], mark="P"), [(1, "malformed")]),
    "CRI talk": (
        cri("I1123 started {x}") + "\n" + cri("42") + "\n" + cri(""),
        [(1, "foreign"), (2, "foreign")],
    ),
    "CRI around Docker": (cri(docker(line("a"))), [(1, "a")]),
    "Docker": (docker(line("a") + "\n" + line("b")), [(1, "a"), (2, "b")]),
    "Docker pretty": (docker(PRETTY) + "\n" + docker(line("b")), [(1, "p"), (19, "b")]),
    "Docker parts": (
        docker(line("a")[:40], end="") + "\n" + docker(line("a")[40:]) + "\n" + line("b"),
        [(1, "a"), (3, "b")],
    ),
    "Docker part without its end": (
        docker(line("x")[:40], end="") + "\n" + docker(line("b")) + "\n" + docker(line("c")),
        [(1, "malformed"), (2, "b"), (3, "c")],
    ),
    "Docker talk": (docker('I1123 body={"a":1} {x}'), [(1, "foreign")]),
    "Docker torn": (docker(line("x")[:40]), [(1, "malformed")]),
    "Docker concatenated": (docker(line("a") + line("b")), [(1, "a"), (1, "b")]),
    "mixed": (
        "\n".join(
            [
                line("a"),
                cri(line("b")),
                docker(line("c")),
                "{",
                json.dumps([event("d")]),
                PRETTY,
                "[",
            ]
        ),
        [(1, "a"), (2, "b"), (3, "c"), (4, "malformed"), (5, "d"), (6, "p"), (24, "malformed")],
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", [0, 1, 7])
def test_inputs(name: str, step: int) -> None:
    data, expected = CASES[name]
    assert outcome(read(data, step=step)) == sorted(expected)


@pytest.mark.parametrize("name", CASES)
def test_reading_in_pieces_finds_the_same(name: str) -> None:
    """With a tiny bound every line is a long one; garbage on it may show more than once."""
    data, expected = CASES[name]
    for step in (0, 1, 7):
        found = outcome(read(data, step=step, stream_bytes=5))
        events = [one for one in found if one[1] not in KINDS]
        assert events == sorted(one for one in expected if one[1] not in KINDS)
        assert {one for one in found if one[1] in KINDS} == set(expected) - set(events)


def test_what_an_event_carries() -> None:
    data = (
        "\n" + line("a") + " \r\n" + json.dumps({"items": [event("b")]}) + "\n" + docker(line("c"))
    )
    a, b, c = (one for one in read(data, cluster="prod") if isinstance(one, Event))
    assert (a.line, a.cluster, a.raw) == (2, "prod", line("a").encode())
    assert (b.line, b.cluster, b.raw) == (3, "prod", None)
    assert (c.line, c.cluster, c.raw) == (4, "prod", line("c").encode())


def test_problems_show_a_printable_excerpt() -> None:
    (problem,) = read(b"\x1b[31mred\x00" + b"x" * 1000)
    assert not isinstance(problem, Event)
    assert problem.excerpt.isprintable()
    assert len(problem.excerpt) <= 96


def test_counts_leave_blank_lines_out() -> None:
    reader = EventReader()
    list(reader.feed(("\n" + line("a") + "\n\n{}\nx\n ").encode()))
    list(reader.finish())
    assert (reader.counts.lines, reader.counts.events) == (3, 1)
    assert (reader.counts.foreign, reader.counts.malformed) == (1, 1)


@pytest.mark.parametrize("step", [0, 1, 333])
@pytest.mark.parametrize("size", [300, 5000])
def test_over_long_events_are_skipped_to_their_end(size: int, step: int) -> None:
    big = {**event("big"), "requestObject": {"data": ["x" * 40] * (size // 40)}}
    a = event("a")
    texts = [
        json.dumps(big) + "\n" + line("a"),
        json.dumps(big, indent=2) + "\n" + line("a"),
        json.dumps([big, a], indent=1),
        json.dumps(big) + line("a"),
        json.dumps({"items": [a, big]}) + "\n",
        json.dumps([big]) + line("a"),
        "prefix " + json.dumps(big) + "\n" + line("a"),
        "{\n" + json.dumps(big) + "\n" + line("a"),
        cri(json.dumps(big)[:200], mark="P") + "\n" + cri(json.dumps(big)[200:]) + "\n" + line("a"),
    ]
    for text in texts:
        names = [
            what
            for _, what in outcome(read(text, step=step, max_event_bytes=len(line("a")) * 3 // 2))
        ]
        assert [name for name in names if name != "malformed"] == ["a"], text[:40]
        assert "malformed" in names, text[:40]


def test_a_long_line_may_be_a_list_of_any_length() -> None:
    """Only an element is held at a time: the bound is below the line's length."""
    reader = EventReader(max_event_bytes=1000, stream_bytes=1000)
    found = list(reader.feed(b'{"kind":"EventList","items":['))
    count = 5000
    for number in range(count):
        found += reader.feed(line(str(number)).encode() + b",")
    found += reader.feed(line("last").encode() + b"]}\n" + line("next").encode())
    found += reader.finish()
    names = [one.body["auditID"] for one in found if isinstance(one, Event)]
    assert names == [*map(str, range(count)), "last", "next"]
    assert len(found) == len(names)


def test_an_event_of_many_megabytes_is_one_event() -> None:
    big = {**event("big"), "requestObject": {"data": 'x\\"é' * 3_500_000, "list": [1.5] * 10_000}}
    data = json.dumps(big).encode() + b"\n" + line("a").encode()
    assert len(data) > 16 * 2**20
    found = read(data, step=2**20)
    assert [one.body for one in found if isinstance(one, Event)] == [big, event("a")]


def test_concatenated_events_need_no_line_feed() -> None:
    data = "".join(line(str(number)) for number in range(500))
    for options in ({}, {"stream_bytes": 100}):
        names = [
            one.body["auditID"]
            for one in read(data, step=1000, **options)
            if isinstance(one, Event)
        ]
        assert names == [str(number) for number in range(500)]


@pytest.mark.parametrize("odd", [r'"\ud800"', "1e999", "9" * 5000])
@pytest.mark.parametrize("shape", ["line", "list", "pretty", "docker", "cri", "prefixed", "long"])
def test_what_a_client_may_write_hides_no_event(odd: str, shape: str) -> None:
    text = line("a").replace("true", odd)
    shapes = {
        "list": f"[{text},\n{text}]",
        "pretty": PRETTY.replace("true", odd),
        "docker": docker(text),
        "cri": cri(text),
        "prefixed": f"{TIME} {text}",
    }
    options = {"stream_bytes": 20} if shape == "long" else {}
    found = read(shapes.get(shape, text), **options)
    assert len(found) == (2 if shape == "list" else 1)
    for one in found:
        assert isinstance(one, Event)
        assert isinstance(one.body["requestObject"]["spec"]["hostIPC"], str)
        assert loads(one.raw or dumps(one.body)) == one.body


def test_streams_share_one_budget() -> None:
    """Ten torn lines of 900 bytes do not fit in 2 * 1000: the oldest are let go, and said so."""
    reader = EventReader(max_event_bytes=1000)
    torn = '{"a":"' + "x" * 900
    found: list[EventOrProblem] = []
    for number in range(10):
        found += reader.feed((docker(torn, end="", stream=f"s{number}") + "\n").encode())
    assert lines_with(found, "malformed") == set(range(1, 9))
    found += reader.finish()
    assert lines_with(found, "malformed") == set(range(1, 11))
    assert events_in(found) == []


def test_streams_are_told_apart_by_the_ends_of_long_names() -> None:
    def part(text: str, name: str, *, end: str = "") -> str:
        return docker(text, end=end, stream="x" * 5000 + name)

    data = [part(line("a")[:40], "1"), part(line("b")[:40], "2")]
    data += [part(line("a")[40:], "1", end="\n"), part(line("b")[40:], "2", end="\n")]
    assert outcome(read("\n".join(data))) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    "text",
    [
        "[" + "1," * 5000 + "1]",
        "{}" * 5000,
        json.dumps({"log": "[" + "1," * 5000 + "1]"}),
        "[" + "1,{}," * 5000 + "1]",
    ],
)
def test_problems_of_a_kind_are_counted_not_kept(text: str) -> None:
    found = read(text)
    assert len(found) <= 40
    assert sum(one.count for one in found if not isinstance(one, Event)) >= 5000


PIECES = st.sampled_from(
    [
        *(line("e"), PRETTY, cri(line("c")), docker(line("d")), docker(PRETTY), TIME),
        *(cri(line("q")[:25], mark="P"), line("x")[:33], PRETTY[:70]),
        *(json.dumps([event("l"), 7]), json.dumps({"items": [event("i")]}, indent=1)),
        *("\n", "\n", "\r\n", " ", "{", "[", "}", "]", ",", '"', "\\"),
        *("null", '{"a":', "text", "\x00", "é"),
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join), st.integers(1, 50), st.sampled_from([None, 40]))
@settings(deadline=None, max_examples=100)
def test_chunks_make_no_difference(text: str, step: int, bound: int | None) -> None:
    options = {} if bound is None else {"stream_bytes": bound}
    pieces, whole = read(text, step=step, **options), read(text, **options)
    assert events_in(pieces) == events_in(whole)
    assert lines_with(pieces, "malformed") == lines_with(whole, "malformed")
    assert lines_with(pieces, "foreign") == lines_with(whole, "foreign")


@given(
    st.binary(max_size=200)
    | st.lists(PIECES, max_size=8).map(lambda parts: "".join(parts).encode())
)
@settings(deadline=None, max_examples=133)
def test_any_bytes_are_read_to_their_end(data: bytes) -> None:
    found = read(data + b"\n" + line("after").encode() + b"\n")
    lines = data.count(b"\n") + 2
    assert all(1 <= one.line <= lines for one in found)
    # The whole event on the last line is never swallowed.
    assert [
        one.line for one in found if isinstance(one, Event) and one.body.get("auditID") == "after"
    ] == [lines]


SINGLE_LINES = st.sampled_from(
    [
        line("e"),
        cri(line("c")),
        docker(line("d")),
        "null",
        "text",
        '{"a":1}',
        '"x"',
        "{}",
        "}",
        TIME + " talk",
    ]
)


@given(st.lists(SINGLE_LINES | st.just(""), max_size=10))
@settings(deadline=None, max_examples=100)
def test_every_line_that_is_complete_is_answered_for(lines: list[str]) -> None:
    found = read("\n".join(lines))
    assert [one.line for one in found] == [number for number, one in enumerate(lines, 1) if one]


@pytest.mark.parametrize(
    "wrap", [line, lambda name: cri(line(name)), lambda name: docker(line(name))]
)
@pytest.mark.parametrize(
    "junk", ["{", "[", '{"a":', line("x")[:40], PRETTY[:80], '"', "}", '[{"a":1},']
)
def test_torn_lines_swallow_nothing(wrap: Any, junk: str) -> None:
    names = list("abcdef")
    data = "\n".join(f"{junk}\n{wrap(name)}" for name in names)
    found = [one.body["auditID"] for one in read(data) if isinstance(one, Event)]
    assert found == names
