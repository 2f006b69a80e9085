"""The queries and filters of a rule, parsed and checked, each error at its place in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.errors import (
    BarrelmanError,
    QueryError,
    QueryTypeError,
    RuleError,
    UnsupportedError,
)
from barrelman.query.ast import Node
from barrelman.query.kql import parse_kql
from barrelman.query.typecheck import check_types
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue
from barrelman.records.frozen import frozen
from barrelman.rules.filters import Budget, all_of, parse_filter
from barrelman.rules.locate import Spot

if TYPE_CHECKING:
    from barrelman.query.eqltree import EqlQuery
    from barrelman.rules.rule import Rule

JsonObject: TypeAlias = dict[str, Any]

UNTYPED: Final = Catalogue()
"""Of indicators: their fields are typed by their values."""


@frozen
class Queries:
    """`query` of an EQL rule is what an event must meet to matter at all."""

    query: Node | None = None
    eql: EqlQuery | None = None
    threat: Node | None = None


def parse_rule_query(text: str, *, language: str = "kuery", is_threat: bool = False) -> Node:
    """A query of KQL or Lucene, parsed and checked. Raises QueryError with a place in `text`."""
    if language == "lucene":
        from barrelman.query.lucene import parse_lucene  # few rules are written in it

        node = parse_lucene(text)
    else:
        node = parse_kql(text)
    check_types(node, UNTYPED if is_threat else AUDIT_CATALOGUE, text=text)
    return node


def parse_rule_eql(text: str) -> EqlQuery:
    """An EQL query, parsed and checked. Raises QueryError with a place within `text`."""
    from barrelman.query.eql import parse_eql
    from barrelman.query.eqlcheck import check_eql

    query = parse_eql(text)
    check_eql(query, AUDIT_CATALOGUE, text=text)
    return query


def notes_on_queries(rule: Rule) -> list[str]:
    """What in a rule's queries is hardly meant as it is read."""
    notes: list[str] = []
    for name, text, language in (
        ("query", rule.query, rule.language),
        ("threat_query", rule.threat_query, rule.threat_language),
    ):
        if language == "lucene" and text:
            from barrelman.query.lucene import notes_on_lucene

            notes += [f"{name}: {note}" for note in notes_on_lucene(text)]
    return notes


def parse_queries(
    fields: JsonObject, broken: frozenset[str], spot: Spot
) -> tuple[Queries, list[BarrelmanError]]:
    """The queries of a rule's checked fields; those of a type that does not run are left alone."""
    errors: list[BarrelmanError] = []
    found: dict[str, Any] = {}
    for name, language_field in (("query", "language"), ("threat_query", "threat_language")):
        language = fields.get(language_field)
        if name not in fields or not broken.isdisjoint((name, language_field, "type")):
            continue
        try:
            if language == "eql":
                found["eql"] = parse_rule_eql(fields[name])
            elif language in ("kuery", "lucene"):
                is_threat = name == "threat_query"
                found["threat" if is_threat else "query"] = parse_rule_query(
                    fields[name], language=language, is_threat=is_threat
                )
        except QueryError as error:
            errors.append(_place_query_error(error, name, fields[name], spot))
    if "eql" in found:
        category_field = fields.get("event_category_override") or "event.category"
        found["query"] = found["eql"].any_stage(category_field)
    return Queries(**found), errors


def parse_filters(
    fields: JsonObject, name: str, broken: frozenset[str], spot: Spot
) -> tuple[Node, list[BarrelmanError], list[UnsupportedError]]:
    """What all filters of a field come to, what is wrong with them, and what they cannot say."""
    nodes: list[Node] = []
    errors: list[BarrelmanError] = []
    gaps: list[UnsupportedError] = []
    budget = Budget()
    catalogue = AUDIT_CATALOGUE if name == "filters" else UNTYPED
    for index, filter_ in enumerate(() if name in broken else fields.get(name, ())):
        if budget.is_spent:
            break  # said of the filter that spent it
        where = f"{name}[{index}]"
        try:
            node = parse_filter(filter_, budget=budget)
            if node is not None:
                check_types(node, catalogue)
        except UnsupportedError as gap:
            message = f"{where}: {gap.message} do not run yet"
            gaps.append(UnsupportedError(message, place=spot.place((name, index))))
        except (RuleError, QueryTypeError) as error:
            message = f"{where}: {error.message}"
            errors.append(RuleError(message, place=spot.place((name, index))))
        else:
            if node is not None:
                nodes.append(node)
    return all_of(nodes), errors, gaps


def _place_query_error(error: QueryError, name: str, query: str, spot: Spot) -> QueryError:
    """The error at its place in the file instead of in the query text."""
    offset = 0
    for _ in range((error.place.line or 1) - 1):
        offset = query.find("\n", offset) + 1
    place = spot.place((name,), offset=offset + (error.place.column or 1) - 1)
    return type(error)(f"{name}: {error.message}", place=place, hint=error.hint)
