"""An event to the row that a store keeps, and a stored line back to its event."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from barrelman.detection.identity import act_digest, event_id
from barrelman.engine.decode import dumps, loads
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import event_time_us
from barrelman.records.rows import Row

_DECISION: Final = "authorization.k8s.io/decision"
_INT32: Final = 1 << 31
_OF_OBJECT: Final = ("resource", "subresource", "apiGroup", "namespace", "name")
_NO_PARTS: Final[JsonObject] = {}
_ODD: Final[JsonObject] = {"": "not an object"}
_WRAPPED: Final = ("is_document", "aks_metadata", "wrapper_time", "index", "document_id")


def row_of(event: Event, *, cluster: str) -> Row:
    """The row of an event that came for `cluster`.

    Its key holds cluster, auditID and stage, and the request's time, verb and URI: a client may
    choose its Audit-ID, and must not have a later act taken for a second delivery of an older one.
    """
    body = event.body
    line = event.raw
    if line is None or b"\n" in line:
        line = dumps(body)
    named = f"{len(cluster)}:{cluster}{event_id(event)}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(act_digest(event) + named, digest_size=12).digest()
    key = (int.from_bytes(digest[:8]) >> 1, int.from_bytes(digest[8:]))
    wrapper = _wrapper_of(event)
    if event.is_document:
        return _document_row(event, line, wrapper, key)
    user = _part(body, "user")
    ref = _part(body, "objectRef")
    notes = _part(body, "annotations")
    texts = [
        *(body.get(name) for name in ("auditID", "stage", "level", "verb")),
        user.get("username"),
        *(ref.get(name) for name in _OF_OBJECT),
        notes.get(_DECISION),
    ]
    is_plain = wrapper is None and not (user is _ODD or ref is _ODD or notes is _ODD)
    if not all(map(_is_text, texts)):
        texts = [text if _is_text(text) else None for text in texts]
        is_plain = False
    *told, decision = (text or None for text in texts)  # "" is no value
    answer = _part(body, "responseStatus")
    code = answer.get("code")
    if answer is _ODD:
        is_plain = False
    if code is not None and (type(code) is not int or not -_INT32 <= code < _INT32):
        code, is_plain = None, False
    addresses = body.get("sourceIPs") or []
    if type(addresses) is not list or not all(type(each) is str for each in addresses):
        addresses, is_plain = [], False
    elif is_plain and any("ffff" in each.lower() for each in addresses):
        is_plain = False  # an IPv4 address may be spelled as an IPv6 one
    # A name may also be spelled as one dotted key, in what clients or shippers write.
    if is_plain and any("." in name for part in (body, user, ref, answer) for name in part):
        is_plain = False
    time_us = event_time_us(event)
    ips = tuple(addresses)
    return Row(line, wrapper, key, time_us, is_plain, *told, ips, code, decision)  # type: ignore[arg-type,call-arg]  # ten texts


def _part(body: JsonObject, name: str) -> JsonObject:
    found = body.get(name)
    if type(found) is dict:
        return found
    return _NO_PARTS if found is None else _ODD


def _is_text(value: object) -> bool:
    return type(value) is str or value is None


def _document_row(event: Event, line: bytes, wrapper: bytes | None, key: tuple[int, int]) -> Row:
    """Nothing is told of a document: its fields may be spelled in many ways."""
    nothing = [None] * 10
    return Row(line, wrapper, key, event_time_us(event), False, *nothing, (), None, None)  # type: ignore[call-arg,arg-type]  # ten texts


def _wrapper_of(event: Event) -> bytes | None:
    if not (event.is_document or event.aks_metadata or event.wrapper_time):
        return None
    held: JsonObject = {}
    for name in _WRAPPED:
        value: Any = getattr(event, name)
        if value:
            held[name] = value
    return dumps(held)


def stored_event(
    line: bytes, wrapper: bytes | None, *, cluster: str, arrival_us: int, number: int = 0
) -> Event:
    """The event of a stored line. `number` takes the place of a line's number in a file."""
    event = Event(loads(line), False, line, number, cluster)
    event.ingested_us = arrival_us
    event.is_bound = True
    if wrapper is not None:
        for name, value in loads(wrapper).items():
            setattr(event, name, value)
    return event


def describe(line: bytes, wrapper: bytes | None, cluster: str) -> Row:
    """The row of a line that was stored before."""
    event = stored_event(line, wrapper, cluster=cluster, arrival_us=0)
    return row_of(event, cluster=cluster)
