"""Aggregations over alerts as they stream by: nothing is held but buckets and the first few hits.

What is answered: terms, date_histogram, cardinality, min, max, avg, sum, value_count, top_hits,
filter, filters, missing; below those with buckets, any of them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, TypeAlias

from barrelman.engine.compile import compile_query
from barrelman.errors import RequestError
from barrelman.records.event import Event
from barrelman.records.fields import FieldType
from barrelman.records.paths import Path, Scalar
from barrelman.records.times import format_instant, parse_instant_us
from barrelman.rules.schema import describe_value
from barrelman.service.calendar import Intervals, parse_intervals
from barrelman.service.dsl import ALERT_CATALOGUE, modern_name, parse_query
from barrelman.service.hits import Top, parse_sort, parse_source

JsonObject: TypeAlias = dict[str, Any]
MakeHit: TypeAlias = Callable[[JsonObject, Callable[[JsonObject], JsonObject] | None], JsonObject]

MOST_BUCKETS: Final = 65_536
MOST_LEVELS: Final = 8


class State(Protocol):
    """An aggregation under way."""

    def add(self, document: JsonObject) -> None: ...

    def result(self) -> JsonObject: ...


Start: TypeAlias = Callable[[], State]


class Purse:
    """How many buckets a search may still open, and what builds its hits."""

    def __init__(self, make_hit: MakeHit, *, now_ms: int) -> None:
        self.make_hit = make_hit
        self.now_ms = now_ms
        self.left = MOST_BUCKETS

    def take(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise RequestError(
                f"aggs: more than {MOST_BUCKETS} buckets", hint="ask for a coarser division"
            )


def parse_aggregations(given: object, *, purse: Purse, levels: int = MOST_LEVELS) -> Start:
    """What makes the state of all aggregations of a request. Raises RequestError."""
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise RequestError(f"aggs: expected an object, found {describe_value(given)}")
    if given and not levels:
        raise RequestError(f"aggs: nested deeper than {MOST_LEVELS} levels")
    parts = {name: _parse_one(name, spec, purse, levels) for name, spec in given.items()}
    return lambda: _All({name: start() for name, start in parts.items()})


class _All:
    """Several aggregations side by side."""

    def __init__(self, parts: Mapping[str, State]) -> None:
        self.parts = parts

    def add(self, document: JsonObject) -> None:
        for part in self.parts.values():
            part.add(document)

    def result(self) -> JsonObject:
        return {name: part.result() for name, part in self.parts.items()}


def _parse_one(name: str, spec: object, purse: Purse, levels: int) -> Start:
    if not isinstance(spec, dict):
        raise RequestError(f"aggs.{name}: expected an object, found {describe_value(spec)}")
    kinds = [key for key in spec if key not in ("aggs", "aggregations", "meta")]
    if len(kinds) != 1:
        raise RequestError(f"aggs.{name}: expected one kind, such as 'terms', and 'aggs'")
    kind = kinds[0]
    make = _KINDS.get(kind)
    if make is None:
        hint = f"the aggregations are {', '.join(KINDS)}"
        raise RequestError(f"aggs.{name}: '{kind}' aggregations are not answered here", hint=hint)
    below = spec.get("aggs", spec.get("aggregations"))
    if below and kind not in _BUCKETED:
        raise RequestError(f"aggs.{name}: '{kind}' has no buckets to aggregate in")
    inner = parse_aggregations(below, purse=purse, levels=levels - 1)
    given = spec[kind]
    if not isinstance(given, dict):
        raise RequestError(f"aggs.{name}.{kind}: expected an object")
    return make(_Options(f"aggs.{name}.{kind}", given), inner, purse)


class _Options:
    """What an aggregation is given; each option is taken once, and none may be left."""

    def __init__(self, where: str, given: Mapping[str, Any]) -> None:
        self.where = where
        self._given = dict(given)

    def take(self, name: str, default: Any = None) -> Any:
        return self._given.pop(name, default)

    def number(self, name: str, default: int) -> int:
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise RequestError(f"{self.where}.{name}: expected a whole number from 0")
        return value

    def field(self) -> str:
        name = self.take("field")
        if not isinstance(name, str) or not name:
            raise RequestError(f"{self.where}: expected a 'field'")
        return modern_name(name)

    def end(self, *ignored: str) -> None:
        left = sorted(set(self._given) - set(ignored))
        if left:
            raise RequestError(f"{self.where}: '{left[0]}' is not answered here")


# --- buckets -------------------------------------------------------------------------------


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


def _reader(name: str, missing: Any = None) -> Callable[[JsonObject], list[Any]]:
    """Each value of a field once, dates as milliseconds."""
    path = Path(name)
    is_date = ALERT_CATALOGUE.type_of(name) is FieldType.DATE

    def read(document: JsonObject) -> list[Any]:
        values: list[Scalar] = path.values(document)
        if is_date:
            values = [v // 1000 for each in values if (v := parse_instant_us(each)) is not None]
        if not values and missing is not None:
            return [missing]
        # True is not 1, and 1 is 1.0.
        return list({(type(each) is bool, each): each for each in values}.values())

    return read


class _Terms:
    def __init__(self, options: _Options, inner: Start, purse: Purse) -> None:
        name = options.field()
        self.read = _reader(name, options.take("missing"))
        self.is_date = ALERT_CATALOGUE.type_of(name) is FieldType.DATE
        self.size = options.number("size", 10)
        if not self.size:
            raise RequestError(f"{options.where}.size: expected a number above 0")
        self.least = options.number("min_doc_count", 1)
        self.order = _parse_order(options)
        self.included = _value_list(options, "include")
        self.excluded = _value_list(options, "exclude")
        options.end("shard_size", "show_term_doc_count_error", "execution_hint", "collect_mode")
        self.inner = inner
        self.purse = purse

    def start(self) -> State:
        return _TermsState(self)


class _TermsState:
    def __init__(self, terms: _Terms) -> None:
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


def _parse_order(options: _Options) -> list[tuple[list[str], bool]]:
    given = options.take("order", {"_count": "desc"})
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


def _value_list(options: _Options, name: str) -> frozenset[str] | None:
    given = options.take(name)
    if given is None:
        return None
    if not isinstance(given, list):
        raise RequestError(f"{options.where}.{name}: only a list of values is answered here")
    return frozenset(str(each) for each in given)


class _Histogram:
    def __init__(self, options: _Options, inner: Start, purse: Purse) -> None:
        name = options.field()
        # Whatever its name, the field is asked for dates.
        self.read = _date_reader(name)
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
        self.order = _parse_order(options) if "order" in options._given else []
        options.end("format")
        self.inner = inner
        self.purse = purse

    @staticmethod
    def _instants(options: _Options, name: str, now_ms: int) -> tuple[int | None, int | None]:
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


def _date_reader(name: str) -> Callable[[JsonObject], list[int]]:
    path = Path(name)

    def read(document: JsonObject) -> list[int]:
        found = (parse_instant_us(each) for each in path.values(document))
        return sorted({each // 1000 for each in found if each is not None})

    return read


class _HistogramState:
    def __init__(self, histogram: _Histogram) -> None:
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
        for start in {shape.intervals.start_of(each) for each in instants}:
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
        ends += [shape.intervals.start_of(each) for each in shape.bounds if each is not None]
        if not ends or (not self.buckets and None in shape.bounds):
            return
        start, last = min(ends), max(ends)
        while start <= last:
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


def _filter(options: _Options, inner: Start, purse: Purse) -> Start:
    test = _judge(options._given, purse)
    return lambda: _Chosen(test, inner())


def _filters(options: _Options, inner: Start, purse: Purse) -> Start:
    given = options.take("filters")
    options.end()
    if not isinstance(given, dict) or not given:
        raise RequestError(f"{options.where}.filters: expected queries by name")
    tests = {name: _judge(query, purse) for name, query in given.items()}
    return lambda: _Named({name: _Chosen(test, inner()) for name, test in tests.items()})


class _Named(_All):
    def result(self) -> JsonObject:
        return {"buckets": super().result()}


def _missing(options: _Options, inner: Start, _purse: Purse) -> Start:
    path = Path(options.field())
    options.end()
    return lambda: _Chosen(lambda document: not path.values(document), inner())


# --- numbers -------------------------------------------------------------------------------


class _Cardinality:
    def __init__(self, read: Callable[[JsonObject], list[Any]]) -> None:
        self.read = read
        self.seen: set[tuple[bool, Any]] = set()

    def add(self, document: JsonObject) -> None:
        self.seen.update((type(value) is bool, value) for value in self.read(document))

    def result(self) -> JsonObject:
        return {"value": len(self.seen)}


class _Number:
    """One number made of all values of a field."""

    def __init__(self, kind: str, read: Callable[[JsonObject], list[Any]], is_date: bool) -> None:
        self.kind = kind
        self.read = read
        self.is_date = is_date
        self.count = 0
        self.total: float = 0
        self.least: float | None = None
        self.most: float | None = None

    def add(self, document: JsonObject) -> None:
        for value in self.read(document):
            if self.kind == "value_count":
                self.count += 1
            elif isinstance(value, int | float) and not isinstance(value, bool):
                self.count += 1
                self.total += value
                self.least = value if self.least is None else min(self.least, value)
                self.most = value if self.most is None else max(self.most, value)

    def result(self) -> JsonObject:
        value = {
            "value_count": self.count,
            "sum": self.total,
            "min": self.least,
            "max": self.most,
            "avg": self.total / self.count if self.count else None,
        }[self.kind]
        made: JsonObject = {"value": value}
        if self.is_date and value is not None and self.kind in ("min", "max", "avg"):
            made["value_as_string"] = format_instant(int(value))
        return made


def _cardinality(options: _Options, _inner: Start, _purse: Purse) -> Start:
    read = _reader(options.field(), options.take("missing"))
    options.end("precision_threshold", "execution_hint")
    return lambda: _Cardinality(read)


def _number(kind: str) -> Callable[[_Options, Start, Purse], Start]:
    def make(options: _Options, _inner: Start, _purse: Purse) -> Start:
        name = options.field()
        is_date = ALERT_CATALOGUE.type_of(name) is FieldType.DATE
        missing = options.take("missing")
        path = Path(name)
        read = _reader(name, missing) if is_date else path.values
        if missing is not None and not is_date:
            read = lambda document: path.values(document) or [missing]  # noqa: E731
        options.end("format")
        return lambda: _Number(kind, read, is_date)

    return make


class _TopHits:
    def __init__(self, top: Top, skipped: int, make: Callable[[JsonObject], JsonObject]) -> None:
        self.top = top
        self.skipped = skipped
        self.make = make
        self.count = 0

    def add(self, document: JsonObject) -> None:
        self.count += 1
        self.top.offer(document, document)

    def result(self) -> JsonObject:
        hits = []
        for values, document in self.top.result()[self.skipped :]:
            hit = self.make(document)
            hits.append({**hit, "sort": values} if values else hit)
        total = {"value": self.count, "relation": "eq"}
        return {"hits": {"total": total, "max_score": None, "hits": hits}}


def _top_hits(options: _Options, _inner: Start, purse: Purse) -> Start:
    size, skipped = options.number("size", 3), options.number("from", 0)
    if size + skipped > 100:
        raise RequestError(f"{options.where}: at most 100 hits of a bucket")
    keys = parse_sort(options.take("sort"))
    pick = parse_source(options.take("_source"))
    options.end("track_scores", "version", "seq_no_primary_term")
    return lambda: _TopHits(
        Top(size + skipped, keys), skipped, lambda document: purse.make_hit(document, pick)
    )


_KINDS: Final[Mapping[str, Callable[[_Options, Start, Purse], Start]]] = {
    "terms": lambda options, inner, purse: _Terms(options, inner, purse).start,
    "date_histogram": lambda options, inner, purse: _Histogram(options, inner, purse).start,
    "filter": _filter,
    "filters": _filters,
    "missing": _missing,
    "cardinality": _cardinality,
    **{kind: _number(kind) for kind in ("min", "max", "avg", "sum", "value_count")},
    "top_hits": _top_hits,
}
KINDS: Final = tuple(_KINDS)
"""The aggregations that are answered."""
_BUCKETED: Final = ("terms", "date_histogram", "filter", "filters", "missing")
