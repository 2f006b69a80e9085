"""Which events came before: their keys of at least the last day, on disk.

The log is the truth of the newest rows. Their keys wait in memory until there are enough of them
to be written at once: a key falls anywhere among those of its minute, and page by page a thousand
keys cost what fifty thousand do.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path

from barrelman.errors import Place, StoreError

KEEP_US = 26 * 3600 * 1_000_000
_MINUTE_US = 60_000_000
# Minutes before 1970 count, too: 32 bits reach 4,000 years back and on.
_FIRST_MINUTE = -(1 << 31)
_KEY = struct.Struct(">IQI")
_CACHE_KIB = 24_000
_FLUSH_KEYS = 20_000
_MOST_PENDING = 400_000
_FORGET_KEYS = 20_000

# Keys come as one value, 16 bytes each: a step of SQLite per key would let go of the interpreter's
# lock as often, and wait for it as often.
_EACH = "WITH RECURSIVE n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count)"
_KNOWN = f"""{_EACH} SELECT group_concat(i) FROM n
    WHERE EXISTS (SELECT 1 FROM seen WHERE k = substr(:keys, i * 16 + 1, 16))"""
_ENTER = f"{_EACH} INSERT OR IGNORE INTO seen SELECT substr(:keys, i * 16 + 1, 16) FROM n"
_FORGET = """DELETE FROM seen WHERE k IN
    (SELECT k FROM seen WHERE k >= :low AND k < :high LIMIT :count)"""
_LAST = """INSERT INTO minutes VALUES (?, ?)
    ON CONFLICT (minute) DO UPDATE SET last_us = max(last_us, excluded.last_us)"""
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS seen (k BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS minutes (minute INTEGER PRIMARY KEY, last_us INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class Seen:
    """Keys of stored events. One thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._pending: set[bytes] = set()
        self._minutes: dict[int, int] = {}
        """Minutes of the pending keys: the last arrival in each."""
        self._through = self._read_through()
        self.is_corrupt = False
        """Whether the file was found to be broken."""

    @classmethod
    def open(cls, path: Path) -> Seen:
        """Raises `sqlite3.DatabaseError` where the file is no database."""
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            # Nobody else reads it: so no second file for what processes share.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.executescript(_SCHEMA)
            return cls(path, connection)
        except BaseException:
            connection.close()
            raise

    @property
    def through(self) -> int:
        """The keys of all rows before this seq are on disk."""
        return self._through

    @property
    def is_due(self) -> bool:
        """Whether enough keys wait to be written."""
        return len(self._pending) >= _FLUSH_KEYS

    def again(self, keys: Sequence[bytes]) -> set[int]:
        """Which of these keys came before, in the store or earlier in `keys`, by position."""
        again: set[int] = set()
        distinct = set(keys)
        if len(distinct) < len(keys) or not self._pending.isdisjoint(distinct):
            met: set[bytes] = set()
            for at, key in enumerate(keys):
                if key in met or key in self._pending:
                    again.add(at)
                met.add(key)
        for at in range(0, len(keys), _FLUSH_KEYS):
            part = keys[at : at + _FLUSH_KEYS]
            (known,) = self._do(_KNOWN, {"keys": b"".join(part), "count": len(part)}).fetchone()
            if known is not None:
                again.update(at + int(each) for each in known.split(","))
        return again

    def enter(self, keys: Sequence[bytes], *, arrival_us: int) -> None:
        """Remembers keys of rows that are in the log."""
        self._pending.update(keys)
        for minute in {key[:4] for key in keys}:
            number = int.from_bytes(minute, "big")
            self._minutes[number] = max(arrival_us, self._minutes.get(number, arrival_us))

    def refuse_if_behind(self) -> None:
        """Raises where keys could not be written for so long that they would fill memory."""
        if len(self._pending) >= _MOST_PENDING:
            self.flush(through=self._through)

    def flush(self, *, through: int) -> None:
        """Writes what waits, durably; with it the keys of all rows before `through` are."""
        if not self._pending and through == self._through:
            return
        keys = sorted(self._pending)
        self._do("BEGIN IMMEDIATE")
        try:
            for at in range(0, len(keys), _FLUSH_KEYS):
                part = keys[at : at + _FLUSH_KEYS]
                self._do(_ENTER, {"keys": b"".join(part), "count": len(part)})
            self._connection.executemany(_LAST, list(self._minutes.items()))
            self._do("INSERT OR REPLACE INTO state VALUES ('through', :seq)", {"seq": through})
            self._do("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise self._failure(error) from error
        except StoreError:
            self._undo()
            raise
        self._pending.clear()
        self._minutes.clear()
        self._through = through

    def forget(self, before_us: int) -> int:
        """Deletes some keys of minutes in which nothing arrived since; how many."""
        low = self._do(
            "SELECT minute FROM minutes WHERE last_us < :before ORDER BY minute LIMIT 1",
            {"before": before_us},
        ).fetchone()
        if low is None or low[0] in self._minutes:
            return 0
        minute = low[0].to_bytes(4, "big")
        bounds = {
            "low": minute,
            "high": (low[0] + 1).to_bytes(5, "big")[-4:],
            "count": _FORGET_KEYS,
        }
        gone = self._do(_FORGET, bounds).rowcount
        if gone < _FORGET_KEYS:
            self._do("DELETE FROM minutes WHERE minute = :minute", {"minute": low[0]})
        return gone

    def close(self) -> None:
        """Lets go of the file; what waits is in the log."""
        self._connection.close()

    def _read_through(self) -> int:
        found = self._connection.execute(
            "SELECT value FROM state WHERE name = 'through'"
        ).fetchone()
        return 0 if found is None else int(found[0])

    def _do(self, statement: str, values: dict[str, object] | None = None) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values or {})
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.rollback()

    def _failure(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        self.is_corrupt = code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
        return StoreError(f"keys of events cannot be kept: {error}", place=Place(str(self._path)))


def key_of(key: tuple[int, int], *, time_us: int | None, arrival_us: int) -> bytes:
    """A row's key as it is kept: by minute of its own time, else of its arrival."""
    minute = (arrival_us if time_us is None else time_us) // _MINUTE_US - _FIRST_MINUTE
    return _KEY.pack(minute & 0xFFFF_FFFF, *key)


def keys_of(
    keys: Sequence[bytes], *, times_us: Sequence[int | None], arrivals_us: Sequence[int]
) -> list[bytes]:
    """The same for keys as they stand in their column."""
    kept = []
    for key, time_us, arrival_us in zip(keys, times_us, arrivals_us, strict=True):
        minute = (arrival_us if time_us is None else time_us) // _MINUTE_US - _FIRST_MINUTE
        kept.append((minute & 0xFFFF_FFFF).to_bytes(4, "big") + key)
    return kept
