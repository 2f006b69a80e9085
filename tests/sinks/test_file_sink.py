"""A file of alerts: appended, rotated, truncated, torn, mended."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alertdocs import AT_US, alert_document, alert_id, message

from barrelman.errors import SinkError
from barrelman.sinks.address import parse_sink_flag
from barrelman.sinks.file import FileSink, StreamSink, line_of
from barrelman.sinks.opening import open_sink
from barrelman.sinks.sink import Remembering

Opened = Callable[[Path], FileSink]


@pytest.fixture
def opened() -> Iterator[Opened]:
    sinks: list[FileSink] = []

    def make(path: Path) -> FileSink:
        sink = open_sink(parse_sink_flag(f"file:{path}"), clock=lambda: AT_US)
        assert isinstance(sink, FileSink)
        assert isinstance(sink, Remembering)
        sinks.append(sink)
        return sink

    yield make
    for sink in sinks:
        sink.close()


def ids(path: Path) -> list[str]:
    return [
        json.loads(line)["kibana.alert.uuid"] for line in path.read_bytes().splitlines() if line
    ]


def numbered(*numbers: int) -> list[str]:
    return [alert_id(number) for number in numbers]


def test_each_alert_is_its_document_on_a_line(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.mend(None)
    sink.deliver([message(1), message(2)])
    sink.deliver([message(3)])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        alert_document(number) for number in (1, 2, 3)
    ]


def test_others_on_the_machine_may_not_read_it(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.jsonl"
    opened(path).deliver([message(1)])
    assert path.stat().st_mode & 0o007 == 0


def test_half_a_surrogate_and_all_of_unicode_are_ascii() -> None:
    told = message(rule__name="\ud800 ☠")
    assert json.loads(line_of(told))["kibana.alert.rule.name"] == "\ud800 ☠"


def test_it_goes_on_in_a_new_file_when_its_own_was_renamed(tmp_path: Path, opened: Opened) -> None:
    path, rotated = tmp_path / "a.jsonl", tmp_path / "a.jsonl.1"
    sink = opened(path)
    sink.deliver([message(1)])
    path.rename(rotated)
    sink.deliver([message(2)])
    sink.deliver([message(3)])
    rotated.unlink()
    path.unlink()
    path.touch()
    sink.deliver([message(4)])
    assert ids(path) == numbered(4)


def test_it_goes_on_at_the_begin_when_its_file_was_truncated(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.deliver([message(1)])
    os.truncate(path, 0)
    sink.deliver([message(2)])
    assert ids(path) == numbered(2)


def test_what_stood_there_without_a_line_feed_stays(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"kibana.alert.uuid": "theirs"}')
    sink = opened(path)
    assert not sink.mend(None)
    sink.deliver([message(1)])
    assert ids(path) == ["theirs", *numbered(1)]


@pytest.mark.parametrize("cut", [1, 30, 700])
def test_a_torn_line_is_cut_off_and_whole_ones_are_told(
    tmp_path: Path, opened: Opened, cut: int
) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.mend(None)
    sink.deliver([message(1)])
    mark = sink.mark()
    sink.deliver([message(2), message(3)])
    os.truncate(path, path.stat().st_size - cut)
    again = opened(path)
    assert set(again.mend(mark)) == set(numbered(2))
    again.deliver([message(3)])
    assert ids(path) == numbered(1, 2, 3)


def test_blocks_that_were_never_written_are_cut_off(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.mend(None)
    sink.deliver([message(1)])
    mark = sink.mark()
    with path.open("ab") as file:
        file.write(line_of(message(2)) + b"\0" * 4096 + b"\n" + line_of(message(3)))
    again = opened(path)
    assert set(again.mend(mark)) == set(numbered(2))
    assert ids(path) == numbered(1, 2)


def test_lines_of_others_are_left_where_they_are(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.mend(None)
    mark = sink.mark()
    with path.open("ab") as file:
        file.write(b"# a remark\n[1]\n" + line_of(message(2)))
    assert set(opened(path).mend(mark)) == set(numbered(2))
    assert path.read_bytes().startswith(b"# a remark\n")


def test_before_the_first_alert_there_is_a_mark(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.mend(None)
    mark = sink.mark()
    sink.deliver([message(1)])
    assert set(opened(path).mend(mark)) == set(numbered(1))


def _rename(path: Path) -> None:
    path.rename(path.with_name("a.jsonl.1"))


def _rename_and_make(path: Path) -> None:
    _rename(path)
    path.touch()


def _copy_and_truncate(path: Path) -> None:
    shutil.copy2(path, path.with_name("a-20261123.jsonl"))
    os.truncate(path, 0)


def _compress(path: Path) -> None:
    with gzip.open(path.with_name("a.jsonl.1.gz"), "wb") as file:
        file.write(path.read_bytes())
    path.unlink()


@pytest.mark.parametrize("rotate", [_rename, _rename_and_make, _copy_and_truncate, _compress])
def test_what_was_rotated_after_a_crash_is_found(
    tmp_path: Path, opened: Opened, rotate: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.mend(None)
    sink.deliver([message(1)])
    mark = sink.mark()
    sink.deliver([message(2)])
    rotate(path)
    again = opened(path)
    assert set(numbered(2)) <= set(again.mend(mark))
    again.deliver([message(3)])
    assert ids(path) == numbered(3)


def test_a_new_file_begun_before_the_crash_is_found(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.mend(None)
    sink.deliver([message(1)])
    mark = sink.mark()
    _rename(path)
    sink.deliver([message(2), message(3)])
    os.truncate(path, path.stat().st_size - 9)
    again = opened(path)
    assert set(again.mend(mark)) == set(numbered(2))
    assert ids(path) == numbered(2)


def test_a_file_that_was_truncated_and_grew_again_is_read_from_its_begin(
    tmp_path: Path, opened: Opened
) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.mend(None)
    sink.deliver([message(1)])
    mark = sink.mark()
    os.truncate(path, 0)
    sink.deliver([message(2, rule__note="x" * 5000), message(3)])
    assert set(opened(path).mend(mark)) == set(numbered(2, 3))


def test_a_mark_that_makes_no_sense_is_none(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.jsonl"
    opened(path).deliver([message(1)])
    for mark in ("", "{}", "[]", "nonsense", '{"device": "x"}'):
        assert not opened(path).mend(mark)
    assert ids(path) == numbered(1)


def test_a_batch_that_fails_half_way_is_taken_back(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(path)
    sink.deliver([message(1)])
    write = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < 2000:
            raise OSError(28, "No space left on device")
        return write(file, data[:1500])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SinkError, match="No space left") as raised:
        sink.deliver([message(2), message(3)])
    assert not raised.value.is_final
    assert ids(path) == numbered(1)
    monkeypatch.undo()
    sink.deliver([message(2), message(3)])
    assert ids(path) == numbered(1, 2, 3)


def test_a_path_that_cannot_be_written_can_be_mended(tmp_path: Path, opened: Opened) -> None:
    sink = opened(tmp_path / "none" / "a.jsonl")
    for _ in range(2):
        with pytest.raises(SinkError, match="No such file") as raised:
            sink.mend(None)
        assert not raised.value.is_final
    (tmp_path / "none").mkdir()
    sink.mend(None)
    sink.deliver([message(1)])


def test_what_is_no_file_is_refused(tmp_path: Path, opened: Opened) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(SinkError, match=r"not a file|directory"):
            opened(tmp_path / name).mend(None)


def test_a_test_leaves_a_marked_line(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "a.jsonl"
    assert "marked as a test" in opened(path).test(AT_US)
    assert json.loads(path.read_text())["barrelman.test"] is True


def test_a_stream_gets_the_same_lines() -> None:
    stream = io.BytesIO()
    sink = open_sink(parse_sink_flag("file:-"), clock=lambda: AT_US, stdout=stream)
    assert isinstance(sink, StreamSink)
    assert not isinstance(sink, Remembering)
    sink.deliver([message(1)])
    sink.close()
    assert stream.getvalue() == line_of(message(1))
