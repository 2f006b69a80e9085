"""`barrelman scan`: its options and its help."""

from __future__ import annotations

from typing import Any, Final

import click

from barrelman.records.severities import SEVERITIES

FORMATS: Final = ("table", "jsonl", "json")

_EPILOG = """
\b
Examples:
  barrelman scan audit.log                 the shipped rules over one log
  barrelman scan /var/log/kube-audit/      a folder, with its rotated files
  barrelman scan 'logs/**/audit*.gz' --since 2h --severity high
  zcat audit.log.gz | barrelman scan - --format json -o alerts.json
  barrelman scan audit.log --rules rules.ndjson --exceptions lists.ndjson
  barrelman scan audit.log --rule "Kubernetes Pod Created With HostIPC"
  barrelman scan today.log --history last-week/ --rules rules/
  barrelman scan audit.log --rules rules/ --index ti-feeds=feeds.jsonl

\b
Exit codes: 0 no alerts, 1 alerts found, 2 something went wrong
(unreadable input, an invalid rule, bad usage; with --strict a
malformed line), 130 interrupted.
"""


@click.command(epilog=_EPILOG)
@click.argument("paths", nargs=-1, metavar="[PATH]…")
@click.option(
    "--rules",
    multiple=True,
    metavar="PATH",
    help="Rules to run beside the shipped ones: TOML, JSON, a Kibana NDJSON export, a "
    "folder, a detection-rules checkout. Repeatable.",
)
@click.option("--no-pack", is_flag=True, help="Leave the shipped rules out.")
@click.option(
    "--all-rules", is_flag=True, help="Load deprecated and non-production rules of folders, too."
)
@click.option(
    "--exceptions",
    multiple=True,
    metavar="FILE",
    help="Exception lists, as Kibana exports them (NDJSON). Repeatable.",
)
@click.option(
    "--rule",
    multiple=True,
    metavar="NAME|ID|TAG",
    help="Run only the rules of that name, id or tag. Repeatable.",
)
@click.option(
    "--severity",
    type=click.Choice(SEVERITIES),
    default="low",
    help="The least severity to alert on.",
)
@click.option("--cluster", metavar="NAME", help="Name of the cluster that the events come from.")
@click.option(
    "--since",
    metavar="T",
    help="Events from then on: an ISO time, or 30m, 2h, 7d back from the log's end.",
)
@click.option("--until", metavar="T", help="Events up to then, in the same forms.")
@click.option(
    "--history",
    multiple=True,
    metavar="PATH",
    help="Older logs: what new-terms rules have seen before. They raise no alert. Repeatable.",
)
@click.option(
    "--index",
    multiple=True,
    metavar="NAME=PATH",
    help="Indicators for indicator match rules, as JSON lines; rules find them by the name. "
    "Repeatable.",
)
@click.option(
    "--max-signals",
    metavar="N|none",
    help="Alerts a run may raise, for every rule; none lifts the cap.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="Default: table on a terminal, jsonl elsewhere.",
)
@click.option("-o", "--output", metavar="FILE", help="Write alerts there; - is standard output.")
@click.option("--no-redact", is_flag=True, help="Show secrets and tokens in alerts.")
@click.option(
    "--max-event-size",
    metavar="SIZE",
    default="64MiB",
    show_default=True,
    help="A larger event is counted as malformed.",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that read files side by side. Default: one a core.",
)
@click.option(
    "--no-sieve",
    is_flag=True,
    help="Decode every event, also those that no rule can match. Slower; finds the same.",
)
@click.option(
    "--strict", is_flag=True, help="Check each byte; exit with 2 if any line was malformed."
)
@click.option("-q", "--quiet", is_flag=True, help="No summary, no notes; errors are still shown.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def scan(**given: Any) -> int:
    """Runs detection rules over Kubernetes audit events and prints alerts.

    Each PATH is a file, a folder, a glob or - for standard input. Plain and compressed files
    (gzip, zstd, bzip2, xz) and the formats of the managed clouds and log shippers are told apart
    by their content. The log is replayed against each rule's schedule: the alerts are those that
    the rule would have raised live.
    """
    from barrelman.cli.scanning import run_scan  # what only a scan needs is loaded here

    return run_scan(given)
