"""What a sink is told to be: its settings, and what may be said about each kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from barrelman.errors import UsageError
from barrelman.records.frozen import frozen
from barrelman.records.severities import SEVERITIES
from barrelman.sinks.routes import Route
from barrelman.sinks.wording import one_line

KINDS: Final = ("file", "webhook", "slack", "alertmanager", "pagerduty", "syslog", "email")
_HTTP: Final = ("webhook", "slack", "alertmanager", "pagerduty")
# For people a flood is summed up; what a machine reads holds every alert unless told otherwise.
_DIGEST_AFTER: Final = {"slack": 20, "email": 20, "pagerduty": 20}
_MAY_DIGEST: Final = ("slack", "email", "pagerduty", "webhook")
_BATCH: Final = {"file": 500, "alertmanager": 50, "syslog": 200}
FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron"),
    *("authpriv", "ftp", "ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)
"""Syslog's facilities; the place of each is its number."""
STARTTLS: Final = ("auto", "always", "never")

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?", re.ASCII)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*", re.ASCII)
_MAILBOX = re.compile(
    r"[A-Za-z0-9!#$%&'*+./=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?",
    re.ASCII,
)
_HOST_TEXT = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@frozen
class SinkSettings:
    """One sink as asked for. What may hold a secret is left out where this is written."""

    name: str
    kind: str
    url: str = field(default="", repr=False)
    """Empty for a file, and for PagerDuty in the United States."""
    path: str = ""
    """Of a file; `-` is standard output."""
    route: Route = field(default_factory=Route)
    template: str | None = field(default=None, repr=False)
    """The text of a message; see `templates`."""
    secret: str = field(default="", repr=False)
    """Signs webhook requests; for PagerDuty the key of the integration."""
    token: str = field(default="", repr=False)
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    proxy: str = field(default="", repr=False)
    ca_file: str = ""
    timeout_seconds: float = 10
    digest_after: int | None = None
    """0 never makes digests, None does as the kind does."""
    digest_seconds: float = 60
    batch: int = 0
    """Most messages of a request; 0 does as the kind does. A webhook gets an array above 1."""
    give_up_seconds: float | None = None
    sender: str = ""
    recipients: tuple[str, ...] = ()
    starttls: str = "auto"
    facility: str = "local0"
    hostname: str = "-"
    resolve_seconds: float = 4 * 3600
    """Alertmanager takes an alert for resolved after it."""

    @property
    def digest_above(self) -> int | None:
        """How many messages are told one by one before a digest; None: there is none."""
        wanted = self.digest_after
        if wanted is None:
            wanted = _DIGEST_AFTER.get(self.kind, 0)
        return wanted or None

    @property
    def most(self) -> int:
        """The most messages that are handed over at once."""
        return self.batch or _BATCH.get(self.kind, 1)

    @property
    def shown(self) -> str:
        """Where it leads, without what could be a secret: paths of webhooks are."""
        if self.kind == "file":
            return "standard output" if self.path == "-" else one_line(self.path)
        if self.kind == "pagerduty" and not self.url:
            return "PagerDuty"
        return shown_url(self.url)


def shown_url(url: str) -> str:
    """Scheme, host and port of a URL: what may be shown of it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "a URL that cannot be read"
    if parts.scheme.endswith("unix"):
        return one_line(f"{parts.scheme}://{parts.path}")
    host = f"[{host}]" if ":" in host else host
    return one_line(f"{parts.scheme}://{host}{f':{port}' if port else ''}")


class Option(NamedTuple):
    """One thing that can be said of a sink: as a key of its table, and behind `#` in its flag."""

    key: str
    flag: str
    read: Callable[[object], Any]
    kinds: Sequence[str] = KINDS
    of_route: bool = False


def _fail(wanted: str) -> UsageError:
    return UsageError(f"must be {wanted}")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _fail("a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(_text(item) for item in items)


def _number(least: float, most: float = 1e9) -> Callable[[object], float]:
    def read(value: object) -> float:
        try:
            number = float(value) if isinstance(value, str | int | float) else float("nan")
        except ValueError:
            number = float("nan")
        if isinstance(value, bool) or not least <= number <= most:
            raise _fail(f"a number from {least:g} to {most:g}")
        return number

    return read


def _whole(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        number = _number(least, most)(value)
        if number != int(number):
            raise _fail("a whole number")
        return int(number)

    return read


def _switch(value: object) -> bool:
    known = {True: True, False: False, "true": True, "false": False, "yes": True, "no": False}
    if isinstance(value, str | bool) and value in known:
        return known[value]
    raise _fail("true or false")


def _choice(choices: Sequence[str]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise _fail(f"one of {', '.join(choices)}")
        return str(value)

    return read


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _fail("small letters, digits, '-' and '_', at most 64")
    return value


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    """A table of headers, or texts of the form `Name: value`."""
    if isinstance(value, Mapping):
        pairs = [(str(name), str(text)) for name, text in value.items()]
    else:
        split = [text.partition(":") for text in _texts(value)]
        pairs = [(name.strip(), text.strip()) for name, _, text in split]
    for name, text in pairs:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
            raise _fail("headers, each `Name: value` of ASCII characters")
    return tuple(pairs)


def _mailbox(value: object) -> str:
    text = _text(value)
    if not _MAILBOX.fullmatch(text):
        raise _fail("an address such as oncall@example.com")
    return text


def _mailboxes(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(_mailbox(part.strip()) for item in items for part in _text(item).split(","))


def _host(value: object) -> str:
    text = _text(value)
    if not _HOST_TEXT.fullmatch(text):
        raise _fail("a host's name")
    return text


def _web(value: object) -> str:
    text = _text(value)
    try:
        parts = urlsplit(text)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_web = False
    if not is_web:
        raise _fail("a URL that begins with http:// or https://")
    return text


_SECONDS: Final = _number(0.1, 1e8)
OPTIONS: Final = (
    Option("name", "name", _name),
    Option("severity", "severity", _choice(SEVERITIES), of_route=True),
    Option("rules", "rule", _texts, of_route=True),
    Option("tags", "tag", _texts, of_route=True),
    Option("clusters", "cluster", _texts, of_route=True),
    Option("building_blocks", "building_blocks", _switch, of_route=True),
    Option("template", "template", _text, tuple(kind for kind in KINDS if kind != "file")),
    Option("secret", "secret", _text, ("webhook", "pagerduty")),
    Option("token", "token", _text, _HTTP),
    Option("username", "username", _text, (*_HTTP, "email")),
    Option("password", "password", _text, (*_HTTP, "email")),
    Option("headers", "header", _headers, _HTTP),
    Option("proxy", "proxy", _web, _HTTP),
    Option("ca_file", "ca_file", _text, (*_HTTP, "email", "syslog")),
    Option("timeout_seconds", "timeout_seconds", _SECONDS),
    Option("digest_after", "digest_after", _whole(0, 10**6), _MAY_DIGEST),
    Option("digest_seconds", "digest_seconds", _number(1), _MAY_DIGEST),
    Option("batch", "batch", _whole(1, 1000), ("webhook", "alertmanager", "syslog", "file")),
    Option("give_up_seconds", "give_up_seconds", _SECONDS),
    Option("sender", "from", _mailbox, ("email",)),
    Option("recipients", "to", _mailboxes, ("email",)),
    Option("starttls", "starttls", _choice(STARTTLS), ("email",)),
    Option("facility", "facility", _choice(FACILITIES), ("syslog",)),
    Option("hostname", "hostname", _host, ("syslog", "email")),
    Option("resolve_seconds", "resolve_seconds", _SECONDS, ("alertmanager",)),
    Option("url", "url", _web, ("pagerduty",)),
)
"""In the order of the documentation."""


def apply_options(
    settings: SinkSettings, values: Mapping[str, object], *, as_flags: bool
) -> SinkSettings:
    """The settings with these said of them. Raises UsageError, which quotes no value."""
    known = {option.flag if as_flags else option.key: option for option in OPTIONS}
    of_sink: dict[str, Any] = {}
    of_route: dict[str, Any] = {}
    for key, value in values.items():
        option = known.get(key)
        if option is None or settings.kind not in option.kinds:
            mine = [name for name, each in known.items() if settings.kind in each.kinds]
            raise UsageError(
                f"a sink of kind {settings.kind} has no '{one_line(key, 40)}'",
                hint=f"it has {', '.join(mine)}",
            )
        try:
            read = option.read(value)
        except UsageError as error:
            raise UsageError(f"'{key}' of the sink '{settings.name}' {error.message}") from None
        (of_route if option.of_route else of_sink)[option.key] = read
    if of_route:
        of_sink["route"] = replace(settings.route, **of_route)
    return replace(settings, **of_sink) if of_sink else settings
