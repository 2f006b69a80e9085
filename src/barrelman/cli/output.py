"""Where alerts go: a table for people, JSON lines or one JSON array for machines."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING, Final, Protocol

from barrelman.engine.decode import dumps, dumps_line

if TYPE_CHECKING:
    from barrelman.cli.describe import Row
    from barrelman.detection.alert import Alert

# Rows drawn at a time: enough to be quick, few enough to be seen coming.
_ROWS: Final = 200


class Sink(Protocol):
    """Takes alerts in order. Whole alerts only, whatever interrupts."""

    def write(self, alerts: Iterable[Alert]) -> None: ...
    def close(self) -> None: ...


class LineSink:
    """One JSON object a line."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            self._stream.write(dumps_line(alert.document))
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class ArraySink:
    """One JSON array, an alert a line within it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._separator = b"[\n"

    def write(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            self._stream.write(self._separator + dumps(alert.document))
            self._separator = b",\n"
        self._stream.flush()

    def close(self) -> None:
        self._stream.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")
        self._stream.flush()


class TableSink:
    def __init__(self, stream: IO[str], *, width: int | None = None) -> None:
        # Neither is loaded before it is used: rich takes longer than a small scan.
        from barrelman.cli.describe import describe
        from barrelman.cli.table import AlertTable

        self._stream = stream
        self._describe = describe
        self._table = AlertTable(stream, width=width)

    def write(self, alerts: Iterable[Alert]) -> None:
        rows = self._rows(alerts)
        while batch := list(islice(rows, _ROWS)):
            self._table.write(batch)
            self._stream.flush()

    def _rows(self, alerts: Iterable[Alert]) -> Iterator[Row]:
        """A sequence is one row: its blocks come right before their shell."""
        blocks: list[Alert] = []
        for alert in alerts:
            if alert.is_block:
                blocks.append(alert)
                continue
            yield self._describe(alert, blocks)
            blocks = []

    def close(self) -> None:
        self._stream.flush()


def silence(stream: IO[str]) -> None:
    """After the reader of a pipe went away: what is still buffered goes nowhere, quietly."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
