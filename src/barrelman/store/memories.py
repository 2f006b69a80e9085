"""What runs of a rule have counted in groups of events, for later runs that read them again.

Of groups it is remembered up to when they were counted; of what runs folded into alerts one by one,
each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from barrelman.records.frozen import frozen
from barrelman.store.database import in_batches, insert_new, values_of
from barrelman.store.tables import folded
from barrelman.store.tables import memories as table


@frozen
class Memory:
    """Of a group's events, those up to `until_ms` were counted by the run at `tick_ms`.

    `terms`: the group, as pairs of a field and its value: plain JSON. `cluster`: that of its
    events, where groups of several are kept apart.
    """

    rule_uuid: str
    tick_ms: int
    terms: list[tuple[str, Any]]
    until_ms: int
    cluster: str = ""


def add(connection: sa.Connection, memories: Iterable[Memory]) -> None:
    rows = [values_of(memory) for memory in memories]
    if rows:
        connection.execute(sa.insert(table), rows)


def of_rule(
    connection: sa.Connection, rule_uuid: str, *, ticks_ms: tuple[int, int]
) -> list[Memory]:
    """What a rule's runs at these times, both included, counted; oldest first."""
    query = sa.select(table.c.tick_ms, table.c.terms, table.c.until_ms, table.c.cluster).where(
        table.c.rule_uuid == rule_uuid, table.c.tick_ms.between(*ticks_ms)
    )
    return [
        Memory(rule_uuid, tick_ms, [(name, value) for name, value in terms], until_ms, cluster)
        for tick_ms, terms, until_ms, cluster in connection.execute(
            query.order_by(table.c.tick_ms, table.c.id)
        )
    ]


def forget(connection: sa.Connection, rule_uuid: str, *, before_ms: int | None = None) -> int:
    """Forgets what a rule's runs counted: all, or that of runs before a time; gives how many."""
    gone = 0
    for each in (table, folded):
        query = sa.delete(each).where(each.c.rule_uuid == rule_uuid)
        if before_ms is not None:
            query = query.where(each.c.tick_ms < before_ms)
        gone += connection.execute(query).rowcount
    return gone


def add_folded(
    connection: sa.Connection, rule_uuid: str, keys: Iterable[str], *, tick_ms: int
) -> None:
    """Remembers what the rule's run at that time folded into alerts."""
    rows = [{"rule_uuid": rule_uuid, "key": key, "tick_ms": tick_ms} for key in keys]
    insert_new(connection, folded, rows, key=("rule_uuid", "key"))


def folded_among(connection: sa.Connection, rule_uuid: str, keys: Iterable[str]) -> set[str]:
    """Which of these the rule's runs have folded."""
    found: set[str] = set()
    for batch in in_batches(keys):
        query = sa.select(folded.c.key).where(
            folded.c.rule_uuid == rule_uuid, folded.c.key.in_(batch)
        )
        found.update(connection.execute(query).scalars())
    return found
