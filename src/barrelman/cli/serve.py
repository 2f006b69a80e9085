"""`barrelman serve`: its options and its help."""

from __future__ import annotations

from typing import Any

import click

_EPILOG = """
\b
Examples:
  barrelman serve                        on 127.0.0.1:8130, data in ./barrelman-data
  barrelman serve --demo                 feeds itself a sample, and alerts
  barrelman serve --sink file:alerts.jsonl --sink slack+https://hooks.example/T0/B0
  barrelman serve --config /etc/barrelman/barrelman.toml
  barrelman serve --follow prod=/var/log/kubernetes/audit.log

\b
Exit codes: 0 stopped when asked to, 2 something went wrong.
"""


@click.command(epilog=_EPILOG)
@click.option("--config", metavar="FILE", help="A TOML file; `barrelman config show` prints one.")
@click.option("--data", metavar="DIR", help="Folder that holds all that the service keeps.")
@click.option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
@click.option(
    "--rules",
    multiple=True,
    metavar="PATH",
    help="Rules to run beside the shipped ones, read again when they change. Repeatable.",
)
@click.option("--no-pack", is_flag=True, help="Leave the shipped rules out.")
@click.option(
    "--exceptions",
    multiple=True,
    metavar="FILE",
    help="Exception lists, as Kibana exports them (NDJSON). Repeatable.",
)
@click.option(
    "--follow",
    multiple=True,
    metavar="CLUSTER=PATH",
    help="A log file to follow through rotation; PATH may hold wildcards. Repeatable.",
)
@click.option("--from-start", is_flag=True, help="With --follow: what the files hold already, too.")
@click.option(
    "--sink",
    multiple=True,
    metavar="file:PATH|URL",
    help="Where alerts go, beside the service itself. Repeatable.",
)
@click.option("--demo", is_flag=True, help="Feed the service a sample, as if it happened now.")
@click.option("-q", "--quiet", is_flag=True, help="Print no set-up help and no alerts.")
def serve(**typed: Any) -> int:
    """Takes audit events in, keeps them, runs rules, and hands out alerts.

    \b
    One process, one folder. Events come by the audit webhook of the API server,
    from files, or in any other way as lines. Rules that need one event alert when
    it arrives; all run on their schedule, too, so that nothing is missed.
    """
    from barrelman.cli.serving import run_service

    return run_service(**typed)
