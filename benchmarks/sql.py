"""Turns KQL rules into one DuckDB query: how many events does any of them match?

    python benchmarks/sql.py benchmarks/data/1g.log benchmarks/rules

DuckDB gets what suits it best: typed columns of exactly the fields that the rules read, so that
it decodes nothing else, and one condition with all rules joined by OR, so that it stops at the
first that holds. The translation covers what rules over audit logs use and refuses the rest;
`compare.py` checks it against the engine before it times it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from barrelman.query.ast import (
    And,
    Boolean,
    Exists,
    Is,
    Node,
    Not,
    Or,
    Pattern,
    Range,
    Text,
    Value,
    Wild,
)
from barrelman.records.fields import AUDIT, AUDIT_CATALOGUE, FieldType
from barrelman.settings.rulefiles import read_pack, read_rule_paths

ECS = {
    "event.action": "verb",
    "user.name": "user.username",
    "user.id": "user.uid",
    "user_agent.original": "userAgent",
    "orchestrator.resource.type": "objectRef.resource",
    "orchestrator.resource.name": "objectRef.name",
    "orchestrator.namespace": "objectRef.namespace",
}
# JSON says nothing of arrays in advance; a typed column must.
ARRAYS = {
    "sourceIPs",
    "user.groups",
    "impersonatedUser.groups",
    "requestObject.rules",
    "requestObject.rules.verbs",
    "requestObject.rules.resources",
    "requestObject.rules.apiGroups",
    "requestObject.subjects",
    "requestObject.spec.containers",
    "requestObject.spec.containers.securityContext.capabilities.add",
    "requestObject.spec.initContainers",
    "requestObject.spec.volumes",
}
COMPARISON = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
SQL_TYPE = {FieldType.BOOLEAN: "BOOLEAN", FieldType.LONG: "BIGINT"}

Fields: TypeAlias = "dict[str, Fields | str]"
"""Columns as a tree: a name to its SQL type, or to the members below it."""
Condition = Callable[[str], str]
"""From the SQL of one value to the SQL of a test of it."""


class UntranslatableError(Exception):
    """A query holds what this translation does not cover."""


class Translator:
    """Conditions in SQL, and the columns that those made so far read."""

    def __init__(self) -> None:
        self.fields: Fields = {}

    def condition(self, node: Node) -> str:
        match node:
            case And(children):
                return f"({' AND '.join(map(self.condition, children))})"
            case Or(children):
                return f"({' OR '.join(map(self.condition, merged(children)))})"
            case Not(child):
                # A missing field compares as NULL, whose negation is NULL and not true.
                return f"(NOT coalesce({self.condition(child)}, false))"
            case Is(Text(name), value):
                return self.any_of(name, (value,))
            case AnyOf(Text(name), values):
                return self.any_of(name, values)
            case Exists(Text(name)):
                return self.exists(name)
            case Range(Text(name), op, Text(value)) if self.type_of(name) == "BIGINT":
                return self.leaf(name, lambda got: f"{got} {COMPARISON[op]} {int(value)}")
            case _:
                raise UntranslatableError(f"no SQL for {node!r}")

    def any_of(self, name: str, values: Sequence[Value]) -> str:
        if any(isinstance(value, Pattern) and value.is_star for value in values):
            return self.exists(name)
        exact = [value for value in values if not isinstance(value, Pattern)]
        patterns = [value for value in values if isinstance(value, Pattern)]
        literals = ", ".join(literal(value, self.type_of(name)) for value in exact)

        def test(got: str) -> str:
            tests = [like(got, pattern) for pattern in patterns]
            if exact:
                tests.insert(
                    0, f"{got} IN ({literals})" if len(exact) > 1 else f"{got} = {literals}"
                )
            return " OR ".join(tests)

        return self.leaf(name, test)

    def exists(self, name: str) -> str:
        if self.type_of(name) != "VARCHAR":
            return self.leaf(name, lambda got: f"{got} IS NOT NULL")
        return self.leaf(name, lambda got: f"{got} <> ''")

    def type_of(self, name: str) -> str:
        kind = AUDIT_CATALOGUE.type_of(name)
        return SQL_TYPE.get(kind, "VARCHAR") if kind is not None else "VARCHAR"

    def leaf(self, name: str, test: Condition) -> str:
        """The test of some value of a field; in arrays, of some element."""
        parts = places(name)
        self.note(parts, self.type_of(name))
        return f"({reach(parts, 1, identifier(parts[0]), test)})"

    def note(self, parts: Sequence[str], kind: str) -> None:
        members = self.fields
        for part in parts[:-1]:
            below = members.setdefault(part, {})
            if isinstance(below, str):
                raise UntranslatableError(f"{'.'.join(parts)}: {part} is a value elsewhere")
            members = below
        if members.setdefault(parts[-1], kind) != kind:
            raise UntranslatableError(f"{'.'.join(parts)} is an object elsewhere")

    def columns(self) -> str:
        """The columns for `read_json`: name to type."""
        each = (
            f"{identifier(name)}: {quoted(declared((name,), below))}"
            for name, below in self.fields.items()
        )
        return f"{{{', '.join(each)}}}"


class AnyOf:
    """Equalities of one field joined by OR."""

    __match_args__ = ("field", "values")

    def __init__(self, field: Text, values: tuple[Value, ...]) -> None:
        self.field = field
        self.values = values


def merged(children: Iterable[Node]) -> list[Node]:
    """`f:a or f:b` as one IN, which DuckDB answers at once."""
    values: dict[str, list[Value]] = {}
    others: list[Node] = []
    for child in children:
        if isinstance(child, Is) and isinstance(child.field, Text):
            values.setdefault(child.field.value, []).append(child.value)
        else:
            others.append(child)
    joined = [AnyOf(Text(name), tuple(each)) for name, each in values.items()]
    return [*joined, *others]  # type: ignore[list-item]  # one more kind of node, ours alone


def places(name: str) -> tuple[str, ...]:
    """Where a field stands in a raw event, key by key."""
    if name in ECS:
        return tuple(ECS[name].split("."))
    if not name.startswith(f"{AUDIT}."):
        raise UntranslatableError(f"no column for {name}")
    parts = tuple(name[len(AUDIT) + 1 :].split("."))
    if parts[0] == "annotations":
        domain, slash, key = parts[1].partition("/")
        return ("annotations", domain.replace("_", ".") + slash + key)
    return parts


def reach(parts: Sequence[str], at: int, got: str, test: Condition) -> str:
    """SQL that follows the rest of a path from `got`, and opens arrays on the way."""
    while True:
        if ".".join(parts[:at]) in ARRAYS:
            inner = f"x{at}"
            below = (
                test(inner)
                if at == len(parts)
                else reach(parts, at + 1, f"{inner}.{identifier(parts[at])}", test)
            )
            return f"len(list_filter({got}, lambda {inner}: {below})) > 0"
        if at == len(parts):
            return test(got)
        got += f".{identifier(parts[at])}"
        at += 1


def declared(path: tuple[str, ...], below: Fields | str) -> str:
    """The SQL type of what stands at a path."""
    if isinstance(below, str):
        kind = below
    else:
        members = (
            f"{identifier(name)} {declared((*path, name), each)}" for name, each in below.items()
        )
        kind = f"STRUCT({', '.join(members)})"
    return f"{kind}[]" if ".".join(path) in ARRAYS else kind


def literal(value: Value, kind: str) -> str:
    if isinstance(value, Boolean):
        return "true" if value.value else "false"
    if not isinstance(value, Text):
        raise UntranslatableError(f"no literal for {value!r}")
    if kind == "BIGINT":
        return str(int(value.value))
    return value.value if kind == "BOOLEAN" else quoted(value.value)


def like(got: str, pattern: Pattern) -> str:
    """A wildcard test, by the cheapest function that answers it."""
    tokens = pattern.tokens
    if not pattern.ignore_case:
        match tokens:
            case (str(text), Wild.RUN):
                return f"starts_with({got}, {quoted(text)})"
            case (Wild.RUN, str(text)):
                return f"ends_with({got}, {quoted(text)})"
            case (Wild.RUN, str(text), Wild.RUN):
                return f"contains({got}, {quoted(text)})"
    wild = {Wild.RUN: "%", Wild.CHAR: "_"}
    text = "".join(wild[token] if isinstance(token, Wild) else escaped(token) for token in tokens)
    return f"{got} {'ILIKE' if pattern.ignore_case else 'LIKE'} {quoted(text)} ESCAPE '^'"


def escaped(text: str) -> str:
    return "".join(f"^{char}" if char in "^%_" else char for char in text)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def count_query(log: Path, queries: Iterable[Node]) -> str:
    """SQL for the number of events in `log` that at least one of the queries matches."""
    translator = Translator()
    conditions = "\n   OR ".join(map(translator.condition, queries))
    return (
        f"SELECT count(*) FROM read_json({quoted(str(log))}, format = 'newline_delimited',\n"
        f"  columns = {translator.columns()})\nWHERE {conditions}\n"
    )


def parsed_queries(rules: Path | None) -> list[Node]:
    """The queries of a file or folder of rules; None: of the shipped ones."""
    found = (read_pack() if rules is None else read_rule_paths([rules])).rules
    queries = [one.rule.query_ast for one in found if one.rule is not None]
    if not queries or len(queries) != len(found):
        sys.exit(f"{rules}: not every rule is ready; `barrelman rules check` says which")
    return [query for query in queries if query is not None]


def main() -> None:
    log, *rules = map(Path, sys.argv[1:])
    sys.stdout.write(count_query(log, parsed_queries(rules[0] if rules else None)))


if __name__ == "__main__":
    main()
