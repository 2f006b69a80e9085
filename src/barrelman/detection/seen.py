"""Which alert ids were met before: exact, and bounded in memory however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

# About 25 MB of dictionary; what comes after lives in a temporary database.
DEFAULT_HELD: Final = 200_000
_CACHE_KIB: Final = 16 * 1024


class SeenIds:
    """Remembers a 16-byte id and a mark with it.

    The database is SQLite's own temporary one ("" as its name): a file that SQLite deletes.
    """

    def __init__(self, *, held: int = DEFAULT_HELD) -> None:
        self._held = held
        self._recent: dict[bytes, int] = {}
        self._older: sqlite3.Connection | None = None

    def add(self, key: bytes, mark: int) -> int | None:
        """None where the id is new, which is remembered; else the mark it was first seen with."""
        known = self._recent.get(key)
        if known is None and self._older is not None:
            row = self._older.execute("SELECT mark FROM seen WHERE id = ?", (key,)).fetchone()
            known = None if row is None else row[0]
        if known is not None:
            return known
        self._recent[key] = mark
        if len(self._recent) > self._held:
            self._move_out()
        return None

    def has(self, key: bytes) -> bool:
        """Whether an id was met; it is not remembered for that."""
        if key in self._recent:
            return True
        if self._older is None:
            return False
        row = self._older.execute("SELECT 1 FROM seen WHERE id = ?", (key,)).fetchone()
        return row is not None

    def close(self) -> None:
        if self._older is not None:
            self._older.close()

    def _move_out(self) -> None:
        if self._older is None:
            import sqlite3  # few scans have so many alerts

            self._older = sqlite3.connect("", isolation_level=None)
            self._older.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._older.execute("PRAGMA journal_mode = OFF")
            self._older.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, mark INT) WITHOUT ROWID")
        self._older.execute("BEGIN")
        self._older.executemany("INSERT INTO seen VALUES (?, ?)", sorted(self._recent.items()))
        self._older.execute("COMMIT")
        self._recent.clear()
