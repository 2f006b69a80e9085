"""Aggregations with buckets: by a field's values, by time, by what queries let through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from barrelman.engine.compile import compile_query
from barrelman.errors import RequestError
from barrelman.records.event import Event
from barrelman.records.paths import Path
from barrelman.records.times import format_instant, parse_instant_us
from barrelman.service.aggspec import (
    JsonObject,
    Options,
    Purse,
    Start,
    State,
    is_date,
    reader_of,
)
from barrelman.service.calendar import Intervals, parse_intervals
from barrelman.service.dsl import ALERT_CATALOGUE, parse_query


class Several:
    """Several aggregations side by side."""

    def __init__(self, parts: Mapping[str, State]) -> None:
        self.parts = parts

    def add(self, document: JsonObject) -> None:
        for part in self.parts.values():
            part.add(document)

    def result(self) -> JsonObject:
        return {name: part.result() for name, part in self.parts.items()}


class _Bucket:
    __slots__ = ("count", "inner")

    def __init__(self, inner: State) -> None:
        self.count = 0
        self.inner = inner

    def add(self, document: JsonObject) -> None:
        self.count += 1
        self.inner.add(document)

    def result(self) -> JsonObject:
        return {"doc_count": self.count, **self.inner.result()}


class Terms:
    def __init__(self, options: Options, inner: Start, purse: Purse) -> None:
        name = options.field()
        self.read = reader_of(name, options.scalar("missing"))
        self.is_date = is_date(name)
        self.size = options.number("size", 10)
        if not self.size:
            raise RequestError(f"{options.where}.size: expected a number above 0")
        self.least = options.number("min_doc_count", 1)
        self.order = _parse_order(options, default={"_count": "desc"})
        self.included = _value_list(options, "include")
        self.excluded = _value_list(options, "exclude")
        options.end("shard_size", "show_term_doc_count_error", "execution_hint", "collect_mode")
        self.inner = inner
        self.purse = purse

    def start(self) -> State:
        return _TermsState(self)


class _TermsState:
    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.buckets: dict[tuple[bool, Any], _Bucket] = {}

    def add(self, document: JsonObject) -> None:
        terms = self.terms
        for value in terms.read(document):
            if terms.included is not None and str(value) not in terms.included:
                continue
            if terms.excluded is not None and str(value) in terms.excluded:
                continue
            key = (type(value) is bool, value)
            bucket = self.buckets.get(key)
            if bucket is None:
                terms.purse.take()
                bucket = self.buckets[key] = _Bucket(terms.inner())
            bucket.add(document)

    def result(self) -> JsonObject:
        terms = self.terms
        made = [
            {**self._key(value), **bucket.result()}
            for (_, value), bucket in self.buckets.items()
            if bucket.count >= terms.least
        ]
        made.sort(key=lambda bucket: _key_rank(bucket["key"]))
        for path, is_descending in reversed(terms.order):
            made.sort(key=lambda bucket: _metric(bucket, path), reverse=is_descending)
        shown, rest = made[: terms.size], made[terms.size :]
        return {
            "doc_count_error_upper_bound": 0,
            "sum_other_doc_count": sum(bucket["doc_count"] for bucket in rest),
            "buckets": shown,
        }

    def _key(self, value: Any) -> JsonObject:
        if isinstance(value, bool):
            return {"key": int(value), "key_as_string": "true" if value else "false"}
        if self.terms.is_date and isinstance(value, int):
            return {"key": value, "key_as_string": format_instant(value)}
        return {"key": value}


def _key_rank(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) else (1, str(value))


def _parse_order(options: Options, *, default: object) -> list[tuple[list[str], bool]]:
    given = options.take("order", default)
    made = []
    for each in given if isinstance(given, list) else [given]:
        if not isinstance(each, dict) or len(each) != 1:
            raise RequestError(f"{options.where}.order: expected {{what: 'asc' or 'desc'}}")
        [(what, how)] = each.items()
        if str(how).lower() not in ("asc", "desc"):
            raise RequestError(f"{options.where}.order.{what}: expected 'asc' or 'desc'")
        path = what.replace(">", ".").split(".")
        made.append((path, str(how).lower() == "desc"))
    return made


def _metric(bucket: JsonObject, path: list[str]) -> tuple[int, Any]:
    """What a bucket is ordered by: its count, its key, or the value of one below it."""
    if path == ["_count"]:
        return (0, bucket["doc_count"])
    if path in (["_key"], ["_term"]):
        return _key_rank(bucket["key"])
    found: Any = bucket
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    if isinstance(found, dict):
        found = found.get("value", found.get("doc_count"))
    return (0, found) if isinstance(found, int | float) else (-1, 0)


def _value_list(options: Options, name: str) -> frozenset[str] | None:
    given = options.take(name)
    if given is None:
        return None
    if not isinstance(given, list):
        raise RequestError(f"{options.where}.{name}: only a list of values is answered here")
    return frozenset(str(each) for each in given)


class Histogram:
    def __init__(self, options: Options, inner: Start, purse: Purse) -> None:
        name = options.field()
        # Whatever its name, the field is asked for dates.
        self.read = _datereader_of(name)
        intervals = {key: options.take(key) for key in ("fixed_interval", "calendar_interval")}
        older = options.take("interval")
        zone = options.take("time_zone")
        try:
            self.intervals: Intervals = parse_intervals(**intervals, interval=older, zone=zone)
        except ValueError as error:
            raise RequestError(f"{options.where}: {error}") from None
        self.least = options.number("min_doc_count", 0)
        self.bounds = self._instants(options, "extended_bounds", purse.now_ms)
        self.limits = self._instants(options, "hard_bounds", purse.now_ms)
        self.order = _parse_order(options, default=[])
        options.end("format")
        self.inner = inner
        self.purse = purse

    @staticmethod
    def _instants(options: Options, name: str, now_ms: int) -> tuple[int | None, int | None]:
        given = options.take(name) or {}
        if not isinstance(given, dict):
            raise RequestError(f"{options.where}.{name}: expected min and max")
        low, high = (
            Intervals.instant(given.get(end), now_ms=now_ms, where=f"{options.where}.{name}.{end}")
            for end in ("min", "max")
        )
        return low, high

    def start(self) -> State:
        return _HistogramState(self)


def _datereader_of(name: str) -> Callable[[JsonObject], list[int]]:
    path = Path(name)

    def read(document: JsonObject) -> list[int]:
        found = (parse_instant_us(each) for each in path.values(document))
        return sorted({each // 1000 for each in found if each is not None})

    return read


class _HistogramState:
    def __init__(self, histogram: Histogram) -> None:
        self.histogram = histogram
        self.buckets: dict[int, _Bucket] = {}

    def add(self, document: JsonObject) -> None:
        shape = self.histogram
        low, high = shape.limits
        instants = (
            each
            for each in shape.read(document)
            if (low is None or each >= low) and (high is None or each <= high)
        )
        for start in {shape.intervals.start_of(each) for each in instants} - {None}:
            assert start is not None
            bucket = self.buckets.get(start)
            if bucket is None:
                shape.purse.take()
                bucket = self.buckets[start] = _Bucket(shape.inner())
            bucket.add(document)

    def result(self) -> JsonObject:
        shape = self.histogram
        starts = list(self._starts()) if not shape.least else sorted(self.buckets)
        made = []
        for start in starts:
            bucket = self.buckets.get(start) or _Bucket(shape.inner())
            if bucket.count >= shape.least:
                named = {"key_as_string": format_instant(start), "key": start}
                made.append({**named, **bucket.result()})
        for path, is_descending in reversed(shape.order):
            made.sort(key=lambda bucket: _metric(bucket, path), reverse=is_descending)
        return {"buckets": made}

    def _starts(self) -> Iterator[int]:
        """Every interval from the first to the last, the empty ones among them."""
        shape = self.histogram
        ends = [*self.buckets]
        bounds = [shape.intervals.start_of(each) for each in shape.bounds if each is not None]
        ends += [each for each in bounds if each is not None]
        if not ends or (not self.buckets and None in shape.bounds):
            return
        start: int | None = min(ends)
        last = max(ends)
        while start is not None and start <= last:
            if start not in self.buckets:
                shape.purse.take()
            yield start
            start = shape.intervals.next_after(start)


# --- one bucket, or several by name --------------------------------------------------------


def _judge(query: object, purse: Purse) -> Callable[[JsonObject], bool]:
    predicate = compile_query(parse_query(query), ALERT_CATALOGUE)
    now_ms = purse.now_ms
    return lambda document: predicate.matches(Event(document, is_document=True), now_ms=now_ms)


class _Chosen:
    """Those documents that a test lets through, as one bucket."""

    def __init__(self, test: Callable[[JsonObject], bool], inner: State) -> None:
        self.test = test
        self.bucket = _Bucket(inner)

    def add(self, document: JsonObject) -> None:
        if self.test(document):
            self.bucket.add(document)

    def result(self) -> JsonObject:
        return self.bucket.result()


def filtered(options: Options, inner: Start, purse: Purse) -> Start:
    test = _judge(options.rest(), purse)
    return lambda: _Chosen(test, inner())


_MOST_FILTERS = 1024
"""Each is asked of every document."""


def filtered_by_name(options: Options, inner: Start, purse: Purse) -> Start:
    given = options.take("filters")
    options.end()
    if not isinstance(given, dict) or not given:
        raise RequestError(f"{options.where}.filters: expected queries by name")
    if len(given) > _MOST_FILTERS:
        raise RequestError(f"{options.where}.filters: more than {_MOST_FILTERS} queries")
    tests = {name: _judge(query, purse) for name, query in given.items()}
    return lambda: _Named({name: _Chosen(test, inner()) for name, test in tests.items()})


class _Named(Several):
    def result(self) -> JsonObject:
        return {"buckets": super().result()}


def missing(options: Options, inner: Start, _purse: Purse) -> Start:
    path = Path(options.field())
    options.end()
    return lambda: _Chosen(lambda document: not path.values(document), inner())
