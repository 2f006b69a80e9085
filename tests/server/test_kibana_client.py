"""The calls of the Python client that rule authors use, with its habits: it sends a request again
whenever the answer's status is not 200, splits lines wherever Unicode ends one, and looks keys up
without asking whether they are there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from kibana_world import World, alert, rule, world

from barrelman.store import rules

BOUNDARY = "----JustAnotherBoundary"
DETAILS = (
    *("exported_rules_count", "exported_exception_list_count"),
    *("exported_exception_list_item_count", "exported_action_connector_count"),
)
CUSTOM = (
    '(alert.attributes.params.ruleSource.type: "internal" '
    "or alert.attributes.params.immutable: false)"
)


class Session:
    """Speaks as that client does. `sent` counts what went over the wire."""

    def __init__(self, here: World, role: str = "engineer", *, space: str | None = None) -> None:
        self._asker = here.asker(role).asker
        self._headers = {
            "kbn-xsrf": str(uuid.uuid4()),
            "content-type": "application/json",
            "user-agent": "detection-rules/1.5.0 (DaC; kibana-lib 0.4.7)",
        }
        self._prefix = f"/s/{space.lower()}" if space not in (None, "default") else ""
        self.sent = 0

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        data: Any = None,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        error: bool = True,
    ) -> Any:
        body = raw if raw is not None else json.dumps(data).encode() if data is not None else b""
        url = f"{self._prefix}{path}"
        if params:
            url += "?" + urlencode(params)
        sent = {"headers": {**self._headers, **(headers or {})}, "content": body}
        answer = self._send(method, url, sent)
        if answer.status_code != 200:
            answer = self._send(method, url, sent)
        if error:
            answer.raise_for_status()
        if not answer.content:
            return None
        kind = answer.headers["content-type"]
        if "ndjson" in kind:
            return [json.loads(line) for line in answer.text.splitlines()]
        return answer.json()

    def _send(self, method: str, url: str, sent: dict[str, Any]) -> httpx.Response:
        self.sent += 1
        return self._asker.ask(method, url, **sent)

    def import_rules(
        self,
        given: list[Any],
        exceptions: list[Any] | None = None,
        connectors: list[Any] | None = None,
        **flags: bool,
    ) -> tuple[Any, list[str], list[Any]]:
        lines = [*given, *(exceptions or []), *(connectors or [])]
        text = "\n".join(json.dumps(line) for line in lines) + "\n"
        body = "\r\n".join(
            [
                f"--{BOUNDARY}",
                'Content-Disposition: form-data; name="file"; filename="import.ndjson"',
                "Content-Type: application/x-ndjson",
                "",
                text,
                f"--{BOUNDARY}--",
                "",
            ]
        )
        answer = self.request(
            "POST",
            "/api/detection_engine/rules/_import",
            params={
                "overwrite": flags.get("overwrite", False),
                "overwrite_exceptions": flags.get("overwrite_exceptions", False),
                "overwrite_action_connectors": flags.get("overwrite_action_connectors", False),
            },
            raw=body.encode(),
            headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
        )
        failed = [error["rule_id"] for error in answer["errors"]]
        good = [each["rule_id"] for each in given if each["rule_id"] not in failed]
        exported = self.export_rules(good, details=False) if good else []
        return answer, good, exported

    def export_rules(self, rule_ids: list[str] | None = None, *, details: bool = True) -> Any:
        data = {"objects": [{"rule_id": each} for each in rule_ids]} if rule_ids else None
        return self.request(
            "POST",
            "/api/detection_engine/rules/_export",
            params={"exclude_export_details": "false" if details else "true"},
            data=data,
        )

    def bulk_export(self, query: str) -> Any:
        return self.request(
            "POST",
            "/api/detection_engine/rules/_bulk_action",
            params={"dry_run": "false"},
            data={
                "action": "export",
                "edit": None,
                "duplicate": {"include_exceptions": False, "include_expired_exceptions": False},
                "query": query,
            },
        )


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def session(here: World) -> Session:
    return Session(here)


def container(list_id: str = "vip", **changes: Any) -> dict[str, Any]:
    return {
        "list_id": list_id,
        "name": "VIPs",
        "description": "Known people",
        "type": "detection",
        "namespace_type": "single",
        "tags": [],
        "os_types": [],
        "created_at": "2024-01-01T00:00:00.000Z",
        "_version": "WzEsMV0=",
        "id": "another-stack",
        **changes,
    }


def item(item_id: str = "i1", list_id: str = "vip", **changes: Any) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "list_id": list_id,
        "type": "simple",
        "name": "mallory",
        "description": "A person",
        "namespace_type": "single",
        "entries": [
            {"field": "user.name", "operator": "included", "type": "match", "value": "mallory"}
        ],
        "comments": [],
        **changes,
    }


def connector(connector_id: str = "c1") -> dict[str, Any]:
    return {
        "id": connector_id,
        "type": "action",
        "attributes": {"actionTypeId": ".slack", "name": "Team", "config": {}, "secrets": {}},
        "references": [],
    }


def reference(list_id: str = "vip", **changes: Any) -> dict[str, Any]:
    made = {"id": "elsewhere", "list_id": list_id, "type": "detection", "namespace_type": "single"}
    return {**made, **changes}


def test_import_then_export_of_what_went_well(here: World, session: Session) -> None:
    given = [
        rule(1, exceptions_list=[reference()], actions=[action()]),
        rule(2, name="Ünïcode\u2028line\x85end"),
    ]
    answer, good, exported = session.import_rules(given, [container(), item()], [connector()])

    assert answer["errors"] == []
    assert answer["success"] is True
    assert (answer["success_count"], answer["rules_count"]) == (2, 2)
    assert answer["exceptions_success"] is True
    assert answer["exceptions_success_count"] == 2
    assert answer["action_connectors_success"] is True
    assert answer["action_connectors_success_count"] == 1
    assert good == [each["rule_id"] for each in given]
    assert [each.get("rule_id") for each in exported[:2]] == good
    assert exported[1]["name"] == "Ünïcode\u2028line\x85end"
    assert session.sent == 2

    shown = exported[0]
    assert shown["related_integrations"] == []
    assert shown["exceptions_list"][0]["list_id"] == "vip"
    assert shown["exceptions_list"][0]["id"] != "elsewhere"
    held = here.service.database.read(lambda c: rules.get(c, rule_id=good[0]))
    assert held is not None
    assert (held.enabled, held.revision) == (False, 0)


def action(connector_id: str = "c1") -> dict[str, Any]:
    return {
        "id": connector_id,
        "action_type_id": ".slack",
        "group": "default",
        "params": {"message": "{{alert}}"},
    }


def test_an_export_keeps_its_strict_order_and_ends_with_the_count(session: Session) -> None:
    session.import_rules(
        [rule(1, exceptions_list=[reference()], actions=[action()]), rule(2)],
        [container(), item("i1"), item("i2"), container("unused"), item("i3", "unused")],
        [connector(), connector("c2")],
    )
    lines = session.export_rules()

    kinds = [kind_of(line) for line in lines]
    assert kinds == ["rule", "rule", "list", "item", "item", "connector", "details"]
    details = lines[-1]
    assert [details[name] for name in DETAILS] == [2, 1, 2, 1]
    # Every exported list must be one that an exported rule names.
    named = {ref["list_id"] for line in lines[:2] for ref in line["exceptions_list"]}
    assert {lines[2]["list_id"]} == named
    for line in lines[2:6]:
        for stamp in ("created_at", "updated_at"):
            assert len(line[stamp]) == 24, line[stamp]
            assert line[stamp][-5] == "."
    assert all("execution_summary" not in line for line in lines)
    assert [kind_of(line) for line in session.export_rules(details=False)] == kinds[:-1]


def kind_of(line: dict[str, Any]) -> str:
    if "exported_rules_count" in line:
        return "details"
    if line["type"] == "action":
        assert line["attributes"]
        return "connector"
    if "entries" in line:
        assert line["type"] == "simple"
        return "item"
    return "list" if "list_id" in line else "rule"


def test_an_export_names_what_is_missing(session: Session) -> None:
    session.import_rules([rule(1)])
    lines = session.export_rules([rule(1)["rule_id"], "nobody"])

    assert len(lines) == 2
    assert lines[-1]["missing_rules"] == [{"rule_id": "nobody"}]
    assert lines[-1]["missing_rules_count"] == 1


def test_no_body_at_all_exports_everything(session: Session) -> None:
    session.import_rules([rule(1), rule(2)])

    answer = session.request("POST", "/api/detection_engine/rules/_export", raw=b"")
    assert [kind_of(line) for line in answer] == ["rule", "rule", "details"]
    answer = session.request("POST", "/api/detection_engine/rules/_export", raw=b"null")
    assert len(answer) == 3


def test_a_second_import_without_overwrite_fails_by_rule_and_is_not_sent_twice(
    session: Session,
) -> None:
    session.import_rules([rule(1)])
    session.sent = 0
    answer, good, exported = session.import_rules([rule(1), rule(2)])

    assert session.sent == 2
    assert good == [rule(2)["rule_id"]]
    assert len(exported) == 1
    [error] = answer["errors"]
    assert error["rule_id"] == rule(1)["rule_id"]
    assert error["error"]["status_code"] == 409
    assert "already exists" in error["error"]["message"]
    assert (answer["success"], answer["success_count"], answer["rules_count"]) == (False, 1, 2)


def test_overwrite_replaces_rule_and_exceptions(here: World, session: Session) -> None:
    session.import_rules([rule(1)], [container(), item("old")])
    before = here.service.rules.get(rule_id=rule(1)["rule_id"])
    answer, _, _ = session.import_rules(
        [rule(1, severity="high", exceptions_list=[reference()])],
        [container(name="New name"), item("new")],
        overwrite=True,
        overwrite_exceptions=True,
    )

    assert answer["success"] is True
    assert answer["exceptions_success"] is True
    lines = session.export_rules()
    assert (lines[0]["id"], lines[0]["severity"]) == (before["id"], "high")
    assert lines[0]["revision"] == 1
    assert (lines[1]["name"], lines[2]["item_id"], len(lines)) == ("New name", "new", 4)


def test_exceptions_without_overwrite_are_told_apart_from_rules(session: Session) -> None:
    session.import_rules([], [container(), item()])
    answer, good, _ = session.import_rules([rule(1)], [container(), item()])

    assert answer["errors"] == []
    assert good
    assert answer["exceptions_success"] is False
    statuses = [each["error"]["status_code"] for each in answer["exceptions_errors"]]
    assert statuses == [409, 409]
    assert answer["exceptions_errors"][1]["item_id"] == "i1"


def test_a_reference_to_no_list_is_removed_and_told_in_words_that_clients_parse(
    session: Session,
) -> None:
    given = [rule(1, exceptions_list=[reference("gone"), reference()]), rule(2)]
    answer, good, _ = session.import_rules(given, [container()])

    [error] = answer["errors"]
    assert error["rule_id"] == rule(1)["rule_id"]
    assert "references a non existent exception list" in error["error"]["message"]
    assert 'list_id: "gone"' in error["error"]["message"]
    assert good == [rule(2)["rule_id"]]
    shown = session.request(
        "GET", "/api/detection_engine/rules", params={"rule_id": rule(1)["rule_id"]}
    )
    assert [each["list_id"] for each in shown["exceptions_list"]] == ["vip"]


def test_every_error_of_an_import_names_a_rule_id(session: Session) -> None:
    text = "\n".join(
        [
            "{broken",
            json.dumps({"what": "is this"}),
            json.dumps(rule(1, rule_id=None)),
            json.dumps(rule(2, severity="awful")),
            json.dumps(rule(3)),
            json.dumps(rule(3)),
            json.dumps(rule(4, actions=[action("unknown")])),
            json.dumps(rule(5)),
            json.dumps({"exported_count": 1, "exported_rules_count": 1}),
        ]
    )
    answer = session.request(
        "POST",
        "/api/detection_engine/rules/_import",
        raw=(
            f'--{BOUNDARY}\nContent-Disposition: form-data; name="file"; filename="x"\n\n'
            f"{text}\n--{BOUNDARY}--\n"
        ).encode(),
        headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    errors = answer["errors"]
    assert all(error["rule_id"] and error["error"]["message"] for error in errors)
    assert [error["error"]["status_code"] for error in errors] == [400, 400, 400, 400, 400, 404]
    assert [error["rule_id"] for error in errors].count("(unknown id)") == 3
    assert (answer["rules_count"], answer["success_count"]) == (6, 1)
    assert answer["action_connectors_success"] is False
    assert "missing" in answer["action_connectors_errors"][0]["error"]["message"]


def test_export_of_custom_rules_only(here: World, session: Session) -> None:
    session.import_rules([rule(1, tags=["team"]), rule(2)])
    lines = session.bulk_export(CUSTOM)
    assert [kind_of(line) for line in lines] == ["rule", "rule", "details"]
    lines = session.bulk_export(f"{CUSTOM} and (alert.attributes.tags: team)")
    assert [line.get("rule_id") for line in lines[:-1]] == [rule(1)["rule_id"]]
    assert lines[-1]["exported_rules_count"] == 1
    assert [kind_of(line) for line in session.bulk_export("alert.attributes.name: none")] == [
        "details"
    ]


def test_find_until_a_page_is_short(session: Session) -> None:
    session.import_rules([rule(number) for number in range(1, 24)])
    found: list[Any] = []
    page = 1
    while True:
        answer = session.request(
            "GET",
            "/api/detection_engine/rules/_find",
            params={
                "per_page": 10,
                "page": page,
                "sort_field": "name",
                "sort_order": "asc",
                "filter": "alert.attributes.name:Rule",
            },
        )
        found += answer["data"]
        if len(answer["data"]) < 10:
            break
        page += 1
    assert page == 3
    assert len({each["rule_id"] for each in found}) == 23


def test_a_post_is_done_once(here: World, session: Session) -> None:
    made = session.request("POST", "/api/detection_engine/rules", data=rule(1))
    assert session.sent == 1
    assert made["rule_id"] == rule(1)["rule_id"]
    session.request("DELETE", "/api/detection_engine/rules", params={"id": made["id"]})
    assert session.sent == 2
    made = session.request("POST", "/api/detection_engine/rules/_bulk_create", data=[rule(1)])
    assert session.sent == 3
    assert made[0]["revision"] == 0


def test_bulk_actions_of_the_library(here: World, session: Session) -> None:
    _, _, exported = session.import_rules([rule(1), rule(2)])
    ids = [each["id"] for each in exported]

    def act(action_name: str, **more: Any) -> Any:
        return session.request(
            "POST",
            "/api/detection_engine/rules/_bulk_action",
            params={"dry_run": "false"},
            data={"action": action_name, "ids": ids, "edit": None, **more},
            error=False,
        )

    assert act("enable")["success"] is True
    assert len(here.service.rulebook.lineup.watchers) == 2
    assert act("disable")["attributes"]["summary"]["succeeded"] == 2
    edits = [{"type": "add_tags", "value": ["new"]}]
    assert act("edit", edit=edits)["attributes"]["results"]["updated"][0]["tags"] == ["new"]
    made = act("duplicate", duplicate={"include_exceptions": True})
    assert len(made["attributes"]["results"]["created"]) == 2
    assert len(act("delete")["attributes"]["results"]["deleted"]) == 2
    # What is gone fails with 500: the client ignores it, having asked twice.
    sent = session.sent
    gone = act("delete")
    assert session.sent == sent + 2
    assert gone["status_code"] == 500
    assert gone["attributes"]["summary"] == {
        "failed": 2,
        "skipped": 0,
        "succeeded": 0,
        "total": 2,
    }


def test_search_alerts_and_close_one(here: World) -> None:
    session = Session(here, "analyst", space="Default")
    here.raise_alerts(alert(1), alert(2, seconds=-7200))
    answer = session.request(
        "POST",
        "/api/detection_engine/signals/search",
        data={
            "size": 1000,
            "query": {
                "bool": {
                    "filter": [
                        {"range": {"@timestamp": {"gte": "now-1h", "lte": "now"}}},
                        {"match_phrase": {"kibana.alert.workflow_status": "open"}},
                    ]
                }
            },
        },
    )
    [hit] = answer["hits"]["hits"]
    assert hit["_source"]["kibana.alert.rule.name"] == "Rule 1"
    assert hit["_source"]["kibana.alert.status"] == "active"
    assert hit["_source"]["kibana.alert.original_time"]
    done = session.request(
        "POST",
        "/api/detection_engine/signals/status",
        data={"signal_ids": [hit["_id"]], "status": "closed"},
    )
    assert (done["total"], done["updated"], done["version_conflicts"]) == (1, 1, 0)
    assert session.sent == 2


def test_remote_validation(session: Session) -> None:
    assert session.request("GET", "/api/status")["version"]["number"]
    stamp = "2026-11-18T12:00:00.123456+00:00"
    answer = session.request(
        "POST",
        "/api/detection_engine/rules/preview",
        data={**rule(1), "timeframeEnd": stamp, "invocationCount": 1},
    )
    assert answer["logs"][0]["errors"] == []
    assert session.request("GET", "/api/spaces/space")[0]["id"] == "default"
    assert session.request("GET", "/internal/security/me")["username"]
    assert session.request("GET", "/logout")
