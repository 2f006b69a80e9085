"""One thread that writes, readers that see one state, and what happens when the disk fails."""

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_mock_engine, func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from barrelman.errors import ConflictError, StoreError
from barrelman.store import meta
from barrelman.store.database import Database, in_batches, insert_new, telling_conflict, upsert
from barrelman.store.tables import meta as table
from barrelman.store.tables import metadata, offsets, sink_state


def put(key: str, value: str = "x") -> Callable[[Connection], None]:
    def write(connection: Connection) -> None:
        meta.put(connection, key, value)

    return write


def putting(number: int) -> Callable[[Connection], None]:
    def write(connection: Connection) -> None:
        for key in "ab":
            meta.put(connection, key, str(number))

    return write


def keys(database: Database) -> list[str]:
    return list(database.read(meta.all))


def run(script: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, which must end by itself."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


class Gate:
    """A write that holds up the writing thread until it is opened."""

    def __init__(self, database: Database) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()
        self.future = database.write_soon(self._wait)
        assert self._entered.wait(10)

    def _wait(self, connection: Connection) -> None:
        self._entered.set()
        assert self._opened.wait(10)

    def open(self) -> None:
        self._opened.set()


# Writing


def test_what_a_write_gives_comes_back_and_is_kept(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db")
    added = database.write(
        lambda c: insert_new(c, table, [{"key": "a", "value": "1"}], key=["key"])
    )
    assert added == [("a",)]
    database.close()
    again = Database.open(tmp_path / "a.db")
    assert again.read(lambda c: meta.get(c, "a")) == "1"
    again.close()


def test_an_error_undoes_its_own_write_and_is_raised(database: Database) -> None:
    def fail(connection: Connection) -> None:
        meta.put(connection, "a", "1")
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        database.write(fail)
    database.write(put("b"))
    assert keys(database) == ["b"]
    assert database.trouble is None


def test_a_mistake_in_a_statement_stays_what_it_is(database: Database) -> None:
    with pytest.raises(IntegrityError):
        database.write(lambda c: c.execute(insert(table), [{"key": "a", "value": "x"}] * 2))
    with pytest.raises(Exception, match="no_such_table") as caught:
        database.write(lambda c: c.exec_driver_sql("SELECT * FROM no_such_table"))
    assert not isinstance(caught.value, StoreError)
    database.write(put("b"))
    assert keys(database) == ["b"]


def test_writes_that_wait_together_share_a_commit_and_no_error(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db")
    commits = CountedCommits(tmp_path / "a.db")
    gate = Gate(database)

    def fail_after(key: str) -> Callable[[Connection], None]:
        def write(connection: Connection) -> None:
            meta.put(connection, key, "gone")
            connection.execute(insert(table).values(key=key, value="again"))

        return write

    good = [database.write_soon(put(f"good {i}")) for i in range(20)]
    bad = [database.write_soon(fail_after(f"bad {i}")) for i in range(5)]
    more = [database.write_soon(put(f"more {i}")) for i in range(20)]
    assert database.waiting == 45
    before = commits.seen()
    gate.open()
    for future in (*good, *more):
        assert future.result(10) is None
    for failed in bad:
        assert isinstance(failed.exception(10), IntegrityError)
    assert commits.seen() - before <= 2  # the gate's own, and that of all others
    assert keys(database) == sorted(f"{w} {i}" for w in ("good", "more") for i in range(20))
    database.close()


class CountedCommits:
    """Counts commits by others, as SQLite numbers them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def seen(self) -> int:
        """Frames that end a commit, in the write-ahead log."""
        log = self._path.with_name(f"{self._path.name}-wal").read_bytes()
        size = int.from_bytes(log[8:12], "big") + 24
        frames = range(32, len(log) - size + 1, size)
        salt = log[16:24]
        return sum(
            log[at + 8 : at + 16] == salt and int.from_bytes(log[at + 4 : at + 8], "big") > 0
            for at in frames
        )


def test_many_threads_write_at_once(database: Database) -> None:
    def write(worker: int) -> None:
        for number in range(25):
            database.write(put(f"{worker} {number}"))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys(database)) == 200


def test_all_writing_is_in_one_thread(database: Database) -> None:
    names = {database.write(lambda _: threading.current_thread().name) for _ in range(3)}
    assert names == {"database writer"}


def test_a_read_modify_write_is_not_interleaved(database: Database) -> None:
    def count_up(connection: Connection) -> None:
        meta.put(connection, "n", str(int(meta.get(connection, "n") or 0) + 1))

    futures = [database.write_soon(count_up) for _ in range(300)]
    for future in futures:
        future.result(10)
    assert database.read(lambda c: meta.get(c, "n")) == "300"


def test_a_write_inside_a_write_is_a_bug_that_is_told(database: Database) -> None:
    with pytest.raises(RuntimeError, match="wait for itself"):
        database.write(lambda _: database.write(put("a")))
    database.write(put("b"))


def test_a_write_that_waits_can_be_cancelled(database: Database) -> None:
    gate = Gate(database)
    cancelled = database.write_soon(put("cancelled"))
    other = database.write_soon(put("other"))
    assert cancelled.cancel()
    gate.open()
    other.result(10)
    with pytest.raises(CancelledError):
        cancelled.result(10)
    assert keys(database) == ["other"]


def test_too_many_waiting_writes_are_refused_and_not_collected(database: Database) -> None:
    gate = Gate(database)
    futures = [database.write_soon(put("a")) for _ in range(10_000)]
    refused = database.write_soon(put("b"))
    assert isinstance(refused.exception(0), StoreError)
    for future in futures[1:]:
        future.cancel()
    gate.open()
    futures[0].result(10)
    assert keys(database) == ["a"]


def test_closing_finishes_what_waits_and_refuses_the_rest(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db")
    gate = Gate(database)
    futures = [database.write_soon(put(str(i))) for i in range(50)]
    closing = threading.Thread(target=database.close)
    closing.start()
    gate.open()
    closing.join()
    assert [future.result(0) for future in futures] == [None] * 50
    with pytest.raises(StoreError, match="is closed"):
        database.write(put("late"))
    assert isinstance(database.write_soon(put("late")).exception(0), StoreError)
    database.close()  # a second time does no harm
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db"]


# Reading


def test_a_reader_sees_the_state_it_began_with(database: Database) -> None:
    database.write(put("a"))
    with database.reading() as connection:
        assert list(meta.all(connection)) == ["a"]
        database.write(put("b"))
        assert list(meta.all(connection)) == ["a"]
    assert keys(database) == ["a", "b"]


def test_readers_never_wait_for_a_writer_and_see_no_half_write(database: Database) -> None:
    database.write(putting(0))
    is_over = threading.Event()
    seen: list[set[str]] = []

    def watch() -> None:
        while not is_over.is_set():
            seen.append(set(database.read(meta.all).values()))

    readers = [threading.Thread(target=watch) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(60):
        database.write(putting(number))
    is_over.set()
    for reader in readers:
        reader.join()
    assert seen
    assert {len(values) for values in seen} == {1}


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises((StoreError, DBAPIError)):
        database.read(put("a"))
    assert keys(database) == []


def test_more_readers_than_connections_wait_for_one(database: Database) -> None:
    together = threading.Barrier(16)

    def read(connection: Connection) -> None:
        meta.all(connection)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(5)

    threads = [threading.Thread(target=database.read, args=(read,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken
    assert keys(database) == []


# Opening


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    database.close()


def test_sqlite_is_told_to_be_safe(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db")

    def told(connection: Connection) -> dict[str, Any]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return {n: connection.exec_driver_sql(f"PRAGMA {n}").scalar() for n in names}

    assert database.write(told) == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    database.close()


def test_a_url_of_sqlite_is_a_path(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/odd%20name?.db".replace("?", "%3F"))
    database.write(put("a"))
    database.close()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["with space.db", "per%cent.db", "quest?ion.db", "ha#sh.db"])
def test_a_path_may_hold_any_character(tmp_path: Path, name: str) -> None:
    Database.open(tmp_path / name).close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("mysql://host/name", "names no SQLite file"),
        ("sqlite://", "names no SQLite file"),
        ("postgresql+none://host/name", "driver for postgresql.none is not installed"),
        ("not a url://", "cannot be read"),
    ],
)
def test_other_databases_are_refused(where: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Database.open(where)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is a text, and a long one\n" * 100)
    with pytest.raises(StoreError, match="the file is not a database"):
        Database.open(path)
    assert path.read_bytes() == b"this is a text, and a long one\n" * 100


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be made"):
        Database.open(tmp_path / "none" / "a.db")


def test_a_truncated_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database.open(path).close()
    path.write_bytes(path.read_bytes()[: 5 * 4096])
    with pytest.raises(StoreError, match="the file is damaged"):
        Database.open(path)


def smash_page(path: Path, held: bytes) -> None:
    content = bytearray(path.read_bytes())
    start = content.rindex(held) // 4096 * 4096
    content[start : start + 4096] = b"\xff" * 4096
    path.write_bytes(content)


def test_damage_within_the_file_is_found_by_a_check(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database.open(path)
    rows = [{"key": str(number), "value": "x" * 500} for number in range(500)]
    database.write(lambda c: c.execute(insert(table), rows))
    assert database.check() == []
    database.close()
    smash_page(path, b"x" * 400)
    damaged = Database.open(path)
    assert damaged.check()
    with pytest.raises(StoreError, match="the file is damaged"):
        damaged.read(meta.all)
    damaged.close()


def test_damage_fails_who_meets_it_and_not_who_comes_after(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database.open(path)
    database.write(lambda c: upsert(c, sink_state, {"sink": "s", "json": {"a": "x" * 3000}}))
    database.close()
    smash_page(path, b"x" * 2000)
    database = Database.open(path)
    with pytest.raises(StoreError, match="the file is damaged"):
        database.write(lambda c: c.execute(select(sink_state)).all())
    assert database.trouble is not None
    database.write(put("a"))
    assert database.trouble is None
    assert keys(database) == ["a"]
    database.close()


def test_another_process_that_holds_the_lock_for_long_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("barrelman.store.engines._BUSY_SECONDS", 0.1)
    path = tmp_path / "a.db"
    database = Database.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another process has locked it"):
        database.write(put("a"))
    assert database.trouble is not None
    other.execute("ROLLBACK")
    other.close()
    database.write(put("b"))
    assert database.trouble is None
    assert keys(database) == ["b"]
    database.close()


# Other processes


def test_another_process_reads_while_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database.open(path)
    database.write(put("a"))
    reader = Database.open(path, read_only=True)
    with reader.reading() as connection:
        assert list(meta.all(connection)) == ["a"]
        database.write(put("b"))
        assert list(meta.all(connection)) == ["a"]
    assert keys(reader) == ["a", "b"]
    with pytest.raises(StoreError, match="for reading only"):
        reader.write(put("c"))
    assert isinstance(reader.write_soon(put("c")).exception(0), StoreError)
    reader.close()
    database.write(put("c"))
    database.close()


def test_reading_only_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Database.open(tmp_path / "a.db", read_only=True)
    assert not list(tmp_path.iterdir())


READ_AS_NOBODY = """
    import os, sys
    from pathlib import Path
    from barrelman.store import meta
    from barrelman.store.database import Database
    if os.getuid() == 0:
        os.setgid(65534); os.setuid(65534)
    database = Database.open(Path(sys.argv[1]), read_only=True)
    print(database.read(meta.all))
    database.close()
"""


def test_a_copy_in_a_folder_that_may_not_be_written_is_read() -> None:
    # The folders of pytest are closed to the other user, as whom root has to read.
    with tempfile.TemporaryDirectory() as outside:
        Path(outside).chmod(0o755)
        folder = Path(outside) / "copy"
        folder.mkdir()
        database = Database.open(folder / "a.db")
        database.write(put("a", "1"))
        database.close()
        (folder / "a.db").chmod(0o444)
        folder.chmod(0o555)
        result = run(READ_AS_NOBODY, folder / "a.db")
        folder.chmod(0o755)
        assert result.stdout == "{'a': '1'}\n", result.stderr


def test_a_backup_is_a_database_while_all_goes_on(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db")
    database.write(put("a"))
    copy = tmp_path / "copy.db"
    with database.reading() as connection:
        meta.all(connection)
        database.backup(copy)
    database.write(put("b"))
    copied = Database.open(copy)
    assert keys(copied) == ["a"]
    copied.close()
    with pytest.raises(StoreError, match="exists already"):
        database.backup(copy)
    with pytest.raises(StoreError, match="failed"):
        database.backup(tmp_path / "none" / "copy.db")
    with pytest.raises((StoreError, DBAPIError)):
        database.read(put("c"))  # a connection that copied is as strict as before
    database.close()


WRITE_UNTIL_KILLED = """
    import sys
    from pathlib import Path
    from barrelman.store import meta
    from barrelman.store.database import Database
    database = Database.open(Path(sys.argv[1]))
    number = 0
    while True:
        def pair(connection):
            meta.put(connection, f"a{number}", "x" * 2000)
            meta.put(connection, f"b{number}", "x" * 2000)
        soon = [database.write_soon(pair) for _ in range(3)]
        database.write(pair)
        print(number, flush=True)
        number += 1
"""


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.13, 0.3])
def test_a_kill_loses_nothing_that_was_told_to_be_kept(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "a.db"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITE_UNTIL_KILLED), str(path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        told = [int(line) for line in (first + process.stdout.read()).split()]
    database = Database.open(path)
    kept = set(keys(database))
    assert database.check() == []
    database.close()
    assert told
    assert {f"{side}{n}" for n in told for side in "ab"} <= kept
    assert {key[1:] for key in kept if key[0] == "a"} == {key[1:] for key in kept if key[0] == "b"}


# A full disk

FILL = """
    import resource, sys
    from concurrent.futures import wait
    from pathlib import Path
    from barrelman.errors import StoreError
    from barrelman.store import meta
    from barrelman.store.database import Database

    path = Path(sys.argv[1])
    database = Database.open(path)
    database.write(lambda c: meta.put(c, "before", "x"))
    database.read(meta.all)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    kept, number = ["before"], 0
    try:
        while number < 1000:
            database.write(lambda c: meta.put(c, f"k{number:04}", "x" * 50_000))
            kept.append(f"k{number:04}")
            number += 1
    except StoreError as error:
        print(error.message)
        print(database.trouble == error.message)
    large = [lambda c, i=i: meta.put(c, f"g{i}", "y" * 900_000) for i in range(5)]
    group = [database.write_soon(each) for each in large]
    wait(group)
    kept += [f"g{i}" for i, future in enumerate(group) if future.exception() is None]
    print({type(future.exception()).__name__ for future in group})
    print(sorted(database.read(meta.all)) == sorted(kept))
    try:
        database.write(lambda c: meta.put(c, "still full", "x" * 900_000))
    except StoreError:
        print("still full")
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    database.write(lambda c: meta.put(c, "room again", "x"))
    kept.append("room again")
    print(database.trouble, sorted(database.read(meta.all)) == sorted(kept), database.check())
    database.close()
    again = Database.open(path)
    print(sorted(again.read(meta.all)) == sorted(kept))
    again.close()
"""


def test_a_full_disk_is_told_and_the_next_write_works_once_there_is_room(tmp_path: Path) -> None:
    result = run(FILL, tmp_path / "a.db")
    assert result.returncode == 0, result.stderr
    first, *lines = result.stdout.splitlines()
    assert first.startswith(f"the database '{tmp_path}/a.db' cannot be used: the disk ")
    assert lines == ["True", "{'StoreError'}", "True", "still full", "None True []", "True"]


# Statements


def test_upsert_replaces_by_primary_key(database: Database) -> None:
    row = {"path": "p", "device": 1, "inode": 2, "offset": 3, "updated_us": 4, "extra": {"a": 1}}
    database.write(lambda c: upsert(c, offsets, row))
    database.write(lambda c: upsert(c, offsets, [{**row, "offset": 5}, {**row, "inode": 9}]))
    changed = {**row, "offset": 7, "extra": {"b": 2}}
    database.write(lambda c: upsert(c, offsets, changed, update=["extra"]))
    database.write(lambda c: upsert(c, offsets, []))
    query = select(offsets.c.inode, offsets.c.offset, offsets.c.extra).order_by(offsets.c.inode)
    found = database.read(lambda c: c.execute(query).all())
    assert [tuple(each) for each in found] == [(2, 5, {"b": 2}), (9, 3, {"a": 1})]


def test_insert_new_tells_the_new_ones_and_leaves_the_others(database: Database) -> None:
    database.write(put("b", "old"))
    rows = [{"key": key, "value": "new"} for key in "abc"]
    added = database.write(lambda c: insert_new(c, table, rows, key=["key"]))
    assert sorted(added) == [("a",), ("c",)]
    assert database.write(lambda c: insert_new(c, table, rows, key=["key"])) == []
    assert database.write(lambda c: insert_new(c, table, [], key=["key"])) == []
    assert database.read(meta.all) == {"a": "new", "b": "old", "c": "new"}


def test_what_databases_spell_differently_is_spelled_as_postgresql_does() -> None:
    written: list[str] = []

    def keep(statement: Any, *_: Any, **__: Any) -> list[Any]:
        written.append(" ".join(str(statement.compile(dialect=engine.dialect)).split()))
        return []

    engine = create_mock_engine("postgresql+psycopg://", keep)
    connection: Any = engine.connect()
    for each in metadata.sorted_tables:
        row = {column.name: None for column in each.columns}
        upsert(connection, each, row)
        key = [column.name for column in each.primary_key]
        assert insert_new(connection, each, [row], key=key) == []
    assert len(written) == 2 * len(metadata.tables)
    assert any(
        "INSERT INTO meta (key, value)" in each
        and "ON CONFLICT (key) DO UPDATE SET value = excluded.value" in each
        for each in written
    )
    assert any("ON CONFLICT (key) DO NOTHING RETURNING meta.key" in each for each in written)


def test_a_conflict_undoes_its_block_and_the_write_goes_on(database: Database) -> None:
    def write(connection: Connection) -> None:
        meta.put(connection, "before", "x")
        with pytest.raises(ConflictError, match="there is one"):
            collide(connection)
        meta.put(connection, "after", "x")

    def collide(connection: Connection) -> None:
        with telling_conflict(connection, "there is one"):
            meta.put(connection, "inside", "x")
            connection.execute(insert(table).values(key="before", value="y"))

    database.write(write)
    assert keys(database) == ["after", "before"]


def test_json_and_words_take_whatever_text_there_is(database: Database) -> None:
    value = {"half": "\ud800", "nul": "\0", "wide": "é\u2028😀", "n": 2**80, "f": 0.1, "none": None}
    database.write(lambda c: upsert(c, sink_state, {"sink": "s", "json": value}))
    database.write(put("wide é😀", "half \ud800 nul \0."))
    query = select(sink_state.c.json, func.length(sink_state.c.json) > 0)
    assert database.read(lambda c: tuple(c.execute(query).one())) == (value, True)
    assert database.read(meta.all) == {"wide é😀": "half ? nul \ufffd."}
    assert database.read(lambda c: meta.get(c, "wide é😀")) is not None


def test_batches_hold_everything_once_and_in_order() -> None:
    assert list(in_batches(range(5), size=2)) == [[0, 1], [2, 3], [4]]
    assert list(in_batches([], size=2)) == []
    assert list(in_batches(range(4), size=2)) == [[0, 1], [2, 3]]
