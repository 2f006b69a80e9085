import os
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.store.bounds import bounds_of
from barrelman.store.frames import (
    Block,
    Frame,
    Gap,
    Head,
    Packer,
    Record,
    Unpacker,
    clipped,
    frame_of,
    merged,
    record_at,
    records_in,
    records_within,
)


def block(first_seq: int, lines: list[bytes], **changes: Any) -> Block:
    count = len(lines)
    joined = b"".join(line + b"\n" for line in lines)
    head = Head(first_seq, count, [(100, count)], [("c", count)], (5, 9), 0, len(joined))
    return Block(head._replace(**changes), joined, {})


def written(path: Path, blocks: list[Block], *, level: int = 1) -> list[tuple[int, int]]:
    packer = Packer(level=level)
    places = []
    content = b""
    for each in blocks:
        packed = packer.packed(each)
        places.append((len(content), len(content) + len(packed)))
        content += packed
    path.write_bytes(content)
    return places


def read(path: Path) -> list[Record | Gap]:
    with open(path, "rb") as file:
        return list(records_in(file.fileno(), end=os.fstat(file.fileno()).st_size))


BLOCKS = [block(10 * n, [b"line %d %d" % (n, at) * (n + 1) for at in range(10)]) for n in range(5)]


@given(
    lines=st.lists(st.binary(max_size=50).map(lambda raw: raw.replace(b"\n", b"")), min_size=1),
    wrappers=st.dictionaries(st.integers(0, 5), st.binary(max_size=20)),
)
@settings(max_examples=50, deadline=None)
def test_what_is_packed_comes_back(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], wrappers: dict[int, bytes]
) -> None:
    path = tmp_path_factory.mktemp("frames") / "f"
    before = block(7, lines)._replace(wrappers=wrappers)
    ((_, end),) = written(path, [before])
    with open(path, "rb") as file:
        found = record_at(file.fileno(), 0, end=end)
    assert isinstance(found, Record)
    after = Unpacker().block(found)
    assert after.lines == before.lines
    assert after.wrappers == wrappers
    assert after.head.extent == before.head.extent


def test_a_file_of_records_is_a_zstd_file(tmp_path: Path) -> None:
    written(tmp_path / "f", BLOCKS)
    with open(tmp_path / "f", "rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        assert reader.read() == b"".join(each.lines for each in BLOCKS)


def test_frames_tell_their_rows(tmp_path: Path) -> None:
    frame = frame_of(
        block(3, [b"a", b"", b"ccc"], arrivals=[(1, 2), (4, 1)], clusters=[("x", 1), ("y", 2)])
    )
    assert list(frame.starts) == [0, 2, 3]
    assert list(frame.seqs) == [3, 4, 5]
    assert frame.arrivals_us == [1, 1, 4]
    assert frame.clusters == ["x", "y", "y"]
    assert frame.has_only_raw


def test_merged_blocks_are_their_rows_in_a_row() -> None:
    first = block(0, [b"a", b"b"])._replace(wrappers={1: b"w"})
    second = block(2, [b"c"], arrivals=[(100, 1)], clusters=[("d", 1)], time_us=None, untimed=1)
    third = block(3, [b"e"], arrivals=[(200, 1)], time_us=(1, 2))._replace(wrappers={0: b"v"})
    both = merged([first, second, third])
    assert both.lines == b"a\nb\nc\ne\n"
    assert both.wrappers == {1: b"w", 3: b"v"}
    assert both.head == Head(
        0, 4, [(100, 3), (200, 1)], [("c", 2), ("d", 1), ("c", 1)], (1, 9), 1, 8
    )


@pytest.mark.parametrize(
    ("first", "last", "lines"),
    [
        (0, 99, b"a\nbb\nccc\n"),
        (11, 99, b"bb\nccc\n"),
        (0, 10, b"a\n"),
        (11, 11, b"bb\n"),
        (13, 99, None),
        (0, 9, None),
    ],
)
def test_clipping(first: int, last: int, lines: bytes | None) -> None:
    whole = frame_of(block(10, [b"a", b"bb", b"ccc"])._replace(wrappers={1: b"w"}))
    part = clipped(whole, first_seq=first, last_seq=last)
    assert (part and part.lines) == lines
    if part is not None:
        check_frame(part)
        assert (11 in part.seqs) == (not part.has_only_raw)
        assert all(part.seqs[at] == 11 for at in part.wrappers)


def check_frame(frame: Frame) -> None:
    assert len(frame.starts) == len(frame.seqs) == len(frame.arrivals_us) == len(frame.clusters)
    ends = [*frame.starts[1:], len(frame.lines)]
    assert all(frame.lines[end - 1 : end] == b"\n" for end in ends)


def test_a_file_cut_anywhere_keeps_its_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "f"
    places = written(path, BLOCKS[:3])
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        found = read(path)
        whole = [each for each in found if isinstance(each, Record)]
        gaps = [each for each in found if isinstance(each, Gap)]
        assert len(whole) == sum(end <= length for _, end in places)
        assert sum(each.end - each.at for each in found) == length
        assert all(gap.is_cut for gap in gaps), length
        assert len(gaps) == (length not in {0, *(end for _, end in places)})


def test_a_broken_byte_costs_its_own_record_only(tmp_path: Path) -> None:
    path = tmp_path / "f"
    places = written(path, BLOCKS)
    content = path.read_bytes()
    start, end = places[2]
    others = [each.head.first_seq for at, each in enumerate(BLOCKS) if at != 2]
    for at in range(start, end):
        broken = bytearray(content)
        broken[at] ^= 0x55
        path.write_bytes(broken)
        found = read(path)
        assert [each.head.first_seq for each in found if isinstance(each, Record)] == others, at
        (gap,) = [each for each in found if isinstance(each, Gap)]
        assert (gap.at, gap.end, gap.is_cut) == (start, end, False)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_rubbish_between_records_hides_none(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes, at: int
) -> None:
    path = tmp_path_factory.mktemp("frames") / "f"
    places = written(path, BLOCKS)
    content = path.read_bytes()
    cut = places[at][0]
    path.write_bytes(content[:cut] + before + content[cut:] + after)
    firsts = [each.head.first_seq for each in read(path) if isinstance(each, Record)]
    assert firsts == [each.head.first_seq for each in BLOCKS]


def test_records_outside_the_bounds_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "f"
    written(
        path,
        [each._replace(head=each.head._replace(time_us=(n, n))) for n, each in enumerate(BLOCKS)],
    )
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size

        def firsts(**bounds: Any) -> list[int]:
            found = records_within(file.fileno(), bounds_of(**bounds), end=end)
            return [each.head.first_seq for each in found if isinstance(each, Record)]

        assert firsts() == [0, 10, 20, 30, 40]
        assert firsts(seq=(19, 20)) == [10, 20]
        assert firsts(time_us=(3, None)) == [30, 40]
        assert firsts(time_us=(None, 1)) == [0, 10]
        assert firsts(arrival_us=(101, None)) == []
        assert firsts(clusters=["c", "d"]) == [0, 10, 20, 30, 40]
        assert firsts(clusters=[]) == []


def test_bounds_of_time_pass_rows_without_a_time(tmp_path: Path) -> None:
    extent = block(0, [b"a"], time_us=None, untimed=1).head.extent
    assert bounds_of(time_us=(1, 2)).may_meet(extent)
    assert not bounds_of(time_us=(10, 20)).may_meet(block(0, [b"a"]).head.extent)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert read(tmp_path / "f") == []
