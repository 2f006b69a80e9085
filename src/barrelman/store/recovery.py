"""What is found in a data folder when it is opened, and what is mended then."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from barrelman.errors import Place, StoreError
from barrelman.store.bounds import Extent
from barrelman.store.columns import Batch
from barrelman.store.folder import DataFolder, failure, sync_folder
from barrelman.store.frames import Gap, Record, Unpacker
from barrelman.store.log import LogWriter, first_seq_of, log_paths, read_records
from barrelman.store.part import OpenPart
from barrelman.store.seen import Seen
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
    """One a log, oldest first."""
    last_size: int | None
    """After so many bytes the last log is gone on with; None where a new one is to be begun."""
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
    torn: Gap | None
    """How it ends, where nothing follows that was written later."""


def recover(folder: DataFolder, describe: Describe, *, seen: Seen, at_least_seq: int) -> Found:
    """Mends what can be mended. What is lost by damage is told, and never stops a start.

    All rows before `at_least_seq` are known to have been stored. Where rows are lost, `seen` is
    cleared, so that they are new when they come again.
    """
    try:
        return _Recovery(folder, describe, seen, at_least_seq).found()
    except OSError as error:
        raise failure("the data folder cannot be read", folder.path, error) from error


def open_seen(
    folder: DataFolder, tell: Callable[[str], object], *, is_corrupt: bool = False
) -> Seen:
    """The keys; an empty file of them in place of a broken one."""
    path = folder.seen
    try:
        if is_corrupt:
            raise sqlite3.DatabaseError
        return Seen.open(path)
    except sqlite3.OperationalError as error:
        raise StoreError(f"keys cannot be read: {error}", place=Place(str(path))) from error
    except sqlite3.DatabaseError:
        try:
            put_aside(path, folder.damaged)
            for each in [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))]:
                each.unlink(missing_ok=True)
        except OSError as error:
            raise failure("keys cannot be made anew", path, error) from error
        tell(f"{path.name}: was broken; the keys are taken from the segments")
        return Seen.open(path)


class _Recovery:
    def __init__(
        self, folder: DataFolder, describe: Describe, seen: Seen, at_least_seq: int
    ) -> None:
        self._folder = folder
        self._describe = describe
        self._seen = seen
        self._acknowledged_seq = max(at_least_seq, seen.acknowledged_seq)
        self._has_loss = False
        self._faults: list[str] = []
        self._notes: list[str] = []

    def found(self) -> Found:
        folder = self._folder
        clear_drafts(folder.events)
        logs = [self._survey(path) for path in log_paths(folder.log)]
        segments = self._segments(logs)
        next_seq = max(
            [0, *(each.extent.last_seq + 1 for each in segments), *(log.next_seq for log in logs)]
        )
        is_cut = self._acknowledged_seq > next_seq
        if is_cut:
            self._tell_of_cut(logs, next_seq)
        elif logs and logs[-1].torn is not None:
            text = f"a commit that was never acknowledged was cut off ({_bytes(logs[-1].torn)})"
            self._notes.append(f"{logs[-1].path.name}: {text}")
        logs = _without_sealed(folder, logs, segments)
        parts = [_part(log, self._describe) for log in logs]
        arrivals = [segment.extent.arrival_us[1] for segment in segments]
        arrivals += [log.last_arrival_us for log in logs]
        return Found(
            segments,
            [part for part in parts if part.rows] if is_cut else parts,
            logs[-1].size if logs and not is_cut else None,
            max(next_seq, self._acknowledged_seq),
            max([0, *arrivals]),
            self._faults,
            self._notes,
        )

    def _before_loss(self) -> None:
        """Before the files tell no more of it: a start that is killed must not forget the loss."""
        if not self._has_loss:
            self._seen.clear(acknowledged_seq=self._acknowledged_seq)
            self._has_loss = True

    def _tell_of_cut(self, logs: list[_Log], next_seq: int) -> None:
        """The last rows are gone. A new log says what is next, so that it is told only once."""
        self._before_loss()
        count = self._acknowledged_seq - next_seq
        text = f"{count} acknowledged events were lost: those from number {next_seq} on are gone"
        if logs:
            last = logs[-1]
            if last.torn is not None:
                kept = _keep_bytes(last.path, last.torn, self._folder.damaged)
                text += f"; what is left of them is in {kept.name}"
            LogWriter.resume(last.path, size=last.size).close()
        self._faults.append(text)

    def _survey(self, path: Path) -> _Log:
        """Goes through a log, and tells what of it is broken."""
        extent: Extent | None = None
        torn: Gap | None = None
        next_seq = first_seq_of(path)
        arrival_us = size = 0
        is_last = path == log_paths(self._folder.log)[-1]
        for found in read_records(path):
            if isinstance(found, Gap):
                if found.is_cut and is_last:
                    torn = found
                    continue
                self._tell_of_gap(path, found)
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
        return _Log(path, size, extent, next_seq, arrival_us, torn)

    def _tell_of_gap(self, path: Path, gap: Gap) -> None:
        self._before_loss()
        rows = "events" if gap.head is None else f"{gap.head.rows} events"
        kept = _keep_bytes(path, gap, self._folder.damaged)
        self._faults.append(f"{path.name}: {rows} lost, {_bytes(gap)} broken; see {kept.name}")

    def _segments(self, logs: list[_Log]) -> list[Segment]:
        segments = []
        for stem, endings in stems_in(self._folder.events).items():
            segment = load(stem) if len(endings) == 2 else None
            if segment is not None:
                segments.append(segment)
            elif endings == {".parquet"}:
                self._before_loss()
                orphan = stem.with_name(stem.name + ".parquet")
                put_aside(orphan, self._folder.damaged)
                orphan.unlink()
                self._faults.append(f"{stem.name}: all events lost, their lines are gone")
            elif ".parquet" not in endings and _is_in_a_log(stem, logs):
                stem.with_name(stem.name + ".zst").unlink()
            else:
                segments += self._rebuilt(stem)
        return segments

    def _rebuilt(self, stem: Path) -> list[Segment]:
        rebuilt = rebuild(
            stem, self._describe, damaged=self._folder.damaged, before_loss=self._before_loss
        )
        if rebuilt.lost is None:
            text = "was broken and is made anew out of its lines"
        elif rebuilt.lost:
            text = f"{rebuilt.lost} events lost, the rest is made anew"
        else:
            text = "columns were broken and are made anew; no event lost"
        self._faults.append(f"{stem.name}: {text}")
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
