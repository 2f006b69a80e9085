"""Reading by the block finds what the reader finds line by line, with a sieve and without."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hostile import CATALOGUE, HEAD, MEMBERS, Spelling, meeting, queries
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle_matches

from barrelman.engine.blocks import BlockReader, Passed
from barrelman.engine.compile import compile_query
from barrelman.engine.decode import DecodeError, loads
from barrelman.engine.literals import need_of
from barrelman.engine.patternset import is_available
from barrelman.engine.problem import Problem
from barrelman.engine.reader import EVENT_HEAD, EventReader
from barrelman.engine.sieve import Sieve, build_sieve
from barrelman.query.ast import Node
from barrelman.query.kql import parse_kql
from barrelman.records.event import Event
from barrelman.records.fields import event_time_us

NOW_MS = 1_795_417_560_000
TIME = "2026-11-23T07:06:00.123456789Z"

Members = list[tuple[str, Any]]
Names = list[tuple[int, Any]]


# --- what is read ---------------------------------------------------------------------------


@dataclass
class Finding:
    """What came of an input: events that a rule matches, and an account of the others."""

    matched: list[tuple[int, list[int], Any, bytes | None]] = field(default_factory=list)
    problems: list[tuple[int, str, str, int]] = field(default_factory=list)
    event_lines: list[int] = field(default_factory=list)
    """Of events that were decoded."""
    passed: int = 0
    times_us: list[int | None] = field(default_factory=list)
    lines_read: int = 0

    @property
    def events(self) -> int:
        return len(self.event_lines) + self.passed


class Rules:
    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.predicates = [compile_query(node, CATALOGUE) for node in nodes]
        self.sieve = build_sieve([need_of(node, CATALOGUE) for node in nodes])

    def judge(self, event: Event) -> list[int]:
        return [
            number
            for number, predicate in enumerate(self.predicates)
            if predicate.matches(event, now_ms=NOW_MS)
        ]

    def judge_slowly(self, event: Event) -> list[int]:
        return [
            number
            for number, node in enumerate(self.nodes)
            if oracle_matches(node, event, catalogue=CATALOGUE, now_ms=NOW_MS)
        ]


def account(items: list[Any], judge: Any, *, is_timed: bool = False) -> Finding:
    found = Finding()
    for item in items:
        if isinstance(item, Passed):
            found.passed += item.events
            found.times_us += item.times_us
        elif isinstance(item, Problem):
            found.problems.append((item.line, item.kind, item.reason, item.count))
        else:
            found.event_lines.append(item.line)
            if is_timed:
                found.times_us.append(event_time_us(item))
            numbers = judge(item)
            if numbers:
                found.matched.append((item.line, numbers, item.body, item.raw))
    return found


def by_line(data: bytes, rules: Rules, *, slowly: bool = False, **options: Any) -> Finding:
    reader = EventReader(**options)
    items = [*reader.feed(data), *reader.finish()]
    found = account(items, rules.judge_slowly if slowly else rules.judge, is_timed=True)
    found.lines_read = reader.lines_read
    return found


def by_block(
    data: bytes,
    rules: Rules,
    *,
    sieve: Sieve | None,
    step: int = 0,
    is_timed: bool = False,
    is_strict: bool = False,
    **options: Any,
) -> Finding:
    reader = EventReader(**options)
    blocks = BlockReader(reader, sieve=sieve, is_timed=is_timed, is_strict=is_strict)
    items: list[Any] = []
    for at in range(0, len(data), step or len(data) or 1):
        items += blocks.feed(data[at : at + (step or len(data))])
    items += blocks.finish()
    assert blocks.plain_bytes == len(data)
    found = account(items, rules.judge, is_timed=is_timed)
    found.lines_read = reader.lines_read
    assert reader.counts.events == found.events
    return found


def is_torn(line: bytes) -> bool:
    """Whether it begins and ends as an event, and is none: without `is_strict` it may go unseen."""
    if not (line.startswith(EVENT_HEAD) and line.endswith(b"}")):
        return False
    try:
        loads(line)
    except DecodeError:
        return True
    return False


# --- inputs ---------------------------------------------------------------------------------

SHAPES = (
    *("event",) * 12,
    *("torn", "torn to a brace", "torn", "glued", "concatenated", "CRLF", "trailing space"),
    *("blank", "junk", "list", "list of lines", "pretty", "docker", "docker parts", "cri"),
    *("cri parts", "cri begun", "aks", "document", "hit", "indented", "prefixed", "reordered"),
    *("deep", "not UTF-8", "opened", "closed", "broken off", "broken off"),
)
JUNK = (
    "{",
    "[",
    "}",
    "]",
    '"',
    "text",
    "null",
    '{"a":1}',
    TIME + " talk",
    '{"a":',
    "},",
    "\\",
    "é",
)


def shaped(shape: str, line: str, draw: random.Random) -> str:
    """A line with one event, or what a log has in place of one."""
    cut = draw.randrange(len(line))
    if shape == "torn":
        return line[:cut]
    if shape == "torn to a brace":
        braces = [at for at, char in enumerate(line[:-1]) if char == "}"]
        return line[: draw.choice(braces) + 1] if braces else line[:-1] + "}}"
    if shape == "glued":
        return line[:cut] + line
    if shape == "concatenated":
        return line + line
    if shape == "CRLF":
        return line + "\r"
    if shape == "trailing space":
        return line + draw.choice([" ", "\t ", ","])
    if shape == "blank":
        return draw.choice(["", " ", "\r"])
    if shape == "junk":
        return draw.choice(JUNK)
    if shape == "list":
        return '{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[' + line + "]}"
    if shape == "list of lines":
        return '{"items":[\n' + line + ",\n" + line + "\n]}"
    if shape == "pretty":
        text = json.dumps(loads(line), indent=draw.choice([1, 2]))
        return text[: draw.randrange(len(text))] if draw.random() < 0.2 else text
    if shape == "docker":
        return json.dumps({"log": line + "\n", "stream": "stdout", "time": TIME})
    if shape == "docker parts":
        ends = ("", "\n")
        halves = (line[:cut], line[cut:])
        return "\n".join(
            json.dumps({"log": half + end, "stream": "stdout", "time": TIME})
            for half, end in zip(halves, ends, strict=True)
        )
    if shape == "cri":
        return f"{TIME} stdout F {line}"
    if shape == "cri parts":
        return f"{TIME} stdout P {line[:cut]}\n{TIME} stdout F {line[cut:]}"
    if shape == "cri begun":
        return f"{TIME} stdout P {line[:cut]}"
    if shape == "aks":
        record = {"category": "kube-audit", "properties": {"log": line, "pod": "p"}, "time": TIME}
        return json.dumps({"records": [record]} if draw.random() < 0.3 else record)
    if shape == "document":
        return json.dumps({"@timestamp": TIME, "kubernetes": {"audit": loads(line)}})
    if shape == "hit":
        source = {"@timestamp": TIME, "kubernetes.audit.verb": "create"}
        return json.dumps({"_index": "logs-x", "_id": "1", "_source": source})
    if shape == "indented":
        return "  " + line
    if shape == "prefixed":
        return f"{TIME} {line}"
    if shape == "reordered":
        return json.dumps(dict(reversed(loads(line).items())))
    if shape == "deep":
        return line[:-1] + ',"deep":' + "[" * 1100 + '"create"' + "]" * 1100 + "}"
    if shape == "broken off":  # whole, over two lines, of which the first ends in a brace
        inner = '"held":{"a":"b"}'
        return line[: len(HEAD)] + f",{inner}\n" + line[len(HEAD) :]
    if shape == "opened":
        return '{"items":['
    if shape == "closed":
        return "]}"
    return line


def composed(shapes: list[str], events: list[Members], nodes: list[Node], seed: int) -> bytes:
    """A log of these shapes; each second event is one that a query is meant to find."""
    draw = random.Random(seed)
    lines = []
    for number, shape in enumerate(shapes):
        members = list(events[number % len(events)])
        if draw.random() < 0.4:
            members += meeting(draw.choice(nodes), seed + number)
        if draw.random() < 0.7:
            members.append(("stageTimestamp", f"2026-11-23T07:{draw.randrange(60):02}:00Z"))
            if draw.random() < 0.5:
                members.append(("annotations.k", "a"))
        line = shaped(shape, Spelling(seed + number).event(members), draw).encode()
        lines.append(line.replace(b"2026", b"\xff2026") if shape == "not UTF-8" else line)
    data = (b"\xef\xbb\xbf" if draw.random() < 0.1 else b"") + b"\n".join(lines)
    return data + (b"\n" if draw.random() < 0.7 else b"")


LOGS = st.builds(
    lambda nodes, shapes, events, seed: (nodes, composed(shapes, events, nodes, seed)),
    st.lists(queries(), min_size=1, max_size=2),
    st.lists(st.sampled_from(SHAPES), min_size=1, max_size=9),
    st.lists(MEMBERS, min_size=1, max_size=3),
    st.integers(0, 2**32),
)
STEPS = st.sampled_from([0, 0, 1, 7, 64, 500])
LIMITS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {}, {}, {"stream_bytes": 150}, {"max_event_bytes": 400, "stream_bytes": 200}]
)


# --- the same, whatever the way -------------------------------------------------------------


@settings(max_examples=133, deadline=None)
@given(LOGS, STEPS, LIMITS)
def test_without_a_sieve_it_is_the_reader(
    log: tuple[list[Node], bytes], step: int, limits: dict[str, Any]
) -> None:
    nodes, data = log
    rules = Rules(nodes)
    expected = by_line(data, rules, **limits)
    found = by_block(data, rules, sieve=None, step=step, **limits)
    assert found.matched == expected.matched
    assert found.events == expected.events
    assert found.problems == expected.problems
    assert found.lines_read == expected.lines_read


@settings(max_examples=150, deadline=None)
@given(LOGS, STEPS, LIMITS, st.booleans(), st.booleans())
def test_with_a_sieve_the_same_is_found(
    log: tuple[list[Node], bytes],
    step: int,
    limits: dict[str, Any],
    is_timed: bool,
    is_strict: bool,
) -> None:
    nodes, data = log
    rules = Rules(nodes)
    if rules.sieve is None:
        return
    expected = by_line(data, rules, slowly=True, **limits)
    for way in [True, False] if is_available() else [True]:
        sieve = Sieve(rules.sieve.plans, one_by_one=way)
        found = by_block(
            data,
            rules,
            sieve=sieve,
            step=step,
            is_timed=is_timed,
            is_strict=is_strict,
            **limits,
        )
        assert found.matched == expected.matched
        assert found.lines_read == expected.lines_read
        torn = set()
        if not is_strict:
            lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
            torn = {number for number, line in enumerate(lines, 1) if is_torn(line)}
        assert [one for one in found.problems if one[0] not in torn] == [
            one for one in expected.problems if one[0] not in torn
        ]
        if not torn:
            assert found.events == expected.events
        if is_timed and not torn:
            assert sorted(map(str, found.times_us)) == sorted(map(str, expected.times_us))


EVENT = HEAD + ',"verb":"%s","user":{"username":"eve"}}'
GET, CREATE = EVENT % "get", EVENT % "create"
TORN = GET.replace('"get"', '"get')
# Lines; of those with an event the rule looks for, the numbers; and of problems.
CASES: dict[str, tuple[list[str], list[int], list[int]]] = {
    "ordinary": ([GET, CREATE, GET], [2], []),
    "nothing to find": ([GET, GET], [], []),
    "an event over lines": ([GET, HEAD + ',"user":{"a":"b"}', ',"verb":"create"}', GET], [2], []),
    "an event over lines behind others": (
        [GET, GET, CREATE, GET, HEAD + ',"user":{"a":"b"}', ',"verb":"create"}'],
        [3, 5],
        [],
    ),
    "torn before an event": ([GET, TORN, CREATE], [3], [2]),
    "torn before text": ([GET, TORN, "text", CREATE], [4], [2, 3]),
    "torn before nothing": ([GET, TORN], [], [2]),
    "torn and found": ([TORN.replace("eve", '","verb":"create"'), GET], [], [1]),
    "glued": ([TORN + CREATE, GET], [1], [1]),
    "glued before text": ([TORN + GET, "text", CREATE], [3], [1, 2]),
    "text behind an event": ([GET + " text}", CREATE], [2], [1]),
    "a list over lines": (["[", GET + ",", CREATE + ",", GET, "]", CREATE], [3, 6], []),
    "carriage returns": ([GET + "\r", CREATE + "\r"], [2], []),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", [0, 1, 100])
@pytest.mark.parametrize("is_timed", [False, True])
def test_each_byte_is_looked_at_where_that_is_asked(name: str, step: int, is_timed: bool) -> None:
    lines, found, problems = CASES[name]
    data = "\n".join([*lines, ""]).encode()
    rules = Rules([parse_kql("kubernetes.audit.verb:create")])
    assert rules.sieve is not None
    account = by_block(data, rules, sieve=rules.sieve, step=step, is_timed=is_timed, is_strict=True)
    assert [each[0] for each in account.matched] == found
    assert sorted({each[0] for each in account.problems}) == problems


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", [0, 1, 100])
def test_without_a_look_at_each_byte_no_event_is_lost(name: str, step: int) -> None:
    """Only the torn line itself may go uncounted, where an event follows it."""
    lines, found, problems = CASES[name]
    data = "\n".join([*lines, ""]).encode()
    rules = Rules([parse_kql("kubernetes.audit.verb:create")])
    account = by_block(data, rules, sieve=rules.sieve, step=step)
    assert [each[0] for each in account.matched] == found
    seen = {each[0] for each in account.problems}
    followed = {
        number
        for number in problems
        if is_torn(lines[number - 1].encode()) and lines[number : number + 1] == [CREATE]
    }
    assert set(problems) - followed <= seen
    assert seen <= set(problems)
