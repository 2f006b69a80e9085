"""Syslog: RFC 5424 over everything it goes over."""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alertdocs import AT_US, RULE, alert_id, message, watchdog_document
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from barrelman.errors import SinkError
from barrelman.sinks.address import parse_sink_flag
from barrelman.sinks.message import message_of
from barrelman.sinks.opening import open_sink
from barrelman.sinks.sink import Sink

HEAD = re.compile(
    rb"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\S+) barrelman - (\w+) "
    rb'\[alert@32473((?: \w+="(?:[^"\\\]]|\\["\\\]])*")*)\] \xef\xbb\xbf(.*)',
    re.DOTALL,
)


def sink_to(flag: str) -> Sink:
    return open_sink(parse_sink_flag(flag), clock=lambda: AT_US)


@contextmanager
def datagrams(family: int, address: object) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_DGRAM) as listening:
        listening.bind(address)  # type: ignore[arg-type]  # what the family takes
        listening.settimeout(5)
        yield listening


class Collector:
    """Takes streams one after the other and keeps all that came."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.streams: list[bytes] = []
        self.connected: socket.socket | None = None
        self.came = threading.Condition()
        self.context = context
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                connected, _ = self.listening.accept()
                if self.context is not None:
                    connected = self.context.wrap_socket(connected, server_side=True)
            except OSError:
                if self.listening.fileno() < 0:
                    return
                continue
            with connected:
                self.streams.append(b"")
                self.connected = connected
                while data := self._receive(connected):
                    with self.came:
                        self.streams[-1] += data
                        self.came.notify_all()

    def _receive(self, connected: socket.socket) -> bytes:
        try:
            return connected.recv(65536)
        except OSError:
            return b""

    def wait_for(self, part: bytes) -> None:
        with self.came:
            assert self.came.wait_for(lambda: part in b"".join(self.streams), timeout=5)

    def hang_up(self) -> None:
        assert self.connected is not None
        self.connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        if self.connected is not None:
            self.connected.close()


def frames(stream: bytes) -> list[bytes]:
    found = []
    while stream:
        length, _, rest = stream.partition(b" ")
        found.append(rest[: int(length)])
        stream = rest[int(length) :]
    return found


def test_a_datagram_an_alert() -> None:
    with datagrams(socket.AF_INET, ("127.0.0.1", 0)) as listening:
        flag = (
            f"syslog+udp://127.0.0.1:{listening.getsockname()[1]}#facility=audit&hostname=lookout"
        )
        sink = sink_to(flag)
        assert sink.digest_above is None
        sink.deliver([message(1, severity="critical"), message(2)])
        found = HEAD.fullmatch(listening.recv(65536))
        assert found
        priority, at, host, kind, data, text = found.groups()
        assert (int(priority), host, kind) == (13 * 8 + 2, b"lookout", b"alert")
        assert at == b"2026-11-23T12:01:00.000Z"
        assert f'id="{alert_id(1)}"'.encode() in data
        assert b'user="eve"' in data
        assert b'object="pods/shop/p1"' in data
        assert text.decode() == f"[critical] {RULE}: {message(1).sentence}"
        assert HEAD.fullmatch(listening.recv(65536))
        assert "UDP does not tell" in sink.test(AT_US)
        assert b" test " in listening.recv(65536)
        sink.close()


def test_values_cannot_leave_their_quotes_nor_a_message_its_line() -> None:
    with datagrams(socket.AF_INET, ("127.0.0.1", 0)) as listening:
        sink = sink_to(f"syslog+udp://127.0.0.1:{listening.getsockname()[1]}")
        audit = {
            "verb": "create",
            "user": {"username": 'a"]\\\n<13>1'},
            "objectRef": {"resource": "☠" * 9000},
        }
        sink.deliver([message(1, audit=audit), message_of(watchdog_document(), public_url=None)])
        said = listening.recv(65536)
        assert HEAD.fullmatch(said)
        assert b"\n" not in said
        assert rb'user="a\"\]\\\\n<13>1"' in said
        assert HEAD.fullmatch(listening.recv(65536))
        sink.close()


def test_a_template_makes_the_text() -> None:
    with datagrams(socket.AF_INET, ("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        sink = sink_to(f"syslog+udp://127.0.0.1:{port}#template=${{who}} / ${{cluster}}%0ax")
        sink.deliver([message(1)])
        assert listening.recv(65536).endswith(b"eve / prod\\nx")
        sink.close()


def test_a_socket_of_this_machine(tmp_path: Path) -> None:
    with datagrams(socket.AF_UNIX, str(tmp_path / "log")) as listening:
        sink = sink_to(f"syslog+unix://{tmp_path}/log")
        sink.deliver([message(1)])
        assert HEAD.fullmatch(listening.recv(65536))
        sink.close()
    with pytest.raises(SinkError, match="No such file"):
        sink_to(f"syslog+unix://{tmp_path}/none").deliver([message(1)])


def test_a_stream_socket_of_this_machine(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "log"))
        listening.listen()
        sink = sink_to(f"syslog+unix://{tmp_path}/log")
        sink.deliver([message(1)])
        connected, _ = listening.accept()
        sink.close()
        with connected:
            [frame] = frames(connected.recv(65536))
    assert HEAD.fullmatch(frame)


def test_over_a_stream_each_message_is_counted() -> None:
    with closing(Collector()) as collector:
        sink = sink_to(f"syslog+tcp://127.0.0.1:{collector.port}")
        sink.deliver([message(number) for number in range(1, 51)])
        collector.wait_for(alert_id(50).encode())
        found = frames(collector.streams[0])
        assert len(found) == 50
        assert all(HEAD.fullmatch(frame) for frame in found)
        sink.close()


def test_a_collector_that_hung_up_is_called_again() -> None:
    with closing(Collector()) as collector:
        sink = sink_to(f"syslog+tcp://127.0.0.1:{collector.port}")
        sink.deliver([message(1)])
        collector.wait_for(alert_id(1).encode())
        collector.hang_up()
        sink.deliver([message(2)])
        collector.wait_for(alert_id(2).encode())
        assert len(collector.streams) == 2
        sink.close()


def test_a_collector_that_takes_nothing_is_told_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sink = sink_to(f"syslog+tcp://127.0.0.1:{listening.getsockname()[1]}#timeout_seconds=0.3")
        many = [message(number) for number in range(5000)]
        with pytest.raises(SinkError, match="cannot be reached") as raised:
            sink.deliver(many)
        assert not raised.value.is_final
        sink.close()


def test_a_collector_that_is_not_there_may_come_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    sink = sink_to(f"syslog+tcp://127.0.0.1:{port}")
    with pytest.raises(SinkError, match="refused") as raised:
        sink.deliver([message(1)])
    assert not raised.value.is_final


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin.replace(year=2120))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "collector.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_tls_checks_who_answers(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with closing(Collector(context)) as collector:
        stranger = sink_to(f"syslog+tls://127.0.0.1:{collector.port}")
        with pytest.raises(SinkError, match=r"(?i)certificate") as raised:
            stranger.deliver([message(1)])
        assert not raised.value.is_final
        sink = sink_to(f"syslog+tls://127.0.0.1:{collector.port}#ca_file={certificate}")
        for number in (1, 2):
            sink.deliver([message(number)])
        collector.wait_for(alert_id(2).encode())
        assert len(frames(collector.streams[-1])) == 2
        sink.close()
