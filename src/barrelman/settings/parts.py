"""Files cut into parts that can be read side by side, each of whole lines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from barrelman.engine.blocks import BlockReader, Item
from barrelman.engine.lines import LONG_LINE_BYTES
from barrelman.engine.reader import EVENT_HEAD, EventReader
from barrelman.errors import InputError
from barrelman.records.frozen import frozen
from barrelman.settings.sources import Source, is_compressed, read_chunks, unreadable

PART_BYTES: Final = 16 * 1024 * 1024
# What a byte of compressed data is worth, at the usual ratio for logs.
_COMPRESSION: Final = 12
_SEEK_BYTES: Final = 64 * 1024


@frozen
class Part:
    """The bytes of a source from `start` on and before `stop`; at both a line begins.

    `stop` None: to the end. A compressed source is one part.
    """

    source: int
    """Number of the source."""
    start: int = 0
    stop: int | None = None
    is_compressed: bool = False
    descriptor: int | None = None
    """The open file, where it is cut: at its path there may soon be another one."""

    @property
    def is_first(self) -> bool:
        return self.start == 0

    @property
    def is_last(self) -> bool:
        return self.stop is None


def split_sources(sources: Sequence[Source], *, part_bytes: int = PART_BYTES) -> list[Part]:
    """The parts of regular files, in order; just one of a file that cannot be cut.

    Those that are cut stay open until `close_parts`.
    """
    parts: list[Part] = []
    for number, source in enumerate(sources):
        assert source.path is not None
        try:
            if is_compressed(source.path):
                parts.append(Part(number, is_compressed=True))
                continue
            found = _cut(number, source.path, source.size_bytes or 0, part_bytes)
        except OSError:  # whoever reads the part will say so
            found = []
        parts += found or [Part(number)]
    return parts


def close_parts(parts: Iterable[Part]) -> None:
    """Closes the files that were cut."""
    for descriptor in {part.descriptor for part in parts} - {None}:
        assert descriptor is not None
        os.close(descriptor)


def weigh(parts: Sequence[Part], sources: Sequence[Source]) -> int:
    """About how many bytes there are to scan, once decompressed."""
    compressed = {part.source for part in parts if part.is_compressed}
    return sum(
        (source.size_bytes or 0) * (_COMPRESSION if number in compressed else 1)
        for number, source in enumerate(sources)
    )


def read_sample(sources: Sequence[Source]) -> bytes:
    """Whole lines from the beginning of the first regular file; nothing if it cannot be read."""
    for source in sources:
        if source.path is not None and source.size_bytes:
            try:
                for head in read_chunks(source):
                    return head[: head.rfind(b"\n") + 1]
            except InputError:  # whoever reads it all will say so
                return b""
    return b""


def read_part(
    part: Part,
    source: Source,
    blocks: BlockReader,
    *,
    on_bytes: Callable[[int], None],
    follows: bool = False,
) -> Iterator[Item]:
    """What stands in one part of a source; with `pause` or `finish` at its end.

    `follows`: another reader may have passed over the line before it.
    `on_bytes` is told of bytes as they lie on disk. Raises InputError where the source cannot be
    opened or read to its end, after all that could be read.
    """
    if part.is_compressed:
        yield from _read_compressed(source, blocks, on_bytes)
        return
    at, stop = part.start, part.stop
    try:
        with _opened(part, source) as descriptor:
            if not part.is_first:
                blocks.go_on()
            if follows and os.pread(descriptor, len(EVENT_HEAD), at) != EVENT_HEAD:
                blocks.follow(_event_line_before(descriptor, at))
            while stop is None or at < stop:
                space = blocks.space()
                size = _read_at(descriptor, space if stop is None else space[: stop - at], at)
                if not size:
                    break
                at += size
                on_bytes(size)
                yield from blocks.filled(size)
    except OSError as error:
        yield from blocks.finish()
        raise unreadable(source.name, error) from None
    if stop is None or at < stop:  # the end, maybe of a file that has become shorter
        yield from blocks.finish()
    else:
        yield from blocks.pause()


@contextlib.contextmanager
def _opened(part: Part, source: Source) -> Iterator[int]:
    if part.descriptor is not None:
        yield part.descriptor
        return
    assert source.path is not None
    descriptor = os.open(source.path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_at(descriptor: int, space: memoryview, at: int) -> int:
    """Fills the space from that offset on; processes that share a file share its position."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [space], at)
    data = os.pread(descriptor, len(space), at)
    space[: len(data)] = data
    return len(data)


def _read_compressed(
    source: Source, blocks: BlockReader, on_bytes: Callable[[int], None]
) -> Iterator[Item]:
    try:
        for chunk in read_chunks(source, on_raw_bytes=on_bytes):
            yield from blocks.feed(chunk)
    except InputError:
        yield from blocks.finish()
        raise
    yield from blocks.finish()


def _cut(number: int, path: str, size_bytes: int, part_bytes: int) -> list[Part]:
    """A file's parts, if it can be cut: behind line feeds that were there to be seen."""
    if size_bytes <= part_bytes:
        return []
    starts = [0]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _begins_with_a_line(os.pread(descriptor, _SEEK_BYTES, 0)):
            for wanted in range(part_bytes, size_bytes, part_bytes):
                if wanted <= starts[-1]:  # within a line that was read to its end
                    continue
                at = _line_start(descriptor, wanted)
                if at is None or at >= size_bytes:
                    break
                starts.append(at)
    finally:
        if len(starts) == 1:
            os.close(descriptor)
    if len(starts) == 1:
        return []
    stops: list[int | None] = [*starts[1:], None]
    return [
        Part(number, start, stop, descriptor=descriptor)
        for start, stop in zip(starts, stops, strict=True)
    ]


def _begins_with_a_line(head: bytes) -> bool:
    """Whether the first line stands on its own: else documents go over lines, maybe all of them."""
    reader = EventReader()
    for _ in reader.feed(head[: head.find(b"\n") + 1]):
        pass
    return b"\n" in head and reader.is_neutral


def _line_start(descriptor: int, offset: int) -> int | None:
    """The first offset from this one on at which a line begins; None where none does."""
    at = offset - 1
    while data := os.pread(descriptor, _SEEK_BYTES, at):
        found = data.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(data)
    return None


def _event_line_before(descriptor: int, at: int) -> bytes:
    """The line that ends there, where the reader of the part before may have passed over it."""
    end = at - 1
    start = end
    while start > 0 and end - start <= LONG_LINE_BYTES:
        size = min(_SEEK_BYTES, start)
        start -= size
        found = os.pread(descriptor, size, start).rfind(b"\n")
        if found >= 0:
            start += found + 1
            break
    if end - start > LONG_LINE_BYTES:  # those are never passed over
        return b""
    line = os.pread(descriptor, max(0, end - start), start)
    return line if line.startswith(EVENT_HEAD) and line.endswith(b"}") else b""
