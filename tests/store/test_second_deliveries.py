import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from barrelman.errors import StoreError
from barrelman.store.seen import Seen, key_of, keys_of

MINUTE = 60_000_000


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Seen]:
    opened = Seen.open(tmp_path / "seen.db")
    yield opened
    opened.close()


def keys(*numbers: int, minute: int = 0) -> list[bytes]:
    return [key_of((n, n), time_us=minute * MINUTE) for n in numbers]


def untimed(*numbers: int) -> list[bytes]:
    return [key_of((n, n), time_us=None) for n in numbers]


def flush(seen: Seen, *, through: int = 1) -> None:
    seen.set_apart()
    seen.flush(through=through)


def test_a_key_came_before_wherever_it_is_by_now(seen: Seen) -> None:
    assert seen.again(keys(1, 2)) == set()
    seen.enter(keys(1, 2), arrival_us=5)
    assert seen.again(keys(2, 3)) == {0}
    seen.set_apart()
    seen.enter(keys(3), arrival_us=5)
    assert seen.again(keys(1, 3, 4)) == {0, 1}
    seen.flush(through=2)
    assert seen.again(keys(1, 3, 4)) == {0, 1}
    flush(seen, through=3)
    assert seen.again(keys(4, 3, 2, 1)) == {1, 2, 3}
    assert seen.through == 3


def test_a_key_comes_twice_in_what_is_asked(seen: Seen) -> None:
    assert seen.again(keys(1, 2, 1, 1)) == {2, 3}
    assert seen.again([]) == set()


def test_the_same_number_in_another_minute_is_another_event(seen: Seen) -> None:
    seen.enter(keys(1, minute=1), arrival_us=5)
    flush(seen)
    assert seen.again(keys(1, minute=2)) == set()
    assert seen.again(keys(1, minute=-2)) == set()


def test_keys_are_there_after_a_restart(tmp_path: Path) -> None:
    first = Seen.open(tmp_path / "seen.db")
    first.enter(keys(*range(1000)), arrival_us=5)
    flush(first, through=1000)
    first.enter(keys(7000), arrival_us=5)  # the log will tell it again
    first.close()
    second = Seen.open(tmp_path / "seen.db")
    assert second.through == 1000
    assert second.again(keys(0, 999, 1000, 7000)) == {0, 1}
    second.close()


def test_keys_of_a_column_are_those_of_rows() -> None:
    from barrelman.store.columns import KEY

    pairs = [(1, 2), ((1 << 63) - 1, (1 << 32) - 1)]
    times = [None, -5]
    assert keys_of([KEY.pack(*pair) for pair in pairs], times_us=times) == [
        key_of(pair, time_us=time) for pair, time in zip(pairs, times, strict=True)
    ]


def test_times_beyond_all_reason_have_a_minute(seen: Seen) -> None:
    odd = [key_of((1, 1), time_us=time) for time in (-(1 << 80), 1 << 80)]
    seen.enter(odd, arrival_us=5)
    flush(seen)
    assert seen.again(odd) == {0, 1}


def test_old_minutes_are_forgotten_and_no_other(seen: Seen) -> None:
    seen.enter(keys(*range(100), minute=1), arrival_us=100)
    seen.enter(keys(*range(100), minute=2), arrival_us=200)
    flush(seen)
    seen.enter(keys(500, minute=1), arrival_us=300)  # a late event of the first minute
    flush(seen)
    assert seen.forget(250) == 100
    assert seen.forget(250) == 0
    assert seen.again(keys(5, 500, minute=1)) == {0, 1}
    assert seen.again(keys(5, minute=2)) == set()


def test_a_minute_that_waits_to_be_written_is_not_forgotten(seen: Seen) -> None:
    seen.enter(keys(1, minute=1), arrival_us=100)
    flush(seen)
    seen.enter(keys(2, minute=1), arrival_us=300)
    assert seen.forget(250) == 0
    assert seen.again(keys(1, 2, minute=1)) == {0, 1}


def test_keys_without_a_time_are_forgotten_one_by_one(seen: Seen) -> None:
    """They share no minute that would be over some day: others go on arriving."""
    for arrival_us in (100, 200, 300):
        seen.enter([*untimed(arrival_us), *keys(arrival_us)], arrival_us=arrival_us)
        flush(seen)
    seen.enter(untimed(400), arrival_us=400)
    assert seen.again(untimed(100, 400, 500)) == {0, 1}
    assert seen.again([*keys(500), *untimed(300), *keys(300), *untimed(500)]) == {1, 2}
    assert seen.forget(250) == 2
    assert seen.forget(250) == 0
    assert seen.again(untimed(100, 200, 300, 400)) == {2, 3}
    assert seen.again(keys(100, 200, 300)) == {0, 1, 2}


def test_a_key_without_a_time_that_is_entered_again_is_as_new(seen: Seen) -> None:
    for arrival_us in (100, 300, 200):
        seen.enter(untimed(1), arrival_us=arrival_us)
        flush(seen)
    assert seen.forget(250) == 0
    assert seen.again(untimed(1)) == {0}


def test_all_keys_are_forgotten_and_not_how_many_there_were(tmp_path: Path) -> None:
    seen = Seen.open(tmp_path / "seen.db")
    seen.enter([*keys(1), *untimed(2)], arrival_us=5)
    flush(seen, through=7)
    seen.clear(acknowledged_seq=9)
    for _ in range(2):
        assert seen.again([*keys(1), *untimed(2)]) == set()
        assert (seen.through, seen.acknowledged_seq) == (0, 9)
        seen.close()
        seen = Seen.open(tmp_path / "seen.db")
    seen.enter(keys(1), arrival_us=5)
    flush(seen, through=12)
    assert (seen.through, seen.acknowledged_seq) == (12, 12)
    assert seen.forget(9) == 1
    seen.close()


def test_what_cannot_be_written_stays_in_sight(tmp_path: Path) -> None:
    seen = Seen.open(tmp_path / "seen.db")
    seen.enter(keys(1), arrival_us=5)
    other = sqlite3.connect(tmp_path / "seen.db", isolation_level=None)
    limit = other.execute("PRAGMA max_page_count").fetchone()
    assert limit
    seen._writing.execute("PRAGMA max_page_count = 1")  # as a full disk says it
    seen.enter(keys(*range(10, 5000)), arrival_us=5)
    seen.set_apart()
    with pytest.raises(StoreError, match="full"):
        seen.flush(through=9)
    assert seen.through == 0
    seen.enter(keys(6000), arrival_us=5)
    assert seen.again(keys(1, 4999, 6000, 6001)) == {0, 1, 2}
    assert not seen.is_corrupt
    seen._writing.execute("PRAGMA max_page_count = 100000")
    flush(seen, through=10)
    assert seen.again(keys(1, 4999, 6000, 6001)) == {0, 1, 2}
    other.close()
    seen.close()


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "seen.db").write_bytes(b"x" * 5000)
    with pytest.raises(sqlite3.DatabaseError) as told:
        Seen.open(tmp_path / "seen.db")
    assert not isinstance(told.value, sqlite3.OperationalError)


def test_no_key_is_missed_while_others_are_written(seen: Seen) -> None:
    stop = threading.Event()
    failed: list[Exception] = []

    def write() -> None:
        while not stop.is_set():
            try:
                seen.flush(through=1)
            except StoreError as error:
                failed.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for start in range(0, 4000, 20):
            some = keys(*range(start, start + 20))
            assert seen.again(some) == set()
            seen.enter(some, arrival_us=5)
            seen.set_apart()
            asked = keys(*range(max(0, start - 40), start + 20))
            assert seen.again(asked) == set(range(len(asked)))
    finally:
        stop.set()
        writing.join()
    assert not failed
