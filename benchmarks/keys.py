"""A log in which every event matters to a rule that groups: reads of Secrets by very many users.

Keys come at random, so that all of them are live at once; a few users read more than others, and
some of them enough to be alerted on.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Final

KEYS: Final = 100_000
QUERY: Final = 'kubernetes.audit.verb:"get" and kubernetes.audit.objectRef.resource:"secrets"'
_MICROSECONDS: Final = 3_600_000_000
_BEGIN_SECONDS: Final = 10 * 3600


def write_keys(path: Path, *, mib: float, keys: int = KEYS) -> None:
    """An hour of it, in order, of about so many MiB."""
    drawn = random.Random(7)
    size = int(mib * (1 << 20))
    line = _line(0, 0, 0)
    count = size // len(line)
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as out:
        for number in range(count):
            at_us = _MICROSECONDS * number // count
            # One event in twenty is of one of a hundred busy users.
            user = drawn.randrange(100) if number % 20 == 0 else drawn.randrange(keys)
            out.write(_line(number, at_us, user))
    partial.replace(path)


def rule(kind: str) -> dict[str, Any]:
    """A rule of that type in API form; all of them have the same query and schedule."""
    common = {
        "rule_id": f"benchmark-{kind}",
        "name": f"Secrets read ({kind})",
        "description": "For measuring.",
        "risk_score": 1,
        "severity": "low",
        "type": kind,
        "language": "kuery",
        "query": QUERY,
        "index": ["logs-kubernetes.audit_logs-*"],
        "interval": "5m",
        "from": "now-6m",
    }
    return common | _OWN[kind]


_OWN: Final[dict[str, dict[str, Any]]] = {
    "query": {},
    "threshold": {"threshold": {"field": ["user.name"], "value": 30}},
    "new_terms": {"new_terms_fields": ["user.name"], "history_window_start": "now-7d"},
}


def _line(number: int, at_us: int, user: int) -> bytes:
    seconds, micros = divmod(at_us, 1_000_000)
    minutes, second = divmod(_BEGIN_SECONDS + seconds, 60)
    hour, minute = divmod(minutes, 60)
    time = f"2026-11-24T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    name = f"secret-{number % 50}"
    event = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": f"{number:08x}-0000-4000-8000-{user:012x}",
        "stage": "ResponseComplete",
        "requestURI": f"/api/v1/namespaces/shop/secrets/{name}",
        "verb": "get",
        "user": {
            "username": f"system:serviceaccount:tenant-{user:06}:default",
            "groups": ["system:serviceaccounts", "system:authenticated"],
        },
        "sourceIPs": [f"10.{user >> 16 & 255}.{user >> 8 & 255}.{user & 255}"],
        "userAgent": "app/1.4 (linux/amd64)",
        "objectRef": {
            "resource": "secrets",
            "namespace": "shop",
            "name": name,
            "apiVersion": "v1",
        },
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": time,
        "stageTimestamp": time,
        "annotations": {
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason": "",
        },
    }
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"
