"""A file read in parts, wherever it is cut, gives what it gives in one."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hostile import HEAD
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.engine.blocks import BlockReader, Passed
from barrelman.engine.plan import Plan
from barrelman.engine.problem import Problem
from barrelman.engine.reader import EventReader
from barrelman.engine.sieve import Sieve
from barrelman.errors import InputError
from barrelman.settings.parts import Part, close_parts, read_part, split_sources, weigh
from barrelman.settings.sources import Source

SIEVE = Sieve([Plan(frozenset([b"create"]))], one_by_one=True)


def event(verb: str = "create", audit_id: str = "a") -> str:
    return HEAD + f',"auditID":"{audit_id}","verb":"{verb}","user":{{"username":"eve"}}}}'


PIECES = st.sampled_from(
    [
        *[event(name, str(number)) + "\n" for number, name in enumerate(["create", "get"] * 4)],
        *(event("create")[:40] + "\n", event("get")[:-2] + "\n", event("create")[:60]),
        *("{\n", "[\n", "]\n", "}\n", '{"kind":"Event",\n"apiVersion":"audit.k8s.io/v1",\n'),
        *('"verb":"create"}\n', '{"items":[\n', event() + ",\n", "]}\n", "\n", "\r\n", "talk\n"),
        *("2026-11-23T07:06:00Z stdout P " + event()[:50] + "\n", "\ufeff\n", "\ufeff" + event()),
        "2026-11-23T07:06:00Z stdout F " + event()[50:] + "\n",
        '{"log":' + '"{\\"kind\\":\\"Event\\",","stream":"stdout","time":"x"}\n',
    ]
)
DATA = st.lists(PIECES, max_size=14).map(lambda pieces: "".join(pieces).encode())


class Account:
    """What came of a source: events that pass the sieve, problems, and how many others."""

    def __init__(self) -> None:
        self.found: list[tuple[int, Any]] = []
        self.problems: list[tuple[int, str, int]] = []
        self.events = 0

    def take(self, items: Any, lines_before: int = 0) -> None:
        for item in items:
            if isinstance(item, Passed):
                self.events += item.events
            elif isinstance(item, Problem):
                self.problems.append((item.line + lines_before, item.reason, item.count))
            else:
                self.events += 1
                if b"create" in (item.raw or repr(item.body).encode()):
                    self.found.append((item.line + lines_before, item.body))

    @property
    def all(self) -> tuple[Any, ...]:
        return self.found, self.problems, self.events


def blocks_of(*, lines_before: int = 0, is_strict: bool) -> tuple[EventReader, BlockReader]:
    reader = EventReader(lines_before=lines_before)
    return reader, BlockReader(reader, sieve=SIEVE, is_strict=is_strict)


def read_in_parts(parts: list[Part], source: Source, *, is_strict: bool) -> Account:
    """Each part by a reader of its own; again and in order where one leaves something open."""
    account, lines_before, carried, has_passed_last = Account(), 0, None, False

    def read(part: Part, blocks: BlockReader, *, follows: bool) -> list[Any]:
        return list(read_part(part, source, blocks, on_bytes=lambda size: None, follows=follows))

    for part in parts:
        reader, blocks = carried or blocks_of(is_strict=is_strict)
        items = read(part, blocks, follows=carried is None and not part.is_first)
        is_begun_right = has_passed_last or not blocks.has_looked_back
        if carried is None and is_begun_right and (reader.is_neutral or part.is_last):
            account.take(items, lines_before)
            lines_before += reader.lines_read
            has_passed_last = blocks.has_passed_last
            continue
        if carried is None:
            reader, blocks = carried = blocks_of(lines_before=lines_before, is_strict=is_strict)
            items = read(part, blocks, follows=has_passed_last)
        account.take(items)
        if reader.is_neutral:
            carried, lines_before = None, reader.lines_read
            has_passed_last = blocks.has_passed_last
    return account


@settings(max_examples=125, deadline=None)
@given(DATA, st.lists(st.integers(1, 1500), max_size=6), st.booleans())
def test_any_cut_gives_what_the_whole_gives(data: bytes, cuts: list[int], is_strict: bool) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        source = Source(file.name, file.name, len(data), False)
        lines = [at + 1 for at, byte in enumerate(data[:-1]) if byte == 10]
        starts = sorted({0, *(lines[cut % len(lines)] for cut in cuts if lines)})
        stops: list[int | None] = [*starts[1:], None]
        parts = [Part(0, start, stop) for start, stop in zip(starts, stops, strict=True)]
        whole = read_in_parts([Part(0)], source, is_strict=is_strict)
        assert read_in_parts(parts, source, is_strict=is_strict).all == whole.all


@pytest.mark.parametrize("part_bytes", [130, 180, 200])
def test_a_last_line_without_its_end_is_not_lost(tmp_path: Path, part_bytes: int) -> None:
    """It begins before the last cut, which is then no cut at all."""
    path = tmp_path / "a.log"
    path.write_text(event() + "\n" + event())
    source = source_of(path)
    parts = split_sources([source], part_bytes=part_bytes)
    assert read_in_parts(parts, source, is_strict=False).events == 2


def source_of(path: Path) -> Source:
    return Source(str(path), str(path), path.stat().st_size, False)


@pytest.mark.parametrize(
    ("data", "part_bytes", "expected"),
    [
        (b"", 10, [(0, None)]),
        (b"x\n" * 5, 10, [(0, None)]),
        (event().encode() + b"\n", 60, [(0, None)]),
        ((event() + "\n").encode() * 2, 100, [(0, 104), (104, None)]),
        ((event() + "\n").encode() * 3, 100, [(0, 104), (104, 208), (208, None)]),
        ((event() + "\n").encode() * 3, 150, [(0, 208), (208, None)]),
        ((event() + "\n").encode() + event().encode(), 110, [(0, None)]),
        (b"{\n" + event().encode() + b"\n}", 20, [(0, None)]),
        (b'{"items":[' + event().encode() + b"]}", 20, [(0, None)]),
        (b"[" + b"1," * 50, 10, [(0, None)]),
    ],
)
def test_a_file_is_cut_where_its_first_line_stands_on_its_own(
    tmp_path: Path, data: bytes, part_bytes: int, expected: list[tuple[int, int | None]]
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(data)
    parts = split_sources([source_of(path)], part_bytes=part_bytes)
    assert [(part.start, part.stop) for part in parts] == expected
    assert [part.is_first for part in parts] == [True] + [False] * (len(parts) - 1)
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]


def test_a_compressed_file_is_one_part_and_weighs_what_it_holds(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.log", tmp_path / "b.log"
    plain.write_bytes(b"x\n" * 100)
    packed.write_bytes(gzip.compress(event().encode() * 100))
    sources = [source_of(plain), source_of(packed)]
    parts = split_sources(sources, part_bytes=50)
    assert [part.source for part in parts] == [0, 0, 0, 0, 1]
    assert [part.is_compressed for part in parts] == [False] * 4 + [True]
    assert weigh(parts, sources) == 200 + 12 * packed.stat().st_size


def test_a_file_that_shrank_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text((event() + "\n") * 10)
    source = source_of(path)
    parts = split_sources([source], part_bytes=300)
    path.write_text((event() + "\n") * 3)
    account = read_in_parts(parts, source, is_strict=False)
    assert (account.events, account.problems) == (3, [])


def test_a_file_that_grew_is_read_to_its_new_end(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text((event() + "\n") * 5)
    source = source_of(path)
    parts = split_sources([source], part_bytes=300)
    with path.open("a") as file:
        file.write((event() + "\n") * 5)
    assert read_in_parts(parts, source, is_strict=False).events == 10


def test_what_cannot_be_read_is_told_after_what_could(tmp_path: Path) -> None:
    source = Source("gone.log", str(tmp_path / "gone.log"), 100, False)
    assert len(split_sources([source])) == 1
    _, blocks = blocks_of(is_strict=False)
    with pytest.raises(InputError, match=r"gone\.log"):
        list(read_part(Part(0), source, blocks, on_bytes=lambda size: None))


def test_every_byte_on_disk_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text((event() + "\n") * 20)
    source = source_of(path)
    told: list[int] = []
    for part in split_sources([source], part_bytes=333):
        _, blocks = blocks_of(is_strict=False)
        list(read_part(part, source, blocks, on_bytes=told.append))
    assert sum(told) == path.stat().st_size


def test_a_line_over_many_cuts_is_looked_for_once(tmp_path: Path) -> None:
    """A hole, as copytruncate may leave one: no line feed for as long as it is."""
    path = tmp_path / "a.log"
    with path.open("wb") as file:
        file.write((event() + "\n").encode())
        file.truncate(200_000)
        file.seek(0, 2)
        file.write(b"\n" + (event() + "\n").encode() * 2)
    parts = split_sources([source_of(path)], part_bytes=500)
    assert [part.start for part in parts] == [0, 200_001]
    with path.open("ab") as file:
        file.truncate(10_000_000)  # no line feed up to its end
    assert len(split_sources([source_of(path)], part_bytes=500)) == 2


def test_a_log_that_is_rotated_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text((event() + "\n") * 6)
    source = source_of(path)
    parts = split_sources([source], part_bytes=150)
    assert len(parts) > 2
    path.rename(tmp_path / "a.log.1")
    path.write_text("another log\n")
    account = read_in_parts(parts, source, is_strict=False)
    assert (account.events, account.problems) == (6, [])
    close_parts(parts)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(parts[0].descriptor or -1)


def test_a_part_that_ends_within_a_line_leaves_it_open(tmp_path: Path) -> None:
    """The file has been written anew since it was cut."""
    path = tmp_path / "a.log"
    path.write_text(event() + "\n" + event() + "\n")
    reader, blocks = blocks_of(is_strict=False)
    part = Part(0, 0, len(event()) + 20)
    list(read_part(part, source_of(path), blocks, on_bytes=lambda size: None))
    assert not reader.is_neutral
