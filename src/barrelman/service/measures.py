"""Aggregations without buckets: numbers made of a field's values, and the first few hits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from barrelman.errors import RequestError
from barrelman.records.paths import Path
from barrelman.records.times import format_instant
from barrelman.service.aggspec import JsonObject, Options, Purse, Start, is_date, reader_of
from barrelman.service.hits import Top, parse_sort, parse_source


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


def cardinality(options: Options, _inner: Start, _purse: Purse) -> Start:
    read = reader_of(options.field(), options.scalar("missing"))
    options.end("precision_threshold", "execution_hint")
    return lambda: _Cardinality(read)


def number(kind: str) -> Callable[[Options, Start, Purse], Start]:
    def make(options: Options, _inner: Start, _purse: Purse) -> Start:
        name = options.field()
        holds_dates = is_date(name)
        missing = options.scalar("missing")
        path = Path(name)
        read = reader_of(name, missing) if holds_dates else path.values
        if missing is not None and not holds_dates:
            read = lambda document: path.values(document) or [missing]  # noqa: E731
        options.end("format")
        return lambda: _Number(kind, read, holds_dates)

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


def top_hits(options: Options, _inner: Start, purse: Purse) -> Start:
    size, skipped = options.number("size", 3), options.number("from", 0)
    if size + skipped > 100:
        raise RequestError(f"{options.where}: at most 100 hits of a bucket")
    keys = parse_sort(options.take("sort"))
    pick = parse_source(options.take("_source"))
    options.end("track_scores", "version", "seq_no_primary_term")

    def start() -> _TopHits:
        purse.take_hits(size + skipped)
        top = Top(size + skipped, keys)
        return _TopHits(top, skipped, lambda document: purse.make_hit(document, pick))

    return start
