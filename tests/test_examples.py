"""The sample log says what its README says it says: read here by hand, without the engine."""

import json
import re
import tomllib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
LINES = (EXAMPLES / "audit.log").read_bytes().splitlines()
EVENTS: list[dict[str, Any]] = [json.loads(line) for line in LINES]
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")

# Time of the request, verb, account and namespace of every event that the shipped rule must name.
HOST_IPC = [
    ("13:52:31", "create", "runner-deployer", "ticketing"),
    ("13:54:08", "create", "runner-deployer", "sailings-batch"),
    ("13:58:40", "patch", "runner-deployer", "sailings-batch"),
    ("14:02:12", "create", "replicaset-controller", "monitoring"),
    ("14:11:50", "create", "metrics-agent", "kube-system"),
    ("14:12:25", "update", "metrics-agent", "kube-system"),
]
OUTSIDE_SECRETS = ["13:48:37", "13:48:44", "13:48:58", "13:49:13", "14:04:51"]
# Key order of the API server's encoder; keys without a value are left out.
KEY_ORDER = [
    "kind", "apiVersion", "level", "auditID", "stage", "requestURI", "verb", "user", "sourceIPs",
    "userAgent", "objectRef", "responseStatus", "requestObject", "responseObject",
    "requestReceivedTimestamp", "stageTimestamp", "annotations",
]  # fmt: skip
DOCUMENTATION = [ip_network("203.0.113.0/24"), ip_network("198.51.100.0/24")]


def instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def clock(event: dict[str, Any]) -> str:
    return str(event["requestReceivedTimestamp"][11:19])


def object_of(event: dict[str, Any], key: str) -> str | None:
    value = event.get("objectRef", {}).get(key)
    return None if value is None else str(value)


def asks_for_host_ipc(event: dict[str, Any], part: str = "requestObject") -> bool:
    body = event.get(part)
    return isinstance(body, dict) and body.get("spec", {}).get("hostIPC") is True


def test_size_and_span() -> None:
    assert len(EVENTS) == 369
    times = [instant(event["stageTimestamp"]) for event in EVENTS]
    assert timedelta(minutes=45) < max(times) - min(times) < timedelta(minutes=55)
    assert f"{len(EVENTS)} audit events" in README


def test_lines_are_as_the_api_server_writes_them() -> None:
    for line, event in zip(LINES, EVENTS, strict=True):
        assert not set(b"<>&") & set(line), line
        assert list(event) == [key for key in KEY_ORDER if key in event]
        assert json.loads(json.dumps(event)) == event
        spaced = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", line)
        assert b" " not in spaced


def test_each_stage_of_a_request_appears_once() -> None:
    keys = [(event["auditID"], event["stage"]) for event in EVENTS]
    assert len(keys) == len(set(keys))
    assert {event["stage"] for event in EVENTS} == {"ResponseStarted", "ResponseComplete"}


def test_events_are_in_the_order_they_ended() -> None:
    times = [instant(event["stageTimestamp"]) for event in EVENTS]
    for before, after in pairwise(times):
        assert before - after < timedelta(milliseconds=5)
    for event in EVENTS:
        assert event["requestReceivedTimestamp"] <= event["stageTimestamp"]


def test_bodies_follow_the_level() -> None:
    for event in EVENTS:
        if event["level"] == "Metadata":
            assert "requestObject" not in event
        if event["level"] != "RequestResponse":
            assert "responseObject" not in event
        if object_of(event, "resource") in {"secrets", "configmaps"}:
            assert event["level"] == "Metadata"


def test_addresses_belong_to_nobody() -> None:
    for event in EVENTS:
        for text in event["sourceIPs"]:
            address = ip_address(text)
            assert address.is_private or any(address in net for net in DOCUMENTATION), text


def test_every_decision_fits_its_answer() -> None:
    for event in EVENTS:
        decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
        if decision == "forbid":
            assert event["responseStatus"]["code"] == 403
        elif decision is None:
            assert event["responseStatus"]["code"] == 401


def test_pods_with_host_ipc() -> None:
    found = [
        (clock(event), event["verb"], event["user"]["username"].rpartition(":")[2], namespace)
        for event in EVENTS
        if object_of(event, "resource") == "pods"
        and event["verb"] in {"create", "update", "patch"}
        and asks_for_host_ipc(event)
        for namespace in [object_of(event, "namespace")]
    ]
    assert found == HOST_IPC
    for when, verb, account, namespace in HOST_IPC:
        assert re.search(rf"\| {when} {verb} \| \S*{account} \| {namespace}/", README)


@pytest.mark.parametrize(
    ("verb", "resource", "subresource"),
    [
        ("get", "pods", None),
        ("create", "pods", "exec"),
        ("get", "pods", "exec"),
        ("create", "pods", "binding"),
        ("patch", "pods", "status"),
        ("patch", "pods", "ephemeralcontainers"),
    ],
)
def test_near_misses_without_the_field(verb: str, resource: str, subresource: str | None) -> None:
    near = [
        event
        for event in EVENTS
        if event["verb"] == verb
        and object_of(event, "resource") == resource
        and object_of(event, "subresource") == subresource
    ]
    assert near
    assert not any(map(asks_for_host_ipc, near))


def test_near_miss_that_says_false() -> None:
    said = [event for event in EVENTS if b'"hostIPC":false' in LINES[EVENTS.index(event)]]
    assert [(clock(event), event["verb"]) for event in said] == [("13:44:19", "patch")]
    assert said[0]["requestObject"]["spec"]["hostIPC"] is False


def test_near_miss_in_a_template() -> None:
    templates = [
        (object_of(event, "resource"), event["user"]["username"])
        for event in EVENTS
        if event.get("requestObject", {}).get("spec", {}).get("template", {}).get("spec", {})
        and event["requestObject"]["spec"]["template"]["spec"].get("hostIPC") is True
    ]
    assert [resource for resource, _ in templates] == ["deployments", "replicasets"]
    assert templates[0][1] == "oidc:tomas.arendt@tidewater.example"


def test_deletes_show_host_ipc_in_the_response_alone() -> None:
    gone = [
        clock(event)
        for event in EVENTS
        if event["verb"] == "delete" and asks_for_host_ipc(event, "responseObject")
    ]
    assert gone == ["14:17:02", "14:17:30"]
    assert not [e for e in EVENTS if e["verb"] == "delete" and asks_for_host_ipc(e)]


def test_secrets_listed_from_outside() -> None:
    outside = [
        clock(event)
        for event in EVENTS
        if object_of(event, "resource") == "secrets"
        and event["verb"] == "list"
        and event["user"]["username"].startswith("system:serviceaccount:")
        and not any(ip_address(text) in ip_network("10.0.0.0/8") for text in event["sourceIPs"])
    ]
    assert outside == OUTSIDE_SECRETS


def test_the_token_is_the_same_inside_and_outside() -> None:
    key = "authentication.kubernetes.io/credential-id"
    seen = {
        (event["sourceIPs"][0], *event["user"]["extra"][key])
        for event in EVENTS
        if event["user"].get("username") == "system:serviceaccount:ci:runner-deployer"
    }
    assert {address for address, _ in seen} == {"10.244.2.37", "203.0.113.77"}
    assert len({credential for _, credential in seen}) == 1


def test_the_rule_and_the_exceptions_read() -> None:
    rule = tomllib.loads((EXAMPLES / "rules/secrets_listed_from_outside.toml").read_text("utf-8"))
    assert rule["rule"]["name"] in README
    container, *items = map(json.loads, (EXAMPLES / "exceptions.ndjson").read_text().splitlines())
    assert {item["list_id"] for item in items} == {container["list_id"]}
    expired = [item for item in items if item.get("expire_time", "9") < "2026-11-18T13:35"]
    assert [item["item_id"] for item in expired] == ["fare-load-test"]
