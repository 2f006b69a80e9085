"""A database for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from barrelman.store.database import Database

# Names an empty PostgreSQL database to run the same tests against, one after the other (-n 0).
ELSEWHERE = os.environ.get("BARRELMAN_TEST_DATABASE")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An open, empty database."""
    opened = Database.open(ELSEWHERE or tmp_path / "barrelman.db", now_us=1)
    yield opened
    if ELSEWHERE:
        opened.write(lambda c: c.exec_driver_sql("DROP SCHEMA public CASCADE"))
        opened.write(lambda c: c.exec_driver_sql("CREATE SCHEMA public"))
    opened.close()
