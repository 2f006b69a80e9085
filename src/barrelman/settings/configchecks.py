"""What must hold between the keys of a configuration, and what the disk must hold for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from barrelman.errors import UsageError
from barrelman.settings.config import Config
from barrelman.settings.keytypes import keys_of
from barrelman.settings.sinktable import SinkTable
from barrelman.sinks.address import settings_of

Steps: TypeAlias = tuple[str | int, ...]
"""The way to a key: names of tables, numbers within lists."""


class Conflict(NamedTuple):
    """`keys` are those that do not go together; the first one that was given has the blame."""

    keys: tuple[Steps, ...]
    message: str
    hint: str | None = None


def find_conflicts(config: Config) -> Iterator[Conflict]:
    """Everything at once. Whoever calls leaves out what rests on keys that are wrong anyway."""
    yield from _tls(config)
    yield from _sizes(config)
    yield from _repeated(config)
    yield from _sinks(config)


def find_missing(config: Config) -> Iterator[Conflict]:
    """Rules and exceptions that are not there: a service starts without them, and says so."""
    for name in ("paths", "exceptions"):
        for path in getattr(config.rules, name):
            if not Path(path).exists():
                yield Conflict((("rules", name),), f"rules.{name}: there is no '{path}'")


def _tls(config: Config) -> Iterator[Conflict]:
    server = config.server
    cert, key, ca = (("server", name) for name in ("tls_cert", "tls_key", "client_ca"))
    if server.tls_cert and not server.tls_key:
        yield Conflict((cert, key), "server.tls_cert is given without server.tls_key")
    if server.tls_key and not server.tls_cert:
        yield Conflict((key, cert), "server.tls_key is given without server.tls_cert")
    if server.client_ca and not server.tls_cert:
        hint = "client certificates need TLS: give tls_cert and tls_key"
        yield Conflict((ca, cert), "server.client_ca is given without server.tls_cert", hint)
    if config.access.certificates and not server.client_ca:
        message = "access.certificates are given, and server.client_ca, which signs them, is not"
        yield Conflict((("access", "certificates", 0), ca), message)
    if server.public_url and server.public_url.startswith("http:") and server.tls_cert:
        message = "server.public_url begins with http:, and with tls_cert the service speaks https"
        yield Conflict((("server", "public_url"), cert), message)
    for name in ("tls_cert", "tls_key", "client_ca"):
        yield from _unreadable(("server", name), getattr(server, name))


def _unreadable(steps: Steps, path: str | None) -> Iterator[Conflict]:
    if path is None:
        return
    try:
        with open(path, "rb") as file:
            is_empty = not file.read(1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no file has such a name"
        yield Conflict((steps,), f"{'.'.join(map(str, steps))}: '{path}' cannot be read: {reason}")
        return
    if is_empty:
        yield Conflict((steps,), f"{'.'.join(map(str, steps))}: '{path}' is empty")


def _sizes(config: Config) -> Iterator[Conflict]:
    server, store, intake = config.server, config.store, config.intake
    flight, body = ("intake", "max_bytes_in_flight"), ("server", "max_body_bytes")
    if intake.max_bytes_in_flight < server.max_body_bytes:
        message = "intake.max_bytes_in_flight is less than server.max_body_bytes"
        yield Conflict((flight, body), message, "no body of that size could ever be taken")
    if intake.max_event_bytes > server.max_body_bytes:
        message = "intake.max_event_bytes is more than server.max_body_bytes"
        yield Conflict(
            (("intake", "max_event_bytes"), body), message, "lower the one or raise the other"
        )
    if 0 < store.retention_bytes < 2 * store.segment_bytes:
        message = "store.retention_bytes is less than two segments (store.segment_bytes)"
        keys = (("store", "retention_bytes"), ("store", "segment_bytes"))
        yield Conflict(keys, message, "only whole segments are deleted")


def _sinks(config: Config) -> Iterator[Conflict]:
    """What the sinks themselves say. Of a table with a wrong key nothing else is asked."""
    for number, table in enumerate(config.sinks):
        keys: tuple[Steps, ...] = (("sinks", number),)
        keys += tuple(("sinks", number, name) for name in keys_of(SinkTable))
        try:
            template = table.get("template")
            settings_of(table, template=None if template is None else read_template(str(template)))
        except UsageError as error:
            yield Conflict(keys, error.message, error.hint)


def read_template(path: str) -> str:
    """The text of a sink's messages. Raises UsageError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"the template '{path}' cannot be read: {reason}") from None


def _repeated(config: Config) -> Iterator[Conflict]:
    clusters = [each.name for each in config.intake.clusters]
    yield from _twice(("intake", "clusters"), "name", clusters, "cluster")
    sinks = [str(each.get("name", "")) for each in config.sinks]
    yield from _twice(("sinks",), "name", sinks, "sink")
    names = [each.common_name for each in config.access.certificates]
    yield from _twice(("access", "certificates"), "common_name", names, "certificate")


def _twice(steps: Steps, key: str, names: Sequence[str], what: str) -> Iterator[Conflict]:
    for number, name in enumerate(names):
        if name and name in names[:number]:
            yield Conflict(((*steps, number, key),), f"there are two {what}s '{name}'")
