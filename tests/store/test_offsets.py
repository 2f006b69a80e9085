"""How far files were read is kept: one row a content, whatever its file is called by then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from barrelman.errors import StoreError
from barrelman.store import tables
from barrelman.store.database import Database
from barrelman.store.offsets import NO_FILE, FileOffset, OffsetBook


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "barrelman.db")
    yield opened
    opened.close()


def offset(**changes: Any) -> FileOffset:
    values: dict[str, Any] = {
        "cluster": "prod",
        "path": "/var/log/audit.log",
        "device": 64,
        "inode": 2**62,
        "offset": 2**40,
        "head_bytes": 1024,
        "head_hash": "ab" * 32,
        "is_finished": False,
        "updated_us": 1_700_000_000_000_000,
    }
    return FileOffset(**values | changes)


def count(database: Database) -> int:
    return database.read(
        lambda connection: connection.execute(
            select(func.count()).select_from(tables.offsets)
        ).scalar_one()
    )


def test_what_is_saved_is_there_again(database: Database) -> None:
    book = OffsetBook(database)
    rows = [offset(), offset(inode=7, is_finished=True, updated_us=5)]
    book.save(rows)
    assert book.load("prod") == [rows[1], rows[0]]  # by the time they were last changed
    book.save([offset(offset=9)])
    assert [each.offset for each in book.load("prod")] == [2**40, 9]
    assert count(database) == 2


def test_each_cluster_has_its_own(database: Database) -> None:
    book = OffsetBook(database)
    book.save([offset(), offset(cluster="prod_1"), offset(cluster="prodX1", offset=3)])
    assert [each.cluster for each in book.load("prod")] == ["prod"]
    assert [each.cluster for each in book.load("prod_1")] == ["prod_1"]
    assert book.load("pro") == []


def test_contents_without_a_file_do_not_meet(database: Database) -> None:
    book = OffsetBook(database)
    first = offset(device=NO_FILE, inode=0)
    second = offset(device=NO_FILE, inode=0, head_hash="cd" * 32)
    book.save([first, second])
    assert len(book.load("prod")) == 2
    book.save([], gone=[first.key])
    assert [each.head_hash for each in book.load("prod")] == ["cd" * 32]


def test_a_content_that_moved_leaves_its_old_row(database: Database) -> None:
    book = OffsetBook(database)
    book.save([offset()])
    moved = offset(path="/var/log/audit.log.1")
    book.save([moved], gone=[offset().key])
    assert book.load("prod") == [moved]


def test_patterns_are_no_offsets(database: Database) -> None:
    book = OffsetBook(database)
    book.save([offset()], patterns=["/var/log/*.log", "a|b"], cluster="prod", now_us=3)
    book.save([], patterns=["other"], cluster="test", now_us=3)
    assert book.patterns("prod") == {"/var/log/*.log", "a|b"}
    assert book.patterns("test") == {"other"}
    assert book.load("prod") == [offset()]
    assert book.load("test") == []


def test_a_name_that_is_no_text(database: Database) -> None:
    book = OffsetBook(database)
    odd = offset(path="/var/log/\udcff.log")
    book.save([odd])
    (found,) = book.load("prod")
    assert found.offset == odd.offset
    book.save([], gone=[odd.key])
    assert book.load("prod") == []


def test_many_at_once(database: Database) -> None:
    book = OffsetBook(database)
    book.save([offset(inode=number) for number in range(2000)])
    assert len(book.load("prod")) == 2000
    book.save([], gone=[offset(inode=number).key for number in range(2000)])
    assert count(database) == 0


def test_a_closed_database_is_told(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "barrelman.db")
    database.close()
    with pytest.raises(StoreError, match="closed"):
        OffsetBook(database).save([offset()])
