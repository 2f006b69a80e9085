"""What `barrelman sinks` does: tests from here, and a look at the outbox of a service."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from barrelman.cli.printing import printable, readable
from barrelman.cli.serving import check_extra, read_config
from barrelman.errors import SinkError, StoreError, UsageError
from barrelman.records.times import format_instant
from barrelman.settings.config import Config
from barrelman.settings.configchecks import read_template
from barrelman.settings.configload import Flag
from barrelman.sinks.address import parse_sink_flag, settings_of, unique_names
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.routes import Route

if TYPE_CHECKING:
    from barrelman.store.outbox import Counts

_FAILED = 2


def test_sinks(name: str | None, *, flags: Sequence[str], config: str | None) -> int:
    """The exit code; so with the next one."""
    check_extra()
    from barrelman.sinks.opening import open_sink

    sinks = _known(read_config(config, []), flags)
    wanted = [sink for sink in sinks if name in (None, sink.name)]
    if not wanted:
        _none_of(name, sinks)
    code = 0
    for settings in wanted:
        try:
            sink = open_sink(settings, clock=_now_us, stdout=sys.stdout.buffer)
            try:
                told = sink.test(_now_us())
            finally:
                sink.close()
            click.echo(readable(f"{settings.name}: {told}"), err=settings.path == "-")
        except SinkError as error:
            code = _FAILED
            click.echo(readable(f"{settings.name}: FAILED: {error.oneline()}"), err=True)
    return code


def list_sinks(*, flags: Sequence[str], config: str | None, data: str | None, format_: str) -> int:
    check_extra()
    overrides = [] if data is None else [Flag("store.data", data, "--data")]
    settings = read_config(config, overrides)
    sinks = _known(settings, flags)
    counts = _waiting(settings.store.data)
    rows = [_row(sink, None if counts is None else counts.get(sink.name)) for sink in sinks]
    known = {sink.name for sink in sinks}
    rows += [
        {"name": name, "kind": "not set up", "where": "", "takes": "", **_counted(found)}
        for name, found in sorted((counts or {}).items())
        if name not in known and (found.pending or found.dead)
    ]
    if format_ == "json":
        json.dump(rows, sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif rows:
        _print_table(rows)
    else:
        click.echo("no sinks are set up: alerts stay in the service", err=True)
    return 0


# --- inside ---


def _known(config: Config, flags: Sequence[str]) -> list[SinkSettings]:
    """Those that are switched on, named as the service names them."""
    found = []
    for table in config.sinks:
        if table.get("enabled", True):
            template = table.get("template")
            text = None if template is None else read_template(str(template))
            found.append(settings_of(table, template=text))
    return unique_names([*found, *map(parse_sink_flag, flags)])


def _none_of(name: str | None, sinks: Sequence[SinkSettings]) -> None:
    if not sinks:
        raise UsageError("no sinks are set up", hint="name one with --sink, or a --config")
    names = ", ".join(sink.name for sink in sinks)
    raise UsageError(f"there is no sink '{name}'", hint=f"there are {names}")


def _waiting(path: str) -> Mapping[str, Counts] | None:
    """What waits in the service's outbox; None where there is no service yet."""
    from barrelman.store import outbox
    from barrelman.store.database import Database
    from barrelman.store.folder import DataFolder

    if not os.path.exists(os.path.join(path, "VERSION")):
        return None
    try:
        folder = DataFolder.open(path, read_only=True)
        if not folder.database.exists():
            click.echo("no service has run with this data folder yet: nothing waits", err=True)
            return None
        database = Database.open(folder.database, read_only=True)
        try:
            return database.read(outbox.counts)
        finally:
            database.close()
    except StoreError as error:
        click.echo(readable(f"barrelman: {error.oneline()}"), err=True)
        return None


def _row(sink: SinkSettings, counts: Counts | None) -> dict[str, Any]:
    return {
        "name": sink.name,
        "kind": sink.kind,
        "where": sink.shown,
        "takes": _takes(sink.route),
        **_counted(counts),
    }


def _counted(counts: Counts | None) -> dict[str, Any]:
    since = counts.oldest_us if counts is not None and counts.pending else None
    return {
        "waiting": counts.pending if counts is not None else 0,
        "since": None if since is None else format_instant(since // 1000),
        "given_up": counts.dead if counts is not None else 0,
        "delivered": counts.done if counts is not None else 0,
    }


def _takes(route: Route) -> str:
    parts = [] if route.severity == "low" else [f"{route.severity} and above"]
    for word, names in (
        ("rules", route.rules),
        ("tags", route.tags),
        ("clusters", route.clusters),
    ):
        if names:
            parts.append(f"{word} {', '.join(names)}")
    return "; ".join(parts) or "all"


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("NAME", no_wrap=True)
    table.add_column("KIND", no_wrap=True)
    for title in ("WHERE", "TAKES", "WAITING", "GIVEN UP", "DELIVERED"):
        table.add_column(title, overflow="fold")
    for row in rows:
        since = str(row["since"] or "")
        waiting = f"{row['waiting']}, since {since[:10]} {since[11:16]}" if since else "0"
        cells = [*(row[name] for name in ("name", "kind", "where", "takes")), waiting]
        cells += [row["given_up"], row["delivered"]]
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    Console(highlight=False).print(table)


def _now_us() -> int:
    return time.time_ns() // 1000
