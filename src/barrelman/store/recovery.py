"""What is found in a data folder when it is opened, and what is mended then."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from barrelman.store.bounds import Extent
from barrelman.store.columns import Batch
from barrelman.store.folder import DataFolder, failure, sync_folder
from barrelman.store.frames import Gap, Record, Unpacker
from barrelman.store.log import first_seq_of, log_paths, read_records
from barrelman.store.part import OpenPart
from barrelman.store.segments import (
    Describe,
    Segment,
    clear_drafts,
    described,
    load,
    put_aside,
    rebuild,
    stems_in,
)


class Found(NamedTuple):
    """What there is. `faults` are what was lost, `notes` what was only tidied up."""

    segments: list[Segment]
    parts: list[OpenPart]
    """One a log, oldest first; the last log is gone on with after `last_size` bytes."""
    last_size: int
    next_seq: int
    last_arrival_us: int
    faults: list[str]
    notes: list[str]


class _Log(NamedTuple):
    path: Path
    size: int
    """Bytes up to the end of the last whole record."""
    extent: Extent | None
    next_seq: int
    last_arrival_us: int


def recover(folder: DataFolder, describe: Describe) -> Found:
    """Mends what can be mended. What is lost by damage is told, and never stops a start."""
    faults: list[str] = []
    notes: list[str] = []
    try:
        clear_drafts(folder.events)
        logs = [_survey(path, folder, faults, notes) for path in log_paths(folder.log)]
        segments = _segments(folder, describe, logs, faults)
        logs = _without_sealed(folder, logs, segments)
        parts = [_part(log, describe) for log in logs]
    except OSError as error:
        raise failure("the data folder cannot be read", folder.path, error) from error
    ends = [segment.extent.last_seq + 1 for segment in segments] + [log.next_seq for log in logs]
    arrivals = [segment.extent.arrival_us[1] for segment in segments]
    arrivals += [log.last_arrival_us for log in logs]
    return Found(
        segments,
        parts,
        logs[-1].size if logs else 0,
        max([0, *ends]),
        max([0, *arrivals]),
        faults,
        notes,
    )


def _survey(path: Path, folder: DataFolder, faults: list[str], notes: list[str]) -> _Log:
    """Goes through a log, and tells what of it is broken."""
    extent: Extent | None = None
    next_seq = first_seq_of(path)
    arrival_us = size = 0
    is_last = path == log_paths(folder.log)[-1]
    for found in read_records(path):
        if isinstance(found, Gap):
            if found.is_cut and is_last:
                text = f"a commit that was never acknowledged was cut off ({_bytes(found)})"
                notes.append(f"{path.name}: {text}")
            else:
                rows = "events" if found.head is None else f"{found.head.rows} events"
                kept = _keep_bytes(path, found, folder.damaged)
                faults.append(f"{path.name}: {rows} lost, {_bytes(found)} broken; see {kept.name}")
                if found.head is not None:
                    # It stays where it is, so that its seqs are never given again.
                    next_seq = max(next_seq, found.head.first_seq + found.head.rows)
                    size = found.end
            continue
        head = found.head
        size = found.end
        next_seq = max(next_seq, head.first_seq + head.rows)
        arrival_us = max(arrival_us, head.arrivals[-1][0])
        if head.rows:
            extent = head.extent if extent is None else extent.joined(head.extent)
    return _Log(path, size, extent, next_seq, arrival_us)


def _segments(
    folder: DataFolder, describe: Describe, logs: list[_Log], faults: list[str]
) -> list[Segment]:
    segments = []
    for stem, endings in stems_in(folder.events).items():
        segment = load(stem) if len(endings) == 2 else None
        if segment is not None:
            segments.append(segment)
        elif endings == {".parquet"}:
            orphan = stem.with_name(stem.name + ".parquet")
            put_aside(orphan, folder.damaged)
            orphan.unlink()
            faults.append(f"{stem.name}: all events lost, their lines are gone")
        elif ".parquet" not in endings and _is_in_a_log(stem, logs):
            stem.with_name(stem.name + ".zst").unlink()
        else:
            segments += _rebuilt(stem, folder, describe, faults)
    return segments


def _rebuilt(
    stem: Path, folder: DataFolder, describe: Describe, faults: list[str]
) -> list[Segment]:
    rebuilt = rebuild(stem, describe, damaged=folder.damaged)
    if rebuilt.lost is None:
        faults.append(f"{stem.name}: was broken and is made anew out of its lines")
    elif rebuilt.lost:
        faults.append(f"{stem.name}: {rebuilt.lost} events lost, the rest is made anew")
    else:
        faults.append(f"{stem.name}: columns were broken and are made anew; no event lost")
    return [rebuilt.segment] if rebuilt.segment else []


def _without_sealed(folder: DataFolder, logs: list[_Log], segments: list[Segment]) -> list[_Log]:
    """Removes logs whose rows are all in segments: the process ended before it did."""
    sealed = {segment.extent.first_seq: segment.extent.last_seq for segment in segments}
    kept = []
    for at, log in enumerate(logs):
        is_sealed = log.extent is not None and (
            sealed.get(log.extent.first_seq, -1) >= log.extent.last_seq
        )
        is_empty = log.extent is None and at < len(logs) - 1
        if is_sealed or is_empty:
            log.path.unlink()
        else:
            kept.append(log)
    if len(kept) < len(logs):
        sync_folder(folder.log)
    return kept


def _part(log: _Log, describe: Describe) -> OpenPart:
    """The rows of a log, decoded once more."""
    part = OpenPart(log.path)
    unpacker = Unpacker()
    for found in read_records(log.path):
        if isinstance(found, Record) and found.head.rows:
            made: list[Batch] = []
            block = unpacker.block(found)
            for _ in described(iter([block]), describe, made):
                part.add([found.head], [(found.at, found.end)], made)
    return part


def _is_in_a_log(stem: Path, logs: list[_Log]) -> bool:
    first = int(stem.name.partition("-")[0])
    return any(log.extent is not None and log.extent.first_seq == first for log in logs)


def _keep_bytes(path: Path, gap: Gap, damaged: Path) -> Path:
    damaged.mkdir(exist_ok=True)
    kept = damaged / f"{path.name}.{gap.at}"
    with open(path, "rb") as file:
        file.seek(gap.at)
        kept.write_bytes(file.read(gap.end - gap.at))
    return kept


def _bytes(gap: Gap) -> str:
    return f"{gap.end - gap.at:,} bytes at {gap.at:,}"
