"""Packed events in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrelman.detection.drawer import Drawer


@given(
    st.lists(st.tuples(st.lists(st.binary(max_size=300), max_size=3), st.booleans()), max_size=30),
    st.sampled_from([0, 600, 1 << 20]),
)
def test_what_is_put_away_is_there_until_it_is_dropped(
    steps: list[tuple[list[bytes], bool]], memory_bytes: int
) -> None:
    drawer = Drawer(memory_bytes=memory_bytes)
    there: dict[int, tuple[bytes, ...]] = {}
    for payloads, drops in steps:
        there[drawer.put(tuple(payloads))] = tuple(payloads)
        if drops:
            oldest = next(iter(there))
            assert drawer.read(oldest) == there.pop(oldest)
            drawer.drop(oldest)
    assert {number: drawer.read(number) for number in there} == there
    for number in there:
        drawer.drop(number)
    assert drawer._file is None
    assert drawer._room_bytes == memory_bytes


def test_beyond_the_bound_it_is_on_disk() -> None:
    drawer = Drawer(memory_bytes=1000)
    numbers = [drawer.put((b"x" * 500,)) for _ in range(10)]
    assert len(drawer._held) == 1
    assert all(drawer.read(number) == (b"x" * 500,) for number in numbers)
    for number in numbers:
        drawer.drop(number)


def test_its_file_is_no_larger_than_what_is_wanted_makes_it() -> None:
    drawer = Drawer(memory_bytes=0)
    kept = [drawer.put((b"kept %d" % number,)) for number in range(10)]
    last = drawer.put((b"",))
    for number in range(20_000):
        before, last = last, drawer.put((b"%05d" % number * 200,))
        drawer.drop(before)
    assert drawer._file is not None
    assert drawer._file.seek(0, 2) < 2 << 20
    assert [drawer.read(number) for number in kept] == [(b"kept %d" % n,) for n in range(10)]
    assert drawer.read(last) == (b"19999" * 200,)
    for number in (*kept, last):
        drawer.drop(number)
    assert drawer._file is None


def test_its_file_lies_in_the_folder_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Drawer(memory_bytes=0, folder=tmp_path / "none").put((b"x",))
    drawer = Drawer(memory_bytes=0, folder=tmp_path)
    number = drawer.put((b"x",))
    assert drawer.read(number) == (b"x",)
    assert list(tmp_path.iterdir()) == []
    drawer.drop(number)
