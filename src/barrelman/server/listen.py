"""The listener: connections in, within bounds; the only file that imports uvicorn.

What uvicorn leaves open is bound here, connection by connection: how long a request's head may
take, how large it may be, how long nothing may be read of an answer, how many connections there
may be. A connection on which no request is going on can be had back: where there is no room for a
new one, the one that has waited longest is closed, so that nobody who only holds connections
keeps others out.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import resource
import secrets
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from barrelman.errors import UsageError
from barrelman.records.frozen import frozen
from barrelman.server.peers import PEER, Peer
from barrelman.server.problems import RefusedError, problem_response

_LOG = logging.getLogger("barrelman.server")

_BACKLOG: Final = 1024
# Files, sockets of sinks, and what is accepted before it can be counted.
_SPARE_FILES: Final = 256
_MOST_PIPELINED: Final = 8
_MOST_HANDSHAKES: Final = 512
_HANDSHAKE_SECONDS: Final = 10.0
_LINGER_SECONDS: Final = 3.0
_TLS_CHECK_SECONDS: Final = 1.0
_SWEEP_TICKS: Final = 5  # of a tenth of a second
_NEVER: Final = math.inf


@frozen
class Tls:
    """PEM files. With `client_ca`, clients may show a certificate; nobody must."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@frozen
class Listening:
    """Where, and within what bounds."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    tls: Tls | None = None
    max_connections: int = 1024
    header_bytes: int = 64 * 1024
    header_seconds: float = 15.0
    idle_seconds: float = 90.0
    stalled_seconds: float = 60.0
    """How long a client may read nothing of an answer."""
    stop_seconds: float = 20.0


class Listener:
    """Listens from `bind` on, and serves while `run` runs, in whichever thread.

    In the main thread, SIGINT and SIGTERM end it gracefully, and a second one at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        options: Listening,
        on_bound: Callable[[str, int], None] | None = None,
    ) -> None:
        self._options = options
        self._on_bound = on_bound
        self._socket: socket.socket | None = None
        self._address: tuple[str, int] | None = None
        # Found to be wrong before anything listens, not by the first client.
        context = _Certificates(options.tls) if options.tls else None
        self._room = _Room(_bounded_by_files(options.max_connections))
        config = _Config(app, options=options, room=self._room)
        self._server = _Server(config, certificates=context, room=self._room)
        self.stopped_by: int | None = None
        """The signal that ended it, if one did."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; bound by then."""
        assert self._address is not None, "not bound yet"
        return self._address

    @property
    def connections(self) -> int:
        return self._room.taken

    @property
    def turned_away(self) -> int:
        """Connections closed for want of room, since the start."""
        return self._room.turned_away

    def bind(self) -> tuple[str, int]:
        """Raises UsageError where the address is taken, or is not one of this machine."""
        options = self._options
        where = f"{options.host}:{options.port}"
        try:
            found = socket.getaddrinfo(
                options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, _, _, _, address = found[0]
            self._socket = socket.create_server(
                address,
                family=family,
                backlog=_BACKLOG,
            )
        except OSError as error:
            raise UsageError(
                f"cannot listen on {where}: {error.strerror or error}",
                hint="another process may listen there; choose another port with --listen",
            ) from None
        self._socket.setblocking(False)
        self._address = self._socket.getsockname()[:2]
        return self.address

    def run(self) -> None:
        """Serves until `stop` or a signal; binds if that was not done."""
        if self._socket is None:
            self.bind()
        assert self._socket is not None
        if self._on_bound is not None:
            self._on_bound(*self.address)
        with self._signals():
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """From any thread. No new connections; those that ask are answered."""
        self._server.should_exit = True

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, _: object) -> None:
            self._server.force_exit = self._server.should_exit
            self.stopped_by = number
            self.stop()

        before = {each: signal.signal(each, end) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


class _Config(uvicorn.Config):
    """uvicorn's, with ours on it: it is what a connection is given."""

    def __init__(self, app: ASGIApp, *, options: Listening, room: _Room) -> None:
        super().__init__(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            loop="auto",
            log_config=None,
            log_level=logging.CRITICAL,  # what goes wrong is said by the app, once
            access_log=False,
            proxy_headers=False,  # who asks is who is connected
            server_header=False,
            timeout_keep_alive=math.ceil(options.idle_seconds),
            timeout_graceful_shutdown=math.ceil(options.stop_seconds),
        )
        self.options = options
        self.room = room


class _Room:
    """The connections there are. `waiting` are those without a request, the longest first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.turned_away = 0
        self.all: set[_Connection] = set()
        self.waiting: dict[_Connection, None] = {}

    @property
    def taken(self) -> int:
        return len(self.all)

    def can_make(self) -> bool:
        """Whether there is room for one more, or can be."""
        return len(self.all) < self.most or bool(self.waiting)

    def make(self) -> None:
        """Room for one more, if need be at the cost of the one that has waited longest."""
        if len(self.all) >= self.most:
            self.cut_longest()

    def cut_longest(self) -> None:
        """Closes the connection that has waited longest."""
        if self.waiting:
            self.turned_away += 1
            next(iter(self.waiting)).cut()

    def forget(self, connection: _Connection) -> None:
        self.all.discard(connection)
        self.waiting.pop(connection, None)

    def sweep(self) -> None:
        """Cuts what is over its time."""
        now = time.monotonic()
        for each in [each for each in self.all if each.deadline < now or each.stalled < now]:
            each.cut()


class _Connection(HttpToolsProtocol):
    """One connection, with deadlines."""

    config: _Config

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._options = self.config.options
        self._room = self.config.room
        self._peer = _peer_of(transport.get_extra_info("peercert"))
        self.url = b""
        self._running = 0
        self._head_bytes = 0
        # Bytes that came since the last that meant something: endless heads, chunks and trailers
        # are held by the parser, out of sight.
        self._quiet_bytes = 0
        self.deadline = time.monotonic() + self._options.header_seconds
        self.stalled = _NEVER
        self._room.all.add(self)
        self._room.waiting[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.forget(self)
        super().connection_lost(exc)

    def cut(self) -> None:
        """Closes it now, whatever is still to be sent."""
        self._room.forget(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._running == 0:
            self.deadline = min(self.deadline, time.monotonic() + self._options.header_seconds)
        self._quiet_bytes += len(data)
        super().data_received(data)
        if self._quiet_bytes > self._options.header_bytes and not self.transport.is_closing():
            self.cut()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request that the app could be given, as the app answers errors."""
        if self._head_bytes > self._options.header_bytes:
            what = f"the head of the request is larger than {self._options.header_bytes} bytes"
            error = RefusedError(what, status=431)
        else:
            error = RefusedError("this is no request of HTTP/1.1")
        number = secrets.token_hex(8)
        path = self.url.partition(b"?")[0].decode("latin-1")
        response = problem_response(error, path=path, request_id=number)
        head = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", number.encode()),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 %d %s" % (error.status, HTTPStatus(error.status).phrase.encode())]
        lines += [b"%s: %s" % each for each in head]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self.transport.close()
        self.deadline = time.monotonic() + _LINGER_SECONDS

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        if self._peer is not None:
            self.scope["extensions"] = {PEER: self._peer}  # type: ignore[dict-item]  # ours

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(name, value)
        super().on_header(name, value)

    def _count_head(self, *parts: bytes) -> None:
        # Each costs an object or two, however short it is.
        self._head_bytes += sum(map(len, parts)) + 32
        if self._head_bytes > self._options.header_bytes:
            raise ValueError("the head of a request is too large")  # answered where uvicorn says so

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise ValueError("too many requests at once")
        super().on_headers_complete()
        self._quiet_bytes = 0
        self._running += 1
        self.deadline = _NEVER  # from here on, who reads the body looks at the time
        self._room.waiting.pop(self, None)

    def on_body(self, body: bytes) -> None:
        self._quiet_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._quiet_bytes = 0
        super().on_message_complete()
        if self._running == 0:  # it was answered before it was read
            self.deadline = time.monotonic() + self._options.idle_seconds

    def on_response_complete(self) -> None:
        self._running -= 1
        is_unread = self.cycle.more_body
        super().on_response_complete()
        if self._running or self.transport.is_closing():
            return
        # What is still to come of a body is let go by for a moment: who is cut off while sending
        # does not get to read why.
        seconds = _LINGER_SECONDS if is_unread else self._options.idle_seconds
        self.deadline = time.monotonic() + seconds
        self._room.waiting[self] = None

    def pause_writing(self) -> None:
        self.stalled = time.monotonic() + self._options.stalled_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stalled = _NEVER
        super().resume_writing()


class _Server(uvicorn.Server):
    """Accepts by itself: uvicorn would hold any number of TLS handshakes, and stop at a full table
    of files."""

    def __init__(self, config: _Config, *, certificates: _Certificates | None, room: _Room) -> None:
        super().__init__(config)
        self._certificates = certificates
        self._room = room
        self._handshakes: dict[asyncio.Task[None], None] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self.servers = [_Accepting(self._accept(each)) for each in sockets or []]  # type: ignore[misc]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are the listener's."""
        yield

    async def on_tick(self, counter: int) -> bool:
        if counter % _SWEEP_TICKS == 0:
            self._room.sweep()
        if self._certificates and counter % int(10 * _TLS_CHECK_SECONDS) == 0:
            self._certificates.renew()
        return await super().on_tick(counter)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._room.can_make():
                await asyncio.sleep(0.02)  # all are busy: the kernel holds a few more
                continue
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):  # others hold all files
                    self._room.cut_longest()
                await asyncio.sleep(0.01)
                continue
            self._room.make()
            if len(self._handshakes) >= _MOST_HANDSHAKES:
                next(iter(self._handshakes)).cancel()
            task = loop.create_task(self._connect(accepted))
            self._handshakes[task] = None
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _connect(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        tls: dict[str, Any] = {}
        if self._certificates:
            tls["ssl"] = self._certificates.context
            tls["ssl_handshake_timeout"] = _HANDSHAKE_SECONDS
        try:
            await loop.connect_accepted_socket(self._connection, accepted, **tls)
        except (OSError, asyncio.CancelledError):
            accepted.close()  # a handshake that failed, or took too long

    def _connection(self) -> _Connection:
        assert isinstance(self.config, _Config)
        return _Connection(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


class _Accepting:
    """A loop that accepts, in the form of a server of asyncio's that uvicorn can close."""

    def __init__(self, accepting: Any) -> None:
        self._task = asyncio.get_running_loop().create_task(accepting)

    def close(self) -> None:
        self._task.cancel()

    async def wait_closed(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class _Certificates:
    """The context for new connections; made anew when a file has changed.

    A set of files that do not go together, as while they are being replaced, is passed over.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._seen = self._stamps()
        self.context = self._made()

    def renew(self) -> None:
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self.context = self._made()
            _LOG.info("the certificate was read anew")
        except UsageError as error:
            _LOG.error("%s; the one before stays in use", error.oneline())

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        path = self._tls.certificate
        try:
            context.load_cert_chain(path, self._tls.key)
            if self._tls.client_ca is not None:
                path = self._tls.client_ca
                context.load_verify_locations(path)
                context.verify_mode = ssl.CERT_OPTIONAL
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the certificate in '{path}' cannot be used: {error}",
                hint="PEM files, of which the key belongs to the certificate",
            ) from None
        return context

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        stamps = []
        for path in (self._tls.certificate, self._tls.key, self._tls.client_ca):
            with contextlib.suppress(OSError):
                if path is not None:
                    found = path.stat()
                    stamps.append((found.st_mtime_ns, found.st_ino))
        return tuple(stamps)


def _peer_of(certificate: Any) -> Peer | None:
    """From what the TLS layer says of a certificate that it verified."""
    if not certificate:
        return None
    names = [
        value
        for part in certificate.get("subject", ())
        for key, value in part
        if key == "commonName"
    ]
    others = (f"{kind}:{value}" for kind, value in certificate.get("subjectAltName", ()))
    # Of several common names it is anyone's guess which counts.
    return Peer(names[0] if len(names) == 1 else "", tuple(others))


def _bounded_by_files(most: int) -> int:
    """As many connections as the process may have open files, which it raises to what it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft == resource.RLIM_INFINITY:
        return most
    return max(16, min(most, soft - _SPARE_FILES - _MOST_HANDSHAKES))
