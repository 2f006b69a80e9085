"""The command line: its commands, and how errors become exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click

from barrelman import __version__
from barrelman.cli.config import config
from barrelman.cli.ingest import ingest
from barrelman.cli.keys import keys
from barrelman.cli.printing import readable
from barrelman.cli.query import query
from barrelman.cli.rules import rules
from barrelman.cli.scan import scan
from barrelman.cli.search import search
from barrelman.cli.serve import serve
from barrelman.cli.sinks import sinks
from barrelman.errors import BarrelmanError

EXIT_ERROR: Final = 2
EXIT_INTERRUPTED: Final = 130

_EPILOG = """
\b
Examples:
  barrelman scan audit.log            the shipped rules over one log
  tail -F audit.log | barrelman scan - --severity high
                                      alerts as they happen
  barrelman scan /var/log/audit/ --rules ~/detection-rules
                                      a folder of logs, rules of a checkout
  barrelman rules check my-rules/     is every rule fit to run?
  barrelman query 'user.name: kim' audit.log
                                      what kim did

\b
Exit codes of scan, query and rules: 0 nothing found, 1 found,
2 something went wrong (unreadable input, an invalid rule, bad usage).
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="barrelman %(version)s")
def cli() -> None:
    """Runs Elastic-format detection rules over Kubernetes audit events."""


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Prints the script that completes commands and options in a shell.

    \b
    bash:  eval "$(barrelman completion bash)"
    zsh:   eval "$(barrelman completion zsh)"
    fish:  barrelman completion fish | source
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # click knows all three
    click.echo(found(cli, {}, "barrelman", "_BARRELMAN_COMPLETE").source())


for _command in (scan, query, rules, serve, search, ingest, config, keys, sinks):
    cli.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and gives the process's exit code."""
    try:
        with cli.make_context("barrelman", list(arguments)) as context:
            code = cli.invoke(context)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_ERROR
    except click.ClickException as error:
        error.show()
        return EXIT_ERROR
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except BarrelmanError as error:
        sys.stderr.write(readable(f"barrelman: {error}") + "\n")
        return EXIT_ERROR
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0
