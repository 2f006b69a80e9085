"""Figures for Prometheus: the only file that imports prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import Scope

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Requests:
    """Counts answers. `paths` names each handler's path: what a client types is no label."""

    def __init__(
        self, registry: CollectorRegistry, *, paths: Mapping[Callable[..., Any], str]
    ) -> None:
        self._paths = paths
        self._answers = Counter(
            "barrelman_http_requests",
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
        path = self._paths.get(scope.get("endpoint", count_nothing), "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._answers.labels(path, method, str(status)).inc()
        self._seconds.labels(path).observe(seconds)


def count_nothing() -> None:
    """Stands for a request that reached no handler."""


class Metrics:
    """All there is to read at `/metrics`."""

    def __init__(self, *, paths: Mapping[Callable[..., Any], str]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Requests(self._registry, paths=paths)

    def written(self) -> bytes:
        return generate_latest(self._registry)
