"""The text of a rule file -> its rules and exception lists. Collects, never raises."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

from barrelman.errors import BarrelmanError, ExceptionListError, Place, RuleError
from barrelman.records.frozen import frozen
from barrelman.rules.build import build_rule
from barrelman.rules.documents import Broken, Record, as_error, read_documents
from barrelman.rules.exceptions import (
    VALUE_LIST_TYPES,
    ExceptionItem,
    ExceptionList,
    ExceptionSet,
    ValueList,
    read_item,
    read_list,
)
from barrelman.rules.locate import Spot
from barrelman.rules.rule import LoadedRule
from barrelman.rules.saved import SavedQuery, is_saved_query, read_saved_query
from barrelman.rules.schema import describe_value
from barrelman.rules.shape import LIST_TYPES, RULE_TYPES
from barrelman.rules.unwrap import unwrap_toml

JsonObject: TypeAlias = dict[str, Any]
_Kind: TypeAlias = Literal[
    "rule", "asset", "saved", "list", "item", "values", "value", "connector", "details", "unknown"
]

_RULE_SIGNS: Final = ("rule_id", "risk_score", "severity", "query", "description", "index")
_DETAIL_SIGNS: Final = (
    *("exported_count", "exportedCount", "exported_rules_count"),
    *("exported_exception_list_count", "exported_exception_list_item_count"),
)
_NAMES: Final = {
    name: rf"""(?m)(?:^[ \t]*|[{{,]\s*"){name}"?\s*[=:]\s*["']([^"'\n]+)["']"""
    for name in ("rule_id", "name")
}
"""Compiled where a rule is broken, and not before."""


@frozen
class Skipped:
    """Something in a file that is no rule and is left alone."""

    path: str
    line: int
    reason: str


@frozen
class LoadResult:
    """What a file holds. `errors` are those of exception lists; a rule keeps its own."""

    rules: tuple[LoadedRule, ...] = ()
    exceptions: ExceptionSet = field(default_factory=ExceptionSet)
    errors: tuple[BarrelmanError, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    saved: tuple[SavedQuery, ...] = ()
    """Saved queries: rules of other files may name them, too (`saved.with_saved_queries`)."""


def load_rules(content: bytes | str, *, path: str, named: bool = True) -> LoadResult:
    """Rules and exception lists of one file.

    `named`: the user asked for this very file. What is no rule in it is then invalid; in a file
    that merely lay in a folder it is skipped.
    """
    shelf = _Shelf(path)
    strangers: list[Record] = []
    broken: list[LoadedRule] = []
    for document in read_documents(content, path=path):
        if isinstance(document, Broken):
            broken.append(_invalid(document.error, document.text))
        elif document.is_toml:
            _load_toml(document, shelf, named=named)
        elif not _load_json(document, shelf):
            strangers.append(document)
    if named or shelf.knows_anything or not strangers:
        # Otherwise it is some other kind of file, and its broken lines are no broken rules.
        shelf.rules = sorted([*shelf.rules, *broken], key=lambda rule: rule.line)
    _settle_strangers(strangers, shelf, named=named)
    return shelf.result()


def load_exceptions(content: bytes | str, *, path: str) -> LoadResult:
    """Exception lists of one file that was given for them; rules in it are skipped."""
    shelf = _Shelf(path)
    strangers: list[Record] = []
    for document in read_documents(content, path=path):
        if isinstance(document, Broken):
            shelf.errors.append(as_error(document, ExceptionListError))
        elif (kind := _classify(document.data)) in ("rule", "asset", "saved"):
            what = "a saved query" if kind == "saved" else "a rule"
            shelf.skip(document.line, f"{what}, in a file given for exception lists")
        elif document.is_toml or not _load_json(document, shelf):
            strangers.append(document)
    if strangers and not shelf.knows_anything:
        strangers = strangers[:1]
    shelf.errors += (
        ExceptionListError(
            "not an exception list", place=one.spot.place(), hint="give an NDJSON export of lists"
        )
        for one in strangers
    )
    return shelf.result()


class _Shelf:
    """Collects what a file holds."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rules: list[LoadedRule] = []
        self.lists: list[ExceptionList] = []
        self.items: list[ExceptionItem] = []
        self.errors: list[BarrelmanError] = []
        self.skipped: list[Skipped] = []
        self.saved: list[SavedQuery] = []
        self._types: dict[str, str] = {}
        self._values: dict[str, list[tuple[str, int]]] = {}

    @property
    def knows_anything(self) -> bool:
        found = (self.rules, self.lists, self.items, self.skipped, self.saved, self._values)
        return any(found)

    def skip(self, line: int, reason: str) -> None:
        self.skipped.append(Skipped(self.path, line, reason))

    def add_values(self, list_id: str, list_type: str) -> None:
        self._types[list_id] = list_type
        self._values.setdefault(list_id, [])

    def add_value(self, list_id: str, value: str, line: int) -> None:
        self._values.setdefault(list_id, []).append((value, line))

    def result(self) -> LoadResult:
        value_lists = {
            list_id: ValueList(
                list_id,
                self._types.get(list_id),
                tuple(value for value, _ in found),
                tuple(line for _, line in found),
                self.path,
            )
            for list_id, found in self._values.items()
        }
        exceptions = ExceptionSet(tuple(self.lists), tuple(self.items), value_lists)
        return LoadResult(
            tuple(self.rules),
            exceptions,
            tuple(self.errors),
            tuple(self.skipped),
            tuple(self.saved),
        )


def _classify(data: object) -> _Kind:
    """What a JSON object is, told by its shape."""
    if not isinstance(data, dict):
        return "unknown"
    kind = data.get("type")
    if kind == "security-rule" and isinstance(data.get("attributes"), dict):
        return "asset"
    if is_saved_query(data):
        return "saved"
    if any(sign in data for sign in _DETAIL_SIGNS):
        return "details"
    if kind == "action" and "attributes" in data:
        return "connector"
    if isinstance(data.get("list_id"), str):
        if "entries" in data:
            return "item"
        if kind in LIST_TYPES:
            return "list"
        if "value" in data:
            return "value"
    if kind in VALUE_LIST_TYPES and isinstance(data.get("list_id", data.get("id")), str):
        return "values"
    signs = sum(sign in data for sign in _RULE_SIGNS) + ("name" in data)
    return "rule" if signs >= (1 if kind in RULE_TYPES else 2) and _may_be_rule(data) else "unknown"


def _may_be_rule(data: JsonObject) -> bool:
    return "rule_id" in data or data.get("type") in RULE_TYPES or "risk_score" in data


def _load_json(record: Record, shelf: _Shelf) -> bool:
    """Puts one object on the shelf; False where it is nothing we know."""
    data, spot = record.data, record.spot
    kind = _classify(data)
    if record.problem is not None and kind not in ("connector", "details", "unknown"):
        _refuse(record, record.problem, shelf, is_rule=kind in ("rule", "asset"))
        return True
    match kind:
        case "rule":
            shelf.rules.append(build_rule(data, spot=spot))
        case "asset":
            shelf.rules.append(build_rule(data["attributes"], spot=spot.within("attributes")))
        case "saved":
            saved, problems = read_saved_query(data, spot=spot)
            shelf.saved += [saved] if saved else []
            shelf.errors += problems
        case "list":
            found, errors = read_list(data, spot=spot)
            shelf.lists += [found] if found else []
            shelf.errors += errors
        case "item":
            item, errors = read_item(data, spot=spot)
            shelf.items += [item] if item else []
            shelf.errors += errors
        case "values":
            shelf.add_values(data.get("list_id", data.get("id")), data["type"])
        case "value":
            _load_value(record, shelf)
        case "connector":
            shelf.skip(record.line, "an action connector")
        case "details":
            shelf.skip(record.line, "the details line of an export")
        case _:
            return False
    return True


def _refuse(record: Record, problem: RuleError, shelf: _Shelf, *, is_rule: bool) -> None:
    if is_rule:
        table = record.data.get("rule" if record.is_toml else "attributes", record.data)
        shelf.rules.append(_invalid(problem, table=table if isinstance(table, dict) else {}))
    else:
        shelf.errors.append(ExceptionListError(problem.message, place=problem.place))


def _load_value(record: Record, shelf: _Shelf) -> None:
    value = record.data["value"]
    if isinstance(value, str) and value:
        shelf.add_value(record.data["list_id"], value, record.line)
        return
    message = f"value list '{record.data['list_id']}': expected a text, found "
    place = record.spot.place(("value",))
    shelf.errors.append(ExceptionListError(message + describe_value(value), place=place))
    shelf.add_value(record.data["list_id"], "", record.line)  # keeps its `excluded` items off


def _load_toml(record: Record, shelf: _Shelf, *, named: bool) -> None:
    document, spot = record.data, record.spot
    table = document.get("rule")
    is_rule = isinstance(table, dict) and (
        "metadata" in document or named or not {"type", "rule_id", "query"}.isdisjoint(table)
    )
    if is_rule and record.problem is not None:
        _refuse(record, record.problem, shelf, is_rule=True)
        return
    if is_rule:
        made = unwrap_toml(document)
        rule_spot = Spot(spot.locator, ("rule",), made.aliases)
        earlier: list[BarrelmanError] = [
            RuleError(one.message, place=where.place(one.at), hint=one.hint)
            for where, problems in (
                (spot, made.metadata_problems),
                (rule_spot, made.rule_problems),
            )
            for one in problems
        ]
        shelf.rules.append(
            build_rule(
                made.data, spot=rule_spot, is_toml=True, metadata=made.metadata, earlier=earlier
            )
        )
        return
    reason = _why_no_rule(document)
    if reason is None:
        message = "[metadata] without a [rule] table"
        shelf.rules.append(_invalid(RuleError(message, place=spot.place(("metadata",)))))
    elif named:
        shelf.rules.append(_invalid(RuleError(reason, place=spot.place())))
    else:
        shelf.skip(1, reason)


def _why_no_rule(document: JsonObject) -> str | None:
    """Why a TOML document is not meant to be a rule; None where it is meant to."""
    if isinstance(document.get("exceptions"), list):
        return "not a rule: exception lists in TOML"
    if isinstance(document.get("action_connectors"), list):
        return "not a rule: action connectors"
    return None if isinstance(document.get("metadata"), dict) else "not a rule: no [rule] table"


def _settle_strangers(strangers: Iterable[Record], shelf: _Shelf, *, named: bool) -> None:
    """Says of objects that are nothing we know that they are no rules, once per file if all are."""
    strangers = list(strangers)
    knows_anything = shelf.knows_anything
    if not strangers and not knows_anything and not shelf.errors and named:
        place = Place(shelf.path, 1)
        shelf.rules.append(_invalid(RuleError("the file holds no rule", place=place)))
    if strangers and not knows_anything:
        strangers = strangers[:1]
    for one in strangers:
        if named:
            shelf.rules.append(_invalid(RuleError("not a rule", place=one.spot.place())))
        else:
            shelf.skip(one.line, "not a rule")


def _invalid(
    error: BarrelmanError, text: str = "", *, table: Mapping[str, object] | None = None
) -> LoadedRule:
    """A rule that could not be read at all; its id and name, where its text or table shows them."""
    names: dict[str, str] = {
        name: found[1] for name, pattern in _NAMES.items() if (found := re.search(pattern, text))
    }
    for name in _NAMES:
        value = (table or {}).get(name)
        if isinstance(value, str) and value:
            names[name] = value
    return LoadedRule(
        path=error.place.path or "",
        line=error.place.line or 1,
        rule_id=names.get("rule_id"),
        name=names.get("name"),
        type=None,
        language=None,
        status="invalid",
        reason=error.oneline(),
        errors=(error,),
    )
