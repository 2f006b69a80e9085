"""An alert: the event's fields as they came, and flat `kibana.alert.*` keys beside them."""

from __future__ import annotations

import uuid
from functools import cached_property
from typing import Any, Final

from barrelman.detection.finding import Raised
from barrelman.detection.identity import event_id
from barrelman.detection.overrides import name_of, risk_score_of, severity_of
from barrelman.detection.reason import reason_text
from barrelman.detection.redact import MASK, redact, redact_text
from barrelman.engine.compile import Predicate
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import event_time_us
from barrelman.records.frozen import frozen
from barrelman.records.indices import data_stream
from barrelman.records.paths import Path, Scalar
from barrelman.records.times import format_instant
from barrelman.rules.rule import Rule

_RUN_NAMESPACE: Final = uuid.UUID("5c0f2f0e-9a0e-4f5a-8a52-6a1f0b1d7e11")
_REMOVED: Final = ("kibana", "signal", "threshold_result")
_REMOVED_DOTTED: Final = ("kibana.", "signal.", "threshold_result.")
_ANCESTORS: Final = Path("kibana.alert.ancestors")
_ANCESTOR_RULE: Final = Path("kibana.alert.ancestors.rule")
_ALERT_UUID: Final = Path("kibana.alert.uuid")
_DEPTH: Final = Path("kibana.alert.depth")
_PARENT_RULE: Final = Path("kibana.alert.rule.uuid")

_TYPES: Final = {
    "query": ("Custom Query Rule", "siem.queryRule"),
    "saved_query": ("Saved Query Rule", "siem.savedQueryRule"),
}
_COPIED: Final = (
    "actions",
    "author",
    "building_block_type",
    "created_at",
    "created_by",
    "description",
    "enabled",
    "exceptions_list",
    "false_positives",
    "from",
    "immutable",
    "interval",
    "license",
    "max_signals",
    "meta",
    "namespace",
    "note",
    "references",
    "revision",
    "risk_score",
    "risk_score_mapping",
    "rule_name_override",
    "setup",
    "severity",
    "severity_mapping",
    "tags",
    "threat",
    "throttle",
    "timeline_id",
    "timeline_title",
    "timestamp_override",
    "to",
    "type",
    "updated_at",
    "updated_by",
    "version",
)


@frozen
class Alert:
    """The document to write, and what a table needs of it. `reasons` are field and value pairs."""

    document: JsonObject
    event: Event
    severity: str
    rule_name: str
    reasons: list[tuple[str, Scalar]]


class AlertBuilder:
    """Builds the alerts of one rule; what all of them share is made once."""

    def __init__(self, rule: Rule, predicate: Predicate, *, redacted: bool = True) -> None:
        self._rule = rule
        self._predicate = predicate
        self._redacted = redacted

    @cached_property
    def _rule_copy(self) -> JsonObject:
        return _rule_copy(self._rule)

    def build(
        self,
        raised: Raised,
        *,
        created_ms: int | None = None,
        is_manual: bool = False,
        public_url: str | None = None,
    ) -> Alert:
        """The alert of one match; equal input gives equal bytes, whenever it is built.

        A service says when it `created` the alert; in a replay that is the run's own time.
        """
        rule, event = self._rule, raised.event
        original = ecs_document(event)
        shown = redact(original) if self._redacted else original
        severity, severity_field = severity_of(rule, original)
        rule_name = name_of(rule, shown)
        tick = format_instant(raised.tick_ms)
        created = tick if created_ms is None else format_instant(created_ms)
        document = _source(shown, created)
        document |= _original(shown, event)
        document |= {
            "kibana.space_ids": ["default"],
            "kibana.alert.uuid": raised.alert_id,
            "kibana.alert.status": "active",
            "kibana.alert.workflow_status": "open",
            "kibana.alert.workflow_tags": [],
            "kibana.alert.workflow_assignee_ids": [],
            **_lineage(original, event),
            "kibana.alert.reason": reason_text(shown, severity=severity, rule_name=rule_name),
            "kibana.alert.severity": severity,
            "kibana.alert.risk_score": risk_score_of(rule, original),
            "kibana.alert.start": created,
            "kibana.alert.last_detected": created,
            "kibana.alert.intended_timestamp": tick if is_manual else created,
            "kibana.alert.maintenance_window_ids": [],
            "kibana.alert.rule.execution.uuid": run_id(rule.rule_id, raised.tick_ms),
            "kibana.alert.rule.execution.timestamp": created,
            "kibana.alert.rule.execution.type": "manual" if is_manual else "scheduled",
        }
        if public_url is not None:
            document["kibana.alert.url"] = f"{public_url}/alerts/{raised.alert_id}"
        document |= self._rule_copy
        document["kibana.alert.rule.name"] = rule_name
        if severity_field is not None:
            meta = document.get("kibana.alert.rule.meta", {})
            document["kibana.alert.rule.meta"] = meta | {"severityOverrideField": severity_field}
        found = self._predicate.explain(event, now_ms=raised.tick_ms)
        return Alert(document, event, severity, rule_name, self._safe(found, shown))

    def _safe(
        self, reasons: list[tuple[str, Scalar]], shown: JsonObject
    ) -> list[tuple[str, Scalar]]:
        if not self._redacted:
            return reasons
        return [
            (name, value if _stands(value, Path(name).values(shown)) else _masked(value))
            for name, value in reasons
        ]


def is_own_descendant(event: Event, rule: Rule) -> bool:
    """Whether an event is an alert that this very rule had a part in: it never feeds itself."""
    if not event.is_document or not _ALERT_UUID.values(event.body):
        return False
    rules = [*_ANCESTOR_RULE.values(event.body), *_PARENT_RULE.values(event.body)]
    return rule.uuid in rules


def _stands(value: Scalar, values: list[Scalar]) -> bool:
    """Whether the very value is among these: to Python 1, 1.0 and True are one."""
    return any(type(each) is type(value) and each == value for each in values)


def _masked(value: Scalar) -> str:
    return redact_text(value) if isinstance(value, str) and redact_text(value) != value else MASK


def run_id(rule_id: str, tick_ms: int) -> str:
    """The id of a rule's run at that time: one and the same whoever counts an alert to it."""
    return str(uuid.uuid5(_RUN_NAMESPACE, f"{rule_id} {tick_ms}"))


def _source(document: JsonObject, tick: str) -> JsonObject:
    """The event's fields, cleared of what only alerts have, dated by the run, kind `signal`."""
    source: JsonObject = {"@timestamp": tick}
    for key, value in document.items():
        if key not in _REMOVED and not key.startswith(_REMOVED_DOTTED) and key != "@timestamp":
            source[key] = value
    event = source.get("event")
    if type(event) is dict:
        source["event"] = event | {"kind": "signal"}
        source.pop("event.kind", None)
    else:
        source["event.kind"] = "signal"
    return source


def _original(document: JsonObject, event: Event) -> JsonObject:
    """Copies of what the alert overwrites: the event's time, `event.*` and `data_stream.*`."""
    copied: JsonObject = {}
    instant = event_time_us(event)
    if instant is not None:
        copied["kibana.alert.original_time"] = format_instant(instant // 1000)
    for name in ("event", "data_stream"):
        members = document.get(name)
        if type(members) is dict:
            for key, value in members.items():
                copied[f"kibana.alert.original_{name}.{key}"] = value
        for key, value in document.items():
            if key.startswith(f"{name}."):
                copied[f"kibana.alert.original_{key}"] = value
    return copied


def _lineage(document: JsonObject, event: Event) -> JsonObject:
    """Ancestors and depth: an alert on an event has depth 1, on an alert one more than that."""
    index = event.index or data_stream(event) or ""
    parent_id = event.document_id or event_id(event)
    uuids = _ALERT_UUID.values(document)
    if not uuids:
        ancestor = {"id": parent_id, "type": "event", "index": index, "depth": 0}
        return {"kibana.alert.ancestors": [ancestor], "kibana.alert.depth": 1}
    depths = [depth for depth in _DEPTH.values(document) if isinstance(depth, int)]
    depth = max(depths, default=1)
    inherited: list[Any] = []
    for node in _ANCESTORS.nodes(document):
        inherited.extend(node if type(node) is list else [node])
    parent = {"id": str(uuids[0]), "type": "signal", "index": index, "depth": depth}
    for rule_uuid in _PARENT_RULE.values(document)[:1]:
        parent["rule"] = str(rule_uuid)
    return {"kibana.alert.ancestors": [*inherited, parent], "kibana.alert.depth": depth + 1}


def _rule_copy(rule: Rule) -> JsonObject:
    category, type_id = _TYPES[rule.type]
    copy: JsonObject = {
        "kibana.alert.rule.uuid": rule.uuid,
        "kibana.alert.rule.rule_id": rule.rule_id,
        "kibana.alert.rule.name": rule.name,
        "kibana.alert.rule.category": category,
        "kibana.alert.rule.rule_type_id": type_id,
        "kibana.alert.rule.consumer": "siem",
        "kibana.alert.rule.producer": "siem",
        "kibana.alert.rule.indices": list(rule.index or ()),
        "kibana.alert.rule.parameters": rule.parameters,
        "kibana.alert.rule.revision": rule.revision or 0,
        "kibana.alert.rule.immutable": bool(rule.immutable),
    }
    for name in _COPIED:
        if name in rule.parameters:
            copy[f"kibana.alert.rule.{name}"] = rule.parameters[name]
    if rule.building_block_type:
        copy["kibana.alert.building_block_type"] = rule.building_block_type
    return copy
