"""Warnings of the service about itself that last, remembered across restarts."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from barrelman.records.event import JsonObject
from barrelman.records.frozen import frozen
from barrelman.store.database import upsert
from barrelman.store.tables import watches

_RAISED: Final = "raised_us"


@frozen
class Watch:
    """One warning. `since_us`: when its condition began; `raised_us`: when it last alerted."""

    kind: str
    subject: str
    state: str
    since_us: int
    raised_us: int
    alert_id: str | None
    detail: JsonObject


def all(connection: sa.Connection) -> list[Watch]:  # noqa: A001  # read as `watches.all`
    """Every warning that was not over when it was last looked at."""
    columns = watches.c
    query = sa.select(
        columns.kind,
        columns.subject,
        columns.state,
        columns.since_us,
        columns.alert_id,
        columns.detail,
    ).order_by(columns.since_us, columns.kind, columns.subject)
    found = []
    for kind, subject, state, since_us, alert_id, detail in connection.execute(query):
        held = dict(detail or {})
        raised_us = held.pop(_RAISED, since_us)
        found.append(Watch(kind, subject, state, since_us, raised_us, alert_id, held))
    return found


def put(connection: sa.Connection, watch: Watch) -> None:
    """Remembers a warning in place of the one of its kind and subject."""
    values = {
        "kind": watch.kind,
        "subject": watch.subject,
        "state": watch.state,
        "since_us": watch.since_us,
        "alert_id": watch.alert_id,
        "detail": {**watch.detail, _RAISED: watch.raised_us},
    }
    upsert(connection, watches, values)


def delete(connection: sa.Connection, kind: str, subject: str) -> None:
    """Forgets a warning that is over."""
    connection.execute(
        sa.delete(watches).where(watches.c.kind == kind, watches.c.subject == subject)
    )
