"""Lucene's query strings on events: what each matches, as data in lucene_semantics.toml."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from oracle import oracle_matches

from barrelman.engine.compile import compile_query
from barrelman.errors import QueryError
from barrelman.query.lucene import parse_lucene
from barrelman.query.render import describe
from barrelman.query.typecheck import check_types
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldType
from barrelman.records.times import parse_date_math

FILE = Path(__file__).parent / "lucene_semantics.toml"
DATA = tomllib.loads(FILE.read_text(encoding="utf-8"))
NOW_MS = parse_date_math(DATA["now"]).resolve_ms(0)
CATALOGUES = {
    name: Catalogue(exact={field: FieldType(kind) for field, kind in types.items()})
    for name, types in DATA["types"].items()
} | {"audit": AUDIT_CATALOGUE}


@dataclass(frozen=True)
class Case:
    group: str
    query: str
    catalogue: Catalogue
    on: str = ""
    expected: bool = False
    column: int = 0

    def __str__(self) -> str:
        return f"{self.group} | {self.on} | {self.query}"

    def event(self) -> Event:
        is_document = self.on in DATA["documents"]
        text = DATA["documents" if is_document else "events"][self.on]
        return Event(json.loads(text), is_document=is_document)


def read_cases() -> tuple[list[Case], list[Case]]:
    answered, refused = [], []
    for group in DATA["group"]:
        name, catalogue = group["name"], CATALOGUES[group.get("types", "audit")]
        answered += [
            Case(name, query, catalogue, on=on, expected=expected)
            for on in group["on"]
            for expected, key in ((True, "yes"), (False, "no"))
            for query in group.get(key, ())
        ]
        refused += [
            Case(name, query, catalogue, column=column)
            for query, column in group.get("refused", ())
        ]
    return answered, refused


ANSWERED, REFUSED = read_cases()


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_the_engine_answers_lucene(case: Case) -> None:
    node = parse_lucene(case.query)
    check_types(node, case.catalogue, text=case.query)
    answer = compile_query(node, case.catalogue).matches(case.event(), now_ms=NOW_MS)
    assert answer is case.expected


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_the_oracle_answers_lucene(case: Case) -> None:
    node = parse_lucene(case.query)
    answer = oracle_matches(node, case.event(), catalogue=case.catalogue, now_ms=NOW_MS)
    assert answer is case.expected


RAW = [case for case in ANSWERED if case.on in DATA["events"]]


@pytest.mark.parametrize("case", RAW, ids=str)
def test_a_raw_event_answers_lucene_as_its_document(case: Case) -> None:
    predicate = compile_query(parse_lucene(case.query), case.catalogue)
    document = Event(ecs_document(case.event()), is_document=True)
    assert predicate.matches(document, now_ms=NOW_MS) is case.expected


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_a_query_of_lucene_can_be_put_in_words(case: Case) -> None:
    assert describe(parse_lucene(case.query))


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_is_wrong_in_lucene_is_refused_where_it_stands(case: Case) -> None:
    with pytest.raises(QueryError) as caught:
        check_types(parse_lucene(case.query), case.catalogue, text=case.query)
    assert caught.value.place.column == case.column
