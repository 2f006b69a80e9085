"""A service, from what was typed to its exit code."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from barrelman import __version__
from barrelman.cli.printing import readable
from barrelman.errors import UsageError
from barrelman.settings.config import Config, split_listen
from barrelman.settings.configload import Flag, load_config
from barrelman.settings.endpoint import remove_endpoint, write_endpoint

if TYPE_CHECKING:
    from barrelman.server.listen import Listening
    from barrelman.service.service import Service
    from barrelman.store.alerts import NewAlert

_LOG = logging.getLogger("barrelman")
_ALERTS = logging.getLogger("barrelman.alerts")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_SWITCH_SECONDS: Final = 0.001
_EXTRA: Final = ("starlette", "uvicorn", "sqlalchemy", "pyarrow", "duckdb", "prometheus_client")


def run_service(
    *,
    config: str | None,
    data: str | None,
    listen: str | None,
    rules: Sequence[str],
    no_pack: bool,
    exceptions: Sequence[str],
    follow: Sequence[str],
    from_start: bool,
    sink: Sequence[str],
    demo: bool,
    quiet: bool,
) -> int:
    """Runs until a signal; 0 when it stopped as it was asked to."""
    check_extra()
    flags = [
        *_flag("store.data", data, "--data"),
        *_flag("server.listen", listen, "--listen"),
        *_flag("rules.paths", list(rules) or None, "--rules"),
        *_flag("rules.pack", False if no_pack else None, "--no-pack"),
        *_flag("rules.exceptions", list(exceptions) or None, "--exceptions"),
        *_flag("intake.files", _followed(follow, from_start) or None, "--follow"),
    ]
    settings = read_config(config, flags)
    _start_log(settings, quiet=quiet)
    from barrelman.settings.serve import open_service
    from barrelman.sinks.address import parse_sink_flag

    sinks = [parse_sink_flag(text) for text in sink]
    service = open_service(settings, sinks=sinks, stdout=sys.stdout.buffer)
    service.alerting.on_raised = lambda alerts: _tell(service, alerts)
    if demo:
        from barrelman.settings.demo import DemoFeed

        service.followers.append(DemoFeed(service.intake.offer, clock=service.clock.now_us))
    return _serve(service, settings, quiet=quiet)


def check_extra() -> None:
    """Raises UsageError where the libraries of the service are not installed."""
    from importlib.util import find_spec

    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the service needs libraries that are not installed: {', '.join(missing)}",
            hint="install them with: pip install 'barrelman[serve]'",
        )


def read_config(path: str | None, flags: Sequence[Flag]) -> Config:
    """Raises UsageError with everything that is wrong with it."""
    loaded = load_config(path, environment=os.environ, flags=flags)
    if loaded.config is None:
        for error in loaded.errors:
            sys.stderr.write(readable(f"barrelman: {error}") + "\n")
        count = len(loaded.errors)
        raise UsageError(f"the configuration has {count} error{'s' if count > 1 else ''}")
    return loaded.config


# --- inside ---


def _flag(key: str, value: object, name: str) -> list[Flag]:
    return [] if value is None else [Flag(key, value, name)]


def _followed(texts: Sequence[str], from_start: bool) -> list[dict[str, object]]:
    tables: list[dict[str, object]] = []
    for text in texts:
        cluster, found, path = text.partition("=")
        if not (found and cluster and path):
            raise UsageError(
                f"--follow: '{text}' does not say which cluster",
                hint="write CLUSTER=PATH, as in prod=/var/log/kubernetes/audit.log",
            )
        tables.append({"cluster": cluster, "paths": [path], "from_start": from_start})
    return tables


def _serve(service: Service, settings: Config, *, quiet: bool) -> int:
    from barrelman.server.app import Limits, build_app
    from barrelman.server.authentication import Access, Grant
    from barrelman.server.listen import Listener
    from barrelman.store import keys

    grants = [
        Grant(each.common_name, each.role, frozenset(each.clusters) or None)  # type: ignore[arg-type]  # checked
        for each in settings.access.certificates
    ]
    access = Access(
        lambda: service.database.read(keys.load),
        now_us=service.clock.now_us,
        grants=grants,
        allows_keyless=settings.access.anonymous,
        failures_per_minute=settings.access.failures_per_minute,
        touch=lambda used: service.database.write_soon(lambda c: keys.touch(c, used)),
    )
    server = settings.server
    limits = Limits(
        intake_bytes=server.max_body_bytes,
        import_bytes=server.max_body_bytes,
        requests_per_second=server.requests_per_second,
        workers=server.workers,
    )
    try:
        is_keyless = access.is_keyless()
        app = build_app(service, access=access, limits=limits)
        listening = _listening(settings, is_keyless=is_keyless)
        listener = Listener(
            app,
            options=listening,
            on_bound=lambda host, port: _welcome(
                settings, host, port, is_keyless=is_keyless, quiet=quiet
            ),
        )
        listener.bind()
        app.state.metrics.connections = lambda: (listener.connections, listener.turned_away)
        service.start()
    except BaseException:
        service.stop(grace_seconds=0)
        raise
    gc.collect()
    gc.freeze()  # what is loaded by now stays: it need not be looked through again and again
    # The writer waits for the interpreter's lock after each sync; by default for 5 ms.
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        write_endpoint(service.folder.path, _url(settings, *listener.address, is_local=True))
        listener.run()
    finally:
        _LOG.info("stopping")
        remove_endpoint(service.folder.path)
        service.stop(grace_seconds=server.stop_seconds)
    _LOG.info("stopped")
    return 0


def _listening(settings: Config, *, is_keyless: bool) -> Listening:
    from pathlib import Path

    from barrelman.server.listen import Listening, Tls

    server = settings.server
    host, port = split_listen(server.listen)
    if is_keyless and host not in _LOOPBACK:
        _LOG.warning(
            "no key has been made yet: listening on 127.0.0.1 instead of %s. Make one with "
            "`barrelman keys create`, then start again",
            host or "every address",
        )
        host = "127.0.0.1"
    tls = None
    if server.tls_cert and server.tls_key:
        ca = Path(server.client_ca) if server.client_ca else None
        tls = Tls(Path(server.tls_cert), Path(server.tls_key), ca)
    return Listening(
        host=host,
        port=port,
        tls=tls,
        max_connections=server.max_connections,
        header_seconds=server.header_seconds,
        idle_seconds=server.idle_seconds,
        stalled_seconds=server.stalled_seconds,
        stop_seconds=server.stop_seconds,
    )


def _url(settings: Config, host: str, port: int, *, is_local: bool = False) -> str:
    """Where it listens; for who is on this machine, where it can be reached."""
    if is_local and host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.server.tls_cert else 'http'}://{shown}:{port}"


def _welcome(settings: Config, host: str, port: int, *, is_keyless: bool, quiet: bool) -> None:
    here = _url(settings, host, port)
    _LOG.info("barrelman %s listens on %s, data in %s", __version__, here, settings.store.data)
    if quiet:
        return
    from barrelman.cli.welcome import setup_text

    sys.stderr.write(
        setup_text(settings.server.public_url or here, here=here, is_keyless=is_keyless)
    )
    sys.stderr.flush()


def _tell(service: Service, alerts: Sequence[NewAlert]) -> None:
    """A line for each new alert, for who looks at the service's own log."""
    service.courier.wake()
    if not _ALERTS.isEnabledFor(logging.INFO):
        return
    from barrelman.sinks.message import message_of

    for alert in alerts[:20]:
        message = message_of(json.loads(alert.document), public_url=None)
        _ALERTS.info("alert %s: %s", alert.severity, message.title)
    if len(alerts) > 20:
        _ALERTS.info("and %d more alerts", len(alerts) - 20)


# --- its log ---


class _TextFormat(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        text = f"{at} {record.levelname.lower():<7} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return readable(text)


class _JsonFormat(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "part": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told)


def _start_log(settings: Config, *, quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormat() if settings.log.format == "json" else _TextFormat())
    root = logging.getLogger("barrelman")
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(settings.log.level.upper())
    if quiet:
        _ALERTS.setLevel(logging.WARNING)
