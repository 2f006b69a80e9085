"""The edits that a bulk action makes to a rule: each takes parameters and gives new ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from barrelman.errors import RequestError, RequestShapeError
from barrelman.records.frozen import frozen
from barrelman.records.times import parse_duration_ms
from barrelman.rules.schema import describe_value

JsonObject: TypeAlias = dict[str, Any]

_SPAN: Final = r"[1-9]\d{0,9}[smh]"


class EditError(RequestError):
    """A rule that an edit cannot be made to; `code` is the API's name for why."""

    code: str | None = None


@frozen
class Edit:
    """One edit: what kind, on what. `overwrites_views`: index patterns take a data view's place."""

    type: str
    value: Any
    overwrites_views: bool = False


def parse_edits(given: object) -> list[Edit]:
    """The edits of a request. Raises RequestShapeError."""
    if not isinstance(given, list) or not given:
        raise RequestShapeError("[request body]: edit: expected a list of at least one edit")
    edits = []
    for number, each in enumerate(given):
        where = f"[request body]: edit[{number}]"
        if not isinstance(each, dict):
            raise RequestShapeError(f"{where}: expected an object")
        kind = each.get("type")
        if not isinstance(kind, str) or kind not in _EDITS:
            raise RequestShapeError(f"{where}.type: no edit is named {describe_value(kind)}")
        _EDITS[kind][0](each.get("value"), f"{where}.value")
        edits.append(Edit(kind, each.get("value"), each.get("overwrite_data_views") is True))
    return edits


def apply_edits(params: Mapping[str, Any], edits: Sequence[Edit]) -> JsonObject:
    """The parameters after all edits. Raises EditError."""
    made = dict(params)
    for edit in edits:
        made = _EDITS[edit.type][1](made, edit)
    return made


def _refuse(message: str, code: str | None = None) -> EditError:
    error = EditError(message)
    error.code = code
    return error


# --- what an edit's value must be ----------------------------------------------------------


def _is_texts(value: object, where: str) -> None:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise RequestShapeError(f"{where}: expected a list of texts")


def _is_names(value: object, where: str) -> None:
    names = value.get("field_names") if isinstance(value, dict) else None
    if not names:
        raise RequestShapeError(f"{where}.field_names: expected a list of at least one field")
    _is_texts(names, f"{where}.field_names")


def _is_timeline(value: object, where: str) -> None:
    for name in ("timeline_id", "timeline_title"):
        if not isinstance(value, dict) or not isinstance(value.get(name), str):
            raise RequestShapeError(f"{where}.{name}: expected a text")


def _is_schedule(value: object, where: str) -> None:
    for name in ("interval", "lookback"):
        span = value.get(name) if isinstance(value, dict) else None
        if not isinstance(span, str) or re.fullmatch(_SPAN, span, re.ASCII) is None:
            raise RequestShapeError(f"{where}.{name}: expected a duration such as '5m'")


def _is_actions(value: object, where: str) -> None:
    actions = value.get("actions") if isinstance(value, dict) else None
    if not isinstance(actions, list) or not all(isinstance(each, dict) for each in actions):
        raise RequestShapeError(f"{where}.actions: expected a list of actions")


def _is_object(value: object, where: str) -> None:
    if not isinstance(value, dict):
        raise RequestShapeError(f"{where}: expected an object")


def _is_anything(value: object, where: str) -> None:
    """An edit that needs no value."""


# --- the edits -----------------------------------------------------------------------------


def _joined(known: Sequence[str], more: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*known, *more]))


def _edit_list(old: Sequence[str], edit: Edit, values: Sequence[str]) -> list[str]:
    how = edit.type.partition("_")[0]
    if how == "add":
        return _joined(old, values)
    if how == "delete":
        return [each for each in old if each not in values]
    return _joined((), values)


def _edit_tags(params: JsonObject, edit: Edit) -> JsonObject:
    return params | {"tags": _edit_list(params.get("tags", ()), edit, edit.value)}


def _edit_index(params: JsonObject, edit: Edit) -> JsonObject:
    rule_type = params["type"]
    if rule_type == "machine_learning":
        message = "a machine learning rule has no index patterns"
        raise _refuse(message, "MACHINE_LEARNING_INDEX_PATTERN")
    if rule_type == "esql":
        raise _refuse("an ES|QL rule has no index patterns", "ESQL_INDEX_PATTERN")
    if params.get("data_view_id") is not None:
        if not edit.overwrites_views:
            return params
        params = {name: value for name, value in params.items() if name != "data_view_id"}
    patterns = _edit_list(params.get("index") or (), edit, edit.value)
    if not patterns:
        raise _refuse("index patterns: a rule must keep at least one")
    return params | {"index": patterns}


def _edit_timeline(params: JsonObject, edit: Edit) -> JsonObject:
    chosen = {name: edit.value[name] for name in ("timeline_id", "timeline_title")}
    kept = {name: value for name, value in params.items() if name not in chosen}
    return kept | {name: value for name, value in chosen.items() if value}


def _edit_actions(params: JsonObject, edit: Edit) -> JsonObject:
    old = params.get("actions", []) if edit.type.startswith("add_") else []
    new = [each for each in edit.value["actions"] if each not in old]
    return params | {"actions": [*old, *new]}


def _edit_schedule(params: JsonObject, edit: Edit) -> JsonObject:
    interval, lookback = edit.value["interval"], edit.value["lookback"]
    reach = (parse_duration_ms(interval) + parse_duration_ms(lookback)) // 1000
    return params | {
        "interval": interval,
        "from": f"now-{reach}s",
        "to": "now",
        "meta": {**params.get("meta", {}), "from": lookback},
    }


def _edit_investigation(params: JsonObject, edit: Edit) -> JsonObject:
    old = params.get("investigation_fields", {}).get("field_names", ())
    names = _edit_list(old, edit, edit.value["field_names"])
    kept = {name: value for name, value in params.items() if name != "investigation_fields"}
    return kept | ({"investigation_fields": {"field_names": names}} if names else {})


def _edit_suppression(params: JsonObject, edit: Edit) -> JsonObject:
    is_threshold = params["type"] == "threshold"
    if edit.type == "delete_alert_suppression":
        return {name: value for name, value in params.items() if name != "alert_suppression"}
    if is_threshold is not (edit.type == "set_alert_suppression_for_threshold"):
        what = "a threshold rule's" if is_threshold else "only a threshold rule's"
        raise _refuse(f"{what} suppression is set by 'set_alert_suppression_for_threshold'")
    chosen = dict(edit.value)
    old = params.get("alert_suppression", {})
    if edit.type == "add_alert_suppression":
        chosen = {**old, **chosen}
        chosen["group_by"] = _joined(old.get("group_by", ()), edit.value.get("group_by", ()))
    return params | {"alert_suppression": chosen}


_Check: TypeAlias = Callable[[object, str], None]
_Make: TypeAlias = Callable[[JsonObject, Edit], JsonObject]

_EDITS: Final[Mapping[str, tuple[_Check, _Make]]] = {
    **dict.fromkeys(("add_tags", "delete_tags", "set_tags"), (_is_texts, _edit_tags)),
    **dict.fromkeys(
        ("add_index_patterns", "delete_index_patterns", "set_index_patterns"),
        (_is_texts, _edit_index),
    ),
    "set_timeline": (_is_timeline, _edit_timeline),
    **dict.fromkeys(("add_rule_actions", "set_rule_actions"), (_is_actions, _edit_actions)),
    "set_schedule": (_is_schedule, _edit_schedule),
    **dict.fromkeys(
        ("add_investigation_fields", "delete_investigation_fields", "set_investigation_fields"),
        (_is_names, _edit_investigation),
    ),
    **dict.fromkeys(
        (
            "add_alert_suppression",
            "set_alert_suppression",
            "set_alert_suppression_for_threshold",
        ),
        (_is_object, _edit_suppression),
    ),
    "delete_alert_suppression": (_is_anything, _edit_suppression),
}
EDIT_TYPES: Final = tuple(_EDITS)
