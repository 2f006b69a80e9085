"""From a rule in API form to a LoadedRule: checked, its query and filters parsed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as dataclass_fields
from typing import Any, Final, TypeAlias
from uuid import uuid5

from barrelman.errors import BarrelmanError, RuleError, UnsupportedError
from barrelman.records.times import UNIT_MS, parse_date_math, parse_duration_ms
from barrelman.rules.checks import check_together
from barrelman.rules.filters import all_of
from barrelman.rules.locate import Spot
from barrelman.rules.queries import notes_on_queries, parse_filters, parse_queries
from barrelman.rules.rule import (
    ID_NAMESPACE,
    MAX_SIGNALS_CAP,
    AlertSuppression,
    Cardinality,
    ExceptionListRef,
    LoadedRule,
    RiskScoreMapping,
    Rule,
    SeverityMapping,
    Status,
    Tactic,
    Technique,
    Threat,
    ThreatMappingEntry,
    Threshold,
)
from barrelman.rules.schema import Problem, Table
from barrelman.rules.shape import RULE_TYPES, fields_of

JsonObject: TypeAlias = dict[str, Any]

_NOT_RUN: Final = {
    "esql": "ES|QL rules do not run yet",
    "machine_learning": "machine learning rules do not run here",
}


def build_rule(
    data: JsonObject,
    *,
    spot: Spot,
    is_toml: bool = False,
    metadata: JsonObject | None = None,
    earlier: Iterable[BarrelmanError] = (),
) -> LoadedRule:
    """Checks a rule in API form that stands at `spot`. `earlier` errors count as its own."""
    place = spot.place()
    fields, problems, broken = _check_fields(data, is_toml=is_toml)
    errors = [*earlier, *(_to_error(problem, spot) for problem in problems)]
    parsed, query_errors = parse_queries(fields, broken, spot)
    filter_ast, filter_errors, gaps = parse_filters(fields, "filters", broken, spot)
    threat_filter, threat_errors, threat_gaps = parse_filters(
        fields, "threat_filters", broken, spot
    )
    errors += query_errors + filter_errors + threat_errors
    gaps += threat_gaps
    if "rule_id" not in fields and not errors:
        fields["rule_id"] = derive_rule_id(fields)
    status: Status = "ready"
    reason, rule = "", None
    if errors:
        status, reason = "invalid", "; ".join(error.oneline() for error in errors)
    else:
        gaps = _find_gaps(fields) + gaps
        rule = _make_rule(
            fields,
            metadata=metadata or {},
            path=place.path or "",
            line=place.line or 1,
            query_ast=parsed.query,
            eql=parsed.eql,
            filter_ast=filter_ast,
            threat_ast=None if parsed.threat is None else all_of([parsed.threat, threat_filter]),
        )
        if gaps:
            status, reason = "unsupported", "; ".join(gap.message for gap in gaps)
    return LoadedRule(
        path=place.path or "",
        line=place.line or 1,
        rule_id=_text(data.get("rule_id")) or (rule.rule_id if rule else None),
        name=_text(data.get("name")),
        type=_text(data.get("type")),
        language=_text(fields.get("language")),
        status=status,
        reason=reason,
        rule=rule,
        notes=_find_notes(rule, metadata) if rule is not None else (),
        errors=tuple(errors) or tuple(gaps),
    )


def _check_fields(
    data: JsonObject, *, is_toml: bool
) -> tuple[JsonObject, list[Problem], frozenset[str]]:
    """The cleaned fields, what is wrong, and the names of the fields that are."""
    problems: list[Problem] = []
    data = _normalise(data)
    rule_type = data["type"] if data.get("type") in RULE_TYPES else None
    fields = Table(fields_of(rule_type, is_toml=is_toml)).check(data, (), problems)
    broken = frozenset(str(problem.at[0]) for problem in problems if problem.at)
    problems += check_together(fields, broken=broken, is_toml=is_toml)
    return fields, problems, broken


def derive_rule_id(fields: Mapping[str, Any]) -> str:
    """A rule_id for an API rule that has none: the same at every load.

    Elastic draws a random one when the rule is created. Here a rule is loaded anew for each
    scan, and an alert's id is made of its rule's: a random one would make every scan's alerts
    new. Name, type and query are what makes it another rule.
    """
    made_of = [fields.get(name) for name in ("name", "type", "query")]
    return str(uuid5(ID_NAMESPACE, json.dumps(made_of)))


def _normalise(data: JsonObject) -> JsonObject:
    """Older spellings that the API still takes."""
    data = dict(data)
    if isinstance(data.get("investigation_fields"), list):
        data["investigation_fields"] = {"field_names": data["investigation_fields"]}
    threshold = data.get("threshold")
    if isinstance(threshold, dict) and threshold.get("field") == "":
        data["threshold"] = {**threshold, "field": []}
    return data


def _to_error(problem: Problem, spot: Spot) -> RuleError:
    return RuleError(problem.message, place=spot.place(problem.at), hint=problem.hint)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _find_gaps(fields: JsonObject) -> list[UnsupportedError]:
    """Why a valid rule of this type and language does not run."""
    rule_type = fields["type"]
    if rule_type in _NOT_RUN:
        return [UnsupportedError(_NOT_RUN[rule_type])]
    if not fields.get("query", "").strip() and rule_type == "saved_query":
        saved = fields["saved_id"]
        return [
            UnsupportedError(
                f"the saved query '{saved}' is kept in Kibana, and the rule carries no copy of it"
            )
        ]
    return []


def _find_notes(rule: Rule, metadata: JsonObject | None) -> tuple[str, ...]:
    """What is accepted and not applied, or not as it was probably meant."""
    notes = notes_on_queries(rule)
    if rule.type == "saved_query" and rule.query:
        notes.append(f"the saved query '{rule.saved_id}' is not read: the rule's own copy runs")
    if rule.data_view_id is not None:
        notes.append(f"the data view '{rule.data_view_id}' is not known here: all events are read")
    if rule.max_signals > MAX_SIGNALS_CAP:
        notes.append(f"max_signals {rule.max_signals} is lowered to {MAX_SIGNALS_CAP} a run")
    if rule.actions or rule.response_actions:
        notes.append("actions are not run")
    if metadata is not None and "maturity" not in metadata:
        notes.append("metadata names no maturity: taken as production")
    return tuple(notes)


# The Rule itself


def _make_rule(fields: JsonObject, **made: Any) -> Rule:
    values = {name: value for name, value in fields.items() if name in _PLAIN_FIELDS}
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    for name, make in _MADE_FIELDS.items():
        if name in fields:
            values[name] = make(fields[name])
    return Rule(
        **values,
        interval_ms=parse_duration_ms(fields["interval"]),
        from_=parse_date_math(fields["from"]),
        parameters=fields,
        **made,
    )


def _make_threat(one: JsonObject) -> Threat:
    techniques = tuple(_make_technique(each) for each in one["technique"])
    return Threat(one["framework"], Tactic(**one["tactic"]), techniques)


def _make_technique(one: JsonObject) -> Technique:
    below = tuple(_make_technique(each) for each in one.get("subtechnique", ()))
    return Technique(one["id"], one["name"], one["reference"], below)


def _make_suppression(one: JsonObject) -> AlertSuppression:
    duration = one.get("duration")
    duration_ms = duration["value"] * UNIT_MS[duration["unit"]] if duration else None
    strategy = one.get("missing_fields_strategy", "suppress")
    return AlertSuppression(tuple(one.get("group_by", ())), duration_ms, strategy)


def _make_threshold(one: JsonObject) -> Threshold:
    cardinality = tuple(Cardinality(**each) for each in one["cardinality"])
    return Threshold(tuple(one["field"]), one["value"], cardinality)


def _each(make: Callable[..., Any]) -> Callable[[list[JsonObject]], tuple[Any, ...]]:
    return lambda items: tuple(make(**item) for item in items)


_MADE_FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "to": parse_date_math,
    "history_window_start": parse_date_math,
    "threat": lambda items: tuple(_make_threat(item) for item in items),
    "severity_mapping": _each(SeverityMapping),
    "risk_score_mapping": _each(RiskScoreMapping),
    "exceptions_list": _each(ExceptionListRef),
    "investigation_fields": lambda table: tuple(table["field_names"]),
    "alert_suppression": _make_suppression,
    "threshold": _make_threshold,
    "threat_mapping": lambda groups: tuple(
        tuple(ThreatMappingEntry(**entry) for entry in group["entries"]) for group in groups
    ),
}
_PLAIN_FIELDS: Final = frozenset(
    one.name for one in dataclass_fields(Rule) if one.name not in _MADE_FIELDS
)
