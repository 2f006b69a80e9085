"""Kibana's `filters` array -> the expression tree.

A filter is a piece of Elasticsearch's Query DSL with a `meta` beside it. What can be said in the
tree is translated exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any, Final, TypeAlias

from barrelman.errors import RuleError, UnsupportedError
from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Boolean,
    Exists,
    FieldName,
    Is,
    Nested,
    Node,
    Not,
    Or,
    Range,
    RangeOp,
    Text,
    Wild,
    Within,
)
from barrelman.records.frozen import frozen
from barrelman.rules.patterns import parse_wildcard, pattern_value
from barrelman.rules.schema import describe_value

Dsl: TypeAlias = Mapping[str, Any]

MOST_NODES: Final = 20_000
"""What all filters of one rule may come to, clauses that stand in many places counted in each."""
MOST_LEVELS: Final = 100
"""How deep a filter may nest, and the tree that is made of it."""

_META_KEYS: Final = ("meta", "query", "alias")
_IGNORED_OPTIONS: Final = frozenset(
    ("boost", "_name", "rewrite", "lenient", "zero_terms_query", "relation")
)
_RANGE_OPS: Final[tuple[RangeOp, ...]] = ("gt", "gte", "lt", "lte")

MATCH_NONE: Final = Not(MATCH_ALL)


@dataclass(slots=True, eq=False, repr=False)
class Budget:
    """How many nodes the filters of a rule may still come to."""

    left: int = MOST_NODES

    @property
    def is_spent(self) -> bool:
        return self.left < 0

    def spend(self, count: int, what: str) -> None:
        self.left -= count
        if self.is_spent:
            raise UnsupportedError(what)


@frozen
class _Level:
    """How deep in a filter its parts stand, and what they may still come to."""

    budget: Budget
    depth: int = 0

    def below(self) -> _Level:
        return _Level(self.budget, self.depth + 1)

    def check(self) -> None:
        if self.depth > MOST_LEVELS:
            raise UnsupportedError(_TOO_DEEP)
        self.budget.spend(1, f"filters of more than {MOST_NODES} clauses")


_TOO_DEEP: Final = f"filters nested deeper than {MOST_LEVELS} levels"


def parse_filter(filter_: object, *, budget: Budget | None = None) -> Node | None:
    """One element of a `filters` array; None when it is switched off.

    Filters of one rule share one budget. Raises RuleError where the filter is broken,
    UnsupportedError where it says what we cannot.
    """
    node = _parse_filter(filter_, _Level(budget or Budget()))
    if node is not None and _is_deeper_than(node, MOST_LEVELS):
        raise UnsupportedError(_TOO_DEEP)
    return node


def all_of(nodes: Iterable[Node]) -> Node:
    """The nodes joined by AND, flat, without those that always hold."""
    children: list[Node] = []
    for node in nodes:
        if isinstance(node, And):
            children += node.children
        elif node != MATCH_ALL:
            children.append(node)
    if not children:
        return MATCH_ALL
    return children[0] if len(children) == 1 else And(tuple(children))


def any_of(nodes: Iterable[Node]) -> Node:
    """The nodes joined by OR; of none, what never holds."""
    children = tuple(nodes)
    if not children:
        return MATCH_NONE
    return children[0] if len(children) == 1 else Or(children)


def _parse_filter(filter_: object, level: _Level) -> Node | None:
    level.check()
    parts = _expect_object(filter_, "a filter")
    meta = _expect_object(parts.get("meta") or {}, "meta")
    if meta.get("disabled") is True:
        return None
    if meta.get("type") == "combined":
        node = _parse_combined(meta, level)
    else:
        node = _parse_plain(parts, meta, level)
    return Not(node) if meta.get("negate") is True else node


def _parse_combined(meta: Dsl, level: _Level) -> Node:
    relation = meta.get("relation", "AND")
    if relation not in ("AND", "OR"):
        raise RuleError(f"meta.relation: expected 'AND' or 'OR', found {describe_value(relation)}")
    parts = [
        _parse_filter(one, level.below()) for one in _expect_list(meta.get("params"), "params")
    ]
    nodes = [node for node in parts if node is not None]
    return all_of(nodes) if relation == "AND" or not nodes else any_of(nodes)


def _parse_plain(parts: Dsl, meta: Dsl, level: _Level) -> Node:
    query = parts.get("query")
    if query is None:
        query = {
            key: value
            for key, value in parts.items()
            if key not in _META_KEYS and not key.startswith("$")
        }
        if not query:
            return _parse_meta(meta, level)
    return _parse_dsl(query, level.below())


def _parse_meta(meta: Dsl, level: _Level) -> Node:
    """A filter whose `meta` alone says what it means."""
    kind, params = meta.get("type"), meta.get("params")
    if not isinstance(meta.get("key"), str):
        raise RuleError("the filter holds no query")
    field: str = meta["key"]
    if kind == "exists":
        return Exists(_field_pattern(field))
    if kind == "phrase":
        phrase = params.get("query") if isinstance(params, dict) else params
        return Is(Text(field), to_value(phrase, quoted=True))
    if kind == "phrases":
        phrases = _expect_list(params, "meta.params")
        return any_of(Is(Text(field), to_value(phrase, quoted=True)) for phrase in phrases)
    if kind == "range":
        return _parse_range({field: params}, level)
    raise UnsupportedError(f"a filter of meta.type {describe_value(kind)} without a query")


def _parse_dsl(query: object, level: _Level) -> Node:
    level.check()
    parts = _expect_object(query, "a query")
    if len(parts) != 1:
        names = ", ".join(sorted(parts)) or "nothing"
        raise RuleError(f"a query must name one kind, such as 'match_phrase': found {names}")
    [(name, body)] = parts.items()
    parse = _KINDS.get(name)
    if parse is None:
        raise UnsupportedError(f"'{name}' queries in filters")
    return parse(body, level)


def _parse_match_all(_body: object, _level: _Level) -> Node:
    return MATCH_ALL


def _parse_match_none(_body: object, _level: _Level) -> Node:
    return MATCH_NONE


def _parse_exists(body: object, _level: _Level) -> Node:
    field = _expect_object(body, "exists").get("field")
    if not isinstance(field, str) or not field:
        raise RuleError(f"exists.field: expected a field name, found {describe_value(field)}")
    return Exists(_field_pattern(field))


def _parse_match(body: object, _level: _Level) -> Node:
    field, value, options = _field_body(body, "match", "query", ("query",))
    kind = options.pop("type", None)
    if kind not in (None, "phrase", "boolean"):
        raise UnsupportedError(f"'match' of type {describe_value(kind)} in filters")
    operator = str(options.pop("operator", "or")).lower()
    if operator != "or" and kind != "phrase":
        raise UnsupportedError(f"'match' with operator '{operator}' in filters")
    _refuse_options("match", options)
    return Is(Text(field), to_value(value, quoted=kind == "phrase"))


def _parse_match_phrase(body: object, _level: _Level) -> Node:
    field, value, options = _field_body(body, "match_phrase", "query", ("query",))
    if options.pop("slop", 0) not in (0, "0"):
        raise UnsupportedError("'match_phrase' with slop in filters")
    _refuse_options("match_phrase", options)
    return Is(Text(field), to_value(value, quoted=True))


def _parse_term(body: object, _level: _Level) -> Node:
    field, value, options = _field_body(body, "term", "value", ("value",))
    ignore_case = options.pop("case_insensitive", False) is True
    _refuse_options("term", options)
    exact = to_value(value)
    if ignore_case and isinstance(exact, Text):
        return Is(Text(field), pattern_value((exact.value,), ignore_case=True))
    return Is(Text(field), exact)


def _parse_terms(body: object, _level: _Level) -> Node:
    parts = {
        key: value
        for key, value in _expect_object(body, "terms").items()
        if key not in _IGNORED_OPTIONS
    }
    if len(parts) != 1:
        raise RuleError("terms: expected one field with a list of values")
    [(field, values)] = parts.items()
    if isinstance(values, dict):
        raise UnsupportedError("'terms' looked up in another index in filters")
    return any_of(Is(Text(field), to_value(value)) for value in _expect_list(values, "terms"))


def _parse_range(body: object, _level: _Level) -> Node:
    parts = _expect_object(body, "range")
    if len(parts) != 1:
        raise RuleError("range: expected one field with its bounds")
    [(field, given)] = parts.items()
    options = {**_expect_object(given, f"range.{field}")}
    bounds = {op: options.pop(op) for op in _RANGE_OPS if options.get(op) is not None}
    if options.pop("format", "strict_date_optional_time") != "strict_date_optional_time":
        raise UnsupportedError("'range' with a date format in filters")
    if options.pop("time_zone", "UTC") not in ("UTC", "Zulu", "Z", "+00:00"):
        raise UnsupportedError("'range' with a time zone in filters")
    _refuse_options("range", {key: one for key, one in options.items() if one is not None})
    if not bounds:
        return Exists(Text(field))
    ends: list[tuple[RangeOp, Text]] = [(op, Text(_to_text(one))) for op, one in bounds.items()]
    if len(ends) == 1:
        return Range(Text(field), *ends[0])
    return Within(Text(field), tuple(ends))


def _parse_wildcard(body: object, _level: _Level) -> Node:
    field, value, options = _field_body(body, "wildcard", "value", ("value", "wildcard"))
    ignore_case = options.pop("case_insensitive", False) is True
    _refuse_options("wildcard", options)
    return Is(Text(field), parse_wildcard(_to_text(value), ignore_case=ignore_case))


def _parse_prefix(body: object, _level: _Level) -> Node:
    field, value, options = _field_body(body, "prefix", "value", ("value", "prefix"))
    ignore_case = options.pop("case_insensitive", False) is True
    _refuse_options("prefix", options)
    return Is(Text(field), pattern_value((_to_text(value), Wild.RUN), ignore_case=ignore_case))


def _parse_bool(body: object, level: _Level) -> Node:
    parts = {**_expect_object(body, "bool")}
    clauses: dict[str, list[Node]] = {}
    for name in ("must", "filter", "should", "must_not"):
        given = parts.pop(name, None)
        listed = given if isinstance(given, list) else [] if given is None else [given]
        clauses[name] = [_parse_dsl(one, level.below()) for one in listed]
    required = [*clauses["must"], *clauses["filter"]]
    least = parts.pop("minimum_should_match", None)
    if least is None:
        least = 0 if required else min(1, len(clauses["should"]))
    _refuse_options(
        "bool", {key: one for key, one in parts.items() if key != "adjust_pure_negative"}
    )
    optional = _at_least(clauses["should"], _to_count(least, len(clauses["should"])), level.budget)
    return all_of([*required, optional, *(Not(node) for node in clauses["must_not"])])


def _at_least(nodes: list[Node], count: int, budget: Budget) -> Node:
    if count <= 0:
        return MATCH_ALL
    if count > len(nodes):
        return MATCH_NONE
    if 1 < count < len(nodes):  # each clause comes to stand in many places
        places = comb(len(nodes) - 1, count - 1)
        total = places * sum(map(_size, nodes)) + comb(len(nodes), count)
        budget.spend(total, f"'bool' with {count} of {len(nodes)} clauses to match in filters")
    return any_of(all_of(chosen) for chosen in combinations(nodes, count))


def _size(node: Node) -> int:
    """How many nodes a tree has, shared ones counted wherever they stand."""
    return 1 + sum(map(_size, _children(node)))


def _is_deeper_than(node: Node, limit: int) -> bool:
    level = {id(node): node}  # of nodes that stand in many places, one is looked at
    for _ in range(limit):
        below = (child for each in level.values() for child in _children(each))
        level = {id(child): child for child in below}
        if not level:
            return False
    return True


def _children(node: Node) -> tuple[Node, ...]:
    if isinstance(node, And | Or):
        return node.children
    return (node.child,) if isinstance(node, Not | Nested) else ()


def _to_count(least: object, total: int) -> int:
    try:
        count = int(str(least))
    except ValueError:
        message = f"'bool' with minimum_should_match {describe_value(least)} in filters"
        raise UnsupportedError(message) from None
    return count if count >= 0 else max(0, total + count)


def _parse_nested(body: object, level: _Level) -> Node:
    parts = {**_expect_object(body, "nested")}
    path = parts.pop("path", None)
    if not isinstance(path, str) or not path:
        raise RuleError(f"nested.path: expected a field name, found {describe_value(path)}")
    child = _parse_dsl(parts.pop("query", None), level.below())
    parts.pop("score_mode", None)
    parts.pop("ignore_unmapped", None)
    _refuse_options("nested", parts)
    return Nested(Text(path), _relative_to(child, path))


def _relative_to(node: Node, path: str) -> Node:
    """The same with field names counted from `path`, as a Nested node wants them."""
    if isinstance(node, And | Or):
        return type(node)(tuple(_relative_to(child, path) for child in node.children))
    if isinstance(node, Not):
        return Not(_relative_to(node.child, path))
    if isinstance(node, Is):
        return Is(_cut(node.field, path), node.value)
    if isinstance(node, Range):
        return Range(_cut(node.field, path), node.op, node.value)
    if isinstance(node, Within):
        return Within(_cut(node.field, path), node.bounds)
    if isinstance(node, Exists):
        return Exists(_cut(node.field, path))
    if isinstance(node, Nested):
        return Nested(_cut(node.path, path), node.child)
    return node


def _cut(field: FieldName | None, path: str) -> FieldName:
    if isinstance(field, Text) and field.value.startswith(f"{path}."):
        return Text(field.value[len(path) + 1 :])
    name = field.value if isinstance(field, Text) else "a pattern"
    raise UnsupportedError(f"'nested' at '{path}' with a field outside of it ({name}) in filters")


def _parse_query_string(body: object, level: _Level) -> Node:
    from barrelman.rules.querystring import parse_query_string  # few filters hold one

    node = parse_query_string(_expect_object(body, "query_string"), rename=str)
    level.budget.spend(_size(node), f"filters of more than {MOST_NODES} clauses")
    return node


def _parse_constant_score(body: object, level: _Level) -> Node:
    return _parse_dsl(_expect_object(body, "constant_score").get("filter"), level.below())


_KINDS: Final[Mapping[str, Callable[[object, _Level], Node]]] = {
    "match_all": _parse_match_all,
    "match_none": _parse_match_none,
    "exists": _parse_exists,
    "match": _parse_match,
    "match_phrase": _parse_match_phrase,
    "term": _parse_term,
    "terms": _parse_terms,
    "range": _parse_range,
    "wildcard": _parse_wildcard,
    "prefix": _parse_prefix,
    "bool": _parse_bool,
    "nested": _parse_nested,
    "query_string": _parse_query_string,
    "constant_score": _parse_constant_score,
}


def to_value(value: object, *, quoted: bool = False) -> Text | Boolean:
    """A JSON value as a literal of the tree. Numbers become their text."""
    if isinstance(value, bool):
        return Boolean(value)
    return Text(_to_text(value), quoted=quoted)


def _to_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    raise RuleError(f"expected a text, a number, true or false, found {describe_value(value)}")


def _field_pattern(field: str) -> FieldName:
    return parse_wildcard(field, chars="*") if "*" in field else Text(field)


def _field_body(
    body: object, kind: str, long_key: str, value_keys: tuple[str, ...]
) -> tuple[str, object, dict[str, Any]]:
    """Field, value and options of `{field: value}` and of `{field: {value: …, option: …}}`."""
    parts = _expect_object(body, kind)
    if len(parts) != 1:
        raise RuleError(f"{kind}: expected one field, found {len(parts)}")
    [(field, given)] = parts.items()
    if not isinstance(given, dict):
        return field, given, {}
    options = {**given}
    found = [options.pop(key) for key in value_keys if key in options]
    if len(found) != 1:
        raise RuleError(f"{kind}.{field}: expected '{long_key}'")
    return field, found[0], options


def _refuse_options(kind: str, options: Mapping[str, object]) -> None:
    left = sorted(set(options) - _IGNORED_OPTIONS)
    if left:
        raise UnsupportedError(f"'{kind}' with {', '.join(left)} in filters")


def _expect_object(value: object, name: str) -> Dsl:
    if not isinstance(value, dict):
        raise RuleError(f"{name}: expected an object, found {describe_value(value)}")
    return value


def _expect_list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise RuleError(f"{name}: expected a list, found {describe_value(value)}")
    return value
