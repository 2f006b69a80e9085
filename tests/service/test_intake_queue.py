"""Bodies in, receipts out: what is acknowledged is on disk, and nothing stops the rest."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import (
    CLUSTER,
    FaultyStore,
    Wall,
    audit,
    audits,
    in_pieces,
    lines_of,
    list_of,
    together,
    wait_until,
)

from barrelman.detection.rows import describe
from barrelman.engine.decode import loads
from barrelman.errors import StoreError
from barrelman.service.intake import Committed, Intake, Overloaded, Receipt
from barrelman.store.events import EventStore
from barrelman.store.folder import DataFolder


class Dock:
    """A store, an intake before it, and all that it gave on."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.wall = Wall()
        self.folder = DataFolder.open(path)
        self.events = EventStore.open(self.folder, clock=self.wall, describe=describe)
        self.store = FaultyStore(self.events)
        self.given: list[Committed] = []
        store: Any = self.store
        self.intake = Intake(store, give=self.given.append, clock=self.wall, **options)

    def send(self, body: bytes, *, cluster: str = CLUSTER, is_list: bool = True) -> Receipt:
        return self.intake.offer(body, cluster=cluster, is_list=is_list).result(timeout=20)

    def bodies(self) -> list[Any]:
        """What is stored, decoded."""
        return [loads(line) for frame in self.events.frames() for line in frame.lines.splitlines()]

    def close(self) -> None:
        self.intake.stop()
        self.events.close()
        self.folder.close()


@pytest.fixture
def dock(tmp_path: Path) -> Iterator[Dock]:
    made = Dock(tmp_path / "data")
    made.intake.start()
    yield made
    made.close()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Dock]:
    """One whose writer has not begun: what is offered waits, and goes into one commit."""
    made = Dock(tmp_path / "data", max_bytes=1_000_000)
    yield made
    made.close()


def counted(receipt: Receipt) -> tuple[int, int, int, int, int]:
    return (
        *(receipt.events, receipt.stored, receipt.duplicates),
        *(receipt.malformed, receipt.foreign),
    )


# --- what a body may be ------------------------------------------------------------------------


def test_a_list_of_events_is_kept_and_given_on(dock: Dock) -> None:
    events = audits(range(5))
    assert counted(dock.send(list_of(events))) == (5, 5, 0, 0, 0)
    assert dock.bodies() == events
    (committed,) = dock.given
    assert (committed.first_seq, len(committed.rows)) == (0, 5)
    assert (committed.arrival_us, committed.cluster) == (dock.wall.now_us, CLUSTER)
    assert dock.intake.held_bytes == 0


def test_when_the_receipt_is_there_the_events_are_on_disk(dock: Dock) -> None:
    dock.send(list_of(audits(range(3))))
    with DataFolder.open(dock.folder.path, read_only=True) as other:
        seen = EventStore.open(other, clock=dock.wall, describe=describe)
        assert sum(len(frame.seqs) for frame in seen.frames()) == 3
        seen.close()


SHAPES: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "lines": (lines_of(audits(range(3))), (3, 3, 0, 0, 0)),
    "no last line feed": (lines_of(audits(range(3)))[:-1], (3, 3, 0, 0, 0)),
    "an array": (json.dumps(audits(range(3))).encode(), (3, 3, 0, 0, 0)),
    "indented": (json.dumps(audit(1), indent=2).encode(), (1, 1, 0, 0, 0)),
    "a list as a line": (list_of(audits(range(3))), (3, 3, 0, 0, 0)),
    "nothing": (b"", (0, 0, 0, 0, 0)),
    "blank lines": (b"\n\n", (0, 0, 0, 0, 0)),
    "a broken line": (b"{not json}\n" + lines_of([audit(1)]), (1, 1, 0, 1, 0)),
    "foreign": (b'{"a":1}\n', (0, 0, 0, 0, 1)),
    "an envelope": (
        lines_of([{"log": json.dumps(audit(1)), "stream": "stdout"}]),
        (1, 1, 0, 0, 0),
    ),
    "an Elastic hit": (
        lines_of(
            [
                {
                    "_index": "logs-kubernetes.audit_logs-default",
                    "_source": {
                        "@timestamp": "2026-11-23T12:00:00Z",
                        "kubernetes": {"audit": audit(1)},
                    },
                }
            ]
        ),
        (1, 1, 0, 0, 0),
    ),
}


def test_lines_of_any_shape(dock: Dock) -> None:
    for name, (body, expected) in SHAPES.items():
        found = counted(dock.send(body, cluster=name.replace(" ", "-"), is_list=False))
        assert found == expected, name
    assert dock.intake.held_bytes == 0


MIXED: list[tuple[list[Any], int, int]] = [
    ([], 0, 0),
    ([None], 0, 1),
    ([audit(1), None, 7, "x", [], {}, True, audit(2)], 2, 5),
    ([audit(1), {"kind": "Event", "apiVersion": "v1", "reason": "Killing"}], 1, 1),
    ([[audit(1), audit(2)], audit(3)], 3, 0),
    ([json.dumps(audit(1)), audit(2)], 2, 0),
    ([json.dumps(audit(1))[:-5], audit(2)], 1, 1),
    ([{"log": json.dumps(audit(1))}, audit(2)], 2, 0),
]


def test_one_item_takes_no_other_with_it(dock: Dock) -> None:
    for number, (items, stored, problems) in enumerate(MIXED):
        receipt = dock.send(list_of(items), cluster=f"c{number}")
        assert (receipt.events, receipt.stored) == (stored, stored), items
        assert receipt.malformed + receipt.foreign == problems, items
        assert len(receipt.problems) == min(problems, 5)
        assert not any(each.startswith("line") for each in receipt.problems)
    assert dock.intake.is_alive


NO_LISTS = [
    b"", b"{", b"null", b"[]", b"7", b'"x"', b'{"items":7}', b'{"items":{}}', b"\xff\xfe",
    b'{"kind":"EventList"}', gzip.compress(b"{}"), b"\0" * 100, b"[" * 5000, b'{"a":' * 5000,
    b'{"items":[' + b"[" * 900, b'{"kind":"EventList","items":null}',
]  # fmt: skip


def test_what_is_no_list_of_events_costs_only_itself(dock: Dock) -> None:
    for number, body in enumerate(NO_LISTS):
        receipt = dock.send(body)
        assert receipt.stored == receipt.events == 0, body[:20]
        assert counted(dock.send(list_of([audit(number)]))) == (1, 1, 0, 0, 0)
        assert dock.intake.held_bytes == 0


ODD: list[Any] = [
    None, 0, -1, 1 << 70, 1.5, True, "", "\ud83d", "a\nb", [], {}, [[]], ["a", None], {"a": "b"},
    "x" * 70_000, [{"username": "eve"}], {"": ""}, {"a.b": {"c": [1, "2"]}}, [None],
]  # fmt: skip
NAMES = (
    "auditID", "stage", "level", "verb", "user", "objectRef", "annotations", "sourceIPs",
    "responseStatus", "requestURI", "stageTimestamp", "requestReceivedTimestamp", "userAgent",
    "impersonatedUser", "requestObject", "metadata", "user.username", "\ud83d", "",
)  # fmt: skip


def test_odd_values_are_kept_like_any_other(dock: Dock) -> None:
    for name in NAMES:
        events = [audit(number) | {name: value} for number, value in enumerate(ODD)]
        for first, part, member in (
            (100, "user", "username"),
            (200, "objectRef", "name"),
            (300, "responseStatus", "code"),
            (400, "annotations", "authorization.k8s.io/decision"),
        ):
            events += [audit(first + n) | {part: {member: value}} for n, value in enumerate(ODD)]
        receipt = dock.send(list_of(events), cluster=f"c{NAMES.index(name)}")
        assert receipt.events == receipt.stored + receipt.duplicates == len(events), name
    assert dock.intake.is_alive


def test_deeply_nested_items_are_kept(dock: Dock) -> None:
    deep: Any = "end"
    for _ in range(400):
        deep = {"a": [deep]}
    receipt = dock.send(list_of([audit(1), audit(2, requestObject=deep), audit(3)]))
    assert counted(receipt) == (3, 3, 0, 0, 0)


# --- second deliveries -------------------------------------------------------------------------


def test_second_deliveries_are_kept_once(dock: Dock) -> None:
    body = list_of(audits(range(4)))
    assert counted(dock.send(body)) == (4, 4, 0, 0, 0)
    assert counted(dock.send(body)) == (4, 0, 4, 0, 0)
    assert counted(dock.send(list_of(audits(range(2, 6))))) == (4, 2, 2, 0, 0)
    assert counted(dock.send(list_of([*audits([9, 9]), audit(1)]))) == (3, 1, 2, 0, 0)
    assert len(dock.bodies()) == 7
    assert [len(each.rows) for each in dock.given] == [4, 2, 1]
    assert [each.first_seq for each in dock.given] == [0, 4, 6]


def test_bodies_that_share_a_commit_know_each_others_events(waiting: Dock) -> None:
    dock = waiting
    futures = [
        dock.intake.offer(list_of(audits(numbers)), cluster=CLUSTER, is_list=True)
        for numbers in (range(3), range(1, 5), range(3))
    ]
    dock.intake.start()
    found = [counted(each.result(timeout=20)) for each in futures]
    assert found == [(3, 3, 0, 0, 0), (4, 2, 2, 0, 0), (3, 0, 3, 0, 0)]
    assert dock.intake.commits == 1
    numbers = [row.audit_id for each in dock.given for row in each.rows]
    assert numbers == [audit(n)["auditID"] for n in range(5)]
    firsts = [(each.first_seq, len(each.rows)) for each in dock.given]
    assert firsts == [(0, 3), (3, 2)]


def test_another_act_under_the_same_id_is_another_event(dock: Dock) -> None:
    first = audit(1)
    later = audit(1, requestReceivedTimestamp="2026-11-23T12:00:01Z")
    other = audit(1, verb="delete")
    elsewhere = audit(1, requestURI="/api/v1/namespaces/shop/secrets/other")
    stage = audit(1, stage="ResponseStarted")
    events = [first, later, other, elsewhere, stage]
    assert counted(dock.send(list_of(events))) == (5, 5, 0, 0, 0)
    assert counted(dock.send(list_of(events))) == (5, 0, 5, 0, 0)


def test_clusters_do_not_share_ids(dock: Dock) -> None:
    assert dock.send(list_of([audit(1)]), cluster="a").stored == 1
    assert dock.send(list_of([audit(1)]), cluster="b").stored == 1
    assert dock.send(list_of([audit(1)]), cluster="a").stored == 0
    assert dock.intake.clusters["a"].duplicates == 1
    assert dock.intake.clusters["a"].last_arrival_us == dock.wall.now_us


def test_a_list_and_lines_tell_of_the_same_event(dock: Dock) -> None:
    dock.send(list_of([audit(1)]))
    assert counted(dock.send(lines_of([audit(1)]), is_list=False)) == (1, 0, 1, 0, 0)


# --- how much at once --------------------------------------------------------------------------


def test_many_small_bodies_share_a_commit(waiting: Dock) -> None:
    futures = [
        waiting.intake.offer(list_of([audit(number)]), cluster=f"c{number % 3}", is_list=True)
        for number in range(100)
    ]
    waiting.intake.start()
    assert all(each.result(timeout=20).stored == 1 for each in futures)
    assert waiting.intake.commits == 1
    assert len(waiting.bodies()) == 100


def test_a_huge_body_takes_several_commits_and_one_receipt(dock: Dock) -> None:
    events = audits(range(120), requestObject={"data": "x" * 100_000})
    receipt = dock.send(lines_of(events), is_list=False)
    assert counted(receipt) == (120, 120, 0, 0, 0)
    assert dock.intake.commits >= 3
    seqs = [each.first_seq + n for each in dock.given for n in range(len(each.rows))]
    assert seqs == list(range(120)), "numbered without a hole, in order"
    assert dock.intake.clusters[CLUSTER].events == 120


def test_an_event_that_is_too_large_is_told_and_the_rest_kept(tmp_path: Path) -> None:
    dock = Dock(tmp_path / "data", max_event_bytes=10_000)
    dock.intake.start()
    events = [audit(1), audit(2, requestObject={"data": "x" * 20_000}), audit(3)]
    receipt = dock.send(lines_of(events), is_list=False)
    assert (receipt.stored, receipt.malformed) == (2, 1)
    dock.close()


def test_full_is_full_and_counts_come_back_to_zero(waiting: Dock) -> None:
    intake = waiting.intake
    body = b" " * 400_000
    futures = [intake.offer(body, cluster=CLUSTER, is_list=False) for _ in range(2)]
    with pytest.raises(Overloaded) as full:
        intake.offer(body, cluster=CLUSTER, is_list=False)
    assert full.value.retry_after_seconds > 0
    assert not intake.reserve(300_000)
    assert intake.reserve(200_000)
    assert not intake.reserve(1)
    assert intake.overloaded == 3
    intake.release(200_000)
    intake.start()
    for each in futures:
        each.result(timeout=20)
    assert intake.held_bytes == 0
    assert intake.reserve(1_000_000)
    intake.release(1_000_000)


def test_nothing_is_held_after_any_outcome(dock: Dock) -> None:
    dock.send(list_of(audits(range(10))))
    dock.send(b"{{{", is_list=False)
    dock.store.failures = 1
    with pytest.raises(StoreError):
        dock.send(list_of(audits(range(10, 20))))
    dock.send(list_of(audits(range(10, 20))))
    assert dock.intake.held_bytes == 0


# --- stores that fail --------------------------------------------------------------------------


def test_a_store_that_fails_keeps_nothing_and_recovers_by_itself(dock: Dock) -> None:
    dock.send(list_of(audits(range(2))))
    dock.store.failures = 3
    for _ in range(3):
        with pytest.raises(StoreError):
            dock.send(list_of(audits(range(2, 4))))
        assert dock.intake.fault is not None
    assert counted(dock.send(list_of(audits(range(2, 4))))) == (2, 2, 0, 0, 0)
    assert dock.intake.fault is None
    assert len(dock.bodies()) == 4
    assert dock.intake.is_alive


def test_while_it_fails_no_queue_grows(waiting: Dock) -> None:
    intake = waiting.intake
    intake.fault = "no space left on device"
    intake.offer(b"", cluster=CLUSTER, is_list=False)  # one may try whether it still fails
    with pytest.raises(Overloaded) as full:
        intake.offer(b"", cluster=CLUSTER, is_list=False)
    assert full.value.retry_after_seconds > 0
    intake.start()
    wait_until(lambda: intake.fault is None or not intake.held_bytes)


def test_a_huge_body_that_fails_half_way_comes_again_whole(dock: Dock) -> None:
    events = audits(range(120), requestObject={"data": "x" * 100_000})
    dock.store.skips, dock.store.failures = 1, 1
    with pytest.raises(StoreError):
        dock.send(lines_of(events), is_list=False)
    assert dock.intake.held_bytes == 0
    kept = len(dock.bodies())
    assert 0 < kept < 120
    receipt = dock.send(lines_of(events), is_list=False)
    assert (receipt.stored, receipt.duplicates) == (120 - kept, kept)
    assert len(dock.bodies()) == 120
    assert sum(len(each.rows) for each in dock.given) == 120


def test_bodies_behind_one_that_fails_are_not_lost(waiting: Dock) -> None:
    """All that shared the commit are told; those behind it are kept."""
    waiting.store.failures = 1
    futures = [
        waiting.intake.offer(list_of(audits([n])), cluster=CLUSTER, is_list=True) for n in range(5)
    ]
    waiting.intake.start()
    outcomes = [each.exception(timeout=20) for each in futures]
    assert all(isinstance(each, StoreError) for each in outcomes)
    assert waiting.send(list_of(audits(range(5)))).stored == 5


def test_a_body_that_meets_a_bug_does_not_end_the_writer(dock: Dock) -> None:
    body: Any = "no bytes, which no caller may give"
    with pytest.raises(TypeError):
        dock.send(body, is_list=False)
    assert dock.send(list_of(audits([14]))).stored == 1
    assert dock.intake.held_bytes == 0
    assert dock.intake.is_alive


def test_a_store_that_meets_a_bug_does_not_end_the_writer(dock: Dock) -> None:
    dock.store.failures, dock.store.error = 1, ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        dock.send(list_of(audits([1])))
    assert dock.send(list_of(audits([1]))).stored == 1
    assert dock.intake.held_bytes == 0
    assert dock.intake.fault is None
    assert dock.intake.is_alive


def test_who_waits_no_longer_does_not_end_the_writer(waiting: Dock) -> None:
    """A client that hangs up has its request cancelled, and with it what it waits for."""
    gone = waiting.intake.offer(list_of(audits([1])), cluster=CLUSTER, is_list=True)
    kept = waiting.intake.offer(list_of(audits([2])), cluster=CLUSTER, is_list=True)
    gone.cancel()
    waiting.intake.start()
    assert kept.result(timeout=20).stored == 1
    assert waiting.send(list_of(audits([3]))).stored == 1
    assert waiting.intake.held_bytes == 0


# --- flush and stop ----------------------------------------------------------------------------


def test_a_flush_returns_when_all_before_it_is_settled(dock: Dock) -> None:
    futures = [
        dock.intake.offer(list_of(some), cluster=CLUSTER, is_list=True)
        for some in in_pieces(audits(range(3000)), 300)
    ]
    dock.intake.flush()
    assert all(each.done() for each in futures)
    assert len(dock.bodies()) == 3000


def test_a_flush_returns_while_the_store_fails(dock: Dock) -> None:
    dock.store.failures = 2
    future = dock.intake.offer(list_of([audit(1)]), cluster=CLUSTER, is_list=True)
    dock.intake.flush()
    assert isinstance(future.exception(timeout=1), StoreError)


def test_a_flush_before_the_start_and_after_the_end_waits_for_nobody(waiting: Dock) -> None:
    waiting.intake.flush()
    waiting.intake.start()
    waiting.intake.stop()
    waiting.intake.flush()


def test_stop_settles_what_was_offered_and_refuses_more(waiting: Dock) -> None:
    intake = waiting.intake
    futures = [intake.offer(list_of(audits([n])), cluster=CLUSTER, is_list=True) for n in range(20)]
    intake.start()
    intake.stop()
    assert all(each.result(timeout=0).stored == 1 for each in futures)
    with pytest.raises(Overloaded):
        intake.offer(b"", cluster=CLUSTER, is_list=True)
    assert not intake.is_alive
    assert intake.held_bytes == 0


def test_flushes_do_not_hang_on_a_stop(tmp_path: Path) -> None:
    for number in range(10):
        dock = Dock(tmp_path / f"data{number}")
        dock.intake.start()
        go = threading.Barrier(3)

        def flush(dock: Dock = dock, go: threading.Barrier = go) -> None:
            go.wait()
            dock.intake.flush()

        def stop(dock: Dock = dock, go: threading.Barrier = go) -> None:
            go.wait()
            dock.intake.stop()

        together(flush, flush, stop)
        dock.close()


def test_from_many_threads_at_once(dock: Dock) -> None:
    """As API servers do: at once, and each body more than once."""

    def send(numbers: range) -> None:
        for some in in_pieces(audits(numbers), 20):
            dock.send(list_of(some))

    together(*(lambda low=low: send(range(low, low + 300)) for low in (0, 0, 150, 300, 450)))
    ids = [body["auditID"] for body in dock.bodies()]
    assert len(ids) == len(set(ids)) == 750
    counts = dock.intake.clusters[CLUSTER]
    assert (counts.events, counts.stored, counts.duplicates) == (1500, 750, 750)
    assert sum(len(each.rows) for each in dock.given) == 750


@pytest.mark.parametrize(
    ("body", "is_list"),
    [
        (b"x\n" * 90_000, False),
        (b"{}\n" * 90_000, False),
        (b'{"kind":"EventList","items":[' + b"{}," * 90_000 + b"{}]}", True),
    ],
    ids=["junk", "objects", "items"],
)
def test_a_body_of_bad_items_costs_its_sender_alone(
    waiting: Dock, body: bytes, is_list: bool
) -> None:
    bad = waiting.intake.offer(body, cluster="a", is_list=is_list)
    good = waiting.intake.offer(list_of([audit(1)]), cluster="b", is_list=True)
    order: list[str] = []
    bad.add_done_callback(lambda _: order.append("bad"))
    good.add_done_callback(lambda _: order.append("good"))
    waiting.intake.start()
    assert good.result(timeout=20).stored == 1
    receipt = bad.result(timeout=60)
    assert order == ["good", "bad"]
    assert receipt.malformed + receipt.foreign >= 90_000
    assert waiting.intake.held_bytes == 0


def test_a_body_of_nothing_but_bad_lines_is_not_read_to_its_end(waiting: Dock) -> None:
    bad = waiting.intake.offer(b"x\n" * 400_000, cluster="a", is_list=False)
    waiting.intake.start()
    receipt = bad.result(timeout=60)
    assert 100_000 <= receipt.malformed < 110_000
    assert "not read" in receipt.problems[-1]


def test_the_size_of_an_event_is_bounded_in_lists_too(waiting: Dock) -> None:
    store: Any = waiting.store
    intake = Intake(store, give=lambda _: None, clock=waiting.wall, max_event_bytes=10_000)
    large = audit(1, requestObject={"a": "x" * 20_000})
    future = intake.offer(list_of([large, audit(2)]), cluster="a", is_list=True)
    intake.start()
    receipt = future.result(timeout=20)
    intake.stop()
    assert (receipt.events, receipt.stored, receipt.malformed) == (1, 1, 1)
    assert "over-long" in receipt.problems[0]
