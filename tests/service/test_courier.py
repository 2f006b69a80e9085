"""The courier: nothing lost, in order, whatever the receivers do."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from alertdocs import AT_US, alert_document, alert_id, new_alert
from receivers import Web, web

from barrelman.errors import SinkError, StoreError
from barrelman.service.courier import Courier, SinkState
from barrelman.service.delivery import Tries
from barrelman.sinks.address import parse_sink_flag
from barrelman.sinks.opening import open_sink
from barrelman.sinks.routes import Route
from barrelman.sinks.sink import Sink
from barrelman.store import alerts, outbox
from barrelman.store.alerts import NewAlert
from barrelman.store.database import Connection, Database

FAST = Tries(first_seconds=0.01, longest_seconds=0.05)
Made = Callable[..., Courier]


def now_us() -> int:
    return AT_US + int(time.monotonic() * 1e6)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "barrelman.db", now_us=1)
    yield opened
    opened.close()


@pytest.fixture
def receiver() -> Iterator[Web]:
    with web() as made:
        yield made


@pytest.fixture
def made(database: Database) -> Iterator[Made]:
    couriers: list[Courier] = []

    def make(*flags: str, start: bool = True) -> Courier:
        settings = [parse_sink_flag(flag) for flag in flags]
        sinks = [(open_sink(each, clock=now_us), each.route) for each in settings]
        courier = Courier(database, sinks, clock=now_us, public_url="https://b.example", tries=FAST)
        couriers.append(courier)
        if start:
            courier.start()
        return courier

    yield make
    for courier in couriers:
        courier.stop(0)


def store(database: Database, courier: Courier, *new: NewAlert) -> None:
    def write(connection: Connection) -> None:
        alerts.add(connection, new)
        courier.enqueue(connection, new, now_us())

    database.write(write)
    courier.wake()


def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come to that"
        time.sleep(0.005)


def idle(courier: Courier) -> None:
    until(lambda: not any(state.pending for state in courier.state().values()))


def state(courier: Courier) -> SinkState:
    [found] = courier.state().values()
    return found


def lines(path: Path) -> list[str]:
    return [json.loads(line)["kibana.alert.uuid"] for line in path.read_bytes().splitlines()]


def posted(receiver: Web) -> list[str]:
    return [request.json["alert_id"] for request in receiver.requests]


def numbered(numbers: Sequence[int]) -> list[str]:
    return [alert_id(number) for number in numbers]


def test_every_sink_gets_what_its_route_takes_in_order(
    tmp_path: Path, database: Database, receiver: Web, made: Made
) -> None:
    courier = made(
        f"file:{tmp_path}/a.jsonl",
        f"{receiver.url}/#severity=high",
        f"file:{tmp_path}/b.jsonl#tag=rare*&name=rare",
    )
    rare = alert_document(3, rule__tags=["Rarely"])
    store(
        database, courier, new_alert(1), new_alert(2, document=alert_document(2, severity="high"))
    )
    store(database, courier, new_alert(3, document=rare), new_alert(4, building_block=True))
    idle(courier)
    assert lines(tmp_path / "a.jsonl") == numbered([1, 2, 3, 4])
    assert posted(receiver) == numbered([2])
    assert lines(tmp_path / "b.jsonl") == numbered([3])
    found = courier.state()["file-a"]
    assert (found.delivered, found.dead, found.failures, found.oldest_us) == (4, 0, 0, None)
    assert found.last_success_us is not None
    assert not found.is_failing


def test_what_the_alert_became_meanwhile_is_told(
    database: Database, receiver: Web, made: Made
) -> None:
    courier = made(f"{receiver.url}/", start=False)
    store(database, courier, new_alert(1))
    database.write(
        lambda c: alerts.change(c, [alert_id(1)], by="ann", at_us=now_us(), status="acknowledged")
    )
    courier.start()
    idle(courier)
    said = receiver.requests[0].json
    assert said["status"] == "acknowledged"
    assert said["alert"]["kibana.alert.workflow_user"] == "ann"
    assert said["link"] == f"https://b.example/alerts/{alert_id(1)}"


def test_an_alert_that_is_not_stored_is_not_told(
    tmp_path: Path, database: Database, made: Made
) -> None:
    courier = made(f"file:{tmp_path}/a.jsonl")

    def write(connection: Connection) -> None:
        courier.enqueue(connection, [new_alert(1)], now_us())
        raise LookupError

    with pytest.raises(LookupError):
        database.write(write)
    courier.wake()
    store(database, courier, new_alert(2))
    idle(courier)
    assert lines(tmp_path / "a.jsonl") == numbered([2])


def test_from_the_commit_to_the_file_it_takes_milliseconds(
    tmp_path: Path, database: Database, made: Made
) -> None:
    courier = made(f"file:{tmp_path}/a.jsonl")
    store(database, courier, new_alert(1))
    idle(courier)
    took = []
    for number in range(2, 22):
        began = time.monotonic()
        store(database, courier, new_alert(number))
        while len(lines(tmp_path / "a.jsonl")) < number:
            assert time.monotonic() - began < 5
            time.sleep(0.001)
        took.append(time.monotonic() - began)
    assert sorted(took)[10] < 0.2


def test_a_sink_that_is_down_loses_nothing_and_recovers_by_itself(
    database: Database, receiver: Web, made: Made
) -> None:
    receiver.answer = lambda _: (503, {}, b"down")
    courier = made(f"{receiver.url}/")
    store(database, courier, *map(new_alert, range(1, 6)))
    until(lambda: len(receiver.requests) >= 4)
    failing = state(courier)
    assert failing.is_failing
    assert failing.pending == 5
    assert failing.oldest_us is not None
    assert failing.last_error == f"{receiver.url} answered 503: down"
    assert set(posted(receiver)) == {alert_id(1)}
    receiver.requests.clear()
    receiver.answer = lambda _: (200, {}, b"")
    idle(courier)
    assert posted(receiver)[-5:] == numbered(range(1, 6))
    until(lambda: not state(courier).is_failing)
    assert state(courier).delivered == 5


def test_attempts_and_errors_stand_in_the_outbox(
    database: Database, receiver: Web, made: Made
) -> None:
    receiver.answer = lambda _: (500, {}, b"")
    courier = made(f"{receiver.url}/")
    store(database, courier, new_alert(1))
    until(lambda: len(receiver.requests) >= 3)
    courier.stop(0)
    [parcel] = database.read(lambda c: outbox.due(c, "webhook-127-0-0-1", limit=9))
    assert parcel.attempts >= 2


def test_when_to_come_back_is_heeded(database: Database, receiver: Web, made: Made) -> None:
    receiver.answer = lambda _: (429, {"retry-after": "30"}, b"")
    courier = made(f"{receiver.url}/")
    store(database, courier, new_alert(1))
    until(lambda: state(courier).is_failing)
    store(database, courier, new_alert(2))
    time.sleep(0.3)
    assert len(receiver.requests) == 1
    next_try_us = state(courier).next_try_us
    assert next_try_us is not None
    assert 25e6 < next_try_us - now_us() <= 30e6


def test_what_is_refused_for_ever_holds_up_nothing(
    database: Database, receiver: Web, made: Made
) -> None:
    refused = {alert_id(2), alert_id(4)}
    receiver.answer = lambda request: (
        400 if request.json["alert_id"] in refused else 200,
        {},
        b"no",
    )
    courier = made(f"{receiver.url}/")
    store(database, courier, *map(new_alert, range(1, 6)))
    idle(courier)
    assert posted(receiver) == numbered(range(1, 6))
    found = state(courier)
    assert (found.delivered, found.dead) == (3, 2)
    assert "answered 400" in (found.last_error or "")
    refused.clear()
    assert courier.requeue(found.name) == 2
    idle(courier)
    assert posted(receiver)[5:] == numbered([2, 4])
    assert state(courier).dead == 0


def test_of_a_batch_only_what_is_refused_is_given_up(
    database: Database, receiver: Web, made: Made
) -> None:
    receiver.answer = lambda request: (
        413 if any(each["alert_id"] == alert_id(3) for each in request.json) else 200,
        {},
        b"",
    )
    courier = made(f"{receiver.url}/#batch=10", start=False)
    store(database, courier, *map(new_alert, range(1, 8)))
    courier.start()
    idle(courier)
    assert state(courier).dead == 1
    sizes = [len(request.json) for request in receiver.requests]
    assert sizes[0] == 7
    arrived = [each["alert_id"] for request in receiver.requests[1:] for each in request.json]
    assert arrived == numbered(range(1, 8))
    store(database, courier, *map(new_alert, range(8, 11)))
    idle(courier)
    assert len(receiver.requests[-1].json) == 3


def test_what_fails_too_long_is_given_up_where_told_so(
    database: Database, receiver: Web, made: Made
) -> None:
    receiver.answer = lambda _: (500, {}, b"")
    courier = made(f"{receiver.url}/#give_up_seconds=0.1")
    store(database, courier, new_alert(1))
    until(lambda: state(courier).dead)
    assert state(courier).pending == 0
    receiver.answer = lambda _: (200, {}, b"")
    store(database, courier, new_alert(2))
    idle(courier)
    assert posted(receiver)[-1] == alert_id(2)


def test_an_alert_that_was_deleted_is_passed_over(
    tmp_path: Path, database: Database, made: Made
) -> None:
    courier = made(f"file:{tmp_path}/a.jsonl", start=False)

    def write(connection: Connection) -> None:
        alerts.add(connection, [new_alert(1), new_alert(3)])
        courier.enqueue(connection, list(map(new_alert, range(1, 4))), now_us())

    database.write(write)
    courier.start()
    idle(courier)
    assert lines(tmp_path / "a.jsonl") == numbered([1, 3])
    assert state(courier).dead == 1


def test_a_flood_becomes_one_message(database: Database, receiver: Web, made: Made) -> None:
    courier = made(f"slack+{receiver.url}/#digest_after=3", start=False)
    many = [
        new_alert(n, document=alert_document(n, rule__name="Noise" if n % 10 else "Signal"))
        for n in range(1, 41)
    ]
    store(database, courier, *many)
    courier.start()
    idle(courier)
    [request] = receiver.requests
    text = request.json["text"]
    assert "40 alerts of 2 rules" in text
    assert "36 × Noise" in text
    assert "4 × Signal" in text
    assert "https://b.example/alerts" in text
    assert text.count("eve created pods") == 5
    assert (state(courier).delivered, state(courier).digests) == (40, 1)


def test_few_alerts_are_told_one_by_one(database: Database, receiver: Web, made: Made) -> None:
    courier = made(f"slack+{receiver.url}/#digest_after=3&digest_seconds=1", start=False)
    store(database, courier, *map(new_alert, range(1, 4)))
    courier.start()
    idle(courier)
    assert len(receiver.requests) == 3
    began = time.monotonic()
    store(database, courier, new_alert(4))
    idle(courier)
    assert len(receiver.requests) == 4
    assert time.monotonic() - began > 0.5


def test_a_digest_that_is_refused_is_told_one_by_one(
    database: Database, receiver: Web, made: Made
) -> None:
    receiver.answer = lambda request: (
        400 if "alerts of" in request.json["text"] else 200,
        {},
        b"invalid_blocks",
    )
    courier = made(f"slack+{receiver.url}/#digest_after=2&digest_seconds=1", start=False)
    store(database, courier, *map(new_alert, range(1, 4)))
    courier.start()
    idle(courier)
    assert state(courier).delivered == 3
    assert state(courier).dead == 0


class Odd:
    """A sink with a bug that some alerts lead to."""

    name = "odd"
    kind = "odd"
    batch = 5
    digest_above = None
    digest_seconds = 60.0
    give_up_seconds = None
    notice = ""

    def __init__(self, *, bad: set[str]) -> None:
        self.bad = bad
        self.got: list[str] = []
        self.is_closed = False
        self.hold = threading.Event()
        self.hold.set()

    def deliver(self, messages: Sequence[Any]) -> None:
        self.hold.wait(10)
        if any(each.alert_id in self.bad for each in messages):
            raise KeyError("a bug")
        self.got += [each.alert_id for each in messages]

    def digest(self, flood: Any) -> None:
        raise AssertionError

    def test(self, now_us: int) -> str:
        raise AssertionError

    def close(self) -> None:
        self.is_closed = True


def odd_courier(database: Database, *sinks: Sink) -> Courier:
    return Courier(database, [(sink, Route()) for sink in sinks], clock=now_us, tries=FAST)


def test_a_bug_in_a_sink_does_not_dam_up_all_that_follows(database: Database) -> None:
    sink = Odd(bad={alert_id(2)})
    courier = odd_courier(database, sink)
    store(database, courier, *map(new_alert, range(1, 5)))
    courier.start()
    idle(courier)
    assert sorted(sink.got) == numbered([1, 3, 4])
    found = state(courier)
    assert (found.dead, found.last_error) == (1, "internal error: KeyError")
    assert courier.stop(5)
    assert sink.is_closed


def test_stopping_delivers_what_waits_if_it_can(
    tmp_path: Path, database: Database, made: Made
) -> None:
    courier = made(f"file:{tmp_path}/a.jsonl")
    store(database, courier, *map(new_alert, range(1, 1200)))
    assert courier.stop(10)
    assert lines(tmp_path / "a.jsonl") == numbered(range(1, 1200))


def test_stopping_does_not_wait_for_what_is_down(
    database: Database, receiver: Web, made: Made
) -> None:
    receiver.answer = lambda _: (503, {"retry-after": "60"}, b"")
    courier = made(f"{receiver.url}/")
    store(database, courier, new_alert(1))
    until(lambda: state(courier).is_failing)
    began = time.monotonic()
    assert courier.stop(20)
    assert time.monotonic() - began < 2


def test_a_sink_that_hangs_is_left_behind(database: Database) -> None:
    sink = Odd(bad=set())
    sink.hold.clear()
    courier = odd_courier(database, sink)
    courier.start()
    store(database, courier, new_alert(1))
    time.sleep(0.1)
    assert not courier.stop(0.1)
    assert not sink.is_closed
    sink.hold.set()
    until(lambda: sink.got)


def test_what_a_former_process_left_goes_out_first(
    tmp_path: Path, database: Database, made: Made
) -> None:
    before = made(f"file:{tmp_path}/a.jsonl", start=False)
    store(database, before, new_alert(2), new_alert(1))
    after = made(f"file:{tmp_path}/a.jsonl")
    store(database, after, new_alert(3))
    idle(after)
    assert lines(tmp_path / "a.jsonl") == numbered([2, 1, 3])


def test_a_test_goes_out_beside_the_alerts(
    tmp_path: Path, database: Database, receiver: Web, made: Made
) -> None:
    courier = made(f"file:{tmp_path}/a.jsonl", f"{receiver.url}/#name=hook")
    store(database, courier, new_alert(1))
    assert "marked as a test" in courier.test("file-a")
    assert "answered 200" in courier.test("hook")
    idle(courier)  # the alert itself has gone out before the hook begins to refuse
    receiver.answer = lambda _: (403, {}, b"")
    with pytest.raises(SinkError, match="403"):
        courier.test("hook")
    idle(courier)
    found = lines(tmp_path / "a.jsonl")
    assert sorted(found)[0] == alert_id(1)
    assert len(found) == 2
    assert courier.state()["hook"].delivered == 1


def test_names_must_differ(database: Database) -> None:
    with pytest.raises(ValueError, match="same name"):
        odd_courier(database, Odd(bad=set()), Odd(bad=set()))


class FullDatabase(Database):
    """Its disk is full while `is_full` is set."""

    is_full = False

    def write(self, run: Callable[[Connection], Any]) -> Any:
        if self.is_full and threading.current_thread().name.startswith("sink "):
            raise StoreError("the disk is full")
        return super().write(run)


def test_what_arrived_is_not_sent_twice_while_that_cannot_be_written_down(
    tmp_path: Path, receiver: Web
) -> None:
    database = FullDatabase.open(tmp_path / "barrelman.db", now_us=1)
    settings = [parse_sink_flag(f"{receiver.url}/"), parse_sink_flag(f"file:{tmp_path}/a.jsonl")]
    sinks = [(open_sink(each, clock=now_us), each.route) for each in settings]
    courier = Courier(database, sinks, clock=now_us, tries=FAST)
    courier.start()
    store(database, courier, new_alert(1))
    idle(courier)
    database.is_full = True
    store(database, courier, new_alert(2), new_alert(3))
    until(lambda: all(each.failures > 5 for each in courier.state().values()))
    assert posted(receiver) == numbered([1, 2])
    assert lines(tmp_path / "a.jsonl") == numbered([1, 2, 3])
    database.is_full = False
    idle(courier)
    assert posted(receiver) == numbered([1, 2, 3])
    assert lines(tmp_path / "a.jsonl") == numbered([1, 2, 3])
    courier.stop(5)
    database.close()


def test_tries_grow_apart_up_to_a_bound() -> None:
    tries = Tries()
    seconds = [tries.seconds(number, None) for number in range(1, 2000)]
    assert seconds[0] <= 1
    assert all(0.6 * 300 <= each <= 300 for each in seconds[10:])
    assert len(set(seconds[10:])) > 100
    assert tries.seconds(1, 1800.0) == 1800


CRASHING = """
    import sys, itertools, threading, time
    sys.path.insert(0, sys.argv[3])
    from pathlib import Path
    from alertdocs import new_alert, AT_US
    from barrelman.service.courier import Courier
    from barrelman.sinks.address import parse_sink_flag
    from barrelman.sinks.opening import open_sink
    from barrelman.store import alerts
    from barrelman.store.database import Database

    folder, most = Path(sys.argv[1]), int(sys.argv[2])
    database = Database.open(folder / "barrelman.db", now_us=1)
    settings = parse_sink_flag(f"file:{folder}/alerts.jsonl")
    clock = lambda: AT_US + int(time.monotonic() * 1e6)
    courier = Courier(database, [(open_sink(settings, clock=clock), settings.route)], clock=clock)
    courier.start()
    begin = database.read(alerts.count)
    print("begun", flush=True)
    for first in range(begin + 1, begin + most, 3):
        new = [new_alert(number) for number in range(first, first + 3)]

        def write(connection):
            alerts.add(connection, new)
            courier.enqueue(connection, new, clock())

        database.write(write)
        courier.wake()
    courier.stop(30)
    database.close()
"""


def test_a_file_holds_each_alert_once_whenever_the_process_was_killed(tmp_path: Path) -> None:
    """Between the kills the file is renamed now and then, as logrotate does."""
    script = textwrap.dedent(CRASHING)
    here = str(Path(__file__).parents[1])
    chance = random.Random(7)

    def begin(most: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(most), here],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        return process

    for number in range(8):
        with begin(10**6) as process:
            time.sleep(chance.uniform(0.01, 0.25))
            process.kill()
        if number % 3 == 2:
            (tmp_path / "alerts.jsonl").rename(tmp_path / f"alerts.jsonl.{number}")
    with begin(30) as process:
        assert process.wait(30) == 0
    found = [
        json.loads(line)["kibana.alert.uuid"]
        for path in tmp_path.glob("alerts.jsonl*")
        for line in path.read_bytes().splitlines()
    ]
    assert len(found) == len(set(found))
    database = Database.open(tmp_path / "barrelman.db", now_us=1)
    stored = database.read(lambda c: [each.id for each in alerts.select(c)])
    database.close()
    assert len(stored) > 60
    assert set(found) == set(stored)
