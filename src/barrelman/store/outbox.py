"""What sinks still have to deliver, and what became of what they had to.

A row is one alert for one sink. Its state is `pending`, `done`, or `dead` where it will never be
delivered as it stands. Rows are taken in the order of `next_us`, then of their ids.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from barrelman.store.database import in_batches, insert_new, upsert
from barrelman.store.tables import alerts, sink_state
from barrelman.store.tables import outbox as table

PENDING: Final = "pending"
DONE: Final = "done"
DEAD: Final = "dead"

_MOST_ERROR: Final = 1000


class Parcel(NamedTuple):
    """One alert that waits for one sink."""

    id: int
    alert_id: str
    created_us: int
    next_us: int
    attempts: int


class Waiting(NamedTuple):
    """How many wait for a sink, and since when the oldest does."""

    pending: int
    oldest_us: int | None


class Counts(NamedTuple):
    """What is known of a sink's rows."""

    pending: int
    oldest_us: int | None
    dead: int
    done: int


class RuleShare(NamedTuple):
    """How many of the waiting alerts are of one rule and severity, and when they were raised."""

    rule_name: str
    severity: str
    alerts: int
    since_us: int
    until_us: int


def put(
    connection: sa.Connection, sinks: Sequence[str], alert_ids: Sequence[str], at_us: int
) -> None:
    """Has each of these sinks deliver each of these alerts; what it had to already stays."""
    rows = [
        {
            "sink": sink,
            "alert_id": alert_id,
            "created_us": at_us,
            "state": PENDING,
            "attempts": 0,
            "next_us": at_us,
        }
        for alert_id in alert_ids
        for sink in sinks
    ]
    for batch in in_batches(rows):
        insert_new(connection, table, batch, key=["sink", "alert_id"])


def due(connection: sa.Connection, sink: str, *, limit: int) -> list[Parcel]:
    """The first that wait for a sink, in order."""
    query = sa.select(*(table.c[name] for name in Parcel._fields)).where(*_of(sink, PENDING))
    query = query.order_by(table.c.next_us, table.c.id).limit(limit)
    return [Parcel(*row) for row in connection.execute(query)]


def waiting(connection: sa.Connection, sink: str) -> Waiting:
    """What a sink has before it."""
    query = sa.select(sa.func.count(), sa.func.min(table.c.next_us)).where(*_of(sink, PENDING))
    return Waiting(*connection.execute(query).one())


def done(connection: sa.Connection, ids: Iterable[int], at_us: int) -> None:
    """These have arrived."""
    _end(connection, ids, {"state": DONE, "done_us": at_us, "last_error": None})


def arrived(connection: sa.Connection, sink: str, alert_ids: Iterable[str], at_us: int) -> int:
    """Those of these alerts that waited for the sink have arrived; gives how many."""
    number = 0
    for batch in in_batches(alert_ids):
        update = sa.update(table).where(*_of(sink, PENDING), table.c.alert_id.in_(batch))
        number += connection.execute(update.values(state=DONE, done_us=at_us)).rowcount
    return number


def failed(connection: sa.Connection, ids: Iterable[int], error: str) -> None:
    """These were tried and did not arrive; they wait on, in their old order."""
    for batch in in_batches(ids):
        update = sa.update(table).where(table.c.id.in_(batch), table.c.state == PENDING)
        values = {"attempts": table.c.attempts + 1, "last_error": error[:_MOST_ERROR]}
        connection.execute(update.values(values))


def dead(connection: sa.Connection, ids: Iterable[int], error: str, at_us: int) -> None:
    """These will never arrive as they are: nobody tries them again unless told to."""
    ended = {"state": DEAD, "done_us": at_us, "last_error": error[:_MOST_ERROR]}
    _end(connection, ids, ended)


def shares(connection: sa.Connection, sink: str, last: Parcel) -> list[RuleShare]:
    """The waiting alerts up to a parcel, counted by rule and severity; most frequent first."""
    number = sa.func.count()
    created = alerts.c.created_us
    query = (
        sa.select(
            alerts.c.rule_name,
            alerts.c.severity,
            number,
            sa.func.min(created),
            sa.func.max(created),
        )
        .join_from(table, alerts, alerts.c.id == table.c.alert_id)
        .where(*_of(sink, PENDING), _up_to(last))
        .group_by(alerts.c.rule_name, alerts.c.severity)
        .order_by(number.desc(), alerts.c.rule_name, alerts.c.severity)
    )
    return [RuleShare(*row) for row in connection.execute(query)]


def last(connection: sa.Connection, sink: str) -> Parcel | None:
    """The last that waits for a sink."""
    query = sa.select(*(table.c[name] for name in Parcel._fields)).where(*_of(sink, PENDING))
    query = query.order_by(table.c.next_us.desc(), table.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else Parcel(*row)


def done_up_to(connection: sa.Connection, sink: str, last: Parcel, at_us: int) -> int:
    """All that wait for the sink, up to a parcel, have arrived; gives how many."""
    update = sa.update(table).where(*_of(sink, PENDING), _up_to(last))
    ended = {"state": DONE, "done_us": at_us, "last_error": None}
    return connection.execute(update.values(ended)).rowcount


def counts(connection: sa.Connection, sinks: Collection[str] | None = None) -> dict[str, Counts]:
    """Of every sink that has rows; `sinks`: of these, whether they have any or not."""
    number = sa.func.count()
    query = sa.select(table.c.sink, table.c.state, number, sa.func.min(table.c.next_us))
    query = query.group_by(table.c.sink, table.c.state)
    if sinks is not None:
        query = query.where(table.c.sink.in_(sorted(sinks)))
    found: dict[str, dict[str, tuple[int, int | None]]] = {sink: {} for sink in sinks or ()}
    for sink, state, rows, oldest_us in connection.execute(query):
        found.setdefault(sink, {})[state] = (rows, oldest_us)
    return {sink: _counts(states) for sink, states in found.items()}


def _counts(states: dict[str, tuple[int, int | None]]) -> Counts:
    pending, oldest_us = states.get(PENDING, (0, None))
    return Counts(
        pending, oldest_us, states.get(DEAD, (0, None))[0], states.get(DONE, (0, None))[0]
    )


def open_counts(connection: sa.Connection, sinks: Iterable[str]) -> dict[str, Counts]:
    """As `counts`, without those that are done: what there is of them is not walked through."""
    found: dict[str, Counts] = {}
    for sink in sinks:
        query = sa.select(sa.func.count()).where(*_of(sink, DEAD))
        dead_rows = connection.execute(query).scalar_one()
        found[sink] = Counts(*waiting(connection, sink), dead_rows, 0)
    return found


def requeue(connection: sa.Connection, sink: str, now_us: int) -> int:
    """What was given up is tried again, behind what waits; gives how many."""
    update = sa.update(table).where(*_of(sink, DEAD))
    again = {"state": PENDING, "done_us": None, "attempts": 0, "next_us": now_us}
    return connection.execute(update.values(again)).rowcount


def prune(
    connection: sa.Connection, before_us: int, *, sinks: Collection[str], limit: int = 10_000
) -> int:
    """Forgets rows that ended before an instant, and those of sinks that there are no more.

    `sinks`: those there are. At most `limit` of each; gives how many.
    """
    ended = sa.select(table.c.id).where(table.c.done_us < before_us)
    lost = sa.select(table.c.id).where(
        table.c.state == PENDING, table.c.created_us < before_us, table.c.sink.not_in(sorted(sinks))
    )
    number = 0
    for query in (ended, lost):
        delete = sa.delete(table).where(table.c.id.in_(query.limit(limit)))
        number += connection.execute(delete).rowcount
    return number


def get_mark(connection: sa.Connection, sink: str) -> str | None:
    """What the sink last said of where it is."""
    query = sa.select(sink_state.c.json).where(sink_state.c.sink == sink)
    state = connection.execute(query).scalar()
    return state.get("mark") if isinstance(state, dict) else None


def put_mark(connection: sa.Connection, sink: str, mark: str) -> None:
    """Keeps what the sink says of where it is."""
    state: dict[str, Any] = {"mark": mark}
    upsert(connection, sink_state, {"sink": sink, "json": state})


def _of(sink: str, state: str) -> Iterator[sa.ColumnElement[bool]]:
    yield table.c.sink == sink
    yield table.c.state == state


def _up_to(last: Parcel) -> sa.ColumnElement[bool]:
    order = sa.tuple_(table.c.next_us, table.c.id)
    return order <= sa.tuple_(last.next_us, last.id)


def _end(connection: sa.Connection, ids: Iterable[int], values: dict[str, Any]) -> None:
    for batch in in_batches(ids):
        update = sa.update(table).where(table.c.id.in_(batch), table.c.state == PENDING)
        connection.execute(update.values(values))
