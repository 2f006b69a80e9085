"""What a file gives is unpacked in haste, what a pipe gives with care: nothing may tell the two
apart, and nothing that stands before a mistake may be lost.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.errors import InputError
from barrelman.settings.decompress import decompress, is_compressed_head, may_be_compressed

LINES = b"".join(b'{"line":%d}\n' % number for number in range(5000))
# Packs to more than is kept of a pipe to be replayed.
LONG = random.Random(1).randbytes(1_500_000).hex().encode()

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
SKIPPABLE = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"


def chunks(data: bytes, step: int = 2**20) -> Iterator[bytes]:
    return (data[at : at + step] for at in range(0, len(data), step))


def collect(pieces: Iterator[bytes]) -> tuple[bytes, str]:
    """What comes out, and the error it ends in."""
    out = bytearray()
    try:
        for piece in pieces:
            out += piece
    except InputError as error:
        return bytes(out), error.message
    return bytes(out), ""


def from_pipe(data: bytes, step: int = 2**20) -> tuple[bytes, str]:
    return collect(decompress(chunks(data, step)))


def from_file(data: bytes, step: int = 2**20) -> tuple[bytes, str]:
    return collect(decompress(chunks(data, step), reread=lambda: chunks(data, 2**16)))


def byte_by_byte(data: bytes) -> tuple[bytes, str]:
    """What zlib gives of one member, the obvious and slow way."""
    inner = zlib.decompressobj(wbits=31)
    out = bytearray()
    try:
        for byte in data:
            out += inner.decompress(bytes([byte]))
    except zlib.error as error:
        return bytes(out), f"the compressed data is corrupt: {error}"
    return bytes(out), "" if inner.eof else "the compressed data is truncated"


WHOLE: dict[str, tuple[bytes, bytes]] = {
    "almost gzip": (b"\x1f\x8b", b"\x1f\x8b"),
    "almost bz2": (b"BZh91AY&SX", b"BZh91AY&SX"),
    "padded gzip": (gzip.compress(LINES) + bytes(512), LINES),
    "padded members": (gzip.compress(b"a") + bytes(3) + gzip.compress(b"b") + b"\0", b"ab"),
    "many members": (b"".join(gzip.compress(b"%d\n" % n) + bytes(n % 3) for n in range(500)),
                     b"".join(b"%d\n" % n for n in range(500))),
    "padded frames": (PACK["zstd"](b"a") + bytes(3) + PACK["zstd"](b"b") + b"\0", b"ab"),
    "many frames": (b"".join(PACK["zstd"](b"%d\n" % n) for n in range(500)),
                    b"".join(b"%d\n" % n for n in range(500))),
    "skippable frames": (SKIPPABLE + PACK["zstd"](b"a") + SKIPPABLE + PACK["zstd"](b"b"), b"ab"),
    "only skippable": (SKIPPABLE, b""),
    "line feeds": (PACK["zstd"](b"\n" * 64) + PACK["zstd"](b"x" + b"\n" * 5000),
                   b"\n" * 64 + b"x" + b"\n" * 5000),
    "padded xz": (lzma.compress(LINES) + bytes(8), LINES),
    **{name: (pack(LINES), LINES) for name, pack in PACK.items()},
    "gzip, long": (PACK["gzip"](LONG), LONG),
    "zstd, long": (PACK["zstd"](LONG), LONG),
    **{f"{name}, empty": (pack(b""), b"") for name, pack in PACK.items()},
    **{
        f"{name}, several": (pack(LINES) + pack(b"") + pack(b"x"), LINES + b"x")
        for name, pack in PACK.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("step", [1000, 2**20])
def test_whole_data_in_haste_and_with_care(name: str, step: int) -> None:
    data, plain = WHOLE[name]
    assert from_file(data, step) == from_pipe(data, step) == (plain, "")


@pytest.mark.parametrize("name", WHOLE)
def test_gzip_without_isal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)  # as where it is not installed
    data, plain = WHOLE[name]
    assert from_file(data) == (plain, "")
    assert from_file(data[:-3]) == from_pipe(data[:-3])


def corrupted(data: bytes, at: int) -> bytes:
    bad = bytearray(data)
    bad[at] ^= 0x55
    return bytes(bad)


@pytest.mark.parametrize("part", range(4))
def test_of_a_corrupt_member_all_that_zlib_gives(part: int) -> None:
    packed = gzip.compress(LINES[:8000])
    for at in range(10 + part, len(packed), 4):
        data = corrupted(packed, at)
        expected, expected_error = byte_by_byte(data)
        assert expected_error
        for out, error in (from_file(data), from_pipe(data)):
            assert out.startswith(expected)
            assert error == expected_error


@pytest.mark.parametrize("place", [0.01, 0.3, 0.68, 0.7, 0.9, 0.999])
def test_of_a_long_corrupt_member_all_that_zlib_gives(place: float) -> None:
    packed = packed_long("gzip")
    assert len(packed) > 1_500_000
    bad = corrupted(packed, int(place * len(packed)))
    expected, expected_error = byte_by_byte(bad)
    assert expected_error
    for out, error in (
        from_file(gzip.compress(LINES) + bad),
        from_pipe(gzip.compress(LINES) + bad),
    ):
        assert out.startswith(LINES + expected)
        assert error == expected_error


@functools.cache
def packed_long(name: str) -> bytes:
    return PACK[name](LONG)


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("place", [0.05, 0.4, 0.7, 0.98])
def test_corrupt_files_give_what_corrupt_pipes_give(name: str, place: float) -> None:
    for packed in (PACK[name](LINES), packed_long(name)):
        data = PACK[name](b"first") + corrupted(packed, int(place * len(packed)))
        out, error = from_file(data)
        expected, expected_error = from_pipe(data)
        assert out.startswith(expected)
        assert out.startswith(b"first")
        assert error == expected_error != ""


@pytest.mark.parametrize("name", PACK)
def test_data_cut_off_anywhere(name: str) -> None:
    first = PACK[name](b"first\n")
    data = first + PACK[name](LINES[:3000])
    for size in range(10, len(data)):
        out, error = from_file(data[:size])
        assert (out, error) == from_pipe(data[:size]) == from_file(data[:size], len(first) + 5)
        is_whole = size == len(first)
        assert error == ("" if is_whole else "the compressed data is truncated")
        assert (b"first\n" + LINES).startswith(out)
        if name == "gzip" and size > len(first):
            assert out == b"first\n" + byte_by_byte(data[len(first) : size])[0]


@pytest.mark.parametrize("is_sized", [False, True])
def test_a_frame_of_line_feeds_cut_off_anywhere(is_sized: bool) -> None:
    """They end as the frame does that is put behind the last one."""
    packer = zstandard.ZstdCompressor(level=-100, write_content_size=is_sized)
    for plain in (b"\n" * 64, b"\n" * 200, bytes(range(11, 100)) + b"\n" * 64):
        data = packer.compress(plain)
        assert from_file(data) == (plain, "")
        for size in range(4, len(data)):
            out, error = from_file(data[:size])
            assert plain.startswith(out)
            assert error == "the compressed data is truncated"


@pytest.mark.parametrize("name", PACK)
def test_something_else_behind_the_data(name: str) -> None:
    data = PACK[name](LINES) + b"garbage behind it"
    assert from_file(data) == (LINES, "something else follows the compressed data")


@pytest.mark.parametrize("extra", [b"", b"\x03\0abc", b"name\0", b"\x03\0abcname\0comment\0"])
def test_headers_of_members(extra: bytes) -> None:
    """Whatever a flag says of what follows, and whether its checksum holds."""
    trailer = struct.pack("<II", zlib.crc32(LINES), len(LINES))
    for flags in range(32):
        header = b"\x1f\x8b\x08" + bytes([flags]) + b"\0\0\0\0\0\x03" + extra
        for check in (b"", struct.pack("<H", zlib.crc32(header) & 0xFFFF), b"\x12\x34"):
            data = header + check + zlib.compress(LINES, wbits=-15) + trailer
            assert from_file(data + data) == from_pipe(data + data)


BOMB = 64 * 1024 * 1024


def rle_bomb() -> bytes:
    """A frame of blocks that hold a byte each, to be repeated 128 Ki times."""
    block = (1 << 1 | 2**17 << 3).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x58" + block * (BOMB // 2**17) + b"\x01\0\0"


@pytest.mark.parametrize(
    "data",
    [*(pack(bytes(BOMB)) for pack in PACK.values()), rle_bomb()],
    ids=[*PACK, "blocks of four bytes"],
)
def test_a_bomb_of_a_file_comes_in_small_pieces(data: bytes) -> None:
    sizes = [len(piece) for piece in decompress(chunks(data), reread=lambda: chunks(data))]
    assert sum(sizes) == BOMB
    assert max(sizes) <= 2 * 2**20


def test_an_archive_that_asks_for_much_memory_is_refused_in_haste_too() -> None:
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(30 - 10) << 3]) + (1 | 3 << 3).to_bytes(3, "little")
    out, error = from_file(frame + b"{}\n")
    assert (out, error) == (b"", "unpacking it takes more than 128 MiB of memory")


@given(
    st.binary(max_size=80),
    st.sampled_from([b"", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"BZh91AY&SY", b"\xfd7zXZ\0"]),
)
@settings(deadline=None, max_examples=133)
def test_any_bytes_give_the_same_in_haste(data: bytes, magic: bytes) -> None:
    out, error = from_file(magic + data)
    expected, expected_error = from_pipe(magic + data)
    assert out.startswith(expected)
    assert error == expected_error


@given(
    st.sampled_from(sorted(PACK)),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3),
    st.lists(st.integers(0, len(LINES)), min_size=1, max_size=3),
)
@settings(deadline=None, max_examples=133)
def test_changed_bytes_lose_nothing_in_haste(
    name: str, changes: list[tuple[int, int]], sizes: list[int]
) -> None:
    data = bytearray(b"".join(PACK[name](LINES[:size]) for size in sizes))
    for at, byte in changes:
        data[at % len(data)] = byte
    out, error = from_file(bytes(data))
    expected, expected_error = from_pipe(bytes(data))
    assert out.startswith(expected)
    if not (name == "gzip" and "header flags" in expected_error):  # isal reads on
        assert error == expected_error


def test_what_was_read_before_need_not_be_there_again() -> None:
    """The file was cut short meanwhile."""
    data = corrupted(gzip.compress(LINES), 5000)
    out, error = collect(decompress(chunks(data), reread=lambda: chunks(data[:100])))
    whole, at_once = from_pipe(data)  # with what the corrupt bytes unpack to, until that shows
    assert whole.startswith(out)
    # Without isal there is no haste, and nothing is read again.
    assert error == (at_once if find_spec("isal") is None else "the compressed data is truncated")


@pytest.mark.parametrize(
    ("data", "is_file", "loaded"),
    [
        (b"{}\n", True, []),
        (gzip.compress(b"{}\n"), False, ["zlib"]),
        (gzip.compress(b"{}\n"), True, ["isal", "zlib"]),
        (PACK["zstd"](b"{}\n"), True, ["zstandard"]),
        (lzma.compress(b"{}\n"), True, ["lzma"]),
    ],
    ids=["plain", "gzip of a pipe", "gzip", "zstd", "xz"],
)
def test_a_library_is_loaded_when_its_data_is_met(
    data: bytes, is_file: bool, loaded: list[str]
) -> None:
    if "isal" in loaded:
        pytest.importorskip("isal")
    watched = {"isal", "zstandard", "lzma"} | set(loaded)
    child = (
        "import sys\n"
        "from barrelman.settings.decompress import decompress\n"
        f"data, watched = {data!r}, {sorted(watched)!r}\n"
        f"again = (lambda: [data]) if {is_file} else None\n"
        "assert b''.join(decompress([data], reread=again)) == b'{}\\n'\n"
        "print(*(name for name in watched if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == loaded


def test_heads() -> None:
    for pack in PACK.values():
        head = pack(LINES)[:10]
        assert is_compressed_head(head)
        assert all(may_be_compressed(head[:size]) for size in range(11))
    assert is_compressed_head(SKIPPABLE[:10])
    for head in (b"", b"\x1f", b"\x1f\x8b\x07", b"BZh91AY&S", b'{"kind":"E', b"\0" * 10):
        assert not is_compressed_head(head)
    assert not may_be_compressed(b'{"kind":"E')
