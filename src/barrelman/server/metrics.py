"""Figures for Prometheus: the only file that imports prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from anyio import to_thread
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from barrelman import __version__
from barrelman.server.access import caller_of
from barrelman.server.endpoints import Endpoint
from barrelman.service.numbers import Numbers

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SECOND_US: Final = 1_000_000

# When a series was first seen is of use to nobody here, and doubles what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types

Samples: TypeAlias = Iterable[tuple[tuple[str, ...], float]]


class Figure(NamedTuple):
    """One metric: where it is read from. A counter's name ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    read: Callable[[Numbers], Samples]
    labels: tuple[str, ...] = ()


def _one(read: Callable[[Numbers], float]) -> Callable[[Numbers], Samples]:
    return lambda numbers: [((), read(numbers))]


def _by_cluster(read: Callable[[Any], float]) -> Callable[[Numbers], Samples]:
    return lambda numbers: [((name,), read(each)) for name, each in numbers.clusters.items()]


def _by_sink(read: Callable[[Any], float]) -> Callable[[Numbers], Samples]:
    return lambda numbers: [((name,), read(each)) for name, each in numbers.sinks.items()]


def _by_key(read: Callable[[Numbers], Mapping[str, int]]) -> Callable[[Numbers], Samples]:
    return lambda numbers: [((name,), count) for name, count in read(numbers).items()]


_CLUSTER: Final = ("cluster",)
_SINK: Final = ("sink",)

FIGURES: Final = (
    Figure(
        "barrelman_start_time_seconds",
        "gauge",
        "When the service began, in seconds since 1970.",
        _one(lambda n: n.started_us / _SECOND_US),
    ),
    # Intake
    Figure(
        "barrelman_events_total",
        "counter",
        "Events that were read of bodies and files.",
        _by_cluster(lambda c: c.events),
        _CLUSTER,
    ),
    Figure(
        "barrelman_events_stored_total",
        "counter",
        "Events that were new, and are kept.",
        _by_cluster(lambda c: c.stored),
        _CLUSTER,
    ),
    Figure(
        "barrelman_events_duplicate_total",
        "counter",
        "Events that had come before.",
        _by_cluster(lambda c: c.duplicates),
        _CLUSTER,
    ),
    Figure(
        "barrelman_items_malformed_total",
        "counter",
        "Lines and items that are broken.",
        _by_cluster(lambda c: c.malformed),
        _CLUSTER,
    ),
    Figure(
        "barrelman_items_foreign_total",
        "counter",
        "Lines and items that are intact, and no audit events.",
        _by_cluster(lambda c: c.foreign),
        _CLUSTER,
    ),
    Figure(
        "barrelman_intake_refused_total",
        "counter",
        "Requests to take in events that were turned away.",
        _by_cluster(lambda c: c.refused),
        _CLUSTER,
    ),
    Figure(
        "barrelman_last_arrival_time_seconds",
        "gauge",
        "When the last new event came, in seconds since 1970; 0 where none has.",
        _by_cluster(lambda c: c.last_arrival_us / _SECOND_US),
        _CLUSTER,
    ),
    Figure(
        "barrelman_intake_held_bytes",
        "gauge",
        "Bytes of bodies that wait or are on their way in.",
        _one(lambda n: n.held_bytes),
    ),
    Figure(
        "barrelman_intake_max_bytes",
        "gauge",
        "Bytes of bodies that may be held.",
        _one(lambda n: n.max_bytes),
    ),
    Figure(
        "barrelman_intake_overloaded_total",
        "counter",
        "Bodies turned away for want of room.",
        _one(lambda n: n.overloaded),
    ),
    Figure(
        "barrelman_commits_total",
        "counter",
        "Writes of events to disk, each of which may hold many bodies.",
        _one(lambda n: n.commits),
    ),
    # Store
    Figure(
        "barrelman_store_events",
        "gauge",
        "Events in the store.",
        _one(lambda n: n.stored_events),
    ),
    Figure(
        "barrelman_store_bytes",
        "gauge",
        "Bytes on disk that events take.",
        _one(lambda n: n.stored_bytes),
    ),
    Figure(
        "barrelman_store_segments",
        "gauge",
        "Segments of events that are closed.",
        _one(lambda n: n.segments),
    ),
    Figure(
        "barrelman_store_open_events",
        "gauge",
        "Events that are in the log, and in no segment yet.",
        _one(lambda n: n.open_rows),
    ),
    Figure(
        "barrelman_disk_total_bytes",
        "gauge",
        "Size of the disk that holds the data.",
        _one(lambda n: n.disk_total_bytes),
    ),
    Figure(
        "barrelman_disk_free_bytes",
        "gauge",
        "What is free of it.",
        _one(lambda n: n.disk_free_bytes),
    ),
    Figure(
        "barrelman_clock_ahead_seconds",
        "gauge",
        "How far the machine's clock was set back, as far as time has not caught up.",
        _one(lambda n: n.clock_ahead_us / _SECOND_US),
    ),
    # Detection
    Figure(
        "barrelman_rules",
        "gauge",
        "Rules, by whether they run.",
        _by_key(lambda n: n.rules),
        ("status",),
    ),
    Figure(
        "barrelman_judge_behind_events",
        "gauge",
        "Events that are stored, and not judged live yet.",
        _one(lambda n: n.judge_behind),
    ),
    Figure(
        "barrelman_judge_read_back_total",
        "counter",
        "Events that the live judge read back from the store, having fallen behind.",
        _one(lambda n: n.judge_read_back),
    ),
    Figure(
        "barrelman_live_matches_total",
        "counter",
        "Events that met a rule as they came.",
        _one(lambda n: n.live_matches),
    ),
    Figure(
        "barrelman_live_capped_total",
        "counter",
        "Matches that made no alert as they came because their rule had as many as it may.",
        _one(lambda n: n.live_capped),
    ),
    Figure(
        "barrelman_run_delay_seconds",
        "gauge",
        "How late the last runs began.",
        _one(lambda n: n.run_delay_ms / 1000),
    ),
    Figure(
        "barrelman_run_behind_seconds",
        "gauge",
        "How long the oldest run that has not begun is overdue.",
        _one(lambda n: n.behind_ms / 1000),
    ),
    Figure(
        "barrelman_pass_seconds",
        "gauge",
        "How long the last pass of runs took.",
        _one(lambda n: n.pass_ms / 1000),
    ),
    Figure(
        "barrelman_manual_runs",
        "gauge",
        "Runs by hand that are not over.",
        _one(lambda n: n.manual_runs),
    ),
    Figure(
        "barrelman_gaps",
        "gauge",
        "Spans of time that no run has covered yet.",
        _one(lambda n: n.gaps),
    ),
    Figure(
        "barrelman_alerts_total",
        "counter",
        "Alerts that were raised.",
        _by_key(lambda n: n.alerts),
        ("severity",),
    ),
    Figure(
        "barrelman_alerts_folded_total",
        "counter",
        "Repeats that were counted to an alert that was there.",
        _one(lambda n: n.folded),
    ),
    Figure(
        "barrelman_groups_dropped_total",
        "counter",
        "Groups and unfinished sequences that runs let go of for want of room.",
        _one(lambda n: n.evicted),
    ),
    Figure(
        "barrelman_watches",
        "gauge",
        "Warnings of the service about itself that last.",
        _one(lambda n: n.watches),
    ),
    # Sinks
    Figure(
        "barrelman_sink_pending_alerts",
        "gauge",
        "Alerts that wait for a sink.",
        _by_sink(lambda s: s.pending),
        _SINK,
    ),
    Figure(
        "barrelman_sink_dead_alerts",
        "gauge",
        "Alerts that a sink gave up.",
        _by_sink(lambda s: s.dead),
        _SINK,
    ),
    Figure(
        "barrelman_sink_delivered_total",
        "counter",
        "Alerts that a sink took.",
        _by_sink(lambda s: s.delivered),
        _SINK,
    ),
    Figure(
        "barrelman_sink_digests_total",
        "counter",
        "Digests that a sink took in place of many alerts.",
        _by_sink(lambda s: s.digests),
        _SINK,
    ),
    Figure(
        "barrelman_sink_failures_total",
        "counter",
        "Tries that a sink did not take.",
        _by_sink(lambda s: s.failures),
        _SINK,
    ),
    Figure(
        "barrelman_sink_failing",
        "gauge",
        "1 while the last try failed.",
        _by_sink(lambda s: float(s.is_failing)),
        _SINK,
    ),
)


class Requests:
    """Counts answers. `paths` names each handler's path: what a client types is no label."""

    def __init__(
        self, registry: CollectorRegistry, *, paths: Mapping[Callable[..., Any], str]
    ) -> None:
        self._paths = paths
        self._answers = Counter(
            "barrelman_http_requests_total",
            "Requests answered, by path, method and status.",
            ("path", "method", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "barrelman_http_request_seconds",
            "How long answers took, by path.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        path = self._paths.get(scope.get("endpoint", _nobody), "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._answers.labels(path, method, str(status)).inc()
        self._seconds.labels(path).observe(seconds)


class Metrics:
    """All there is to read at `/metrics`.

    `failed`: requests so far whose credential was wrong; `connections`: those open, and those
    closed for want of room, where a listener tells.
    """

    def __init__(
        self, *, paths: Mapping[Callable[..., Any], str], failed: Callable[[], int]
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._failed = failed
        self.connections: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.requests = Requests(self._registry, paths=paths)

    def written(self, numbers: Numbers) -> bytes:
        """In a thread: it takes a while with many labels."""
        registry = CollectorRegistry()
        registry.register(_Collected([*self._own(), *_families(numbers)]))
        return generate_latest(self._registry) + generate_latest(registry)

    def _own(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("barrelman_build_info", "The version.", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build
        yield CounterMetricFamily(
            "barrelman_auth_failures_total",
            "Requests whose credential was wrong.",
            value=self._failed(),
        )
        taken, turned_away = self.connections()
        yield GaugeMetricFamily("barrelman_connections", "Connections that are open.", value=taken)
        yield CounterMetricFamily(
            "barrelman_connections_cut_total",
            "Idle connections closed to make room for others.",
            value=turned_away,
        )


class _Collected:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(numbers: Numbers) -> Iterator[Metric]:
    for figure in FIGURES:
        kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
        family = kind(figure.name, figure.meaning, labels=figure.labels)
        for labels, value in figure.read(numbers):
            family.add_metric(labels, value)
        yield family


def _nobody() -> None:
    """Stands for the handler of a request that reached none."""


async def show(request: Request) -> Response:
    state = request.app.state
    metrics: Metrics = state.metrics
    caller = caller_of(request)

    def write() -> bytes:
        numbers = state.service.numbers()
        seen = {name: each for name, each in numbers.clusters.items() if caller.sees(name)}
        return metrics.written(replace(numbers, clusters=seen))

    body = await to_thread.run_sync(write, limiter=state.aside)
    return Response(body, media_type=MEDIA_TYPE)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/metrics",
        handler=show,
        role="viewer",
        summary="Gives figures for Prometheus. This machine itself needs no key for them.",
        tag="health",
        result={"type": "string"},
        media_type="text/plain",
    ),
)
