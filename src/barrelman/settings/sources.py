"""PATHs as typed -> the sources they name, and the bytes of each."""

from __future__ import annotations

import contextlib
import glob
import io
import itertools
import os
import re
import select
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Final, TypeAlias

from barrelman.errors import InputError, Place
from barrelman.records.frozen import frozen
from barrelman.settings.decompress import (
    LONGEST_MAGIC_BYTES,
    decompress,
    is_compressed_head,
    may_be_compressed,
)
from barrelman.settings.readahead import ReadAhead

CHUNK_BYTES: Final = 1024 * 1024
STDIN_NAME: Final = "<stdin>"
# What may wait decompressed, and what is read at once where it is read a second time.
_AHEAD_BYTES: Final = 4 * 1024 * 1024
_REREAD_BYTES: Final = 64 * 1024

_COMPRESSED = re.compile(r"\.(?:gz|gzip|zst|zstd|bz2|xz)$", re.IGNORECASE)
_DATE = r"\d{4}-?\d{2}-?\d{2}(?:[T_-]?\d{2}[-:]?\d{2}(?:[-:]?\d{2}(?:\.\d+)?)?)?"
# audit-2026-11-23T07-06-00.000.log, as the API server rotates
_DATED_STEM = re.compile(rf"(?P<stem>.*?)[-._](?P<date>{_DATE})(?P<suffix>\.[A-Za-z]+)")
# audit.log-20261123 and audit.log.2026-11-23, as logrotate does with dates
_DATED_END = re.compile(rf"(?P<stem>.+?)[-.](?P<date>{_DATE})")
# audit.log.2, as logrotate does without
_NUMBERED = re.compile(r"(?P<stem>.+?)\.(?P<number>\d{1,6})")

SortKey: TypeAlias = tuple[tuple[str, ...], str, int, int, str, str]


@frozen
class Source:
    """Something to read events from."""

    name: str
    """As a person knows it: the path, or `<stdin>`."""
    path: str | None
    """None is standard input."""
    size_bytes: int | None
    """As it lies on disk; None where that is not known."""
    is_live: bool
    """A pipe, a terminal, a device: its end is not there yet."""


def expand_sources(paths: Sequence[str]) -> list[Source | InputError]:
    """The sources that the PATHs name, in their order; within a folder the oldest log first.

    A PATH that names nothing becomes an error in its place; the others stay.
    """
    found: list[Source | InputError] = []
    for path in paths:
        try:
            found += _expand(path)
        except OSError as error:
            found.append(unreadable(path, error))
    return found


def _expand(path: str) -> list[Source | InputError]:
    if path == "-":
        return [_stdin_source()]
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.lexists(path) and glob.has_magic(path):
            return _expand_glob(path)
        raise
    except ValueError:  # a NUL in the name
        return [InputError(f"cannot read {path!r}: no file has such a name")]
    if stat.S_ISDIR(status.st_mode):
        return _expand_folder(path)
    return [_file_source(path, status)]


def _stdin_source() -> Source:
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return Source(STDIN_NAME, None, None, True)
    is_file = stat.S_ISREG(status.st_mode)
    return Source(STDIN_NAME, None, status.st_size if is_file else None, not is_file)


def _file_source(path: str, status: os.stat_result) -> Source:
    is_file = stat.S_ISREG(status.st_mode)
    return Source(path, path, status.st_size if is_file else None, not is_file)


def _expand_glob(pattern: str) -> list[Source | InputError]:
    """The files that a pattern matches; its folders only where it matches nothing else."""
    matches = sorted(glob.glob(pattern, recursive=True), key=_age_key)
    files = [match for match in matches if not os.path.isdir(match)]
    if files:
        return _sources_of(files)
    found: list[Source | InputError] = []
    for match in matches:
        found += _expand_folder(match)
    if not found:
        place = Place(path=pattern)
        return [InputError("no file matches this pattern", place=place)]
    return found


def _expand_folder(folder: str) -> list[Source | InputError]:
    files: list[str] = []
    errors: list[Source | InputError] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in seen:
                continue  # a link back to a folder that is being read
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                names = [entry.path for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            errors.append(unreadable(current, error))
            continue
        for name in sorted(names, reverse=True):
            if os.path.isdir(name):
                waiting.append(name)
            else:
                files.append(name)
    found = _sources_of(sorted(files, key=_age_key)) + errors
    if not found:
        hint = "hidden files are left out; name them to read them"
        return [InputError("no file in this folder", place=Place(path=folder), hint=hint)]
    return found


def _sources_of(files: Iterable[str]) -> list[Source | InputError]:
    """One source a file; a file that several names lead to is read once."""
    found: list[Source | InputError] = []
    seen: set[str] = set()
    for file in files:
        real = os.path.realpath(file)
        if real in seen:
            continue
        seen.add(real)
        try:
            status = os.stat(file)
        except OSError as error:
            found.append(unreadable(file, error))
            continue
        if stat.S_ISREG(status.st_mode):  # sockets and pipes in a folder are nobody's log
            found.append(_file_source(file, status))
    return found


def _age_key(path: str) -> SortKey:
    """Sorts by folder, then by log, the oldest rotation first and the current file last."""
    parent, name = os.path.split(path)
    plain = _COMPRESSED.sub("", name)
    folders = tuple(parent.split(os.sep))
    match = _DATED_STEM.fullmatch(plain)
    if match is not None:
        date = re.sub(r"\D", "", match["date"])
        return (folders, match["stem"] + match["suffix"], 0, 0, date, name)
    match = _DATED_END.fullmatch(plain)
    if match is not None:
        return (folders, match["stem"], 0, 0, re.sub(r"\D", "", match["date"]), name)
    match = _NUMBERED.fullmatch(plain)
    if match is not None:
        return (folders, match["stem"], 1, -int(match["number"]), "", name)
    return (folders, plain, 2, 0, "", name)


def unreadable(path: str, error: OSError) -> InputError:
    """What to tell of a source that the system does not let us read."""
    return InputError(f"cannot be read: {error.strerror or error}", place=Place(path=path))


def read_chunks(
    source: Source,
    *,
    stdin: BinaryIO | None = None,
    on_raw_bytes: Callable[[int], None] | None = None,
    idle_seconds: float | None = None,
) -> Iterator[bytes]:
    """The plain bytes of a source, decompressed where need be.

    `on_raw_bytes` is told of every read, before decompression. With `idle_seconds` a live
    source gives b"" whenever nothing came for so long. Raises InputError where the source
    cannot be opened or read to its end, after all that could be read.
    """
    try:
        if source.is_live:
            raw = _read_raw(source, stdin, idle_seconds)
            yield from decompress(_count(raw, on_raw_bytes))
        else:
            yield from _read_file(source, stdin, on_raw_bytes)
    except OSError as error:
        raise unreadable(source.name, error) from None
    except InputError as error:
        raise error.at(path=source.name) from None


def is_compressed(path: str) -> bool:
    """Whether a regular file begins as one of the known formats does. Raises OSError as `open`."""
    with open(path, "rb", buffering=0) as file:
        return is_compressed_head(file.read(LONGEST_MAGIC_BYTES))


def _count(chunks: Iterator[bytes], on_raw_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    for chunk in chunks:
        if on_raw_bytes is not None and chunk:
            on_raw_bytes(len(chunk))
        yield chunk


def _read_file(
    source: Source, stdin: BinaryIO | None, on_raw_bytes: Callable[[int], None] | None
) -> Iterator[bytes]:
    with _opened(source, stdin) as file:
        start = _seekable_from(file)
        raw = _read_stream(file, None)
        head = next(raw, b"")
        chunks = itertools.chain((head,) if head else (), raw)
        if may_be_compressed(head):
            yield from _unpack_beside(chunks, file, start, on_raw_bytes)
        else:
            yield from _count(chunks, on_raw_bytes)


def _opened(source: Source, stdin: BinaryIO | None) -> AbstractContextManager[BinaryIO | io.FileIO]:
    if source.path is None:
        return contextlib.nullcontext(stdin or sys.stdin.buffer)
    return open(source.path, "rb", buffering=0)


def _seekable_from(file: BinaryIO | io.FileIO) -> int | None:
    """Where reading will begin; None where nothing can be read a second time."""
    try:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.tell()
    except (OSError, ValueError):  # a stream in memory
        pass
    return None


def _unpack_beside(
    raw: Iterator[bytes],
    file: BinaryIO | io.FileIO,
    start: int | None,
    on_raw_bytes: Callable[[int], None] | None,
) -> Iterator[bytes]:
    """Decompresses in a thread, a few pieces ahead of who takes them: decoders release the
    interpreter lock. `on_raw_bytes` is called from here, when what was read is seen to have grown.
    """
    ahead = ReadAhead(max_bytes=_AHEAD_BYTES)
    read_bytes = told_bytes = 0

    def count() -> Iterator[bytes]:
        nonlocal read_bytes
        for chunk in raw:
            read_bytes += len(chunk)
            yield chunk

    def reread() -> Iterator[bytes]:
        nonlocal read_bytes
        at = 0
        while not ahead.is_stopped:
            chunk = os.pread(file.fileno(), _REREAD_BYTES, (start or 0) + at)
            if not chunk:
                return
            at += len(chunk)
            read_bytes = max(read_bytes, at)
            yield chunk

    def tell() -> None:
        nonlocal told_bytes
        fresh_bytes = read_bytes - told_bytes
        if on_raw_bytes is not None and fresh_bytes:
            told_bytes += fresh_bytes
            on_raw_bytes(fresh_bytes)

    try:
        for piece in ahead.run(decompress(count(), reread=reread if start is not None else None)):
            tell()
            yield piece
    except (InputError, OSError):
        tell()
        raise
    tell()


def _read_raw(
    source: Source, stdin: BinaryIO | None, idle_seconds: float | None
) -> Iterator[bytes]:
    if source.path is None:
        yield from _read_stream(stdin or sys.stdin.buffer, idle_seconds)
        return
    is_fifo = stat.S_ISFIFO(os.stat(source.path).st_mode)
    with open(source.path, "rb", buffering=0, opener=_open_at_once if is_fifo else None) as file:
        yield from _read_stream(file, idle_seconds, is_fifo=is_fifo)


def _open_at_once(path: str, flags: int) -> int:
    """A named pipe blocks who opens it until a writer comes, and no signal is answered."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read_stream(
    stream: BinaryIO | io.FileIO, idle_seconds: float | None, *, is_fifo: bool = False
) -> Iterator[bytes]:
    """What is there, as soon as it is there. The file may grow or shrink meanwhile.

    Of a named pipe a read before the first writer would look like its end; `select` tells
    the two apart.
    """
    read = getattr(stream, "read1", stream.read)
    fileno = _fileno(stream)
    while True:
        if fileno is not None and (is_fifo or idle_seconds is not None):
            while not select.select([fileno], [], [], idle_seconds)[0]:
                yield b""
        chunk = read(CHUNK_BYTES)
        if chunk is None:  # a pipe that does not block, and is empty
            if fileno is not None:
                select.select([fileno], [], [], idle_seconds)
            yield b""
            continue
        if not chunk:
            return
        yield chunk


def _fileno(stream: BinaryIO | io.FileIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return None
