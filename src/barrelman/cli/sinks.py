"""`barrelman sinks`: where alerts go, and whether they arrive."""

from __future__ import annotations

from typing import Any

import click

_SINK = click.option(
    "--sink",
    "flags",
    multiple=True,
    metavar="WHERE",
    help="A sink, as `barrelman serve` takes it: file:PATH, slack+https://… Repeatable.",
)
_CONFIG = click.option(
    "--config", metavar="FILE", help="The service's configuration, which names sinks."
)
_DATA = click.option(
    "--data", metavar="DIR", help="The service's data folder. Default: barrelman-data."
)
_FORMAT = click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    help="For people, or JSON.",
)

_EPILOG = """
\b
Examples:
  barrelman sinks list --config barrelman.toml
  barrelman sinks test --config barrelman.toml oncall
  barrelman sinks test --sink slack+https://hooks.slack.com/services/…
  barrelman sinks test --sink 'smtp://mail.example.com/?to=oncall@example.com'

\b
Exit codes: 0 done, 2 something went wrong, a test that did not arrive included.
"""


@click.group(epilog=_EPILOG)
def sinks() -> None:
    """Lists the places that alerts go to, and sends tests there.

    docs/sinks.md tells what there is and how each is set up.
    """


@sinks.command("list")
@_SINK
@_CONFIG
@_DATA
@_FORMAT
def list_(**typed: Any) -> int:
    """Lists the sinks, what each takes, and what waits for it."""
    from barrelman.cli.sinktests import list_sinks

    return list_sinks(**typed)


@sinks.command()
@click.argument("name", required=False)
@_SINK
@_CONFIG
def test(name: str | None, **typed: Any) -> int:
    """Sends a message that is marked as a test to the sink of that NAME, or to all.

    It goes there at once, whatever the service does and whatever the sink's route takes.
    """
    from barrelman.cli.sinktests import test_sinks

    return test_sinks(name, **typed)
