"""The language on events: what each query matches, as data in semantics.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from oracle import oracle_matches
from semanticcases import Case, Cases

from barrelman.engine.compile import compile_query
from barrelman.errors import QueryError
from barrelman.query.kql import parse_kql
from barrelman.query.render import render_kql
from barrelman.query.typecheck import check_types
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event

CASES = Cases(Path(__file__).parent / "semantics.toml")
ANSWERED, REFUSED, NOW_MS = CASES.answered, CASES.refused, CASES.now_ms


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_the_engine_answers(case: Case) -> None:
    node = parse_kql(case.query)
    check_types(node, case.catalogue, text=case.query)
    answer = compile_query(node, case.catalogue).matches(case.event(), now_ms=NOW_MS)
    assert answer is case.expected


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_the_oracle_answers(case: Case) -> None:
    node = parse_kql(case.query)
    answer = oracle_matches(node, case.event(), catalogue=case.catalogue, now_ms=NOW_MS)
    assert answer is case.expected


@pytest.mark.parametrize("case", ANSWERED, ids=str)
def test_a_rendered_query_is_the_same_query(case: Case) -> None:
    node = parse_kql(case.query)
    assert parse_kql(render_kql(node)) == node


@pytest.mark.parametrize("case", CASES.raw, ids=str)
def test_a_raw_event_answers_as_its_document(case: Case) -> None:
    predicate = compile_query(parse_kql(case.query), case.catalogue)
    document = Event(ecs_document(case.event()), is_document=True)
    assert predicate.matches(document, now_ms=NOW_MS) is case.expected


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_wrong_value_is_refused_where_it_stands(case: Case) -> None:
    with pytest.raises(QueryError) as caught:
        check_types(parse_kql(case.query), case.catalogue, text=case.query)
    place: Any = caught.value.place
    assert place.column == case.column


def test_every_event_and_document_is_asked() -> None:
    asked = {on for group in CASES.data["group"] for on in group["on"]}
    assert asked == {*CASES.data["events"], *CASES.data["documents"]}
