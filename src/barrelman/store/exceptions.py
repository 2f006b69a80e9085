"""Exception lists and their items, and the value lists that items may name.

`params` is what a client wrote; what the service adds (ids, who, when, the version) has fields of
its own. A list is known by its id, and by its `list_id` within its namespace; an item likewise.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeAlias

import sqlalchemy as sa

from barrelman.errors import ConflictError
from barrelman.records.event import JsonObject
from barrelman.records.frozen import frozen
from barrelman.store.database import (
    BATCH,
    in_batches,
    insert_new,
    selecting,
    telling_conflict,
    values_of,
)
from barrelman.store.tables import (
    exception_items,
    exception_lists,
    value_list_items,
    value_lists,
)


@frozen
class StoredList:
    """An exception list. `version` counts its edits, from 1."""

    id: str
    list_id: str
    namespace_type: str
    type: str
    params: JsonObject
    created_at_us: int
    created_by: str
    updated_at_us: int
    updated_by: str
    version: int = 1


@frozen
class StoredItem:
    """An item of an exception list. `version` counts its edits, from 1."""

    id: str
    item_id: str
    list_id: str
    namespace_type: str
    type: str
    params: JsonObject
    created_at_us: int
    created_by: str
    updated_at_us: int
    updated_by: str
    version: int = 1


@frozen
class StoredValueList:
    """A value list; `params` holds its name, its description and the like."""

    id: str
    type: str
    params: JsonObject
    created_at_us: int
    created_by: str
    updated_at_us: int
    updated_by: str
    version: int = 1


@frozen
class StoredValue:
    """One value of a value list."""

    id: str
    list_id: str
    value: str
    meta: JsonObject | None
    created_at_us: int
    created_by: str
    updated_at_us: int
    updated_by: str
    version: int = 1


_Stored: TypeAlias = StoredList | StoredItem | StoredValueList | StoredValue

_LISTS: Final = selecting(exception_lists, StoredList)
_ITEMS: Final = selecting(exception_items, StoredItem)
_VALUE_LISTS: Final = selecting(value_lists, StoredValueList)
_VALUES: Final = selecting(value_list_items, StoredValue)


def lists(
    connection: sa.Connection, *, namespace_types: Collection[str] | None = None
) -> list[StoredList]:
    """Every exception list, in the order in which they were made."""
    query = _LISTS.order_by(exception_lists.c.created_at_us, exception_lists.c.id)
    if namespace_types is not None:
        query = query.where(exception_lists.c.namespace_type.in_(namespace_types))
    return [StoredList(*row) for row in connection.execute(query)]


def get_list(
    connection: sa.Connection,
    *,
    id: str | None = None,  # noqa: A002  # the word of the API
    list_id: str | None = None,
    namespace_type: str = "single",
) -> StoredList | None:
    """The list with this id; without one, the list with this `list_id` in the namespace."""
    c = exception_lists.c
    where = (
        c.id == id
        if id is not None
        else _named(c.list_id, list_id, c.namespace_type, namespace_type)
    )
    row = connection.execute(_LISTS.where(where)).first()
    return None if row is None else StoredList(*row)


def insert_list(connection: sa.Connection, made: StoredList) -> None:
    """Adds a list. Raises ConflictError where its `list_id` is taken in its namespace."""
    with telling_conflict(connection, f'exception list id: "{made.list_id}" already exists'):
        connection.execute(sa.insert(exception_lists).values(values_of(made)))


def update_list(
    connection: sa.Connection, changed: StoredList, *, expected_version: int | None = None
) -> StoredList | None:
    """Replaces the list of this id, and gives it as it is now; None where it is gone.

    Raises ConflictError where it is no longer of the expected version.
    """
    with telling_conflict(connection, f'exception list id: "{changed.list_id}" already exists'):
        version = _replace(connection, exception_lists, changed, expected_version)
    return None if version is None else get_list(connection, id=changed.id)


def delete_list(connection: sa.Connection, id: str) -> StoredList | None:  # noqa: A002
    """Removes a list with its items; gives what it was, None where it is gone already."""
    gone = get_list(connection, id=id)
    if gone is not None:
        c = exception_items.c
        of_it = (c.list_id == gone.list_id, c.namespace_type == gone.namespace_type)
        connection.execute(sa.delete(exception_items).where(*of_it))
        connection.execute(sa.delete(exception_lists).where(exception_lists.c.id == id))
    return gone


def items(
    connection: sa.Connection,
    *,
    list_id: str | None = None,
    namespace_type: str | None = None,
) -> list[StoredItem]:
    """The items of one list, or of all, in the order in which they were made."""
    c = exception_items.c
    query = _ITEMS.order_by(c.created_at_us, c.id)
    if list_id is not None:
        query = query.where(c.list_id == list_id)
    if namespace_type is not None:
        query = query.where(c.namespace_type == namespace_type)
    return [StoredItem(*row) for row in connection.execute(query)]


def get_item(
    connection: sa.Connection,
    *,
    id: str | None = None,  # noqa: A002  # the word of the API
    item_id: str | None = None,
    namespace_type: str = "single",
) -> StoredItem | None:
    """The item with this id; without one, the item with this `item_id` in the namespace."""
    c = exception_items.c
    where = (
        c.id == id
        if id is not None
        else _named(c.item_id, item_id, c.namespace_type, namespace_type)
    )
    row = connection.execute(_ITEMS.where(where)).first()
    return None if row is None else StoredItem(*row)


def insert_item(connection: sa.Connection, made: StoredItem) -> None:
    """Adds an item. Raises ConflictError where its `item_id` is taken in its namespace."""
    with telling_conflict(connection, f'exception list item id: "{made.item_id}" already exists'):
        connection.execute(sa.insert(exception_items).values(values_of(made)))


def update_item(
    connection: sa.Connection, changed: StoredItem, *, expected_version: int | None = None
) -> StoredItem | None:
    """Replaces the item of this id, and gives it as it is now; None where it is gone.

    Raises ConflictError where it is no longer of the expected version.
    """
    with telling_conflict(
        connection, f'exception list item id: "{changed.item_id}" already exists'
    ):
        version = _replace(connection, exception_items, changed, expected_version)
    return None if version is None else get_item(connection, id=changed.id)


def delete_item(connection: sa.Connection, id: str) -> StoredItem | None:  # noqa: A002
    """Removes an item; gives what it was, None where it is gone already."""
    gone = get_item(connection, id=id)
    if gone is not None:
        connection.execute(sa.delete(exception_items).where(exception_items.c.id == id))
    return gone


def all_value_lists(connection: sa.Connection) -> list[StoredValueList]:
    """Every value list, in the order in which they were made."""
    query = _VALUE_LISTS.order_by(value_lists.c.created_at_us, value_lists.c.id)
    return [StoredValueList(*row) for row in connection.execute(query)]


def get_value_list(connection: sa.Connection, id: str) -> StoredValueList | None:  # noqa: A002
    """The value list with this id."""
    row = connection.execute(_VALUE_LISTS.where(value_lists.c.id == id)).first()
    return None if row is None else StoredValueList(*row)


def insert_value_list(connection: sa.Connection, made: StoredValueList) -> None:
    """Adds a value list. Raises ConflictError where its id is taken."""
    with telling_conflict(connection, f'list id: "{made.id}" already exists'):
        connection.execute(sa.insert(value_lists).values(values_of(made)))


def update_value_list(
    connection: sa.Connection, changed: StoredValueList, *, expected_version: int | None = None
) -> StoredValueList | None:
    """Replaces the value list of this id, and gives it as it is now; None where it is gone.

    Raises ConflictError where it is no longer of the expected version.
    """
    version = _replace(connection, value_lists, changed, expected_version)
    return None if version is None else get_value_list(connection, changed.id)


def delete_value_list(connection: sa.Connection, id: str) -> StoredValueList | None:  # noqa: A002
    """Removes a value list with its values; gives what it was, None where it is gone already."""
    gone = get_value_list(connection, id)
    if gone is not None:
        connection.execute(sa.delete(value_list_items).where(value_list_items.c.list_id == id))
        connection.execute(sa.delete(value_lists).where(value_lists.c.id == id))
    return gone


def add_values(
    connection: sa.Connection,
    list_id: str,
    values: Iterable[str],
    *,
    at_us: int,
    by: str,
    meta: JsonObject | None = None,
) -> int:
    """Adds those of the values that the list does not hold yet; gives how many these were.

    Raises ConflictError where there is no such list.
    """
    added = 0
    with telling_conflict(connection, f'list id: "{list_id}" does not exist'):
        for batch in in_batches(dict.fromkeys(values)):
            rows = [
                values_of(_new_value(list_id, value, meta, at_us=at_us, by=by)) for value in batch
            ]
            key = ["list_id", "value"]
            added += len(insert_new(connection, value_list_items, rows, key=key))
    return added


def values(connection: sa.Connection, list_id: str) -> Iterator[str]:
    """The values of a list, sorted; taken one by one, whatever their number."""
    c = value_list_items.c
    query = sa.select(c.value).where(c.list_id == list_id).order_by(c.value)
    with connection.execute(query, execution_options={"yield_per": BATCH}) as rows:
        yield from rows.scalars()


def find_values(
    connection: sa.Connection,
    list_id: str,
    *,
    value: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[StoredValue]:
    """Values of a list with what is known of each, sorted; or only the one that is `value`."""
    c = value_list_items.c
    query = _VALUES.where(c.list_id == list_id).order_by(c.value)
    if value is not None:
        query = query.where(c.value == value)
    return [StoredValue(*row) for row in connection.execute(query.limit(limit).offset(offset))]


def count_values(connection: sa.Connection, list_id: str) -> int:
    """How many values a list holds."""
    where = value_list_items.c.list_id == list_id
    query = sa.select(sa.func.count()).select_from(value_list_items).where(where)
    return connection.execute(query).scalar_one()


def get_value(connection: sa.Connection, id: str) -> StoredValue | None:  # noqa: A002
    """The value with this id."""
    row = connection.execute(_VALUES.where(value_list_items.c.id == id)).first()
    return None if row is None else StoredValue(*row)


def insert_value(connection: sa.Connection, made: StoredValue) -> None:
    """Adds one value. Raises ConflictError where its list holds it, or where there is no list."""
    with telling_conflict(connection, f'the value is in list "{made.list_id}", or there is none'):
        connection.execute(sa.insert(value_list_items).values(values_of(made)))


def update_value(
    connection: sa.Connection, changed: StoredValue, *, expected_version: int | None = None
) -> StoredValue | None:
    """Replaces the value of this id, and gives it as it is now; None where it is gone.

    Raises ConflictError where it is no longer of the expected version, or its list holds the value.
    """
    with telling_conflict(connection, f'list "{changed.list_id}" holds this value already'):
        version = _replace(connection, value_list_items, changed, expected_version)
    return None if version is None else get_value(connection, changed.id)


def delete_value(connection: sa.Connection, id: str) -> StoredValue | None:  # noqa: A002
    """Removes a value; gives what it was, None where it is gone already."""
    gone = get_value(connection, id)
    if gone is not None:
        connection.execute(sa.delete(value_list_items).where(value_list_items.c.id == id))
    return gone


def _new_value(
    list_id: str, value: str, meta: JsonObject | None, *, at_us: int, by: str
) -> StoredValue:
    made = str(uuid.uuid4())
    return StoredValue(made, list_id, value, meta, at_us, by, at_us, by)


def _named(
    column: sa.Column[str], name: str | None, namespace: sa.Column[str], namespace_type: str
) -> sa.ColumnElement[bool]:
    if name is None:
        raise TypeError("name it by its id or by the name that it was given")
    return sa.and_(column == name, namespace == namespace_type)


def _replace(
    connection: sa.Connection, table: sa.Table, changed: _Stored, expected_version: int | None
) -> int | None:
    """Writes all but how it was made; gives the new version, None where there is no such row."""
    query = sa.select(table.c.version).where(table.c.id == changed.id)
    version = connection.execute(query).scalar()
    if version is None:
        return None
    if expected_version is not None and version != expected_version:
        raise ConflictError("it was changed meanwhile", hint="read it again, and change that")
    kept = ("id", "created_at_us", "created_by", "version")
    written = {name: value for name, value in values_of(changed).items() if name not in kept}
    connection.execute(
        sa.update(table).where(table.c.id == changed.id).values(**written, version=version + 1)
    )
    return int(version) + 1
