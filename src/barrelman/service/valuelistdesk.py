"""Value lists as people work with them: the values that entries of exception items may name."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from barrelman.errors import ConflictError, NotFoundError, RequestError, RequestShapeError
from barrelman.records.times import format_instant
from barrelman.rules.exceptions import VALUE_LIST_TYPES
from barrelman.rules.schema import Field, Free, Integer, Problem, String, Table
from barrelman.service.exceptionshape import (
    expected_version,
    text_of,
    tie_breaker,
    version_token,
)
from barrelman.service.rulechanges import Hand
from barrelman.store import audit, exceptions
from barrelman.store.database import Database
from barrelman.store.exceptions import StoredItem, StoredValue, StoredValueList

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]
_T = TypeVar("_T")

_NAME: Final = String(least=1)
_LIST: Final = Table(
    {
        "id": Field(_NAME),
        "name": Field(_NAME, required=True),
        "description": Field(String(), required=True),
        "type": Field(String(choices=VALUE_LIST_TYPES), required=True),
        "serializer": Field(String()),
        "deserializer": Field(String()),
        "meta": Field(Free()),
        "version": Field(Integer(1), default=1),
    }
)
_KEPT: Final = ("name", "description", "serializer", "deserializer", "meta")


class ValueListDesk:
    """`reload` takes over what was changed."""

    def __init__(
        self, database: Database, *, clock: Callable[[], int], reload: Callable[[], None]
    ) -> None:
        self.database = database
        self.clock = clock
        self.reload = reload

    def _change(self, run: Callable[[Connection], _T]) -> _T:
        made = self.database.write(run)
        self.reload()
        return made

    def _hand(self, by: str) -> Hand:
        return Hand(by, self.clock(), {})

    # --- lists ---

    def create(self, data: object, *, by: str) -> JsonObject:
        """Raises RequestShapeError and ConflictError."""
        fields, hand = _check(_LIST, data), self._hand(by)
        return show_list(self._change(lambda connection: _add_list(connection, fields, hand)))

    def get(self, id: str) -> JsonObject:  # noqa: A002  # the word of the API
        """Raises NotFoundError."""
        return show_list(self.database.read(lambda connection: _find(connection, id)))

    def update(self, data: object, *, by: str, is_whole: bool) -> JsonObject:
        """Changes name, description and meta; `is_whole`: what is not given is gone."""
        given = data if isinstance(data, dict) else {}
        if not isinstance(given.get("id"), str):
            raise RequestShapeError("[request body]: id: missing, and it is required")
        hand = self._hand(by)

        def run(connection: Connection) -> StoredValueList:
            old = _find(connection, given["id"])
            base = {} if is_whole else old.params
            fields = _check(_LIST, {**base, **given, "type": old.type})
            made = replace(
                old,
                params={name: fields[name] for name in _KEPT if name in fields},
                updated_at_us=hand.at_us,
                updated_by=hand.by,
            )
            version = expected_version(given.get("_version"))
            changed = exceptions.update_value_list(connection, made, expected_version=version)
            _note(connection, hand, "value list updated", old.id, {})
            return changed or made

        return show_list(self._change(run))

    def delete(
        self,
        id: str,  # noqa: A002  # the word of the API
        *,
        by: str,
        with_references: bool,
        in_spite_of_references: bool,
    ) -> JsonObject:
        """Removes a list. One that items name is only removed with them, or in spite of them."""
        hand = self._hand(by)

        def run(connection: Connection) -> StoredValueList:
            found = _find(connection, id)
            naming = [item for item in exceptions.items(connection) if _names(item, id)]
            if naming and with_references:
                # Without the entry an item would leave out more: it goes as a whole.
                for item in naming:
                    exceptions.delete_item(connection, item.id)
                    detail = {"list": item.list_id}
                    _note(connection, hand, "exception item deleted", item.item_id, detail)
            elif naming and not in_spite_of_references:
                items = ", ".join(sorted(item.item_id for item in naming))
                raise ConflictError(f'list id: "{id}" is named by the exception items {items}')
            exceptions.delete_value_list(connection, id)
            _note(connection, hand, "value list deleted", id, {})
            return found

        return show_list(self._change(run))

    def find(self, *, page: int, per_page: int) -> JsonObject:
        """A page of lists."""
        stored = self.database.read(exceptions.all_value_lists)
        start = (page - 1) * per_page
        data = [show_list(each) for each in stored[start : start + per_page]]
        return _page(data, len(stored), page, per_page)

    # --- values ---

    def add(self, data: object, *, by: str) -> JsonObject:
        """Adds one value to a list."""
        given = data if isinstance(data, dict) else {}
        list_id, value = _text(given, "list_id"), _text(given, "value")
        hand = self._hand(by)

        def run(connection: Connection) -> tuple[StoredValueList, StoredValue]:
            home = _find(connection, list_id)
            check_value(value, home.type)
            made = StoredValue(
                id=text_of(given, "id") or str(uuid.uuid4()),
                list_id=list_id,
                value=value,
                meta=_meta(given),
                created_at_us=hand.at_us,
                created_by=hand.by,
                updated_at_us=hand.at_us,
                updated_by=hand.by,
            )
            exceptions.insert_value(connection, made)
            _note(connection, hand, "value added", list_id, {"value": value})
            return home, made

        return show_value(*self._change(run))

    def get_value(self, *, id: str | None) -> JsonObject:  # noqa: A002
        """One value by its id. Raises NotFoundError."""

        def run(connection: Connection) -> tuple[StoredValueList, StoredValue]:
            found = exceptions.get_value(connection, id) if id else None
            if found is None:
                raise NotFoundError(f'list item id: "{id}" not found')
            return _find(connection, found.list_id), found

        return show_value(*self.database.read(run))

    def look_up(self, *, list_id: str, value: str) -> list[JsonObject]:
        """The entries of a list that are this value: one, or NotFoundError."""

        def run(connection: Connection) -> tuple[StoredValueList, list[StoredValue]]:
            home = _find(connection, list_id)
            return home, exceptions.find_values(connection, list_id, value=value)

        home, found = self.database.read(run)
        if not found:
            raise NotFoundError(f'list_id: "{list_id}" item of {value} does not exist')
        return [show_value(home, each) for each in found]

    def update_value(self, data: object, *, by: str) -> JsonObject:
        """Gives an entry another value."""
        given = data if isinstance(data, dict) else {}
        name, hand = _text(given, "id"), self._hand(by)

        def run(connection: Connection) -> tuple[StoredValueList, StoredValue]:
            old = exceptions.get_value(connection, name)
            if old is None:
                raise NotFoundError(f'list item id: "{name}" not found')
            home = _find(connection, old.list_id)
            value = given.get("value") or old.value
            check_value(value, home.type)
            made = replace(
                old,
                value=value,
                meta=_meta(given) or old.meta,
                updated_at_us=hand.at_us,
                updated_by=hand.by,
            )
            version = expected_version(given.get("_version"))
            changed = exceptions.update_value(connection, made, expected_version=version)
            _note(connection, hand, "value changed", old.list_id, {"value": value})
            return home, changed or made

        return show_value(*self._change(run))

    def remove(
        self,
        *,
        id: str | None,  # noqa: A002  # the word of the API
        list_id: str | None,
        value: str | None,
        by: str,
    ) -> JsonObject | list[JsonObject]:
        """Removes an entry by its id, or the one of a list that is this value."""
        if id is None and (list_id is None or value is None):
            raise RequestError("either id, or list_id and value, must be set")
        shown: JsonObject | list[JsonObject]
        if id is not None:
            shown = self.get_value(id=id)
            gone = [shown]
        else:
            shown = gone = self.look_up(list_id=list_id or "", value=value or "")
        hand = self._hand(by)

        def run(connection: Connection) -> None:
            for each in gone:
                exceptions.delete_value(connection, each["id"])
                detail = {"value": each["value"]}
                _note(connection, hand, "value removed", each["list_id"], detail)

        self._change(run)
        return shown

    def find_values(self, list_id: str, *, page: int, per_page: int) -> JsonObject:
        """A page of a list's entries."""

        def run(connection: Connection) -> tuple[StoredValueList, list[StoredValue], int]:
            home = _find(connection, list_id)
            found = exceptions.find_values(
                connection, list_id, limit=per_page, offset=(page - 1) * per_page
            )
            return home, found, exceptions.count_values(connection, list_id)

        home, found, total = self.database.read(run)
        return _page([show_value(home, each) for each in found], total, page, per_page)

    def export(self, list_id: str) -> str:
        """All values of a list, one a line."""

        def run(connection: Connection) -> str:
            _find(connection, list_id)
            return "".join(f"{value}\n" for value in exceptions.values(connection, list_id))

        return self.database.read(run)

    def import_values(
        self, text: str, *, list_id: str | None, list_type: str | None, file_name: str, by: str
    ) -> JsonObject:
        """Adds the values of a file, one a line, to a list, which is made where there is none."""
        values = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
        name, hand = list_id or file_name, self._hand(by)

        def run(connection: Connection) -> StoredValueList:
            home = exceptions.get_value_list(connection, name)
            if home is None and list_type is None:
                raise NotFoundError(f'list id: "{name}" does not exist, and no type is given')
            if home is None:
                given = {"id": name, "name": name, "type": list_type}
                given["description"] = f"Values from the file {file_name}"
                home = _add_list(connection, _check(_LIST, given), hand)
            known = [value for value in values if value]
            check_values(known, home.type)
            added = exceptions.add_values(connection, name, known, at_us=hand.at_us, by=hand.by)
            _note(connection, hand, "values imported", name, {"added": added})
            return home

        return show_list(self._change(run))


# --- within a transaction ------------------------------------------------------------------


def _find(connection: Connection, id: str) -> StoredValueList:  # noqa: A002
    found = exceptions.get_value_list(connection, id)
    if found is None:
        raise NotFoundError(f'list id: "{id}" does not exist')
    return found


def _add_list(connection: Connection, fields: JsonObject, hand: Hand) -> StoredValueList:
    made = StoredValueList(
        id=fields.get("id") or str(uuid.uuid4()),
        type=fields["type"],
        params={name: fields[name] for name in _KEPT if name in fields},
        created_at_us=hand.at_us,
        created_by=hand.by,
        updated_at_us=hand.at_us,
        updated_by=hand.by,
        version=fields["version"],
    )
    exceptions.insert_value_list(connection, made)
    _note(connection, hand, "value list created", made.id, {"type": made.type})
    return made


def _note(connection: Connection, hand: Hand, action: str, target: str, detail: JsonObject) -> None:
    audit.note(
        connection, at_us=hand.at_us, by=hand.by, action=action, target=target, detail=detail
    )


def _names(item: StoredItem, list_id: str) -> bool:
    entries = item.params.get("entries", ())
    return any(each["type"] == "list" and each["list"]["id"] == list_id for each in entries)


# --- shapes --------------------------------------------------------------------------------


def _check(table: Table, data: object) -> JsonObject:
    if not isinstance(data, dict):
        raise RequestShapeError("[request body]: expected an object")
    problems: list[Problem] = []
    fields: JsonObject = table.check(data, (), problems)
    if problems:
        raise RequestShapeError("[request body]: " + ", ".join(each.message for each in problems))
    return fields


def _text(given: JsonObject, name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise RequestShapeError(f"[request body]: {name}: missing, and it is required")
    return value


def check_value(value: object, list_type: str) -> None:
    """Raises RequestShapeError where a value is none of the list's type."""
    if not isinstance(value, str):
        raise RequestShapeError("[request body]: value: expected a text")
    try:
        if list_type == "ip_range" and "-" in value:
            first, last = (ipaddress.ip_address(end.strip()) for end in value.split("-", 1))
            if first.version != last.version or int(first) > int(last):
                raise ValueError
        elif list_type in ("ip", "ip_range"):
            ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise RequestShapeError(f"value: '{value}' is no value of type {list_type}") from None


def check_values(values: Iterable[str], list_type: str) -> None:
    """The same of many."""
    for value in values:
        check_value(value, list_type)


def _meta(given: JsonObject) -> JsonObject | None:
    value = given.get("meta")
    if not isinstance(value, dict | None):
        raise RequestShapeError("[request body]: meta: expected an object")
    return value


def _page(data: list[JsonObject], total: int, page: int, per_page: int) -> JsonObject:
    return {"cursor": "", "data": data, "page": page, "per_page": per_page, "total": total}


def _authorship(stored: StoredValueList | StoredValue) -> JsonObject:
    return {
        "_version": version_token(stored.version),
        "@timestamp": format_instant(stored.updated_at_us // 1000),
        "created_at": format_instant(stored.created_at_us // 1000),
        "created_by": stored.created_by,
        "updated_at": format_instant(stored.updated_at_us // 1000),
        "updated_by": stored.updated_by,
        "tie_breaker_id": tie_breaker(stored.id),
    }


def show_list(stored: StoredValueList) -> JsonObject:
    """A value list as the API gives it."""
    return {
        **_authorship(stored),
        "id": stored.id,
        "immutable": False,
        "type": stored.type,
        "version": stored.version,
        "name": stored.id,
        "description": "",
        **stored.params,
    }


def show_value(home: StoredValueList, stored: StoredValue) -> JsonObject:
    """An entry of a value list as the API gives it."""
    return {
        **_authorship(stored),
        "id": stored.id,
        "list_id": stored.list_id,
        "type": home.type,
        "value": stored.value,
        **({"meta": stored.meta} if stored.meta is not None else {}),
    }
