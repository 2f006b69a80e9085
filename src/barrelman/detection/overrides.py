"""Severity, risk score and name of an alert, where a rule takes them from the event."""

from __future__ import annotations

from barrelman.records.event import JsonObject
from barrelman.records.paths import Path, Scalar
from barrelman.records.severities import SEVERITIES
from barrelman.rules.rule import Rule


def severity_of(rule: Rule, document: JsonObject) -> tuple[str, str | None]:
    """The severity and, where a mapping gave it, the field it came from; the highest match wins."""
    mappings = sorted(rule.severity_mapping, key=lambda each: SEVERITIES.index(each.severity))
    for mapping in reversed(mappings):
        values = _values(mapping.field, document)
        if mapping.field == "event.severity":  # the one field that is compared as a number
            wanted = _number(mapping.value)
            met = wanted is not None and any(_number(value) == wanted for value in values)
        else:
            met = any(_text(value) == mapping.value for value in values)
        if met:
            return mapping.severity, mapping.field
    return rule.severity, None


def risk_score_of(rule: Rule, document: JsonObject) -> float:
    """The highest value from 0 to 100 in the first mapping's field, else the rule's own score."""
    if rule.risk_score_mapping:
        numbers = [_number(v) for v in _values(rule.risk_score_mapping[0].field, document)]
        scores = [number for number in numbers if number is not None and 0 <= number <= 100]
        if scores:
            highest = max(scores)
            return int(highest) if highest == int(highest) else highest
    return rule.risk_score


def name_of(rule: Rule, document: JsonObject) -> str:
    """The event's own word where the rule asks for one: a string, never a list."""
    if rule.rule_name_override:
        found = document.get(rule.rule_name_override)
        nodes = [found] if found is not None else Path(rule.rule_name_override).nodes(document)
        if len(nodes) == 1 and isinstance(nodes[0], str) and nodes[0]:
            return nodes[0]
    return rule.name


def _values(field: str, document: JsonObject) -> list[Scalar]:
    return Path(field).values(document)


def _text(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # as JavaScript writes it
    return str(value)


def _number(value: Scalar) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return None if "_" in str(value) else float(value)  # Python alone reads 1_000
    except ValueError:
        return None
