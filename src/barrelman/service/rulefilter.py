"""KQL over the attributes of stored rules: `alert.attributes.params.severity: high`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from barrelman.engine.compile import compile_query
from barrelman.errors import QueryError, RequestError
from barrelman.query.kql import parse_kql
from barrelman.query.typecheck import check_types
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue, FieldType

JsonObject: TypeAlias = dict[str, Any]
Filter: TypeAlias = Callable[[Mapping[str, Any]], bool]

_ATTRIBUTES: Final = "alert.attributes"
_TYPES: Final = Catalogue(
    exact={
        f"{_ATTRIBUTES}.name": FieldType.TEXT,
        **dict.fromkeys(
            (
                f"{_ATTRIBUTES}.tags",
                f"{_ATTRIBUTES}.name.keyword",
                f"{_ATTRIBUTES}.consumer",
                f"{_ATTRIBUTES}.alertTypeId",
                f"{_ATTRIBUTES}.lastRun.outcome",
            ),
            FieldType.KEYWORD,
        ),
        f"{_ATTRIBUTES}.enabled": FieldType.BOOLEAN,
        f"{_ATTRIBUTES}.revision": FieldType.LONG,
        f"{_ATTRIBUTES}.createdAt": FieldType.DATE,
        f"{_ATTRIBUTES}.updatedAt": FieldType.DATE,
    },
    # A rule's parameters are words to whoever searches them, truths and all.
    keyword_prefix=f"{_ATTRIBUTES}.params.",
)
_TYPE_IDS: Final = {
    "query": "siem.queryRule",
    "saved_query": "siem.savedQueryRule",
    "eql": "siem.eqlRule",
    "threat_match": "siem.indicatorRule",
    "machine_learning": "siem.mlRule",
    "threshold": "siem.thresholdRule",
    "new_terms": "siem.newTermsRule",
    "esql": "siem.esqlRule",
}
_OUTCOMES: Final = {"succeeded": "succeeded", "partial failure": "warning", "failed": "failed"}


def parse_rule_filter(text: str, *, now_ms: int) -> Filter:
    """A test of rules as the API gives them. Raises RequestError where the KQL is broken."""
    try:
        node = parse_kql(text)
        check_types(node, _TYPES, text=text)
    except QueryError as error:
        raise RequestError(f"filter: {error.oneline()}") from None
    predicate = compile_query(node, _TYPES)
    return lambda rule: predicate.matches(
        Event(body=attributes_of(rule), is_document=True), now_ms=now_ms
    )


def attributes_of(rule: Mapping[str, Any]) -> JsonObject:
    """A rule's response as the document that filters are about."""
    is_shipped = bool(rule["immutable"])
    summary = rule.get("execution_summary", {}).get("last_execution", {})
    params = {_camel(name): _camelled(value) for name, value in rule.items() if name != "tags"}
    attributes: JsonObject = {
        "name": rule["name"],
        "name.keyword": rule["name"],
        # What rules carried among their tags once, and old clients still ask for.
        "tags": [
            *rule["tags"],
            f"__internal_immutable:{'true' if is_shipped else 'false'}",
            f"__internal_rule_id:{rule['rule_id']}",
        ],
        "enabled": rule["enabled"],
        "revision": rule["revision"],
        "consumer": "siem",
        "alertTypeId": _TYPE_IDS.get(rule["type"], ""),
        "createdAt": rule["created_at"],
        "createdBy": rule["created_by"],
        "updatedAt": rule["updated_at"],
        "updatedBy": rule["updated_by"],
        "schedule": {"interval": rule["interval"]},
        "params": params,
        "lastRun": {"outcome": _OUTCOMES.get(summary.get("status", ""), "")},
        "executionStatus": {"status": summary.get("status", "")},
    }
    return {"alert": {"attributes": attributes}}


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def _camelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {_camel(key): _camelled(child) for key, child in value.items()}
    return [_camelled(child) for child in value] if isinstance(value, list) else value
