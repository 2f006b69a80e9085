"""The query DSL of a search over alerts, as far as it is answered, to the expression tree.

The single conditions mean what they mean in a rule's `filters`; what a search has beyond them is
here: joining, ids, query strings, date formats and the older names of alert fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any, Final, TypeAlias

from barrelman.errors import (
    QueryTypeError,
    RequestError,
    RuleError,
    TimeError,
    UnsupportedError,
)
from barrelman.query.ast import MATCH_ALL, And, Is, Node, Not, Or, Range, Text, Within
from barrelman.query.typecheck import check_types
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldType
from barrelman.records.frozen import frozen
from barrelman.records.times import parse_date_math
from barrelman.rules.filters import all_of, any_of, parse_filter
from barrelman.rules.querystring import parse_query_string
from barrelman.rules.schema import describe_value

JsonObject: TypeAlias = dict[str, Any]

MOST_LEVELS: Final = 60
_MOST_PLACES: Final = 5_000
_SLACK_MS: Final = 3_600_000

_KEYWORDS: Final = (
    *("uuid", "status", "workflow_status", "workflow_user", "workflow_reason", "workflow_tags"),
    *("workflow_assignee_ids", "severity", "building_block_type", "reason", "group.id"),
    *("rule.uuid", "rule.rule_id", "rule.name", "rule.type", "rule.category", "rule.severity"),
    *("rule.tags", "rule.created_by", "rule.updated_by", "rule.rule_type_id", "rule.producer"),
)
_DATES: Final = (
    *("original_time", "start", "last_detected", "intended_timestamp"),
    *("workflow_status_updated_at", "rule.created_at", "rule.updated_at"),
    "rule.execution.timestamp",
)
_NUMBERS: Final = ("risk_score", "depth", "rule.risk_score", "rule.revision", "rule.max_signals")

ALERT_CATALOGUE: Final = Catalogue(
    exact={
        **AUDIT_CATALOGUE.exact,
        "_id": FieldType.KEYWORD,
        "message": FieldType.TEXT,
        **dict.fromkeys((f"kibana.alert.{name}" for name in _KEYWORDS), FieldType.KEYWORD),
        **dict.fromkeys((f"kibana.alert.{name}" for name in _DATES), FieldType.DATE),
        **dict.fromkeys((f"kibana.alert.{name}" for name in _NUMBERS), FieldType.DOUBLE),
        "kibana.alert.rule.enabled": FieldType.BOOLEAN,
        "kibana.alert.rule.immutable": FieldType.BOOLEAN,
        "kibana.alert.rule.parameters": FieldType.FLATTENED,
    },
    body_leaves=AUDIT_CATALOGUE.body_leaves,
    keyword_prefix=AUDIT_CATALOGUE.keyword_prefix,
    by_value=AUDIT_CATALOGUE.by_value,
)

# The names that alert fields had once; the rest of `signal.` is `kibana.alert.` throughout.
_OLD_NAMES: Final = {
    "signal.status": "kibana.alert.workflow_status",
    "signal.rule.id": "kibana.alert.rule.uuid",
    "signal.rule.severity": "kibana.alert.severity",
    "signal.rule.risk_score": "kibana.alert.risk_score",
    "signal.parent": "kibana.alert.ancestors",
    "signal.parents": "kibana.alert.ancestors",
}
_OPTIONS: Final = ("boost", "_name")
_LEAVES: Final = frozenset(
    (
        *("match_all", "match_none", "exists", "match", "match_phrase", "term", "terms"),
        *("range", "wildcard", "prefix", "nested"),
    )
)
KINDS: Final = tuple(sorted((*_LEAVES, "bool", "constant_score", "ids", "query_string")))
"""The queries that are answered."""
_PLAIN_FORMATS: Final = frozenset(
    (
        *("strict_date_optional_time", "date_optional_time", "strict_date_time", "date_time"),
        *("strict_date_optional_time_nanos", "strict_date", "date", "epoch_millis"),
    )
)


def modern_name(field: str) -> str:
    """A field's name of today: `signal.rule.name` was `kibana.alert.rule.name` once."""
    if not field.startswith("signal."):
        return field
    for old, new in _OLD_NAMES.items():
        if field == old or field.startswith(f"{old}."):
            return new + field[len(old) :]
    return f"kibana.alert.{field.removeprefix('signal.')}"


def parse_query(query: object) -> Node:
    """The tree of a query. Raises RequestError that names what is wrong or not answered."""
    try:
        node = _parse(query, MOST_LEVELS)
        check_types(node, ALERT_CATALOGUE)
    except UnsupportedError as error:
        message = error.message.removesuffix(" in filters")
        hint = f"the queries are {', '.join(KINDS)}"
        raise RequestError(f"query: {message} are not answered here", hint=hint) from None
    except (RuleError, QueryTypeError, TimeError) as error:
        raise RequestError(f"query: {error.message}", hint=error.hint) from None
    return node


def _parse(query: object, levels: int) -> Node:
    if not levels:
        raise RuleError(f"nested deeper than {MOST_LEVELS} levels")
    if not isinstance(query, dict):
        raise RuleError(f"expected an object, found {describe_value(query)}")
    if len(query) != 1:
        names = ", ".join(sorted(query)) or "nothing"
        raise RuleError(f"a query must name one kind, such as 'match_phrase': found {names}")
    [(kind, body)] = query.items()
    if kind == "bool":
        return _parse_bool(body, levels - 1)
    if kind == "constant_score":
        return _parse(_object(body, kind).get("filter"), levels - 1)
    if kind == "ids":
        return _parse_ids(body)
    if kind == "query_string":
        return parse_query_string(_object(body, kind), rename=modern_name)
    if kind not in _LEAVES:
        raise UnsupportedError(f"'{kind}' queries")
    return _parse_leaf(kind, body)


def _object(body: object, kind: str) -> JsonObject:
    if not isinstance(body, dict):
        raise RuleError(f"{kind}: expected an object, found {describe_value(body)}")
    return body


def _parse_ids(body: object) -> Node:
    values = _object(body, "ids").get("values")
    values = values if isinstance(values, list) else [values]
    if not all(isinstance(value, str) for value in values):
        raise RuleError("ids.values: expected a list of texts")
    return any_of(Is(Text("_id"), Text(value)) for value in values)


def _parse_bool(body: object, levels: int) -> Node:
    parts = dict(_object(body, "bool"))
    clauses: dict[str, list[Node]] = {}
    for name in ("must", "filter", "should", "must_not"):
        given = parts.pop(name, None)
        listed = given if isinstance(given, list) else [] if given is None else [given]
        clauses[name] = [_parse(one, levels) for one in listed]
    required = [*clauses["must"], *clauses["filter"]]
    least = parts.pop("minimum_should_match", None)
    if least is None:
        least = 0 if required else min(1, len(clauses["should"]))
    left = sorted(set(parts) - {"adjust_pure_negative", *_OPTIONS})
    if left:
        raise UnsupportedError(f"'bool' queries with {', '.join(left)}")
    optional = _at_least(clauses["should"], _count(least, len(clauses["should"])))
    return all_of([*required, optional, *(Not(node) for node in clauses["must_not"])])


def _count(least: object, total: int) -> int:
    text = str(least).strip()
    try:
        if text.endswith("%"):
            share = int(text[:-1]) * total / 100
            count = int(share)  # towards zero, as Elasticsearch rounds
        else:
            count = int(text)
    except ValueError:
        what = f"'bool' queries with minimum_should_match {describe_value(least)}"
        raise UnsupportedError(what) from None
    return count if count >= 0 else max(0, total + count)


def _at_least(nodes: Sequence[Node], count: int) -> Node:
    if count <= 0:
        return MATCH_ALL
    if count > len(nodes):
        return Not(MATCH_ALL)
    if 1 < count < len(nodes) and comb(len(nodes), count) * count > _MOST_PLACES:
        raise UnsupportedError(f"'bool' queries with {count} of {len(nodes)} clauses to match")
    return any_of(all_of(chosen) for chosen in combinations(nodes, count))


# --- single conditions ---------------------------------------------------------------------


def _parse_leaf(kind: str, body: object) -> Node:
    if kind == "match":
        body = _plain_match(body)
    elif kind == "range":
        body = _plain_range(body)
    elif kind == "exists":
        given = _object(body, kind)
        field = given.get("field")
        body = {"field": modern_name(field)} if isinstance(field, str) else given
    if kind in ("term", "terms", "match", "match_phrase", "range", "wildcard", "prefix"):
        body = {
            name if name in _OPTIONS else modern_name(name): value
            for name, value in _object(body, kind).items()
        }
    node = parse_filter({"query": {kind: body}})
    assert node is not None  # only a filter with a `meta` can be switched off
    return node


def _plain_match(body: object) -> JsonObject:
    """`operator: and` asks for every word, which a keyword's whole value decides anyway."""
    given = _object(body, "match")
    made: JsonObject = {}
    for field, options in given.items():
        made[field] = options
        if isinstance(options, dict) and str(options.get("operator", "")).lower() == "and":
            name = modern_name(field)
            if ALERT_CATALOGUE.type_of(name) is FieldType.TEXT:
                raise UnsupportedError(f"'match' queries with operator 'and' on {field}")
            made[field] = {key: value for key, value in options.items() if key != "operator"}
    return made


def _plain_range(body: object) -> JsonObject:
    """Bounds as they are without a date format; `from` and `to` of old clients among them."""
    given = _object(body, "range")
    made: JsonObject = {}
    for field, options in given.items():
        if field in _OPTIONS:
            continue
        bounds = dict(_object(options, f"range.{field}"))
        named = str(bounds.pop("format", "") or "")
        formats = [each for each in named.split("||") if each]
        left = [each for each in formats if each not in _PLAIN_FORMATS and each != "epoch_second"]
        if left:
            raise UnsupportedError(f"'range' queries with the date format '{left[0]}'")
        _modernise(bounds)
        if formats == ["epoch_second"]:
            bounds = {op: _milliseconds(value) for op, value in bounds.items()}
        made[field] = bounds
    return made


def _modernise(bounds: JsonObject) -> None:
    includes_lower = bounds.pop("include_lower", True)
    includes_upper = bounds.pop("include_upper", True)
    lower, upper = bounds.pop("from", None), bounds.pop("to", None)
    if lower is not None:
        bounds["gte" if includes_lower else "gt"] = lower
    if upper is not None:
        bounds["lte" if includes_upper else "lt"] = upper


def _milliseconds(value: object) -> object:
    try:
        return int(float(str(value)) * 1000)
    except (ValueError, OverflowError):
        return value  # date math stands as it is


# --- what the database can sort out by itself ----------------------------------------------


@frozen
class Bounds:
    """What alerts must at least be for a query to hold; None where it says nothing of it."""

    created_us: tuple[int | None, int | None] = (None, None)
    ids: frozenset[str] | None = None
    statuses: frozenset[str] | None = None
    severities: frozenset[str] | None = None
    rule_uuids: frozenset[str] | None = None
    rule_ids: frozenset[str] | None = None


_BOUND_FIELDS: Final[Mapping[str, str]] = {
    "_id": "ids",
    "kibana.alert.uuid": "ids",
    "kibana.alert.workflow_status": "statuses",
    "kibana.alert.severity": "severities",
    "kibana.alert.rule.uuid": "rule_uuids",
    "kibana.alert.rule.rule_id": "rule_ids",
}


def bounds_of(node: Node, *, now_ms: int) -> Bounds:
    """Reads them off the conditions that must all hold. Times are taken with an hour to spare."""
    sets: dict[str, frozenset[str]] = {}
    low: int | None = None
    high: int | None = None
    for part in node.children if isinstance(node, And) else (node,):
        found = _value_set(part)
        if found is not None:
            name, values = found
            sets[name] = sets[name] & values if name in sets else values
        for op, instant_ms in _time_bounds(part, now_ms):
            if op in ("gt", "gte"):
                low = instant_ms if low is None else max(low, instant_ms)
            else:
                high = instant_ms if high is None else min(high, instant_ms)
    created = (
        None if low is None else (low - _SLACK_MS) * 1000,
        None if high is None else (high + _SLACK_MS) * 1000,
    )
    return Bounds(created_us=created, **sets)


def _value_set(node: Node) -> tuple[str, frozenset[str]] | None:
    parts = node.children if isinstance(node, Or) else (node,)
    names, values = set(), set()
    for part in parts:
        if not (
            isinstance(part, Is) and isinstance(part.field, Text) and isinstance(part.value, Text)
        ):
            return None
        names.add(_BOUND_FIELDS.get(part.field.value))
        values.add(part.value.value)
    [name] = names if len(names) == 1 else [None]
    return None if name is None else (name, frozenset(values))


def _time_bounds(node: Node, now_ms: int) -> list[tuple[str, int]]:
    ends: Sequence[tuple[str, object]] = ()
    if isinstance(node, Range) and node.field == Text("@timestamp"):
        ends = [(node.op, node.value)]
    elif isinstance(node, Within) and node.field == Text("@timestamp"):
        ends = node.bounds
    found = []
    for op, value in ends:
        if isinstance(value, Text):
            try:
                math = parse_date_math(value.value)
                found.append((op, math.resolve_ms(now_ms, round_up=op in ("gt", "lte"))))
            except TimeError:
                continue
    return found
