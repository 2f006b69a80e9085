"""`barrelman keys`: who may ask the service, and for what."""

from __future__ import annotations

from typing import Any, Final

import click

# Spelled out here, as a help text should not load a database.
_ROLES: Final = ("viewer", "analyst", "engineer", "admin", "intake")

_DATA = click.option(
    "--data", metavar="DIR", help="The service's data folder. Default: barrelman-data."
)
_CONFIG = click.option(
    "--config", metavar="FILE", help="The service's configuration, which names it."
)
_ROLE = click.option(
    "--role",
    type=click.Choice(_ROLES),
    required=True,
    help="What it may do; each but intake may do what those before it may.",
)
_CLUSTERS = click.option(
    "--cluster",
    "clusters",
    multiple=True,
    metavar="NAME",
    help="Bind it to this cluster. Repeatable; without it, every cluster.",
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
  barrelman keys create prod-apiserver --role intake --cluster prod
  barrelman keys create grafana --role viewer --expires 90d
  barrelman keys list
  barrelman keys revoke grafana

\b
Exit codes: 0 done, 2 something went wrong.
"""


@click.group(epilog=_EPILOG)
def keys() -> None:
    """Makes, lists and revokes the keys of a service.

    A service that runs notices within a second. Until the first key is made, it
    listens on this machine alone, and takes events in and shows them without one.
    """


@keys.command()
@click.argument("name")
@_ROLE
@_CLUSTERS
@click.option(
    "--expires", metavar="T", help="When it runs out: a date, or 30d, 12h from now. Default: never."
)
@_DATA
@_CONFIG
@_FORMAT
def create(name: str, **typed: Any) -> int:
    """Makes a key and prints it, this once.

    What is kept is a hash of it.
    """
    from barrelman.cli.keyring import create_key

    return create_key(name, **typed)


@keys.command("list")
@_DATA
@_CONFIG
@_FORMAT
def list_(**typed: Any) -> int:
    """Lists keys and accounts, those included that are no longer good."""
    from barrelman.cli.keyring import list_keys

    return list_keys(**typed)


@keys.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME|ID…")
@click.option("--account", is_flag=True, help="They are accounts.")
@_DATA
@_CONFIG
def revoke(names: tuple[str, ...], **typed: Any) -> int:
    """Revokes keys, or disables accounts. They stay listed, and their names taken."""
    from barrelman.cli.keyring import revoke_keys

    return revoke_keys(names, **typed)


@keys.command()
@click.argument("name")
@_ROLE
@_CLUSTERS
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@_DATA
@_CONFIG
def account(name: str, **typed: Any) -> int:
    """Makes an account for HTTP's basic authentication, or changes one.

    Asks for its password, of which a slow hash is kept.
    """
    from barrelman.cli.keyring import put_account

    return put_account(name, **typed)
