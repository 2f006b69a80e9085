"""Audit events and rules for the tests of whole commands."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

START = datetime(2026, 11, 23, 12, 1, tzinfo=UTC)
SEED_NAME = "Kubernetes Pod Created With HostIPC"
SEED_ID = "764c8437-a581-4537-8060-1fdb0e92c92d"
_PLAIN: Any = {"containers": [{"name": "a", "image": "nginx"}]}


def event(number: int, *, seconds: float = 0, spec: Any = None, **changes: Any) -> dict[str, Any]:
    """A pod's creation with host IPC; `changes` replace top-level members, None removes one."""
    moment = START + timedelta(seconds=seconds)
    made: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": f"00000000-0000-4000-8000-{number:012d}",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/shop/pods",
        "verb": "create",
        "user": {"username": "eve", "groups": ["system:authenticated"]},
        "sourceIPs": ["203.0.113.7"],
        "userAgent": "kubectl/v1.31.0",
        "objectRef": {"resource": "pods", "namespace": "shop", "name": f"p{number}"},
        "responseStatus": {"code": 201},
        "requestObject": {
            "kind": "Pod",
            "metadata": {"name": f"p{number}"},
            "spec": {**_PLAIN, "hostIPC": True} if spec is None else spec,
        },
        "requestReceivedTimestamp": f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z",
        "stageTimestamp": f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z",
        "annotations": {"authorization.k8s.io/decision": "allow"},
    }
    made |= changes
    return {key: value for key, value in made.items() if value is not None}


def lines(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in events)


def write_log(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_bytes(lines(events))
    return path


def rule(**changes: Any) -> dict[str, Any]:
    """A rule in API form that matches every event of `event`."""
    made = {
        "rule_id": "11111111-0000-4000-8000-000000000001",
        "type": "query",
        "language": "kuery",
        "name": "Anything in shop",
        "description": "d",
        "severity": "low",
        "risk_score": 21,
        "index": ["logs-kubernetes.*"],
        "query": "kubernetes.audit.objectRef.namespace:shop",
        "enabled": True,
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


def write_rules(path: Path, rules: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rules))
    return path
