"""The sample as a stream: all of it, as if it happened now, under ids of its own each time."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from barrelman.engine.decode import loads
from barrelman.engine.unwrap import is_raw_event
from barrelman.errors import StoreError
from barrelman.records.times import parse_instant_us
from barrelman.settings.demo import DEMO_CLUSTER, DemoFeed, moved, sample_events

NOW_US = 1_795_435_260_000_000


def test_the_sample_holds_whole_events() -> None:
    events = sample_events()
    assert len(events) > 200
    assert all(is_raw_event(each) for each in events)


def test_moved_events_are_those_of_the_sample_and_end_now() -> None:
    events = sample_events()
    batches = list(moved(events, now_us=NOW_US, run="a"))
    found = [each for batch in batches for each in batch]
    assert max(len(batch) for batch in batches) <= 20
    assert len(found) == len(events)
    kept = ("verb", "user", "objectRef", "requestObject", "stage", "responseStatus", "annotations")
    for before, after in zip(events, found, strict=True):
        assert [before.get(name) for name in kept] == [after.get(name) for name in kept]
    ends = [parse_instant_us(each.get("stageTimestamp")) for each in found]
    latest = max(each for each in ends if each is not None)
    assert abs(latest - NOW_US) < 1000
    begins = [parse_instant_us(each.get("stageTimestamp")) for each in events]
    steps = {after - before for before, after in zip(begins, ends, strict=True)
             if before is not None and after is not None}  # fmt: skip
    assert max(steps) - min(steps) <= 1000, "all by the same distance"


def test_each_run_has_ids_of_its_own_and_stages_share_one() -> None:
    events = sample_events()
    one, again, other = (
        [each["auditID"] for batch in moved(events, now_us=NOW_US, run=run) for each in batch]
        for run in ("a", "a", "b")
    )
    assert one == again
    assert not {*one} & {*other}
    before = [each["auditID"] for each in events]
    assert len({*one}) == len({*before})


def test_the_sample_itself_is_not_changed() -> None:
    events = sample_events()
    list(moved(events, now_us=NOW_US, run="a"))
    assert events == sample_events()


def test_nothing_moved_is_nothing() -> None:
    assert list(moved([], now_us=NOW_US, run="a")) == []
    ((only,),) = moved([{"auditID": "x"}], now_us=NOW_US, run="a")
    assert only.keys() == {"auditID"}


class Dock:
    def __init__(self, *, error: Exception | None = None) -> None:
        self.bodies: list[Any] = []
        self.error = error
        self.came = threading.Event()

    def offer(self, body: bytes, **options: Any) -> Future[Any]:
        assert options == {"cluster": DEMO_CLUSTER, "is_list": True}
        self.bodies.append(loads(body))
        self.came.set()
        future: Future[Any] = Future()
        if self.error is None:
            future.set_result(None)
        else:
            future.set_exception(self.error)
        return future


@pytest.mark.parametrize("error", [None, StoreError("no space left on device")])
def test_it_offers_lists_until_it_is_stopped(error: Exception | None) -> None:
    dock = Dock(error=error)
    feed = DemoFeed(dock.offer, clock=lambda: NOW_US)
    feed.start()
    assert dock.came.wait(10)
    feed.stop()
    assert not feed._thread.is_alive()
    assert dock.bodies[0]["kind"] == "EventList"
    assert len(dock.bodies[0]["items"]) == 20


def test_it_is_stopped_before_it_began() -> None:
    feed = DemoFeed(Dock().offer, clock=lambda: NOW_US)
    feed.stop()
    feed.state()
