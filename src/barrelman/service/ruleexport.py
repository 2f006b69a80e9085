"""Rules as lines of a file: the rules, then the lists they name, then connectors, then a count."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.errors import RequestShapeError
from barrelman.rules.assign import ENDPOINT_LIST
from barrelman.service.exceptionchanges import list_lines
from barrelman.service.ruledesk import RuleDesk
from barrelman.store import exceptions, meta

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]

CONNECTOR: Final = "connector:"
"""How connectors are named among the single values: they are kept as they came."""


def parse_objects(data: object) -> list[str] | None:
    """The rule_ids that an export is asked for; None: all. Raises RequestShapeError."""
    if data is None:
        return None
    if not isinstance(data, dict):
        raise RequestShapeError("[request body]: expected an object or nothing")
    objects = data.get("objects")
    if objects is None:
        return None
    ids = []
    for each in objects if isinstance(objects, list) else [None]:
        rule_id = each.get("rule_id") if isinstance(each, dict) else None
        if not isinstance(rule_id, str):
            raise RequestShapeError("[request body]: objects: expected [{rule_id: text}]")
        ids.append(rule_id)
    return ids


class Exporter:
    """Exports of a desk's rules."""

    def __init__(self, desk: RuleDesk) -> None:
        self._desk = desk

    def by_rule_ids(self, rule_ids: Sequence[str] | None) -> list[JsonObject]:
        """All lines, the count last. None: every rule."""
        shown = self._desk.all()
        if rule_ids is None:
            return self.lines(shown, missing=())
        known = {rule["rule_id"]: rule for rule in shown}
        wanted = list(dict.fromkeys(rule_ids))
        found = [known[each] for each in wanted if each in known]
        return self.lines(found, missing=[each for each in wanted if each not in known])

    def lines(self, shown: Iterable[JsonObject], *, missing: Sequence[str]) -> list[JsonObject]:
        """The lines of these rules."""
        made = [
            {name: value for name, value in rule.items() if name != "execution_summary"}
            for rule in shown
        ]
        now_us = self._desk.clock()
        return self._desk.database.read(lambda c: _lines(c, made, missing, now_us))


def _lines(
    connection: Connection, made: list[JsonObject], missing: Sequence[str], now_us: int
) -> list[JsonObject]:
    lists: list[JsonObject] = []
    items: list[JsonObject] = []
    missing_lists: list[JsonObject] = []
    named = {
        (ref["list_id"], ref["namespace_type"]): None
        for rule in made
        for ref in rule.get("exceptions_list", ())
    }
    for list_id, namespace in named:
        stored = exceptions.get_list(connection, list_id=list_id, namespace_type=namespace)
        if stored is not None:
            head, *below = list_lines(connection, stored, with_expired=True, now_us=now_us)
            lists.append(head)
            items += below
        elif list_id != ENDPOINT_LIST:
            missing_lists.append({"list_id": list_id})
    connectors, missing_connectors = _connectors(connection, made)
    lost = [{"rule_id": each} for each in missing]
    details = {
        "exported_count": len(made) + len(lists) + len(items) + len(connectors),
        "exported_rules_count": len(made),
        "missing_rules": lost,
        "missing_rules_count": len(lost),
        "exported_exception_list_count": len(lists),
        "exported_exception_list_item_count": len(items),
        "missing_exception_list_item_count": 0,
        "missing_exception_list_items": [],
        "missing_exception_lists": missing_lists,
        "missing_exception_lists_count": len(missing_lists),
        "exported_action_connector_count": len(connectors),
        "missing_action_connection_count": len(missing_connectors),
        "missing_action_connections": missing_connectors,
        "excluded_action_connection_count": 0,
        "excluded_action_connections": [],
    }
    return [*made, *lists, *items, *connectors, details]


def _connectors(
    connection: Connection, made: Iterable[JsonObject]
) -> tuple[list[JsonObject], list[JsonObject]]:
    """The connectors that actions name: those known here, and the others."""
    found, missing = [], []
    named = {action["id"]: action for rule in made for action in rule.get("actions", ())}
    for connector_id, action in named.items():
        if is_built_in(connector_id):
            continue
        text = meta.get(connection, CONNECTOR + connector_id)
        if text is None:
            missing.append({"id": connector_id, "type": action.get("action_type_id", "")})
        else:
            found.append(json.loads(text))
    return found, missing


def is_built_in(connector_id: str) -> bool:
    """Whether a connector is one that every installation has."""
    return connector_id.startswith("system-connector-")
