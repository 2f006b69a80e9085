"""Rules over HTTP, as a client of Kibana's API meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kibana_world import NOW, Client, World, ndjson, rule, world
from samples import event

from barrelman.store import audit, rules

RULES = "/api/detection_engine/rules"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def client(here: World) -> Client:
    return here.asker("engineer")


def test_a_rule_is_made_with_every_default_written_out(client: Client) -> None:
    made = client.post(RULES, {**rule(), "unheard_of": 1})

    assert made["enabled"] is False
    assert (made["from"], made["to"], made["interval"]) == ("now-6m", "now", "5m")
    assert (made["revision"], made["version"], made["max_signals"]) == (0, 1, 100)
    assert made["immutable"] is False
    assert made["rule_source"] == {"type": "internal"}
    assert made["created_by"] == made["updated_by"] == client.name
    assert made["created_at"] == NOW
    for name in ("tags", "author", "references", "threat", "exceptions_list", "actions", "filters"):
        assert made[name] == []
    assert made["setup"] == made["output_index"] == ""
    assert "note" not in made
    assert "unheard_of" not in made
    assert client.get(RULES, id=made["id"]) == made
    assert client.get(RULES, rule_id=made["rule_id"]) == made


def test_a_rule_without_rule_id_gets_one(client: Client) -> None:
    made = client.post(RULES, rule(rule_id=None))

    assert len(made["rule_id"]) == 36
    assert client.get(RULES, rule_id=made["rule_id"])["id"] == made["id"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"severity": "awful"}, "severity"),
        ({"risk_score": 101}, "risk_score"),
        ({"risk_score": "47"}, "risk_score"),
        ({"type": "correlation"}, "type"),
        ({"max_signals": 0}, "max_signals"),
        ({"timeline_id": "a"}, "timeline_title"),
        ({"type": "threshold", "threshold": {"field": ["a"], "value": 0}}, "threshold"),
        ({"from": "now-1m"}, "shorter"),
        ({"type": "eql", "language": "kuery"}, "language"),
    ],
)
def test_what_is_not_of_the_form_of_a_rule_is_refused_in_the_style_of_the_platform(
    client: Client, changes: dict[str, Any], named: str
) -> None:
    told = client.post(RULES, rule(**changes), status=400)

    assert told["statusCode"] == 400
    assert told["error"] == "Bad Request"
    assert named in told["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"query": "user.name: ("},
        {"query": "process where", "type": "eql", "language": "eql"},
        {"from": "yesterday"},
        {"interval": "often"},
    ],
)
def test_a_query_or_a_time_that_cannot_be_read_is_kept_and_has_failed(
    client: Client, changes: dict[str, Any]
) -> None:
    made = client.post(RULES, rule(**changes))
    last = client.get(RULES, id=made["id"])["execution_summary"]["last_execution"]

    assert (last["status"], last["status_order"]) == ("failed", 30)
    assert last["message"]


def test_errors_of_business_have_a_style_of_their_own(client: Client) -> None:
    client.post(RULES, rule())

    assert client.post(RULES, rule(), status=409) == {
        "message": f'rule_id: "{rule()["rule_id"]}" already exists',
        "status_code": 409,
    }
    assert client.get(RULES, status=404, rule_id="x") == {
        "message": 'rule_id: "x" not found',
        "status_code": 404,
    }
    assert client.get(RULES, status=404, id="x")["message"] == 'id: "x" not found'
    assert client.get(RULES, status=400)["status_code"] == 400
    assert client.get(RULES, status=400, id="x", rule_id="y")["status_code"] == 400
    assert client.delete(RULES, status=404, id="x")["status_code"] == 404


def test_every_change_wants_the_xsrf_header(here: World, client: Client) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = client.asker.ask(method, RULES, json=rule())
        assert answer.status_code == 400
        assert "kbn-xsrf" in answer.json()["message"]
    assert client.asker.ask("GET", f"{RULES}/_find").status_code == 200
    assert here.service.database.read(rules.all) == []


def test_put_resets_what_it_does_not_name(client: Client) -> None:
    made = client.post(RULES, rule(tags=["a"], note="guide", enabled=True, version=3))
    put = client.put(RULES, rule(severity="high"))

    assert (put["id"], put["severity"], put["tags"]) == (made["id"], "high", [])
    assert "note" not in put
    assert put["enabled"] is False
    assert (put["revision"], put["version"]) == (1, 3)
    assert put["created_at"] == made["created_at"]
    client.put(RULES, {**rule(), "id": "nobody", "rule_id": None}, status=404)
    client.put(RULES, rule(rule_id=None), status=400)


def test_patch_changes_what_it_names_and_counts_only_parameters(client: Client) -> None:
    made = client.post(RULES, rule(tags=["a"]))
    name = {"rule_id": made["rule_id"]}

    assert client.patch(RULES, {**name, "enabled": True})["revision"] == 0
    assert client.patch(RULES, {**name, "tags": ["a"]})["revision"] == 0
    changed = client.patch(RULES, {**name, "severity": "critical"})
    assert (changed["revision"], changed["enabled"], changed["tags"]) == (1, True, ["a"])
    assert changed["version"] == 1
    client.patch(RULES, {**name, "risk_score": 1000}, status=400)
    assert client.get(RULES, **name)["risk_score"] == 47


def test_patch_checks_the_fields_of_the_resulting_type(client: Client) -> None:
    made = client.post(RULES, rule())
    name = {"id": made["id"]}

    client.patch(RULES, {**name, "type": "threshold"}, status=400)
    changed = client.patch(
        RULES, {**name, "type": "threshold", "threshold": {"field": "user.name", "value": 3}}
    )
    assert changed["threshold"] == {"field": ["user.name"], "value": 3, "cardinality": []}
    changed = client.patch(
        RULES, {**name, "type": "eql", "language": "eql", "query": "any where true"}
    )
    assert (changed["type"], changed["language"]) == ("eql", "eql")
    assert "threshold" not in changed


def test_delete_gives_the_rule_and_leaves_none(client: Client) -> None:
    made = client.post(RULES, rule())

    assert client.delete(RULES, id=made["id"]) == made
    client.delete(RULES, status=404, id=made["id"])
    again = client.post(RULES, rule())
    assert again["id"] != made["id"]


def test_each_change_is_in_the_audit_trail(here: World, client: Client) -> None:
    made = client.post(RULES, rule(enabled=True))
    client.patch(RULES, {"id": made["id"], "severity": "low", "enabled": False})
    client.delete(RULES, id=made["id"])

    entries = here.service.database.read(lambda c: audit.find(c, newest_first=False))
    noted = [each for each in entries if each.action.startswith("rule")]
    assert [each.action for each in noted] == [
        "rule created",
        "rule updated",
        "rule disabled",
        "rule deleted",
    ]
    assert {each.by for each in noted} == {client.name}
    assert noted[1].detail["fields"] == ["severity"]


def test_a_change_takes_effect_at_once(here: World, client: Client) -> None:
    made = client.post(RULES, rule(enabled=True))
    assert [each.uuid for each in here.service.rulebook.lineup.watchers] == [made["id"]]
    client.post(f"{RULES}/_bulk_action", {"action": "disable"})
    assert not here.service.rulebook.lineup.watchers


# --- finding -------------------------------------------------------------------------------


def test_find_pages_sorts_and_filters(client: Client) -> None:
    for number, severity in enumerate(("low", "critical", "medium", "high"), 1):
        client.post(RULES, rule(number, severity=severity, tags=[f"t{number % 2}"]))
    find = f"{RULES}/_find"

    first = client.get(find, per_page=3, page=1, sort_field="severity", sort_order="desc")
    assert [each["severity"] for each in first["data"]] == ["critical", "high", "medium"]
    assert (first["page"], first["perPage"], first["total"]) == (1, 3, 4)
    rest = client.get(find, per_page=3, page=2, sort_field="severity", sort_order="desc")
    assert [each["severity"] for each in rest["data"]] == ["low"]
    assert client.get(find, per_page=0)["data"] == []
    names = client.get(find, sort_field="name", sort_order="asc")["data"]
    assert [each["name"] for each in names] == ["Rule 1", "Rule 2", "Rule 3", "Rule 4"]
    client.get(find, status=400, sort_field="colour")
    client.get(find, status=400, page=0)
    assert client.get("/api/detection_engine/tags") == ["t0", "t1"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("alert.attributes.name: two", [2]),
        ("alert.attributes.name: Rule*", [1, 2]),
        ('alert.attributes.name.keyword: "Rule two"', [2]),
        ("alert.attributes.enabled: true", [2]),
        ("alert.attributes.tags: (a or b)", [1, 2]),
        ('alert.attributes.tags: "OS: Linux"', [2]),
        ("alert.attributes.params.severity: high", [2]),
        ("alert.attributes.params.riskScore > 50", [2]),
        ("alert.attributes.params.ruleId: 11111111-0000-4000-8000-000000000001", [1]),
        ("alert.attributes.params.immutable: false", [1, 2]),
        ("alert.attributes.params.immutable: true", []),
        ('alert.attributes.params.ruleSource.type: "internal"', [1, 2]),
        ("alert.attributes.params.type: query and not alert.attributes.enabled: true", [1]),
        ('alert.attributes.params.threat.tactic.name: "Execution"', [2]),
        ('alert.attributes.tags: "__internal_immutable:false"', [1, 2]),
        (
            'alert.attributes.tags: "__internal_rule_id:11111111-0000-4000-8000-000000000002"',
            [2],
        ),
        ("alert.attributes.lastRun.outcome: failed", []),
        ("", [1, 2]),
    ],
)
def test_filters_are_about_attributes(client: Client, text: str, found: list[int]) -> None:
    tactic = {"id": "TA0002", "name": "Execution", "reference": "https://example.org"}
    client.post(RULES, rule(1, name="Rule one", tags=["a"]))
    client.post(
        RULES,
        rule(
            2,
            name="Rule two",
            tags=["b", "OS: Linux"],
            severity="high",
            risk_score=73,
            enabled=True,
            threat=[{"framework": "MITRE ATT&CK", "tactic": tactic}],
        ),
    )
    data = client.get(f"{RULES}/_find", filter=text)["data"]

    assert [int(each["rule_id"][-1]) for each in data] == found


def test_a_filter_that_is_no_kql_is_refused(client: Client) -> None:
    told = client.get(f"{RULES}/_find", status=400, filter="alert.attributes.name: (")
    assert told["status_code"] == 400
    assert "filter" in told["message"]


# --- many at once --------------------------------------------------------------------------


def test_the_older_bulk_paths_answer_for_each(client: Client) -> None:
    made = client.post(f"{RULES}/_bulk_create", [rule(1), rule(1), {"rule_id": "x"}])
    assert made[0]["revision"] == 0
    assert made[1]["error"]["status_code"] == 409
    assert made[1]["rule_id"] == rule(1)["rule_id"]
    assert (made[2]["rule_id"], made[2]["error"]["status_code"]) == ("x", 400)

    changed = client.patch(
        f"{RULES}/_bulk_update", [{"rule_id": rule(1)["rule_id"], "severity": "low"}, {"id": "no"}]
    )
    assert changed[0]["severity"] == "low"
    assert changed[1] == {
        "id": "no",
        "error": {"status_code": 404, "message": 'id: "no" not found'},
    }
    assert client.put(f"{RULES}/_bulk_update", [rule(1)])[0]["severity"] == "medium"
    gone = client.ask("DELETE", f"{RULES}/_bulk_delete", [{"rule_id": rule(1)["rule_id"]}])
    assert gone[0]["severity"] == "medium"
    client.post(f"{RULES}/_bulk_create", {"not": "a list"}, status=400)


# --- the pack ------------------------------------------------------------------------------


def test_platform_answers_what_clients_ask_first(client: Client) -> None:
    assert client.get("/api/status")["version"]["number"].startswith("8.")
    assert [each["id"] for each in client.get("/api/spaces/space")] == ["default"]
    assert client.get("/internal/security/me")["username"] == client.name
    assert client.get("/s/anything/api/status")["version"]
    status = client.get(f"{RULES}/prepackaged/_status")
    assert status["rules_custom_installed"] == 0
    assert client.put(f"{RULES}/prepackaged")["rules_installed"] == 0


def test_a_space_in_the_path_changes_nothing(client: Client) -> None:
    made = client.post(f"/s/team{RULES}", rule())
    assert client.get(RULES, id=made["id"]) == made


@pytest.mark.parametrize(
    ("role", "may_write"), [("viewer", False), ("analyst", False), ("engineer", True)]
)
def test_engineers_write_rules(here: World, role: str, may_write: bool) -> None:
    client = here.asker(role)

    client.get(f"{RULES}/_find")
    client.lines("POST", f"{RULES}/_export")
    client.lines("POST", f"{RULES}/_bulk_action", {"action": "export"})
    status = 200 if may_write else 403
    client.post(RULES, rule(), status=status)
    client.post(f"{RULES}/_bulk_action", {"action": "enable"}, status=status)
    client.patch(RULES, {"rule_id": rule()["rule_id"], "tags": []}, status=status)


def test_preview_gives_logs_and_never_stores(here: World, client: Client) -> None:
    body = {**rule(), "timeframeEnd": "2026-11-18T12:00:00.123456+00:00", "invocationCount": 2}
    found = client.post(f"{RULES}/preview", body)

    assert found["isAborted"] is False
    assert [each["errors"] for each in found["logs"]] == [[], []]
    assert found["previewId"]
    assert here.service.database.read(rules.all) == []
    broken = client.post(f"{RULES}/preview", {**body, "query": "a: ("})
    assert broken["logs"][0]["errors"]
    none = client.post(f"{RULES}/preview", {**body, "invocationCount": 0})
    assert none["logs"][0]["errors"]
    client.post(f"{RULES}/preview", rule(), status=400)


def test_preview_shows_what_would_have_been_raised_of_the_callers_clusters(here: World) -> None:
    here.service.intake.start()
    body = json.dumps({"kind": "EventList", "items": [event(1), event(2, user=None)]}).encode()
    here.service.intake.offer(body, cluster="prod", is_list=True).result(timeout=20)
    asked = {**rule(), "timeframeEnd": NOW, "invocationCount": 1}
    here.watch.now_us += 1_000_000

    found = here.asker("analyst").post(f"{RULES}/preview", asked)
    [raised] = found["alerts"]
    assert raised["kibana.alert.rule.uuid"] == found["previewId"]
    assert raised["kibana.alert.rule.execution.type"] == "manual"
    for clusters, count in ((frozenset({"prod"}), 1), (frozenset({"test"}), 0)):
        bound = here.asker("analyst", clusters=clusters)
        assert len(bound.post(f"{RULES}/preview", asked)["alerts"]) == count
    here.service.intake.stop()


def test_execution_results_and_events(here: World, client: Client) -> None:
    from barrelman.store import runs

    made = client.post(RULES, rule())
    run = runs.Run(
        *("run-1", made["id"], made["rule_id"], "manual", 1000, 0, 1000, 5_000_000, 12, 3),
        *("partial failure", "the cap is met", 10, 4, 2, 2, {"total_search_duration_ms": 7}),
    )
    here.service.database.write(lambda c: runs.add(c, [run]))
    base = f"/internal/detection_engine/rules/{made['id']}/execution"

    results = client.get(f"{base}/results")
    assert results["total"] == 1
    row = results["events"][0]
    assert (row["execution_uuid"], row["security_status"]) == ("run-1", "partial failure")
    assert (row["num_new_alerts"], row["schedule_delay_ms"]) == (2, 3)
    assert row["total_search_duration_ms"] == 7
    assert row["backfill"] == {
        "from": "1970-01-01T00:00:00.000Z",
        "to": "1970-01-01T00:00:01.000Z",
    }
    assert client.get(f"{base}/results", status_filters="succeeded")["total"] == 0
    assert client.get(f"{base}/results", run_type_filters="backfill")["total"] == 1
    events = client.get(f"{base}/events", log_levels="warn,error")
    assert (events["events"][0]["level"], events["pagination"]["total"]) == ("warn", 1)
    client.get("/internal/detection_engine/rules/none/execution/results", status=404)
    summary = client.get(RULES, id=made["id"])["execution_summary"]["last_execution"]
    assert (summary["status"], summary["metrics"]) == (
        "partial failure",
        {"total_search_duration_ms": 7},
    )


def test_a_body_that_is_no_json_is_refused(client: Client) -> None:
    answer = client.raw("POST", RULES, content=b"{nonsense")
    assert (answer.status_code, answer.json()["statusCode"]) == (400, 400)
    answer = client.raw("POST", RULES, content=b"[" * 5000 + b"]" * 5000)
    assert answer.status_code == 400
    assert client.raw("POST", RULES, content=b"").status_code == 400
    assert client.raw("POST", RULES, content=ndjson(rule(), rule())).status_code == 400
