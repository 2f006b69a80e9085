"""Alerts to sinks: a durable outbox, and a thread for each sink that empties it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Final

from barrelman.records.frozen import frozen
from barrelman.service.delivery import Delivery, Progress, Tries
from barrelman.sinks.routes import Route
from barrelman.sinks.sink import Sink
from barrelman.store import outbox
from barrelman.store.alerts import NewAlert
from barrelman.store.database import Connection, Database

_JOIN_SECONDS: Final = 1.0


@frozen
class SinkState:
    """How a sink is doing: what waits for it, and what it did since the service began."""

    name: str
    kind: str
    pending: int
    oldest_us: int | None
    """Since when the oldest alert waits."""
    dead: int
    """Alerts that it gave up, until they are forgotten or tried again."""
    delivered: int
    digests: int
    failures: int
    last_error: str | None
    last_error_us: int | None
    last_success_us: int | None
    next_try_us: int | None
    """When a sink that fails is tried again; None: it does not fail."""
    notice: str

    @property
    def is_failing(self) -> bool:
        return self.next_try_us is not None


class Courier:
    """Hands every alert to the sinks whose route takes it, at least once, in order.

    An alert that is in the database is in the outbox: `enqueue` runs in the same transaction.
    """

    def __init__(
        self,
        database: Database,
        sinks: Sequence[tuple[Sink, Route]],
        *,
        clock: Callable[[], int],
        public_url: str | None = None,
        tries: Tries | None = None,
    ) -> None:
        """`clock` gives microseconds since 1970. Names of sinks must differ."""
        self._database = database
        self._clock = clock
        self._routes = [(sink.name, route) for sink, route in sinks]
        self._deliveries = {
            sink.name: Delivery(
                database, sink, clock=clock, public_url=public_url, tries=tries or Tries()
            )
            for sink, _ in sinks
        }
        if len(self._deliveries) != len(sinks):
            raise ValueError("two sinks have the same name")

    @property
    def names(self) -> Collection[str]:
        return self._deliveries.keys()

    def start(self) -> None:
        """Starts the threads; what a former process left goes out at once."""
        for delivery in self._deliveries.values():
            delivery.start()

    def enqueue(
        self, connection: Connection, alerts: Sequence[NewAlert], at_us: int | None = None
    ) -> None:
        """Puts alerts into the outbox, inside the transaction that stores them.

        Call `wake` once it is committed.
        """
        at_us = self._clock() if at_us is None else at_us
        wanted: dict[tuple[str, ...], list[str]] = {}
        for alert in alerts:
            sinks = self._sinks_for(alert)
            if sinks:
                wanted.setdefault(sinks, []).append(alert.id)
        for sinks, ids in wanted.items():
            outbox.put(connection, sinks, ids, at_us)

    def wake(self) -> None:
        """There are alerts in the outbox. Any thread; returns at once."""
        for delivery in self._deliveries.values():
            delivery.wake()

    def test(self, name: str) -> str:
        """Has the sink of that name send a test; gives what came of it. Raises SinkError."""
        return self._deliveries[name].test(self._clock())

    def requeue(self, name: str) -> int:
        """What the sink of that name gave up is tried again; gives how many alerts."""
        delivery = self._deliveries[name]
        now_us = self._clock()
        number = self._database.write(lambda connection: outbox.requeue(connection, name, now_us))
        delivery.try_now()
        return number

    def prune(self, before_us: int) -> int:
        """Forgets what ended before then; gives how many rows, of a bounded number a call."""
        names = list(self._deliveries)
        return self._database.write(
            lambda connection: outbox.prune(connection, before_us, sinks=names)
        )

    def state(self) -> dict[str, SinkState]:
        """Every sink by its name."""
        names = list(self._deliveries)
        counts = self._database.read(lambda connection: outbox.open_counts(connection, names))
        return {
            name: _state(delivery.sink, counts[name], delivery.progress)
            for name, delivery in self._deliveries.items()
        }

    def stop(self, grace_seconds: float) -> bool:
        """Delivers what waits for as long as that takes, or the grace; then ends the threads.

        False: some sink was still waiting for its receiver, and is left to the process's end.
        """
        until = time.monotonic() + grace_seconds
        for delivery in self._deliveries.values():
            delivery.stop(until)
        ends = until + _JOIN_SECONDS
        ended = [each.join(ends - time.monotonic()) for each in self._deliveries.values()]
        return all(ended)

    def _sinks_for(self, alert: NewAlert) -> tuple[str, ...]:
        tags = _tags_of(alert)
        return tuple(
            name
            for name, route in self._routes
            if route.takes(
                severity=alert.severity,
                rule_id=alert.rule_id,
                rule_name=alert.rule_name,
                cluster=alert.cluster,
                is_building_block=alert.building_block,
                tags=tags,
            )
        )


def _tags_of(alert: NewAlert) -> Callable[[], Collection[str]]:
    """Its rule's tags, read from the document when a route first asks."""

    @cache
    def tags() -> Collection[str]:
        value = json.loads(alert.document).get("kibana.alert.rule.tags") or []
        return [each for each in value if isinstance(each, str)]

    return tags


def _state(sink: Sink, counts: outbox.Counts, progress: Progress) -> SinkState:
    return SinkState(
        name=sink.name,
        kind=sink.kind,
        pending=counts.pending,
        oldest_us=counts.oldest_us if counts.pending else None,
        dead=counts.dead,
        delivered=progress.delivered,
        digests=progress.digests,
        failures=progress.failures,
        last_error=progress.last_error,
        last_error_us=progress.last_error_us,
        last_success_us=progress.last_success_us,
        next_try_us=progress.next_try_us,
        notice=progress.notice,
    )
