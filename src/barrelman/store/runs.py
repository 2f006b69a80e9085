"""What the scheduler did: the runs of rules, and the spans of time that no run covered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)

from barrelman.records.event import JsonObject
from barrelman.records.frozen import frozen
from barrelman.store.database import in_batches, selecting, upsert, values_of
from barrelman.store.tables import gaps as gap_table
from barrelman.store.tables import runs as run_table

RunKind: TypeAlias = Literal["scheduled", "catch-up", "manual", "gap"]
GapStatus: TypeAlias = Literal["unfilled", "in progress", "filled", "impossible"]
SORTED_BY: Final = (
    *("started_us", "tick_ms", "duration_ms", "delay_ms", "status"),
    *("events", "matches", "alerts", "capped"),
)
"""What `find` can sort by."""


@frozen
class Run:
    """One execution of a rule. `from_ms` and `to_ms` bound what it read, both inclusive.

    `status`: succeeded, partial failure, failed, running or going to run. `capped`: matches that
    it left out because it had as many alerts as it may make.
    """

    id: str
    rule_uuid: str
    rule_id: str
    kind: RunKind
    tick_ms: int
    from_ms: int
    to_ms: int
    started_us: int
    duration_ms: int
    delay_ms: int
    status: str
    message: str
    events: int
    matches: int
    alerts: int
    capped: int
    metrics: JsonObject


@frozen
class Gap:
    """A span of time that no run of a rule covered. It is filled up to `filled_to_ms`."""

    id: int
    rule_uuid: str
    rule_id: str
    from_ms: int
    to_ms: int
    status: GapStatus
    filled_to_ms: int | None
    created_us: int
    updated_us: int
    message: str


class Filters(TypedDict, total=False):
    """Which runs; what is absent or None does not restrict. Bounds are inclusive."""

    rule_uuid: str | None
    since_us: int | None
    until_us: int | None
    statuses: Collection[str] | None
    kinds: Collection[str] | None


_RUNS: Final = selecting(run_table, Run)
_GAPS: Final = selecting(gap_table, Gap)


def add(connection: Connection, runs: Iterable[Run]) -> None:
    """Adds runs; one of a known id takes the place of what was known (it ran on, it ended)."""
    for batch in in_batches(runs):
        upsert(connection, run_table, [values_of(run) for run in batch])


def get(connection: Connection, id: str) -> Run | None:  # noqa: A002  # the word of the table
    """The run of this id."""
    row = connection.execute(_RUNS.where(run_table.c.id == id)).first()
    return None if row is None else Run(*row)


def find(
    connection: Connection,
    *,
    sort: str = "started_us",
    newest_first: bool = True,
    limit: int = 100,
    offset: int = 0,
    **filters: Unpack[Filters],
) -> list[Run]:
    """Runs, by default those that started last first. `sort`: one of SORTED_BY."""
    if sort not in SORTED_BY:
        raise ValueError(f"runs cannot be sorted by {sort}")
    order = [run_table.c[sort], run_table.c.started_us, run_table.c.tick_ms, run_table.c.id]
    query = (
        _RUNS.where(*_wheres(filters))
        .order_by(*(each.desc() if newest_first else each for each in dict.fromkeys(order)))
        .limit(limit)
        .offset(offset)
    )
    return [Run(*row) for row in connection.execute(query)]


def count(connection: Connection, **filters: Unpack[Filters]) -> int:
    """How many runs `find` would give, could it give all."""
    query = select(func.count()).select_from(run_table).where(*_wheres(filters))
    return connection.execute(query).scalar_one()


def latest(connection: Connection) -> dict[str, Run]:
    """Of each rule that ever ran, the run that started last, by the rule's id."""
    last = (
        select(run_table.c.rule_uuid, func.max(run_table.c.started_us).label("started_us"))
        .group_by(run_table.c.rule_uuid)
        .subquery()
    )
    query = (
        _RUNS.join(
            last,
            and_(
                run_table.c.rule_uuid == last.c.rule_uuid,
                run_table.c.started_us == last.c.started_us,
            ),
        )
        # Runs that caught up started together: of these, the one with the latest window.
        .order_by(run_table.c.tick_ms, run_table.c.id)
    )
    return {run.rule_uuid: run for run in (Run(*row) for row in connection.execute(query))}


def prune(connection: Connection, before_us: int, *, limit: int = 10_000) -> int:
    """Forgets the oldest runs that started before an instant, at most `limit`; gives how many."""
    oldest = (
        select(run_table.c.id)
        .where(run_table.c.started_us < before_us)
        .order_by(run_table.c.started_us)
        .limit(limit)
    )
    return connection.execute(delete(run_table).where(run_table.c.id.in_(oldest))).rowcount


def add_gap(
    connection: Connection,
    *,
    rule_uuid: str,
    rule_id: str,
    from_ms: int,
    to_ms: int,
    at_us: int,
    message: str = "",
) -> int:
    """Notes an unfilled gap; gives its id."""
    made = connection.execute(
        insert(gap_table).values(
            rule_uuid=rule_uuid,
            rule_id=rule_id,
            from_ms=from_ms,
            to_ms=to_ms,
            status="unfilled",
            filled_to_ms=None,
            created_us=at_us,
            updated_us=at_us,
            message=message,
        )
    )
    (key,) = made.inserted_primary_key or (0,)
    return int(key)


def gaps(
    connection: Connection,
    *,
    rule_uuid: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    statuses: Collection[str] | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[Gap]:
    """Gaps that have a part in these bounds, oldest first."""
    wheres: list[ColumnElement[bool]] = []
    if rule_uuid is not None:
        wheres.append(gap_table.c.rule_uuid == rule_uuid)
    if since_ms is not None:
        wheres.append(gap_table.c.to_ms >= since_ms)
    if until_ms is not None:
        wheres.append(gap_table.c.from_ms <= until_ms)
    if statuses is not None:
        wheres.append(gap_table.c.status.in_(statuses))
    query = _GAPS.where(*wheres).order_by(gap_table.c.from_ms, gap_table.c.id)
    return [Gap(*row) for row in connection.execute(query.limit(limit).offset(offset))]


def unfilled(connection: Connection) -> list[Gap]:
    """Gaps that wait to be filled or are being filled, oldest first."""
    return gaps(connection, statuses=("unfilled", "in progress"))


def set_status(
    connection: Connection,
    id: int,  # noqa: A002  # the word of the table
    status: GapStatus,
    *,
    at_us: int,
    filled_to_ms: int | None = None,
    message: str | None = None,
) -> bool:
    """Sets how far a gap is filled; what is None stays as it is. False where the gap is gone."""
    values: dict[str, Any] = {"status": status, "updated_us": at_us}
    if filled_to_ms is not None:
        values["filled_to_ms"] = filled_to_ms
    if message is not None:
        values["message"] = message
    changed = connection.execute(update(gap_table).where(gap_table.c.id == id).values(values))
    return changed.rowcount > 0


def prune_gaps(connection: Connection, before_us: int) -> int:
    """Forgets gaps that were settled before an instant; gives how many."""
    settled = gap_table.c.status.in_(("filled", "impossible"))
    return connection.execute(
        delete(gap_table).where(settled, gap_table.c.updated_us < before_us)
    ).rowcount


def drop_gaps(connection: Connection, rule_uuid: str) -> int:
    """Forgets all gaps of a rule, as when it is deleted; gives how many."""
    return connection.execute(delete(gap_table).where(gap_table.c.rule_uuid == rule_uuid)).rowcount


def _wheres(filters: Filters) -> list[ColumnElement[bool]]:
    c = run_table.c
    conditions: dict[str, Callable[[Any], ColumnElement[bool]]] = {
        "rule_uuid": lambda value: c.rule_uuid == value,
        "since_us": lambda value: c.started_us >= value,
        "until_us": lambda value: c.started_us <= value,
        "statuses": c.status.in_,
        "kinds": c.kind.in_,
    }
    return [conditions[name](value) for name, value in filters.items() if value is not None]
