"""Alerts as a service stores them, for the tests of what delivers them."""

from __future__ import annotations

import json
from typing import Any

from barrelman.records.times import format_instant
from barrelman.sinks.message import Message, message_of
from barrelman.store.alerts import NewAlert

AT_US = 1_795_435_260_000_000
RULE = "Kubernetes Pod Created With HostIPC"


def alert_id(number: int) -> str:
    return f"{number:064x}"


def audit_event(number: int, **changes: Any) -> dict[str, Any]:
    """The audit event of an alert; `changes` replace members, None removes one."""
    event: dict[str, Any] = {
        "verb": "create",
        "requestURI": "/api/v1/namespaces/shop/pods?fieldManager=kubectl",
        "user": {"username": "eve", "groups": ["system:authenticated"]},
        "sourceIPs": ["203.0.113.7"],
        "objectRef": {"resource": "pods", "namespace": "shop", "name": f"p{number}"},
        "responseStatus": {"code": 201},
    } | changes
    return {name: value for name, value in event.items() if value is not None}


def alert_document(number: int = 1, *, audit: Any = None, **changes: Any) -> dict[str, Any]:
    """An alert's document; keys of `changes` are those behind `kibana.alert.`, `__` for a dot."""
    document: dict[str, Any] = {
        "@timestamp": format_instant(AT_US // 1000),
        "orchestrator": {"type": "kubernetes", "cluster": {"name": "prod"}},
        "kubernetes": {"audit": audit_event(number) if audit is None else audit},
        "kibana.alert.uuid": alert_id(number),
        "kibana.alert.status": "active",
        "kibana.alert.workflow_status": "open",
        "kibana.alert.severity": "medium",
        "kibana.alert.risk_score": 47,
        "kibana.alert.reason": f"event with source 203.0.113.7 created medium alert {RULE}.",
        "kibana.alert.rule.rule_id": "hostipc",
        "kibana.alert.rule.name": RULE,
        "kibana.alert.rule.description": "A pod shares its node's IPC namespace. It may read all.",
        "kibana.alert.rule.tags": ["Data Source: Kubernetes", "Tactic: Privilege Escalation"],
        "kibana.alert.rule.references": ["https://attack.example/T1611", "javascript:alert(1)"],
        "kibana.alert.rule.note": "## Triage\n\nAsk who deployed it.",
        "kibana.alert.rule.threat": [
            {
                "framework": "MITRE ATT&CK",
                "tactic": {"id": "TA0004", "name": "Privilege Escalation"},
                "technique": [{"id": "T1611", "name": "Escape to Host", "subtechnique": []}],
            }
        ],
    }
    return document | {
        f"kibana.alert.{key.replace('__', '.')}": value for key, value in changes.items()
    }


def watchdog_document() -> dict[str, Any]:
    """An alert of the service about a source of events."""
    document = alert_document(
        severity="high",
        rule__name="Cluster gone silent",
        rule__rule_id="watchdog-silent",
        rule__description="No events come from a cluster. What happens there is not seen.",
        rule__threat=[],
        reason="prod has sent no events for 15 minutes (high alert Cluster gone silent).",
    )
    del document["kubernetes"]
    return document


def message(number: int = 1, *, public_url: str | None = None, **changes: Any) -> Message:
    return message_of(alert_document(number, **changes), public_url=public_url)


def new_alert(number: int = 1, *, document: Any = None, **changes: Any) -> NewAlert:
    """An alert to be stored; its columns agree with its document."""
    document = alert_document(number) if document is None else document
    values: dict[str, Any] = {
        "id": document["kibana.alert.uuid"],
        "kind": "live",
        "rule_uuid": "2d3f0c3e-0000-4000-8000-000000000000",
        "rule_id": document["kibana.alert.rule.rule_id"],
        "rule_name": document["kibana.alert.rule.name"],
        "severity": document["kibana.alert.severity"],
        "risk_score": 47.0,
        "cluster": "prod",
        "tick_ms": AT_US // 1000,
        "created_us": AT_US + number,
        "event_time_us": AT_US,
        "building_block": False,
        "document": json.dumps(document),
    }
    return NewAlert(**values | changes)
