"""What an alert takes from its event: the fields, copies of what it overwrites, and ancestors."""

from __future__ import annotations

from typing import Any, Final

from barrelman.detection.identity import event_id
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import event_time_us
from barrelman.records.indices import data_stream
from barrelman.records.paths import Path
from barrelman.records.times import format_instant
from barrelman.rules.rule import Rule

ORIGINAL_TIME: Final = "kibana.alert.original_time"
_REMOVED: Final = ("kibana", "signal", "threshold_result")
_REMOVED_DOTTED: Final = ("kibana.", "signal.", "threshold_result.")
_ANCESTORS: Final = Path("kibana.alert.ancestors")
_ANCESTOR_RULE: Final = Path("kibana.alert.ancestors.rule")
_ALERT_UUID: Final = Path("kibana.alert.uuid")
_DEPTH: Final = Path("kibana.alert.depth")
_PARENT_RULE: Final = Path("kibana.alert.rule.uuid")


def is_own_descendant(event: Event, rule: Rule) -> bool:
    """Whether an event is an alert that this very rule had a part in: it never feeds itself."""
    if not event.is_document or not _ALERT_UUID.values(event.body):
        return False
    rules = [*_ANCESTOR_RULE.values(event.body), *_PARENT_RULE.values(event.body)]
    return rule.uuid in rules


def source_of(document: JsonObject, tick: str) -> JsonObject:
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


def originals_of(document: JsonObject, event: Event) -> JsonObject:
    """Copies of what the alert overwrites: the event's time, `event.*` and `data_stream.*`."""
    copied: JsonObject = {}
    instant = event_time_us(event)
    if instant is not None:
        copied[ORIGINAL_TIME] = format_instant(instant // 1000)
    for name in ("event", "data_stream"):
        members = document.get(name)
        if type(members) is dict:
            for key, value in members.items():
                copied[f"kibana.alert.original_{name}.{key}"] = value
        for key, value in document.items():
            if key.startswith(f"{name}."):
                copied[f"kibana.alert.original_{key}"] = value
    return copied


def lineage_of(document: JsonObject, event: Event) -> JsonObject:
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
