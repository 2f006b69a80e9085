"""The sieve may say yes too often, never no: whatever the rules, the events and their spelling."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
from hostile import CATALOGUE, HEAD, MEMBERS, Spelling, meeting, queries
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle_matches

from barrelman.engine.decode import loads
from barrelman.engine.literals import need_of
from barrelman.engine.patternset import is_available
from barrelman.engine.plan import Plan
from barrelman.engine.sieve import Sieve, build_sieve
from barrelman.query.ast import Node
from barrelman.query.kql import parse_kql
from barrelman.records.event import Event

NOW_MS = 1_795_417_560_000

Members = list[tuple[str, Any]]


# Both ways of searching, where Hyperscan is installed.
WAYS = [True, False] if is_available() else [True]


def sieves(nodes: list[Node]) -> list[Sieve]:
    """The sieve of these queries, by each way of searching."""
    chosen = build_sieve([need_of(node, CATALOGUE) for node in nodes])
    if chosen is None:
        return []
    return [Sieve(chosen.plans, one_by_one=way) for way in WAYS]


def spelled(nodes: list[Node], events: list[Members], seed: int) -> list[bytes]:
    """Lines with these events, and with one each that is made for a query."""
    made = [list(meeting(node, seed)) for node in nodes]
    mixed = [one + other for one, other in zip(made, events, strict=False)]
    return [Spelling(seed + n).event(each).encode() for n, each in enumerate(made + events + mixed)]


def let_through(sieve: Sieve, lines: list[bytes]) -> list[bytes]:
    data = bytearray(b"".join(line + b"\n" for line in lines))
    size = len(data)
    found = sieve.lines(memoryview(data + b"what is not read yet\n"), size)
    assert found == sorted(set(found))
    assert all(data[stop] == 10 and b"\n" not in data[start:stop] for start, stop in found)
    assert all(start == 0 or data[start - 1] == 10 for start, _ in found)
    return [bytes(data[start:stop]) for start, stop in found]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(queries(), min_size=1, max_size=3),
    st.lists(MEMBERS, min_size=1, max_size=4),
    st.integers(0, 2**32),
)
def test_no_event_that_a_rule_matches_is_held_back(
    nodes: list[Node], events: list[Members], seed: int
) -> None:
    made = sieves(nodes)
    if not made:
        return
    lines = spelled(nodes, events, seed)
    matched = [
        line
        for line in lines
        if any(
            oracle_matches(node, Event(loads(line)), catalogue=CATALOGUE, now_ms=NOW_MS)
            for node in nodes
        )
    ]
    for sieve in made:
        passed = let_through(sieve, lines)
        assert not [line for line in matched if line not in passed]


VALUES = ["create", "node-exporter", "v1.2:3", "(x) [y]", "A=B;C", "100%", "R&D team", "ns/pod-7"]


@pytest.mark.parametrize("value", VALUES)
def test_any_one_character_may_be_spelled_by_its_number(value: str) -> None:
    node = parse_kql(f'kubernetes.audit.userAgent:"{value}"')
    for sieve in sieves([node]):
        for at, char in enumerate(value):
            for form in ("\\u{:04x}", "\\u{:04X}", *(["\\/"] if char == "/" else [])):
                text = value[:at] + form.format(ord(char)) + value[at + 1 :]
                line = f'{HEAD},"userAgent":"{text}"}}'.encode()
                assert let_through(sieve, [b"{}", line, b"{}"]) == [line]
        assert let_through(sieve, [b"{}", HEAD.encode() + b"}"]) == []


@pytest.mark.parametrize("one_by_one", WAYS)
def test_what_is_found_at_the_ends_of_a_line_is_of_that_line(one_by_one: bool) -> None:
    sieve = Sieve([Plan(frozenset([b"a - b", b"create"]))], one_by_one=one_by_one)
    lines = [b"create", b"x", b"\\u002", b"x", b"xcreate", b"createx", b"", b"creat", b"e"]
    found = [line for line in lines if b"create" in line or b"u002" in line]
    assert let_through(sieve, lines) == found


def test_a_rule_that_no_raw_event_meets_lets_nothing_through() -> None:
    for one_by_one in WAYS:
        sieve = Sieve([Plan(None)], one_by_one=one_by_one)
        assert let_through(sieve, [HEAD.encode() + b"}", b'"audit.k8s.io/truncated":"true"']) == [
            b'"audit.k8s.io/truncated":"true"'
        ]


@pytest.mark.parametrize(
    ("queries_", "is_sieve"),
    [
        (["kubernetes.audit.verb:create"], True),
        (["kubernetes.audit.verb:create", "not kubernetes.audit.verb:create"], False),
        (["process.name:x"], True),
        ([], True),
    ],
)
def test_one_rule_that_any_line_could_meet_leaves_no_sieve(
    queries_: list[str], is_sieve: bool
) -> None:
    needs = [need_of(parse_kql(query), CATALOGUE) for query in queries_]
    assert (build_sieve(needs) is not None) is is_sieve


CHILD = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None  # as where it is not installed
from barrelman.engine.literals import Need
from barrelman.engine.sieve import build_sieve
for count in (1, 40, 100):
    letters = [chr(97 + n % 10) + chr(97 + n // 10) for n in range(count)]
    needs = [Need((frozenset([f"word{two}".encode()]),)) for two in letters]
    sieve = build_sieve(needs)
    data = memoryview(b"none\\nthe wordaa\\n")
    print(sieve and (sieve.one_by_one, sieve.lines(data, len(data))))
"""


CHOICES: dict[frozenset[str], list[str | None]] = {
    frozenset(): ["one", "all", "all"],
    frozenset(["hyperscan"]): ["one", "one", None],
    frozenset(["stringzilla"]): ["one", "all", "all"],
    frozenset(["hyperscan", "stringzilla"]): ["one", None, None],
}


@pytest.mark.parametrize("missing", CHOICES, ids=sorted)
def test_what_is_missing_changes_how_is_searched_not_what_is_found(missing: frozenset[str]) -> None:
    absent = {name for name in ("hyperscan", "stringzilla") if find_spec(name) is None}
    choices = CHOICES[missing | absent]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *missing], capture_output=True, text=True, check=True
    )
    shown = {"one": "(True, [(5, 15)])", "all": "(False, [(5, 15)])", None: "None"}
    assert done.stdout.splitlines() == [shown[choice] for choice in choices]
