"""`query_string`: the part of Lucene's query language that people type, as an expression tree.

    user.name:eve AND NOT kibana.alert.severity:(low OR medium)
    "exact phrase"   kibana.alert.rule.name:*pod*   _exists_:source.ip   risk:[50 TO *]   risk:>=50

Lucene has no precedence among AND and OR; here AND binds tighter, as everybody reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from barrelman.errors import RuleError, UnsupportedError
from barrelman.query.ast import (
    Boolean,
    Exists,
    FieldName,
    Is,
    Node,
    Not,
    Range,
    RangeOp,
    Text,
    Value,
    Within,
)
from barrelman.records.frozen import frozen
from barrelman.rules.filters import all_of, any_of
from barrelman.rules.patterns import parse_wildcard
from barrelman.rules.schema import describe_value

Rename = Callable[[str], str]

_MOST_LEVELS: Final = 30
_MOST_CLAUSES: Final = 1024
"""As Elasticsearch's default."""
_LONGEST: Final = 100_000
_IGNORED: Final = frozenset(
    (
        *("analyze_wildcard", "lenient", "boost", "_name", "allow_leading_wildcard", "rewrite"),
        *("auto_generate_synonyms_phrase_query", "time_zone", "tie_breaker", "type"),
    )
)
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<sign>[()]|&&|\|\||[-+!](?=\S))
      | (?P<field>(?:\\.|[^\s()\[\]{}":\\<>=!+\-/^~&|]|(?<=\S)[-+/=!&|])++)\s*:\s*
      | (?P<range>[\[{]\s*(?P<low>"[^"]*"|[^\s\]}]+)\s+TO\s+(?P<high>"[^"]*"|[^\s\]}]+)\s*[\]}])
      | (?P<compare>[<>]=?)\s*(?P<bound>"[^"]*"|[^\s()]+)
      | "(?P<phrase>(?:\\.|[^"\\])*+)"(?:~\d+)?(?:\^[\d.]+)?
      | (?P<word>(?:\\.|[^\s()":\\]|(?<=\S):)++)
    )""",
    re.VERBOSE | re.DOTALL,
)
_OPS: Final[Mapping[str, RangeOp]] = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


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
    fields = body.get("fields", body.get("default_field"))
    names = [fields] if isinstance(fields, str) else fields if isinstance(fields, list) else []
    names = [rename(str(name).partition("^")[0]) for name in names if name not in ("*", None)]
    return _Parser(text, names, default == "and", rename).parse()


class _Parser:
    """`at` is all that moves."""

    def __init__(self, text: str, names: list[str], joins_all: bool, rename: Rename) -> None:
        self.text = text
        self.names = names
        self.joins_all = joins_all
        self.rename = rename
        self.at = 0
        self.levels = 0
        self.clauses = 0

    def parse(self) -> Node:
        if not self.text.strip():
            return Not(all_of(()))
        node = self.either(None)
        if self.peek() is not None:
            raise RuleError(f"query_string: ')' too many at character {self.at + 1}")
        return node

    def peek(self) -> re.Match[str] | None:
        """The next token; None at the end."""
        if not self.text[self.at :].strip():
            return None
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            rest = self.text[self.at :].strip()
            raise RuleError(f"query_string: cannot read {describe_value(rest)}")
        return found

    def word(self, *words: str) -> bool:
        """Steps over one of these words."""
        token = self.peek()
        if token is not None and (token["word"] in words or token["sign"] in words):
            self.at = token.end()
            return True
        return False

    def either(self, field: str | None) -> Node:
        nodes = [self.beside(field)]
        while self.word("OR", "||"):
            nodes.append(self.beside(field))
        return any_of(nodes)

    def beside(self, field: str | None) -> Node:
        """Operands that nothing joins: any of them, unless a `+` or a `-` says more."""
        nodes = [self.both(field)]
        while not self.joins_all and self.begins_operand():
            nodes.append(self.both(field))
        return _with_required(nodes)

    def both(self, field: str | None) -> Node | _Required:
        nodes = [self.negation(field)]
        while self.word("AND", "&&") or (self.joins_all and self.begins_operand()):
            nodes.append(self.negation(field))
        return nodes[0] if len(nodes) == 1 else all_of(map(_node, nodes))

    def begins_operand(self) -> bool:
        token = self.peek()
        if token is None or token["sign"] in (")", "&&", "||"):
            return False
        return token["word"] not in ("OR", "AND")

    def negation(self, field: str | None) -> Node | _Required:
        self.clauses += 1
        if self.clauses > _MOST_CLAUSES:
            raise RuleError(f"query_string: more than {_MOST_CLAUSES} clauses")
        self.levels += 1
        if self.levels > _MOST_LEVELS:
            raise RuleError(f"query_string: more than {_MOST_LEVELS} brackets open at once")
        node: Node | _Required
        if self.word("NOT", "!", "-"):
            node = Not(_node(self.negation(field)))
        elif self.word("+"):
            node = _Required(_node(self.negation(field)))
        else:
            node = self.operand(field)
        self.levels -= 1
        return node

    def operand(self, field: str | None) -> Node:
        token = self.peek()
        if token is None:
            raise RuleError("query_string: something is missing at the end")
        if token["sign"] == "(":
            return self.group(token, field)
        if token["sign"] is not None or token["word"] in ("AND", "OR"):
            raise RuleError(f"query_string: '{token[0].strip()}' joins nothing")
        self.at = token.end()
        if token["field"] is not None:
            return self.of_field(_plain(token["field"]))
        return self.condition(token, field)

    def group(self, token: re.Match[str], field: str | None) -> Node:
        self.at = token.end()
        node = self.either(field)
        if not self.word(")"):
            raise RuleError("query_string: a ')' is missing")
        return node

    def of_field(self, name: str) -> Node:
        token = self.peek()
        if name == "_exists_":
            if token is None or token["word"] is None:
                raise RuleError("query_string: _exists_ without a field")
            self.at = token.end()
            return Exists(_name(self.rename(_plain(token["word"]))))
        if token is not None and token["field"] is not None:
            raise RuleError(f"query_string: '{name}:' without a value")
        return self.operand(self.rename(name))

    def condition(self, token: re.Match[str], field: str | None) -> Node:
        if token["range"] is not None:
            return _interval(field, token)
        if token["compare"] is not None:
            bound = Text(_plain(token["bound"].strip('"')))
            return Range(_needed(field), _OPS[token["compare"]], bound)
        if token["phrase"] is not None:
            return self.any_name(field, Text(_plain(token["phrase"]), quoted=True))
        word = token["word"]
        if re.search(r"(?<!\\)[~^][\d.]*$", word) or word.startswith("/"):
            raise UnsupportedError("'query_string' queries with fuzzy, boosted or regular words")
        if word == "*" and field is not None:
            return Exists(_name(field))
        return self.any_name(field, _value(word))

    def any_name(self, field: str | None, value: Value) -> Node:
        if field is not None:
            return Is(_name(field), value)
        if self.names:
            return any_of(Is(_name(name), value) for name in self.names)
        return Is(None, value)


@frozen
class _Required:
    """An operand with `+` before it: it must hold beside what only may."""

    node: Node


def _node(part: Node | _Required) -> Node:
    return part.node if isinstance(part, _Required) else part


def _with_required(parts: list[Node | _Required]) -> Node:
    """`+a b`: a must hold, b may. `a -b`: b must not, whatever else holds."""
    if len(parts) == 1:
        return _node(parts[0])
    required = [part.node for part in parts if isinstance(part, _Required)]
    refused = [part for part in parts if isinstance(part, Not)]
    others = [part for part in parts if not isinstance(part, _Required | Not)]
    if not required and others:
        required = [any_of(others)]
    return all_of([*required, *refused])


def _needed(field: str | None) -> FieldName:
    if field is None:
        raise RuleError("query_string: a range without a field")
    return _name(field)


def _name(field: str) -> FieldName:
    if "*" not in field:
        return Text(field)
    return parse_wildcard(field, chars="*")


def _interval(field: str | None, token: re.Match[str]) -> Node:
    name = _needed(field)
    text = token["range"]
    low, high = token["low"].strip('"'), token["high"].strip('"')
    bounds: list[tuple[RangeOp, Text]] = []
    if low != "*":
        bounds.append(("gte" if text[0] == "[" else "gt", Text(_plain(low))))
    if high != "*":
        bounds.append(("lte" if text[-1] == "]" else "lt", Text(_plain(high))))
    if not bounds:
        return Exists(name)
    return Range(name, *bounds[0]) if len(bounds) == 1 else Within(name, tuple(bounds))


def _value(word: str) -> Value:
    if re.search(r"(?<!\\)[*?]", word):
        return parse_wildcard(word)
    text = _plain(word)
    return Boolean(text == "true") if text in ("true", "false") else Text(text)


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
