"""Sorting beyond memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.detection.spill import Record, Sorter


@given(
    keys=st.lists(st.tuples(st.integers(), st.integers(-3, 3)), max_size=60),
    memory_bytes=st.sampled_from([0, 450, 2_000, 1 << 20]),
    rounds=st.integers(1, 3),
)
@settings(deadline=None, max_examples=80)
def test_records_come_back_in_order_and_the_sorter_is_free_again(
    keys: list[tuple[int, int]], memory_bytes: int, rounds: int
) -> None:
    records: list[Record] = [((*key, n), b"%d" % n) for n, key in enumerate(keys)]
    sorter = Sorter(memory_bytes=memory_bytes)
    for _ in range(rounds):
        for key, payload in records:
            sorter.add(key, payload)
        assert list(sorter.drain()) == sorted(records)
    assert list(sorter.drain()) == []
    assert not sorter.spilled


@pytest.mark.parametrize("count", [31, 32, 33, 64, 65, 200, 1_100])
def test_more_runs_than_files_are_merged_on_the_way(tmp_path: Path, count: int) -> None:
    sorter = Sorter(memory_bytes=0, folder=tmp_path)  # every record is a run of its own
    for n in range(count):
        sorter.add((n * 7919 % count, n), b"x" * (n % 5))
    assert sorter.spilled
    drained = list(sorter.drain())
    assert [key for key, _ in drained] == sorted((n * 7919 % count, n) for n in range(count))
    assert [len(payload) for _, payload in drained] == [key[1] % 5 for key, _ in drained]


def test_open_files_stay_few(tmp_path: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    before = opened()
    sorter = Sorter(memory_bytes=0, folder=tmp_path)
    for n in range(2_000):
        sorter.add((n,), b"")
    assert before < opened() <= before + 100
    drained = sorter.drain()
    assert next(drained) == ((0,), b"")
    drained.close()  # type: ignore[attr-defined]  # read in part only
    assert opened() == before


def test_nothing_lies_on_disk_under_a_name(tmp_path: Path) -> None:
    sorter = Sorter(memory_bytes=0, folder=tmp_path)
    for n in range(100):
        sorter.add((n,), b"secret")
    assert list(tmp_path.iterdir()) == []
    assert len(list(sorter.drain())) == 100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_what_is_added_while_draining_is_for_the_next_time(memory_bytes: int) -> None:
    sorter = Sorter(memory_bytes=memory_bytes)
    for n in (3, 1, 2):
        sorter.add((n,), b"old")
    drained = sorter.drain()
    sorter.add((0,), b"new")  # before the first was taken
    got = []
    for key, payload in drained:
        got.append((key, payload))
        sorter.add((key[0] * 10,), b"new")
    assert got == [((1,), b"old"), ((2,), b"old"), ((3,), b"old")]
    assert [key for key, _ in sorter.drain()] == [(0,), (10,), (20,), (30,)]


def test_payloads_count_against_the_memory() -> None:
    sorter = Sorter(memory_bytes=10_000)
    sorter.add((1,), b"x" * 20_000)
    assert sorter.spilled
    assert list(sorter.drain()) == [((1,), b"x" * 20_000)]
