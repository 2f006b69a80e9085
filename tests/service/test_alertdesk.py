"""Searching alerts, and changing them, over a database."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barrelman.errors import RequestError
from barrelman.records.times import format_instant
from barrelman.service.alertdesk import AlertDesk
from barrelman.store import alerts, audit
from barrelman.store.alerts import NewAlert
from barrelman.store.database import Database

NOW_US = 1_795_003_200_000_000
SEVERITIES = ("low", "medium", "high", "critical")


def made(number: int, *, age_seconds: int | None = None, **changes: Any) -> NewAlert:
    created_us = NOW_US - (number if age_seconds is None else age_seconds) * 1_000_000
    severity = SEVERITIES[number % 4]
    document = {
        "@timestamp": format_instant(created_us // 1000),
        "event": {"kind": "signal", "action": "create"},
        "user": {"name": f"user-{number % 3}"},
        "kibana.alert.uuid": f"a{number}",
        "kibana.alert.severity": severity,
        "kibana.alert.risk_score": number % 100,
        "kibana.alert.rule.name": f"Rule {number % 2}",
        "kibana.alert.rule.rule_id": f"r{number % 2}",
        "kibana.alert.rule.threat": [{"tactic": {"id": "TA0001", "name": "Initial Access"}}],
        **changes,
    }
    return NewAlert(
        id=f"a{number}",
        kind="live",
        rule_uuid=f"u{number % 2}",
        rule_id=f"r{number % 2}",
        rule_name=f"Rule {number % 2}",
        severity=severity,
        risk_score=number % 100,
        cluster="prod" if number % 5 else "test",
        tick_ms=created_us // 1000,
        created_us=created_us,
        event_time_us=None,
        building_block=False,
        document=json.dumps(document),
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "barrelman.db")
    yield opened
    opened.close()


@pytest.fixture
def desk(database: Database) -> AlertDesk:
    database.write(lambda c: alerts.add(c, [made(number) for number in range(20)]))
    return AlertDesk(database, clock=lambda: NOW_US)


def ids(found: dict[str, Any]) -> list[str]:
    return [hit["_id"] for hit in found["hits"]["hits"]]


def test_the_newest_come_first_unless_something_else_is_asked(desk: AlertDesk) -> None:
    assert ids(desk.search({"size": 3})) == ["a0", "a1", "a2"]
    assert ids(desk.search({"query": {"match_all": {}}})) == [f"a{n}" for n in range(10)]
    assert ids(desk.search({"size": 2, "sort": [{"@timestamp": "asc"}]})) == ["a19", "a18"]
    assert ids(desk.search({"size": 2, "sort": "@timestamp:desc"})) == ["a0", "a1"]
    by_score = {"size": 2, "sort": [{"kibana.alert.risk_score": {"order": "desc"}}]}
    assert ids(desk.search(by_score)) == ["a19", "a18"]
    two = {"size": 3, "sort": [{"user.name": "desc"}, {"@timestamp": "asc"}]}
    assert ids(desk.search(two)) == ["a17", "a14", "a11"]


def test_pages_by_number_and_by_the_last_hit(desk: AlertDesk) -> None:
    sort = [{"user.name": "asc"}, {"kibana.alert.risk_score": "asc"}]
    whole = desk.search({"size": 20, "sort": sort})
    assert ids(desk.search({"size": 5, "from": 5, "sort": sort})) == ids(whole)[5:10]
    assert ids(desk.search({"size": 5, "from": 3})) == [f"a{n}" for n in range(3, 8)]
    paged: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = desk.search({"size": 6, "sort": sort, **after})
        if not page["hits"]["hits"]:
            break
        paged += ids(page)
        after = {"search_after": page["hits"]["hits"][-1]["sort"]}
    assert paged == ids(whole)
    date = desk.search({"size": 1, "sort": ["@timestamp"]})["hits"]["hits"][0]["sort"]
    later = desk.search({"size": 1, "sort": ["@timestamp"], "search_after": date})
    assert ids(later) == ["a18"]
    shown = [format_instant(date[0])]
    assert ids(desk.search({"size": 1, "sort": ["@timestamp"], "search_after": shown})) == ["a18"]
    with pytest.raises(RequestError, match="search_after"):
        desk.search({"sort": sort, "search_after": ["one"]})


def test_what_has_no_value_is_sorted_last_or_first(database: Database, desk: AlertDesk) -> None:
    database.write(lambda c: alerts.add(c, [made(50, age_seconds=1, extra=1)]))
    for missing, place in (("_last", 0), ("_first", 20)):
        sort = [{"extra": {"order": "desc", "missing": missing}}]
        assert ids(desk.search({"size": 30, "sort": sort})).index("a50") == place


def test_totals(desk: AlertDesk) -> None:
    assert desk.search({"size": 0})["hits"]["total"] == {"value": 20, "relation": "eq"}
    assert desk.search({"size": 1, "track_total_hits": 5})["hits"]["total"] == {
        "value": 5,
        "relation": "gte",
    }
    assert desk.search({"size": 1, "track_total_hits": True})["hits"]["total"]["value"] == 20
    assert "total" not in desk.search({"size": 1, "track_total_hits": False})["hits"]
    counted = {"size": 0, "track_total_hits": 5, "aggs": {"n": {"value_count": {"field": "_id"}}}}
    assert desk.search(counted)["aggregations"]["n"]["value"] == 20


def test_the_parts_of_a_document_that_are_asked_for(desk: AlertDesk) -> None:
    def source(wanted: Any) -> Any:
        return desk.search({"size": 1, "_source": wanted})["hits"]["hits"][0].get("_source")

    assert source(False) is None
    assert source(["user.name"]) == {"user": {"name": "user-0"}}
    assert source("event") == {"event": {"kind": "signal", "action": "create"}}
    assert source({"includes": ["event.*", "kibana.alert.sev*"], "excludes": ["*.kind"]}) == {
        "event": {"action": "create"},
        "kibana.alert.severity": "low",
    }
    assert source(["kibana.alert.rule.threat.tactic.name"]) == {
        "kibana.alert.rule.threat": [{"tactic": {"name": "Initial Access"}}]
    }
    assert "_id" not in source(True)
    hit = desk.search({"size": 1, "_source": False, "fields": ["user.name", "event.*", "none"]})
    [found] = hit["hits"]["hits"]
    assert found["fields"] == {
        "user.name": ["user-0"],
        "event.kind": ["signal"],
        "event.action": ["create"],
    }


def test_aggregations_beside_hits(desk: AlertDesk) -> None:
    found = desk.search(
        {
            "size": 2,
            "query": {"term": {"kibana.alert.rule.rule_id": "r1"}},
            "aggs": {
                "rules": {
                    "terms": {"field": "signal.rule.name"},
                    "aggs": {"latest": {"top_hits": {"size": 1, "_source": ["user.name"]}}},
                }
            },
        }
    )
    assert found["hits"]["total"]["value"] == 10
    [bucket] = found["aggregations"]["rules"]["buckets"]
    assert (bucket["key"], bucket["doc_count"]) == ("Rule 1", 10)
    [hit] = bucket["latest"]["hits"]["hits"]
    assert (hit["_id"], hit["_source"]) == ("a1", {"user": {"name": "user-1"}})


def test_the_workflow_is_searched_as_it_stands(desk: AlertDesk) -> None:
    desk.set_status({"signal_ids": ["a1", "a2"], "status": "closed", "reason": "x"}, by="me")
    query: Any = {"bool": {"must_not": {"term": {"kibana.alert.workflow_status": "open"}}}}
    assert ids(desk.search({"query": query})) == ["a1", "a2"]
    query = {"term": {"kibana.alert.workflow_user": "me"}}
    assert ids(desk.search({"query": query})) == ["a1", "a2"]


def test_each_change_is_noted_once_with_what_was_done(database: Database, desk: AlertDesk) -> None:
    done = desk.set_status(
        {"query": {"term": {"user.name": "user-1"}}, "status": "closed", "reason": "duplicate"},
        by="me",
    )
    assert done["updated"] == done["total"] == 7
    [entry] = database.read(lambda c: audit.find(c))
    assert (entry.by, entry.detail["alerts"], entry.detail["reason"]) == ("me", 7, "duplicate")
    history = database.read(lambda c: alerts.history(c, "a1"))
    assert [(each.what, each.before, each.after, each.by) for each in history] == [
        ("status", "open", "closed", "me")
    ]
    desk.set_status({"signal_ids": ["a1"], "status": "closed", "reason": "duplicate"}, by="you")
    assert len(database.read(lambda c: audit.find(c))) == 1


def test_clusters_bound_what_is_seen_and_changed(desk: AlertDesk) -> None:
    assert desk.search({"size": 0}, clusters={"test"})["hits"]["total"]["value"] == 4
    body = {"ids": ["a0", "a1"], "tags": {"tags_to_add": ["t"], "tags_to_remove": []}}
    assert desk.set_tags(body, by="me", clusters={"test"})["total"] == 1
    assert desk.search({"size": 0}, clusters=())["hits"]["total"]["value"] == 0


def test_many_alerts_stream_by(database: Database) -> None:
    padding = "x" * 2_000
    for start in range(0, 3_000, 1_000):
        batch = [made(number, padding=padding) for number in range(start, start + 1_000)]
        database.write(lambda c: alerts.add(c, batch))  # noqa: B023
    desk = AlertDesk(database, clock=lambda: NOW_US)
    desk.search({"size": 1})
    tracemalloc.start()
    found = desk.search(
        {
            "size": 5,
            "sort": [{"kibana.alert.risk_score": "desc"}, {"user.name": "asc"}],
            "track_total_hits": True,
            "aggs": {"users": {"terms": {"field": "user.name"}}},
        }
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found["hits"]["total"]["value"] == 3_000
    assert [each["sort"][0] for each in found["hits"]["hits"]] == [99] * 5
    assert sum(each["doc_count"] for each in found["aggregations"]["users"]["buckets"]) == 3_000
    assert peak < 3_000 * len(padding) / 2
