from pathlib import Path

import pytest
from eventrows import START_US, describe, line_of

from barrelman.store.bounds import Bounds
from barrelman.store.columns import Batch
from barrelman.store.frames import Block, Head, Record, Unpacker
from barrelman.store.segments import (
    Rebuilt,
    Segment,
    clear_drafts,
    described,
    load,
    publish,
    put_aside,
    rebuild,
    records_of,
    remove,
    stems_in,
)


def block(first_seq: int, count: int) -> Block:
    lines = b"".join(line_of(first_seq + at) + b"\n" for at in range(count))
    runs = [("c", count)]
    times = (START_US + first_seq, START_US + first_seq + count - 1)
    return Block(Head(first_seq, count, [(START_US, count)], runs, times, 0, len(lines)), lines, {})


def published(folder: Path, first_seq: int = 0, *, blocks: int = 5, rows: int = 20) -> Segment:
    made: list[Batch] = []
    some = [block(first_seq + at * rows, rows) for at in range(blocks)]
    for _ in described(iter(some), describe, made):
        pass
    return publish(folder, iter(some), made)


def seqs(segment: Segment) -> list[int]:
    unpacker = Unpacker()
    found = [
        unpacker.block(each).head
        for each in records_of(segment, Bounds())
        if isinstance(each, Record)
    ]
    return [head.first_seq + at for head in found for at in range(head.rows)]


def test_a_segment_is_two_files_under_its_day(tmp_path: Path) -> None:
    segment = published(tmp_path, 100)
    assert segment.stem == tmp_path / "2026-11-18" / "0000000000000100-0000000000000199"
    assert sorted(segment.stem.parent.iterdir()) == [segment.columns, segment.lines]
    assert load(segment.stem) == segment
    assert segment.rows == 100
    assert segment.size == segment.lines.stat().st_size + segment.columns.stat().st_size
    assert seqs(segment) == list(range(100, 200))
    assert stems_in(tmp_path) == {segment.stem: {".zst", ".parquet"}}


def test_a_segment_goes_with_its_day(tmp_path: Path) -> None:
    first, second = published(tmp_path, 0), published(tmp_path, 100)
    remove(first)
    assert list(stems_in(tmp_path)) == [second.stem]
    remove(second)
    remove(second)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_together_is_not_loaded(tmp_path: Path) -> None:
    segment = published(tmp_path)
    content = segment.lines.read_bytes()
    for length in (0, 10, len(content) - 1):
        segment.lines.write_bytes(content[:length])
        assert load(segment.stem) is None
    segment.lines.write_bytes(content)
    segment.columns.write_bytes(segment.columns.read_bytes()[:-1])
    assert load(segment.stem) is None


def check_rebuilt(segment: Segment, rebuilt: Rebuilt, *, kept: list[int]) -> None:
    assert rebuilt.segment is not None
    assert rebuilt.lost == segment.rows - len(kept)
    assert load(segment.stem) == rebuilt.segment
    assert seqs(rebuilt.segment) == kept
    assert rebuilt.segment.rows == len(kept)


@pytest.mark.parametrize("how", ["cut", "gone", "rubbish"])
def test_columns_are_made_anew_out_of_lines(tmp_path: Path, how: str) -> None:
    segment = published(tmp_path)
    lines = segment.lines.read_bytes()
    if how == "gone":
        segment.columns.unlink()
    else:
        segment.columns.write_bytes(
            b"rubbish" if how == "rubbish" else segment.columns.read_bytes()[:200]
        )
    rebuilt = rebuild(segment.stem, describe, damaged=tmp_path / "damaged")
    check_rebuilt(segment, rebuilt, kept=list(range(100)))
    assert segment.lines.read_bytes() == lines
    assert (tmp_path / "damaged").exists() == (how != "gone")


def test_lines_that_are_cut_keep_their_whole_frames(tmp_path: Path) -> None:
    segment = published(tmp_path)
    content = segment.lines.read_bytes()
    segment.lines.write_bytes(content[: len(content) // 2])
    rebuilt = rebuild(segment.stem, describe, damaged=tmp_path / "damaged")
    check_rebuilt(segment, rebuilt, kept=list(range(40)))
    (kept,) = (tmp_path / "damaged").glob("*.zst.*")
    assert kept.read_bytes() == content[: len(content) // 2]


def test_a_broken_frame_in_the_middle_is_left_out(tmp_path: Path) -> None:
    segment = published(tmp_path)
    places = [each.at for each in records_of(segment, Bounds())]
    with open(segment.lines, "r+b") as file:
        file.seek(places[2] - 5)
        file.write(b"\0\0\0")
    rebuilt = rebuild(segment.stem, describe, damaged=tmp_path / "damaged")
    check_rebuilt(segment, rebuilt, kept=[*range(20), *range(40, 100)])


def test_where_no_frame_is_whole_there_is_no_segment(tmp_path: Path) -> None:
    segment = published(tmp_path)
    segment.lines.write_bytes(b"\0" * 1000)
    assert rebuild(segment.stem, describe, damaged=tmp_path / "damaged") == Rebuilt(None, 100)
    assert stems_in(tmp_path) == {}
    assert len(list((tmp_path / "damaged").iterdir())) == 2


def test_drafts_are_no_segments(tmp_path: Path) -> None:
    segment = published(tmp_path)
    for ending in (".zst.tmp", ".parquet.tmp"):
        (segment.stem.parent / f"draft{ending}").write_text("")
    assert list(stems_in(tmp_path)) == [segment.stem]
    clear_drafts(tmp_path)
    assert len(list(segment.stem.parent.iterdir())) == 2


def test_what_is_put_aside_twice_is_kept_twice(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("one")
    first = put_aside(tmp_path / "f", tmp_path / "damaged")
    second = put_aside(tmp_path / "f", tmp_path / "damaged")
    assert first != second
    assert first.read_text() == second.read_text() == "one"
