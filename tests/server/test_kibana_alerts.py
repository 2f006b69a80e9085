"""Alerts over HTTP: who may see and change which, and the shape of what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kibana_world import World, alert, world

from barrelman.store import alerts, audit

SIGNALS = "/api/detection_engine/signals"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.raise_alerts(alert(1), alert(2, cluster="test"), alert(3, seconds=-60))
        yield made


def test_a_search_is_answered_as_elasticsearch_does(here: World) -> None:
    found = here.asker("viewer").post(
        f"{SIGNALS}/search",
        {"query": {"match_all": {}}, "sort": [{"@timestamp": "asc"}], "size": 1},
    )

    assert set(found) == {"took", "timed_out", "_shards", "hits"}
    assert found["hits"]["total"] == {"value": 3, "relation": "eq"}
    [hit] = found["hits"]["hits"]
    assert set(hit) == {"_index", "_id", "_score", "_source", "sort"}
    assert hit["_id"] == hit["_source"]["kibana.alert.uuid"] == "alert-3"
    assert isinstance(hit["sort"][0], int)
    assert hit["_source"]["kibana.alert.workflow_status"] == "open"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "at least 1"),
        ({"query": {"percolate": {}}}, "percolate"),
        ({"query": {"match": {"a": {"query": "b", "fuzziness": 1}}}}, "fuzziness"),
        ({"aggs": {"a": {"geohash_grid": {"field": "b"}}}}, "geohash_grid"),
        ({"size": 10, "collapse": {}}, "collapse"),
        ({"size": 20_000}, "10000"),
        ({"sort": [{"a": {"nested": {}}}]}, "nested"),
        ({"query": "text"}, "object"),
        ([], "object"),
    ],
)
def test_what_is_not_answered_is_named(here: World, body: Any, named: str) -> None:
    told = here.asker("viewer").post(f"{SIGNALS}/search", body, status=400)
    assert named in told["message"]


def test_a_key_of_one_cluster_sees_and_changes_its_alerts_only(here: World) -> None:
    bound = here.asker("analyst", clusters=frozenset({"test"}))

    found = bound.post(f"{SIGNALS}/search", {"query": {"match_all": {}}})
    assert [hit["_id"] for hit in found["hits"]["hits"]] == ["alert-2"]
    ids = ["alert-1", "alert-2"]
    done = bound.post(f"{SIGNALS}/status", {"signal_ids": ids, "status": "closed"})
    assert (done["total"], done["updated"]) == (1, 1)
    done = bound.post(f"{SIGNALS}/status", {"query": {"match_all": {}}, "status": "acknowledged"})
    assert (done["total"], done["updated"]) == (1, 1)
    untouched = here.service.database.read(lambda c: alerts.get(c, "alert-1"))
    assert untouched is not None
    assert untouched.status == "open"


def test_a_change_of_status_is_kept_with_who_and_why(here: World) -> None:
    client = here.asker("analyst")
    done = client.post(
        f"{SIGNALS}/status",
        {"signal_ids": ["alert-1", "none"], "status": "closed", "reason": "false_positive"},
    )

    assert (done["total"], done["updated"], done["noops"]) == (1, 1, 0)
    assert done["version_conflicts"] == 0
    assert done["failures"] == []
    query = {"ids": {"values": ["alert-1"]}}
    [hit] = client.post(f"{SIGNALS}/search", {"query": query})["hits"]["hits"]
    source = hit["_source"]
    assert source["kibana.alert.workflow_status"] == "closed"
    assert source["kibana.alert.workflow_reason"] == "false_positive"
    assert source["kibana.alert.workflow_user"] == client.name
    assert source["kibana.alert.workflow_status_updated_at"]
    again = client.post(
        f"{SIGNALS}/status",
        {"signal_ids": ["alert-1"], "status": "closed", "reason": "false_positive"},
    )
    assert (again["updated"], again["noops"]) == (0, 1)
    client.post(f"{SIGNALS}/status", {"signal_ids": ["alert-1"], "status": "in-progress"})
    [hit] = client.post(f"{SIGNALS}/search", {"query": query})["hits"]["hits"]
    assert hit["_source"]["kibana.alert.workflow_status"] == "acknowledged"
    assert "kibana.alert.workflow_reason" not in hit["_source"]
    history = here.service.database.read(lambda c: alerts.history(c, "alert-1"))
    assert [each.after for each in history if each.what == "status"] == ["closed", "acknowledged"]
    noted = here.service.database.read(lambda c: audit.find(c, target="alert-1"))
    assert len(noted) == 2


def test_status_by_query(here: World) -> None:
    client = here.asker("analyst")
    body = {
        "query": {"range": {"@timestamp": {"lt": "now-30s"}}},
        "conflicts": "proceed",
        "status": "closed",
    }
    assert client.post(f"{SIGNALS}/status", body)["updated"] == 1
    client.post(f"{SIGNALS}/status", {"status": "closed"}, status=400)
    client.post(f"{SIGNALS}/status", {"signal_ids": [], "status": "closed"}, status=400)
    client.post(f"{SIGNALS}/status", {"signal_ids": ["a"], "status": "odd"}, status=400)


def test_tags_and_assignees(here: World) -> None:
    client = here.asker("analyst")
    tags = {"tags_to_add": ["a", "b"], "tags_to_remove": []}
    done = client.post(f"{SIGNALS}/tags", {"ids": ["alert-1", "alert-3"], "tags": tags})
    assert done["updated"] == 2
    tags = {"tags_to_add": ["c"], "tags_to_remove": ["a"]}
    client.post(f"{SIGNALS}/tags", {"ids": ["alert-1"], "tags": tags})
    people = {"add": ["u1"], "remove": []}
    client.post(f"{SIGNALS}/assignees", {"ids": ["alert-1"], "assignees": people})
    query = {"term": {"kibana.alert.workflow_tags": "c"}}
    [hit] = client.post(f"{SIGNALS}/search", {"query": query})["hits"]["hits"]
    assert hit["_source"]["kibana.alert.workflow_tags"] == ["b", "c"]
    assert hit["_source"]["kibana.alert.workflow_assignee_ids"] == ["u1"]
    both = {"tags_to_add": ["x"], "tags_to_remove": ["x"]}
    assert (
        "x"
        in client.post(f"{SIGNALS}/tags", {"ids": ["alert-1"], "tags": both}, status=400)["message"]
    )
    client.post(f"{SIGNALS}/assignees", {"ids": ["alert-1"]}, status=400)


def test_viewers_change_nothing(here: World) -> None:
    viewer = here.asker("viewer")
    for path in ("status", "tags", "assignees"):
        viewer.post(f"{SIGNALS}/{path}", {"ids": ["alert-1"]}, status=403)
    shown = viewer.get("/api/detection_engine/privileges")
    assert shown["has_all_requested"] is False
    assert shown["is_authenticated"] is True
    assert viewer.get("/api/detection_engine/index")["index_mapping_outdated"] is False
    viewer.post("/api/detection_engine/index", status=403)
    assert here.asker("engineer").post("/api/detection_engine/index") == {"acknowledged": True}
