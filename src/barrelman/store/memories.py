"""What runs of a rule have counted in groups of events, for later runs that read them again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from barrelman.records.frozen import frozen
from barrelman.store.database import values_of
from barrelman.store.tables import memories as table


@frozen
class Memory:
    """Of a group's events, those up to `until_ms` were counted by the run at `tick_ms`.

    `terms`: the group, as pairs of a field and its value: plain JSON.
    """

    rule_uuid: str
    tick_ms: int
    terms: list[tuple[str, Any]]
    until_ms: int


def add(connection: sa.Connection, memories: Iterable[Memory]) -> None:
    rows = [values_of(memory) for memory in memories]
    if rows:
        connection.execute(sa.insert(table), rows)


def of_rule(
    connection: sa.Connection, rule_uuid: str, *, ticks_ms: tuple[int, int]
) -> list[Memory]:
    """What a rule's runs at these times, both included, counted; oldest first."""
    query = sa.select(table.c.tick_ms, table.c.terms, table.c.until_ms).where(
        table.c.rule_uuid == rule_uuid, table.c.tick_ms.between(*ticks_ms)
    )
    return [
        Memory(rule_uuid, tick_ms, [(name, value) for name, value in terms], until_ms)
        for tick_ms, terms, until_ms in connection.execute(
            query.order_by(table.c.tick_ms, table.c.id)
        )
    ]


def forget(connection: sa.Connection, rule_uuid: str, *, before_ms: int | None = None) -> int:
    """Forgets what a rule's runs counted: all, or that of runs before a time; gives how many."""
    query = sa.delete(table).where(table.c.rule_uuid == rule_uuid)
    if before_ms is not None:
        query = query.where(table.c.tick_ms < before_ms)
    return connection.execute(query).rowcount
