from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.errors import InputError
from barrelman.settings.decompress import decompress
from barrelman.settings.sources import Source, expand_sources, is_compressed, read_chunks

LINES = b"".join(b'{"line":%d}\n' % number for number in range(5000))


def names(*paths: Path | str) -> list[str]:
    """The names of the sources; errors as `!message`."""
    return [
        f"!{found.message}" if isinstance(found, InputError) else os.path.basename(found.name)
        for found in expand_sources([str(path) for path in paths])
    ]


def make(folder: Path, *files: str) -> None:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode())


ROTATIONS = [
    [
        "audit-2025-12-31T23-59-59.999.log.gz",
        "audit-2026-11-23T07-06-00.000.log",
        "audit-2026-11-23T07-06-00.001.log.zst",
        "audit.log",
    ],
    ["audit.log.10.gz", "audit.log.9.gz", "audit.log.2.gz", "audit.log.1", "audit.log"],
    ["audit.log-20251231.gz", "audit.log-20260101", "audit.log"],
    ["audit.log.2026-11-22.xz", "audit.log.2026-11-23", "audit.log"],
    ["a.log.1", "a.log", "b.log.2", "b.log.1", "b.log", "events.json"],
]


@pytest.mark.parametrize("files", ROTATIONS)
def test_rotated_logs_come_oldest_first(tmp_path: Path, files: list[str]) -> None:
    make(tmp_path, *reversed(files))
    assert names(tmp_path) == files
    assert names(tmp_path / "*") == files


def test_folders_are_read_to_the_bottom(tmp_path: Path) -> None:
    make(tmp_path, "b/audit.log", "b/audit.log.1", "a/x/deep.log", "top.log", ".hidden", ".git/x")
    assert names(tmp_path) == ["top.log", "deep.log", "audit.log.1", "audit.log"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path, "logs/pods/audit.log", "elsewhere/more.log")
    logs = tmp_path / "logs"
    (logs / "pods" / "loop").symlink_to(logs)
    (logs / "latest.log").symlink_to(logs / "pods" / "audit.log")
    (logs / "other").symlink_to(tmp_path / "elsewhere")
    assert names(logs) == ["latest.log", "more.log"]
    assert names(logs / "**" / "*.log") == ["latest.log", "more.log"]


def test_a_broken_link_is_an_error_and_the_rest_is_read(tmp_path: Path) -> None:
    make(tmp_path, "a.log")
    (tmp_path / "b.log").symlink_to(tmp_path / "gone")
    first, second = names(tmp_path)
    assert first == "a.log"
    assert second.startswith("!cannot be read")


def test_patterns(tmp_path: Path) -> None:
    make(tmp_path, "a.log", "b.log", "b.txt", "sub/c.log", ".h.log", "[x].log")
    assert names(tmp_path / "?.log") == ["a.log", "b.log"]
    assert names(tmp_path / "**" / "*.log") == ["[x].log", "a.log", "b.log", "c.log"]
    assert names(tmp_path / "s*") == ["c.log"]
    assert names(tmp_path / "[x].log") == ["[x].log"]
    assert names(tmp_path / "*.none") == ["!no file matches this pattern"]


def test_what_is_missing_stops_nothing(tmp_path: Path) -> None:
    make(tmp_path, "a.log")
    (tmp_path / "empty").mkdir()
    found = names(
        tmp_path / "no", tmp_path / "a.log", tmp_path / "empty", "a\0b", tmp_path / "a.log"
    )
    assert found[1::3] == ["a.log", "a.log"]
    assert [one[0] for one in (found[0], found[2], found[3])] == ["!", "!", "!"]
    (error,) = expand_sources([str(tmp_path / "no")])
    assert isinstance(error, InputError)
    assert error.place.path == str(tmp_path / "no")


def test_sizes_are_those_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(LINES))
    (source,) = expand_sources([str(path)])
    assert source == Source(str(path), str(path), path.stat().st_size, False)


def test_a_dash_is_standard_input() -> None:
    (source,) = expand_sources(["-"])
    assert isinstance(source, Source)
    assert (source.name, source.path) == ("<stdin>", None)


# Bytes


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
SKIPPABLE = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"
WHOLE: dict[str, tuple[bytes, bytes]] = {
    "plain": (LINES, LINES),
    "empty": (b"", b""),
    "one byte": (b"\x1f", b"\x1f"),
    "almost gzip": (b"\x1f\x8b", b"\x1f\x8b"),
    "almost bz2": (b"BZh91AY&SX", b"BZh91AY&SX"),
    "padded gzip": (gzip.compress(LINES) + b"\0" * 512, LINES),
    "padded members": (gzip.compress(b"a") + b"\0" * 3 + gzip.compress(b"b") + b"\0", b"ab"),
    "padded xz": (lzma.compress(LINES) + b"\0" * 8, LINES),
    "skippable frames": (SKIPPABLE + zstd(b"a") + SKIPPABLE + zstd(b"b") + SKIPPABLE, b"ab"),
    **{name: (pack(LINES), LINES) for name, pack in PACK.items()},
    **{f"{name}, empty": (pack(b""), b"") for name, pack in PACK.items()},
    **{
        f"{name}, several": (pack(LINES) + pack(b"") + pack(b"x"), LINES + b"x")
        for name, pack in PACK.items()
    },
}


def unpack(data: bytes, *, step: int = 0) -> tuple[bytes, str]:
    """What comes out, and the error it ends in."""
    step = step or len(data) or 1
    out = b""
    try:
        for chunk in decompress(data[at : at + step] for at in range(0, len(data), step)):
            out += chunk
    except InputError as error:
        return out, error.message
    return out, ""


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("step", [0, 1, 1000])
def test_compression_is_told_by_content(name: str, step: int) -> None:
    data, plain = WHOLE[name]
    assert unpack(data, step=step) == (plain, "")


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("size", [10, 1000, 200_000])
def test_truncated_data_gives_what_is_there(name: str, size: int) -> None:
    plain = os.urandom(size) * 3
    data = PACK[name](b"first") + PACK[name](plain)
    out, error = unpack(data[:-7])
    assert error == "the compressed data is truncated"
    assert out.startswith(b"first")
    assert (b"first" + plain).startswith(out)


@pytest.mark.parametrize("name", PACK)
def test_corrupt_data_gives_what_stands_before(name: str) -> None:
    good, bad = PACK[name](LINES), bytearray(PACK[name](LINES))
    bad[len(bad) // 2] ^= 0xFF
    bad[len(bad) // 2 + 1] ^= 0xFF
    out, error = unpack(good + bytes(bad) + good)
    assert error.startswith("the compressed data is corrupt")
    assert out.startswith(LINES)


def test_a_wrong_checksum_costs_no_line() -> None:
    data = bytearray(gzip.compress(LINES))
    data[-8] ^= 1
    out, error = unpack(bytes(data))
    assert out == LINES
    assert error.startswith("the compressed data is corrupt")


@pytest.mark.parametrize("name", PACK)
def test_other_bytes_behind_the_data(name: str) -> None:
    out, error = unpack(PACK[name](LINES) + b"garbage behind it")
    assert (out, error) == (LINES, "something else follows the compressed data")


@pytest.mark.parametrize("name", PACK)
def test_a_bomb_comes_in_bounded_pieces(name: str) -> None:
    data = PACK[name](bytes(64 * 1024 * 1024))
    total = largest = 0
    for chunk in decompress([data]):
        total += len(chunk)
        largest = max(largest, len(chunk))
    assert total == 64 * 1024 * 1024
    assert largest <= 32 * 1024 * 1024


@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh91AY&SY"]),
)
@settings(deadline=None, max_examples=133)
def test_any_bytes_are_read_or_refused(data: bytes, magic: bytes) -> None:
    out, error = unpack(magic + data)
    if not magic and not error:
        assert out == data


def read(path: Path) -> bytes:
    (source,) = expand_sources([str(path)])
    assert isinstance(source, Source)
    return b"".join(read_chunks(source))


def test_files_are_read_in_large_chunks(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 3_000_000)
    (source,) = expand_sources([str(path)])
    assert isinstance(source, Source)
    seen: list[int] = []
    sizes = [len(chunk) for chunk in read_chunks(source, on_raw_bytes=seen.append)]
    assert sizes == seen == [2**20, 2**20, 3_000_000 - 2**21]


def test_errors_name_the_source(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(LINES)[:-9])
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.place.path == str(path)


def test_a_file_may_vanish_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x")
    (source,) = expand_sources([str(path)])
    assert isinstance(source, Source)
    path.unlink()
    with pytest.raises(InputError):
        list(read_chunks(source))


def test_a_file_may_grow_and_shrink_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 2**21)
    (source,) = expand_sources([str(path)])
    assert isinstance(source, Source)
    chunks = read_chunks(source)
    assert len(next(chunks)) == 2**20
    with open(path, "ab") as file:
        file.write(b"y" * 10)
    assert len(next(chunks)) == 2**20
    assert next(chunks) == b"y" * 10
    path.write_bytes(b"z")
    assert list(chunks) == []


STDIN = Source("<stdin>", None, None, True)


def test_standard_input_may_be_compressed_and_in_memory() -> None:
    for data in (LINES, *(pack(LINES) for pack in PACK.values())):
        assert b"".join(read_chunks(STDIN, stdin=io.BytesIO(data))) == LINES


def test_a_pipe_gives_what_there_is_and_says_when_there_is_nothing() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as stream:
        chunks = read_chunks(STDIN, stdin=stream, idle_seconds=0.001)
        os.write(writer, b"{")
        assert next(chunks) == b"{"
        assert next(chunks) == b""
        os.write(writer, b"}\n")
        assert next(chunk for chunk in chunks if chunk) == b"}\n"
        os.close(writer)
        assert b"".join(chunks) == b""


def test_a_compressed_pipe_gives_what_there_is() -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    reader, writer = os.pipe()
    with open(reader, "rb") as stream:
        chunks = read_chunks(STDIN, stdin=stream, idle_seconds=0.001)
        assert next(chunks) == b""
        os.write(
            writer, packer.compress(b"one\n") + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        )
        assert next(chunk for chunk in chunks if chunk) == b"one\n"
        assert next(chunks) == b""
        os.write(writer, packer.compress(b"two\n") + packer.flush())
        os.close(writer)
        assert b"".join(chunks) == b"two\n"


def test_a_pipe_without_idle_seconds_waits(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (source,) = expand_sources([str(fifo)])
    assert isinstance(source, Source)
    assert (source.is_live, source.size_bytes) == (True, None)
    writer = threading.Thread(target=fifo.write_bytes, args=(LINES,))
    writer.start()
    assert b"".join(read_chunks(source)) == LINES
    writer.join()


def test_pipes_in_folders_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.log")
    os.mkfifo(tmp_path / "fifo")
    assert names(tmp_path) == ["a.log"]


def test_a_named_pipe_waits_for_its_first_writer(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (source,) = expand_sources([str(fifo)])
    assert isinstance(source, Source)
    chunks = read_chunks(source, idle_seconds=0.01)
    assert [next(chunks) for _ in range(3)] == [b"", b"", b""]
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    assert next(chunks) == b""
    os.write(writer, b"one")
    assert next(chunk for chunk in chunks if chunk) == b"one"
    assert next(chunks) == b""
    os.close(writer)
    assert b"".join(chunks) == b""


def zstd_with_window(log2_bytes: int) -> bytes:
    """A frame of one raw block, its window named in the header."""
    window = bytes([(log2_bytes - 10) << 3])
    return b"\x28\xb5\x2f\xfd\x00" + window + (1 | 3 << 3).to_bytes(3, "little") + b"{}\n"


def xz_with_dictionary(size_code: int) -> bytes:
    """A small stream whose header asks for a dictionary of 2**(12 + code / 2) bytes."""
    data = bytearray(lzma.compress(b"{}\n"))
    at = data.index(b"\x21\x01", 12) + 2
    end = 12 + (data[12] + 1) * 4
    data[at] = size_code
    data[end - 4 : end] = zlib.crc32(data[12 : end - 4]).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("data", [xz_with_dictionary(28), zstd_with_window(27)], ids=["xz", "zstd"])
def test_windows_that_packers_use_are_read(data: bytes) -> None:
    assert b"".join(decompress([data])) == b"{}\n"


@pytest.mark.parametrize("data", [xz_with_dictionary(34), zstd_with_window(30)], ids=["xz", "zstd"])
def test_an_archive_that_asks_for_much_memory_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="more than 128 MiB of memory"):
        list(decompress([data]))


@pytest.mark.parametrize("name", PACK)
def test_compression_of_a_file_is_told_beforehand(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(PACK[name](LINES))
    assert is_compressed(str(path))
    for plain in (LINES, b"", PACK[name](LINES)[:2]):
        path.write_bytes(plain)
        assert not is_compressed(str(path))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        is_compressed(str(path))


# More of it is plain than waits to be taken.
LARGE = LINES * 100


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("name", ["plain", *PACK])
def test_files_are_decompressed_by_a_thread_that_ends_with_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(PACK.get(name, bytes)(LARGE))
    (source,) = expand_sources([str(path)])
    assert isinstance(source, Source)
    files, threads = open_files(), threading.active_count()
    chunks = read_chunks(source)
    first = next(chunks)
    assert LARGE.startswith(first)
    assert len(first) < len(LARGE)
    assert threading.active_count() == threads + (name != "plain")
    assert open_files() == files + 1
    chunks.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads
    assert open_files() == files
    assert b"".join(read_chunks(source)) == LARGE
    assert threading.active_count() == threads
    assert open_files() == files


def read_all(chunks: Iterator[bytes]) -> tuple[bytes, str]:
    """What comes out, and the error it ends in."""
    out = bytearray()
    try:
        for chunk in chunks:
            out += chunk
    except InputError as error:
        return bytes(out), error.message
    return bytes(out), ""


@pytest.mark.parametrize("end", ["whole", "truncated", "more"])
@pytest.mark.parametrize("name", PACK)
def test_raw_bytes_are_told_where_they_are_asked_for(tmp_path: Path, name: str, end: str) -> None:
    packed = PACK[name](LARGE)
    data = {"whole": packed, "truncated": packed[:-9], "more": packed + b"more"}[end]
    path = tmp_path / "a.log"
    path.write_bytes(data)
    (source,) = expand_sources([str(path)])
    assert isinstance(source, Source)
    told: list[tuple[int, int]] = []
    chunks = read_chunks(
        source, on_raw_bytes=lambda size: told.append((size, threading.get_ident()))
    )
    next(chunks)
    assert told
    _, error = read_all(chunks)
    assert bool(error) == (end != "whole")
    assert sum(size for size, _ in told) == len(data)
    assert {ident for _, ident in told} == {threading.get_ident()}


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b\x08" + b"\xff" * 100,
        zstd(b"a") + bytes(3) + zstd(random.Random(1).randbytes(3_000_000)),
    ],
    ids=["nothing comes of it", "read again after its first bytes"],
)
def test_all_raw_bytes_are_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(data)
    (source,) = expand_sources([str(path)])
    assert isinstance(source, Source)
    told: list[int] = []
    read_all(read_chunks(source, on_raw_bytes=told.append))
    assert sum(told) == len(data)


def test_standard_input_from_a_file_begins_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    packed = bytearray(gzip.compress(LARGE))
    packed[-8] ^= 1
    path.write_bytes(b"before" + packed)
    source = Source("<stdin>", None, path.stat().st_size, False)
    with open(path, "rb") as stream:
        assert stream.read(6) == b"before"
        out, error = read_all(read_chunks(source, stdin=stream))
    assert out == LARGE
    assert error.startswith("the compressed data is corrupt")


@pytest.mark.parametrize("place", [0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", PACK)
def test_a_broken_file_gives_what_a_broken_pipe_gives(
    tmp_path: Path, name: str, place: float
) -> None:
    data = bytearray(PACK[name](b"first") + PACK[name](LARGE))
    data[int(place * len(data))] ^= 0x55
    path = tmp_path / "a.log"
    path.write_bytes(data)
    (source,) = expand_sources([str(path)])
    assert isinstance(source, Source)
    out, error = read_all(read_chunks(source))
    assert (out, error) == read_all(read_chunks(STDIN, stdin=io.BytesIO(data)))
    assert out.startswith(b"first")
    assert error
