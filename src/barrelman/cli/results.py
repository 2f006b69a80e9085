"""What a query finds, written: JSON as it came, a table for people, CSV for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import IO, Any, Final, Protocol, TypeAlias

from barrelman.cli.columns import GAP, Column, choose_columns, fit, plain
from barrelman.cli.printing import printable
from barrelman.detection.answer import Found, Joined
from barrelman.detection.ask import Question
from barrelman.engine.decode import dumps, loads
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue
from barrelman.records.paths import open_lists, walk_leaves

Result: TypeAlias = Found | Joined

# Rows whose fields are looked at before a table's columns are chosen.
_ROWS: Final = 200
MOST_CSV_COLUMNS: Final = 1_000
"""Each row has a cell for each: documents with keys of their own would make a file of commas."""
_MOST_TOLD: Final = 100_000


class Writer(Protocol):
    """Takes results one by one, in order."""

    def write(self, result: Result) -> None: ...

    def pause(self) -> None:
        """Nothing may come for a while: what was written is to be seen."""

    def close(self) -> None: ...


def as_json(result: Result) -> bytes:
    """One JSON value on one line, documents in it as they came."""
    if isinstance(result, Found):
        return result.line
    events = b",".join(b"null" if each is None else each.line for each in result.events)
    return b'{"join_keys":' + dumps(list(result.keys)) + b',"events":[' + events + b"]}"


class LineWriter:
    """One result a line."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, result: Result) -> None:
        self._stream.write(as_json(result) + b"\n")

    def pause(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class ArrayWriter:
    """One JSON array, a result a line within it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._separator = b"[\n"

    def write(self, result: Result) -> None:
        self._stream.write(self._separator + as_json(result))
        self._separator = b",\n"

    def pause(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")
        self._stream.flush()


class TableWriter:
    """Columns chosen by the first rows; a sequence is a heading with its events below."""

    def __init__(
        self,
        stream: IO[str],
        *,
        width: int,
        question: Question,
        catalogue: Catalogue | None = None,
    ) -> None:
        self._stream = stream
        self._width = width
        self._question = question
        self._catalogue = catalogue
        self._held: list[Result] = []
        self._columns: list[Column] | None = None
        self._sequences = 0
        self.left_out = 0
        """Fields that have no column."""

    def write(self, result: Result) -> None:
        self._held.append(result)
        if len(self._held) >= _ROWS:
            self._flush()

    def pause(self) -> None:
        self._flush()
        self._stream.flush()

    def close(self) -> None:
        self.pause()

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and self._columns is None:
            self._columns = self._choose([event for each in held for event in _events(each)])
            titles = (fit(each.title, each.width, keeps_end=True) for each in self._columns)
            self._print(titles)
        for result in held:
            self._write_rows(result)

    def _choose(self, events: Sequence[Event]) -> list[Column]:
        columns, self.left_out = choose_columns(
            events,
            width=self._width,
            asked=self._question.fields(),
            time_field=self._question.timestamp_field,
            catalogue=self._catalogue,
        )
        return columns

    def _write_rows(self, result: Result) -> None:
        if isinstance(result, Found):
            self._row(result.event)
            return
        self._sequences += 1
        keys = ", ".join("null" if key is None else plain(key) for key in result.keys)
        heading = f"{self._sequences}: {printable(keys)}" if keys else f"{self._sequences}:"
        self._stream.write(f"{'' if self._sequences == 1 else chr(10)}{heading}\n")
        for each in result.events:
            if each is None:
                self._stream.write("(no such event)\n")
            else:
                self._row(each.event)

    def _row(self, event: Event) -> None:
        self._print(each.fitted(event) for each in self._columns or ())

    def _print(self, cells: Iterator[str]) -> None:
        self._stream.write((" " * GAP).join(cells).rstrip() + "\n")


def _events(result: Result) -> list[Event]:
    if isinstance(result, Found):
        return [result.event]
    return [each.event for each in result.events if each is not None]


class CsvWriter:
    """A column for each field that some document has, in the order of first sight.

    That is known at the end alone, so rows wait in a temporary file. A field of several values is
    written as a JSON array. Of very many fields the first `MOST_CSV_COLUMNS` have a column.
    """

    def __init__(self, stream: IO[str]) -> None:
        import tempfile  # it takes a while to load, and CSV alone needs it

        self._stream = stream
        self._rows: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            max_size=16 * 1024 * 1024, prefix="barrelman-"
        )
        self._names: dict[str, None] = {}
        self._others: set[str] = set()
        self._sequences = 0

    @property
    def left_out(self) -> int:
        """Fields that have no column, as far as they are counted."""
        return len(self._others)

    def write(self, result: Result) -> None:
        if isinstance(result, Found):
            self._add({}, result)
            return
        self._sequences += 1
        keys = dumps(list(result.keys)).decode()
        for step, each in enumerate(result.events, 1):
            self._add({"sequence": self._sequences, "join_keys": keys, "step": step}, each)

    def _add(self, first: dict[str, Any], found: Found | None) -> None:
        row: dict[str, list[Any]] = {name: [value] for name, value in first.items()}
        for name, value in walk_leaves(None if found is None else found.event.body):
            row.setdefault(name, []).append(value)
        for name in row:
            if name in self._names or len(self._names) < MOST_CSV_COLUMNS:
                self._names[name] = None
            elif len(self._others) < _MOST_TOLD:
                self._others.add(name)
        self._rows.write(dumps(row) + b"\n")

    def pause(self) -> None:
        pass

    def close(self) -> None:
        out = csv.writer(self._stream, lineterminator="\n")
        if self._names:
            out.writerow(self._names)
        self._rows.seek(0)
        for line in self._rows:
            row = loads(line)
            out.writerow([_csv_cell(row.get(name)) for name in self._names])
        self._rows.close()
        self._stream.flush()


def _csv_cell(values: list[Any] | None) -> str:
    if not values:
        return ""
    found = list(open_lists(values))
    return plain(found[0]) if len(found) == 1 else dumps(found).decode()
