"""Kibana's filters as expressions, read back in one line each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.engine.compile import compile_query
from barrelman.errors import RuleError, UnsupportedError
from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Boolean,
    Exists,
    Is,
    Nested,
    Node,
    Not,
    Or,
    Pattern,
    Range,
    Text,
    Wild,
    Within,
)
from barrelman.records.fields import AUDIT_CATALOGUE
from barrelman.rules.assign import rule_predicate
from barrelman.rules.filters import MATCH_NONE, MOST_NODES, Budget, all_of, parse_filter
from barrelman.rules.load import load_rules
from barrelman.rules.rule import LoadedRule

F, G = Text("f"), Text("g")
ONE, TWO = Is(F, Text("1")), Is(G, Text("2"))
TERM_1: dict[str, Any] = {"term": {"f": 1}}
TERM_2: dict[str, Any] = {"term": {"g": {"value": 2}}}


def phrase(value: str) -> Is:
    return Is(F, Text(value, quoted=True))


def wild(*tokens: str | Wild, ignore_case: bool = False) -> Is:
    return Is(F, Pattern(tokens, ignore_case=ignore_case))


DSL: list[tuple[dict[str, Any], Node]] = [
    ({"match_all": {}}, MATCH_ALL),
    ({"match_none": {}}, MATCH_NONE),
    ({"exists": {"field": "f"}}, Exists(F)),
    ({"exists": {"field": "f.*"}}, Exists(Pattern(("f.", Wild.RUN)))),
    ({"match_phrase": {"f": "a b"}}, phrase("a b")),
    ({"match_phrase": {"f": {"query": "a", "slop": 0}}}, phrase("a")),
    ({"match": {"f": "a"}}, Is(F, Text("a"))),
    ({"match": {"f": {"query": "a", "type": "phrase"}}}, phrase("a")),
    ({"term": {"f": "a"}}, Is(F, Text("a"))),
    ({"term": {"f": True}}, Is(F, Boolean(True))),
    ({"term": {"f": 4.0}}, Is(F, Text("4"))),
    ({"term": {"f": {"value": 4.5, "boost": 1}}}, Is(F, Text("4.5"))),
    ({"term": {"f": {"value": "A", "case_insensitive": True}}}, wild("A", ignore_case=True)),
    ({"terms": {"f": ["a", False], "boost": 1}}, Or((Is(F, Text("a")), Is(F, Boolean(False))))),
    ({"terms": {"f": []}}, MATCH_NONE),
    ({"range": {"f": {"gte": 1}}}, Range(F, "gte", Text("1"))),
    (
        {"range": {"f": {"gt": 1, "lt": "now-1d", "format": "strict_date_optional_time"}}},
        Within(F, (("gt", Text("1")), ("lt", Text("now-1d")))),
    ),
    ({"range": {"f": {"gte": None, "lte": 2}}}, Range(F, "lte", Text("2"))),
    ({"range": {"f": {}}}, Exists(F)),
    ({"wildcard": {"f": "a*b?"}}, wild("a", Wild.RUN, "b", Wild.CHAR)),
    ({"wildcard": {"f": {"wildcard": "*"}}}, wild(Wild.RUN)),
    ({"wildcard": {"f": {"value": "\\*\\\\*\\"}}}, wild("*\\", Wild.RUN, "\\")),
    (
        {"wildcard": {"f": {"value": "A*", "case_insensitive": True}}},
        wild("A", Wild.RUN, ignore_case=True),
    ),
    ({"wildcard": {"f": ""}}, Is(F, Text(""))),
    ({"prefix": {"f": "a*"}}, wild("a*", Wild.RUN)),
    (
        {"prefix": {"f": {"value": "A", "case_insensitive": True}}},
        wild("A", Wild.RUN, ignore_case=True),
    ),
    ({"bool": {}}, MATCH_ALL),
    ({"bool": {"must": TERM_1, "filter": [TERM_2]}}, And((ONE, TWO))),
    ({"bool": {"must_not": [TERM_1, TERM_2]}}, And((Not(ONE), Not(TWO)))),
    ({"bool": {"should": [TERM_1, TERM_2]}}, Or((ONE, TWO))),
    ({"bool": {"must": [TERM_1], "should": [TERM_2]}}, ONE),
    (
        {"bool": {"must": [TERM_1], "should": [TERM_2], "minimum_should_match": 1}},
        And((ONE, TWO)),
    ),
    ({"bool": {"should": [TERM_1, TERM_2], "minimum_should_match": "2"}}, And((ONE, TWO))),
    ({"bool": {"should": [TERM_1, TERM_2], "minimum_should_match": -1}}, Or((ONE, TWO))),
    ({"bool": {"should": [TERM_1], "minimum_should_match": 2}}, MATCH_NONE),
    ({"bool": {"should": [TERM_1], "must_not": [TERM_2]}}, And((ONE, Not(TWO)))),
    (
        {"nested": {"path": "f", "query": {"bool": {"must_not": {"term": {"f.x": 1}}}}}},
        Nested(F, Not(Is(Text("x"), Text("1")))),
    ),
    (
        {"nested": {"path": "f", "query": {"nested": {"path": "f.g", "query": {"exists": {
            "field": "f.g.x"}}}}, "score_mode": "none"}},
        Nested(F, Nested(G, Exists(Text("x")))),
    ),
    ({"query_string": {"query": "*"}}, MATCH_ALL),
    ({"query_string": {"query": ""}}, Not(MATCH_ALL)),
    ({"query_string": {"query": "f:1 AND NOT g:*", "analyze_wildcard": True}},
        And((Is(F, Text("1")), Not(Exists(G))))),
    ({"query_string": {"query": "1 f:2", "default_field": "f", "default_operator": "AND"}},
        And((Is(F, Text("1")), Is(F, Text("2"))))),
    ({"constant_score": {"filter": TERM_1}}, ONE),
]  # fmt: skip


@pytest.mark.parametrize(("query", "node"), DSL, ids=lambda one: json.dumps(one, default=str)[:60])
def test_a_query_is_translated(query: dict[str, Any], node: Node) -> None:
    assert parse_filter({"query": query}) == node
    assert parse_filter({"meta": {"negate": True}, "query": query}) == Not(node)
    legacy = {"meta": {}, "$state": {"store": "appState"}, **query}
    assert parse_filter(legacy) == node


FILTERS: list[tuple[dict[str, Any], Node | None]] = [
    ({"meta": {"disabled": True}, "query": {"script": {}}}, None),
    ({"meta": {"negate": False, "disabled": False}, "query": TERM_1}, ONE),
    (
        {
            "meta": {
                "type": "combined",
                "relation": "OR",
                "params": [{"query": TERM_1}, {"meta": {"negate": True}, "query": TERM_2}],
            }
        },
        Or((ONE, Not(TWO))),
    ),
    (
        {
            "meta": {
                "type": "combined",
                "negate": True,
                "params": [
                    {"query": TERM_1},
                    {"meta": {"disabled": True}, "query": TERM_2},
                    {"meta": {"type": "combined", "relation": "OR", "params": [{"query": TERM_2}]}},
                ],
            }
        },
        Not(And((ONE, TWO))),
    ),
    ({"meta": {"type": "combined", "relation": "OR", "params": []}}, MATCH_ALL),
    ({"meta": {"type": "phrase", "key": "f", "params": {"query": "a"}}}, phrase("a")),
    (
        {"meta": {"type": "phrases", "key": "f", "params": ["a", "b"]}},
        Or((phrase("a"), phrase("b"))),
    ),
    ({"meta": {"type": "exists", "key": "f"}}, Exists(F)),
    ({"meta": {"type": "range", "key": "f", "params": {"gte": 1}}}, Range(F, "gte", Text("1"))),
    (
        {
            "meta": {"type": "phrases", "key": "f", "params": ["a", "b"]},
            "query": {
                "bool": {
                    "minimum_should_match": 1,
                    "should": [{"match_phrase": {"f": "a"}}, {"match_phrase": {"f": "b"}}],
                }
            },
        },
        Or((phrase("a"), phrase("b"))),
    ),
]


@pytest.mark.parametrize(("filter_", "node"), FILTERS)
def test_a_filter_is_translated(filter_: dict[str, Any], node: Node | None) -> None:
    assert parse_filter(filter_) == node


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"script": {}}, "'script' queries"),
    ({"regexp": {"f": "a.*"}}, "'regexp' queries"),
    ({"query_string": {"query": "a:b", "phrase_slop": 1}}, "queries with phrase_slop"),
    ({"match": {"f": {"query": "a", "operator": "and"}}}, "'match' with operator 'and'"),
    ({"match": {"f": {"query": "a", "fuzziness": 1}}}, "'match' with fuzziness"),
    ({"match": {"f": {"query": "a", "type": "phrase_prefix"}}}, "of type 'phrase_prefix'"),
    ({"match_phrase": {"f": {"query": "a", "slop": 2}}}, "with slop"),
    ({"terms": {"f": {"index": "i", "id": "1", "path": "p"}}}, "looked up in another index"),
    ({"range": {"f": {"gte": 1, "format": "epoch_millis"}}}, "with a date format"),
    ({"range": {"f": {"gte": 1, "time_zone": "+01:00"}}}, "with a time zone"),
    ({"range": {"f": {"from": 1}}}, "'range' with from"),
    ({"bool": {"should": [TERM_1], "minimum_should_match": "75%"}}, "minimum_should_match '75%'"),
    ({"bool": {"should": [TERM_1] * 30, "minimum_should_match": 15}}, "15 of 30 clauses"),
    ({"bool": {"unless": []}}, "'bool' with unless"),
    ({"nested": {"path": "f", "query": {"term": {"g": 1}}}}, "a field outside of it (g)"),
]


@pytest.mark.parametrize(("query", "message"), UNSUPPORTED)
def test_what_cannot_be_said_is_named(query: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        parse_filter({"query": query})
    assert message in caught.value.message


def test_filters_nested_without_end_are_refused() -> None:
    query: dict[str, Any] = {"match_all": {}}
    for _ in range(400):
        query = {"bool": {"must": query}}
    with pytest.raises(UnsupportedError, match="nested deeper than 100 levels"):
        parse_filter({"query": query})


BROKEN: list[tuple[object, str]] = [
    ("f", "a filter: expected an object"),
    ({}, "the filter holds no query"),
    ({"meta": [1]}, "meta: expected an object"),
    ({"query": "f"}, "a query: expected an object, found 'f'"),
    ({"query": {}}, "a query must name one kind"),
    ({"query": {"term": {}, "match": {}}}, "found match, term"),
    ({"query": {"term": {"a": 1, "b": 2}}}, "term: expected one field, found 2"),
    ({"query": {"term": {"a": None}}}, "expected a text, a number, true or false, found null"),
    ({"query": {"term": {"a": {}}}}, "term.a: expected 'value'"),
    ({"query": {"terms": {"a": 1}}}, "terms: expected a list"),
    ({"query": {"exists": {}}}, "exists.field: expected a field name, found null"),
    ({"query": {"nested": {"query": {}}}}, "nested.path: expected a field name"),
    ({"query": {"range": {"a": 5}}}, "range.a: expected an object"),
    ({"meta": {"type": "combined", "params": {}}}, "params: expected a list"),
    ({"meta": {"type": "combined", "relation": "XOR", "params": []}}, "meta.relation: expected"),
]


@pytest.mark.parametrize(("filter_", "message"), BROKEN)
def test_a_broken_filter_is_an_error(filter_: object, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_filter(filter_)
    assert message in caught.value.message


def test_conjunctions_stay_flat() -> None:
    assert all_of([]) == MATCH_ALL
    assert all_of([MATCH_ALL, ONE]) == ONE
    assert all_of([And((ONE, TWO)), MATCH_ALL, Exists(F)]) == And((ONE, TWO, Exists(F)))


_NAMES = st.sampled_from(
    [
        *("bool", "must", "should", "term", "terms", "range", "exists", "field", "f", "value"),
        *("query", "gte", "meta", "type", "params", "combined", "nested", "path", "wildcard"),
    ]
)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | _NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, max_examples=133)
@given(_TREES)
def test_any_filter_is_translated_or_refused_by_name(filter_: object) -> None:
    try:
        parse_filter(filter_)
    except (RuleError, UnsupportedError) as error:
        assert error.message  # noqa: PT017  # either outcome is right, a crash is not


def test_clauses_to_match_do_not_multiply_without_end() -> None:
    clauses: list[Any] = [{"exists": {"field": f"f{n}"}} for n in range(12)]
    for _ in range(3):
        inner = {"bool": {"should": clauses, "minimum_should_match": 6}}
        clauses = [inner] * 12
    with pytest.raises(UnsupportedError, match="clauses to match"):
        parse_filter({"query": inner})


# Bounds. What is within them compiles


def deep_bool(levels: int) -> dict[str, Any]:
    query: dict[str, Any] = TERM_1
    for _ in range(levels):
        inner = {"should": [query, TERM_2], "must_not": [TERM_2], "minimum_should_match": 1}
        query = {"bool": {"must": [TERM_1], "must_not": {"bool": inner}}}
    return {"query": query}


def deep_must_not(levels: int) -> dict[str, Any]:
    query: dict[str, Any] = TERM_1
    for _ in range(levels):
        query = {"bool": {"must": TERM_2, "must_not": query}}
    return {"query": query}


def deep_combined(levels: int) -> dict[str, Any]:
    filter_: dict[str, Any] = {"query": TERM_1}
    for number in range(levels):
        params = [filter_, {"query": TERM_2}]
        relation = ("AND", "OR")[number % 2]
        meta = {"type": "combined", "relation": relation, "negate": True, "params": params}
        filter_ = {"meta": meta}
    return filter_


def deep_nested(levels: int) -> dict[str, Any]:
    query: dict[str, Any] = {"term": {".".join("n" * (levels + 1)): 1}}
    for level in range(levels, 0, -1):
        query = {"nested": {"path": ".".join("n" * level), "query": query}}
    return {"query": query}


DEEP = [deep_bool, deep_must_not, deep_combined, deep_nested]


def load_filtered(*filters: dict[str, Any]) -> LoadedRule:
    rule: dict[str, Any] = {
        "rule_id": "r",
        "type": "query",
        "name": "N",
        "description": "D",
        "risk_score": 1,
        "severity": "low",
        "query": "a:1",
        "filters": filters,
    }
    [loaded] = load_rules(json.dumps(rule), path="r.json").rules
    return loaded


@pytest.mark.parametrize("make", DEEP)
def test_filters_are_no_deeper_than_what_compiles(make: Callable[[int], dict[str, Any]]) -> None:
    outcomes = set()
    for levels in (1, 5, 15, 20, 25, 30, 33, 50, 90, 150):
        try:
            node = parse_filter(make(levels))
        except UnsupportedError as gap:
            assert gap.message == "filters nested deeper than 100 levels"  # noqa: PT017
            outcomes.add("refused")
        else:
            assert node is not None
            assert "refused" not in outcomes, levels
            compile_query(node, AUDIT_CATALOGUE)
            outcomes.add("compiled")
    assert outcomes == {"compiled", "refused"}


@pytest.mark.parametrize("make", DEEP)
def test_a_rule_with_deep_filters_is_ready_only_if_it_compiles(
    make: Callable[[int], dict[str, Any]],
) -> None:
    found = {levels: load_filtered(make(levels)) for levels in (1, 8, 15, 20, 25, 30, 100)}
    for loaded in found.values():
        if loaded.status == "ready":
            assert loaded.rule is not None
            compile_query(rule_predicate(loaded.rule), AUDIT_CATALOGUE)
        else:
            assert "nested deeper than" in loaded.reason
    assert (found[1].status, found[100].status) == ("ready", "invalid")


def some_of(clauses: list[dict[str, Any]], count: int) -> dict[str, Any]:
    return {"bool": {"should": clauses, "minimum_should_match": count}}


def terms(count: int) -> list[dict[str, Any]]:
    return [{"term": {f"f{number}": 1}} for number in range(count)]


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        (some_of(terms(12), 6), True),
        (some_of([some_of(terms(12), 6)] * 2, 1), True),
        (some_of([some_of(terms(12), 6)] * 12, 1), False),
        (some_of([some_of(terms(12), 6)] * 3, 2), False),
        (some_of([some_of(terms(4), 2)] * 4, 2), True),
        (some_of([some_of([some_of(terms(6), 3)] * 6, 3)] * 6, 3), False),
        ({"bool": {"must": [some_of(terms(12), 6)] * 4}}, False),
        (some_of(terms(5000), 5000), True),
        (some_of(terms(5000), 2500), False),
        (some_of(terms(3), 2**64 - 1), True),
        (some_of(terms(MOST_NODES), 1), False),
    ],
)
def test_the_clauses_of_a_filter_are_counted_wherever_they_come_to_stand(
    query: dict[str, Any], fits: bool
) -> None:
    loaded = load_filtered({"query": query})
    assert loaded.status == ("ready" if fits else "unsupported"), loaded.reason
    if not fits:
        assert "clauses" in loaded.reason
        assert loaded.reason.startswith("filters[0]: ")
        assert loaded.reason.endswith(" do not run yet")


def test_all_filters_of_a_rule_share_one_budget() -> None:
    one = {"query": some_of(terms(12), 6)}
    assert load_filtered(one, one).status == "ready"
    loaded = load_filtered(*[one] * 50)
    assert (loaded.status, loaded.reason) == (
        "unsupported",
        "filters[3]: 'bool' with 6 of 12 clauses to match in filters do not run yet",
    )
    budget = Budget()
    for _ in range(MOST_NODES // 2):
        parse_filter({"query": TERM_1}, budget=budget)
    with pytest.raises(UnsupportedError, match="filters of more than 20000 clauses"):
        parse_filter({"query": TERM_1}, budget=budget)
    assert budget.is_spent


def test_a_list_of_many_values_is_one_clause() -> None:
    values = [f"v{number}" for number in range(65_536)]
    loaded = load_filtered({"query": {"terms": {"f": values}}})
    assert loaded.rule is not None
    compile_query(rule_predicate(loaded.rule), AUDIT_CATALOGUE)


def count_nodes(node: Node) -> int:
    if isinstance(node, And | Or):
        return 1 + sum(count_nodes(child) for child in node.children)
    return 1 + count_nodes(node.child) if isinstance(node, Not | Nested) else 1


QUERIES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.sampled_from([TERM_1, TERM_2]),
    lambda inner: st.builds(some_of, st.lists(inner, max_size=14), st.integers(-3, 9)),
    max_leaves=30,
)


@given(query=QUERIES)
@settings(deadline=None, max_examples=60)
def test_no_filter_comes_to_more_than_it_spends(query: dict[str, Any]) -> None:
    budget = Budget()
    try:
        node = parse_filter({"query": query}, budget=budget)
    except UnsupportedError:
        assert budget.is_spent
    else:
        assert node is not None
        assert count_nodes(node) <= 2 * (MOST_NODES - budget.left)
