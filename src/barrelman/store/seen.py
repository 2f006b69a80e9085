"""Which events came before: their keys of at least the last day, on disk.

The log is the truth of the newest rows. Their keys wait in memory until there are enough of them
to be written at once: a key falls anywhere among those of its minute, and page by page a thousand
keys cost what fifty thousand do.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from barrelman.errors import Place, StoreError

KEEP_US = 26 * 3600 * 1_000_000
_MINUTE_US = 60_000_000
# Minutes before 1970 count, too: 32 bits reach 4,000 years back and on.
_FIRST_MINUTE = -(1 << 31)
# In place of a minute where a row has no time. Those are rare, and each is kept with its arrival.
_NO_MINUTE = 0
_UNTIMED = bytes(4)
_KEY = struct.Struct(">IQI")
_CACHE_KIB = 16_000
_FLUSH_KEYS = 20_000
_MOST_WAITING = 300_000
_FORGET_KEYS = 20_000

# Keys come as one value, 16 bytes each: a step of SQLite per key would let go of the interpreter's
# lock as often, and wait for it as often.
_EACH = "WITH RECURSIVE n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :count)"
_KNOWN = f"""{_EACH} SELECT group_concat(i) FROM n
    WHERE EXISTS (SELECT 1 FROM seen WHERE k = substr(:keys, i * 16 + 1, 16))"""
_KNOWN_UNTIMED = "SELECT 1 FROM untimed WHERE k = :key"
_ENTER = f"{_EACH} INSERT OR IGNORE INTO seen SELECT substr(:keys, i * 16 + 1, 16) FROM n"
_FORGET = """DELETE FROM seen WHERE k IN
    (SELECT k FROM seen WHERE k >= :low AND k < :high LIMIT :count)"""
_ENTER_UNTIMED = """INSERT INTO untimed VALUES (?, ?)
    ON CONFLICT (k) DO UPDATE SET last_us = max(last_us, excluded.last_us)"""
_FORGET_UNTIMED = """DELETE FROM untimed WHERE k IN
    (SELECT k FROM untimed WHERE last_us < :before LIMIT :count)"""
_LAST = """INSERT INTO minutes VALUES (?, ?)
    ON CONFLICT (minute) DO UPDATE SET last_us = max(last_us, excluded.last_us)"""
_ACKNOWLEDGED = "INSERT OR REPLACE INTO state VALUES ('acknowledged', :seq)"
_THROUGH = "INSERT OR REPLACE INTO state VALUES ('through', :seq)"
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS seen (k BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS minutes (minute INTEGER PRIMARY KEY, last_us INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS untimed (k BLOB PRIMARY KEY, last_us INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS untimed_by_arrival ON untimed (last_us);
    CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class _Waiting:
    """Keys that are not on disk yet, and the last arrival in each minute of theirs."""

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self.minutes: dict[int, int] = {}
        self.untimed: dict[bytes, int] = {}
        """Those of `keys` that have no minute, and when they arrived."""


class Seen:
    """Keys of stored events. One thread asks and enters; any one may flush and forget.

    While keys are written, what they were taken from stays in sight until they are on disk.
    """

    def __init__(self, path: Path, asking: sqlite3.Connection, writing: sqlite3.Connection) -> None:
        self._path = path
        self._asking = asking
        self._writing = writing
        self._lock = threading.Lock()
        """Held while there is writing."""
        self._older_lock = threading.Lock()
        self._newest = _Waiting()
        self._older: tuple[_Waiting, ...] = ()
        self._through = self._state("through")
        self._acknowledged_seq = self._state("acknowledged")
        self.is_corrupt = False
        """Whether the file was found to be broken."""

    @classmethod
    def open(cls, path: Path) -> Seen:
        """Raises `sqlite3.DatabaseError` where the file is no database."""
        writing = _connected(path)
        try:
            writing.executescript(_SCHEMA)
            asking = _connected(path)
        except BaseException:
            writing.close()
            raise
        try:
            return cls(path, asking, writing)
        except BaseException:
            asking.close()
            writing.close()
            raise

    @property
    def through(self) -> int:
        """The keys of all rows before this seq are on disk."""
        return self._through

    @property
    def acknowledged_seq(self) -> int:
        """All rows before this seq were stored once, and that was told."""
        return max(self._through, self._acknowledged_seq)

    @property
    def is_due(self) -> bool:
        """Whether enough keys wait to be written."""
        return len(self._newest.keys) >= _FLUSH_KEYS

    @property
    def is_behind(self) -> bool:
        """Whether so many keys wait that they begin to fill memory."""
        return len(self._newest.keys) + sum(len(each.keys) for each in self._older) >= _MOST_WAITING

    def again(self, keys: Sequence[bytes]) -> set[int]:
        """Which of these keys came before, in the store or earlier in `keys`, by position."""
        again: set[int] = set()
        distinct = set(keys)
        # In this order: a key may be on its way from the newest to the older ones to the disk.
        for waiting in (self._newest, *self._older):
            if not waiting.keys.isdisjoint(distinct):
                again.update(at for at, key in enumerate(keys) if key in waiting.keys)
        if len(distinct) < len(keys):
            met: set[bytes] = set()
            for at, key in enumerate(keys):
                if key in met:
                    again.add(at)
                met.add(key)
        for at in range(0, len(keys), _FLUSH_KEYS):
            part = keys[at : at + _FLUSH_KEYS]
            values = {"keys": b"".join(part), "count": len(part)}
            (known,) = self._do(self._asking, _KNOWN, values).fetchone()
            if known is not None:
                again.update(at + int(each) for each in known.split(","))
        for at, key in enumerate(keys):
            if key.startswith(_UNTIMED) and at not in again:
                found = self._do(self._asking, _KNOWN_UNTIMED, {"key": key}).fetchone()
                if found is not None:
                    again.add(at)
        return again

    def enter(self, keys: Sequence[bytes], *, arrival_us: int) -> None:
        """Remembers keys of rows that are in the log."""
        waiting = self._newest
        waiting.keys.update(keys)
        minutes = {key[:4] for key in keys}
        if _UNTIMED in minutes:
            minutes.remove(_UNTIMED)
            waiting.untimed.update((key, arrival_us) for key in keys if key.startswith(_UNTIMED))
        for minute in minutes:
            number = int.from_bytes(minute, "big")
            waiting.minutes[number] = max(arrival_us, waiting.minutes.get(number, arrival_us))

    def set_apart(self) -> None:
        """What was entered up to now is for the next flush. For the thread that enters."""
        if not self._newest.keys:
            return
        with self._older_lock:
            self._older = (*self._older, self._newest)
        self._newest = _Waiting()

    def flush(self, *, through: int) -> None:
        """Writes what was set apart, durably; with it the keys of all rows before `through` are."""
        with self._lock:
            older = self._older
            keys = sorted({key for each in older for key in each.keys.difference(each.untimed)})
            if older or through > self._through:
                self._write(keys, older, max(through, self._through))
            with self._older_lock:
                self._older = self._older[len(older) :]

    def forget(self, before_us: int) -> int:
        """Deletes some keys of minutes in which nothing arrived since; how many."""
        with self._lock:
            values = {"before": before_us, "count": _FORGET_KEYS}
            return self._do(self._writing, _FORGET_UNTIMED, values).rowcount + self._forget_minute(
                before_us
            )

    def clear(self, *, acknowledged_seq: int) -> None:
        """Forgets all keys that are on disk, but not how many rows there have been."""
        with self._lock:
            steps = ["DELETE FROM seen", "DELETE FROM minutes", "DELETE FROM untimed"]
            self._do(self._writing, "BEGIN IMMEDIATE")
            try:
                for each in steps:
                    self._do(self._writing, each)
                self._do(self._writing, _THROUGH, {"seq": 0})
                self._do(self._writing, _ACKNOWLEDGED, {"seq": acknowledged_seq})
                self._do(self._writing, "COMMIT")
            except StoreError:
                self._undo()
                raise
            self._through = 0
            self._acknowledged_seq = acknowledged_seq

    def close(self) -> None:
        """Lets go of the file; what waits is in the log."""
        self._asking.close()
        self._writing.close()

    def _forget_minute(self, before_us: int) -> int:
        low = self._do(
            self._writing,
            "SELECT minute FROM minutes WHERE last_us < :before ORDER BY minute LIMIT 1",
            {"before": before_us},
        ).fetchone()
        if low is None or any(low[0] in each.minutes for each in (*self._older, self._newest)):
            return 0
        span = {"low": low[0].to_bytes(4, "big"), "high": (low[0] + 1).to_bytes(5, "big")[1:]}
        gone = self._do(self._writing, _FORGET, {**span, "count": _FORGET_KEYS}).rowcount
        if gone < _FORGET_KEYS:
            gone_minute = {"minute": low[0]}
            self._do(self._writing, "DELETE FROM minutes WHERE minute = :minute", gone_minute)
        return gone

    def _write(self, keys: list[bytes], older: Sequence[_Waiting], through: int) -> None:
        self._do(self._writing, "BEGIN IMMEDIATE")
        try:
            for at in range(0, len(keys), _FLUSH_KEYS):
                part = keys[at : at + _FLUSH_KEYS]
                self._do(self._writing, _ENTER, {"keys": b"".join(part), "count": len(part)})
            for each in older:
                self._writing.executemany(_LAST, list(each.minutes.items()))
                self._writing.executemany(_ENTER_UNTIMED, list(each.untimed.items()))
            self._do(self._writing, _THROUGH, {"seq": through})
            self._do(self._writing, "COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise self._failure(error) from error
        except StoreError:
            self._undo()
            raise
        self._through = through

    def _state(self, name: str) -> int:
        found = self._writing.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return 0 if found is None else int(found[0])

    def _do(
        self,
        connection: sqlite3.Connection,
        statement: str,
        values: Mapping[str, object] | None = None,
    ) -> sqlite3.Cursor:
        try:
            return connection.execute(statement, values or {})
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _undo(self) -> None:
        if self._writing.in_transaction:
            self._writing.rollback()

    def _failure(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            self.is_corrupt = True
        return StoreError(f"keys of events cannot be kept: {error}", place=Place(str(self._path)))


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def key_of(key: tuple[int, int], *, time_us: int | None) -> bytes:
    """A row's key as it is kept: by minute of its own time, where it has one."""
    minute = _NO_MINUTE if time_us is None else time_us // _MINUTE_US - _FIRST_MINUTE
    return _KEY.pack(minute & 0xFFFF_FFFF, *key)


def keys_of(keys: Sequence[bytes], *, times_us: Sequence[int | None]) -> list[bytes]:
    """The same for keys as they stand in their column."""
    kept = []
    for key, time_us in zip(keys, times_us, strict=True):
        minute = _NO_MINUTE if time_us is None else time_us // _MINUTE_US - _FIRST_MINUTE
        kept.append((minute & 0xFFFF_FFFF).to_bytes(4, "big") + key)
    return kept
