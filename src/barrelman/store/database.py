"""The database: one thread that writes, any number that read.

All writing goes through one thread, so that what a function reads before it writes is still so
when it writes. Functions that wait for the thread at the same time share one commit, each inside a
savepoint of its own: the fsync is paid once, and an error of one leaves the others alone.

Readers have connections of their own, and each sees the database as it was when it began.

Nothing else in the project knows that there is SQLite underneath.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

from sqlalchemy import Connection, Select, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError

from barrelman.errors import ConflictError, StoreError
from barrelman.store.engines import (
    make_private,
    reading_engine,
    reason_of,
    telling_trouble,
    url_of,
    writing_engine,
)
from barrelman.store.migrations import migrate, missing_steps

__all__ = [
    "Connection",
    "Database",
    "in_batches",
    "insert_new",
    "selecting",
    "telling_conflict",
    "upsert",
    "values_of",
]

_T = TypeVar("_T")
_Item = TypeVar("_Item")

BATCH: Final = 500
"""How many values one statement is given at most: databases have a limit."""

_GROUP: Final = 200
_WAITING: Final = 10_000


class _Job(NamedTuple):
    run: Callable[[Connection], Any]
    future: Future[Any]


class _Outcome(NamedTuple):
    value: Any = None
    error: BaseException | None = None


class Database:
    """An open database; any thread may call any method. Made by `open`."""

    def __init__(self, url: URL, *, read_only: bool) -> None:
        self.name = url.database or url.render_as_string()
        self.trouble: str | None = None
        """Why the last writes could not be kept; None where they could."""
        self._is_read_only = read_only
        self._readers = reading_engine(url, read_only=read_only)
        self._writers = writing_engine(url)
        self._connection: Connection | None = None  # the thread's own
        self._changed = threading.Condition()  # guards the three below
        self._jobs: deque[_Job] = deque()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @classmethod
    def open(cls, where: Path | str, *, read_only: bool = False, now_us: int = 0) -> Self:
        """Opens a path or an SQLAlchemy URL; makes what is missing, migrates what is old.

        `read_only` is for other processes: it makes and migrates nothing, and holds up nobody.
        """
        url = url_of(where)
        database = cls(url, read_only=read_only)
        try:
            if read_only:
                database._check_version()
            else:
                if url.get_backend_name() == "sqlite":
                    make_private(Path(url.database or ""))
                database._start()
                database.write(lambda connection: migrate(connection, now_us=now_us))
        except BaseException:
            database.close()
            raise
        return database

    def write(self, run: Callable[[Connection], _T]) -> _T:
        """Runs a function in the writing thread, in a transaction: what it wrote is then on disk.

        What the function raises undoes what it did, and is raised here. Raises StoreError where
        the disk is full or fails: nothing was kept then, and a later attempt may succeed.
        """
        future: Future[_T] = Future()
        self._put(_Job(run, future), wait=True)
        return future.result()

    def write_soon(self, run: Callable[[Connection], _T]) -> Future[_T]:
        """As `write`, but waits for nothing: neither the result nor room among the waiting."""
        future: Future[_T] = Future()
        try:
            self._put(_Job(run, future), wait=False)
        except StoreError as error:
            future.set_exception(error)
        return future

    def read(self, run: Callable[[Connection], _T]) -> _T:
        """Runs a function on a connection that sees one state of the database and cannot write.

        What it gives must not read on by itself: for rows taken one by one, see `reading`.
        """
        with self.reading() as connection:
            return run(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection as `read` gives one, for as long as the block lasts."""
        with telling_trouble(self.name), self._readers.connect() as connection, connection.begin():
            yield connection

    @property
    def waiting(self) -> int:
        """How many writes wait for the thread."""
        return len(self._jobs)

    def check(self) -> list[str]:
        """What is damaged in an SQLite file, one sentence each; reads all of it."""
        if self._readers.dialect.name != "sqlite":
            return []
        try:
            with self.reading() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check(20)").scalars().all()
        except StoreError as error:  # damaged beyond what a check gets through
            return [error.message]
        return [str(line) for line in found if line != "ok"]

    def backup(self, path: Path) -> None:
        """Writes a copy of an SQLite database to a new file, while all goes on."""
        if self._readers.dialect.name != "sqlite":
            raise StoreError("only a database in a file can be copied to a file")
        if path.exists():
            raise StoreError(f"'{path}' exists already", hint="name a new file")
        with telling_trouble(self.name), self._readers.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            try:
                raw.execute("PRAGMA query_only = OFF")  # which VACUUM INTO minds
                raw.execute("VACUUM INTO ?", (str(path),))
            except sqlite3.Error as error:
                path.unlink(missing_ok=True)
                raise StoreError(f"the copy to '{path}' failed: {reason_of(error)}") from error
            finally:
                raw.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """Finishes the writes that wait, then closes. Later writes raise StoreError."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._readers.dispose()
        self._writers.dispose()

    def _check_version(self) -> None:
        if self.read(missing_steps):
            raise StoreError(
                f"the database '{self.name}' is of an older version",
                hint="start the service once, which brings it up to date",
            )

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="database writer", daemon=True)
        self._thread.start()

    def _put(self, job: _Job, *, wait: bool) -> None:
        if self._is_read_only:
            raise StoreError(f"the database '{self.name}' is open for reading only")
        if threading.current_thread() is self._thread:
            raise RuntimeError("a write from inside a write would wait for itself")
        with self._changed:
            while len(self._jobs) >= _WAITING and not self._is_closed:
                if not wait:
                    raise StoreError("too many writes are waiting for the database")
                self._changed.wait()
            if self._is_closed:
                raise StoreError(f"the database '{self.name}' is closed")
            self._jobs.append(job)
            self._changed.notify_all()

    def _take(self) -> list[_Job]:
        """What waits, a group's worth; waits for it. Nothing once all is closed and done."""
        with self._changed:
            while not self._jobs and not self._is_closed:
                self._changed.wait()
            taken = [self._jobs.popleft() for _ in range(min(len(self._jobs), _GROUP))]
            self._changed.notify_all()
        return taken

    def _work(self) -> None:
        while jobs := self._take():
            wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if wanted:
                self._settle(wanted)
            del jobs, wanted  # and what they hold, while the thread waits
        self._drop_connection()

    def _settle(self, jobs: Sequence[_Job]) -> None:
        """Runs and commits a group, then tells each waiter how its own part went."""
        try:
            with telling_trouble(self.name):
                outcomes = self._commit(jobs)
        except StoreError as error:
            self._drop_connection()
            outcomes = [_Outcome(error=_copy(error)) for _ in jobs]
        except BaseException as error:  # noqa: BLE001  # a bug: all who wait hear of it
            self._drop_connection()
            outcomes = [_Outcome(error=error) for _ in jobs]
        troubles = [each.error for each in outcomes if isinstance(each.error, StoreError)]
        self.trouble = troubles[0].message if troubles else None
        for job, outcome in zip(jobs, outcomes, strict=True):
            if outcome.error is None:
                job.future.set_result(outcome.value)
            else:
                job.future.set_exception(outcome.error)

    def _commit(self, jobs: Sequence[_Job]) -> list[_Outcome]:
        if self._connection is None:
            self._connection = self._writers.connect()
        connection = self._connection
        transaction = connection.begin()
        outcomes = [_attempt(connection, job.run, name=self.name) for job in jobs]
        transaction.commit()
        return outcomes

    def _drop_connection(self) -> None:
        """The next write opens another: who knows what state an error left this one in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError, sqlite3.Error):
                connection.invalidate()
                connection.close()


def _attempt(connection: Connection, run: Callable[[Connection], Any], *, name: str) -> _Outcome:
    """Runs one function of a group. Raises only what leaves the others nothing to go on with."""
    savepoint = connection.begin_nested()
    try:
        with telling_trouble(name):
            value = run(connection)
    except BaseException as error:  # noqa: BLE001  # whatever it is: for the one who waits for it
        try:
            savepoint.rollback()
        except DBAPIError:  # some errors end the transaction, savepoints and all
            raise error from error.__cause__
        return _Outcome(error=error)
    savepoint.commit()
    return _Outcome(value)


def _copy(error: StoreError) -> StoreError:
    """The same to be raised in another thread: an error being raised takes notes of where."""
    copied = error.at()
    copied.__cause__ = error.__cause__
    return copied


@contextlib.contextmanager
def telling_conflict(connection: Connection, message: str) -> Iterator[None]:
    """What a block writes against a unique key is undone and raised as ConflictError.

    The transaction goes on: the caller may catch it and write something else.
    """
    try:
        with connection.begin_nested():
            yield
    except IntegrityError as error:
        raise ConflictError(message) from error


def in_batches(items: Iterable[_Item], *, size: int = BATCH) -> Iterator[list[_Item]]:
    """The items in lists of at most `size`."""
    batch: list[_Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def selecting(table: Table, kind: type[Any]) -> Select[*tuple[Any, ...]]:
    """A query for the columns that a class of values has fields of, in the order of these."""
    return select(*(table.c[field.name] for field in dataclasses.fields(kind)))


def values_of(stored: Any) -> dict[str, Any]:
    """The fields of a value, by name, as an INSERT takes them."""
    return {field.name: getattr(stored, field.name) for field in dataclasses.fields(stored)}


def upsert(
    connection: Connection,
    table: Table,
    rows: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    update: Sequence[str] | None = None,
) -> None:
    """Inserts rows, and where a row of the same primary key exists, replaces its values.

    All rows name the same columns. `update`: which of them to replace; all by default.
    """
    many = [rows] if isinstance(rows, Mapping) else list(rows)
    if many:
        keys = [column.name for column in table.primary_key]
        replaced = [name for name in many[0] if name not in keys] if update is None else update
        made = _inserting(connection.dialect.name, table)
        changes = {name: made.excluded[name] for name in replaced}
        connection.execute(made.on_conflict_do_update(index_elements=keys, set_=changes), many)


def insert_new(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    give: Sequence[str] | None = None,
) -> list[tuple[Any, ...]]:
    """Inserts the rows whose `key` columns are not yet there; gives these, in any order.

    `key` must be a primary key or a unique constraint. `give`: the columns to give, by default
    those of the key.
    """
    if not rows:
        return []
    made = _inserting(connection.dialect.name, table).on_conflict_do_nothing(index_elements=key)
    asked = made.returning(*(table.c[name] for name in give or key))
    return [tuple(row) for row in connection.execute(asked, rows)]


def _inserting(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
