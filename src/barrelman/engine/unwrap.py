"""A decoded value -> the events in it, by its shape.

In this order: an audit event, a list of anything, an Elastic search hit or document, a Cloud
Logging entry, an AKS record, a record of a log shipper that carries any of these as text or
object, a document with a timestamp. What remains is foreign.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from barrelman.engine.decode import JSON_SPACE, DecodeError, loads
from barrelman.engine.problem import Findings, Found, Fragment, Problem, excerpt_of
from barrelman.engine.scanner import LIST_KEYS, forbids_list
from barrelman.records.event import Event, JsonObject
from barrelman.records.frozen import frozen
from barrelman.records.paths import open_lists

Answer: TypeAlias = list[Found]

_MAX_WRAPPERS = 16
_MAX_PREFIX_BYTES = 1024
_MAX_PREFIX_TRIES = 4
_DOCKER_PART_BYTES = 16_384

_LIST_HOLDERS = LIST_KEYS | {"hits"}
_AUDIT_GROUP = "audit.k8s.io/"
_VERB_COMPANIONS = (
    "stage",
    "requestURI",
    "objectRef",
    "user",
    "requestObject",
    "level",
    "stageTimestamp",
    "requestReceivedTimestamp",
)
CARRIER_KEYS: Final = (
    "log",
    "message",
    "msg",
    "MESSAGE",
    "body",
    "event",
    "audit",
    "record",
    "data",
    "payload",
    "line",
    "_raw",
    "original",
    "event.original",
    "log_processed",
    "jsonPayload",
    "textPayload",
    "log_s",
    "result",
    "stringValue",
)
"""Where log shippers put the line they carry, the likeliest first."""

# Without any of these a line holds no audit event, and no search hit: `auditID`, `audit.k8s.io`,
# `kubernetes.audit`; `_source`, `_id`, `_index`; or letters spelled as escapes.
_MARKS: Final = re.compile(rb'audit|"_|\\u00')

_find_object = re.compile(rb'\{[ \t]*+["}]').search
_find_objects = re.compile(rb'\{[ \t]*+["}]').finditer
_match_cri = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2})"
    rb" (stdout|stderr) ([FP])(?::[^ ]*)?(?: |$)"
).match
_SNAKE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def unwrap(value: Any, *, raw: bytes | None = None) -> Answer:
    """The events and problems in one decoded value; `raw` is the value's JSON, on one line.

    Lines and the cluster's name are left for the caller to set.
    """
    return _unwrap(value, raw, _MAX_WRAPPERS)


def unwrap_element(value: Any, *, raw: bytes | None = None) -> Answer:
    """As `unwrap`, of one element of a list: it may be text that holds an event."""
    return _unwrap_element(value, raw, _MAX_WRAPPERS)


def unwrap_any(value: Any, *, raw: bytes | None = None) -> Answer:
    """As `unwrap`, where any object may be a document: one without audit events is one itself.

    Here only what an API server marks as its own is an audit event: a document may have a `verb`
    and a `user`, too.
    """
    if raw is not None and type(value) is dict and not _MARKS.search(raw):
        return [Event(value, True, raw)]
    answer = _unwrap_element(value, raw, _MAX_WRAPPERS)
    if any(map(_is_marked, answer)):
        return answer
    if isinstance(value, dict):
        return [Event(value, True, raw)]
    if isinstance(value, list):
        findings = Findings()
        for element in open_lists(value):
            findings.extend(unwrap_any(element))
        return findings.found
    return answer


def _is_marked(found: Found) -> bool:
    if not isinstance(found, Event):
        return False
    if found.index is not None or found.document_id is not None:
        return True  # a search hit: the document is in it
    if found.is_document:
        return has_audit_fields(found.body)
    return bool(found.body.get("apiVersion")) or _is_flat_event(found.body)


@frozen
class Prefixed:
    """A JSON object that ends a line after other text."""

    offset: int
    answer: Answer
    is_behind_torn: bool
    """An object seems to begin before it, and does not end."""


def find_prefixed(text: bytes) -> Prefixed | None:
    """The object that ends a line after other text; of several readings one with an event."""
    first = _find_object(text)
    best: Prefixed | None = None
    for offset, value in _prefixed_objects(text):
        answer = _unwrap(value, text[offset:], _MAX_WRAPPERS)
        is_behind_torn = first is not None and first.start() < offset
        if _is_good(answer):
            return Prefixed(offset, answer, is_behind_torn)
        best = best or Prefixed(offset, answer, is_behind_torn)
    return best


def split_cri(line: bytes) -> Fragment | None:
    """The text in a line as container runtimes write it (`TIME stdout F TEXT`)."""
    match = _match_cri(line)
    if match is None:
        return None
    return Fragment("cri " + match[1].decode(), line[match.end() :], match[2] == b"P")


def is_raw_event(body: JsonObject) -> bool:
    """Whether an object is an audit event as the API server writes it."""
    kind, version = body.get("kind"), body.get("apiVersion")
    if isinstance(version, str) and version:
        return kind == "Event" and version.startswith(_AUDIT_GROUP)
    if isinstance(kind, str) and kind not in ("", "Event"):
        return False
    if "@timestamp" in body:
        return _is_flat_event(body)
    if body.get("auditID") is not None:
        return True
    return "verb" in body and any(key in body for key in _VERB_COMPANIONS)


def _is_flat_event(body: JsonObject) -> bool:
    """Whether a document is nothing but an audit event that a shipper wrote its own time into.

    A document may have a `verb` and a `user` of its own: only an API server writes these three.
    """
    return all(body.get(key) is not None for key in ("auditID", "stage", "verb"))


def has_audit_fields(body: JsonObject) -> bool:
    """Whether an object is an Elastic document of an audit event, its keys dotted or nested."""
    for key, value in body.items():
        if not key.startswith("kubernetes"):
            continue
        if key.startswith("kubernetes.audit."):
            return True
        if not isinstance(value, dict):
            continue
        if key == "kubernetes.audit" and value:
            return True
        if key == "kubernetes" and any(
            inner.startswith("audit.") or (inner == "audit" and isinstance(held, dict) and held)
            for inner, held in value.items()
        ):
            return True
    return False


def _is_good(answer: Answer) -> bool:
    return any(
        isinstance(found, Event) or (isinstance(found, Problem) and found.kind == "gke")
        for found in answer
    )


def _foreign(body: object, reason: str) -> Answer:
    return [Problem("foreign", reason, 0, excerpt_of(body))]


def _not_object(value: object) -> Answer:
    names = {str: "a string", bool: "a boolean", type(None): "null", list: "an array"}
    name = names.get(type(value), "a number")
    return [Problem("malformed", f"{name} where an object should be", 0, excerpt_of(value))]


def _unwrap(value: Any, raw: bytes | None, levels: int) -> Answer:
    if isinstance(value, dict):
        return _unwrap_object(value, raw, levels)
    if isinstance(value, list):
        return _unwrap_list(value, levels)
    return _not_object(value)


def _unwrap_object(body: JsonObject, raw: bytes | None, levels: int) -> Answer:
    if is_raw_event(body):
        return [Event(body, False, raw)]
    if levels == 0:
        return _foreign(body, "too many wrappers")
    if not (_LIST_HOLDERS.isdisjoint(body) or any(map(forbids_list, body))):
        answer = _unwrap_known_lists(body, levels)
        if answer is not None:
            return answer
    answer = _unwrap_hit(body, levels)
    if answer is not None:
        return answer
    if has_audit_fields(body):
        return [Event(body, True, raw)]
    if _is_cloud_logging(body) and "jsonPayload" not in body:
        return [Problem("gke", "a GKE audit log entry", 0, excerpt_of(body))]
    if isinstance(body.get("kind"), str) and isinstance(body.get("apiVersion"), str):
        return _foreign(body, f"a Kubernetes {body['kind'][:40]} object, not an audit event")
    answer = _unwrap_aks(body, levels)
    if answer is not None:
        return answer
    return _unwrap_carrier(body, raw, levels)


def _unwrap_list(values: list[Any], levels: int) -> Answer:
    if levels == 0:
        return _foreign(values, "too many wrappers")
    labels = sum(not isinstance(value, dict) for value in values)
    if 0 < labels < 3 and labels == len(values) - 1 and isinstance(values[-1], dict):
        return _unwrap(values[-1], None, levels - 1)  # Fluentd: [time, record]
    findings = Findings()
    for value in values:
        findings.extend(_unwrap_element(value, None, levels - 1))
    return findings.found


def _unwrap_element(value: Any, raw: bytes | None, levels: int) -> Answer:
    if isinstance(value, str):
        answer = _unwrap_text(value, levels)
        return _not_object(value) if answer is None else answer
    return _unwrap(value, raw, levels)


def _unwrap_known_lists(body: JsonObject, levels: int) -> Answer | None:
    """EventList, AKS `records`, CloudWatch `logEvents` and `events`, `hits` of a search."""
    findings: Findings | None = None
    for key, value in body.items():
        if key == "hits" and isinstance(value, dict):
            value = value.get("hits")
        elif key not in LIST_KEYS:
            continue
        if isinstance(value, list):
            findings = findings or Findings()
            for element in value:
                findings.extend(_unwrap_element(element, None, levels - 1))
    if findings is None and body.get("kind") == "EventList" and body.get("items") is None:
        version = body.get("apiVersion")
        if isinstance(version, str) and version.startswith(_AUDIT_GROUP):
            return []  # Go writes an empty list as null
    return None if findings is None else findings.found


def _unwrap_hit(body: JsonObject, levels: int) -> Answer | None:
    """A search hit: its `_source`, or its `fields` where that is left out."""
    source = body.get("_source")
    if not isinstance(source, dict):
        source = body.get("fields")
        if not isinstance(source, dict) or not ("_id" in body or "_index" in body):
            return None
    answer: Answer = []
    # What stands in an index is a document, even with a `verb` and a `user` of its own.
    if not is_raw_event(source) or _is_flat_event(source) or "apiVersion" in source:
        answer = _unwrap_object(source, None, levels - 1)
    if not _is_good(answer):
        answer = [Event(source, True)]
    index, document_id = body.get("_index"), body.get("_id")
    for found in answer:
        if isinstance(found, Event):
            found.index = index if isinstance(index, str) else None
            found.document_id = document_id if isinstance(document_id, str) else None
    return answer


def _is_cloud_logging(body: JsonObject) -> bool:
    if "insertId" not in body:
        return False
    name = body.get("logName")
    return "protoPayload" in body or (isinstance(name, str) and "cloudaudit.googleapis.com" in name)


def _unwrap_aks(body: JsonObject, levels: int) -> Answer | None:
    """An Azure diagnostic record: the event is `properties.log`, text or object."""
    properties = body.get("properties")
    if isinstance(properties, str) and properties.lstrip()[:1] == "{":
        try:
            properties = loads(properties)
        except DecodeError:
            return None
    if not isinstance(properties, dict) or "log" not in properties:
        return None
    log = properties["log"]
    if isinstance(log, str):
        answer = _unwrap_text(log, levels - 1)
        if answer is None:
            answer = _judge_text(log)
    elif isinstance(log, dict):
        answer = _unwrap_object(log, None, levels - 1)
    else:
        return _foreign(body, "an AKS record without an audit event")
    metadata = {
        _snake(key): value
        for part in (body, properties)
        for key, value in part.items()
        if key not in ("time", "log") and not isinstance(value, dict | list)
    }
    time = body.get("time")
    for found in answer:
        if isinstance(found, Event):
            found.aks_metadata = metadata
            found.wrapper_time = time if isinstance(time, str) else None
    return answer


def _snake(key: str) -> str:
    """`operationName`, `ServiceBuild`, `containerID` -> `operation_name`, `service_build`, …"""
    return _SNAKE.sub("_", key).lower()


def _unwrap_carrier(body: JsonObject, raw: bytes | None, levels: int) -> Answer:
    """A log shipper's record; a record with a timestamp and no event is a document itself."""
    is_document = "@timestamp" in body
    for key in CARRIER_KEYS:
        held = body.get(key)
        answer: Answer | None = None
        if isinstance(held, str):
            answer = _unwrap_text(held, levels - 1)
        elif isinstance(held, dict | list) and held:
            answer = _unwrap(held, None, levels - 1)
        if answer and _is_good(answer) and (not is_document or _beats_document(answer)):
            return answer
    if is_document:
        return [Event(body, True, raw)]
    text = _carried_text(body)
    if text is not None:
        return [text]
    if _is_cloud_logging(body):
        return [Problem("gke", "a GKE audit log entry", 0, excerpt_of(body))]
    return _foreign(body, "a JSON object, not an audit event")


def _beats_document(answer: Answer) -> bool:
    return not any(
        isinstance(found, Event) and found.is_document and not has_audit_fields(found.body)
        for found in answer
    )


def _carried_text(body: JsonObject) -> Fragment | None:
    """The line in a record that is no event by itself: it may be a part of one."""
    for key in CARRIER_KEYS:
        held = body.get(key)
        if isinstance(held, str) and held.strip():
            break
    else:
        return None
    mark = body.get("logtag", body.get("_p"))
    if mark in ("P", "F"):
        is_partial = mark == "P"
    else:
        is_docker = key == "log" and body.keys() <= {"log", "stream", "time", "attrs"}
        is_partial = not held.endswith("\n") and (
            (is_docker and "stream" in body) or len(held) == _DOCKER_PART_BYTES
        )
    text = held.encode(errors="replace").rstrip(b"\r\n")
    return Fragment(f"{key} {_stream_of(body)}", text, is_partial)


def _stream_of(body: JsonObject) -> str:
    names = [body.get("stream"), body.get("container_id"), body.get("file")]
    pod = body.get("kubernetes")
    if isinstance(pod, dict):
        names += [pod.get("pod_name"), pod.get("container_name")]
    return " ".join(name for name in names if isinstance(name, str))


def _unwrap_text(text: str, levels: int) -> Answer | None:
    """The events in a text that is JSON, or ends in a JSON object; None where it is neither."""
    if levels <= 0 or "{" not in text:
        return None
    data = text.encode(errors="replace").strip(JSON_SPACE)
    if data[:1] in (b"{", b"["):
        try:
            value = loads(data)
        except DecodeError:
            if data[:1] == b"{":
                return None
        else:
            return _unwrap(value, None if b"\n" in data else data, levels)
    best: Answer | None = None
    for offset, value in _prefixed_objects(data):
        answer = _unwrap(value, None if b"\n" in data else data[offset:], levels)
        if _is_good(answer):
            return answer
        best = best or answer
    return best


def _judge_text(text: str) -> Answer:
    """A whole text of a closed envelope that holds no event: broken JSON, or other talk."""
    if text.lstrip()[:2] in ('{"', "{}"):
        try:
            loads(text.encode(errors="replace"))
        except DecodeError as error:
            return [Problem("malformed", error.reason, 0, excerpt_of(text))]
    return _foreign(text, "text, not an audit event")


def _prefixed_objects(text: bytes) -> Iterator[tuple[int, Any]]:
    """The objects that begin soon behind other text and end with it, decoded as asked for."""
    for tries, match in enumerate(_find_objects(text)):
        if tries == _MAX_PREFIX_TRIES or match.start() > _MAX_PREFIX_BYTES:
            return
        if match.start() == 0:
            continue
        try:
            value = loads(memoryview(text)[match.start() :])
        except DecodeError:
            continue
        yield match.start(), value
