"""The audit trail: every change that a person, a key or the service made, and who it was."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, TypedDict, Unpack

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from barrelman.records.event import JsonObject
from barrelman.records.frozen import frozen
from barrelman.store.tables import audit_trail

_COLUMNS: Final = audit_trail.c


@frozen
class Entry:
    """One change. `id` counts up, so that what is noted later is found after an id."""

    id: int
    at_us: int
    by: str
    action: str
    target: str
    detail: JsonObject


class Filters(TypedDict, total=False):
    """Which changes; what is absent or None does not restrict. Bounds are inclusive."""

    since_us: int | None
    until_us: int | None
    by: str | None
    actions: Collection[str] | None
    target: str | None


def note(
    connection: Connection,
    *,
    at_us: int,
    by: str,
    action: str,
    target: str,
    detail: JsonObject | None = None,
) -> None:
    """Writes down a change, in the transaction that makes it."""
    connection.execute(
        insert(audit_trail).values(
            at_us=at_us, by=by, action=action, target=target, detail=detail or {}
        )
    )


def find(
    connection: Connection,
    *,
    newest_first: bool = True,
    limit: int = 100,
    offset: int = 0,
    **filters: Unpack[Filters],
) -> list[Entry]:
    """Changes, those that were noted last first unless told otherwise."""
    query = select(audit_trail).where(*_wheres(filters))
    order = (_COLUMNS.at_us, _COLUMNS.id)
    query = query.order_by(*(each.desc() for each in order) if newest_first else order)
    return [Entry(*row) for row in connection.execute(query.limit(limit).offset(offset))]


def count(connection: Connection, **filters: Unpack[Filters]) -> int:
    """How many changes `find` would give, could it give all."""
    query = select(func.count()).select_from(audit_trail).where(*_wheres(filters))
    return connection.execute(query).scalar_one()


def prune(connection: Connection, before_us: int, *, limit: int = 10_000) -> int:
    """Forgets the oldest changes before an instant, at most `limit`; gives how many."""
    oldest = (
        select(_COLUMNS.id).where(_COLUMNS.at_us < before_us).order_by(_COLUMNS.at_us).limit(limit)
    )
    return connection.execute(delete(audit_trail).where(_COLUMNS.id.in_(oldest))).rowcount


def _wheres(filters: Filters) -> list[ColumnElement[bool]]:
    conditions: dict[str, Callable[[Any], ColumnElement[bool]]] = {
        "since_us": lambda value: _COLUMNS.at_us >= value,
        "until_us": lambda value: _COLUMNS.at_us <= value,
        "by": lambda value: _COLUMNS.by == value,
        "actions": _COLUMNS.action.in_,
        "target": lambda value: _COLUMNS.target == value,
    }
    return [conditions[name](value) for name, value in filters.items() if value is not None]
