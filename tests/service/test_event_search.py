"""Search: what columns, sieve and pages give is what going through every event would give."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oddevents import FIELDS, VALUES, all_bodies, parsed, queries
from samples import event as plain_event

from barrelman.detection.rows import describe, row_of
from barrelman.engine.compile import compile_query
from barrelman.engine.decode import dumps, loads
from barrelman.engine.unwrap import unwrap
from barrelman.errors import BarrelmanError, UsageError
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, event_time_us
from barrelman.records.where import Always
from barrelman.service.search import FoundEvent, Search
from barrelman.store.events import EventStore, Incoming, StoreOptions
from barrelman.store.folder import DataFolder

SECOND = 1_000_000
NOW_US = 1_795_435_260 * SECOND


class Held(NamedTuple):
    """An event as the brute force sees it."""

    seq: int
    arrival_us: int
    cluster: str
    event: Event


class Archive:
    """A store of odd events, some sealed and some in the log; and all of them in a list."""

    def __init__(self, path: Path) -> None:
        self.now_us = NOW_US
        self.folder = DataFolder.open(path)
        self.store = EventStore.open(
            self.folder, clock=lambda: self.now_us, describe=describe, options=StoreOptions()
        )
        self.search = Search(self.store, clock=lambda: self.now_us)
        self.held: list[Held] = []

    def keep(self, events: list[Event], *, cluster: str) -> None:
        rows = [row_of(event, cluster=cluster) for event in events]
        (stored,) = self.store.append([Incoming(cluster, rows)])
        for place, number in enumerate(stored.kept):
            event = events[number]
            event.cluster, event.is_bound = cluster, True
            event.ingested_us = stored.arrival_us
            self.held.append(Held(stored.first_seq + place, stored.arrival_us, cluster, event))
        self.now_us += 7 * SECOND

    def close(self) -> None:
        self.store.close()
        self.folder.close()

    def expected(
        self,
        query: str,
        *,
        since_us: int | None = None,
        until_us: int | None = None,
        clusters: Any = None,
    ) -> list[int]:
        node = parsed(query or "*:*")
        assert node is not None
        predicate = compile_query(node, AUDIT_CATALOGUE)
        found = []
        for seq, _, cluster, event in self.held:
            instant = event_time_us(event)
            if clusters is not None and cluster not in clusters:
                continue
            if (since_us is not None or until_us is not None) and instant is None:
                continue
            if since_us is not None and (instant or 0) < since_us:
                continue
            if until_us is not None and (instant or 0) > until_us:
                continue
            if predicate.matches(event, now_ms=self.now_us // 1000):
                found.append(seq)
        return found


def wrapped(number: int) -> list[Event]:
    """Documents and records of other systems around an event."""
    body = plain_event(number, requestObject=None)
    values = [
        {
            "time": "2026-11-23T09:00:00Z",
            "properties": {"log": dumps(body).decode(), "pod": "kube-apiserver-1"},
        },
        {
            "_index": "logs-kubernetes.audit_logs-prod",
            "_source": {
                "@timestamp": "2026-11-23T09:00:00Z",
                "kubernetes": {"audit": body},
                "user": {"name": ["eve", "adam"]},
                "orchestrator": {"cluster": {"name": "other"}},
            },
        },
        {
            "@timestamp": "2026-11-23T12:01:30Z",
            "user.name": "eve",
            "event.action": "get",
            "kubernetes.audit.objectRef.name": "ab",
            "kubernetes.audit.responseStatus.code": "404",
            "source.ip": "::ffff:10.0.0.1",
        },
    ]
    return [event for value in values for event in unwrap(value) if isinstance(event, Event)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    made = Archive(tmp_path_factory.mktemp("archive") / "data")
    bodies = [loads(dumps(body)) for body in all_bodies()]
    random.Random(7).shuffle(bodies)
    events = []
    for number, body in enumerate(bodies):
        body.setdefault("auditID", f"a{number}")
        body["requestURI"] = f"/{number}"  # another act, and so another event
        events.append(Event(body))
    for number in range(12):
        events += wrapped(number)
    times = [None, "9998-12-31T00:00:00Z", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z"]
    for number, moment in enumerate(times):
        events.append(
            Event(plain_event(900 + number, stageTimestamp=moment, requestReceivedTimestamp=moment))
        )
    untimed: dict[str, Any] = {"stageTimestamp": None, "requestReceivedTimestamp": None}
    for user in (["eve"], "eve", [{"username": "eve"}]):
        events.append(Event(plain_event(950, user=user, **untimed)))
        events.append(Event(plain_event(951, user={"username": user}, **untimed)))
    random.Random(8).shuffle(events)
    for number in range(0, len(events), 60):
        made.keep(events[number : number + 60], cluster=("harbour", "other")[number // 60 % 2])
        if number in (240, 480):
            made.store.seal()
    yield made
    made.close()


def seqs(page: list[FoundEvent]) -> list[int]:
    return [each.seq for each in page]


def all_pages(archive: Archive, query: str, *, limit: int, **bounds: Any) -> list[int]:
    found: list[int] = []
    after = None
    for _ in range(10_000):
        page = archive.search.events(query, limit=limit, after=after, **bounds)
        assert len(page.events) <= limit
        found += seqs(page.events)
        after = page.next
        if after is None:
            return found
    raise AssertionError("the pages do not end")


def check(archive: Archive, query: str, **bounds: Any) -> None:
    expected = archive.expected(query, **bounds)
    assert archive.search.count(query, **bounds) == len(expected), query
    assert seqs([*archive.search.each(query, **bounds)]) == expected, query
    newest = archive.search.events(query, limit=10_000, **bounds)
    assert seqs(newest.events) == expected[::-1], query
    assert newest.next is None


def test_all_simple_queries_over_all_odd_events(archive: Archive) -> None:
    chosen = [f"{field}:{value}" for field in FIELDS for value in VALUES]
    random.Random(9).shuffle(chosen)
    checked = 0
    for query in chosen[:30]:
        if parsed(query) is not None:
            check(archive, query)
            checked += 1
    assert checked > 15


@pytest.mark.parametrize(
    "query",
    [
        "",
        "*",
        "*:*",
        "not *:*",
        "user.name:eve",
        "not user.name:eve",
        "user.name:*",
        "not user.name:*",
        "source.ip:10.0.0.1",
        'source.ip:"::ffff:10.0.0.1"',
        "source.ip:10.0.0.0/8",
        "not source.ip:10.0.0.1",
        "kubernetes.audit.responseStatus.code:404",
        "not kubernetes.audit.responseStatus.code:404",
        "kubernetes.audit.responseStatus.code >= 300",
        "orchestrator.cluster.name:other",
        "orchestrator.cluster.name:harbour and user.name:eve",
        "user.name:eve or kubernetes.audit.requestURI:*9*",
        "user.name:eve and not (event.action:get or kubernetes.audit.objectRef.name:a*)",
        "@timestamp >= now-1h",
        "kubernetes.audit.requestURI:/17",
        "event.ingested >= 2026-11-23T12:02:00Z",
        "hostIPC",
        '"eve"',
    ],
)
def test_queries_of_every_kind(archive: Archive, query: str) -> None:
    if query in ("", "*") or parsed(query) is not None:
        check(archive, "" if query == "*" else query)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    query=queries(),
    since=st.none() | st.integers(-100, 100),
    until=st.none() | st.integers(-100, 100),
    clusters=st.sampled_from([None, ["harbour"], ["other"], [], ["harbour", "other"], ["x"]]),
)
def test_any_query_within_any_bounds(
    archive: Archive, query: str, since: int | None, until: int | None, clusters: Any
) -> None:
    if parsed(query) is None:
        return
    moment = event_time_us(Event(plain_event(1))) or 0
    check(
        archive,
        query,
        since_us=None if since is None else moment + since * 36 * SECOND,
        until_us=None if until is None else moment + until * 36 * SECOND,
        clusters=clusters,
    )


def test_bounds_are_included_and_what_has_no_time_is_outside(archive: Archive) -> None:
    moment = event_time_us(Event(plain_event(1))) or 0
    for query in ("*:*", "user.name:eve", "not user.name:eve", "kubernetes.audit.requestURI:*"):
        check(archive, query, since_us=moment, until_us=moment)
        check(archive, query, since_us=moment + 1)
        check(archive, query, until_us=moment - 1)
        check(archive, query, since_us=-(1 << 62), until_us=1 << 62)
    untimed = [each for each in archive.held if event_time_us(each.event) is None]
    assert untimed
    assert archive.search.count("", since_us=-(1 << 62)) == len(archive.held) - len(untimed)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize(
    "query", ["", "user.name:eve", "not user.name:eve", "source.ip:10.0.0.0/8", "user.name:nobody"]
)
def test_pages_hold_each_event_once_in_order(
    archive: Archive, query: str, newest_first: bool
) -> None:
    expected = archive.expected(query)
    for limit in (7, 100) if len(expected) < 300 else (33, 1000):
        found = all_pages(archive, query, limit=limit, newest_first=newest_first)
        assert found == (expected[::-1] if newest_first else expected)


def test_what_comes_between_two_pages_moves_nothing(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data")
    archive.keep([Event(plain_event(n)) for n in range(10)], cluster="harbour")
    newest = archive.search.events("user.name:eve", limit=4)
    oldest = archive.search.events("user.name:eve", limit=4, newest_first=False)
    archive.keep([Event(plain_event(n)) for n in range(10, 15)], cluster="harbour")
    archive.store.seal()
    assert seqs(newest.events) == [9, 8, 7, 6]
    more = archive.search.events("user.name:eve", limit=100, after=newest.next)
    assert seqs(more.events) == [5, 4, 3, 2, 1, 0]
    more = archive.search.events("user.name:eve", limit=100, after=oldest.next, newest_first=False)
    assert seqs(more.events) == [*range(4, 15)]
    archive.close()


def test_a_found_event_is_what_came(archive: Archive) -> None:
    for held in archive.held[::37]:
        found = archive.search.get(held.seq)
        assert found is not None
        assert (found.seq, found.arrival_us, found.cluster) == held[:3]
        assert loads(found.line) == loads(dumps(held.event.body))
        assert found.time_us == event_time_us(held.event)
        assert (found.wrapper is None) == row_of(held.event, cluster=held.cluster).is_plain or (
            found.wrapper is None
        )
    assert archive.search.get(len(archive.held)) is None
    assert archive.search.get(10**15) is None
    by_columns = archive.search.events("user.name:eve", limit=3).events
    assert by_columns == [archive.search.get(each.seq) for each in by_columns]


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "٣", "9" * 19, " 1"])
def test_cursors_that_are_none_are_refused(archive: Archive, after: str) -> None:
    with pytest.raises(UsageError):
        archive.search.events("", after=after)


def test_what_cannot_be_asked_is_refused(archive: Archive) -> None:
    for limit in (0, -1, 10_001):
        with pytest.raises(UsageError):
            archive.search.events("", limit=limit)
    for query in ("user.name:(", "source.ip:x", "kubernetes.audit.responseStatus.code > x"):
        with pytest.raises(BarrelmanError):
            archive.search.events(query)
        with pytest.raises(BarrelmanError):
            archive.search.count(query)


def test_a_search_that_takes_too_long_tells_and_can_go_on(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "data")
    for number in range(6):
        archive.keep([Event(plain_event(10 * number + n)) for n in range(10)], cluster="harbour")
    search = Search(archive.store, clock=lambda: archive.now_us, most_seconds=0)
    for query in ("user_agent.original:kubectl*", "user.name:eve", "user.name:nobody"):
        found: list[int] = []
        after = None
        for _ in range(100):
            page = search.events(query, limit=50, after=after)
            found += seqs(page.events)
            after = page.next
            if after is None:
                break
            assert page.is_timed_out
        assert after is None
        assert found == archive.expected(query)[::-1]
    archive.close()


def test_rows_that_are_gone_meanwhile_are_left_out(tmp_path: Path) -> None:
    """Retention may remove a segment between finding a row and fetching its line."""
    folder = DataFolder.open(tmp_path / "data")
    now = [NOW_US]
    store = EventStore.open(
        folder, clock=lambda: now[0], describe=describe, options=StoreOptions(keep_seconds=60)
    )
    search = Search(store, clock=lambda: now[0])
    for number in range(3):
        rows = [row_of(Event(plain_event(100 * number + n)), cluster="c") for n in range(10)]
        store.append([Incoming("c", rows)])
        store.seal()
        now[0] += 50 * SECOND
    refs = store.select(Always(), limit=1000)
    assert len(refs) == 30
    store.retire(now[0])
    query = search._query("user.name:eve", (None, None), None)
    assert seqs([*search._judge_refs(query, refs)]) == [*range(20, 30)]
    store.close()
    folder.close()
