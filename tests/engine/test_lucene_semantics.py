"""Lucene's query strings on events: what each matches, as data in lucene_semantics.toml."""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle import oracle_matches
from semanticcases import Case, Cases

from barrelman.engine.compile import compile_query
from barrelman.errors import QueryError
from barrelman.query.lucene import parse_lucene
from barrelman.query.render import describe
from barrelman.query.typecheck import check_types
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event

CASES = Cases(Path(__file__).parent / "lucene_semantics.toml")
ANSWERED, REFUSED, NOW_MS = CASES.answered, CASES.refused, CASES.now_ms


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


@pytest.mark.parametrize("case", CASES.raw, ids=str)
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
