import os
from pathlib import Path

import pytest

from barrelman.store.bounds import Bounds
from barrelman.store.frames import Block, Head, Record
from barrelman.store.log import (
    GROUP_BYTES,
    Group,
    LogWriter,
    first_seq_of,
    log_paths,
    read_records,
    skim,
)
from barrelman.store.part import OpenPart
from barrelman.store.view import part_blocks


def block(seq: int, line: bytes = b"x") -> Block:
    return Block(Head(seq, 1, [(seq, 1)], [("c", 1)], None, 1, len(line) + 1), line + b"\n", {})


def seqs(path: Path) -> list[int]:
    found = [each for each in read_records(path) if isinstance(each, Record)]
    return [each.head.first_seq for each in found if each.head.rows]


def test_records_are_read_in_order_and_gone_on_with(tmp_path: Path) -> None:
    log = LogWriter.create(tmp_path, first_seq=5, arrival_us=77)
    (start,) = read_records(log.path)
    assert start.head == Head(5, 0, [[77, 0]], [], None, 0, 0)  # type: ignore[list-item]
    log.append([block(5), block(6)])
    log.close()
    again = LogWriter.resume(log.path, size=log.size)
    again.append([block(7)])
    again.close()
    again.close()
    assert log_paths(tmp_path) == [log.path]
    assert first_seq_of(log.path) == 5
    assert seqs(log.path) == [5, 6, 7]


def test_resuming_cuts_off_what_is_torn(tmp_path: Path) -> None:
    log = LogWriter.create(tmp_path, first_seq=0, arrival_us=0)
    log.append([block(0)])
    log.close()
    with open(log.path, "ab") as file:
        file.write(b"half a commit")
    again = LogWriter.resume(log.path, size=log.size)
    assert log.path.stat().st_size == log.size
    again.append([block(1)])
    again.close()
    assert seqs(log.path) == [0, 1]


def test_other_files_are_no_logs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "x.log").write_text("")
    assert log_paths(tmp_path) == []


def test_small_records_are_read_together_and_large_ones_alone(tmp_path: Path) -> None:
    log = LogWriter.create(tmp_path, first_seq=0, arrival_us=0)
    part = OpenPart(log.path)
    for seq in range(50):
        blocks = [block(seq, os.urandom(3000).hex().encode())]
        part.add([each.head for each in blocks], log.append(blocks), [])
    large = [block(50, b"y" * GROUP_BYTES * 2)]
    part.add([each.head for each in large], log.append(large), [])
    log.close()
    groups = part.now().groups
    assert len(groups) == 4
    assert groups[-1].size > GROUP_BYTES
    found = list(part_blocks(part.now(), Bounds()))
    assert len(found) == len(groups)
    assert sum(each.head.rows for each in found if isinstance(each, Block)) == 51
    late = list(part_blocks(part.now(), Bounds(seq=(49, 49))))
    assert len(late) == 1


def test_skimming_follows_a_log_that_grows(tmp_path: Path) -> None:
    log = LogWriter.create(tmp_path, first_seq=0, arrival_us=0)
    groups: list[Group] = []
    at = skim(log.path, groups, at=0)
    assert groups == []
    log.append([block(0)])
    log.append([block(1)])
    with open(log.path, "ab") as file:
        file.write(log.path.read_bytes()[-30:])
    at = skim(log.path, groups, at=at)
    assert at == log.size
    assert [group.extent.last_seq for group in groups] == [1]
    log.close()


def test_skimming_goes_on_after_what_is_broken(tmp_path: Path) -> None:
    log = LogWriter.create(tmp_path, first_seq=0, arrival_us=0)
    places = [log.append([block(seq)])[0] for seq in range(4)]
    log.close()
    with open(log.path, "r+b") as file:
        file.seek(places[1][0])
        file.write(b"\0" * 20)
    groups: list[Group] = []
    assert skim(log.path, groups, at=0) == log.size
    assert [(each.extent.first_seq, each.extent.last_seq) for each in groups] == [(0, 0), (2, 3)]


def test_a_line_feed_in_a_line_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    from eventrows import incoming, opened, shut

    store = opened(tmp_path)
    bad = incoming(1)
    with pytest.raises(ValueError, match="line feed"):
        store.append([bad._replace(rows=[bad.rows[0]._replace(line=b"a\nb")])])
    assert store.append([incoming(1)])[0].kept == range(1)
    shut(store)
