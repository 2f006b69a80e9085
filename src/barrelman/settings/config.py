"""The configuration of a service: every table and key of it, with type, default and meaning.

What stands here is all there is: what a file may hold is checked against these classes, and the
documentation is written from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from barrelman.records.frozen import frozen
from barrelman.settings import keytypes as key

DEFAULT_LISTEN: Final = "127.0.0.1:8130"
DEFAULT_DATA: Final = "barrelman-data"
KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
DAY_SECONDS: Final = 86_400

_CLUSTER = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_NO_INDEX = re.compile(r"[\s,*?\"'<>|/\\]")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", re.ASCII)


def _no_listen(value: str) -> str | None:
    try:
        split_listen(value)
    except ValueError:
        return "is not HOST:PORT, as 127.0.0.1:8130 and [::]:8130 are"
    return None


def _no_url(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        return "is not a URL that begins with http:// or https://"
    if parts.query or parts.fragment:
        return "has a query or a fragment, and paths are put behind it"
    return None


def _no_cluster(value: str) -> str | None:
    if _CLUSTER.fullmatch(value):
        return None
    return "is not a cluster's name: letters, digits, '.', '_' and '-', at most 100"


def _no_index(value: str) -> str | None:
    if value and not _NO_INDEX.search(value):
        return None
    return "is not an index's name: no blanks, commas, quotes, '*' and '?'"


def split_listen(value: str) -> tuple[str, int]:
    """`HOST:PORT` -> both; an IPv6 address stands in brackets. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ip_address(host.partition("%")[0]).version != 6:
            raise ValueError(value)
    elif not _HOST.fullmatch(host):
        raise ValueError(value)
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(value)
    return host, int(port)


@frozen
class ServerConfig:
    """Where the service listens, and how much it takes at once."""

    listen: str = key.text(
        DEFAULT_LISTEN, "Address and port to listen on; port 0 takes a free one.", check=_no_listen
    )
    public_url: str | None = key.text(
        None, "URL under which people and API servers reach the service.", check=_no_url
    )
    tls_cert: str | None = key.path(
        None, "Certificate chain in PEM; with it, the service speaks TLS."
    )
    tls_key: str | None = key.path(None, "Private key of `tls_cert`, in PEM.")
    client_ca: str | None = key.path(
        None, "Certificates in PEM of those who may sign client certificates."
    )
    max_connections: int = key.whole(
        1024, "Connections held at the same time; more are refused.", least=1, most=100_000
    )
    max_body_bytes: int = key.size(
        64 * MIB, "Largest body of a request, as it comes and unpacked.", least=KIB, most=GIB
    )
    header_seconds: float = key.seconds(
        15, "A client that has not sent its request's head by then is cut off.", least=1
    )
    stalled_seconds: float = key.seconds(
        60, "A client that reads nothing of its answer for so long is cut off.", least=1
    )
    idle_seconds: float = key.seconds(
        90, "A connection without a request is closed after it.", least=1
    )
    requests_per_second: float = key.number(
        50, "Requests a caller may make on average, intake aside; 0 sets no limit."
    )
    workers: int = key.whole(
        8, "Requests other than intake worked on at the same time.", least=1, most=256
    )
    stop_seconds: float = key.seconds(
        20, "What a stop may take to finish requests and runs that have begun."
    )


@frozen
class StoreConfig:
    """Where events and alerts are kept, and for how long."""

    data: str = key.path(
        DEFAULT_DATA, "Folder of all that the service keeps; it is made for its owner alone."
    )
    retention_days: float = key.number(
        30, "Events are deleted this long after they came; 0 keeps them.", unit="days"
    )
    retention_bytes: int = key.size(
        0, "The oldest events are deleted when all take more than this; 0 sets no limit."
    )
    alert_days: float = key.number(
        365, "Closed alerts are deleted this long after they were made; 0 keeps them.", unit="days"
    )
    run_days: float = key.number(
        30, "Records of runs are deleted after it; 0 keeps them.", unit="days"
    )
    segment_bytes: int = key.size(
        256 * MIB, "A segment of events is closed when it holds so much.", least=MIB, most=16 * GIB
    )
    segment_seconds: float = key.seconds(
        3600, "A segment of events is closed when it is so old.", least=1, most=7 * DAY_SECONDS
    )
    memory_bytes: int = key.size(
        128 * MIB, "Memory that one search over the columns may take.", least=32 * MIB
    )
    threads: int = key.whole(
        2, "Threads that one search over the columns may use.", least=1, most=256
    )


@frozen
class ClusterConfig:
    """A cluster whose events are expected."""

    name: str = key.text(
        "", "The cluster's name, as in the paths it posts to.", check=_no_cluster, is_required=True
    )
    silent_after_seconds: float | None = key.seconds(
        None, "Overrides `watchdogs.silent_after_seconds` for this cluster; 0 never warns."
    )


@frozen
class FilesConfig:
    """Log files that are followed through rotation.

    Beside `audit.log`, rotated ones are known by names such as `audit-2026-11-23T07-06-00.000.log`,
    `audit.log-20261123`, `audit.log.1` and `audit.log.1.gz`. Of a log that was truncated or
    replaced, a copy is looked for under any name there that begins with `audit`; without one, what
    was not read is told as lost.
    """

    paths: tuple[str, ...] = key.paths(
        "Files, folders and patterns (`*`, `?`, `[…]`, `**`).", is_required=True
    )
    cluster: str = key.text(
        "", "The cluster that the events are of.", check=_no_cluster, is_required=True
    )
    from_start: bool = key.switch(
        False, "Read what the files hold already, rotated and compressed ones too."
    )
    poll_seconds: float = key.seconds(0.5, "How often is looked for more.", least=0.05, most=3600)


@frozen
class IntakeConfig:
    """How events come in."""

    max_bytes_in_flight: int = key.size(
        128 * MIB,
        "Bodies held until they are stored; beyond, callers are told to come back.",
        least=MIB,
    )
    max_event_bytes: int = key.size(
        16 * MIB, "Largest event; a larger one is reported as a problem.", least=KIB, most=GIB
    )
    clusters: tuple[ClusterConfig, ...] = key.tables(ClusterConfig, "Clusters that are expected.")
    files: tuple[FilesConfig, ...] = key.tables(FilesConfig, "Log files to follow.")


@frozen
class IndexConfig:
    """An index that rules may name beside the events: indicators, for those that match them.

    Its documents are JSON objects, one a line; a search hit is the document that it holds. Files
    may be compressed, and tables of one name add up. When a file changes, all are read again.
    """

    name: str = key.text(
        "",
        "Its name, to which index patterns of rules are held.",
        check=_no_index,
        is_required=True,
    )
    paths: tuple[str, ...] = key.paths("Files, folders and patterns.", is_required=True)


@frozen
class RulesConfig:
    """Which rules there are at start; those of the API come on top."""

    paths: tuple[str, ...] = key.paths("Files and folders of rules.")
    pack: bool = key.switch(True, "Load the shipped rules.")
    all_rules: bool = key.switch(False, "Load deprecated and non-production rules of folders, too.")
    exceptions: tuple[str, ...] = key.paths("Files of exception lists and items.")
    indexes: tuple[IndexConfig, ...] = key.tables(IndexConfig, "Indexes that are files.")
    reload_seconds: float = key.seconds(
        5, "How often is looked whether the files have changed; 0 never looks."
    )
    cap: int = key.whole(
        1000, "Bound on `max_signals`: no run makes more alerts.", least=1, most=10_000
    )


@frozen
class DetectionConfig:
    """When rules run."""

    live: bool = key.switch(
        True, "Alert when an event comes, where one event is enough for a rule."
    )
    redact: bool = key.switch(True, "Mask values of secrets and tokens in alerts.")
    fill_gaps: bool = key.switch(True, "Run later, in the background, what no run has covered.")
    gap_days: float = key.number(
        7, "How far back gaps are filled and missed runs made up.", most=3650, unit="days"
    )
    search_seconds: float = key.seconds(60, "A search or preview is ended after it.", least=1)


@frozen
class WatchdogsConfig:
    """When the service alerts about itself and its sources. 0 switches one off."""

    silent_after_seconds: float = key.seconds(
        900, "A cluster that had events, or is expected, has sent none for so long."
    )
    refused_per_minute: float = key.number(30, "Requests of intake were refused at this rate.")
    malformed_per_minute: float = key.number(60, "Items that are no event came at this rate.")
    clock_skew_seconds: float = key.seconds(
        300, "A cluster's events are ahead of this machine's clock by so much."
    )
    disk_free_percent: float = key.number(
        10, "Less than this of the disk that holds the data is free.", most=100, unit="percent"
    )
    disk_free_bytes: int = key.size(GIB, "Less than this of the disk that holds the data is free.")
    failed_runs: int = key.whole(3, "So many runs of a rule in a row have failed.", most=10_000)
    capped_runs: int = key.whole(6, "So many runs of a rule in a row met its cap.", most=10_000)
    late_seconds: float = key.seconds(300, "Runs begin so much later than they are due.")
    sink_seconds: float = key.seconds(900, "A sink has not taken anything for so long.")
    repeat_seconds: float = key.seconds(
        6 * 3600, "While its cause lasts, a warning is repeated after it.", least=60
    )


@frozen
class CertificateConfig:
    """A client certificate that stands for a caller."""

    common_name: str = key.text("", "The subject's common name (CN).", is_required=True)
    role: str = key.choice(
        None,
        ("viewer", "analyst", "engineer", "admin", "intake"),
        "What the caller may do.",
        is_required=True,
    )
    clusters: tuple[str, ...] = key.texts(
        "Clusters the caller may read or post events of; none given means all.", check=_no_cluster
    )


@frozen
class AccessConfig:
    """Who may do what, beside the keys that `barrelman keys` makes."""

    anonymous: bool = key.switch(
        True,
        "While no key has been made and the service listens on loopback only, intake and reads "
        "need none.",
    )
    failures_per_minute: float = key.number(
        30, "An address that fails to log in at this rate has to wait; 0 sets no limit."
    )
    certificates: tuple[CertificateConfig, ...] = key.tables(
        CertificateConfig, "Client certificates, signed by `server.client_ca`, that are known."
    )


@frozen
class LogConfig:
    """What the service says on stderr."""

    level: str = key.choice(
        "info", ("debug", "info", "warning", "error"), "The least that is said."
    )
    format: str = key.choice("text", ("text", "json"), "Lines for people, or a JSON object a line.")


@frozen
class Config:
    """All of it. `sinks` are tables of plain values, checked here only for names and types."""

    server: ServerConfig = field(default_factory=ServerConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    intake: IntakeConfig = field(default_factory=IntakeConfig)
    rules: RulesConfig = field(default_factory=RulesConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    watchdogs: WatchdogsConfig = field(default_factory=WatchdogsConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    log: LogConfig = field(default_factory=LogConfig)
    sinks: tuple[Mapping[str, object], ...] = ()


SECTIONS: Final[Mapping[str, type]] = {
    "server": ServerConfig,
    "store": StoreConfig,
    "intake": IntakeConfig,
    "rules": RulesConfig,
    "detection": DetectionConfig,
    "watchdogs": WatchdogsConfig,
    "access": AccessConfig,
    "log": LogConfig,
}
