"""`barrelman search`: its options and its help."""

from __future__ import annotations

from typing import Any, Final

import click

FORMATS: Final = ("jsonl", "table")

_EPILOG = """
\b
Examples:
  barrelman search 'user.name: kim' --since 2h
  barrelman search 'kubernetes.audit.verb: delete and not user.name: system\\:*' --count
  barrelman search '*' --since 2026-11-23 --until 2026-11-24 --limit none > day.jsonl
  barrelman search 'source.ip: 203.0.113.0/24' --cluster prod --format table

\b
Exit codes: 0 nothing found, 1 events found, 2 something went wrong.
"""


@click.command(epilog=_EPILOG)
@click.argument("query", default="*")
@click.option("--data", metavar="DIR", help="The service's data folder. Default: barrelman-data.")
@click.option("--config", metavar="FILE", help="The service's configuration, which names it.")
@click.option(
    "--since",
    metavar="T",
    help="Events that happened from then on: an ISO time, or 30m, 2h, 7d back from now.",
)
@click.option("--until", metavar="T", help="Events that happened up to then, in the same forms.")
@click.option("--cluster", multiple=True, metavar="NAME", help="Only of this cluster. Repeatable.")
@click.option(
    "--limit", metavar="N|none", default="100", show_default=True, help="Most events to print."
)
@click.option("--oldest-first", is_flag=True, help="By arrival, the oldest first.")
@click.option("--count", is_flag=True, help="Print only how many there are.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="Default: table on a terminal, jsonl elsewhere: the events as they came.",
)
def search(**typed: Any) -> int:
    """Searches stored events with a KQL query, as rules are written in.

    \b
    Reads the data folder of a service, whether it runs or not.
    """
    from barrelman.cli.searching import run_search

    return run_search(**typed)
