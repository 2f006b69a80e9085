"""A search in a data folder, from what was typed to its exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from barrelman.cli.printing import printable, readable
from barrelman.cli.serving import check_extra, read_config
from barrelman.detection.rows import describe, stored_event
from barrelman.errors import UsageError
from barrelman.records.times import format_instant
from barrelman.service.search import FoundEvent, Search
from barrelman.settings.configload import Flag
from barrelman.settings.scan import RangeFlags, resolve_options
from barrelman.settings.serve import store_options, wall_us
from barrelman.store.events import EventStore
from barrelman.store.folder import DataFolder

_COLUMNS: Final = ("TIME", "CLUSTER", "USER", "VERB", "OBJECT", "CODE")


def run_search(
    *,
    query: str,
    data: str | None,
    config: str | None,
    since: str | None,
    until: str | None,
    cluster: Sequence[str],
    limit: str,
    oldest_first: bool,
    count: bool,
    format_: str | None,
) -> int:
    """0 where nothing is found, 1 where something is."""
    check_extra()
    flags = [Flag("store.data", data, "--data")] if data is not None else []
    settings = read_config(config, flags)
    now_us = wall_us()
    since_us, until_us = _range(since, until, now_us=now_us)
    clusters = list(cluster) or None
    most = _limit(limit)
    with (
        DataFolder.open(settings.store.data, read_only=True) as folder,
        EventStore.open(
            folder, clock=wall_us, describe=describe, options=store_options(settings)
        ) as store,
    ):
        found = Search(store, clock=wall_us)
        if count:
            number = found.count(query, since_us=since_us, until_us=until_us, clusters=clusters)
            sys.stdout.write(f"{number}\n")
            return _code(number, store)
        events = found.each(
            query,
            since_us=since_us,
            until_us=until_us,
            clusters=clusters,
            newest_first=not oldest_first,
        )
        shown = islice(events, most) if most is not None else events
        as_table = format_ == "table" or (format_ is None and sys.stdout.isatty())
        printed = _print_table(shown) if as_table else _print_lines(shown)
        return _code(printed, store)


def _code(found: int, store: EventStore) -> int:
    """What is damaged could not be searched: that is said, and no clean "nothing found"."""
    for fault in store.faults:
        sys.stderr.write(readable(f"barrelman: damaged: {fault}") + "\n")
    return 2 if store.faults else 1 if found else 0


def _range(since: str | None, until: str | None, *, now_us: int) -> tuple[int | None, int | None]:
    try:
        options = resolve_options(RangeFlags(since, until), severity="low", now_us=now_us)
    except UsageError as error:
        # A store has no end that one could count back from.
        hint = error.hint and error.hint.replace("the log's end", "now")
        raise UsageError(error.message, hint=hint) from None
    return options.since.resolve_us(now_us), options.until.resolve_us(now_us)


def _limit(text: str) -> int | None:
    if text == "none":
        return None
    if text.isascii() and text.isdigit() and 0 < int(text) < 10**12:
        return int(text)
    raise UsageError(f"--limit: '{text}' is neither a number above 0 nor 'none'")


def _print_lines(events: Iterator[FoundEvent]) -> int:
    out, printed = sys.stdout.buffer, 0
    for event in events:
        out.write(event.line + b"\n")
        printed += 1
    out.flush()
    return printed


def _print_table(events: Iterator[FoundEvent]) -> int:
    from shutil import get_terminal_size

    width = get_terminal_size().columns
    rows = [_cells(event) for event in events]
    if not rows:
        sys.stderr.write("no events\n")
        return 0
    widths = [max(len(row[n]) for row in (_COLUMNS, *rows)) for n in range(len(_COLUMNS))]
    # Who and what give way to each other when the terminal is narrow.
    spare = width - sum(widths) - 2 * (len(widths) - 1)
    for column in (4, 2, 1):
        if spare < 0:
            cut = min(-spare, max(0, widths[column] - 14))
            widths[column] -= cut
            spare += cut
    for row in (_COLUMNS, *rows):
        cells = (_fit(cell, size) for cell, size in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    return len(rows)


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def _cells(found: FoundEvent) -> tuple[str, ...]:
    event = stored_event(
        found.line, found.wrapper, cluster=found.cluster, arrival_us=found.arrival_us
    )
    body = event.body
    user, ref, status = (_part(body, name) for name in ("user", "objectRef", "responseStatus"))
    kind = "/".join(str(ref[key]) for key in ("resource", "subresource") if ref.get(key))
    names = [str(ref[key]) for key in ("namespace", "name") if ref.get(key)]
    instant = "-" if found.time_us is None else format_instant(found.time_us // 1000)
    cells = (
        instant,
        found.cluster,
        str(user.get("username", "-")),
        str(body.get("verb", "-")),
        " ".join([kind or str(body.get("requestURI", "-")), "/".join(names)]).strip(),
        str(status.get("code", "-")),
    )
    # One line each, whatever stands in it: names come from whoever asked the API server.
    return tuple(map(printable, cells))


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}
