"""`query_string` of the query DSL: its text is Lucene's, and what may be said beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from barrelman.errors import QuerySyntaxError, RuleError, UnsupportedError
from barrelman.query.ast import MATCH_ALL, And, Node, Not, Or
from barrelman.query.lucene import parse_lucene
from barrelman.rules.schema import describe_value

Rename = Callable[[str], str]

_MOST_CLAUSES: Final = 1024
"""As Elasticsearch's default."""
_LONGEST: Final = 100_000
_IGNORED: Final = frozenset(
    (
        *("analyze_wildcard", "lenient", "boost", "_name", "allow_leading_wildcard", "rewrite"),
        *("auto_generate_synonyms_phrase_query", "time_zone", "tie_breaker", "type"),
    )
)


def parse_query_string(body: Mapping[str, Any], *, rename: Rename) -> Node:
    """The tree of a `query_string` query. Raises RuleError and UnsupportedError."""
    text = body.get("query")
    if not isinstance(text, str):
        raise RuleError(f"query_string.query: expected a text, found {describe_value(text)}")
    if len(text) > _LONGEST:
        raise RuleError(f"query_string.query: longer than {_LONGEST} characters")
    left = set(body) - _IGNORED - {"query", "default_field", "fields", "default_operator"}
    if left:
        raise UnsupportedError(f"'query_string' queries with {', '.join(sorted(left))}")
    default = str(body.get("default_operator", "or")).lower()
    if default not in ("and", "or"):
        raise RuleError("query_string.default_operator: expected 'and' or 'or'")
    if not text.strip():
        return Not(MATCH_ALL)  # as Elasticsearch has it, unlike an empty query of a rule
    try:
        node = parse_lucene(
            text,
            default_fields=_default_fields(body, rename),
            default_operator="and" if default == "and" else "or",
            rename=rename,
        )
    except QuerySyntaxError as error:
        column = f" at character {error.place.column}" if error.place.line == 1 else ""
        raise RuleError(f"query_string: {error.message}{column}", hint=error.hint) from None
    _check_size(node)
    return node


def _default_fields(body: Mapping[str, Any], rename: Rename) -> list[str]:
    """Boosts behind their names only rank."""
    fields = body.get("fields", body.get("default_field"))
    names = [fields] if isinstance(fields, str) else fields if isinstance(fields, list) else []
    return [rename(str(name).partition("^")[0]) for name in names if name not in ("*", None)]


def _check_size(node: Node) -> None:
    waiting, clauses = [node], 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, And | Or):
            waiting += part.children
        elif isinstance(part, Not):
            waiting.append(part.child)
        else:
            clauses += 1
    if clauses > _MOST_CLAUSES:
        raise RuleError(f"query_string: more than {_MOST_CLAUSES} clauses")
