"""Ways into the database: connections for the one that writes and for those that read.

What SQLite has to be told (pragmas, when transactions begin), and what its errors mean, is here.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool, QueuePool

from barrelman.errors import StoreError

_READERS: Final = 16
_READER_SECONDS: Final = 30
_BUSY_SECONDS: Final = 10
_WRITER_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA trusted_schema = OFF",
)
_READER_PRAGMAS: Final = (
    "PRAGMA query_only = ON",
    "PRAGMA cache_size = -4000",
    "PRAGMA trusted_schema = OFF",
)
# What SQLite calls trouble that no statement is to blame for, as a person reads it.
_TROUBLE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk gives an error",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_READONLY: "the file may not be written",
    sqlite3.SQLITE_PERM: "the file may not be written",
    sqlite3.SQLITE_AUTH: "the file may not be written",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_BUSY: "another process has locked it",
    sqlite3.SQLITE_LOCKED: "another process has locked it",
    sqlite3.SQLITE_PROTOCOL: "another process has locked it",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}


def url_of(where: Path | str) -> URL:
    """A path or a URL as typed. Raises StoreError for databases that we do not speak to."""
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise StoreError("the URL of the database cannot be read") from error
    if url.get_backend_name() not in ("sqlite", "postgresql") or not url.database:
        raise StoreError(
            "the URL of the database names no SQLite file and no PostgreSQL database",
            hint="write sqlite:///PATH or postgresql://USER@HOST/NAME",
        )
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def make_private(path: Path) -> None:
    """Makes the file, if there is none, readable by its owner alone: it holds hashes of keys."""
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise StoreError(f"the database '{path}' cannot be made: {error.strerror}") from error


def writing_engine(url: URL) -> Engine:
    """Connections that write; each is the caller's own to keep."""
    if url.get_backend_name() != "sqlite":
        return _remote_engine(url, poolclass=NullPool)
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect(url, mode="rw", pragmas=_WRITER_PRAGMAS),
        poolclass=NullPool,
    )
    # At once as a writer: a transaction that began as a reader cannot always become one.
    event.listen(engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def reading_engine(url: URL, *, read_only: bool) -> Engine:
    """A pool of connections that cannot write, and see one state of the database each."""
    pool: dict[str, Any] = {
        "poolclass": QueuePool,
        "pool_size": _READERS // 4,
        "max_overflow": _READERS - _READERS // 4,
        "pool_timeout": _READER_SECONDS,
    }
    if url.get_backend_name() != "sqlite":
        return _remote_engine(
            url,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
            **pool,
        )
    mode = "ro" if read_only else "rw"
    engine = create_engine(
        "sqlite://", creator=lambda: _connect(url, mode=mode, pragmas=_READER_PRAGMAS), **pool
    )
    event.listen(engine, "begin", lambda c: c.exec_driver_sql("BEGIN"))
    return engine


def _remote_engine(url: URL, **options: Any) -> Engine:
    try:
        return create_engine(url, **options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            f"the driver for {url.drivername} is not installed ({error})",
            hint="install it, as with: pip install 'psycopg[binary]'",
        ) from error


def _connect(url: URL, *, mode: str, pragmas: Sequence[str]) -> sqlite3.Connection:
    path = Path(url.database or "").absolute()
    connection = _open(f"{path.as_uri()}?mode={mode}")
    try:
        if mode == "ro" and not _has_access(connection) and not _pending_bytes(path):
            connection.close()
            connection = _open(f"{path.as_uri()}?mode=ro&immutable=1")
        for pragma in pragmas:
            connection.execute(pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(uri: str) -> sqlite3.Connection:
    # No isolation level: the driver leaves BEGIN to us, so that savepoints and DDL are ours, too.
    return sqlite3.connect(
        uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _has_access(connection: sqlite3.Connection) -> bool:
    """False in a folder that may not be written: readers keep a file beside the database."""
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        if _code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            return False
        raise
    return True


def _pending_bytes(path: Path) -> int:
    """What was written and is not in the database file yet. Only without it is that file all."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


@contextlib.contextmanager
def telling_trouble(name: str) -> Iterator[None]:
    """Trouble of the database as a StoreError; mistakes in statements stay as they are."""
    try:
        yield
    except PoolTimeoutError as error:
        raise StoreError(f"too many readers of the database '{name}'") from error
    except DBAPIError as error:
        trouble = _trouble_of(error)
        if trouble is None:
            raise
        raise StoreError(f"the database '{name}' cannot be used: {trouble}") from error


def _trouble_of(error: DBAPIError) -> str | None:
    """What went wrong underneath, or None where a statement is at fault."""
    if isinstance(error.orig, sqlite3.Error):
        return _TROUBLE.get(_code(error.orig)) and reason_of(error.orig)
    is_outside = isinstance(error, OperationalError | InterfaceError)
    return str(error.orig).strip() if is_outside else None


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def reason_of(error: sqlite3.Error) -> str:
    """What went wrong, as a person reads it, and SQLite's own words."""
    known = _TROUBLE.get(_code(error))
    return f"{known} ({error})" if known else str(error)
