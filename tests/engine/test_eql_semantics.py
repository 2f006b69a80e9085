"""EQL's conditions on events: what each means, as data in eql_semantics.toml."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from oracle import oracle_matches

from barrelman.engine.compile import compile_query
from barrelman.query.ast import Node
from barrelman.query.eql import parse_eql
from barrelman.query.eqltree import EventFilter
from barrelman.query.render import describe
from barrelman.query.typecheck import check_types
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldType
from barrelman.records.times import parse_date_math

DATA = tomllib.loads((Path(__file__).parent / "eql_semantics.toml").read_text(encoding="utf-8"))
NOW_MS = parse_date_math(DATA["now"]).resolve_ms(0)
CATALOGUES = {
    name: Catalogue(exact={field: FieldType(kind) for field, kind in types.items()})
    for name, types in DATA["types"].items()
} | {"audit": AUDIT_CATALOGUE}


@dataclass(frozen=True)
class Case:
    group: str
    condition: str
    catalogue: Catalogue
    on: str
    expected: bool

    def __str__(self) -> str:
        return f"{self.group} | {self.on} | {self.condition}"

    def event(self) -> Event:
        is_document = self.on in DATA["documents"]
        text = DATA["documents" if is_document else "events"][self.on]
        return Event(json.loads(text), is_document=is_document)

    def node(self) -> Node:
        top = parse_eql(f"any where {self.condition}").top
        assert isinstance(top, EventFilter)
        return top.node()


CASES = [
    Case(group["name"], condition, CATALOGUES[group.get("types", "audit")], on, expected)
    for group in DATA["group"]
    for on in group["on"]
    for expected, key in ((True, "yes"), (False, "no"))
    for condition in group.get(key, ())
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_engine_answers(case: Case) -> None:
    node = case.node()
    check_types(node, case.catalogue, text=case.condition)
    answer = compile_query(node, case.catalogue).matches(case.event(), now_ms=NOW_MS)
    assert answer is case.expected
    assert describe(node)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_oracle_answers(case: Case) -> None:
    answer = oracle_matches(case.node(), case.event(), catalogue=case.catalogue, now_ms=NOW_MS)
    assert answer is case.expected


@pytest.mark.parametrize("case", [case for case in CASES if case.on in DATA["events"]], ids=str)
def test_a_raw_event_answers_as_its_document(case: Case) -> None:
    predicate = compile_query(case.node(), case.catalogue)
    document = Event(ecs_document(case.event()), is_document=True)
    assert predicate.matches(document, now_ms=NOW_MS) is case.expected


def test_every_event_and_document_is_asked() -> None:
    asked = {on for group in DATA["group"] for on in group["on"]}
    assert asked == {*DATA["events"], *DATA["documents"]}
