"""The rule as an alert carries it: its fields as they were when the alert was raised."""

from __future__ import annotations

from typing import Final

from barrelman.records.event import JsonObject
from barrelman.rules.rule import Rule

_TYPES: Final = {
    "query": ("Custom Query Rule", "siem.queryRule"),
    "saved_query": ("Saved Query Rule", "siem.savedQueryRule"),
    "eql": ("Event Correlation Rule", "siem.eqlRule"),
    "threat_match": ("Indicator Match Rule", "siem.indicatorRule"),
    "machine_learning": ("Machine Learning Rule", "siem.mlRule"),
    "threshold": ("Threshold Rule", "siem.thresholdRule"),
    "new_terms": ("New Terms Rule", "siem.newTermsRule"),
    "esql": ("ES|QL Rule", "siem.esqlRule"),
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


def rule_copy(rule: Rule) -> JsonObject:
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
