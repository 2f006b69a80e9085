"""Syslog as RFC 5424 has it: over UDP, TCP, TLS or a socket of this machine."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from barrelman.errors import SinkError
from barrelman.records.times import format_instant
from barrelman.sinks.flood import Flood
from barrelman.sinks.message import Message, test_message
from barrelman.sinks.options import FACILITIES, SinkSettings
from barrelman.sinks.templates import template_for
from barrelman.sinks.tls import tls_context
from barrelman.sinks.wording import one_line

_SEVERITIES: Final = {"low": 5, "medium": 4, "high": 3, "critical": 2}
_APP: Final = "barrelman"
# The number that RFC 5612 sets aside for those who have none of their own.
_DATA_ID: Final = "alert@32473"
_MOST_TEXT: Final = 1500
_MOST_DATAGRAM: Final = 8192
_UNSENT_POLL_SECONDS: Final = 0.002


class SyslogSink:
    """One message an alert. Over a stream, `deliver` waits until the other machine has it."""

    digest_above = None

    def __init__(self, settings: SinkSettings) -> None:
        self.name = settings.name
        self.kind = settings.kind
        self.batch = settings.most
        self.digest_seconds = settings.digest_seconds
        self.give_up_seconds = settings.give_up_seconds
        self.notice = ""
        self._shown = settings.shown
        self._settings = settings
        self._transport = urlsplit(settings.url).scheme.partition("+")[2]
        self._template = template_for(self.kind, settings.template) if settings.template else None
        self._socket: socket.socket | None = None

    def deliver(self, messages: Sequence[Message]) -> None:
        frames = [self._frame(message) for message in messages]
        try:
            connected = self._connected()
            if connected.type == socket.SOCK_DGRAM:
                for frame in frames:
                    connected.send(frame[:_MOST_DATAGRAM])
            else:
                connected.sendall(b"".join(b"%d %s" % (len(frame), frame) for frame in frames))
                self._wait_until_taken(connected)
        except OSError as error:  # timeouts and TLS errors are some of it
            self.close()
            told = error.strerror or str(error) or type(error).__name__
            raise SinkError(f"{self._shown} cannot be reached: {one_line(told)}") from None

    def digest(self, flood: Flood) -> None:
        self.deliver(flood.first)

    def test(self, now_us: int) -> str:
        self.deliver([test_message(self.name, now_us)])
        if self._transport == "udp":
            return f"sent a datagram to {self._shown}; whether it arrived, UDP does not tell"
        return f"sent a message to {self._shown}"

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _frame(self, message: Message) -> bytes:
        priority = FACILITIES.index(self._settings.facility) * 8 + _SEVERITIES[message.severity]
        told = self._template.fill(message) if self._template else _text(message)
        head = (
            f"<{priority}>1 {format_instant(message.created_us // 1000)} {self._settings.hostname} "
            f"{_APP} - {'test' if message.is_test else 'alert'} {_data(message)} "
        )
        return (head + "\ufeff" + one_line(told, _MOST_TEXT)).encode("utf-8", "replace")

    def _connected(self) -> socket.socket:
        """The socket of before, unless the other end has hung up meanwhile."""
        held = self._socket
        if held is not None and held.type == socket.SOCK_STREAM and _is_hung_up(held):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
        return self._socket

    def _connect(self) -> socket.socket:
        seconds, parts = self._settings.timeout_seconds, urlsplit(self._settings.url)
        if self._transport == "unix":
            return _connect_local(f"{parts.netloc}{parts.path}", seconds)
        host, port = parts.hostname or "", parts.port or 0
        if self._transport == "udp":
            return _connect_datagram(host, port, seconds)
        connected = socket.create_connection((host, port), timeout=seconds)
        try:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._transport == "tls":
                context = tls_context(self._settings.ca_file)
                return context.wrap_socket(connected, server_hostname=host)
        except BaseException:
            connected.close()
            raise
        return connected

    def _wait_until_taken(self, connected: socket.socket) -> None:
        """Until the other machine has acknowledged every byte: what only we hold may be lost."""
        until = time.monotonic() + self._settings.timeout_seconds
        while _unsent(connected) > 0:
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, "it takes nothing")
            time.sleep(_UNSENT_POLL_SECONDS)
        if _is_hung_up(connected):
            raise ConnectionResetError(errno.ECONNRESET, "it hung up")


def _connect_local(path: str, seconds: float) -> socket.socket:
    """Loggers listen for datagrams mostly, some for streams."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        connected = socket.socket(socket.AF_UNIX, kind)
        connected.settimeout(seconds)
        try:
            connected.connect(path)
        except OSError as error:
            connected.close()
            if error.errno != errno.EPROTOTYPE or kind == socket.SOCK_STREAM:
                raise
        else:
            return connected
    raise AssertionError("the last kind returns or raises")


def _connect_datagram(host: str, port: int, seconds: float) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    connected = socket.socket(family, kind, protocol)
    try:
        connected.settimeout(seconds)
        connected.connect(address)
    except BaseException:
        connected.close()
        raise
    return connected


def _is_hung_up(connected: socket.socket) -> bool:
    """Whether the other end has closed. Collectors send nothing: what can be read is the end."""
    seconds = connected.gettimeout()
    try:
        connected.setblocking(False)
        return connected.recv(1) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError as error:
        # Of TLS: that there is nothing to read yet is an error of its own there.
        return type(error).__name__ not in ("SSLWantReadError", "SSLWantWriteError")
    finally:
        with contextlib.suppress(OSError):
            connected.settimeout(seconds)


def _unsent(connected: socket.socket) -> int:
    """Bytes that the other machine has not acknowledged; 0 where the system does not tell."""
    if connected.family == socket.AF_UNIX:
        return 0
    try:
        import fcntl
        import termios

        told = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    except (ImportError, OSError):
        return 0
    return int(struct.unpack("i", told)[0])


def _text(message: Message) -> str:
    return f"[{message.severity}] {message.rule_name}: {message.sentence}"


def _data(message: Message) -> str:
    """The structured data: one element with a parameter for each thing that is known."""
    values = {
        "id": message.alert_id,
        "severity": message.severity,
        "rule": message.rule_name,
        "ruleId": message.rule_id,
        "cluster": message.cluster,
        "user": message.who,
        "action": message.action,
        "object": message.object,
        "source": message.source,
        "techniques": ", ".join(message.techniques),
        "link": message.link,
    }
    told = "".join(f' {name}="{_escape(value)}"' for name, value in values.items() if value)
    return f"[{_DATA_ID}{told}]"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
