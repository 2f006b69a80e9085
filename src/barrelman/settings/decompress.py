"""Compressed bytes -> plain bytes, told by their content.

The only file that imports isal and zstandard; what a format needs is loaded when data of it is
met. Output comes in bounded pieces, whatever a hostile archive unpacks to. What is truncated or
corrupt gives all that can be read of it, and then raises InputError.

A decoder that fails keeps to itself what it made since it was last called. Where a source can be
read a second time it is therefore unpacked in haste, in large strides, and once more with care
where that fails. Where it cannot, as in a pipe, care is taken from the beginning.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeAlias, cast

from barrelman.errors import InputError

if TYPE_CHECKING:
    import bz2
    import lzma
    import zlib

# What a decoder gives at once, at most. A thread that wants the interpreter lock back may wait for
# milliseconds, so in haste it asks for much each time.
_CAREFUL_OUTPUT_BYTES: Final = 256 * 1024
_HASTY_OUTPUT_BYTES: Final = 1024 * 1024
# With care, the output of one slice at most is lost of what is corrupt. And zstandard's streams
# cannot be told how much to give: a block of 4 bytes may hold 128 KiB.
_CAREFUL_SLICE_BYTES: Final = 512
_HASTY_SLICE_BYTES: Final = 64 * 1024
# What an archive may ask for before it gives anything: what `xz -9` and `zstd --long` need fits.
MAX_WINDOW_BYTES: Final = 128 * 1024 * 1024
_REPLAY_BYTES: Final = 1024 * 1024
_BZ2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")

_HINT = "what stands before was read"


class _Broken(Exception):  # noqa: N818 - caught here, and shown to nobody
    """The data is not as it should be, says a decoder in haste."""


class _Codec(Protocol):
    """One compressed stream (gzip member, Zstandard frame, …) from its first byte on."""

    broken: tuple[type[Exception], ...]
    """What it raises where the data is wrong."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def feed(self, data: bytes, most_bytes: int) -> Iterator[bytes]: ...

    def copy(self) -> _Codec | None:
        """One that goes on from here; None where the library cannot do that."""


class _Zlib:
    def __init__(self, inner: zlib._Decompress, *broken: type[Exception]) -> None:
        self._inner = inner
        self.broken = broken

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes, most_bytes: int) -> Iterator[bytes]:
        while True:
            out = self._inner.decompress(data, most_bytes)
            yield out
            data = self._inner.unconsumed_tail
            if self._inner.eof or (not data and len(out) < most_bytes):
                return

    def copy(self) -> _Codec | None:
        return _Zlib(self._inner.copy(), *self.broken)


class _Blocks:
    """What bz2 and lzma have in common."""

    def __init__(
        self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor, *broken: type[Exception]
    ) -> None:
        self._inner = inner
        self.broken = broken

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes, most_bytes: int) -> Iterator[bytes]:
        yield self._inner.decompress(data, most_bytes)
        while not self._inner.eof and not self._inner.needs_input:
            yield self._inner.decompress(b"", most_bytes)

    def copy(self) -> None:
        return None


class _Zstd:
    def __init__(self, inner: Any, *broken: type[Exception]) -> None:
        self._inner = inner
        self.broken = broken

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def feed(self, data: bytes, most_bytes: int) -> Iterator[bytes]:
        yield self._inner.decompress(data)

    def copy(self) -> None:
        return None


def _open_gzip() -> _Codec:
    import zlib

    return _Zlib(zlib.decompressobj(wbits=31), zlib.error)


def _open_zstd() -> _Codec:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    return _Zstd(decompressor.decompressobj(), zstandard.ZstdError)


def _open_bz2() -> _Codec:
    import bz2

    return _Blocks(bz2.BZ2Decompressor(), OSError, ValueError, EOFError)


def _open_xz() -> _Codec:
    import lzma

    inner = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW_BYTES)
    return _Blocks(inner, lzma.LZMAError, EOFError)


class _ChunkFile(io.RawIOBase):
    """Chunks as the file that a library wants to read; `end` is put behind the last one."""

    def __init__(self, chunks: Iterator[bytes], *, end: bytes = b"") -> None:
        self._chunks = chunks
        self._next = next(chunks, b"")
        self._end = end
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """A whole chunk: more than was asked for, or less."""
        chunk = self._next
        self._next = next(self._chunks, b"") if chunk else b""
        if not self._next:
            chunk, self._end = chunk + self._end, b""
        return chunk

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(self.read())
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _hasty_gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """By isal, which is twice as fast as zlib; nothing of it can be copied to go back to."""
    try:
        from isal import igzip, isal_zlib
    except ImportError:  # there is none for this machine
        yield from _Unpacking(_open_gzip).run(chunks)
        return
    import zlib

    errors: Any = (isal_zlib.error, zlib.error, OSError, EOFError, ValueError)
    try:
        reader = igzip.open(_ChunkFile(chunks), "rb")  # type: ignore[no-untyped-call]
        while piece := reader.read(_HASTY_OUTPUT_BYTES):
            yield piece
    except errors as error:
        raise _Broken from error


# A reader over frames does not say whether the last one was whole. So a frame of this text and a
# checksum is put behind it, and comes out whole only then. It has to come in one read with what is
# before it: after part of a header, the library takes a read that begins with a frame for that.
_LAST_TEXT: Final = b"\n" * 64


def _hasty_zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    last_frame = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(_LAST_TEXT)
    file = cast("BinaryIO", _ChunkFile(chunks, end=last_frame))
    held = b""
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        reader = decompressor.stream_reader(file, read_across_frames=True)
        while piece := reader.read(_HASTY_OUTPUT_BYTES):
            if len(piece) < len(_LAST_TEXT):
                held += piece
                continue
            if held:
                yield held
            held = piece
    except (zstandard.ZstdError, OSError) as error:
        raise _Broken from error
    if not held.endswith(_LAST_TEXT):
        raise _Broken
    if len(held) > len(_LAST_TEXT):
        yield held[: -len(_LAST_TEXT)]


def _hasty_bz2(chunks: Iterator[bytes]) -> Iterator[bytes]:
    return _Unpacking(_open_bz2, in_haste=True).run(chunks)


def _hasty_xz(chunks: Iterator[bytes]) -> Iterator[bytes]:
    return _Unpacking(_open_xz, in_haste=True).run(chunks)


@dataclass(frozen=True, slots=True)
class _Format:
    magic: tuple[bytes, ...]
    open_codec: Callable[[], _Codec]
    in_haste: Callable[[Iterator[bytes]], Iterator[bytes]]


_FORMATS: Final = (
    _Format((b"\x1f\x8b\x08",), _open_gzip, _hasty_gzip),
    _Format(
        (
            b"\x28\xb5\x2f\xfd",
            *(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60)),
        ),
        _open_zstd,
        _hasty_zstd,
    ),
    _Format(
        tuple(b"BZh%d" % level + block for level in range(1, 10) for block in _BZ2_BLOCKS),
        _open_bz2,
        _hasty_bz2,
    ),
    _Format((b"\xfd7zXZ\0",), _open_xz, _hasty_xz),
)
LONGEST_MAGIC_BYTES: Final = 10


def may_be_compressed(head: bytes) -> bool:
    """Whether the first bytes are, or could become, the beginning of a known format."""
    return any(_may_be(head, form) for form in _FORMATS)


def is_compressed_head(head: bytes) -> bool:
    """Whether the first LONGEST_MAGIC_BYTES of a source, or all it has, tell a known format."""
    return _format_of(head) is not None


def _may_be(head: bytes, form: _Format) -> bool:
    return any(head[: len(magic)] == magic[: len(head)] for magic in form.magic)


def _format_of(head: bytes) -> _Format | None:
    for form in _FORMATS:
        if _may_be(head, form) and len(head) >= len(form.magic[0]):
            return form
    return None


Reread: TypeAlias = Callable[[], Iterable[bytes]]
"""The chunks of a source from its first byte on, once more."""


def decompress(
    chunks: Iterable[bytes], *, reread: Reread | None = None
) -> Generator[bytes, None, None]:
    """The plain bytes of a source. Empty chunks are passed on: nothing came for a while.

    With `reread` there are no empty chunks, and it goes faster. Raises InputError, after all that
    could be read, where the source is broken.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        if not chunk:
            yield b""
            continue
        head += chunk
        if not may_be_compressed(head) or len(head) >= LONGEST_MAGIC_BYTES:
            break
    form = _format_of(head)
    if form is None:
        if head:
            yield head
        yield from source
    elif reread is None:
        yield from _Unpacking(form.open_codec).run(_chain([head], source))
    else:
        yield from _unpack_twice(form, _chain([head], source), reread)


def _chain(*parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield from part


def _unpack_twice(form: _Format, chunks: Iterator[bytes], reread: Reread) -> Iterator[bytes]:
    """In haste; and what that does not give, with care."""
    given_bytes = 0
    try:
        for piece in form.in_haste(chunks):
            given_bytes += len(piece)
            yield piece
    except _Broken:
        pass
    else:
        return
    for piece in _Unpacking(form.open_codec).run(iter(reread())):
        if len(piece) > given_bytes:
            yield piece[given_bytes:]
        given_bytes = max(0, given_bytes - len(piece))


class _Unpacking:
    """Stream after stream of one format, until the input ends."""

    def __init__(self, open_codec: Callable[[], _Codec], *, in_haste: bool = False) -> None:
        self._open = open_codec
        self._in_haste = in_haste
        self._most_bytes = _HASTY_OUTPUT_BYTES if in_haste else _CAREFUL_OUTPUT_BYTES
        self._problem: InputError | None = None
        self._codec: _Codec | None = None
        self._is_first = True
        self._slice_bytes = _CAREFUL_SLICE_BYTES
        self._taken_bytes = 0
        """The stream's input so far."""
        self._output_bytes = 0
        self._origin: _Codec | None = None
        """The decoder before `_given` was fed to it; None is a new one."""
        self._origin_bytes = 0
        """The output up to there."""
        self._given: list[bytes] | None = []
        """The input since then, while short, to save what stands before a corrupt byte."""
        self._given_bytes = 0

    def run(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if not chunk:
                yield b""
                continue
            batch: list[bytes] = []
            batch_bytes = 0
            for out in self._feed(chunk):
                batch.append(out)
                batch_bytes += len(out)
                if batch_bytes >= _CAREFUL_OUTPUT_BYTES:
                    yield b"".join(batch)
                    batch, batch_bytes = [], 0
            if batch_bytes:
                yield b"".join(batch)
            if self._problem is not None:
                raise self._problem
        if self._codec is not None:
            raise InputError("the compressed data is truncated", hint=_HINT)

    def _feed(self, chunk: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(chunk):
            if self._codec is None:
                while at < len(chunk) and chunk[at] == 0 and not self._is_first:
                    at += 1  # padding between streams
                if at == len(chunk):
                    return
                self._codec = self._begin()
            codec = self._codec
            data = chunk[at : at + self._slice_bytes]
            at += len(data)
            try:
                for out in self._step(codec, data):
                    self._output_bytes += len(out)
                    if out:
                        yield out
            except codec.broken as error:
                if self._in_haste:
                    raise _Broken from error
                yield from self._save(codec, data)
                self._problem = self._describe(error)
                return
            if codec.eof:
                at -= len(codec.unused_data)
                self._codec = None
                self._is_first = False

    def _begin(self) -> _Codec:
        self._slice_bytes = _CAREFUL_SLICE_BYTES
        self._taken_bytes = self._output_bytes = self._given_bytes = self._origin_bytes = 0
        self._origin, self._given = None, []
        return self._open()

    def _step(self, codec: _Codec, data: bytes) -> Iterator[bytes]:
        origin = None if self._in_haste else codec.copy()
        if origin is not None:
            self._origin, self._origin_bytes = origin, self._output_bytes
            self._given, self._given_bytes = [], 0
        yield from codec.feed(data, self._most_bytes)
        self._taken_bytes += len(data)
        if self._in_haste or origin is not None:  # little by little: many streams are short
            self._slice_bytes = min(self._slice_bytes * 4, _HASTY_SLICE_BYTES)
        elif self._given is not None:
            self._given.append(data)
            self._given_bytes += len(data)
            if self._given_bytes > _REPLAY_BYTES:
                self._given = None

    def _save(self, codec: _Codec, data: bytes) -> Iterator[bytes]:
        """What the slice that broke holds before its corrupt byte, byte by byte."""
        if self._given is None:
            return
        skip = self._output_bytes - self._origin_bytes
        replay = self._origin or self._open()
        try:
            for step in [*self._given, *(bytes([byte]) for byte in data)]:
                for out in replay.feed(step, self._most_bytes):
                    if len(out) > skip:
                        yield out[skip:]
                    skip = max(0, skip - len(out))
        except codec.broken:
            return

    def _describe(self, error: Exception) -> InputError:
        if "emory" in str(error):  # both libraries say so, in a message alone
            limit = f"{MAX_WINDOW_BYTES // 2**20} MiB"
            hint = f"pack it with a dictionary or window below {limit}"
            return InputError(f"unpacking it takes more than {limit} of memory", hint=hint)
        if not self._is_first and self._output_bytes == 0 and self._taken_bytes == 0:
            return InputError("something else follows the compressed data", hint=_HINT)
        return InputError(f"the compressed data is corrupt: {error}", hint=_HINT)
