"""`barrelman config`: what may be set, and whether a file is right."""

from __future__ import annotations

import os
import sys

import click

_EPILOG = """
\b
Examples:
  barrelman config show > barrelman.toml      a file to begin with
  barrelman config check barrelman.toml
  barrelman config show barrelman.toml        what holds, and where it was set
  barrelman config policy > audit-policy.yaml
  barrelman config kubeconfig https://barrelman.example:8130 prod > audit-webhook.yaml

\b
Exit codes: 0 all fine, 2 something is wrong.
"""


@click.group(epilog=_EPILOG)
def config() -> None:
    """Shows and checks the configuration of the service, and prints that of API servers.

    Environment variables (BARRELMAN_SERVER__LISTEN and the like) count as they do for `serve`.
    """


@config.command()
@click.argument("file", required=False, metavar="[FILE]")
def check(file: str | None) -> int:
    """Says all that is wrong with FILE and the environment, with the place of each."""
    from barrelman.cli.printing import readable  # what only these commands need is loaded here
    from barrelman.settings.configchecks import find_missing
    from barrelman.settings.configload import load_config

    loaded = load_config(file, environment=os.environ)
    errors = [*loaded.errors]
    if loaded.config is not None:
        errors += loaded.placed(find_missing(loaded.config))
    for error in errors:
        sys.stderr.write(readable(str(error)) + "\n")
    name = file or "the environment"
    if errors:
        count = f"{len(errors)} problems" if len(errors) > 1 else "1 problem"
        sys.stderr.write(readable(f"{name}: {count}") + "\n")
        return 2
    click.echo(readable(f"{name}: all fine"))
    return 0


@config.command()
@click.argument("file", required=False, metavar="[FILE]")
def show(file: str | None) -> int:
    """Prints every key with its default; with FILE, what holds and where it was set.

    Secrets are not shown.
    """
    from barrelman.cli.printing import readable
    from barrelman.settings.configload import load_config
    from barrelman.settings.configtext import config_toml, defaults_toml

    if file is None:
        click.echo(defaults_toml(), nl=False)
        return 0
    loaded = load_config(file, environment=os.environ)
    if loaded.config is None:
        for error in loaded.errors:
            sys.stderr.write(readable(str(error)) + "\n")
        return 2
    click.echo(readable(config_toml(loaded)), nl=False)
    return 0


@config.command()
def policy() -> int:
    """Prints an audit policy: which events an API server should record, and how fully."""
    from barrelman.settings.webhook import policy_text

    click.echo(policy_text(), nl=False)
    return 0


@config.command()
def flags() -> int:
    """Prints the flags of kube-apiserver, one a line."""
    from barrelman.settings.webhook import apiserver_flags

    click.echo("\n".join(apiserver_flags()))
    return 0


@config.command()
@click.argument("url")
@click.argument("cluster")
@click.option("--token-file", metavar="FILE", help="Holds the key of the API server; - is stdin.")
@click.option("--ca-file", metavar="PATH", help="There: certificates to check the service's with.")
@click.option("--client-cert", metavar="PATH", help="There: the API server's own certificate.")
@click.option("--client-key", metavar="PATH", help="There: the key of that certificate.")
def kubeconfig(
    url: str,
    cluster: str,
    token_file: str | None,
    ca_file: str | None,
    client_cert: str | None,
    client_key: str | None,
) -> int:
    """Prints the file by which an API server finds the service, at URL, as CLUSTER.

    PATHs are those on the API server's machine.
    """
    from barrelman.settings.webhook import kubeconfig_text

    token = None
    if token_file is not None:
        with click.open_file(token_file) as opened:
            token = opened.read(65_536).strip()
    text = kubeconfig_text(
        url,
        cluster,
        token=token,
        ca_file=ca_file,
        client_cert=client_cert,
        client_key=client_key,
    )
    click.echo(text, nl=False)
    return 0
