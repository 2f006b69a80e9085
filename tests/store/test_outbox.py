"""What waits for a sink, in which order, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from alertdocs import AT_US, alert_document, alert_id, new_alert
from sqlalchemy import Connection, select

from barrelman.store import alerts, outbox
from barrelman.store.database import Database
from barrelman.store.tables import outbox as table


def put(database: Database, numbers: Sequence[int], *sinks: str, at_us: int = AT_US) -> None:
    def write(connection: Connection) -> None:
        alerts.add(connection, [new_alert(number) for number in numbers])
        outbox.put(connection, sinks, [alert_id(number) for number in numbers], at_us)

    database.write(write)


def waits(database: Database, sink: str) -> list[str]:
    return [parcel.alert_id for parcel in parcels(database, sink)]


def parcels(database: Database, sink: str, limit: int = 1000) -> list[outbox.Parcel]:
    return database.read(lambda connection: outbox.due(connection, sink, limit=limit))


def counts(database: Database, sink: str) -> outbox.Counts:
    return database.read(outbox.counts)[sink]


def test_each_sink_has_its_own_rows_in_the_order_they_were_put(database: Database) -> None:
    put(database, [3, 1], "file", "slack")
    put(database, [2], "file", at_us=AT_US + 1)
    assert waits(database, "file") == [alert_id(3), alert_id(1), alert_id(2)]
    assert waits(database, "slack") == [alert_id(3), alert_id(1)]
    assert waits(database, "other") == []


def test_an_alert_is_put_once_whatever_became_of_it(database: Database) -> None:
    put(database, [1, 2], "file")
    first, second = parcels(database, "file")
    database.write(lambda c: outbox.done(c, [first.id], AT_US))
    database.write(lambda c: outbox.dead(c, [second.id], "no", AT_US))
    put(database, [1, 2, 3], "file")
    assert waits(database, "file") == [alert_id(3)]


def test_more_rows_than_one_statement_takes(database: Database) -> None:
    put(database, range(1, 1302), "a", "b")
    assert counts(database, "a") == counts(database, "b") == (1301, AT_US, 0, 0)
    ids = [parcel.id for parcel in parcels(database, "a", limit=1301)]
    database.write(lambda c: outbox.done(c, ids, AT_US))
    assert counts(database, "a") == (0, None, 0, 1301)


def test_what_failed_keeps_its_place(database: Database) -> None:
    put(database, [1, 2], "file")
    first = parcels(database, "file")[0]
    for _ in range(2):
        database.write(lambda c: outbox.failed(c, [first.id], "the line is down"))
    assert waits(database, "file") == [alert_id(1), alert_id(2)]
    assert parcels(database, "file")[0].attempts == 2
    row = database.read(lambda c: c.execute(select(table.c.last_error)).scalars().first())
    assert row == "the line is down"


def test_what_is_dead_waits_no_more_until_it_is_put_back(database: Database) -> None:
    put(database, [1, 2], "file")
    first = parcels(database, "file")[0]
    database.write(lambda c: outbox.failed(c, [first.id], "no"))
    database.write(lambda c: outbox.dead(c, [first.id], "never", AT_US + 5))
    assert waits(database, "file") == [alert_id(2)]
    assert counts(database, "file") == (1, AT_US, 1, 0)
    assert database.write(lambda c: outbox.requeue(c, "file", AT_US + 9)) == 1
    assert waits(database, "file") == [alert_id(2), alert_id(1)]
    assert parcels(database, "file")[1].attempts == 0


def test_what_has_ended_is_not_ended_again(database: Database) -> None:
    put(database, [1], "file")
    [parcel] = parcels(database, "file")
    database.write(lambda c: outbox.done(c, [parcel.id], AT_US))
    database.write(lambda c: outbox.dead(c, [parcel.id], "late", AT_US))
    assert counts(database, "file") == (0, None, 0, 1)


def test_arrived_takes_only_what_waits_for_that_sink(database: Database) -> None:
    put(database, [1, 2], "file", "slack")
    ids = [alert_id(2), alert_id(7)]
    assert database.write(lambda c: outbox.arrived(c, "file", ids, AT_US)) == 1
    assert waits(database, "file") == [alert_id(1)]
    assert waits(database, "slack") == [alert_id(1), alert_id(2)]


def test_a_flood_is_counted_and_ended_up_to_a_place(database: Database) -> None:
    def write(connection: Connection) -> None:
        rules = ["Noise", "Noise", "Rare"]
        made = [
            new_alert(number, document=alert_document(number, rule__name=rule))
            for number, rule in enumerate(rules, 1)
        ]
        alerts.add(connection, made)
        outbox.put(connection, ["slack"], [alert.id for alert in made], AT_US)

    database.write(write)
    last = database.read(lambda c: outbox.last(c, "slack"))
    assert last is not None
    put(database, [9], "slack")
    assert database.read(lambda c: outbox.shares(c, "slack", last)) == [
        ("Noise", "medium", 2, AT_US + 1, AT_US + 2),
        ("Rare", "medium", 1, AT_US + 3, AT_US + 3),
    ]
    assert database.write(lambda c: outbox.done_up_to(c, "slack", last, AT_US)) == 3
    assert waits(database, "slack") == [alert_id(9)]


def test_counts_of_named_sinks_hold_those_without_rows(database: Database) -> None:
    put(database, [1], "file", "gone")
    found = database.read(lambda c: outbox.counts(c, ["file", "new"]))
    assert found == {"file": (1, AT_US, 0, 0), "new": (0, None, 0, 0)}
    assert database.read(lambda c: outbox.open_counts(c, ["file", "new"])) == found
    assert database.read(outbox.counts).keys() == {"file", "gone"}


def test_pruning_forgets_what_ended_and_what_nobody_will_fetch(database: Database) -> None:
    put(database, [1, 2, 3], "file", "gone")
    first, second, _ = parcels(database, "file")
    database.write(lambda c: outbox.done(c, [first.id], AT_US + 10))
    database.write(lambda c: outbox.dead(c, [second.id], "no", AT_US + 20))
    assert database.write(lambda c: outbox.prune(c, AT_US, sinks=["file"])) == 0
    assert database.write(lambda c: outbox.prune(c, AT_US + 15, sinks=["file"])) == 1 + 3
    assert counts(database, "file") == (1, AT_US, 1, 0)
    assert database.write(lambda c: outbox.prune(c, AT_US + 99, sinks=["file"], limit=1)) == 1
    assert waits(database, "file") == [alert_id(3)]


def test_a_mark_is_kept_and_replaced(database: Database) -> None:
    assert database.read(lambda c: outbox.get_mark(c, "file")) is None
    for mark in ("one", "two"):
        database.write(lambda c, mark=mark: outbox.put_mark(c, "file", mark))  # type: ignore[misc]
    assert database.read(lambda c: outbox.get_mark(c, "file")) == "two"


def test_rows_of_a_transaction_that_fails_are_not_there(database: Database) -> None:
    def write(connection: Connection) -> None:
        outbox.put(connection, ["file"], [alert_id(1)], AT_US)
        raise LookupError

    with pytest.raises(LookupError):
        database.write(write)
    assert waits(database, "file") == []
