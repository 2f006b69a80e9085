"""Reading where alerts go: from one text, as a flag gives it, or from a table of a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from barrelman.errors import UsageError
from barrelman.sinks.options import KINDS, OPTIONS, SinkSettings, apply_options
from barrelman.sinks.routes import Route
from barrelman.sinks.templates import template_for
from barrelman.sinks.wording import one_line

_HINT: Final = (
    "write file:PATH, https://…, slack+https://…, alertmanager+http://…, pagerduty:KEY, "
    "syslog+udp://HOST:514, syslog+tcp://, syslog+tls://, syslog+unix:///dev/log or "
    "smtp://HOST:25/?to=…"
)
_SCHEMES: Final = {
    "http": "webhook",
    "https": "webhook",
    "webhook+http": "webhook",
    "webhook+https": "webhook",
    "slack+http": "slack",
    "slack+https": "slack",
    "alertmanager+http": "alertmanager",
    "alertmanager+https": "alertmanager",
    "syslog+udp": "syslog",
    "syslog+tcp": "syslog",
    "syslog+tls": "syslog",
    "syslog+unix": "syslog",
    "smtp": "email",
    "smtps": "email",
}
_PORTS: Final = {"syslog+udp": 514, "syslog+tcp": 601, "syslog+tls": 6514, "smtp": 25, "smtps": 465}
_REGIONS: Final = {
    "us": "https://events.pagerduty.com/v2/enqueue",
    "eu": "https://events.eu.pagerduty.com/v2/enqueue",
}
_NO_NAME = re.compile(r"[^a-z0-9]+")
_FLAGS: Final = frozenset(option.flag for option in OPTIONS) | {"region"}


def parse_sink_flag(text: str) -> SinkSettings:
    """Reads `file:PATH`, `slack+https://…` and so on; options follow as `#severity=high&tag=x`.

    Raises UsageError, in which nothing of the text stands that could be a secret.
    """
    address, options = _split_options(text)
    return _finish(_parse(address), options)


def settings_of(table: Mapping[str, object], *, template: str | None = None) -> SinkSettings:
    """Reads a table of plain values; `template` is the text of the file that its key names.

    `url` may be written as in a flag, options included; keys of the table win. Raises UsageError.
    """
    values = {key: value for key, value in table.items() if value not in (None, "", (), [])}
    values.pop("enabled", None)
    values.pop("template", None)
    if template is not None:
        values["template"] = template
    kind, name = str(values.pop("kind", "")), str(values.get("name", ""))
    if kind not in KINDS:
        raise UsageError(f"the sink '{one_line(name, 64)}' is of no kind: {', '.join(KINDS)}")
    address, options = _address_of(kind, name, values)
    settings = replace(_finish(_parse(address), options, is_whole=False), name=name)
    if settings.kind != kind:
        raise UsageError(f"the sink '{name}' is of kind {kind}, its url of kind {settings.kind}")
    return _check(apply_options(settings, values, as_flags=False))


def unique_names(sinks: Iterable[SinkSettings]) -> list[SinkSettings]:
    """The same sinks with `-2`, `-3` … behind names that were there before."""
    found: list[SinkSettings] = []
    taken: set[str] = set()
    for sink in sinks:
        name, number = sink.name, 1
        while name in taken:
            number += 1
            name = f"{sink.name[:58]}-{number}"
        taken.add(name)
        found.append(replace(sink, name=name))
    return found


def _address_of(
    kind: str, name: str, values: dict[str, object]
) -> tuple[str, dict[str, list[str]]]:
    """What of a table makes up the address, taken out of it."""
    if kind == "file":
        return f"file:{values.pop('path', '')}", {}
    values.pop("path", None)
    url = str(values.pop("url", ""))
    if kind == "pagerduty":
        if url:
            values["url"] = url
        return f"pagerduty:{values.get('secret', '')}", {}
    if not url:
        raise UsageError(f"the sink '{one_line(name, 64)}' has no url")
    address, options = _split_options(url)
    scheme = address.partition(":")[0]
    if kind in ("slack", "alertmanager") and scheme in ("http", "https"):
        address = f"{kind}+{address}"
    if kind == "syslog" and scheme in ("udp", "tcp", "tls", "unix"):
        address = f"syslog+{address}"
    return address, options


def _split_options(text: str) -> tuple[str, dict[str, list[str]]]:
    """Takes off what follows `#`; a file may have one in its name, so there it must be options."""
    if not text.startswith(("file:", "-")):
        address, _, rest = text.partition("#")
        return address, _pairs(rest)
    address, hash_sign, rest = text.rpartition("#")
    is_options = hash_sign and rest.partition("=")[0] in _FLAGS
    return (address, _pairs(rest)) if is_options else (text, {})


def _pairs(text: str) -> dict[str, list[str]]:
    """`a=1&b=2&a=3`, percent-decoded. A plus sign means itself: it is common in mailboxes."""
    pairs: dict[str, list[str]] = {}
    for part in filter(None, text.split("&")):
        key, _, value = part.partition("=")
        pairs.setdefault(unquote(key), []).append(unquote(value))
    return pairs


def _parse(address: str) -> SinkSettings:
    if address == "-" or address.startswith("file:"):
        return _parse_file(address.removeprefix("file:"))
    if address.startswith("pagerduty:"):
        key = address.removeprefix("pagerduty:").strip("/")
        return SinkSettings("pagerduty", "pagerduty", secret=unquote(key))
    scheme = address.partition("://")[0].lower()
    if "://" not in address or scheme not in _SCHEMES:
        shown = f"'{one_line(scheme, 30)}://'" if "://" in address else "this"
        raise UsageError(f"{shown} is no address of a sink", hint=_HINT)
    kind = _SCHEMES[scheme]
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UsageError(f"the address of a sink of kind {kind} cannot be read") from None
    if not host and scheme != "syslog+unix":
        raise UsageError(f"the address of a sink of kind {kind} has no host", hint=_HINT)
    if port == 0:
        raise UsageError(f"the address of a sink of kind {kind} has port 0")
    name = _default_name(kind, host)
    if kind == "email":
        return _parse_smtp(parts, scheme, name)
    if kind == "syslog":
        return SinkSettings(name, kind, url=_plain_url(parts, scheme))
    bare = parts._replace(scheme=scheme.rpartition("+")[2], netloc=parts.netloc.rpartition("@")[2])
    return SinkSettings(
        name,
        kind,
        url=bare.geturl(),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def _parse_file(path: str) -> SinkSettings:
    if not path:
        raise UsageError("a sink has no path", hint="write file:PATH, or file:- for the terminal")
    if "\0" in path:
        raise UsageError("the path of a sink holds a NUL")
    stem = path.rpartition("/")[2].partition(".")[0]
    name = _default_name("file", "stdout" if path == "-" else stem)
    return SinkSettings(name, "file", path=path, route=Route(building_blocks=True))


def _parse_smtp(parts: SplitResult, scheme: str, name: str) -> SinkSettings:
    settings = SinkSettings(
        name,
        "email",
        url=_plain_url(parts, scheme),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )
    return _with_options(settings, _pairs(parts.query))


def _plain_url(parts: SplitResult, scheme: str) -> str:
    """Scheme, host and port alone; of a socket its path."""
    if scheme == "syslog+unix":
        path = f"{parts.netloc}{parts.path}"
        if not path:
            raise UsageError("a syslog socket has no path", hint="write syslog+unix:///dev/log")
        return f"{scheme}://{path}"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{parts.port or _PORTS[scheme]}"


def _default_name(kind: str, where: str) -> str:
    return f"{kind}-{_NO_NAME.sub('-', where.lower()).strip('-')}"[:60].strip("-")


def _with_options(settings: SinkSettings, options: Mapping[str, list[str]]) -> SinkSettings:
    values: dict[str, object] = {
        key: texts if len(texts) > 1 else texts[0] for key, texts in options.items()
    }
    region = values.pop("region", None) if settings.kind == "pagerduty" else None
    if region is not None:
        if region not in _REGIONS:
            raise UsageError("the region of PagerDuty is us or eu")
        values["url"] = _REGIONS[str(region)]
    return apply_options(settings, values, as_flags=True)


def _finish(
    settings: SinkSettings, options: Mapping[str, list[str]], *, is_whole: bool = True
) -> SinkSettings:
    settings = _with_options(settings, options)
    return _check(settings) if is_whole else settings


def _check(settings: SinkSettings) -> SinkSettings:
    """What must hold between settings."""
    if settings.kind == "pagerduty" and not settings.secret:
        raise UsageError(f"the sink '{settings.name}' has no integration key", hint="pagerduty:KEY")
    if settings.kind == "email" and not settings.recipients:
        raise UsageError(
            f"the sink '{settings.name}' has nobody to write to",
            hint="write smtp://HOST:25/?to=oncall@example.com",
        )
    if settings.token and settings.username:
        raise UsageError(f"the sink '{settings.name}' has a token and a user name: one is enough")
    if settings.template is not None:
        try:
            template_for(settings.kind, settings.template)
        except UsageError as error:
            message = f"of the sink '{settings.name}': {error.message}"
            raise UsageError(message, hint=error.hint) from None
    return settings
