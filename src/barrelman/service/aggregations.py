"""Aggregations over alerts as they stream by: nothing is held but buckets and the first few hits.

What is answered: terms, date_histogram, cardinality, min, max, avg, sum, value_count, top_hits,
filter, filters, missing; below those with buckets, any of them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from barrelman.errors import RequestError
from barrelman.rules.schema import describe_value
from barrelman.service import buckets, measures
from barrelman.service.aggspec import Options, Purse, Start

MOST_LEVELS: Final = 8


def parse_aggregations(given: object, *, purse: Purse, levels: int = MOST_LEVELS) -> Start:
    """What makes the state of all aggregations of a request. Raises RequestError."""
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise RequestError(f"aggs: expected an object, found {describe_value(given)}")
    if given and not levels:
        raise RequestError(f"aggs: nested deeper than {MOST_LEVELS} levels")
    parts = {name: _parse_one(name, spec, purse, levels) for name, spec in given.items()}
    return lambda: buckets.Several({name: start() for name, start in parts.items()})


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
    return make(Options(f"aggs.{name}.{kind}", given), inner, purse)


_KINDS: Final[Mapping[str, Callable[[Options, Start, Purse], Start]]] = {
    "terms": lambda options, inner, purse: buckets.Terms(options, inner, purse).start,
    "date_histogram": lambda options, inner, purse: buckets.Histogram(options, inner, purse).start,
    "filter": buckets.filtered,
    "filters": buckets.filtered_by_name,
    "missing": buckets.missing,
    "cardinality": measures.cardinality,
    **{kind: measures.number(kind) for kind in ("min", "max", "avg", "sum", "value_count")},
    "top_hits": measures.top_hits,
}
KINDS: Final = tuple(_KINDS)
"""The aggregations that are answered."""
_BUCKETED: Final = ("terms", "date_histogram", "filter", "filters", "missing")
