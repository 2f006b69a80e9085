"""PATHs become sources in order, and sources their plain bytes, whatever packed them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from barrelman.errors import InputError
from barrelman.settings.decompress import decompress
from barrelman.settings.sources import Source, expand_sources, read_chunks

LINES = b"".join(b'{"auditID":"%d"}\n' % number for number in range(5000))
MAGIC = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\x00"]
NOISE = random.Random(7).randbytes(200_000)


def names(found: list[Source | InputError]) -> list[str]:
    return [each.name if isinstance(each, Source) else f"! {each.place.path}" for each in found]


def read(source: Source) -> tuple[bytes, str | None]:
    """All that could be read, and the error at the end."""
    content = b""
    try:
        for chunk in read_chunks(source):
            content += chunk
    except InputError as error:
        return content, error.oneline()
    return content, None


def source_of(path: Path) -> Source:
    (source,) = expand_sources([str(path)])
    assert isinstance(source, Source)
    return source


def test_rotated_files_come_oldest_first(tmp_path: Path) -> None:
    wanted = [
        "audit-2026-11-21T07-06-00.000.log.gz",
        "audit-2026-11-23T07-06-00.000.log",
        "audit.log",
        "other.log.10.gz",
        "other.log.2.gz",
        "other.log.1",
        "other.log",
    ]
    for name in [*wanted, ".hidden"]:
        (tmp_path / name).write_bytes(b"{}\n")
    found = names(expand_sources([str(tmp_path)]))
    assert [os.path.basename(name) for name in found] == wanted
    assert names(expand_sources([f"{tmp_path}/*"])) == found


def test_folders_are_read_to_their_depth_and_links_do_not_loop(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "x.log").write_bytes(b"{}")
    (inner / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert names(expand_sources([str(tmp_path)])) == [str(inner / "x.log")]
    assert names(expand_sources([f"{tmp_path}/**/*.log"])) == [str(inner / "x.log")]


def test_a_path_that_names_nothing_is_an_error_in_its_place(tmp_path: Path) -> None:
    good = tmp_path / "a.log"
    good.write_bytes(b"{}")
    (tmp_path / "empty").mkdir()
    paths = [f"{tmp_path}/none", f"{tmp_path}/*.gz", str(good), f"{tmp_path}/empty", "a\0b"]
    found = expand_sources(paths)
    assert [isinstance(each, Source) for each in found] == [False, False, True, False, False]


def test_a_name_that_looks_like_a_pattern_is_a_name_first(tmp_path: Path) -> None:
    odd = tmp_path / "a[1].log"
    odd.write_bytes(b"{}")
    assert names(expand_sources([str(odd)])) == [str(odd)]


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize(
    "content", [b"", b"x", LINES, NOISE], ids=["empty", "one", "lines", "noise"]
)
def test_compression_is_told_by_content(packer: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(PACKERS[packer](content))
    assert read(source_of(path)) == (content, None)


@pytest.mark.parametrize("packer", [name for name in PACKERS if name != "plain"])
def test_streams_behind_each_other_are_one(packer: str, tmp_path: Path) -> None:
    pack = PACKERS[packer]
    path = tmp_path / "a"
    path.write_bytes(b"".join(pack(LINES[at : at + 9000]) for at in range(0, len(LINES), 9000)))
    assert read(source_of(path)) == (LINES, None)


def test_zero_padding_behind_gzip_is_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(LINES) + bytes(1000))
    assert read(source_of(path)) == (LINES, None)


@pytest.mark.parametrize("packer", [name for name in PACKERS if name != "plain"])
def test_what_stands_before_a_break_is_read(packer: str, tmp_path: Path) -> None:
    packed = PACKERS[packer](LINES)
    for name, broken in (
        ("truncated", packed[:-9]),
        ("garbage", packed + b"garbage behind it" * 10),
    ):
        path = tmp_path / name
        path.write_bytes(broken)
        content, error = read(source_of(path))
        assert LINES.startswith(content)
        assert error is not None, name
        assert str(path) in error
        assert content == LINES or name == "truncated"


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bomb_comes_in_bounded_pieces(packer: str) -> None:
    packed = PACKERS[packer](bytes(50_000_000)) if packer != "plain" else b"x"
    assert max(map(len, decompress([packed]))) <= 17 * 1024 * 1024


@given(data=st.binary(max_size=300), step=st.integers(1, 40), packer=st.sampled_from(list(PACKERS)))
@hypothesis_settings(deadline=None, max_examples=150)
def test_pieces_make_no_difference(data: bytes, step: int, packer: str) -> None:
    packed = PACKERS[packer](data) if packer != "plain" else b"{" + data
    pieces = [packed[at : at + step] for at in range(0, len(packed), step)]
    expected = data if packer != "plain" else packed
    assert b"".join(decompress(pieces)) == expected


@given(data=st.binary(max_size=200), magic=st.sampled_from(MAGIC))
@hypothesis_settings(deadline=None, max_examples=150)
def test_bytes_of_any_kind_end_in_bytes_or_an_input_error(data: bytes, magic: bytes) -> None:
    with contextlib.suppress(InputError):
        assert all(isinstance(piece, bytes) for piece in decompress([magic + data]))


def test_raw_bytes_are_counted_before_they_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(LINES))
    counted: list[int] = []
    assert b"".join(read_chunks(source_of(path), on_raw_bytes=counted.append)) == LINES
    assert sum(counted) == path.stat().st_size


def test_a_live_pipe_says_when_nothing_comes(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    source = source_of(fifo)
    assert source.is_live
    go_on = threading.Event()

    def write() -> None:
        with open(fifo, "wb", buffering=0) as pipe:
            pipe.write(b"first\n")
            go_on.wait(60)
            pipe.write(b"second\n")

    writer = threading.Thread(target=write)
    writer.start()
    chunks: Iterator[bytes] = read_chunks(source, idle_seconds=0.01)
    content, idle = b"", 0
    for chunk in chunks:
        content += chunk
        idle += not chunk
        if idle and content == b"first\n":
            go_on.set()
    writer.join()
    assert content == b"first\nsecond\n"
    assert idle


def test_a_stream_in_memory_is_read_to_its_end() -> None:
    source = Source("<stdin>", None, None, True)
    chunks = read_chunks(source, stdin=io.BytesIO(gzip.compress(LINES)), idle_seconds=0.1)
    assert b"".join(chunks) == LINES


def test_a_file_without_permission_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"{}")
    source = source_of(path)
    path.unlink()
    content, error = read(source)
    assert content == b""
    assert error is not None
    assert "a.log" in error
