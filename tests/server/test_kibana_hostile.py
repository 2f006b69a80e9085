"""Whatever is sent to whichever path, the answer is one of ours: never a fault of the service."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kibana_world import Client, World, alert, rule, world
from starlette.routing import Route

from barrelman.server.kibana import routes

RULES = "/api/detection_engine/rules"
ODD: list[Any] = [
    None,
    0,
    -1,
    1e300,
    True,
    "",
    "\ud7ff\x00\u2028",
    "a" * 5000,
    [],
    {},
    [[]],
    [None],
    [1, "a", {}],
    {"": {}},
    {"a": [{"b": None}]},
]
NAMES = (
    *("id", "rule_id", "name", "type", "query", "ids", "action", "edit", "items", "entries"),
    *("list_id", "item_id", "value", "status", "signal_ids", "tags", "assignees", "aggs", "sort"),
    *("size", "search_after", "_source", "fields", "track_total_hits", "meta", "_version", "from"),
    *("timeframeEnd", "invocationCount", "objects", "enabled", "exceptions_list", "actions"),
    *("namespace_type", "comments", "version", "run", "duplicate", "interval", "threat", "filters"),
)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.raise_alerts(alert(1))
        yield made


@pytest.fixture
def client(here: World) -> Client:
    return here.asker("admin")


def check(answer: Any) -> None:
    body = answer.json() if answer.content and "json" in answer.headers["content-type"] else {}
    told = isinstance(body, dict) and body.get("message", "").startswith("Bulk edit")
    assert answer.status_code < 500 or told, answer.text
    if answer.status_code >= 400:
        assert body["message"]


def paths(*methods: str) -> list[tuple[str, str]]:
    return [
        (method, route.path.replace("{id}", "an-id"))
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or set()) & set(methods)
    ]


def test_bodies_of_every_kind(client: Client) -> None:
    for method, path in paths("POST", "PUT", "PATCH", "DELETE"):
        for odd in ODD:
            check(client.raw(method, path, content=json.dumps(odd).encode()))
        for raw in (b"", b"{", b"\xff\xfe", b"nul", b'{"a": NaN}', b'{"a": 1e999}', b"[" * 3000):
            check(client.raw(method, path, content=raw))


def test_members_of_every_kind(client: Client) -> None:
    bases = {
        RULES: rule(),
        f"{RULES}/_bulk_action": {"action": "edit", "edit": [{"type": "add_tags", "value": ["a"]}]},
        f"{RULES}/preview": {
            **rule(),
            "timeframeEnd": "2026-11-18T12:00:00Z",
            "invocationCount": 1,
        },
        "/api/detection_engine/signals/search": {"query": {"match_all": {}}},
        "/api/detection_engine/signals/status": {"signal_ids": ["alert-1"], "status": "closed"},
        "/api/exception_lists": {"name": "n", "description": "d", "type": "detection"},
        "/api/exception_lists/items": {
            "list_id": "none",
            "type": "simple",
            "name": "n",
            "description": "d",
            "entries": [{"field": "a", "type": "exists", "operator": "included"}],
        },
        "/api/lists": {"name": "n", "description": "d", "type": "keyword"},
        "/api/lists/items": {"list_id": "none", "value": "v"},
    }
    every = [
        (path, {**base, name: odd})
        for path, base in bases.items()
        for name in {*NAMES, *base}
        for odd in ODD
    ]
    every.sort(key=str)
    for path, body in random.Random(5).sample(every, 250):
        check(client.raw("POST", path, body))


def test_parameters_of_every_kind(client: Client) -> None:
    names = (
        *("id", "rule_id", "list_id", "item_id", "namespace_type", "filter", "page", "per_page"),
        *("sort_field", "sort_order", "search", "start", "status_filters", "gaps_range_start"),
    )
    chooser = random.Random(5)
    for method, path in paths("GET", "DELETE"):
        for value in ("", "x", "-1", "99999999999999999999", "a:(", "\x00", "true,false"):
            check(client.raw(method, path, params=dict.fromkeys(names, value)))
            check(client.raw(method, path, params={chooser.choice(names): value}))


WEIRD_QUERIES: list[Any] = [
    {"bool": {"must": [None]}},
    {"bool": {"minimum_should_match": "%"}},
    {"bool": None},
    {"terms": {"a": {"index": "b"}}},
    {"terms": {"a": [None]}},
    {"range": {"a": None}},
    {"range": {"@timestamp": {"gte": "now-999999999999999y"}}},
    {"range": {"@timestamp": {"gte": 10**30}}},
    {"range": {"@timestamp": {"gte": "0001-01-01", "lt": "9999-12-31||+1y"}}},
    {"exists": {"field": "." * 50}},
    {"exists": {"field": "*" * 50}},
    {"wildcard": {"kibana.alert.rule.name": "*?" * 500}},
    {"ids": {"values": None}},
    {"match": {"a": {}}},
    {"nested": {"path": "a", "query": {"term": {"b": 1}}}},
    {"query_string": {"query": "a:" * 500}},
    {"query_string": {"query": '"' * 999}},
    {"query_string": {"query": "[" * 5000}},
    {"query_string": {"query": "NOT " * 5000 + "a"}},
    {"query_string": {"query": "a " * 5000}},
    {"query_string": {"query": "a", "fields": [None, {}]}},
]
WEIRD_AGGS: list[Any] = [
    {"terms": {"field": "user.name", "missing": {}}},
    {"terms": {"field": "user.name", "order": [[]]}},
    {"terms": {"field": "user.name", "order": {"a>b.c": "asc"}}},
    {"terms": {"field": ".", "include": [{}]}},
    {"date_histogram": {"field": "@timestamp", "fixed_interval": "1ms", "min_doc_count": 0}},
    {"date_histogram": {"field": "@timestamp", "fixed_interval": "999999999d"}},
    {
        "date_histogram": {
            "field": "@timestamp",
            "fixed_interval": "1d",
            "extended_bounds": {"min": "0001-01-01", "max": "9999-12-31"},
        }
    },
    {
        "date_histogram": {
            "field": "@timestamp",
            "calendar_interval": "year",
            "time_zone": "-12:00",
            "extended_bounds": {"min": "0001-01-01", "max": "9999-12-31"},
        }
    },
    {"date_histogram": {"field": "user.name", "fixed_interval": "1h", "time_zone": "../x"}},
    {"date_histogram": {"field": "@timestamp", "fixed_interval": "1h", "time_zone": []}},
    {"cardinality": {"field": "user.name", "missing": []}},
    {"top_hits": {"sort": [{}]}},
    {"top_hits": {"_source": {"includes": 5}}},
    {"filters": {"filters": []}},
    {"sum": {"field": "user.name"}},
]


def test_searches_of_every_kind(client: Client) -> None:
    search = "/api/detection_engine/signals/search"
    for query in WEIRD_QUERIES:
        check(client.raw("POST", search, {"query": query}))
    for spec in WEIRD_AGGS:
        check(client.raw("POST", search, {"aggs": {"a": spec}}))
    sorts: list[Any] = ["_score", ["_doc"], [{"a": {"order": None}}], [None], {"a": {}, "b": {}}]
    for sort in sorts:
        check(client.raw("POST", search, {"sort": sort}))
    after: list[Any] = [None, {}, [], "x", 1e300]
    for value in after:
        check(client.raw("POST", search, {"sort": ["@timestamp"], "search_after": [value]}))


def test_files_of_every_kind(client: Client) -> None:
    lines = "\n".join(json.dumps(odd) for odd in ODD)
    typed = "\n".join(
        json.dumps({"type": kind, name: odd})
        for kind in ("query", "action", "detection", "simple")
        for name in ("rule_id", "id", "list_id", "entries", "attributes", "exceptions_list")
        for odd in ODD
    )
    for path in (f"{RULES}/_import", "/api/exception_lists/_import"):
        for content in (lines.encode(), typed.encode(), b"\x00\x01", b"\n\n\n", b""):
            boundary = b"--B\r\n" + b'Content-Disposition: form-data; name="file"\r\n\r\n'
            answer = client.raw(
                "POST",
                path,
                content=boundary + content + b"\r\n--B--\r\n",
                headers={"content-type": "multipart/form-data; boundary=B"},
            )
            check(answer)
            if answer.status_code == 200 and "errors" in answer.json() and "rules" in path:
                assert all(each["rule_id"] for each in answer.json()["errors"])
