"""Files into a store: through the service that owns it, or straight where none does."""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from barrelman.cli.printing import readable
from barrelman.cli.serving import check_extra, read_config
from barrelman.detection.rows import describe
from barrelman.errors import BarrelmanError, InputError, StoreError, UsageError
from barrelman.service.intake import Intake
from barrelman.settings.borders import Borders
from barrelman.settings.config import Config
from barrelman.settings.configload import Flag
from barrelman.settings.endpoint import read_endpoint
from barrelman.settings.serve import store_options, wall_us
from barrelman.settings.sources import Source, expand_sources, read_chunks
from barrelman.store.events import EventStore
from barrelman.store.folder import DataFolder

_BODY_BYTES: Final = 4 * 1024 * 1024
_LARGEST_BYTES: Final = 48 * 1024 * 1024
"""A document that is larger is cut, whatever is open: the service takes no larger body."""
_MOST_TRIES: Final = 60
_LONGEST_PAUSE: Final = 30.0
_FIRST_PAUSE: Final = 0.25
_LONGEST_SILENT_PAUSE: Final = 5.0
_SILENT_SECONDS: Final = 20.0
"""A service that has not answered for so long is given up."""

Send = Callable[[bytes], dict[str, Any]]


@dataclass
class _Sum:
    events: int = 0
    stored: int = 0
    duplicates: int = 0
    malformed: int = 0
    foreign: int = 0
    problems: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, receipt: dict[str, Any]) -> None:
        for name in ("events", "stored", "duplicates", "malformed", "foreign"):
            setattr(self, name, getattr(self, name) + int(receipt.get(name, 0)))
        self.problems += receipt.get("problems", [])[: 5 - len(self.problems)]


def run_ingest(
    *,
    paths: Sequence[str],
    cluster: str,
    data: str | None,
    config: str | None,
    url: str | None,
    key_file: str | None,
    ca_file: str | None,
    quiet: bool,
) -> int:
    """0 when every source was read and stored."""
    check_extra()
    if url is not None:
        _check_url(url)
    flags = [Flag("store.data", data, "--data")] if data is not None else []
    settings = read_config(config, flags)
    total = _Sum()
    started = time.monotonic()
    if url is None:
        try:
            folder = DataFolder.open(settings.store.data)
        except StoreError as error:
            url = read_endpoint(Path(settings.store.data))
            if url is None:
                raise error from None
        else:
            _put_directly(folder, settings, paths, cluster, total)
    if url is not None:
        key = _read_key(key_file)
        send = _sender(url, cluster=cluster, key=key, ca_file=ca_file, is_quiet=quiet)
        _send_all(paths, send, total)
    if not quiet:
        _sum_up(total, time.monotonic() - started)
    for failure in total.failures:
        sys.stderr.write(readable(f"barrelman: {failure}") + "\n")
    return 2 if total.failures else 0


def _put_directly(
    folder: DataFolder, settings: Config, paths: Sequence[str], cluster: str, total: _Sum
) -> None:
    with (
        folder,
        EventStore.open(
            folder, clock=wall_us, describe=describe, options=store_options(settings)
        ) as store,
    ):
        intake = Intake(store, give=lambda committed: None, clock=wall_us)
        intake.start()
        try:
            _send_all(
                paths,
                lambda body: vars(intake.offer(body, cluster=cluster, is_list=False).result()),
                total,
            )
        finally:
            intake.stop()


def _send_all(paths: Sequence[str], send: Send, total: _Sum) -> None:
    for source in expand_sources(paths):
        if isinstance(source, InputError):
            total.failures.append(source.oneline())
            continue
        try:
            for body in _bodies(source):
                total.add(send(body))
        except InputError as error:
            total.failures.append(error.oneline())


def _bodies(source: Source) -> Iterator[bytes]:
    """The source in pieces of whole lines, cut where nothing is open. What came before a failure
    to read on is among them."""
    borders = Borders()
    held = bytearray()
    looked = ready = 0
    try:
        for chunk in read_chunks(source, stdin=sys.stdin.buffer):
            held += chunk
            if len(held) < _BODY_BYTES:
                continue
            end = held.rfind(b"\n") + 1
            if end > looked:
                border = borders.feed(bytes(held[looked:end]))
                ready = looked + border if border > 0 else ready
                looked = end
            if not ready and looked >= _LARGEST_BYTES:
                borders.reset()
                ready = looked
            if ready:
                yield bytes(held[:ready])
                del held[:ready]
                looked, ready = looked - ready, 0
    finally:
        if held:
            yield bytes(held)


def _sender(
    url: str, *, cluster: str, key: str | None, ca_file: str | None, is_quiet: bool
) -> Send:
    address = f"{url.rstrip('/')}/events/{quote(cluster, safe='')}"
    headers = {"Content-Type": "application/x-ndjson"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    context = _context(ca_file) if url.lower().startswith("https:") else None

    def send(body: bytes) -> dict[str, Any]:
        patience = _Patience(url, is_quiet=is_quiet)
        for _ in range(_MOST_TRIES):
            request = urllib.request.Request(address, body, headers, method="POST")
            try:
                with urllib.request.urlopen(request, timeout=120, context=context) as answer:
                    receipt: dict[str, Any] = json.load(answer)
                    return receipt
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503):
                    raise _refused(error) from None
                patience.wait_for_room(_seconds(error.headers.get("Retry-After")))
            except (urllib.error.URLError, OSError) as error:
                patience.wait_for_answer(getattr(error, "reason", error))
        raise StoreError(f"the service at {url} takes nothing more")

    return send


class _Patience:
    """Waits between tries, and says so from the second time on: the first is often enough."""

    def __init__(self, url: str, *, is_quiet: bool) -> None:
        self._url = url
        self._is_quiet = is_quiet
        self._waits = 0
        self._silent_since: float | None = None
        self._pause = _FIRST_PAUSE

    def wait_for_room(self, seconds: float) -> None:
        self._silent_since, self._pause = None, _FIRST_PAUSE
        self._wait(min(seconds, _LONGEST_PAUSE), "has no room for more yet")

    def wait_for_answer(self, reason: object) -> None:
        """Raises StoreError when there was none for too long, or there will be none."""
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
        pause = min(self._pause, _LONGEST_SILENT_PAUSE)
        is_over = now + pause - self._silent_since > _SILENT_SECONDS
        if is_over or isinstance(reason, ssl.SSLCertVerificationError):
            raise StoreError(f"the service at {self._url} does not answer: {reason}") from None
        self._pause = pause * 2
        self._wait(pause, "does not answer")

    def _wait(self, seconds: float, what: str) -> None:
        if self._waits and not self._is_quiet:
            line = f"the service at {self._url} {what}; trying again"
            sys.stderr.write(readable(line) + "\n")
        self._waits += 1
        time.sleep(seconds)


def _context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise UsageError(f"--ca-file: '{ca_file}' cannot be used: {error}") from None


def _seconds(retry_after: str | None) -> float:
    # A proxy may name a date.
    is_number = retry_after is not None and retry_after.isascii() and retry_after.isdigit()
    return float(retry_after or 1) if is_number else 1.0


def _refused(error: urllib.error.HTTPError) -> BarrelmanError:
    try:
        told = json.load(error).get("error", {})
    except (ValueError, OSError, AttributeError):
        told = {}
    message = told.get("message", error.reason)
    hint = told.get("hint")
    if error.code in (401, 403) and hint is None:
        hint = "give a key of role intake with --key-file or BARRELMAN_KEY"
    return UsageError(f"the service refused the events ({error.code}): {message}", hint=hint)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_good = False
    if not is_good:
        raise UsageError(
            f"--url: '{url}' is no address of a service",
            hint="write http://127.0.0.1:8130 or https://barrelman.example",
        )


def _read_key(path: str | None) -> str | None:
    if path is None:
        return os.environ.get("BARRELMAN_KEY") or None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"the key cannot be read: {error}") from None


def _sum_up(total: _Sum, seconds: float) -> None:
    rate = total.events / seconds if seconds else 0
    parts = [f"{total.stored:,} of {total.events:,} events stored"]
    if total.duplicates:
        parts.append(f"{total.duplicates:,} were there already")
    if total.malformed:
        parts.append(f"{total.malformed:,} malformed")
    if total.foreign:
        parts.append(f"{total.foreign:,} not audit events")
    sys.stderr.write(f"{', '.join(parts)} ({seconds:.1f} s, {rate:,.0f} events/s)\n")
    for problem in total.problems:
        sys.stderr.write(readable(f"  {problem}") + "\n")
