import json
import threading
from pathlib import Path
from typing import Any

import pytest
from eventrows import (
    SECOND_US,
    START_US,
    Clock,
    ids,
    ids_in,
    incoming,
    lines_in,
    opened,
    read_only,
    rows,
    shut,
)

from barrelman.errors import StoreError
from barrelman.records.where import Always, Equals, Not
from barrelman.store.events import EventStore, Incoming, RowRef, Stored, StoreOptions
from barrelman.store.search import By, Order

SMALL = StoreOptions(seal_rows=50)


def test_rows_get_seqs_and_an_arrival(tmp_path: Path) -> None:
    clock = Clock()
    store = opened(tmp_path, clock=clock)
    assert (store.next_seq, store.last_arrival_us) == (0, 0)
    first, second = store.append([incoming(1, 2), incoming(3, cluster="d")])
    assert first == Stored(0, START_US + 1, "c", range(2), 0)
    assert second == Stored(2, START_US + 1, "d", range(1), 0)
    (third,) = store.append([incoming(4)])
    assert (third.first_seq, third.arrival_us) == (3, START_US + 2)
    assert (store.next_seq, store.last_arrival_us) == (4, START_US + 2)
    (frame,) = store.frames()  # small commits are read together
    assert frame.clusters == ["c", "c", "d", "c"]
    shut(store)


def test_arrival_does_not_go_back_with_the_clock(tmp_path: Path) -> None:
    clock = Clock()
    store = opened(tmp_path, clock=clock)
    store.append([incoming(1)])
    clock.now_us -= 3600 * SECOND_US
    (stored,) = store.append([incoming(2)])
    assert stored.arrival_us == START_US + 1
    store.seal()
    shut(store)
    store = opened(tmp_path, clock=clock)
    (stored,) = store.append([incoming(3)])
    assert stored.arrival_us == START_US + 1
    shut(store)


def test_a_second_delivery_is_told_and_not_kept(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([incoming(1, 2, 3)])
    again, other = store.append([incoming(2, 9, 3, 9), incoming(2, cluster="d")])
    assert again == Stored(3, again.arrival_us, "c", [1], 3)
    assert other.kept == [0]
    assert other.first_seq == 4
    (nothing,) = store.append([incoming(1, 2)])
    assert (nothing.kept, nothing.duplicates, nothing.first_seq) == ([], 2, 5)
    assert ids_in(store) == ids([1, 2, 3, 9, 2])
    shut(store)


@pytest.mark.parametrize("between", ["nothing", "restart", "seal", "both"])
def test_it_is_told_after_whatever_happened(tmp_path: Path, between: str) -> None:
    store = opened(tmp_path)
    store.append([incoming(*range(40))])
    if between in {"seal", "both"}:
        store.seal()
    if between in {"restart", "both"}:
        shut(store)
        store = opened(tmp_path)
    (stored,) = store.append([incoming(*range(30, 50))])
    assert stored.kept == list(range(10, 20))
    assert ids_in(store) == ids(range(50))
    shut(store)


@pytest.mark.parametrize("time", [None, 1 << 70])
@pytest.mark.parametrize("between", ["nothing", "restart", "seal"])
def test_a_row_without_a_time_is_told_hours_later(
    tmp_path: Path, between: str, time: int | None
) -> None:
    clock = Clock()
    store = opened(tmp_path, clock=clock)
    store.append([incoming(1, time=time)])
    if between == "seal":
        store.seal()
    if between != "nothing":
        shut(store)
        (tmp_path / "seen.db").unlink(missing_ok=True)  # killed before the keys were written
        store = opened(tmp_path, clock=clock)
    clock.now_us += 20 * 3600 * SECOND_US
    (stored,) = store.append([incoming(1, 2, time=time)])
    assert stored.kept == [1]
    shut(store)


def test_nothing_is_appended_of_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.append([]) == []
    (stored,) = store.append([Incoming("c", [])])
    assert (stored.kept, stored.duplicates) == (range(0), 0)
    assert not list(store.frames())
    shut(store)


def mixed(path: Path) -> EventStore:
    """A hundred rows a second apart: forty in two segments, the others in the log."""
    clock = Clock()
    store = opened(path, clock=clock)
    for number in range(0, 100, 5):
        clock.now_us = START_US + number * SECOND_US
        cluster = "even" if number % 2 == 0 else "odd"
        time_us = START_US + (100 - number) * SECOND_US
        store.append([incoming(*range(number, number + 5), cluster=cluster, time=time_us)])
        if number in {15, 35}:
            store.seal()
    return store


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = mixed(tmp_path)
    yield made
    shut(made)


def test_frames_come_in_order_with_all_that_is_known(store: EventStore) -> None:
    seqs: list[int] = []
    for frame in store.frames():
        seqs += frame.seqs
        for at, seq in enumerate(frame.seqs):
            assert frame.clusters[at] == ("even" if seq // 5 % 2 == 0 else "odd")
            assert frame.arrivals_us[at] == START_US + seq // 5 * 5 * SECOND_US + 1
    assert seqs == list(range(100))


@pytest.mark.parametrize("first_seq", [0, 1, 37, 40, 41, 99, 100, 1000])
def test_frames_from_a_seq_on_begin_with_it(store: EventStore, first_seq: int) -> None:
    assert [seq for seq, _ in lines_in(store, first_seq=first_seq)] == list(range(first_seq, 100))


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ({"arrival_us": (START_US + 50 * SECOND_US, None)}, range(50, 100)),
        ({"arrival_us": (None, START_US + 20 * SECOND_US)}, range(20)),
        ({"time_us": (START_US + 90 * SECOND_US, None)}, range(11)),
        ({"time_us": (None, START_US + 10 * SECOND_US)}, range(90, 100)),
        ({"clusters": ["odd"]}, [seq for seq in range(100) if seq // 5 % 2]),
        ({"clusters": []}, []),
    ],
)
def test_frames_leave_out_only_what_lies_outside(
    store: EventStore, bounds: dict[str, Any], wanted: Any
) -> None:
    assert set(wanted) <= {seq for seq, _ in lines_in(store, **bounds)}
    exact = {ref.seq for ref in store.select(Always(), **bounds)}
    assert exact <= {seq for seq, _ in lines_in(store, **bounds)}


def test_wrappers_come_back(tmp_path: Path) -> None:
    store = opened(tmp_path)
    plain, wrapped, odd = rows(1, 2, 3)
    wrapped = wrapped._replace(wrapper=b'{"a": "\xc3\xa4"}', is_plain=False)
    odd = odd._replace(wrapper=b"\xff not utf-8")
    store.append([Incoming("c", [plain, wrapped, odd])])
    for _ in range(2):
        (frame,) = store.frames()
        assert frame.wrappers == {1: b'{"a": "\xc3\xa4"}', 2: b"\xff not utf-8"}
        assert not frame.has_only_raw
        found = list(store.fetch(store.select(Always())))
        assert [each.wrapper for each in found] == [None, wrapped.wrapper, odd.wrapper]
        store.seal()
    shut(store)


def test_selections_are_paged_in_any_order(store: EventStore) -> None:
    ways: list[tuple[By, Order]] = [
        ("seq", "asc"), ("seq", "desc"), ("time", "asc"), ("time", "desc"),
    ]  # fmt: skip
    for by, order in ways:
        pages: list[RowRef] = []
        after = None
        while page := store.select(Always(), by=by, order=order, limit=7, after=after):
            pages += page
            after = page[-1]
        keys = [(ref.time_us if by == "time" else 0, ref.seq) for ref in pages]
        assert keys == sorted(keys, reverse=order == "desc")
        assert sorted(ref.seq for ref in pages) == list(range(100))


def test_selections_stay_within_their_bounds(store: EventStore) -> None:
    second = START_US + 50 * SECOND_US
    refs = store.select(Always(), time_us=(second, second))
    assert [ref.seq for ref in refs] == list(range(50, 55))
    refs = store.select(Always(), arrival_us=(second + 1, second + 1), clusters=["even"])
    assert [ref.seq for ref in refs] == list(range(50, 55))
    assert [ref.seq for ref in store.select(Always(), first_seq=38, last_seq=41)] == [
        38,
        39,
        40,
        41,
    ]
    assert store.select(Always(), limit=0) == []


def test_lines_are_fetched_in_the_order_they_are_asked_for(store: EventStore) -> None:
    refs = [store.select(Always())[seq] for seq in (99, 3, 50, 3, 0, 41)]
    found = list(store.fetch(refs))
    assert [json.loads(each.line)["id"] for each in found] == ids([99, 3, 50, 3, 0, 41])
    assert [each[:4] for each in found] == [ref[:4] for ref in refs]


def test_rows_that_moved_are_fetched_all_the_same(store: EventStore) -> None:
    refs = store.select(Always())
    store.seal()
    assert [json.loads(each.line)["id"] for each in store.fetch(refs)] == ids(range(100))


def test_rows_that_are_hints_come_along(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([incoming(1, 2, user="eve")])
    store.append([incoming(3, 4, user="bob", plain=False, time=None)])
    store.seal()
    store.append([incoming(5, user="bob"), incoming(6, user="eve", plain=False)])
    found = store.select(Equals("user", "eve"))
    assert [(ref.seq, ref.is_plain) for ref in found] == [
        (0, True), (1, True), (2, False), (3, False), (5, False),
    ]  # fmt: skip
    counted = store.count(Not(Equals("user", "eve")))
    assert counted.plain == 1
    assert [ref.seq for ref in counted.others] == [2, 3, 5]
    # Their time may be another one than the column says, or says not.
    late = store.count(Always(), time_us=(START_US + 5, None))
    assert (late.plain, [ref.seq for ref in late.others]) == (1, [2, 3, 5])
    early = store.count(Always(), time_us=(None, START_US + 5))
    assert (early.plain, [ref.seq for ref in early.others]) == (3, [2, 3])
    shut(store)


def test_a_row_of_many_mebibytes(tmp_path: Path) -> None:
    store = opened(tmp_path)
    big = "x" * 3_000_000
    store.append([incoming(1, 2), incoming(3, 4, pad=big), incoming(5)])
    for _ in range(2):
        assert ids_in(store) == ids([1, 2, 3, 4, 5])
        lines = [each.line for each in store.fetch(store.select(Always()))]
        assert [json.loads(line)["id"] for line in lines] == ids([1, 2, 3, 4, 5])
        store.seal()
    shut(store)


def test_sealing_is_due_by_size_rows_or_age(tmp_path: Path) -> None:
    clock = Clock()
    for number, options in enumerate(
        [StoreOptions(seal_rows=3), StoreOptions(seal_bytes=100), StoreOptions(seal_seconds=60)]
    ):
        store = opened(tmp_path / str(number), clock=clock, options=options)
        store.append([incoming(1)])
        store.seal_if_due(clock.now_us)
        store.wait()
        assert store.stats().segments == 0
        store.append([incoming(2, 3)])
        clock.now_us += 60 * SECOND_US
        store.seal_if_due(clock.now_us)
        store.wait()
        assert (store.stats().segments, store.stats().open_rows) == (1, 0)
        store.append([incoming(4)])
        store.seal_if_due(clock.now_us)
        store.wait()
        assert store.stats().segments == 1
        shut(store)


def test_intake_is_refused_where_sealing_does_not_keep_up(tmp_path: Path) -> None:
    store = opened(tmp_path, options=StoreOptions(seal_rows=10))
    store.append([incoming(*range(20))])
    with pytest.raises(StoreError, match="as fast as they come"):
        store.append([incoming(99)])
    store.seal_if_due(START_US)
    assert store.append([incoming(99)])[0].kept == range(1)
    shut(store)


def test_the_oldest_go_first_by_age_and_by_size(tmp_path: Path) -> None:
    clock = Clock()
    store = opened(tmp_path, clock=clock, options=StoreOptions(keep_seconds=3600))
    for hour in range(4):
        clock.now_us = START_US + hour * 3600 * SECOND_US
        store.append([incoming(*range(hour * 10, hour * 10 + 10))])
        store.seal()
    old = store.select(Always())
    retired = store.retire(START_US + int(2.5 * 3600 * SECOND_US))
    assert (retired.segments, retired.events) == (2, 20)
    assert retired.size > 0
    assert ids_in(store) == ids(range(20, 40))
    assert [ref.seq for ref in store.select(Always())] == list(range(20, 40))
    assert [each.seq for each in store.fetch(old)] == list(range(20, 40))
    shut(store)
    store = opened(tmp_path, clock=clock, options=StoreOptions(keep_bytes=1))
    assert ids_in(store) == ids(range(20, 40))
    assert store.retire(0).segments == 2
    assert store.stats().segments == 0
    assert store.next_seq == 40
    shut(store)
    store = opened(tmp_path, clock=clock)
    assert store.next_seq == 40
    assert store.last_arrival_us == START_US + 3 * 3600 * SECOND_US + 1
    assert store.faults == []
    shut(store)


def hourly(path: Path, options: StoreOptions) -> EventStore:
    """Four segments of ten rows, an hour apart."""
    clock = Clock()
    store = opened(path, clock=clock, options=options)
    for hour in range(4):
        for half in range(2):
            first = hour * 10 + half * 5
            clock.now_us = START_US + (hour * 3600 + half * 60) * SECOND_US
            store.append([incoming(*range(first, first + 5))])
        store.seal()
    return store


HOUR_US = 3600 * SECOND_US


@pytest.mark.parametrize(
    ("bounds", "first_kept"),
    [
        ({}, 40),
        ({"keep_seq": 40}, 40),
        ({"keep_seq": 39}, 30),
        ({"keep_seq": 20}, 20),
        ({"keep_seq": 0}, 0),
        ({"keep_arrival_us": START_US + 3 * HOUR_US + 60 * SECOND_US + 2}, 40),
        ({"keep_arrival_us": START_US + 3 * HOUR_US + 60 * SECOND_US + 1}, 30),
        ({"keep_arrival_us": START_US + 2 * HOUR_US}, 20),
        ({"keep_seq": 35, "keep_arrival_us": START_US + HOUR_US}, 10),
        ({"keep_seq": 15, "keep_arrival_us": START_US + 3 * HOUR_US}, 10),
    ],
)
def test_what_was_not_judged_yet_does_not_grow_old(
    tmp_path: Path, bounds: dict[str, int], first_kept: int
) -> None:
    store = hourly(tmp_path, StoreOptions(keep_seconds=3600))
    retired = store.retire(START_US + 30 * HOUR_US, **bounds)
    assert ids_in(store) == ids(range(first_kept, 40))
    assert (retired.segments, retired.events) == (first_kept // 10, first_kept)
    assert retired.held_events == 40 - first_kept
    assert retired.held_segments == 4 - first_kept // 10
    assert (retired.unjudged_events, store.faults) == (0, [])
    shut(store)


@pytest.mark.parametrize(
    ("bounds", "lost"),
    [
        ({}, 0),
        ({"keep_seq": 30}, 0),
        ({"keep_seq": 24}, 6),
        ({"keep_arrival_us": START_US + 2 * HOUR_US + 60 * SECOND_US}, 5),
        ({"keep_seq": 29, "keep_arrival_us": START_US + 2 * HOUR_US}, 10),
        ({"keep_seq": 0}, 30),
    ],
)
def test_for_want_of_room_it_goes_last_and_that_is_told(
    tmp_path: Path, bounds: dict[str, int], lost: int
) -> None:
    shut(hourly(tmp_path, StoreOptions()))
    size = sum(path.stat().st_size for path in (tmp_path / "events").rglob("*.*"))
    store = opened(tmp_path, options=StoreOptions(keep_bytes=size // 3))
    retired = store.retire(START_US, **bounds)
    assert ids_in(store) == ids(range(30, 40))
    assert (retired.events, retired.unjudged_events, retired.held_events) == (30, lost, 0)
    assert len(store.faults) == (lost > 0)
    assert not lost or store.faults[0].startswith(f"{lost} events were removed for want of room")
    shut(store)


def test_stats_count_what_there_is(store: EventStore, tmp_path: Path) -> None:
    told = store.stats()
    assert (told.events, told.segments, told.open_rows) == (100, 2, 60)
    assert told.first_arrival_us == START_US + 1
    assert told.last_arrival_us == START_US + 95 * SECOND_US + 1
    assert told.last_arrivals_us["odd"] == told.last_arrival_us
    assert told.size == sum(
        path.stat().st_size
        for folder in ("events", "log")
        for path in (tmp_path / folder).rglob("*.*")
    )
    assert told.trouble is None


def test_a_reader_of_another_process_sees_the_same(store: EventStore, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    other = read_only(tmp_path)
    assert ids_in(other) == ids_in(store)
    assert other.next_seq == 100
    assert other.last_arrival_us == store.last_arrival_us
    assert other.stats()._replace(last_arrivals_us={}) == store.stats()._replace(
        last_arrivals_us={}
    )
    assert other.select(Equals("user", "user-3")) == store.select(Equals("user", "user-3"))
    assert other.count(Always()).plain == 100
    assert list(other.fetch(other.select(Always()))) == list(store.fetch(store.select(Always())))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    store.append([incoming(100)])
    store.seal()
    store.append([incoming(101)])
    assert ids_in(other) == ids(range(102))
    assert other.count(Always()).plain == 102
    for write in (lambda: other.append([]), lambda: other.seal_if_due(0), lambda: other.retire(0)):
        with pytest.raises(StoreError, match="reading only"):
            write()
    other.close()


def test_a_closed_store_takes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    shut(store)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append([incoming(1)])


def test_readers_in_threads_see_every_acknowledged_row(tmp_path: Path) -> None:
    """While rows are appended and sealed, and the oldest are removed."""
    clock = Clock()
    store = opened(tmp_path, clock=clock, options=StoreOptions(seal_rows=50, keep_seconds=60))
    other = read_only(tmp_path)
    acknowledged = [0]
    kept_from = [0]
    stop = threading.Event()
    failed: list[BaseException] = []

    def watch(which: EventStore, *, is_search: bool) -> None:
        try:
            while not stop.is_set():
                least, most = kept_from[0], acknowledged[0]
                if is_search:
                    refs = store.select(Always(), limit=5000)
                    seqs = [ref.seq for ref in refs]
                    texts = {each.seq: each.line for each in which.fetch(refs[-60:])}
                    assert all(json.loads(line)["id"] == f"id-{seq}" for seq, line in texts.items())
                else:
                    seqs = [seq for seq, _ in lines_in(which)]
                assert seqs == sorted(set(seqs))
                if kept_from[0] == least:  # nothing was removed meanwhile
                    kept = [seq for seq in seqs if seq >= least]
                    assert kept == list(range(least, max(most, least + len(kept))))
        except BaseException as error:
            failed.append(error)
            raise

    watchers = [
        threading.Thread(target=watch, args=(which,), kwargs={"is_search": is_search})
        for which, is_search in ((store, False), (store, True), (other, False), (other, True))
    ]
    for each in watchers:
        each.start()
    try:
        for start in range(0, 1500, 10):
            clock.now_us += SECOND_US
            while store.stats().open_rows > 90:  # sealing has to keep up
                store.wait()
                store.seal_if_due(clock.now_us)
            store.append([incoming(*range(start, start + 10))])
            acknowledged[0] = start + 10
            store.seal_if_due(clock.now_us)
            if start % 200 == 0:
                store.wait()
                ends = [
                    each.extent.last_seq + 1
                    for each in store._shelf.view().segments
                    if each.extent.arrival_us[1] < clock.now_us - 60 * SECOND_US
                ]
                kept_from[0] = max([kept_from[0], *ends])
                store.retire(clock.now_us)
    finally:
        stop.set()
        for each in watchers:
            each.join()
    assert not failed
    assert ids_in(store)[-1] == "id-1499"
    other.close()
    shut(store)
