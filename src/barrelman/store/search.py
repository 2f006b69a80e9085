"""Which rows meet a condition: asked of the columns, a few segments at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from barrelman.records.where import Where
from barrelman.store.bounds import Bounds
from barrelman.store.columns import table_of
from barrelman.store.duck import Duck, literal_path
from barrelman.store.part import Part
from barrelman.store.segments import Segment
from barrelman.store.view import View
from barrelman.store.where import Values, render, render_bounds

Order = Literal["asc", "desc"]
By = Literal["seq", "time"]

_FIRST_CHUNK = 4
_LARGEST_CHUNK = 64
_COUNTED_AT_ONCE = 256
_KEY = {"seq": "seq", "time": "epoch_us(coalesce(time, arrival))"}


class RowRef(NamedTuple):
    """A row that may be fetched. Where `is_plain` is false, its line is still to be judged."""

    seq: int
    arrival_us: int
    time_us: int | None
    cluster: str
    is_plain: bool
    frame: int
    """Where its lines begin in their file, or -1 where that is a log."""
    at: int
    size: int


class Count(NamedTuple):
    """How many rows meet a condition, as far as columns tell."""

    plain: int
    others: Iterator[RowRef]
    """Rows within the bounds that only their lines can tell of."""


class _Source(NamedTuple):
    """A segment or a part, and what the key of its rows lies between."""

    source: Segment | Part
    low: int
    high: int


def select(
    duck: Duck,
    view: View,
    where: Where,
    bounds: Bounds,
    *,
    by: By,
    order: Order,
    limit: int,
    after: RowRef | None,
) -> list[RowRef]:
    """The first rows that meet the condition or are not plain, beyond `after`.

    By time is by a row's own one, else by its arrival, and among equals by seq.
    """
    sources = _sources(view, bounds, by=by, is_newest_first=order == "desc")
    if after is not None:
        key = _key(after, by)[0]
        sources = [
            each for each in sources if (each.high >= key if order == "asc" else each.low <= key)
        ]
    found: list[RowRef] = []
    at, size = 0, _FIRST_CHUNK
    while at < len(sources):
        if len(found) == limit and _is_beyond(sources[at], found[-1], by, order):
            break
        chunk = [each.source for each in sources[at : at + size]]
        for some in _alike(chunk):
            found += _page(duck, some, where, bounds, by=by, order=order, limit=limit, after=after)
        found.sort(key=lambda ref: _key(ref, by), reverse=order == "desc")
        del found[limit:]
        at += size
        size = min(size * 2, _LARGEST_CHUNK)
    return found


def count(duck: Duck, view: View, where: Where, bounds: Bounds) -> int:
    """How many plain rows meet the condition."""
    total = 0
    sources = [each.source for each in _sources(view, bounds, by="seq")]
    for at in range(0, len(sources), _COUNTED_AT_ONCE):
        some = sources[at : at + _COUNTED_AT_ONCE]
        values = Values()
        rows, tables = _from(some, values)
        limits = render_bounds(bounds, values, has_unplain=False)
        plain = "is_plain" if any(each.unplain for each in some) else "TRUE"
        statement = f"SELECT count(*) FROM {rows} WHERE {plain} AND {limits}"
        statement += f" AND {render(where, values)}"
        total += duck.rows(statement, values.named, tables)[0][0]
    return total


def only_unplain(view: View) -> View:
    """Without what holds plain rows only."""
    return View(
        tuple(each for each in view.segments if each.unplain),
        tuple(each for each in view.parts if each.unplain),
        view.next_seq,
    )


def pages(ask: Callable[[RowRef | None], Sequence[RowRef]]) -> Iterator[RowRef]:
    """All rows of a selection, page by page."""
    after: RowRef | None = None
    while page := ask(after):
        yield from page
        after = page[-1]


def _page(
    duck: Duck,
    sources: Sequence[Segment | Part],
    where: Where,
    bounds: Bounds,
    *,
    by: By,
    order: Order,
    limit: int,
    after: RowRef | None,
) -> list[RowRef]:
    values = Values()
    has_unplain = any(each.unplain for each in sources)
    rows, tables = _from(sources, values)
    test = render(where, values)
    conditions = [
        render_bounds(bounds, values, has_unplain=has_unplain),
        f"({test} OR NOT is_plain)" if has_unplain else test,
    ]
    if after is not None:
        conditions.append(_after(after, by, order, values))
    keys = "seq" if by == "seq" else f"{_KEY['time']} {order}, seq"
    statement = f"""SELECT seq, epoch_us(arrival), epoch_us(time), cluster, is_plain,
        frame, "at", size FROM {rows} WHERE {" AND ".join(conditions)}
        ORDER BY {keys} {order} LIMIT {values.add(limit)}"""
    return [RowRef(*row) for row in duck.rows(statement, values.named, tables)]


def _from(sources: Sequence[Segment | Part], values: Values) -> tuple[str, dict[str, Any]]:
    """What is read: sealed rows, and those that are in memory."""
    files = [literal_path(each.columns) for each in sources if isinstance(each, Segment)]
    batches = [batch for each in sources if isinstance(each, Part) for batch in each.batches]
    tables: dict[str, Any] = {}
    selects = []
    if files:
        selects.append(f"SELECT * FROM read_parquet({values.add(files)})")
    if batches:
        tables["open_rows"] = table_of(batches)
        selects.append(
            'SELECT *, CAST(-1 AS BIGINT) AS frame, CAST(0 AS INTEGER) AS "at" FROM open_rows'
        )
    return f"({' UNION ALL BY NAME '.join(selects)})", tables


def _sources(view: View, bounds: Bounds, *, by: By, is_newest_first: bool = False) -> list[_Source]:
    """Segments and parts with rows within the bounds, in the order they are to be asked in."""
    sources = []
    stored: list[Segment | Part] = [*view.segments, *view.parts]
    for each in stored:
        extent = each.extent
        if extent is None or not bounds.may_meet(extent):
            continue
        if by == "seq":
            low, high = extent.first_seq, extent.last_seq
        else:
            spans = [] if extent.time_us is None else [extent.time_us]
            spans += [extent.arrival_us] if extent.untimed else []
            low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        sources.append(_Source(each, low, high))
    if is_newest_first:
        return sorted(sources, key=lambda each: -each.high)
    return sorted(sources, key=lambda each: each.low)


def _alike(sources: Sequence[Segment | Part]) -> Iterator[list[Segment | Part]]:
    """Apart: those in which every row is plain, as the condition on them is a simpler one."""
    for has_unplain in (False, True):
        some = [each for each in sources if (each.unplain > 0) is has_unplain]
        if some:
            yield some


def _key(ref: RowRef, by: By) -> tuple[int, int]:
    if by == "seq":
        return (ref.seq, ref.seq)
    return (ref.arrival_us if ref.time_us is None else ref.time_us, ref.seq)


def _is_beyond(source: _Source, last: RowRef, by: By, order: Order) -> bool:
    """Whether no row of a source comes before the last one that was found."""
    key = _key(last, by)[0]
    return source.low > key if order == "asc" else source.high < key


def _after(after: RowRef, by: By, order: Order, values: Values) -> str:
    sign = ">" if order == "asc" else "<"
    if by == "seq":
        return f"seq {sign} {values.add(after.seq)}"
    key, seq = _key(after, by)
    at, same = values.add(key), values.add(seq)
    return f"({_KEY['time']} {sign} {at} OR ({_KEY['time']} = {at} AND seq {sign} {same}))"
