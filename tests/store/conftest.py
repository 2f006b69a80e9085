"""A database for each test, whose statements must be ones that PostgreSQL knows as well."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ClauseElement

from barrelman.store.database import Database

# Names an empty PostgreSQL database to run the same tests against, one after the other (-n 0).
ELSEWHERE = os.environ.get("BARRELMAN_TEST_DATABASE")
_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]


def _compiles_elsewhere(connection: Connection, statement: Executable, *_: Any) -> None:
    # Where databases differ, the statement is made for the one it runs on: see test_database.
    if isinstance(statement, ClauseElement) and not isinstance(statement, sqlite.Insert):
        assert str(statement.compile(dialect=_POSTGRESQL))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An open, empty database."""
    opened = Database.open(ELSEWHERE or tmp_path / "barrelman.db", now_us=1)
    event.listen(Engine, "before_execute", _compiles_elsewhere)
    yield opened
    event.remove(Engine, "before_execute", _compiles_elsewhere)
    if ELSEWHERE:
        opened.write(lambda c: c.exec_driver_sql("DROP SCHEMA public CASCADE"))
        opened.write(lambda c: c.exec_driver_sql("CREATE SCHEMA public"))
    opened.close()
