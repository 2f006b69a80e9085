"""A whole service in a folder of its own, whose time stands until a test moves it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from barrelman.detection.rows import describe
from barrelman.detection.scan import Scan
from barrelman.engine.decode import loads
from barrelman.errors import StoreError
from barrelman.records.event import Event
from barrelman.records.times import format_instant, parse_instant_us
from barrelman.service.clock import Clock
from barrelman.service.courier import Courier
from barrelman.service.detector import judged_seq
from barrelman.service.intake import Receipt
from barrelman.service.keeper import KeeperOptions
from barrelman.service.rulesync import FileRules
from barrelman.service.service import Service, ServiceOptions
from barrelman.service.watchdogs import WatchdogOptions
from barrelman.sinks.address import parse_sink_flag
from barrelman.sinks.opening import open_sink
from barrelman.store import alerts as alerts_table
from barrelman.store import runs as runs_table
from barrelman.store.alerts import StoredAlert
from barrelman.store.database import Database
from barrelman.store.events import EventStore, Incoming, Stored, StoreOptions
from barrelman.store.folder import DataFolder
from barrelman.store.runs import Run

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
START_US = parse_instant_us("2026-11-23T12:02:00Z") or 0
"""Between two ticks of rules that run every five minutes: one run alone reads what comes."""
CLUSTER = "harbour"
# A copy of a folder in which files are being sealed is no picture of one moment.
UNSEALED = StoreOptions(seal_seconds=100 * 86_400)
QUIET = KeeperOptions(watch_seconds=0, reload_seconds=0)
JsonObject = dict[str, Any]


def at(text: str) -> int:
    """`10:05` of the day that these tests live on, in microseconds."""
    found = parse_instant_us(f"2026-11-23T{text}Z" if text.count(":") == 2 else _minute(text))
    assert found is not None
    return found


def _minute(text: str) -> str:
    return f"2026-11-23T{text}:00Z"


def clock_of(instant_ms: int) -> str:
    """`12:05` for the millisecond of that time, with seconds where there are some."""
    seconds, rest = divmod(instant_ms - at("00:00") // 1000, 1000)
    shown = f"{seconds // 3600:02}:{seconds // 60 % 60:02}"
    if seconds % 60 or rest:
        shown += f":{seconds % 60:02}"
    return shown + (f".{rest:03}" if rest else "")


def windows(runs: list[runs_table.Run]) -> list[tuple[str, str, str]]:
    return [tuple(map(clock_of, (run.tick_ms, run.from_ms, run.to_ms))) for run in runs]  # type: ignore[misc]


class Wall:
    """The wall's clock of a service; stands still until it is set."""

    def __init__(self, now_us: int = START_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def go_to(self, text: str) -> None:
        self.now_us = at(text)

    def pass_(self, *, seconds: float = 0.0) -> None:
        self.now_us += round(seconds * SECOND_US)


def audit(number: int, *, at_us: int = START_US, **changes: Any) -> JsonObject:
    """An event of a user reading a secret; `changes` replace members, None removes one."""
    moment = format_instant(at_us // 1000)
    made: JsonObject = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": f"00000000-0000-4000-8000-{number:012d}",
        "stage": "ResponseComplete",
        "requestURI": f"/api/v1/namespaces/shop/secrets/s{number}",
        "verb": "get",
        "user": {"username": "eve", "groups": ["system:authenticated"]},
        "sourceIPs": ["203.0.113.7"],
        "userAgent": "kubectl/v1.31.0",
        "objectRef": {"resource": "secrets", "namespace": "shop", "name": f"s{number}"},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": moment,
        "stageTimestamp": moment,
        "annotations": {"authorization.k8s.io/decision": "allow"},
    }
    made |= changes
    return {key: value for key, value in made.items() if value is not None}


def audits(numbers: Iterable[int], **changes: Any) -> list[JsonObject]:
    return [audit(number, **changes) for number in numbers]


def lines_of(events: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in events)


def list_of(events: Sequence[Any]) -> bytes:
    return json.dumps(
        {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": events}
    ).encode()


def rule_of(rule_id: str = "secrets", **changes: Any) -> JsonObject:
    """A rule in API form that every `audit` meets; it is enabled. `from_` stands for `from`."""
    if "from_" in changes:
        changes["from"] = changes.pop("from_")
    made: JsonObject = {
        "rule_id": rule_id,
        "type": "query",
        "language": "kuery",
        "name": f"Rule {rule_id}",
        "description": "d",
        "severity": "medium",
        "risk_score": 47,
        "index": ["logs-kubernetes.*"],
        "query": "kubernetes.audit.objectRef.resource:secrets",
        "interval": "5m",
        "from": "now-6m",
        "enabled": True,
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


class FaultyStore:
    """A real store that refuses to append as long as it is told to."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.failures = 0
        """How many of the next commits fail."""
        self.error: Exception = StoreError("no space left on device")
        self.skips = 0
        """How many commits succeed before that."""

    def append(self, batches: Sequence[Incoming]) -> list[Stored]:
        if self.skips:
            self.skips -= 1
        elif self.failures:
            self.failures -= 1
            raise self.error
        return self._store.append(batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Graph:
    """A service and what is asked of it. Whatever it does, it does through the real parts.

    `start` starts all of it; `open_up` only what takes events in, so that a test may do the rest
    (`judge`, `work`) itself.
    """

    def __init__(
        self,
        path: Path,
        *,
        wall: Wall | None = None,
        read_files: Callable[[], FileRules] = FileRules,
        store_options: StoreOptions | None = None,
        **options: Any,
    ) -> None:
        self.path = path
        self.wall = wall or Wall()
        self._made: list[Graph] = []
        self._again = {"read_files": read_files, "store_options": store_options, **options}
        self.alerts_path = path.with_suffix(".alerts.jsonl")
        clock = Clock(self.wall)
        folder = DataFolder.open(path)
        database = Database.open(folder.database, now_us=self.wall())
        events = EventStore.open(
            folder,
            clock=clock.now_us,
            describe=describe,
            options=store_options or UNSEALED,
            at_least_seq=judged_seq(database),
        )
        clock.not_before(events.last_arrival_us)
        settings = parse_sink_flag(f"file:{self.alerts_path}")
        sink = open_sink(settings, clock=clock.now_us)
        courier = Courier(database, [(sink, settings.route)], clock=clock.now_us)
        options = {
            "keeper": QUIET,
            "watchdogs": WatchdogOptions(disk_free_percent=0, disk_free_bytes=0),
            **options,
        }
        self.service = Service(
            folder,
            database,
            events,
            courier,
            clock=clock,
            options=ServiceOptions(**options),
            read_files=read_files,
        )
        self._is_over = False

    # --- start and end ---

    def start(self) -> Graph:
        self.service.start()
        return self

    def open_up(self) -> Graph:
        """Rules are read and events taken in; nothing is judged or run by itself."""
        service = self.service
        service.rulebook.sync()
        service.courier.start()
        service.intake.start()
        service.scheduler.resume()
        return self

    def stop(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.service.stop(grace_seconds=5)
        for each in self._made:
            each.stop()

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def killed(self) -> Graph:
        """What would open after a kill at this moment: a copy of the folder, as it lies there."""
        copy = self.path.with_name(f"{self.path.name}+")
        shutil.copytree(self.path, copy, ignore=shutil.ignore_patterns("LOCK"))
        if self.alerts_path.exists():
            shutil.copy(self.alerts_path, copy.with_suffix(".alerts.jsonl"))
        return self._successor(copy)

    def stopped(self) -> Graph:
        """The same folder, opened anew after an orderly stop."""
        self._is_over = True
        self.service.stop(grace_seconds=5)
        return self._successor(self.path)

    def _successor(self, path: Path) -> Graph:
        made = Graph(path, wall=self.wall, **self._again)
        self._made.append(made)
        return made

    def but(self, **options: Any) -> Graph:
        """From now on, what is opened anew is opened with these options."""
        self._again |= options
        return self

    # --- doing ---

    def add_rule(self, rule: JsonObject | None = None, **changes: Any) -> str:
        """Makes a rule as the API does; gives its id."""
        made = self.service.rules.create(rule_of(**changes) if rule is None else rule, by="test")
        return str(made["id"])

    def take(
        self, events: Sequence[Any], *, cluster: str = CLUSTER, is_list: bool = True
    ) -> Receipt:
        body = list_of(events) if is_list else lines_of(events)
        return self.offer(body, cluster=cluster, is_list=is_list)

    def offer(self, body: bytes, *, cluster: str = CLUSTER, is_list: bool = False) -> Receipt:
        future = self.service.intake.offer(body, cluster=cluster, is_list=is_list)
        return future.result(timeout=30)

    def judged(self) -> Graph:
        """Once everything stored has been judged live."""
        detector = self.service.detector
        wait_until(lambda: detector.next_seq >= self.service.events.next_seq)
        return self

    def work(self, *, most: int = 1000) -> int:
        """Runs what is due, in this thread, until nothing is; how many times there was work."""
        for done in range(most):
            if not self.service.scheduler.work():
                return done
        raise AssertionError("the scheduler does not come to rest")

    # --- asking ---

    def alerts(self, **filters: Any) -> list[StoredAlert]:
        """Alerts, oldest first."""

        def read(connection: Any) -> list[StoredAlert]:
            return list(alerts_table.select(connection, newest_first=False, **filters))

        return self.service.database.read(read)

    def ids(self, **filters: Any) -> set[str]:
        return {each.id for each in self.alerts(**filters)}

    def numbers(self, **filters: Any) -> list[int]:
        """The numbers that `audit` gave to the events alerted on, sorted."""
        found = []
        for each in self.alerts(**filters):
            document = json.loads(each.document)
            found.append(int(document["kubernetes"]["audit"]["auditID"].rpartition("-")[2]))
        return sorted(found)

    def runs(self, **filters: Any) -> list[Run]:
        """Runs by their time."""
        found = self.service.database.read(
            lambda c: runs_table.find(c, sort="tick_ms", newest_first=False, limit=5000, **filters)
        )
        return sorted(found, key=lambda each: (each.tick_ms, each.started_us))

    def gaps(self) -> list[runs_table.Gap]:
        return self.service.database.read(runs_table.gaps)

    def delivered(self) -> list[JsonObject]:
        """What the sink has got."""
        if not self.alerts_path.exists():
            return []
        return [json.loads(line) for line in self.alerts_path.read_bytes().splitlines()]

    def scanned(self, events: Iterable[JsonObject], *, cluster: str = CLUSTER) -> set[str]:
        """The ids of the alerts that a scan of these events gives by the rules of the moment."""
        runnable = [each.runnable for each in self.service.rulebook.lineup.watchers]
        scan = Scan(runnable, now_us=self.wall())
        for body in events:
            scan.feed(Event(loads(json.dumps(body)), cluster=cluster))
        return {alert.document["kibana.alert.uuid"] for alert in scan.finish()}


def wait_until(holds: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Waits for another thread to bring something about."""
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            raise AssertionError("it did not come about")
        time.sleep(0.005)


def together(*works: Callable[[], object]) -> None:
    """Does things in threads of their own, at once; raises what one of them raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    if errors:
        raise errors[0]


def in_pieces(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
