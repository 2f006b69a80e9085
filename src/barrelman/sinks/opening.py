"""From settings to a sink that is ready to deliver."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from barrelman.errors import UsageError
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.sink import Sink


def open_sink(
    settings: SinkSettings, *, clock: Callable[[], int], stdout: BinaryIO | None = None
) -> Sink:
    """Makes the sink; it opens files and connections when it first delivers.

    `clock` gives microseconds since 1970. `stdout` is what the path `-` writes to.
    """
    kind = settings.kind
    if kind == "file":
        from barrelman.sinks.file import FileSink, StreamSink

        if settings.path != "-":
            return FileSink(settings)
        if stdout is None:
            raise UsageError(f"the sink '{settings.name}' cannot write to standard output here")
        return StreamSink(settings, stdout)
    if kind == "syslog":
        from barrelman.sinks.syslog import SyslogSink

        return SyslogSink(settings)
    if kind == "email":
        from barrelman.sinks.email import EmailSink

        return EmailSink(settings, clock=clock)
    return _open_http(settings, clock)


def _open_http(settings: SinkSettings, clock: Callable[[], int]) -> Sink:
    """What posts: a service without such a sink never loads the library for it."""
    if settings.kind == "webhook":
        from barrelman.sinks.webhook import WebhookSink

        return WebhookSink(settings, clock=clock)
    if settings.kind == "slack":
        from barrelman.sinks.slack import SlackSink

        return SlackSink(settings)
    if settings.kind == "alertmanager":
        from barrelman.sinks.alertmanager import AlertmanagerSink

        return AlertmanagerSink(settings, clock=clock)
    if settings.kind == "pagerduty":
        from barrelman.sinks.pagerduty import PagerDutySink

        return PagerDutySink(settings)
    raise UsageError(f"there is no sink of kind '{settings.kind}'")
