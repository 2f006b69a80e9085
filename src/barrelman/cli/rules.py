"""`barrelman rules`: list, show, check and explain rules without scanning anything."""

from __future__ import annotations

import click

_FORMAT = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default="table",
    help="A table (show: a page for reading), or JSON.",
)
_ALL = click.option(
    "--all-rules", is_flag=True, help="Load deprecated and non-production rules of folders, too."
)

_EPILOG = """
\b
Examples:
  barrelman rules list                        the shipped rules
  barrelman rules list ~/detection-rules      and those of a checkout
  barrelman rules check my-rules/ --format json
  barrelman rules show "Kubernetes Pod Created With HostIPC"

\b
Exit codes: 0 all fine, 2 a rule is invalid or a file cannot be read.
"""


@click.group(epilog=_EPILOG)
def rules() -> None:
    """Lists, shows, checks and explains rules.

    A rule is ready, unsupported (valid, but its type or language does not run here yet) or
    invalid (broken).
    """


@rules.command("list")
@click.argument("paths", nargs=-1, metavar="[PATH]…")
@click.option("--no-pack", is_flag=True, help="Leave the shipped rules out.")
@_ALL
@_FORMAT
def list_(paths: tuple[str, ...], no_pack: bool, all_rules: bool, format_: str | None) -> int:
    """Lists the shipped rules and those of each PATH, as a scan would load them."""
    from barrelman.cli.listing import list_rules  # what only these commands need is loaded here

    return list_rules(paths, no_pack=no_pack, include_all=all_rules, format_=format_)


@rules.command()
@click.argument("paths", nargs=-1, metavar="[PATH]…")
@_ALL
@_FORMAT
def check(paths: tuple[str, ...], all_rules: bool, format_: str | None) -> int:
    """Checks each rule of PATH (without one: the shipped rules) and says what is wrong, where."""
    from barrelman.cli.listing import check_rules

    return check_rules(paths, include_all=all_rules, format_=format_)


@rules.command()
@click.argument("what", nargs=-1, required=True, metavar="PATH|NAME|ID…")
@click.option("--rules", "paths", multiple=True, metavar="PATH", help="Look for names there, too.")
@_FORMAT
def show(what: tuple[str, ...], paths: tuple[str, ...], format_: str | None) -> int:
    """Shows rules with their query, schedule and investigation guide, for reading."""
    from barrelman.cli.listing import show_rules

    return show_rules(what, paths=paths, format_=format_)


@rules.command()
@click.argument("what", nargs=-1, metavar="[PATH|NAME|ID]…")
@click.option("--rules", "paths", multiple=True, metavar="PATH", help="Look for names there, too.")
@_FORMAT
def explain(what: tuple[str, ...], paths: tuple[str, ...], format_: str | None) -> int:
    """Says which bytes a line must hold for a rule to match it, and what is searched for.

    A scan decodes only the lines that hold what some rule needs. Where any line could match, it
    says why; one such rule among those that run, and every event is decoded.
    """
    from barrelman.cli.explaining import explain_rules

    return explain_rules(what, paths=paths, format_=format_)
