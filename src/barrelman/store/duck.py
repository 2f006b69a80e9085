"""SQL over Parquet files and Arrow tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from barrelman.errors import StoreError

# What these say is a mistake of ours in a statement; all else is about files and memory.
_BUGS = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)


class Duck:
    """A database in memory that holds nothing itself. Any thread may ask."""

    def __init__(self, *, memory: str, threads: int, temporary: Path | None) -> None:
        self._connection = duckdb.connect(
            config={
                "memory_limit": memory,
                "threads": str(threads),
                # Without a folder nothing spills: then it is memory that bounds a search.
                "temp_directory": "" if temporary is None else str(temporary),
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                # Nobody asks for an order but by ORDER BY, and keeping it takes memory.
                "preserve_insertion_order": "false",
            }
        )
        self._connection.execute("SET parquet_metadata_cache = true")

    def rows(
        self, statement: str, values: Mapping[str, object], tables: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """What a statement gives. Raises `StoreError` where a file is gone or broken."""
        try:
            cursor = self._connection.cursor()
        except duckdb.Error as error:
            raise StoreError("the event store is closed") from error
        try:
            for name, table in tables.items():
                cursor.register(name, table)
            return cursor.execute(statement, dict(values)).fetchall()
        except _BUGS:
            raise
        except duckdb.Error as error:
            first, _, _ = str(error).partition("\n")
            raise StoreError(f"events cannot be searched: {first}") from error
        finally:
            cursor.close()

    def close(self) -> None:
        """Lets go of its memory."""
        self._connection.close()


def literal_path(path: Path) -> str:
    """A path as a pattern that only it meets."""
    return re.sub(r"[*?\[]", lambda found: f"[{found.group()}]", str(path))
