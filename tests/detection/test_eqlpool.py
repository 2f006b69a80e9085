"""What may be let go before a run: nothing that any window would have shown."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.detection.drawer import Drawer
from barrelman.detection.eqlpool import Candidate, Entry, Kept, Pool, uncovered
from barrelman.detection.finding import Item, Window
from barrelman.detection.runs import GivenRuns
from barrelman.engine.sequence import Completed


def entry(number: int, time_ms: int, drawer: Drawer) -> Entry:
    item = Item(time_ms * 1000, time_ms * 1000, number, str(number), None, None, b"")
    return Entry((time_ms * 1000, (2, 0), number), item, Kept(b"%d" % number, drawer))


def candidate(number: int, first_ms: int, last_ms: int, drawer: Drawer) -> Candidate:
    entries = (entry(2 * number, first_ms, drawer), entry(2 * number + 1, last_ms, drawer))
    found = Completed((), entries, first_ms, last_ms, number)
    return Candidate(entries, entries[1].order, found)


@st.composite
def spans(draw: st.DrawFn) -> list[tuple[int, int]]:
    """First and last times, in the order of the last."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30))
    return sorted(((min(pair), max(pair)) for pair in pairs), key=lambda pair: pair[1])


@settings(deadline=None)
@given(spans(), st.integers(1, 4))
def test_what_is_let_go_is_in_no_window_that_has_room(
    found: list[tuple[int, int]], cap: int
) -> None:
    drawer = Drawer()
    every = [candidate(number, *span, drawer) for number, span in enumerate(found)]
    kept = uncovered(every, cap)
    assert kept == sorted(kept, key=lambda each: each.order, reverse=True)
    for from_ms in range(22):
        inside = [each for each in reversed(every) if each.first_ms >= from_ms]
        assert inside[:cap] == [each for each in kept if each.first_ms >= from_ms][:cap]


def test_a_flood_of_sequences_is_counted_and_not_held() -> None:
    drawer = Drawer()
    runs = GivenRuns([Window(0, 0, 10_000)])
    pool = Pool(runs, cap=3, covers=True, most=1000)
    for number in range(5000):
        pool.add(candidate(number, number, number + 1, drawer))
    assert pool.evicted == 0
    found = pool.visible(0, 10_000)
    assert [each.order[2] for each in found[-3:]] == [9995, 9997, 9999]
    assert pool.lost + len(found) == 5000
    assert len(found) < 200


def test_what_does_not_hold_in_every_window_covers_nothing() -> None:
    drawer = Drawer()
    pool = Pool(GivenRuns([Window(0, 0, 10_000)]), cap=3, covers=False, most=1000)
    for number in range(900):
        pool.add(candidate(number, number, number + 1, drawer))
    assert len(pool.visible(0, 10_000)) == 900


def test_the_oldest_make_room() -> None:
    drawer = Drawer()
    pool = Pool(GivenRuns([Window(0, 0, 10_000)]), cap=None, covers=True, most=100)
    for number in range(300):
        pool.add(candidate(number, number, number + 1, drawer))
    found = pool.visible(0, 10_000)
    assert found[-1].order[2] == 599
    assert len(found) + pool.evicted == 300
    assert 90 < len(found) <= 100


def test_an_event_is_put_away_for_as_long_as_it_is_held() -> None:
    drawer = Drawer(memory_bytes=0)
    one = entry(1, 0, drawer)
    other = one._replace(order=(1, (2, 0), 1))
    assert one.kept.read() == b"1"
    del one
    assert other.kept.read() == b"1"
    del other
    assert drawer._file is None
