"""Bulk actions over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kibana_world import NOW_US, Client, World, rule, world

from barrelman.records.times import format_instant
from barrelman.store import runs

RULES = "/api/detection_engine/rules"
BULK = f"{RULES}/_bulk_action"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def client(here: World) -> Client:
    return here.asker("engineer")


def edit(client: Client, *edits: dict[str, Any], status: int = 200, **more: Any) -> Any:
    return client.post(BULK, {"action": "edit", "edit": list(edits), **more}, status=status)


def at(minutes: int) -> str:
    return format_instant(NOW_US // 1000 + minutes * 60_000)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "explode"},
        {"action": "enable", "ids": ["a"], "query": "b"},
        {"action": "enable", "ids": []},
        {"action": "enable", "ids": "a"},
        {"action": "edit"},
        {"action": "edit", "edit": []},
        {"action": "edit", "edit": [{"type": "paint", "value": []}]},
        {"action": "edit", "edit": [{"type": "add_tags", "value": "a"}]},
        {"action": "edit", "edit": [{"type": "set_schedule", "value": {"interval": "5m"}}]},
        {
            "action": "edit",
            "edit": [{"type": "set_schedule", "value": {"interval": "1d", "lookback": "1m"}}],
        },
        {"action": "run"},
        {"action": "run", "run": {"start_date": at(-5), "end_date": at(-10)}},
        {"action": "run", "run": {"start_date": at(-5), "end_date": at(60)}},
    ],
)
def test_a_body_of_the_wrong_form_touches_nothing(client: Client, body: dict[str, Any]) -> None:
    client.post(RULES, rule())
    assert client.post(BULK, body, status=400)["statusCode"] == 400
    assert client.get(RULES, rule_id=rule()["rule_id"])["enabled"] is False


def test_by_query_by_ids_and_all(client: Client) -> None:
    made = [client.post(RULES, rule(number)) for number in (1, 2, 3)]

    done = client.post(BULK, {"action": "enable", "query": "alert.attributes.name: 1"})
    assert done["success"] is True
    assert done["rules_count"] == 1
    assert [each["rule_id"] for each in done["attributes"]["results"]["updated"]] == [
        made[0]["rule_id"]
    ]
    assert done["attributes"]["results"]["updated"][0]["enabled"] is True
    done = client.post(BULK, {"action": "enable", "ids": [made[1]["id"]]})
    assert done["attributes"]["summary"] == {
        "failed": 0,
        "skipped": 0,
        "succeeded": 1,
        "total": 1,
    }
    assert client.post(BULK, {"action": "disable"})["rules_count"] == 3
    assert client.post(BULK, {"action": "delete"})["attributes"]["summary"]["succeeded"] == 3
    assert client.get(f"{RULES}/_find")["total"] == 0


def test_where_one_fails_all_is_told_with_500(client: Client) -> None:
    made = client.post(RULES, rule())

    told = client.post(BULK, {"action": "enable", "ids": [made["id"], "no", "none"]}, status=500)
    assert (told["status_code"], told["success"], told["rules_count"]) == (500, False, 3)
    assert told["message"] == "Bulk edit partially failed"
    assert told["attributes"]["results"]["updated"][0]["id"] == made["id"]
    assert told["attributes"]["errors"] == [
        {"message": "Rule not found", "status_code": 500, "rules": [{"id": "no"}, {"id": "none"}]}
    ]
    assert client.get(RULES, id=made["id"])["enabled"] is True


def test_a_dry_run_tells_and_writes_nothing(client: Client) -> None:
    client.post(RULES, rule(1))
    client.post(RULES, rule(2, type="esql", language="esql", query="FROM a", index=None))

    edits = [{"type": "add_index_patterns", "value": ["b-*"]}]
    told = client.post(BULK, {"action": "edit", "edit": edits}, status=500, dry_run="true")
    assert told["attributes"]["summary"] == {
        "failed": 1,
        "skipped": 0,
        "succeeded": 1,
        "total": 2,
    }
    assert told["attributes"]["results"]["updated"] == []
    assert told["attributes"]["errors"][0]["err_code"] == "ESQL_INDEX_PATTERN"
    assert client.get(RULES, rule_id=rule(1)["rule_id"])["index"] == ["logs-kubernetes.*"]
    told = client.post(BULK, {"action": "delete"}, dry_run="true")
    assert told["attributes"]["summary"]["succeeded"] == 2
    assert client.get(f"{RULES}/_find")["total"] == 2


def test_edits_of_every_kind(client: Client) -> None:
    client.post(RULES, rule(tags=["a", "b"]))

    def shown() -> Any:
        return client.get(RULES, rule_id=rule()["rule_id"])

    edit(client, {"type": "add_tags", "value": ["b", "c"]}, {"type": "delete_tags", "value": ["a"]})
    assert (shown()["tags"], shown()["revision"]) == (["b", "c"], 1)
    edit(client, {"type": "set_tags", "value": ["z"]})
    assert shown()["tags"] == ["z"]
    edit(client, {"type": "set_index_patterns", "value": ["x-*", "y-*"]})
    edit(client, {"type": "delete_index_patterns", "value": ["x-*"]})
    assert shown()["index"] == ["y-*"]
    edit(client, {"type": "set_timeline", "value": {"timeline_id": "1", "timeline_title": "T"}})
    assert (shown()["timeline_id"], shown()["timeline_title"]) == ("1", "T")
    edit(client, {"type": "set_schedule", "value": {"interval": "10m", "lookback": "90s"}})
    assert (shown()["interval"], shown()["from"], shown()["to"]) == ("10m", "now-690s", "now")
    assert shown()["meta"]["from"] == "90s"
    act = {"id": "c", "action_type_id": ".slack", "params": {"message": "hi"}}
    edit(client, {"type": "add_rule_actions", "value": {"throttle": "1h", "actions": [act]}})
    assert [each["id"] for each in shown()["actions"]] == ["c"]
    edit(client, {"type": "set_rule_actions", "value": {"actions": []}})
    assert shown()["actions"] == []
    edit(client, {"type": "add_investigation_fields", "value": {"field_names": ["a", "b"]}})
    edit(client, {"type": "delete_investigation_fields", "value": {"field_names": ["a"]}})
    assert shown()["investigation_fields"] == {"field_names": ["b"]}
    edit(client, {"type": "delete_investigation_fields", "value": {"field_names": ["b"]}})
    assert "investigation_fields" not in shown()
    edit(client, {"type": "set_alert_suppression", "value": {"group_by": ["user.name"]}})
    edit(client, {"type": "add_alert_suppression", "value": {"group_by": ["source.ip"]}})
    assert shown()["alert_suppression"]["group_by"] == ["user.name", "source.ip"]
    edit(client, {"type": "delete_alert_suppression"})
    assert "alert_suppression" not in shown()


def test_what_an_edit_leaves_as_it_is_is_skipped(client: Client) -> None:
    made = client.post(RULES, rule(tags=["a"]))

    told = edit(client, {"type": "add_tags", "value": ["a"]})
    assert told["attributes"]["summary"]["skipped"] == 1
    assert told["attributes"]["results"]["skipped"] == [
        {"id": made["id"], "name": made["name"], "skip_reason": "RULE_NOT_MODIFIED"}
    ]
    assert client.get(RULES, id=made["id"])["revision"] == 0


def test_a_data_view_is_overwritten_only_when_asked(client: Client) -> None:
    client.post(RULES, rule(data_view_id="view"))
    one = {"type": "set_index_patterns", "value": ["new-*"]}

    assert edit(client, one)["attributes"]["summary"]["skipped"] == 1
    edit(client, {**one, "overwrite_data_views": True})
    shown = client.get(RULES, rule_id=rule()["rule_id"])
    assert shown["index"] == ["new-*"]
    assert "data_view_id" not in shown


def test_an_edit_that_makes_no_valid_rule_fails(client: Client) -> None:
    client.post(RULES, rule())
    told = edit(client, {"type": "set_index_patterns", "value": []}, status=500)
    assert told["message"] == "Bulk edit failed"
    told = edit(client, {"type": "set_alert_suppression", "value": {"group_by": []}}, status=500)
    assert "group_by" in told["attributes"]["errors"][0]["message"]
    suppression = {"duration": {"value": 5, "unit": "m"}}
    edit(
        client,
        {"type": "set_alert_suppression_for_threshold", "value": suppression},
        status=500,
    )


def test_a_duplicate_is_another_rule_with_its_own_default_list(client: Client) -> None:
    made = client.post(RULES, rule(enabled=True))
    entry = {"field": "user.name", "operator": "included", "type": "match", "value": "eve"}
    items = [
        {"type": "simple", "name": "kept", "description": "d", "entries": [entry]},
        {
            "type": "simple",
            "name": "expired",
            "description": "d",
            "entries": [entry],
            "expire_time": at(-10),
        },
    ]
    client.post(f"{RULES}/{made['id']}/exceptions", {"items": items})

    def duplicate(**options: bool) -> Any:
        told = client.post(BULK, {"action": "duplicate", "duplicate": options})
        [new, *_] = told["attributes"]["results"]["created"]
        client.delete(RULES, id=new["id"])
        return new

    bare = duplicate()
    assert (bare["name"], bare["enabled"], bare["revision"]) == ("Rule 1 [Duplicate]", False, 0)
    assert bare["rule_id"] != made["rule_id"]
    assert bare["exceptions_list"] == []
    for options, count in (({"include_exceptions": True}, 1), (BOTH, 2)):
        new = duplicate(**options)
        [ref] = new["exceptions_list"]
        assert ref["type"] == "rule_default"
        assert ref["list_id"] != client.get(RULES, id=made["id"])["exceptions_list"][0]["list_id"]
        found = client.get("/api/exception_lists/items/_find", list_id=ref["list_id"])
        assert found["total"] == count


BOTH = {"include_exceptions": True, "include_expired_exceptions": True}


def test_a_manual_run_is_queued_for_enabled_rules(here: World, client: Client) -> None:
    client.post(RULES, rule(1, enabled=True))
    client.post(RULES, rule(2))
    body = {"action": "run", "run": {"start_date": at(-60), "end_date": at(-30)}}

    told = client.post(BULK, body, status=500)
    assert told["attributes"]["summary"]["succeeded"] == 1
    [error] = told["attributes"]["errors"]
    assert error["err_code"] == "MANUAL_RULE_RUN_DISABLED_RULE"
    assert len(here.service.scheduler.manual_runs()) == 1
    told = client.post(BULK, {**body, "query": "alert.attributes.enabled: true"}, dry_run="true")
    assert told["success"] is True
    assert len(here.service.scheduler.manual_runs()) == 1


def test_gaps_are_found_and_filled(here: World, client: Client) -> None:
    made = client.post(RULES, rule(1, enabled=True))
    client.post(RULES, rule(2, enabled=True))
    now_ms = NOW_US // 1000
    here.service.database.write(
        lambda c: runs.add_gap(
            c,
            rule_uuid=made["id"],
            rule_id=made["rule_id"],
            from_ms=now_ms - 7_200_000,
            to_ms=now_ms - 3_600_000,
            at_us=NOW_US,
        )
    )
    span: dict[str, Any] = {"gaps_range_start": at(-300), "gaps_range_end": at(0)}
    assert [each["id"] for each in client.get(f"{RULES}/_find", **span)["data"]] == [made["id"]]
    assert client.get(f"{RULES}/_find", **span, gap_fill_statuses="filled")["total"] == 0

    body = {"action": "fill_gaps", "fill_gaps": {"start_date": at(-90), "end_date": at(0)}}
    told = client.post(BULK, body)
    assert told["attributes"]["summary"]["succeeded"] == 1
    assert told["attributes"]["results"]["skipped"][0]["skip_reason"] == "NO_GAPS_TO_FILL"
    [pending] = here.service.scheduler.manual_runs()
    assert pending.rule_uuid == made["id"]
    assert now_ms - 5_400_000 < pending.next_ms <= pending.end_ms
