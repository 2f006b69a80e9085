"""What can be asked of rows without their lines: Arrow in memory, Parquet on disk."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from barrelman.errors import Place, StoreError
from barrelman.records.rows import Row
from barrelman.store.bounds import Extent

KEY = struct.Struct(">QI")
"""How a row's key stands in its column."""

_ROWS_OF_A_GROUP = 1 << 17
_MERGED_ROWS = 1 << 14
_META = b"barrelman"
_META_VERSION = 1
# The largest numbers that columns hold; of instants far fewer make sense.
_LARGEST = {"status": (1 << 63) - 1, "time_us": 1 << 62}

_WORD = pa.dictionary(pa.int32(), pa.string())
_TEXT = pa.string()
_INSTANT = pa.timestamp("us", tz="UTC")
# Columns that repeat themselves are kept once a batch; of the others each value is its own.
_TEXTS = {
    "audit_id": _TEXT,
    "stage": _WORD,
    "level": _WORD,
    "verb": _WORD,
    "user": _WORD,
    "resource": _WORD,
    "subresource": _WORD,
    "api_group": _WORD,
    "namespace": _WORD,
    "name": _TEXT,
    "decision": _WORD,
}
_OPEN = pa.schema(
    [
        ("seq", pa.int64()),
        ("time", _INSTANT),
        ("arrival", _INSTANT),
        ("cluster", _WORD),
        *_TEXTS.items(),
        ("source_ips", pa.list_(pa.string())),
        ("status", pa.int64()),
        ("is_plain", pa.bool_()),
        ("is_wrapped", pa.bool_()),
        ("key", pa.binary(KEY.size)),
        ("size", pa.int32()),
    ]
)
# Each row has a value of its own here: a dictionary of them would be all of them.
_DISTINCT = frozenset({"seq", "time", "audit_id", "key", "at"})

Batch = Any
"""A pyarrow.RecordBatch, which has no types."""


class Cut(NamedTuple):
    """Rows that share a frame of lines: where it begins in its file, and how many they are."""

    frame: int
    rows: int


class Keys(NamedTuple):
    """What tells rows from others that arrive later."""

    keys: list[bytes]
    times_us: list[int | None]
    arrivals_us: list[int]


class Meta(NamedTuple):
    """What a Parquet file tells of itself in its footer."""

    extent: Extent
    rows: int
    unplain: int
    lines_size: int
    """Bytes of the file of lines beside it."""


def batch_of(
    rows: Sequence[Row], *, first_seq: int, arrival_us: int, clusters: Sequence[tuple[str, int]]
) -> Batch:
    """The columns of rows that follow each other; `clusters` in runs."""
    values = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    try:
        texts = [pa.array(values[name], type=kind) for name, kind in _TEXTS.items()]
        sources = pa.array(values["source_ips"], type=_OPEN.field("source_ips").type)
        status = pa.array(values["status"], type=pa.int64())
        times = pa.array(values["time_us"], type=pa.int64())
        least, most = pc.min_max(times).as_py().values()
        if least is not None and max(-least, most) > _LARGEST["time_us"]:
            raise OverflowError
    except (UnicodeEncodeError, OverflowError, pa.ArrowInvalid):
        # Half surrogates and numbers beyond 64 bits have no place in a column.
        tame = [_tamed(row) for row in rows]
        if tame == list(rows):
            raise
        return batch_of(tame, first_seq=first_seq, arrival_us=arrival_us, clusters=clusters)
    count = len(rows)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(range(first_seq, first_seq + count), type=pa.int64()),
            times.view(_INSTANT),
            pa.repeat(pa.scalar(arrival_us, type=pa.int64()), count).view(_INSTANT),
            _runs(clusters),
            *texts,
            sources,
            status,
            pa.array(values["is_plain"], type=pa.bool_()),
            pa.array([each is not None for each in values["wrapper"]], type=pa.bool_()),
            pa.array([KEY.pack(*key) for key in values["key"]], type=pa.binary(KEY.size)),
            pa.array([len(line) + 1 for line in values["line"]], type=pa.int32()),
        ],
        schema=_OPEN,
    )


def appended(batches: Sequence[Batch], batch: Batch) -> tuple[Batch, ...]:
    """One more batch; neighbours of like size become one, so that there are never many.

    A commit of one row takes kilobytes as a batch by itself.
    """
    kept = [*batches, batch]
    while len(kept) > 1:
        rows = kept[-2].num_rows + kept[-1].num_rows
        if kept[-1].num_rows * 2 < kept[-2].num_rows or rows > _MERGED_ROWS:
            break
        last = kept.pop()
        kept[-1] = pa.concat_batches([kept[-1], last])
    return tuple(kept)


def nothing() -> Batch:
    """A batch without rows."""
    return pa.RecordBatch.from_pylist([], schema=_OPEN)


def unplain_in(batch: Batch) -> int:
    """Of how many rows the columns are only hints."""
    return int(batch.num_rows - batch.column("is_plain").true_count)


def own_time(row: Row) -> int | None:
    """A row's time where its column can hold it."""
    time_us = row.time_us
    if time_us is None or not -_LARGEST["time_us"] <= time_us <= _LARGEST["time_us"]:
        return None
    return time_us


def table_of(batches: Sequence[Batch]) -> Any:
    """Batches side by side, nothing copied."""
    return pa.Table.from_batches(batches, schema=_OPEN)


def bytes_of(batches: Iterable[Batch]) -> int:
    """How much memory they take."""
    return sum(batch.nbytes for batch in batches)


def write_parquet(
    path: Path, batches: Sequence[Batch], *, cuts: Sequence[Cut], extent: Extent, lines_size: int
) -> None:
    """Writes all columns, and where the lines are, durably."""
    # Where dictionaries differ from batch to batch, the writer would spell each value out, and a
    # search take five times as long.
    table = _placed(table_of(batches).unify_dictionaries(), cuts)
    meta = json.dumps(
        {
            "version": _META_VERSION,
            **extent._asdict(),
            "clusters": sorted(extent.clusters),
            "unplain": sum(unplain_in(batch) for batch in batches),
            "lines_size": lines_size,
        }
    )
    with pq.ParquetWriter(
        str(path),
        table.schema,
        compression="zstd",
        compression_level=1,
        store_schema=False,
        use_dictionary=[name for name in table.schema.names if name not in _DISTINCT],
        column_encoding=dict.fromkeys(("seq", "time", "at"), "DELTA_BINARY_PACKED"),
    ) as writer:
        for at in range(0, table.num_rows, _ROWS_OF_A_GROUP):
            writer.write_table(table.slice(at, _ROWS_OF_A_GROUP))
        writer.add_key_value_metadata({_META: meta.encode("utf-8")})
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_meta(path: Path) -> Meta | None:
    """What the footer tells; None where it is no whole file of ours."""
    try:
        footer = pq.read_metadata(str(path))
        told = json.loads(footer.metadata[_META])
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        return None
    time_us = told["time_us"]
    extent = Extent(
        told["first_seq"],
        told["last_seq"],
        tuple(told["arrival_us"]),
        None if time_us is None else tuple(time_us),
        told["untimed"],
        frozenset(told["clusters"]),
    )
    return Meta(extent, footer.num_rows, told["unplain"], told["lines_size"])


def is_readable(path: Path) -> bool:
    """Whether every value of a Parquet file can be read; takes as long as reading them."""
    try:
        with pq.ParquetFile(str(path)) as file:
            for _ in file.iter_batches():
                pass
    except (pa.ArrowException, OSError):
        return False
    return True


def read_keys(path: Path) -> Iterator[Keys]:
    """Those of the rows of a Parquet file, some thousands at a time.

    Raises `StoreError` where it cannot be read, which may be after some of them.
    """
    try:
        with pq.ParquetFile(str(path)) as file:
            for batch in file.iter_batches(columns=["time", "arrival", "key"], batch_size=1 << 14):
                yield keys_in(batch)
    except (pa.ArrowException, OSError) as error:
        raise StoreError("columns cannot be read", place=Place(str(path))) from error


def rows_from(path: Path, *, seq: int | None, arrival_us: int | None) -> int | None:
    """How many rows of a Parquet file are at or beyond either; None where it cannot be read."""
    count = 0
    try:
        with pq.ParquetFile(str(path)) as file:
            for batch in file.iter_batches(columns=["seq", "arrival"], batch_size=1 << 16):
                seqs, arrivals = batch.column("seq"), batch.column("arrival").cast(pa.int64())
                meets = pa.repeat(pa.scalar(value=False), batch.num_rows)
                if seq is not None:
                    meets = pc.or_(meets, pc.greater_equal(seqs, seq))
                if arrival_us is not None:
                    meets = pc.or_(meets, pc.greater_equal(arrivals, arrival_us))
                count += meets.true_count
    except (pa.ArrowException, OSError):
        return None
    return count


def keys_in(batch: Batch) -> Keys:
    """Those of the rows of a batch."""
    return Keys(
        batch.column("key").to_pylist(),
        batch.column("time").cast(pa.int64()).to_pylist(),
        batch.column("arrival").cast(pa.int64()).to_pylist(),
    )


def _placed(table: Any, cuts: Sequence[Cut]) -> Any:
    """With the place of each row's line: all in Arrow, as a segment has many rows."""
    sizes = table.column("size").cast(pa.int64())
    ends = pc.cumulative_sum(pa.chunked_array(sizes.chunks, type=pa.int64()))
    starts = pc.subtract(ends, sizes)
    frames, bases = [], []
    row = 0
    for cut in cuts:
        frames.append(pa.repeat(pa.scalar(cut.frame, type=pa.int64()), cut.rows))
        bases.append(pa.repeat(starts[row], cut.rows))
        row += cut.rows
    at = pc.subtract(starts, pa.chunked_array(bases, type=pa.int64())).cast(pa.int32())
    placed = table.append_column("frame", pa.chunked_array(frames, type=pa.int64()))
    return placed.append_column("at", at)


def _runs(runs: Sequence[tuple[str, int]]) -> Any:
    names = pa.array([name for name, _ in runs], type=pa.string())
    indexes = [
        pa.repeat(pa.scalar(at, type=pa.int32()), count) for at, (_, count) in enumerate(runs)
    ]
    return pa.DictionaryArray.from_arrays(pa.concat_arrays(indexes), names)


def _tamed(row: Row) -> Row:
    """The row with values that fit their columns; one that did not fit is a hint only."""
    changes: dict[str, Any] = {}
    for name in _TEXTS:
        text: str | None = getattr(row, name)
        if text is not None and (fitting := _fitting(text)) != text:
            changes[name] = fitting
    sources = tuple(_fitting(each) for each in row.source_ips)
    if sources != row.source_ips:
        changes["source_ips"] = sources
    for name, largest in _LARGEST.items():
        number: int | None = getattr(row, name)
        if number is not None and not -largest <= number <= largest:
            changes[name] = None
    return row._replace(**changes, is_plain=False) if changes else row


def _fitting(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
