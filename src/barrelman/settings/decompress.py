"""Compressed bytes -> plain bytes, told by their content. The only file that imports zstandard.

Output comes in bounded pieces, whatever a hostile archive unpacks to. What is truncated or
corrupt gives all that can be read of it, and then raises InputError.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

import zstandard

from barrelman.errors import InputError

_OUTPUT_BYTES: Final = 256 * 1024
# Zstandard cannot be told how much to give: a block of 4 bytes may hold 128 KiB. It gets little
# at a time; and of what is corrupt, the output of one slice at most is lost.
_SLICE_BYTES: Final = 512
# What an archive may ask for before it gives anything: what `xz -9` and `zstd --long` need fits.
MAX_WINDOW_BYTES: Final = 128 * 1024 * 1024
_REPLAY_BYTES: Final = 1024 * 1024
_BZ2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")

_HINT = "what stands before was read"

_BROKEN = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError, ValueError)


class _Codec(Protocol):
    """One compressed stream (gzip member, Zstandard frame, …) from its first byte on."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Zlib:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            out = self._inner.decompress(data, _OUTPUT_BYTES)
            yield out
            data = self._inner.unconsumed_tail
            if self._inner.eof or (not data and len(out) < _OUTPUT_BYTES):
                return


class _Blocks:
    """What bz2 and lzma have in common."""

    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner = inner

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._inner.decompress(data, _OUTPUT_BYTES)
        while not self._inner.eof and not self._inner.needs_input:
            yield self._inner.decompress(b"", _OUTPUT_BYTES)


class _Zstd:
    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._inner.decompress(data)


def decompress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The plain bytes of a source. Empty chunks are passed on: nothing came for a while.

    Raises InputError, after all that could be read, where the source is broken.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        if not chunk:
            yield b""
            continue
        head += chunk
        fits = [open_codec for magic, open_codec in _CODECS if _may_be(head, magic)]
        if not fits or len(head) >= _LONGEST_MAGIC:
            break
    for magic, open_codec in _CODECS:
        if _may_be(head, magic) and len(head) >= len(magic[0]):
            yield from _Unpacking(open_codec).run(_chain(head, source))
            return
    if head:
        yield head
    yield from source


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def _may_be(head: bytes, magic: tuple[bytes, ...]) -> bool:
    """Whether the first bytes are, or could become, one of these beginnings."""
    return any(head[: len(one)] == one[: len(head)] for one in magic)


class _Unpacking:
    """Stream after stream of one format, until the input ends."""

    def __init__(self, open_codec: Callable[[], _Codec]) -> None:
        self._open = open_codec
        self._problem: InputError | None = None
        self._codec: _Codec | None = None
        self._is_first = True
        self._given: list[bytes] | None = []
        """The stream's input so far, while short, to save what stands before a corrupt byte."""
        self._given_bytes = 0
        self._output_bytes = 0

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
                if batch_bytes >= _OUTPUT_BYTES:
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
                self._begin()
            data = chunk[at : at + _SLICE_BYTES]
            at += len(data)
            try:
                for out in self._step(data):
                    self._output_bytes += len(out)
                    if out:
                        yield out
            except _BROKEN as error:
                yield from self._save(data)
                self._problem = self._describe(error)
                return
            codec = self._codec
            if codec is not None and codec.eof:
                at -= len(codec.unused_data)
                self._codec = None
                self._is_first = False

    def _begin(self) -> None:
        self._codec = self._open()
        self._given, self._given_bytes, self._output_bytes = [], 0, 0

    def _step(self, data: bytes) -> Iterator[bytes]:
        assert self._codec is not None
        yield from self._codec.feed(data)
        if self._given is not None:
            self._given.append(data)
            self._given_bytes += len(data)
            if self._given_bytes > _REPLAY_BYTES:
                self._given = None

    def _save(self, data: bytes) -> Iterator[bytes]:
        """What the slice that broke holds before its corrupt byte, byte by byte."""
        if self._given is None:
            return
        codec = self._open()
        skip = self._output_bytes
        try:
            for step in [*self._given, *(bytes([byte]) for byte in data)]:
                for out in codec.feed(step):
                    if len(out) > skip:
                        yield out[skip:]
                    skip = max(0, skip - len(out))
        except _BROKEN:
            return

    def _describe(self, error: Exception) -> InputError:
        if "emory" in str(error):  # both libraries say so, in a message alone
            limit = f"{MAX_WINDOW_BYTES // 2**20} MiB"
            hint = f"pack it with a dictionary or window below {limit}"
            return InputError(f"unpacking it takes more than {limit} of memory", hint=hint)
        if not self._is_first and self._output_bytes == 0 and self._given_bytes == 0:
            return InputError("something else follows the compressed data", hint=_HINT)
        return InputError(f"the compressed data is corrupt: {error}", hint=_HINT)


_CODECS: Final[tuple[tuple[tuple[bytes, ...], Callable[[], _Codec]], ...]] = (
    ((b"\x1f\x8b\x08",), _Zlib),
    (
        (
            b"\x28\xb5\x2f\xfd",
            *(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60)),
        ),
        _Zstd,
    ),
    (
        tuple(b"BZh%d" % level + block for level in range(1, 10) for block in _BZ2_BLOCKS),
        lambda: _Blocks(bz2.BZ2Decompressor()),
    ),
    (
        (b"\xfd7zXZ\0",),
        lambda: _Blocks(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW_BYTES)),
    ),
)
_LONGEST_MAGIC = 10
