"""How far files were read: one row for each content that was met, and one for each pattern.

A content is known by its first bytes, not by its name: a log is renamed, copied and compressed,
and stays the same content.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import and_, delete, select

from barrelman.records.frozen import frozen
from barrelman.store.database import Connection, Database, in_batches, upsert
from barrelman.store.tables import offsets as _offsets

OffsetKey: TypeAlias = tuple[str, int, int]

NO_FILE: Final = -1
"""The device of a content that no file of its own holds any more."""
_PATTERN: Final = -2
# No name of a cluster holds it.
_BAR: Final = "|"


@frozen
class FileOffset:
    """Before `offset` everything is stored for good. Offsets count plain, not compressed bytes."""

    cluster: str
    path: str
    device: int
    inode: int
    offset: int
    head_bytes: int
    """How many of the first bytes `head_hash` is of."""
    head_hash: str
    is_finished: bool
    """The file was read to its end, and nobody writes to it any more."""
    updated_us: int

    @property
    def key(self) -> OffsetKey:
        """What the row is found by."""
        if self.device == NO_FILE:
            return _row_path(self.cluster, self.path), NO_FILE, int(self.head_hash[:15], 16)
        return _row_path(self.cluster, self.path), self.device, self.inode


class OffsetBook:
    """The table of offsets, for files that are followed. Any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, cluster: str) -> list[FileOffset]:
        """All that is known of a cluster's files."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_offsets)
                .where(_offsets.c.device != _PATTERN, _offsets.c.path.startswith(cluster + _BAR))
                .order_by(_offsets.c.updated_us)
            )
            found = [_offset_of(row._mapping) for row in rows]
        return [each for each in found if each.cluster == cluster]

    def patterns(self, cluster: str) -> set[str]:
        """The patterns that have been followed before."""
        start = cluster + _BAR
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_offsets.c.path).where(_offsets.c.device == _PATTERN)
            ).scalars()
            return {str(row).removeprefix(start) for row in rows if str(row).startswith(start)}

    def save(
        self,
        changed: Sequence[FileOffset],
        *,
        gone: Collection[OffsetKey] = (),
        patterns: Collection[str] = (),
        cluster: str = "",
        now_us: int = 0,
    ) -> None:
        """Writes rows and deletes others, all of it or nothing. Raises StoreError."""
        noted = [_pattern_row(cluster, pattern, now_us) for pattern in patterns]

        def write(connection: Connection) -> None:
            _delete(connection, gone)
            for batch in in_batches([*map(_row_of, changed), *noted]):
                upsert(connection, _offsets, batch)

        self._database.write(write)


def _delete(connection: Connection, keys: Collection[OffsetKey]) -> None:
    columns = _offsets.c
    for path, device, inode in keys:
        same = and_(columns.path == path, columns.device == device, columns.inode == inode)
        connection.execute(delete(_offsets).where(same))


def _row_path(cluster: str, path: str) -> str:
    return f"{cluster}{_BAR}{path}"


def _row_of(each: FileOffset) -> dict[str, Any]:
    path, device, inode = each.key
    return {
        "path": path,
        "device": device,
        "inode": inode,
        "offset": each.offset,
        "head_hash": each.head_hash,
        "updated_us": each.updated_us,
        "extra": {"head_bytes": each.head_bytes, "is_finished": each.is_finished},
    }


def _pattern_row(cluster: str, pattern: str, now_us: int) -> dict[str, Any]:
    return {
        "path": _row_path(cluster, pattern),
        "device": _PATTERN,
        "inode": 0,
        "offset": 0,
        "head_hash": None,
        "updated_us": now_us,
        "extra": None,
    }


def _offset_of(row: Any) -> FileOffset:
    cluster, _, path = str(row["path"]).partition(_BAR)
    extra = row["extra"] or {}
    return FileOffset(
        cluster=cluster,
        path=path,
        device=int(row["device"]),
        inode=int(row["inode"]),
        offset=int(row["offset"]),
        head_bytes=int(extra.get("head_bytes", 0)),
        head_hash=str(row["head_hash"] or ""),
        is_finished=bool(extra.get("is_finished")),
        updated_us=int(row["updated_us"]),
    )
