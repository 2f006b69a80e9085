"""Saved queries beside the rules that run them."""

import json
from typing import Any

import pytest

from barrelman.query.ast import And, Is, Text
from barrelman.rules.load import LoadResult, load_exceptions, load_rules
from barrelman.rules.rule import LoadedRule
from barrelman.rules.saved import with_saved_queries

RULE = {
    "rule_id": "r",
    "name": "n",
    "description": "d",
    "risk_score": 1,
    "severity": "low",
    "type": "saved_query",
    "saved_id": "q",
}
SAVED = {
    "id": "q",
    "type": "query",
    "attributes": {
        "title": "Kept",
        "description": "",
        "query": {"query": "a:1", "language": "kuery"},
        "filters": [{"meta": {}, "query": {"match_phrase": {"b": "2"}}}],
    },
    "references": [],
}


def load(*objects: dict[str, Any]) -> LoadResult:
    return load_rules("\n".join(json.dumps(each) for each in objects), path="export.ndjson")


def loaded(*objects: dict[str, Any]) -> LoadedRule:
    found = load(*objects)
    assert not found.errors
    (rule,) = with_saved_queries(found.rules, {one.id: one for one in found.saved})
    return rule


def test_a_rule_runs_the_saved_query_that_it_names() -> None:
    rule = loaded({**RULE, "query": "old:1"}, SAVED)
    assert rule.status == "ready"
    assert rule.rule is not None
    assert rule.rule.query_ast == Is(Text("a"), Text("1"))
    assert rule.rule.filter_ast == Is(Text("b"), Text("2", quoted=True))
    assert (rule.rule.query, rule.rule.line, rule.line) == ("a:1", 1, 1)
    assert rule.notes == ("it runs the saved query 'Kept'",)


def test_without_a_copy_of_its_own_it_needs_the_saved_query() -> None:
    assert loaded(RULE).status == "unsupported"
    assert loaded(SAVED, RULE).status == "ready"
    other = {**SAVED, "id": "another"}
    assert loaded(other, RULE).status == "unsupported"


def test_the_rules_own_copy_runs_where_the_saved_query_is_not_there() -> None:
    rule = loaded({**RULE, "query": "old:1"})
    assert rule.status == "ready"
    assert "the rule's own copy runs" in rule.notes[0]


def test_a_broken_saved_query_is_an_error_where_it_stands() -> None:
    query = {**SAVED["attributes"], "query": {"query": "a:(", "language": "kuery"}}  # type: ignore[dict-item]
    rule = loaded(RULE, {**SAVED, "attributes": query})
    assert rule.status == "invalid"
    assert rule.errors[0].place.line == 2
    assert rule.line == 1


def test_lucene_is_run_too() -> None:
    query = {**SAVED["attributes"], "query": {"query": "a:1 AND b:2", "language": "lucene"}}  # type: ignore[dict-item]
    rule = loaded(RULE, {**SAVED, "attributes": {**query, "filters": []}})
    assert rule.status == "ready"
    assert rule.rule is not None
    assert isinstance(rule.rule.query_ast, And)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": 7}, "saved query: id: expected a text, found"),
        ({"attributes": {"query": "a:1"}}, "saved query: attributes.query: expected an object"),
    ],
)
def test_what_is_no_saved_query_is_said(changes: dict[str, Any], problem: str) -> None:
    found = load({**SAVED, **changes})
    assert not found.saved
    assert problem in found.errors[0].oneline()


def test_among_exception_lists_it_is_passed_over() -> None:
    found = load_exceptions(json.dumps(SAVED), path="lists.ndjson")
    assert found.skipped[0].reason == "a saved query, in a file given for exception lists"
