"""What makes an event that event, and an alert that alert: never a path or an offset."""

from __future__ import annotations

from typing import Any, Final

from barrelman.engine.decode import dumps
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT
from barrelman.records.paths import Path, Scalar

_NAMES: Final = ("auditID", "stage")
_ACT: Final = ("requestReceivedTimestamp", "verb", "requestURI")
_IN_DOCUMENT: Final = {name: Path(f"{AUDIT}.{name}") for name in (*_NAMES, *_ACT)}
_CLUSTER: Final = Path("orchestrator.cluster.name")


def event_id(event: Event) -> str:
    """`<auditID>/<stage>`, or a hash of the event's content where either is absent.

    Equal for the same event read raw and read back from Elasticsearch. No stage has a slash in
    its name: a forged one that has could be cut elsewhere, and counts as absent.
    """
    audit_id, stage = (_text(event, name) for name in _NAMES)
    if audit_id and stage and "/" not in stage:
        return f"{audit_id}/{stage}"
    import hashlib  # late, with OpenSSL behind it: only a match needs it

    return hashlib.sha256(dumps(event.body, sort_keys=True)).hexdigest()


def cluster_name(event: Event) -> str:
    """The cluster an event comes from: where who sent it is bound to one, that; else a document's
    own word, else the user's, else ""."""
    if event.is_document and not event.is_bound:
        for value in _CLUSTER.values(event.body):
            return str(value)
    return event.cluster or ""


def alert_id(event: Event, rule_id: str, *, act: int | None = None) -> str:
    """Hex SHA-256 of cluster, event and rule, each told apart by its length; and of the act's mark
    where the id is to be another one for each act."""
    import hashlib

    cluster = cluster_name(event).encode("utf-8", "surrogatepass")
    name = event_id(event).encode("utf-8", "surrogatepass")
    rule = rule_id.encode("utf-8", "surrogatepass")
    parts = len(cluster), cluster, len(name), name, len(rule), rule
    text = b"%d:%s%d:%s%d:%s" % parts
    return hashlib.sha256(text if act is None else b"%s %d" % (text, act)).hexdigest()


def id_of_other_act(identity: str, mark: int) -> str:
    """The id of an alert about an act under the Audit-ID of an earlier, other one."""
    import hashlib

    return hashlib.sha256(f"{identity} {mark}".encode()).hexdigest()


def block_id(identity: str, number: int) -> str:
    """The id of the alert on one event of a sequence, whose own alert is `identity`."""
    import hashlib

    return hashlib.sha256(f"{identity} block {number}".encode()).hexdigest()


def act_mark(event: Event) -> int:
    """A mark of 63 bits of the request itself, equal for two deliveries of one event.

    A client may choose its Audit-ID: two acts under one id differ in time, verb or URI. What it
    could choose those for must not be a hash that can be steered, as a checksum can.
    """
    return int.from_bytes(act_digest(event)[:8]) >> 1


def act_digest(event: Event) -> bytes:
    from _blake2 import blake2b  # without OpenSSL, which `hashlib` loads

    text = "\0".join(_text(event, name) for name in _ACT)
    digest: bytes = blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
    return digest


def _text(event: Event, name: str) -> str:
    value: Any
    if event.is_document:
        found: list[Scalar] = _IN_DOCUMENT[name].values(event.body)
        value = found[0] if found else None
    else:
        value = event.body.get(name)
    return value if isinstance(value, str) else ""
