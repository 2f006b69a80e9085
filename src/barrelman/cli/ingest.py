"""`barrelman ingest`: its options and its help."""

from __future__ import annotations

from typing import Any

import click

_EPILOG = """
\b
Examples:
  barrelman ingest --cluster prod /var/log/kubernetes/
  zcat audit.log.gz | barrelman ingest --cluster prod -
  barrelman ingest --cluster prod --url https://barrelman.example --key-file key old.log

\b
Exit codes: 0 all is stored, 2 something went wrong.
"""


@click.command(epilog=_EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--cluster", required=True, metavar="NAME", help="The cluster the events are of.")
@click.option("--data", metavar="DIR", help="The service's data folder. Default: barrelman-data.")
@click.option("--config", metavar="FILE", help="The service's configuration, which names it.")
@click.option("--url", metavar="URL", help="Send to the service there, whatever folder it owns.")
@click.option("--key-file", metavar="FILE", help="An API key for it; else BARRELMAN_KEY is taken.")
@click.option("--ca-file", metavar="FILE", help="Certificates in PEM that its own is checked with.")
@click.option("-q", "--quiet", is_flag=True, help="No summary; errors are still shown.")
def ingest(**typed: Any) -> int:
    """Stores events out of files, in every shape that a scan reads.

    \b
    Where a service owns the folder the events go through it. Otherwise they are
    put there, and judged when it starts.
    """
    from barrelman.cli.ingesting import run_ingest

    return run_ingest(**typed)
