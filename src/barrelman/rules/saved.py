"""Saved queries: Kibana keeps them apart from the rules that run them, and exports them so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from barrelman.errors import BarrelmanError, RuleError
from barrelman.records.frozen import frozen
from barrelman.rules.build import build_rule
from barrelman.rules.locate import Spot
from barrelman.rules.rule import LoadedRule
from barrelman.rules.schema import describe_value

JsonObject: TypeAlias = dict[str, Any]


@frozen
class SavedQuery:
    """One as exported: the saved object's id, and the attributes that a rule takes over."""

    id: str
    title: str
    fields: JsonObject
    """`query`, `language` and `filters`, as a rule spells them."""
    spot: Spot


def is_saved_query(data: object) -> bool:
    """Whether a JSON object is a saved query as Kibana exports one."""
    return (
        isinstance(data, dict)
        and data.get("type") == "query"
        and isinstance(data.get("attributes"), dict)
        and "query" in data["attributes"]
    )


def read_saved_query(
    data: JsonObject, *, spot: Spot
) -> tuple[SavedQuery | None, list[BarrelmanError]]:
    """The saved query of an object that `is_saved_query`, or what is wrong with it."""
    attributes, inner = data["attributes"], data["attributes"]["query"]
    wanted = (
        (("id",), data.get("id"), str, "a text"),
        (("attributes", "query"), inner, dict, "an object"),
    )
    for path, value, kind, expected in wanted:
        if not isinstance(value, kind):
            name = ".".join(path)
            message = f"saved query: {name}: expected {expected}, found {describe_value(value)}"
            return None, [RuleError(message, place=spot.place(path))]
    fields = {
        "query": inner.get("query", ""),
        "language": inner.get("language", "kuery"),
        "filters": attributes.get("filters") or [],
    }
    aliases = {name: ("query", name) for name in ("query", "language")}
    there = Spot(spot.locator, (*spot.base, "attributes"), aliases)
    return SavedQuery(data["id"], str(attributes.get("title", data["id"])), fields, there), []


def with_saved_queries(
    rules: Sequence[LoadedRule], saved: Mapping[str, SavedQuery]
) -> list[LoadedRule]:
    """The rules, where those that name one of the saved queries run that in place of their copy."""
    return [_with_its_query(loaded, saved) for loaded in rules]


def _with_its_query(loaded: LoadedRule, saved: Mapping[str, SavedQuery]) -> LoadedRule:
    rule = loaded.rule
    if rule is None or rule.type != "saved_query":
        return loaded
    found = saved.get(rule.saved_id or "")
    if found is None:
        return loaded
    made = build_rule(
        rule.parameters | found.fields, spot=found.spot, metadata=rule.metadata or None
    )
    notes = tuple(note for note in made.notes if "saved query" not in note)
    if made.rule is not None:
        made_rule = replace(made.rule, path=rule.path, line=rule.line)
        notes = (f"it runs the saved query '{found.title}'", *notes)
        return replace(made, rule=made_rule, path=loaded.path, line=loaded.line, notes=notes)
    return replace(made, path=loaded.path, line=loaded.line, notes=notes)
