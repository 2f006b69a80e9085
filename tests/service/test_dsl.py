"""Queries over alerts: which of a handful each of them finds."""

from __future__ import annotations

from typing import Any

import pytest

from barrelman.engine.compile import compile_query
from barrelman.errors import RequestError
from barrelman.records.event import Event
from barrelman.service.dsl import ALERT_CATALOGUE, bounds_of, modern_name, parse_query

NOW_MS = 1_795_003_200_000
ALERTS: dict[int, dict[str, Any]] = {
    1: {
        "_id": "one",
        "@timestamp": "2026-11-18T11:00:00.000Z",
        "user": {"name": "eve"},
        "source": {"ip": ["10.0.0.1", "192.168.1.1"]},
        "message": "Pod created by eve",
        "kibana.alert.workflow_status": "open",
        "kibana.alert.severity": "high",
        "kibana.alert.risk_score": 73,
        "kibana.alert.rule.name": "Pod with host IPC",
        "kibana.alert.rule.tags": ["OS: Linux", "Kubernetes"],
        "kibana.alert.rule.rule_id": "r1",
    },
    2: {
        "_id": "two",
        "@timestamp": "2026-11-18T11:30:00.000Z",
        "user": {"name": "system:serviceaccount:kube-system:job"},
        "kibana.alert.workflow_status": "closed",
        "kibana.alert.severity": "low",
        "kibana.alert.risk_score": 21,
        "kibana.alert.rule.name": "Secret read",
        "kibana.alert.rule.rule_id": "r2",
        "kibana.alert.rule.enabled": True,
    },
    3: {
        "_id": "three",
        "@timestamp": "2026-10-01T00:00:00.000Z",
        "kibana.alert.workflow_status": "acknowledged",
        "kibana.alert.severity": "medium",
        "kibana.alert.risk_score": 47.5,
        "kibana.alert.rule.name": "Pod with host network",
        "kibana.alert.rule.rule_id": "r1",
        "kibana.alert.ancestors": [{"id": "a", "depth": 0}],
    },
}


def found(query: Any) -> list[int]:
    predicate = compile_query(parse_query(query), ALERT_CATALOGUE)
    return [
        number
        for number, document in ALERTS.items()
        if predicate.matches(Event(document, is_document=True), now_ms=NOW_MS)
    ]


STATUS = "kibana.alert.workflow_status"
NAME = "kibana.alert.rule.name"

CASES: list[tuple[Any, list[int]]] = [
    ({"match_all": {}}, [1, 2, 3]),
    ({"match_none": {}}, []),
    ({"term": {STATUS: "open"}}, [1]),
    ({"term": {STATUS: {"value": "open", "boost": 2}}}, [1]),
    ({"term": {STATUS: {"value": "OPEN", "case_insensitive": True}}}, [1]),
    ({"term": {STATUS: "Open"}}, []),
    ({"term": {"kibana.alert.rule.enabled": True}}, [2]),
    ({"term": {"kibana.alert.risk_score": 73}}, [1]),
    ({"term": {"source.ip": "10.0.0.0/8"}}, [1]),
    ({"terms": {STATUS: ["open", "closed"]}}, [1, 2]),
    ({"terms": {"kibana.alert.rule.tags": ["Kubernetes", "x"], "boost": 1}}, [1]),
    ({"match": {NAME: "Secret read"}}, [2]),
    ({"match": {NAME: "Secret"}}, []),
    ({"match": {"message": "created absent"}}, [1]),
    ({"match": {NAME: {"query": "Secret read", "operator": "and"}}}, [2]),
    ({"match_phrase": {"message": "created by"}}, [1]),
    ({"match_phrase": {"message": "by created"}}, []),
    ({"exists": {"field": "user.name"}}, [1, 2]),
    ({"exists": {"field": "kibana.alert.ancestors"}}, [3]),
    ({"wildcard": {NAME: "Pod*host*"}}, [1, 3]),
    ({"wildcard": {NAME: {"value": "pod with host ???", "case_insensitive": True}}}, [1]),
    ({"wildcard": {NAME: {"wildcard": "*IPC"}}}, [1]),
    ({"prefix": {NAME: "Pod"}}, [1, 3]),
    ({"prefix": {"user.name": {"value": "system:"}}}, [2]),
    ({"ids": {"values": ["one", "three", "none"]}}, [1, 3]),
    ({"ids": {"values": []}}, []),
    ({"constant_score": {"filter": {"term": {STATUS: "open"}}, "boost": 1}}, [1]),
    ({"range": {"kibana.alert.risk_score": {"gte": 47, "lt": 73}}}, [3]),
    ({"range": {"@timestamp": {"gte": "now-24h"}}}, [1, 2]),
    ({"range": {"@timestamp": {"gte": "2026-11-18", "lte": "2026-11-18"}}}, [1, 2]),
    ({"range": {"@timestamp": {"gt": "2026-11-18T11:00:00.000Z"}}}, [2]),
    (
        {
            "range": {
                "@timestamp": {
                    "gte": "2026-11-18T11:10:00Z",
                    "format": "strict_date_optional_time||epoch_millis",
                }
            }
        },
        [2],
    ),
    ({"range": {"@timestamp": {"gte": 1_795_000_500_000, "format": "epoch_millis"}}}, [2]),
    ({"range": {"@timestamp": {"lte": 1_790_900_000, "format": "epoch_second"}}}, [3]),
    ({"range": {"@timestamp": {"from": "now-24h", "to": "now", "include_lower": True}}}, [1, 2]),
    ({"bool": {}}, [1, 2, 3]),
    ({"bool": {"must": [{"term": {STATUS: "open"}}], "must_not": {"exists": {"field": "x"}}}}, [1]),
    ({"bool": {"filter": {"prefix": {NAME: "Pod"}}, "should": {"term": {STATUS: "open"}}}}, [1, 3]),
    (
        {
            "bool": {
                "filter": [{"prefix": {NAME: "Pod"}}],
                "should": [{"term": {STATUS: "open"}}],
                "minimum_should_match": 1,
            }
        },
        [1],
    ),
    ({"bool": {"should": [{"term": {STATUS: "open"}}, {"term": {STATUS: "closed"}}]}}, [1, 2]),
    (
        {
            "bool": {
                "should": [
                    {"term": {STATUS: "open"}},
                    {"term": {"kibana.alert.severity": "high"}},
                    {"term": {"kibana.alert.severity": "low"}},
                ],
                "minimum_should_match": "50%",
            }
        },
        [1, 2],
    ),
    (
        {
            "bool": {
                "should": [
                    {"term": {STATUS: "open"}},
                    {"term": {"kibana.alert.severity": "high"}},
                    {"term": {"kibana.alert.severity": "low"}},
                ],
                "minimum_should_match": 2,
            }
        },
        [1],
    ),
    # Names of old.
    ({"term": {"signal.status": "open"}}, [1]),
    ({"term": {"signal.rule.name": "Secret read"}}, [2]),
    ({"match_phrase": {"signal.rule.rule_id": "r1"}}, [1, 3]),
    ({"range": {"signal.rule.risk_score": {"gt": 50}}}, [1]),
    ({"exists": {"field": "signal.ancestors"}}, [3]),
    # Query strings.
    ({"query_string": {"query": "kibana.alert.severity:high"}}, [1]),
    ({"query_string": {"query": "signal.status:(open OR closed)"}}, [1, 2]),
    ({"query_string": {"query": 'kibana.alert.rule.name:"Secret read"'}}, [2]),
    ({"query_string": {"query": "kibana.alert.rule.name:Pod* AND NOT user.name:eve"}}, [3]),
    ({"query_string": {"query": "kibana.alert.rule.name:*IPC"}}, [1]),
    ({"query_string": {"query": "_exists_:user.name"}}, [1, 2]),
    ({"query_string": {"query": "NOT _exists_:user.name"}}, [3]),
    ({"query_string": {"query": "kibana.alert.risk_score:[21 TO 50}"}}, [2, 3]),
    ({"query_string": {"query": "kibana.alert.risk_score:>=47"}}, [1, 3]),
    ({"query_string": {"query": "kibana.alert.risk_score:{* TO 47.5]"}}, [2, 3]),
    ({"query_string": {"query": "@timestamp:[now-1d TO now]"}}, [1, 2]),
    ({"query_string": {"query": "eve"}}, [1]),
    ({"query_string": {"query": "*"}}, [1, 2, 3]),
    ({"query_string": {"query": "user.name:system\\:serviceaccount*"}}, [2]),
    ({"query_string": {"query": "high low", "default_field": "kibana.alert.severity"}}, [1, 2]),
    (
        {
            "query_string": {
                "query": "high low",
                "fields": ["kibana.alert.severity"],
                "default_operator": "AND",
            }
        },
        [],
    ),
    ({"query_string": {"query": f"{STATUS}:open kibana.alert.severity:low"}}, [1, 2]),
    ({"query_string": {"query": f"+{STATUS}:open kibana.alert.severity:low"}}, [1]),
    ({"query_string": {"query": f"{NAME}:Pod* -{STATUS}:open"}}, [3]),
    # As in Lucene, an AND makes musts of both its sides, and a should beside them does not count.
    ({"query_string": {"query": f"{STATUS}:open || {STATUS}:closed && user.name:eve"}}, []),
    ({"query_string": {"query": f"{STATUS}:open || ({STATUS}:closed && user.name:eve)"}}, [1]),
    ({"query_string": {"query": "user.name:evr~1"}}, [1]),
    ({"query_string": {"query": "kibana.alert.rule.rule_id:/r[2-9]/"}}, [2]),
    ({"query_string": {"query": 'message:"pod eve"~2'}}, [1]),
    ({"query_string": {"query": "[70 TO 80]"}}, [1]),
    ({"query_string": {"query": f"({STATUS}:open OR {STATUS}:closed) AND user.name:eve"}}, [1]),
    ({"query_string": {"query": f"!{STATUS}:open"}}, [2, 3]),
    ({"query_string": {"query": ""}}, []),
]


@pytest.mark.parametrize(("query", "numbers"), CASES)
def test_what_a_query_finds(query: Any, numbers: list[int]) -> None:
    assert found(query) == numbers


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({}, "nothing"),
        ({"match_all": {}, "term": {}}, "match_all, term"),
        ([], "list"),
        ({"fuzzy": {"a": "b"}}, "fuzzy"),
        ({"regexp": {"a": "b.*"}}, "regexp"),
        ({"script": {}}, "script"),
        ({"bool": {"must": [{"span_term": {"a": "b"}}]}}, "span_term"),
        ({"bool": {"filter": [], "boosting": 1}}, "boosting"),
        ({"bool": {"should": [], "minimum_should_match": "2<75%"}}, "minimum_should_match"),
        ({"match": {"a": {"query": "b", "fuzziness": "AUTO"}}}, "fuzziness"),
        ({"match": {"message": {"query": "a b", "operator": "and"}}}, "operator"),
        ({"range": {"@timestamp": {"gte": "18/11/2026", "format": "dd/MM/yyyy"}}}, "dd/MM/yyyy"),
        ({"range": {"@timestamp": {"gte": "last week"}}}, "@timestamp"),
        ({"range": {"@timestamp": {"gte": "now", "time_zone": "+02:00"}}}, "time zone"),
        ({"range": {"kibana.alert.risk_score": {"gte": "much"}}}, "number"),
        ({"term": {"a": {"value": "b", "odd": 1}}}, "odd"),
        ({"term": {"a": [1]}}, "text"),
        ({"ids": {"values": [1]}}, "ids.values"),
        ({"query_string": {"query": "a:(b"}}, "')'"),
        ({"query_string": {"query": "a:b)"}}, "')'"),
        ({"query_string": {"query": 'a:"b'}}, "never closed"),
        ({"query_string": {"query": "a:b~3"}}, "edits"),
        ({"query_string": {"query": "a:/b"}}, "regular"),
        ({"query_string": {"query": "a:/(b/"}}, "regular"),
        ({"query_string": {"query": "a AND"}}, "missing"),
        ({"query_string": {"query": "AND a"}}, "joins nothing"),
        ({"query_string": {"query": "a:[1 2]"}}, "TO is missing"),
        ({"query_string": {"query": "a", "phrase_slop": 2}}, "phrase_slop"),
        ({"query_string": {"query": "(" * 40 + "a" + ")" * 40}}, "brackets"),
    ],
)
def test_what_is_not_answered_is_named(query: Any, named: str) -> None:
    with pytest.raises(RequestError, match=r"query: ") as told:
        parse_query(query)
    assert named in told.value.message


def test_depth_and_breadth_have_bounds() -> None:
    query: Any = {"match_all": {}}
    for _ in range(200):
        query = {"bool": {"must": [query]}}
    with pytest.raises(RequestError, match="deeper"):
        parse_query(query)
    clauses = [{"term": {"a": str(number)}} for number in range(40)]
    with pytest.raises(RequestError, match="20 of 40"):
        parse_query({"bool": {"should": clauses, "minimum_should_match": 20}})


def test_a_query_string_has_a_bounded_number_of_clauses() -> None:
    assert found({"query_string": {"query": " OR ".join(["kibana.alert.severity:high"] * 1024)}})
    with pytest.raises(RequestError, match="more than 1024 clauses"):
        found({"query_string": {"query": " ".join(["a*"] * 1025)}})


def test_bounds_are_read_off_what_must_hold() -> None:
    node = parse_query(
        {
            "bool": {
                "filter": [
                    {"terms": {STATUS: ["open", "closed"]}},
                    {"term": {"kibana.alert.severity": "high"}},
                    {"range": {"@timestamp": {"gte": "now-1h", "lt": "now"}}},
                    {"term": {"signal.rule.rule_id": "r1"}},
                ],
                "must_not": [{"term": {"_id": "x"}}],
            }
        }
    )
    bounds = bounds_of(node, now_ms=NOW_MS)

    assert bounds.statuses == frozenset({"open", "closed"})
    assert bounds.severities == frozenset({"high"})
    assert bounds.rule_ids == frozenset({"r1"})
    assert bounds.ids is None
    low, high = bounds.created_us
    assert low is not None
    assert high is not None
    assert low <= (NOW_MS - 3_600_000) * 1000
    assert high >= NOW_MS * 1000


ALL: Any = {"match_all": {}}


def test_bounds_say_nothing_of_what_may_hold() -> None:
    either = {"bool": {"should": [{"term": {STATUS: "open"}}, {"term": {"user.name": "eve"}}]}}
    queries: list[Any] = [either, {"bool": {"must_not": {"term": {STATUS: "open"}}}}, ALL]
    for query in queries:
        bounds = bounds_of(parse_query(query), now_ms=NOW_MS)
        assert bounds.statuses is None
        assert bounds.created_us == (None, None)
    wild = bounds_of(parse_query({"wildcard": {STATUS: "op*"}}), now_ms=NOW_MS)
    assert wild.statuses is None
    blind = {"term": {STATUS: {"value": "OPEN", "case_insensitive": True}}}
    assert bounds_of(parse_query(blind), now_ms=NOW_MS).statuses is None


def test_conditions_that_exclude_each_other_leave_nothing() -> None:
    both = {"bool": {"filter": [{"term": {STATUS: "open"}}, {"term": {STATUS: "closed"}}]}}
    assert bounds_of(parse_query(both), now_ms=NOW_MS).statuses == frozenset()


def test_names_of_old() -> None:
    assert modern_name("signal.rule.id") == "kibana.alert.rule.uuid"
    assert modern_name("signal.rule.threat.tactic.id") == "kibana.alert.rule.threat.tactic.id"
    assert modern_name("signal.original_event.action") == "kibana.alert.original_event.action"
    assert modern_name("signals.a") == "signals.a"
