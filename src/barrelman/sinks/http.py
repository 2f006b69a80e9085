"""Posting to web hooks. Wraps httpx: nothing else in the project knows of it."""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import httpx

from barrelman.errors import SinkError
from barrelman.sinks.options import SinkSettings, shown_url
from barrelman.sinks.wording import one_line

_MOST_READ: Final = 16_384
_MOST_SHOWN: Final = 200
_LONGEST_WAIT_SECONDS: Final = 3600.0
# These say that something is set up wrongly at one end: a person can mend it, and then all arrives.
_MENDABLE: Final = frozenset({401, 402, 403, 404, 407, 410})
_TRY_AGAIN: Final = frozenset({408, 409, 421, 423, 425, 429})
_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


class Answer(NamedTuple):
    """What came back: status and the beginning of the body."""

    status: int
    text: str


class Poster:
    """Posts JSON to one URL, over connections that are kept. One thread at a time."""

    def __init__(self, settings: SinkSettings) -> None:
        self._url = settings.url
        self._shown = shown_url(settings.url)
        self._settings = settings
        self._headers = {
            "user-agent": "barrelman",
            "content-type": "application/json",
            "accept-encoding": "identity",
        }
        self._headers |= {name.lower(): value for name, value in settings.headers}
        if settings.token:
            self._headers["authorization"] = f"Bearer {settings.token}"
        self._client: httpx.Client | None = None
        # Its log lines name whole URLs, and those of web hooks are secrets.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def post(self, body: bytes, headers: dict[str, str] | None = None) -> Answer:
        """Posts and gives the answer, which was a success. Raises SinkError for all else."""
        status, retry_after, text = self._exchange(body, self._headers | (headers or {}))
        if 200 <= status < 300:
            return Answer(status, text)
        said = f": {text}" if text else ""
        raise SinkError(
            f"{self._shown} answered {status}{said}",
            hint=_HINTS.get(status),
            is_final=400 <= status < 500 and status not in _MENDABLE | _TRY_AGAIN,
            retry_after_seconds=retry_after,
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _exchange(self, body: bytes, headers: dict[str, str]) -> tuple[int, float | None, str]:
        try:
            with self._open().stream("POST", self._url, content=body, headers=headers) as response:
                text = _read_some(response, seconds=self._settings.timeout_seconds)
                return response.status_code, _retry_after(response), self._harmless(text)
        except httpx.InvalidURL:
            raise SinkError(f"the URL of {self._shown} cannot be read", is_final=False) from None
        except httpx.TimeoutException:
            wait = f"{self._settings.timeout_seconds:g} s"
            raise SinkError(f"{self._shown} did not answer within {wait}") from None
        except httpx.HTTPError as error:
            told = self._harmless(str(error) or type(error).__name__)
            raise SinkError(f"{self._shown} cannot be reached: {told}") from None

    def _open(self) -> httpx.Client:
        if self._client is None:
            settings = self._settings
            user = settings.username
            self._client = httpx.Client(
                timeout=settings.timeout_seconds,
                verify=_context(settings) if settings.url.startswith("https") else True,
                proxy=settings.proxy or None,
                auth=(user, settings.password) if user else None,
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=2, keepalive_expiry=30),
            )
        return self._client

    def _harmless(self, text: str) -> str:
        """What the other end says, without what we must not repeat: it may echo a request."""
        settings = self._settings
        path = settings.url.partition("://")[2].partition("/")[2]
        values = [value for _, value in settings.headers]
        for secret in (
            settings.url,
            path,
            settings.secret,
            settings.token,
            settings.password,
            *values,
        ):
            if len(secret) >= 6:
                text = text.replace(secret, "…")
        return one_line(" ".join(text.split()), _MOST_SHOWN)


_HINTS: Final = {
    401: "its credentials are not taken",
    403: "its credentials are not enough",
    404: "the URL leads to nothing there",
    410: "what the URL led to has been removed",
}


def _context(settings: SinkSettings) -> ssl.SSLContext:
    """The authorities that are trusted: those of the system and of certifi, or one file's."""
    try:
        if settings.ca_file:
            return ssl.create_default_context(cafile=settings.ca_file)
        context = httpx.create_ssl_context(trust_env=False)
    except OSError as error:
        raise SinkError(
            f"the certificates '{one_line(settings.ca_file)}' cannot be read: {error.strerror}"
        ) from None
    context.load_default_certs()
    return context


def _read_some(response: httpx.Response, *, seconds: float) -> str:
    """The beginning of the body: how much comes, and how slowly, is not for the sender to say."""
    read, until = b"", time.monotonic() + seconds
    with contextlib.suppress(httpx.HTTPError):  # the status has come, and that is what counts
        for chunk in response.iter_raw():
            read += chunk
            if len(read) >= _MOST_READ or time.monotonic() > until:
                break
    return read[:_MOST_READ].decode("utf-8", "replace")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait, of a number or a date; a date is measured by the sender's own clock."""
    value = response.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), _LONGEST_WAIT_SECONDS)
    try:
        until = parsedate_to_datetime(value)
        since = parsedate_to_datetime(response.headers.get("date", ""))
        seconds = (until - since).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)
