"""`/api/v1`: what it answers, to whom, and what it leaves in the audit trail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Asker, Served, event, event_list, serving, until

from barrelman.store import runs as runs_table
from barrelman.store import watches as watches_table
from barrelman.store.watches import Watch

SEED = "Kubernetes Pod Created With HostIPC"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two clusters: ten events of `prod` of which five alert, and one of `test` that does."""
    with serving(tmp_path_factory.mktemp("own") / "data") as world:
        poster = world.asker_with("intake")
        quiet = {"verb": "get", "user": {"username": "kim"}}
        batch = [event(number=n, **({} if n % 2 else quiet)) for n in range(10)]
        assert poster.post("/audit/prod", content=event_list(*batch)).json()["stored"] == 10
        assert poster.post("/audit/test", content=event_list(event(number=1))).json()["stored"] == 1
        viewer = world.asker_with("viewer")
        until(lambda: len(viewer.get("/api/v1/alerts").json()["alerts"]) == 6)
        yield world


@pytest.fixture(scope="module")
def viewer(served: Served) -> Asker:
    return served.asker_with("viewer", name="the viewer")


@pytest.fixture(scope="module")
def analyst(served: Served) -> Asker:
    return served.asker_with("analyst", name="the analyst")


@pytest.fixture(scope="module")
def engineer(served: Served) -> Asker:
    return served.asker_with("engineer", name="the engineer")


@pytest.fixture(scope="module")
def admin(served: Served) -> Asker:
    return served.asker_with("admin", name="the admin")


@pytest.fixture(scope="module")
def bound(served: Served) -> Asker:
    """An analyst of `test` alone."""
    return served.asker_with("analyst", name="bound", clusters=["test"])


def found(asker: Asker, path: str, name: str, **asked: Any) -> list[dict[str, Any]]:
    answer = asker.get(f"/api/v1/{path}", params=asked)
    assert answer.status_code == 200, answer.text
    listed: list[dict[str, Any]] = answer.json()[name]
    return listed


def error(answer: Any) -> tuple[int, str, str | None]:
    told = answer.json()["error"]
    return answer.status_code, told["code"], told.get("field")


# --- events ---


def test_events_are_found_by_query_cluster_and_time(viewer: Asker) -> None:
    assert len(found(viewer, "events", "events")) == 11
    of_kim = found(viewer, "events", "events", query="user.name: kim")
    assert len(of_kim) == 5
    assert {each["event"]["user"]["username"] for each in of_kim} == {"kim"}
    assert len(found(viewer, "events", "events", query="user.name: kim", cluster="test")) == 0
    assert len(found(viewer, "events", "events", cluster="prod,test")) == 11
    assert len(found(viewer, "events", "events", cluster="elsewhere")) == 0
    assert len(found(viewer, "events", "events", since="2026-11-23", until="2026-11-23")) == 11
    assert len(found(viewer, "events", "events", until="2026-11-22")) == 0
    assert len(found(viewer, "events", "events", since="2026-11-23T07:06:00.501Z")) == 0


def test_events_are_counted(viewer: Asker) -> None:
    def count(**asked: str) -> int:
        number: int = viewer.get("/api/v1/events/count", params=asked).json()["count"]
        return number

    assert count() == 11
    assert count(query="kubernetes.audit.verb: get") == 5
    assert count(query="user.name: mallory", cluster="test") == 1


def test_pages_of_events_hold_each_once(viewer: Asker) -> None:
    for order in ("newest", "oldest"):
        seqs: list[int] = []
        asked: dict[str, Any] = {"limit": 4, "order": order}
        while True:
            page = viewer.get("/api/v1/events", params=asked).json()
            seqs += [each["seq"] for each in page["events"]]
            assert page["timed_out"] is False
            if page["next"] is None:
                break
            asked["after"] = page["next"]
        assert seqs == sorted(seqs, reverse=order == "newest")
        assert len(seqs) == len(set(seqs)) == 11


def test_one_event_is_given_as_it_came(viewer: Asker) -> None:
    (first,) = found(viewer, "events", "events", cluster="test")
    answer = viewer.get(f"/api/v1/events/{first['seq']}")
    assert answer.json() == first
    assert first["cluster"] == "test"
    assert first["event"] == event(number=1)
    assert first["time"] == "2026-11-23T07:06:00.500Z"
    assert error(viewer.get("/api/v1/events/999999")) == (404, "not_found", None)
    assert viewer.get("/api/v1/events/xyz").status_code == 404


def test_a_bound_caller_sees_events_of_its_clusters(bound: Asker, viewer: Asker) -> None:
    assert [each["cluster"] for each in found(bound, "events", "events")] == ["test"]
    assert bound.get("/api/v1/events/count").json() == {"count": 1}
    assert bound.get("/api/v1/events", params={"cluster": "prod"}).status_code == 403
    hidden = found(viewer, "events", "events", cluster="prod", limit=1)[0]["seq"]
    assert bound.get(f"/api/v1/events/{hidden}").status_code == 404


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "1" * 30}, "limit"),
        ({"order": "sideways"}, "order"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-99-99"}, "until"),
        ({"nonsense": "1"}, "nonsense"),
        ({"cluster": ""}, "cluster"),
        ({"cluster": ["prod", ""]}, "cluster"),
        ({"cluster": ","}, "cluster"),
        ({"query": ["user.name: kim", "*"]}, "query"),
        ({"limit": ["1", "1"]}, "limit"),
        ({"since": ["2026-11-23", "2026-11-24"]}, "since"),
        ({"after": ["", ""]}, "after"),
        ({"order": ["newest", "oldest"]}, "order"),
        ({"order": "newest,oldest"}, "order"),
    ],
)
def test_what_is_asked_wrongly_names_its_field(
    viewer: Asker, asked: dict[str, Any], field: str
) -> None:
    assert error(viewer.get("/api/v1/events", params=asked)) == (400, "invalid_field", field)


def test_an_empty_filter_is_not_all(viewer: Asker) -> None:
    for name in ("cluster", "status", "severity", "kind", "rule"):
        answer = viewer.get("/api/v1/alerts", params={name: ""})
        assert error(answer) == (400, "invalid_field", name)


# --- alerts ---


def test_alerts_are_listed_and_counted(viewer: Asker) -> None:
    alerts = found(viewer, "alerts", "alerts")
    assert len(alerts) == 6
    first = alerts[0]
    assert first["rule_name"] == SEED
    assert first["severity"] == "medium"
    assert first["status"] == "open"
    assert "mallory" in first["message"]
    assert len(found(viewer, "alerts", "alerts", cluster="test")) == 1
    assert len(found(viewer, "alerts", "alerts", severity="high,critical")) == 0
    assert len(found(viewer, "alerts", "alerts", severity="high,medium", kind="live")) == 6
    assert len(found(viewer, "alerts", "alerts", rule=first["rule_id"])) == 6
    assert len(found(viewer, "alerts", "alerts", until="now-1d")) == 0
    counts = viewer.get("/api/v1/alerts/count", params={"cluster": "prod"}).json()
    assert counts["total"] == 5
    assert counts["by_severity"] == {"medium": 5}
    assert error(viewer.get("/api/v1/alerts", params={"severity": "dire"}))[2] == "severity"
    assert error(viewer.get("/api/v1/alerts", params={"after": "x"}))[2] == "after"


def test_the_link_in_messages_leads_to_the_alert(viewer: Asker) -> None:
    alert = found(viewer, "alerts", "alerts")[0]
    answer = viewer.get(f"/alerts/{alert['id']}")
    assert answer.status_code == 307
    assert answer.headers["location"] == f"/api/v1/alerts/{alert['id']}"
    assert viewer.get(answer.headers["location"]).json()["id"] == alert["id"]


def test_pages_of_alerts_hold_each_once(viewer: Asker) -> None:
    ids: list[str] = []
    asked: dict[str, Any] = {"limit": 4}
    while True:
        page = viewer.get("/api/v1/alerts", params=asked).json()
        ids += [each["id"] for each in page["alerts"]]
        if page["next"] is None:
            break
        asked["after"] = page["next"]
    assert len(ids) == len(set(ids)) == 6


def test_an_alert_is_worked_on_and_its_history_tells(analyst: Asker, viewer: Asker) -> None:
    (alert,) = found(viewer, "alerts", "alerts", cluster="test")
    path = f"/api/v1/alerts/{alert['id']}"

    def post(what: str, **body: Any) -> Any:
        answer = analyst.post(f"/api/v1/alerts/{what}", json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["changed"]

    one = [alert["id"]]
    assert post("status", ids=one, status="acknowledged") == one
    assert post("status", ids=one, status="acknowledged") == []
    assert post("status", ids=one, status="closed", reason="false_positive") == one
    assert post("tags", ids=one, add=["a", "b"], remove=["c"]) == one
    assert post("tags", ids=one, remove=["b"]) == one
    assert post("assignees", ids=one, add=["kim"]) == one
    assert post(f"{alert['id']}/notes", text="it was me") == one

    shown = viewer.get(path).json()
    assert (shown["status"], shown["reason"], shown["status_by"]) == (
        "closed",
        "false_positive",
        "the analyst",
    )
    assert (shown["tags"], shown["assignees"]) == (["a"], ["kim"])
    document = shown["document"]
    assert document["kibana.alert.workflow_status"] == "closed"
    assert document["kibana.alert.rule.name"] == SEED
    history = found(viewer, f"alerts/{alert['id']}/history", "history")
    assert [each["what"] for each in history] == [
        *("status", "status", "tags", "tags", "assignees", "note")
    ]
    assert {each["by"] for each in history} == {"the analyst"}
    assert (history[1]["before"], history[1]["after"]) == ("acknowledged", "closed")
    (note,) = found(viewer, f"alerts/{alert['id']}/notes", "notes")
    assert (note["text"], note["by"]) == ("it was me", "the analyst")


def test_a_bound_analyst_changes_alerts_of_its_clusters(bound: Asker, viewer: Asker) -> None:
    ids = [each["id"] for each in found(viewer, "alerts", "alerts")]
    (mine,) = found(bound, "alerts", "alerts")
    answer = bound.post("/api/v1/alerts/tags", json={"ids": ids, "add": ["bound"]})
    assert answer.json() == {"changed": [mine["id"]]}
    (hidden, *_) = [each for each in ids if each != mine["id"]]
    for path in ("", "/history", "/notes"):
        assert bound.get(f"/api/v1/alerts/{hidden}{path}").status_code == 404
    assert bound.post(f"/api/v1/alerts/{hidden}/notes", json={"text": "x"}).status_code == 404
    assert bound.get("/api/v1/alerts/count").json()["total"] == 1


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("status", {"ids": ["a"], "status": "gone"}, "status"),
        ("status", {"ids": ["a"]}, "status"),
        ("status", {"ids": [], "status": "open"}, "ids"),
        ("status", {"ids": "a", "status": "open"}, "ids"),
        ("status", {"ids": [1], "status": "open"}, "ids"),
        ("status", {"ids": ["a"], "status": "open", "reason": "x"}, "reason"),
        ("status", {"ids": ["a"], "status": "open", "more": 1}, "more"),
        ("tags", {"ids": ["a"], "add": "x"}, "add"),
        ("assignees", {"add": ["x"]}, "ids"),
        ("some-id/notes", {"text": " "}, "text"),
        ("some-id/notes", {"text": "x" * 100_001}, "text"),
    ],
)
def test_a_body_that_is_wrong_names_its_field(
    analyst: Asker, path: str, body: dict[str, Any], field: str
) -> None:
    answer = analyst.post(f"/api/v1/alerts/{path}", json=body)
    assert error(answer) == (400, "invalid_field", field)


def test_a_body_that_is_no_json_object_is_refused(analyst: Asker) -> None:
    for content in (b"nonsense", b"[]", b'{"ids": NaN}'):
        assert analyst.post("/api/v1/alerts/status", content=content).status_code == 400


# --- rules, runs, gaps ---


def test_rules_tell_whether_they_run(viewer: Asker) -> None:
    until(lambda: bool(found(viewer, "rules", "rules")[0]["last_run"]))
    (rule,) = [each for each in found(viewer, "rules", "rules") if each["name"] == SEED]
    assert (rule["status"], rule["enabled"], rule["source"]) == ("ready", True, "pack")
    assert rule["last_run"]["status"] == "succeeded"


def test_runs_are_listed_and_one_is_given(viewer: Asker) -> None:
    until(lambda: bool(found(viewer, "runs", "runs")))
    answer = viewer.get("/api/v1/runs", params={"status": "succeeded"}).json()
    run = answer["runs"][0]
    assert answer["total"] >= 1
    assert viewer.get(f"/api/v1/runs/{run['id']}").json() == run
    assert found(viewer, "runs", "runs", rule=run["rule_id"], kind="scheduled,catch-up")
    assert found(viewer, "runs", "runs", rule=run["rule_uuid"], order="oldest")
    assert not found(viewer, "runs", "runs", status="failed")
    assert not found(viewer, "runs", "runs", until="now-1h")
    assert error(viewer.get("/api/v1/runs", params={"rule": "none"})) == (404, "not_found", None)
    assert error(viewer.get("/api/v1/runs", params={"status": "odd"}))[2] == "status"
    assert viewer.get("/api/v1/runs/none").status_code == 404


def test_a_rule_is_run_by_hand(engineer: Asker, viewer: Asker) -> None:
    rule_id = found(viewer, "rules", "rules")[0]["rule_id"]
    path = f"/api/v1/rules/{rule_id}/runs"
    answer = engineer.post(path, json={"from": "now-1h", "to": "now"})
    assert answer.status_code == 202
    assert answer.json()["id"]
    until(lambda: not found(viewer, "manual-runs", "manual_runs"))
    assert found(viewer, "runs", "runs", kind="manual")
    assert error(engineer.post(path, json={"from": "now", "to": "now-1h"}))[2] == "to"
    assert error(engineer.post(path, json={"to": "now"}))[2] == "from"
    assert engineer.post(path, json={"from": "now", "to": "now+1h"}).status_code == 400
    assert (
        engineer.post("/api/v1/rules/none/runs", json={"from": "now-1h", "to": "now"}).status_code
        == 404
    )


def test_gaps_are_listed(served: Served, viewer: Asker) -> None:
    rule = found(viewer, "rules", "rules")[0]
    served.service.database.write(
        lambda c: runs_table.add_gap(
            c,
            rule_uuid="gone",
            rule_id="gone",
            from_ms=1_795_000_000_000,
            to_ms=1_795_000_600_000,
            at_us=1,
            message="it was down",
        )
    )
    (gap,) = found(viewer, "gaps", "gaps", status="unfilled")
    assert (gap["message"], gap["status"], gap["filled_to"]) == ("it was down", "unfilled", None)
    assert not found(viewer, "gaps", "gaps", rule=rule["id"])
    assert not found(viewer, "gaps", "gaps", until="2026-11-01")
    assert found(viewer, "gaps", "gaps", since="2026-11-01", until="2026-11-30")


# --- how it is doing ---


def test_intake_tells_of_each_cluster(viewer: Asker, bound: Asker) -> None:
    told = viewer.get("/api/v1/intake").json()
    prod, test = told["clusters"]
    assert (prod["name"], prod["stored"], prod["malformed"], prod["refused"]) == ("prod", 10, 0, 0)
    assert test["last_event"] == "2026-11-23T07:06:00.500Z"
    assert prod["silent_seconds"] >= 0
    assert told["fault"] is None
    assert told["max_bytes"] > 0
    assert [each["name"] for each in bound.get("/api/v1/intake").json()["clusters"]] == ["test"]


def test_warnings_that_last_are_listed(served: Served, viewer: Asker, bound: Asker) -> None:
    watch = Watch("silent", "prod", "raised", 1_795_000_000_000_000, 1_795_000_000_000_001, "a", {})
    served.service.database.write(lambda c: watches_table.put(c, watch))
    (shown,) = [each for each in found(viewer, "watches", "watches") if each["kind"] == "silent"]
    assert (shown["subject"], shown["alert_id"]) == ("prod", "a")
    assert not [each for each in found(bound, "watches", "watches") if each["kind"] == "silent"]


def test_sinks_are_listed_and_one_that_there_is_not_is_said_so(
    viewer: Asker, engineer: Asker
) -> None:
    assert found(viewer, "sinks", "sinks") == []
    assert engineer.post("/api/v1/sinks/none/test").status_code == 404
    assert engineer.post("/api/v1/sinks/none/requeue").status_code == 404


def test_health_tells_operators_more(viewer: Asker) -> None:
    told = viewer.get("/api/v1/health").json()
    assert told["ready"] is True
    assert told["reasons"] == []


# --- access ---


def test_a_key_is_made_shown_once_used_and_revoked(served: Served, admin: Asker) -> None:
    body = {"name": "made", "role": "viewer", "clusters": ["prod"], "expires": "now+1h"}
    made = admin.post("/api/v1/keys", json=body)
    assert made.status_code == 201
    key = made.json()
    assert key["clusters"] == ["prod"]
    for shown in (f"Bearer {key['token']}", f"ApiKey {key['encoded']}"):
        told = served.asker(shown=shown).get("/api/v1/whoami").json()
        assert told == {"name": "made", "kind": "key", "role": "viewer", "clusters": ["prod"]}
    (listed,) = [each for each in found(admin, "keys", "keys") if each["name"] == "made"]
    assert "token" not in listed
    assert key["token"].partition(".")[2] not in json.dumps(listed)
    assert listed["valid"] is True

    assert error(admin.post("/api/v1/keys", json=body)) == (409, "conflict", None)
    assert admin.delete("/api/v1/keys/made").json() == {"revoked": key["id"]}
    assert admin.delete("/api/v1/keys/made").status_code == 404
    gone = served.asker(shown=f"Bearer {key['token']}").get("/api/v1/whoami")
    assert error(gone)[:2] == (401, "unauthenticated")
    (listed,) = [each for each in found(admin, "keys", "keys") if each["name"] == "made"]
    assert listed["valid"] is False


def test_a_bound_admin_makes_no_key_that_opens_more(served: Served) -> None:
    bound_admin = served.asker_with("admin", name="bound admin", clusters=["test"])
    for clusters in (None, [], ["prod"], ["prod", "test"]):
        body = {"name": "more", "role": "admin", "clusters": clusters}
        assert bound_admin.post("/api/v1/keys", json=body).status_code == 403
    body = {"name": "as much", "role": "admin", "clusters": ["test"]}
    assert bound_admin.post("/api/v1/keys", json=body).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "role": "root"}, "role"),
        ({"role": "viewer"}, "name"),
        ({"name": "x", "role": "viewer", "clusters": "prod"}, "clusters"),
        ({"name": "x", "role": "viewer", "expires": "soon"}, "expires"),
        ({"name": "a/b", "role": "viewer"}, None),
        ({"name": "x", "role": "viewer", "expires": "now-1h"}, None),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(
    admin: Asker, body: dict[str, Any], field: str | None
) -> None:
    answer = admin.post("/api/v1/keys", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"].get("field") == field


def test_the_audit_trail_tells_of_every_change(
    admin: Asker, analyst: Asker, engineer: Asker, viewer: Asker
) -> None:
    alert = found(viewer, "alerts", "alerts", cluster="prod")[0]
    rule_id = found(viewer, "rules", "rules")[0]["rule_id"]
    analyst.post("/api/v1/alerts/tags", json={"ids": [alert["id"]], "add": ["seen"]})
    engineer.post(f"/api/v1/rules/{rule_id}/runs", json={"from": "now-10m", "to": "now"})
    admin.post("/api/v1/keys", json={"name": "audited", "role": "viewer"})
    admin.delete("/api/v1/keys/audited")
    entries = found(admin, "audit", "entries", limit=1000)
    told = {(each["by"], each["action"], each["target"]) for each in entries}
    assert told >= {
        ("the analyst", "alert.tags", alert["id"]),
        ("the engineer", "rule.run", rule_id),
        ("the admin", "key.create", "audited"),
        ("the admin", "key.revoke", "audited"),
    }
    (made,) = found(admin, "audit", "entries", action="key.create", target="audited")
    assert made["detail"]["role"] == "viewer"
    assert len(found(admin, "audit", "entries", by="the engineer")) >= 1
    assert not found(admin, "audit", "entries", since="now+1h")
    assert entries == sorted(entries, key=lambda each: each["id"], reverse=True)


ROLES = ("viewer", "analyst", "engineer", "admin")


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/api/v1/events", "viewer"),
        ("GET", "/api/v1/alerts", "viewer"),
        ("GET", "/metrics", "viewer"),
        ("POST", "/api/v1/alerts/status", "analyst"),
        ("POST", "/api/v1/alerts/x/notes", "analyst"),
        ("POST", "/api/v1/rules/x/runs", "engineer"),
        ("POST", "/api/v1/sinks/x/test", "engineer"),
        ("GET", "/api/v1/keys", "admin"),
        ("POST", "/api/v1/keys", "admin"),
        ("DELETE", "/api/v1/keys/x", "admin"),
        ("GET", "/api/v1/audit", "admin"),
    ],
)
def test_who_may(
    viewer: Asker,
    analyst: Asker,
    engineer: Asker,
    admin: Asker,
    method: str,
    path: str,
    least: str,
) -> None:
    askers = dict(zip(ROLES, (viewer, analyst, engineer, admin), strict=True))
    for role, asker in askers.items():
        status = asker.ask(method, path).status_code
        is_let_in = ROLES.index(role) >= ROLES.index(least)
        assert (status != 403) is is_let_in, (role, status)
        assert status != 401


def test_without_a_key_things_are_read_and_not_changed(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as world:
        me = world.asker()
        assert me.get("/api/v1/whoami").json()["role"] == "local"
        assert me.get("/api/v1/alerts").status_code == 200
        assert me.get("/api/v1/rules").status_code == 200
        for method, path in (
            ("POST", "/api/v1/alerts/status"),
            ("POST", "/api/v1/rules/x/runs"),
            ("POST", "/api/v1/keys"),
            ("GET", "/api/v1/keys"),
            ("GET", "/api/v1/audit"),
        ):
            answer = me.ask(method, path)
            assert answer.status_code == 403
            assert "barrelman keys create" in answer.json()["error"]["hint"]


# --- who is bound to clusters -------------------------------------------------------------------


def test_who_is_bound_learns_nothing_of_other_clusters_from_runs(bound: Asker) -> None:
    for path in ("runs", "gaps", "manual-runs"):
        answer = bound.get(f"/api/v1/{path}")
        assert answer.status_code == 403, path
        assert "of all clusters" in answer.json()["error"]["message"]
    rules = bound.get("/api/v1/rules").json()["rules"]
    assert rules
    assert all(each["last_run"] is None for each in rules)


def test_who_is_bound_changes_no_rule(served: Served) -> None:
    engineer = served.asker_with("engineer", name="the engineer of test alone", clusters=["test"])
    props = {
        "name": "x",
        "description": "x",
        "risk_score": 1,
        "severity": "low",
        "type": "query",
        "query": "user.name: mallory",
    }
    made = engineer.post("/api/detection_engine/rules", json=props, headers={"kbn-xsrf": "x"})
    assert made.status_code == 403
    rule = engineer.get("/api/v1/rules").json()["rules"][0]["id"]
    asked = {"from": "now-1h", "to": "now"}
    assert engineer.post(f"/api/v1/rules/{rule}/runs", json=asked).status_code == 403


def test_a_bound_admin_sees_and_revokes_keys_of_its_clusters_alone(served: Served) -> None:
    admin = served.asker_with("admin", name="the admin of test alone", clusters=["test"])
    whole = served.asker_with("admin", name="the admin of all")
    for name, clusters in (("k-test", ["test"]), ("k-prod", ["prod"]), ("k-all", None)):
        body = {"name": name, "role": "viewer"} | ({"clusters": clusters} if clusters else {})
        assert whole.post("/api/v1/keys", json=body).status_code == 201
    names = {each["name"] for each in admin.get("/api/v1/keys").json()["keys"]}
    assert "k-test" in names
    assert names.isdisjoint({"k-prod", "k-all", "the admin of all"})
    assert admin.delete("/api/v1/keys/k-prod").status_code == 404
    assert admin.delete("/api/v1/keys/k-all").status_code == 404
    assert admin.delete("/api/v1/keys/k-test").status_code == 200
    assert admin.get("/api/v1/audit").status_code == 403
    valid = {each["name"]: each["valid"] for each in whole.get("/api/v1/keys").json()["keys"]}
    assert (valid["k-prod"], valid["k-all"], valid["k-test"]) == (True, True, False)
