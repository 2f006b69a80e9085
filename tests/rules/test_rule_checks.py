"""Every check of a rule's fields: the change that breaks a good rule, and what is said of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from barrelman.rules.load import load_rules
from barrelman.rules.rule import LoadedRule

QUERY: dict[str, Any] = {
    "rule_id": "r",
    "type": "query",
    "name": "N",
    "description": "D",
    "risk_score": 47,
    "severity": "medium",
    "query": "a:1",
}
THRESHOLD = {**QUERY, "type": "threshold", "threshold": {"field": ["a"], "value": 3}}
NEW_TERMS = {
    **QUERY,
    "type": "new_terms",
    "new_terms_fields": ["a"],
    "history_window_start": "now-7d",
}
THREAT_MATCH: dict[str, Any] = {
    **QUERY,
    "type": "threat_match",
    "threat_query": "b:2",
    "threat_index": ["i"],
    "threat_mapping": [{"entries": [{"field": "a", "type": "mapping", "value": "b"}]}],
}
EQL = {**QUERY, "type": "eql", "language": "eql", "query": "any where true"}
ESQL = {**QUERY, "type": "esql", "language": "esql", "query": "from a"}
ML = {
    **{key: value for key, value in QUERY.items() if key != "query"},
    "type": "machine_learning",
    "anomaly_threshold": 50,
    "machine_learning_job_id": "job",
}
GOOD = [QUERY, THRESHOLD, NEW_TERMS, THREAT_MATCH, EQL, ESQL, ML]
DROP = object()


def load_api(base: dict[str, Any], changes: dict[str, Any]) -> LoadedRule:
    data = {key: value for key, value in {**base, **changes}.items() if value is not DROP}
    [loaded] = load_rules(json.dumps(data, indent=1), path="r.json").rules
    return loaded


@pytest.mark.parametrize("data", GOOD, ids=lambda data: str(data["type"]))
def test_the_good_rules_are_valid(data: dict[str, Any]) -> None:
    loaded = load_api(data, {})
    does_not_run = data["type"] in ("esql", "machine_learning")
    assert loaded.status == ("unsupported" if does_not_run else "ready")
    assert loaded.rule is not None


def entries(*triples: tuple[str, str, bool]) -> list[dict[str, Any]]:
    made = [
        {"field": field, "type": "mapping", "value": value, "negate": negate}
        for field, value, negate in triples
    ]
    return [{"entries": made}]


LONG = {"framework": "F", "tactic": {"id": "T", "name": "N"}}
BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (QUERY, {"name": DROP}, "name: missing, and it is required"),
    (QUERY, {"name": ""}, "name: must not be empty"),
    (QUERY, {"name": 5}, "name: expected text, found the number 5"),
    (QUERY, {"description": DROP}, "description: missing"),
    (QUERY, {"type": "correlation"}, "type: expected 'query', "),
    (QUERY, {"type": DROP}, "type: missing"),
    (QUERY, {"risk_score": 101}, "risk_score: expected a whole number from 0 to 100, found the "),
    (QUERY, {"risk_score": 1.5}, "found the number 1.5"),
    (QUERY, {"risk_score": True}, "risk_score: expected a whole number from 0 to 100, found true"),
    (QUERY, {"risk_score": "high"}, "found 'high'"),
    (QUERY, {"severity": "urgent"}, "expected 'low', 'medium', 'high' or 'critical', found 'urg"),
    (QUERY, {"rule_id": ""}, "rule_id: must not be empty"),
    (QUERY, {"enabled": "yes"}, "enabled: expected true or false, found 'yes'"),
    (QUERY, {"interval": "5 minutes"}, "interval: '5 minutes' is not a duration"),
    (QUERY, {"interval": "0m"}, "interval: '0m' is not a duration"),
    (QUERY, {"from": "yesterday"}, "from: 'yesterday' is not a date"),
    (QUERY, {"to": "now~1"}, "to: 'now~1' is not date math"),
    (QUERY, {"from": "now-999999d"}, "from: 'now-999999d' leaves the calendar"),
    (QUERY, {"from": "now-2m"}, "from: the window from 'now-2m' to 'now' is shorter than the int"),
    (QUERY, {"to": "now-10m"}, "from: the window from 'now-6m' to 'now-10m' is shorter"),
    (QUERY, {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:01:00Z"}, "is shorter than"),
    (QUERY, {"max_signals": 0}, "max_signals: expected a whole number from 1 up"),
    (QUERY, {"version": 0}, "version: expected a whole number from 1 up"),
    (QUERY, {"tags": "a"}, "tags: expected a list, found 'a'"),
    (QUERY, {"tags": ["a", 1]}, "tags[1]: expected text, found the number 1"),
    (QUERY, {"references": {}}, "references: expected a list, found an object"),
    (QUERY, {"threat": [LONG]}, "threat[0].tactic.reference: missing"),
    (QUERY, {"threat": [{"framework": "F"}]}, "threat[0].tactic: missing"),
    (
        QUERY,
        {"severity_mapping": [{"field": "f", "operator": "is", "value": "v", "severity": "low"}]},
        "severity_mapping[0].operator: expected 'equals', found 'is'",
    ),
    (
        QUERY,
        {"risk_score_mapping": [{"field": "f", "operator": "equals", "value": 1}]},
        "risk_score_mapping[0].value: expected text",
    ),
    (
        QUERY,
        {"exceptions_list": [{"id": "i", "list_id": "l", "type": "x", "namespace_type": "all"}]},
        "exceptions_list[0].namespace_type: expected 'single' or 'agnostic', found 'all'",
    ),
    (QUERY, {"actions": [{"id": "i", "params": {}}]}, "actions[0].action_type_id: missing"),
    (QUERY, {"throttle": "5 m"}, "throttle: expected 'no_actions', 'rule' or a duration"),
    (QUERY, {"response_actions": [{"action_type_id": "x", "params": {}}]}, "'.osquery' or '.end"),
    (QUERY, {"investigation_fields": {"field_names": []}}, "field_names: expected a list of at "),
    (QUERY, {"investigation_fields": [""]}, "investigation_fields.field_names[0]: must not be"),
    (QUERY, {"related_integrations": [{"package": "p"}]}, "related_integrations[0].version: miss"),
    (QUERY, {"required_fields": [{"name": "n"}]}, "required_fields[0].type: missing"),
    (QUERY, {"timeline_id": "t"}, "timeline_id: given without timeline_title"),
    (QUERY, {"timeline_title": "t"}, "timeline_title: given without timeline_id"),
    (QUERY, {"timeline_id": "", "timeline_title": "t"}, "timeline_id: must not be empty"),
    (QUERY, {"meta": []}, "meta: expected an object, found a list of 0"),
    (QUERY, {"language": "sql"}, "language: expected 'kuery' or 'lucene', found 'sql'"),
    (QUERY, {"index": "logs-*"}, "index: expected a list, found 'logs-*'"),
    (QUERY, {"filters": [1]}, "filters[0]: expected an object, found the number 1"),
    (QUERY, {"filters": [{"query": {}}]}, "filters[0]: a query must name one kind"),
    (QUERY, {"query": "a:(1 or"}, "query: "),
    (QUERY, {"alert_suppression": {"group_by": []}}, "group_by: expected a list of 1 to 3"),
    (
        QUERY,
        {"alert_suppression": {"group_by": ["a"], "duration": {"value": 0, "unit": "d"}}},
        "alert_suppression.duration.unit: expected 's', 'm' or 'h', found 'd'",
    ),
    (
        QUERY,
        {"alert_suppression": {"group_by": ["a"], "missing_fields_strategy": "drop"}},
        "missing_fields_strategy: expected 'suppress' or 'doNotSuppress'",
    ),
    ({**QUERY, "type": "saved_query"}, {}, "saved_id: missing"),
    (THRESHOLD, {"threshold": DROP}, "threshold: missing"),
    (THRESHOLD, {"query": DROP}, "query: missing"),
    (THRESHOLD, {"query": 'a:"'}, "query: "),
    (THRESHOLD, {"threshold": {"field": "a", "value": 0}}, "threshold.value: expected a whole"),
    (
        THRESHOLD,
        {
            "threshold": {
                "field": ["a", "b"],
                "value": 1,
                "cardinality": [{"field": "b", "value": 1}],
            }
        },
        "threshold.cardinality[0].field: 'b' is also a field to group by",
    ),
    (THRESHOLD, {"threshold": {"field": list("abcdef"), "value": 1}}, "6 fields, at most 5"),
    (THRESHOLD, {"alert_suppression": {"group_by": ["a"]}}, "alert_suppression.duration: missing"),
    (EQL, {"language": "kuery"}, "language: expected 'eql', found 'kuery'"),
    (EQL, {"language": DROP}, "language: missing"),
    (ESQL, {"language": "eql"}, "language: expected 'esql', found 'eql'"),
    (NEW_TERMS, {"new_terms_fields": list("abcd")}, "new_terms_fields: expected a list of 1 to 3"),
    (NEW_TERMS, {"new_terms_fields": []}, "new_terms_fields: expected a list of 1 to 3"),
    (NEW_TERMS, {"history_window_start": ""}, "history_window_start: must not be empty"),
    (NEW_TERMS, {"history_window_start": "now-6m"}, "'now-6m' is not before 'from' ('now-6m')"),
    (NEW_TERMS, {"query": "a:b:c("}, "query: "),
    (THREAT_MATCH, {"threat_mapping": []}, "threat_mapping: expected a list of at least 1"),
    (THREAT_MATCH, {"threat_mapping": [{"entries": []}]}, "threat_mapping[0].entries: expected a"),
    (THREAT_MATCH, {"threat_mapping": entries(("a", "b", True))}, "every entry is negated"),
    (
        THREAT_MATCH,
        {"threat_mapping": entries(("a", "b", True), ("a", "b", False))},
        "threat_mapping[0].entries: 'a' with 'b' is both negated and not",
    ),
    (THREAT_MATCH, {"threat_query": "b:("}, "threat_query: "),
    (THREAT_MATCH, {"threat_index": DROP}, "threat_index: missing"),
    (THREAT_MATCH, {"concurrent_searches": 2}, "concurrent_searches: given without items_per_sea"),
    (THREAT_MATCH, {"items_per_search": 2}, "items_per_search: given without concurrent_searches"),
    (THREAT_MATCH, {"threat_filters": [{}]}, "threat_filters[0]: the filter holds no query"),
    (ML, {"anomaly_threshold": -1}, "anomaly_threshold: expected a whole number from 0 up"),
    (ML, {"machine_learning_job_id": []}, "machine_learning_job_id: expected a list of at least"),
]


@pytest.mark.parametrize(("base", "changes", "message"), BAD)
def test_a_broken_field_is_named(
    base: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    loaded = load_api(base, changes)
    assert loaded.status == "invalid"
    assert loaded.rule is None
    assert message in loaded.reason
    assert loaded.reason == "; ".join(error.oneline() for error in loaded.errors)
    [error] = [error for error in loaded.errors if message in error.message]
    assert error.place.path == "r.json"
    assert error.place.line in _lines_of(_lines(base, changes), error.message)


def _lines_of(lines: list[str], message: str) -> range:
    """The lines on which the field that a message begins with stands; 1 where it is absent."""
    name = re.split(r"[.:\[]", message)[0]
    keys = [number for number, line in enumerate(lines, 1) if line.startswith(' "')]
    for start, end in zip(keys, [*keys[1:], len(lines)], strict=True):
        if lines[start - 1].startswith(f' "{name}":'):
            return range(start, end)
    return range(1, 2)


def _lines(base: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    data = {key: value for key, value in {**base, **changes}.items() if value is not DROP}
    return json.dumps(data, indent=1).split("\n")


def test_all_problems_are_reported_at_their_own_lines() -> None:
    text = '{"type": "query",\n "name": "",\n "description": "D",\n "risk_score": -1,\n'
    text += ' "severity": "low",\n "query": "a:(b"\n}'
    [loaded] = load_rules(text, path="r.json").rules
    assert [(error.place.line, error.place.column) for error in loaded.errors][:2] == [
        (2, 10),
        (4, 16),
    ]
    assert [error.place.line for error in loaded.errors] == [2, 4, 6]


DEFAULTS = {
    "enabled": True,
    "interval": "5m",
    "from": "now-6m",
    "to": "now",
    "max_signals": 100,
    "version": 1,
    "setup": "",
    "language": "kuery",
    "output_index": "",
    **{
        name: []
        for name in (
            *("tags", "author", "false_positives", "references", "threat", "severity_mapping"),
            *("risk_score_mapping", "exceptions_list", "actions", "related_integrations"),
            *("required_fields", "filters"),
        )
    },
}


def test_defaults_fill_what_is_absent() -> None:
    loaded = load_api(QUERY, {})
    assert loaded.rule is not None
    assert loaded.rule.parameters == {**QUERY, **DEFAULTS}
    assert (loaded.rule.interval_ms, loaded.rule.from_.offset_ms) == (300_000, -360_000)
    assert (loaded.rule.enabled, loaded.rule.index) == (True, None)


def test_every_field_arrives_in_the_rule() -> None:
    threat = {
        "framework": "F",
        "tactic": {"id": "TA", "name": "n", "reference": "r"},
        "technique": [
            {
                "id": "T1",
                "name": "n",
                "reference": "r",
                "subtechnique": [{"id": "T1.1", "name": "n", "reference": "r"}],
            }
        ],
    }
    loaded = load_api(
        QUERY,
        {
            "threat": [threat],
            "severity_mapping": [
                {"field": "f", "operator": "equals", "value": "v", "severity": "high"}
            ],
            "risk_score_mapping": [{"field": "f", "operator": "equals", "value": ""}],
            "exceptions_list": [
                {"id": "i", "list_id": "l", "type": "detection", "namespace_type": "single"}
            ],
            "investigation_fields": ["a", "b"],
            "id": "the-uuid",
            "risk_score": 47.0,
            "alert_suppression": {"group_by": ["a"], "duration": {"value": 5, "unit": "m"}},
            "license": None,
            "some_future_field": {"x": 1},
        },
    )
    rule = loaded.rule
    assert rule is not None
    assert rule.threat[0].technique[0].subtechnique[0].id == "T1.1"
    assert rule.severity_mapping[0].severity == "high"
    assert rule.risk_score_mapping[0].risk_score is None
    assert rule.exceptions_list[0].list_id == "l"
    assert rule.investigation_fields == ("a", "b")
    assert (rule.uuid, rule.license) == ("the-uuid", None)
    assert type(rule.risk_score) is int
    assert rule.alert_suppression is not None
    assert rule.alert_suppression.duration_ms == 300_000
    assert rule.alert_suppression.missing_fields_strategy == "suppress"
    assert "some_future_field" not in rule.parameters
    assert rule.parameters["threat"] == [threat]


def test_fields_of_other_types_arrive() -> None:
    threshold = load_api(THRESHOLD, {"threshold": {"field": "", "value": 3}}).rule
    assert threshold is not None
    assert threshold.threshold is not None
    assert threshold.threshold.field == ()
    terms = load_api(NEW_TERMS, {}).rule
    assert terms is not None
    assert terms.history_window_start is not None
    assert terms.query_ast is not None
    match = load_api(THREAT_MATCH, {}).rule
    assert match is not None
    assert match.threat_mapping[0][0].field == "a"
    assert match.threat_indicator_path == "threat.indicator"
    learning = load_api(ML, {}).rule
    assert learning is not None
    assert learning.machine_learning_job_id == ("job",)


def test_a_missing_rule_id_is_the_same_at_every_load() -> None:
    first, second = load_api(QUERY, {"rule_id": DROP}), load_api(QUERY, {"rule_id": DROP})
    other = load_api(QUERY, {"rule_id": DROP, "query": "a:2"})
    assert first.rule_id == second.rule_id != other.rule_id
    assert first.rule is not None
    assert second.rule is not None
    assert first.rule.uuid == second.rule.uuid != first.rule_id


STATUSES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (ESQL, {}, "ES|QL rules do not run yet"),
    (ML, {}, "machine learning rules do not run here"),
    (QUERY, {"type": "saved_query", "saved_id": "s", "query": DROP}, "the saved query 's' is kept"),
    (QUERY, {"type": "saved_query", "saved_id": "s", "query": " "}, "the saved query 's' is kept"),
    (
        QUERY,
        {"filters": [{"query": {"match_all": {}}}, {"query": {"script": {}}}]},
        "filters[1]: 'script' queries in filters do not run yet",
    ),
]


@pytest.mark.parametrize(("base", "changes", "reason"), STATUSES)
def test_what_does_not_run_says_so(
    base: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    loaded = load_api(base, changes)
    assert loaded.status == "unsupported"
    assert loaded.rule is not None
    assert reason in loaded.reason


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (QUERY, {"language": "lucene", "query": "a:(b OR c)"}),
        (QUERY, {"alert_suppression": {"group_by": ["a"]}}),
        (QUERY, {"type": "saved_query", "saved_id": "s"}),
        (THRESHOLD, {}),
        (NEW_TERMS, {}),
        (THREAT_MATCH, {}),
        (THREAT_MATCH, {"threat_language": "lucene", "threat_query": "*:*"}),
        (EQL, {}),
        (EQL, {"query": "sequence by user.name with maxspan=1m [any where true] [any where true]"}),
    ],
)
def test_every_type_is_ready(base: dict[str, Any], changes: dict[str, Any]) -> None:
    loaded = load_api(base, changes)
    assert (loaded.status, loaded.reason) == ("ready", "")


def test_a_threat_querys_error_is_placed_and_its_fields_are_typed_by_value() -> None:
    broken = load_api(THREAT_MATCH, {"threat_query": "a:("})
    assert broken.status == "invalid"
    assert "threat_query:" in broken.reason
    typed = load_api(THREAT_MATCH, {"threat_query": "source.ip:nowhere"})
    assert typed.status == "ready"


NOTES: list[tuple[dict[str, Any], str]] = [
    ({"data_view_id": "v"}, "the data view 'v' is not known here"),
    ({"max_signals": 5000}, "max_signals 5000 is lowered to 1000 a run"),
    ({"type": "saved_query", "saved_id": "s"}, "the rule's own copy runs"),
    ({"actions": [{"id": "i", "action_type_id": ".x", "params": {}}]}, "actions are not run"),
    ({"language": "lucene", "query": "a:1 OR b:2 AND c:3"}, "query: 'a:1' adds nothing beside"),
]


@pytest.mark.parametrize(("changes", "note"), NOTES)
def test_what_is_not_applied_is_noted(changes: dict[str, Any], note: str) -> None:
    loaded = load_api(QUERY, changes)
    assert loaded.status == "ready"
    assert note in loaded.notes[0]


def test_the_cap_holds_whatever_the_rule_asks_for() -> None:
    rule = load_api(QUERY, {"max_signals": 5000}).rule
    assert rule is not None
    assert (rule.max_signals, rule.effective_max_signals) == (5000, 1000)


# Names of fields

LONG_NAMES = [".".join("f" * 101), "." * 5000, "f" * 32_001]
NAMED_FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    (QUERY, "timestamp_override", "NAME"),
    (QUERY, "rule_name_override", "NAME"),
    (
        QUERY,
        "severity_mapping[0].field",
        [{"field": "NAME", "operator": "equals", "value": "v", "severity": "low"}],
    ),
    (
        QUERY,
        "risk_score_mapping[0].field",
        [{"field": "NAME", "operator": "equals", "value": ""}],
    ),
    (QUERY, "investigation_fields.field_names[1]", {"field_names": ["a", "NAME"]}),
    (QUERY, "required_fields[0].name", [{"name": "NAME", "type": "keyword"}]),
    (QUERY, "alert_suppression.group_by[1]", {"group_by": ["a", "NAME"]}),
    (THRESHOLD, "threshold.field[0]", {"field": ["NAME"], "value": 3}),
    (
        THRESHOLD,
        "threshold.cardinality[0].field",
        {"field": [], "value": 3, "cardinality": [{"field": "NAME", "value": 2}]},
    ),
    (NEW_TERMS, "new_terms_fields[0]", ["NAME"]),
    (THREAT_MATCH, "threat_mapping[0].entries[0].field", entries(("NAME", "b", False))),
    (THREAT_MATCH, "threat_mapping[0].entries[0].value", entries(("a", "NAME", False))),
    (THREAT_MATCH, "threat_indicator_path", "NAME"),
    (EQL, "event_category_override", "NAME"),
    (EQL, "tiebreaker_field", "NAME"),
    (EQL, "timestamp_field", "NAME"),
]


@pytest.mark.parametrize("name", LONG_NAMES, ids=["parts", "dots", "characters"])
@pytest.mark.parametrize(("base", "where", "value"), NAMED_FIELDS)
def test_a_fields_name_has_its_bounds(
    base: dict[str, Any], where: str, value: Any, name: str
) -> None:
    key = re.split(r"[.\[]", where)[0]
    made = json.loads(json.dumps(value).replace("NAME", name))
    loaded = load_api(base, {key: made})
    [error] = loaded.errors
    expected = "a field name of at most 100 parts and 32000 characters"
    assert error.message.startswith(f"{where}: expected {expected}, found '")
    assert error.place.text is not None
    assert name in error.place.text
    longest = json.loads(json.dumps(value).replace("NAME", ".".join(["f" * 300] * 100)))
    assert load_api(base, {key: longest}).rule is not None


def test_mappings_may_name_no_field() -> None:
    """Forms that somebody opened and left empty are exported so."""
    severity = {"field": "", "operator": "equals", "value": "", "severity": "low"}
    score = {"field": "", "operator": "equals", "value": ""}
    loaded = load_api(QUERY, {"severity_mapping": [severity], "risk_score_mapping": [score]})
    assert loaded.status == "ready"
    assert "must not be empty" in load_api(QUERY, {"timestamp_override": ""}).reason
