"""Changes of exception lists and items, each within a transaction, and the lines of an export."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from barrelman.errors import NotFoundError, RequestError
from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant
from barrelman.service.exceptionshape import new_comments, params_of, show_item, show_list
from barrelman.service.rulechanges import Hand
from barrelman.store import audit, exceptions
from barrelman.store.exceptions import StoredItem, StoredList

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]


@frozen
class Which:
    """A list or an item: by its id, or by its list_id or item_id within a namespace."""

    id: str | None
    name: str | None
    namespace_type: str = "single"


def export_details(items: int, *, lists: int = 1) -> JsonObject:
    """The last line of an export of lists."""
    return {
        "exported_exception_list_count": lists,
        "exported_exception_list_item_count": items,
        "missing_exception_list_item_count": 0,
        "missing_exception_list_items": [],
        "missing_exception_lists": [],
        "missing_exception_lists_count": 0,
    }


def list_lines(
    connection: Connection, stored: StoredList, *, with_expired: bool, now_us: int
) -> list[JsonObject]:
    """A list and its items as an export has them."""
    now = format_instant(now_us // 1000)
    items = exceptions.items(
        connection, list_id=stored.list_id, namespace_type=stored.namespace_type
    )
    shown = [show_item(item) for item in items]
    if not with_expired:
        shown = [each for each in shown if each.get("expire_time", "9") > now]
    return [show_list(stored), *shown]


def note(connection: Connection, hand: Hand, action: str, target: str, detail: JsonObject) -> None:
    """Writes a change of lists into the audit trail."""
    audit.note(
        connection, at_us=hand.at_us, by=hand.by, action=action, target=target, detail=detail
    )


def find_list(connection: Connection, which: Which) -> StoredList:
    """Raises RequestError and NotFoundError."""
    if which.id is None and which.name is None:
        raise RequestError("id or list_id required")
    found = exceptions.get_list(
        connection, id=which.id, list_id=which.name, namespace_type=which.namespace_type
    )
    if found is None:
        named = f'list_id: "{which.name}"' if which.id is None else f'id: "{which.id}"'
        raise NotFoundError(f"exception list {named} does not exist")
    return found


def find_item(connection: Connection, which: Which) -> StoredItem:
    """Raises RequestError and NotFoundError."""
    if which.id is None and which.name is None:
        raise RequestError("id or item_id required")
    found = exceptions.get_item(
        connection, id=which.id, item_id=which.name, namespace_type=which.namespace_type
    )
    if found is None:
        named = f'item_id: "{which.name}"' if which.id is None else f'id: "{which.id}"'
        raise NotFoundError(f"exception list item {named} does not exist")
    return found


def list_of(connection: Connection, ref: Mapping[str, Any]) -> StoredList | None:
    return exceptions.get_list(
        connection, list_id=ref["list_id"], namespace_type=ref["namespace_type"]
    )


def reference(stored: StoredList) -> JsonObject:
    """How a rule names a list."""
    return {
        "id": stored.id,
        "list_id": stored.list_id,
        "type": stored.type,
        "namespace_type": stored.namespace_type,
    }


def add_list(connection: Connection, fields: JsonObject, hand: Hand) -> StoredList:
    """Adds a list of checked fields."""
    made = StoredList(
        id=str(uuid.uuid4()),
        list_id=fields.get("list_id") or str(uuid.uuid4()),
        namespace_type=fields["namespace_type"],
        type=fields["type"],
        params=params_of(fields),
        created_at_us=hand.at_us,
        created_by=hand.by,
        updated_at_us=hand.at_us,
        updated_by=hand.by,
        version=fields.get("version", 1),
    )
    exceptions.insert_list(connection, made)
    note(connection, hand, "exception list created", made.list_id, {"type": made.type})
    return made


def add_item(connection: Connection, fields: JsonObject, hand: Hand) -> StoredItem:
    """Adds an item of checked fields to its list, which must be there."""
    home = find_list(connection, Which(None, fields["list_id"], fields["namespace_type"]))
    comments = new_comments(fields["comments"], (), by=hand.by, now_us=hand.at_us)
    made = StoredItem(
        id=str(uuid.uuid4()),
        item_id=fields.get("item_id") or str(uuid.uuid4()),
        list_id=home.list_id,
        namespace_type=home.namespace_type,
        type=fields["type"],
        params=params_of({**fields, "comments": comments}),
        created_at_us=hand.at_us,
        created_by=hand.by,
        updated_at_us=hand.at_us,
        updated_by=hand.by,
    )
    exceptions.insert_item(connection, made)
    note(connection, hand, "exception item created", made.item_id, {"list": made.list_id})
    return made


def default_list(connection: Connection, rule_name: str, hand: Hand) -> StoredList:
    fields = {
        "name": f"Exceptions of the rule: {rule_name}",
        "description": f"Exception items that belong to one rule: {rule_name}",
        "type": "rule_default",
        "namespace_type": "single",
        "tags": ["default_rule_exception_list"],
        "os_types": [],
    }
    return add_list(connection, fields, hand)
