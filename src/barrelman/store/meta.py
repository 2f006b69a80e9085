"""Single values by name: what the installation knows of itself."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from barrelman.store.database import upsert
from barrelman.store.tables import meta


def get(connection: Connection, key: str) -> str | None:
    """The value of this name, None where there is none."""
    return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()


def put(connection: Connection, key: str, value: str) -> None:
    """Sets a value, whether there was one or not."""
    upsert(connection, meta, {"key": key, "value": value})


def drop(connection: Connection, key: str) -> None:
    """Forgets a value, if there is one."""
    connection.execute(delete(meta).where(meta.c.key == key))


def all(connection: Connection) -> dict[str, str]:  # noqa: A001  # read as `meta.all`
    """Every name and its value."""
    return {row.key: row.value for row in connection.execute(select(meta).order_by(meta.c.key))}
