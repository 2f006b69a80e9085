"""Severity, risk score and name taken from the event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from samples import rule as rule_data

from barrelman.detection.overrides import name_of, risk_score_of, severity_of
from barrelman.rules.load import load_rules
from barrelman.rules.rule import Rule


def rule(**changes: Any) -> Rule:
    (loaded,) = load_rules(json.dumps(rule_data(**changes)), path="r.json").rules
    assert loaded.rule is not None, loaded.reason
    return loaded.rule


def mapping(*pairs: tuple[str, str], field: str = "f") -> list[dict[str, str]]:
    return [
        {"field": field, "operator": "equals", "value": value, "severity": severity}
        for value, severity in pairs
    ]


SEVERITIES: list[tuple[list[dict[str, str]], dict[str, Any], str, str | None]] = [
    ([], {"f": "x"}, "low", None),
    (mapping(("x", "high")), {"f": "x"}, "high", "f"),
    (mapping(("x", "high")), {"f": "X"}, "low", None),
    (mapping(("x", "high")), {"f": "x "}, "low", None),
    (mapping(("x", "high")), {}, "low", None),
    (mapping(("x", "high")), {"f": None}, "low", None),
    (mapping(("x", "high")), {"f": {"x": "x"}}, "low", None),
    (mapping(("x", "high")), {"f": ["y", "x"]}, "high", "f"),
    # The highest that matches, in whatever order they stand.
    (mapping(("x", "critical"), ("x", "medium")), {"f": "x"}, "critical", "f"),
    (mapping(("x", "medium"), ("x", "critical")), {"f": "x"}, "critical", "f"),
    (mapping(("y", "critical"), ("x", "medium")), {"f": "x"}, "medium", "f"),
    # Of equals the last.
    (
        [*mapping(("x", "high"), field="a"), *mapping(("x", "high"), field="b")],
        {"a": "x", "b": "x"},
        "high",
        "b",
    ),
    # A mapping may lower, too.
    (mapping(("x", "low")), {"f": "x"}, "low", "f"),
    # On strings: numbers and booleans as JavaScript writes them.
    (mapping(("47", "high")), {"f": 47}, "high", "f"),
    (mapping(("47", "high")), {"f": 47.0}, "high", "f"),
    (mapping(("47.0", "high")), {"f": 47}, "low", None),
    (mapping(("047", "high")), {"f": 47}, "low", None),
    (mapping(("0.5", "high")), {"f": 0.5}, "high", "f"),
    (mapping(("true", "high")), {"f": True}, "high", "f"),
    (mapping(("1", "high")), {"f": True}, "low", None),
    # event.severity alone is compared as a number.
    (
        mapping(("47", "high"), field="event.severity"),
        {"event.severity": "47.0"},
        "high",
        "event.severity",
    ),
    (
        mapping(("047", "high"), field="event.severity"),
        {"event": {"severity": 47}},
        "high",
        "event.severity",
    ),
    (mapping(("x", "high"), field="event.severity"), {"event": {"severity": "x"}}, "low", None),
    (mapping(("1", "high"), field="event.severity"), {"event": {"severity": True}}, "low", None),
    (
        mapping(("1000", "high"), field="event.severity"),
        {"event": {"severity": "1_000"}},
        "low",
        None,
    ),
    # Nested and dotted.
    (mapping(("x", "high"), field="a.b.c"), {"a": {"b.c": "x"}}, "high", "a.b.c"),
    (mapping(("x", "high"), field="a.b.c"), {"a": [{"b": {"c": "x"}}]}, "high", "a.b.c"),
]


@pytest.mark.parametrize(("mappings", "document", "severity", "field"), SEVERITIES)
def test_severity(
    mappings: list[dict[str, str]], document: dict[str, Any], severity: str, field: str | None
) -> None:
    made = rule(severity="low", severity_mapping=mappings)
    assert severity_of(made, document) == (severity, field)


SCORES: list[tuple[list[str], dict[str, Any], float]] = [
    ([], {"f": 5}, 21),
    (["f"], {"f": 5}, 5),
    (["f"], {"f": 0}, 0),
    (["f"], {"f": 100}, 100),
    (["f"], {"f": 101}, 21),
    (["f"], {"f": -1}, 21),
    (["f"], {"f": "73"}, 73),
    (["f"], {"f": "73.5"}, 73.5),
    (["f"], {"f": "x"}, 21),
    (["f"], {"f": ""}, 21),
    (["f"], {"f": "7_3"}, 21),
    (["f"], {"f": "nan"}, 21),
    (["f"], {"f": "infinity"}, 21),
    (["f"], {"f": True}, 21),
    (["f"], {"f": [3, "90", 20, 101, "x"]}, 90),
    (["f"], {}, 21),
    (["f"], {"f": {"g": 5}}, 21),
    (["f.g"], {"f": {"g": 5}}, 5),
    # The first mapping alone counts, even where it finds nothing.
    (["f", "g"], {"g": 5}, 21),
    (["f", "g"], {"f": 6, "g": 5}, 6),
]


@pytest.mark.parametrize(("fields", "document", "expected"), SCORES)
def test_risk_score(fields: list[str], document: dict[str, Any], expected: float) -> None:
    mappings = [
        {"field": field, "operator": "equals", "value": "", "risk_score": 99} for field in fields
    ]
    score = risk_score_of(rule(risk_score=21, risk_score_mapping=mappings), document)
    assert score == expected
    assert json.dumps(score) == json.dumps(expected), "whole scores are written as such"


NAMES: list[tuple[str | None, dict[str, Any], str]] = [
    (None, {"f": "x"}, "Own"),
    ("f", {"f": "x"}, "x"),
    ("f", {}, "Own"),
    ("f", {"f": None}, "Own"),
    ("f", {"f": ""}, "Own"),
    ("f", {"f": ["x"]}, "Own"),
    ("f", {"f": ["x", "y"]}, "Own"),
    ("f", {"f": 5}, "Own"),
    ("f", {"f": True}, "Own"),
    ("f", {"f": {"g": "x"}}, "Own"),
    ("f.g", {"f": {"g": "x"}}, "x"),
    ("f.g", {"f": [{"g": "x"}, {"g": "y"}]}, "Own"),
    # The dotted key comes first.
    ("f.g", {"f": {"g": "nested"}, "f.g": "dotted"}, "dotted"),
]


@pytest.mark.parametrize(("field", "document", "expected"), NAMES)
def test_name(field: str | None, document: dict[str, Any], expected: str) -> None:
    assert name_of(rule(name="Own", rule_name_override=field), document) == expected
