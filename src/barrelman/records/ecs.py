"""The Elastic document of an event: what an alert carries and what rare queries walk.

Fields are otherwise read straight from the raw event; both must agree, and a test says so.
"""

from __future__ import annotations

from typing import Any

from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import ECS_FIELDS, Reader, rename_annotation
from barrelman.records.paths import Path, Scalar, drop_empty, has_value, open_lists

_CLUSTER = Path("orchestrator.cluster.name")
_CLUSTER_KEYS = ("orchestrator.cluster",)
_LISTS = frozenset({"related.user", "related.ip", "source.ip", "client.ip"})


def ecs_document(event: Event) -> JsonObject:
    """The event's document, made once; its parts may be the event's own: change nothing in it.

    A raw event is placed under `kubernetes.audit` as the data stream's pipeline does it; a
    document is taken as it came, with the cluster's name added where it has none.
    """
    if event.document is None:
        event.document = _as_it_came(event) if event.is_document else _from_raw(event)
    return event.document


def _as_it_came(event: Event) -> JsonObject:
    if event.is_bound and event.cluster:
        return _with_cluster(_without_cluster(event.body), event.cluster)
    if event.cluster and not has_value(_CLUSTER.nodes(event.body), empty_text=True):
        return _with_cluster(event.body, event.cluster)
    return event.body


def _from_raw(event: Event) -> JsonObject:
    document: JsonObject = {}
    read_before: dict[Reader, list[Scalar]] = {}  # three fields are the addresses, each parsed
    for name, read in ECS_FIELDS.items():
        values = read_before.get(read)
        if values is None:
            values = read_before[read] = read(event)
        if values:
            single = len(values) == 1 and name not in _LISTS
            _put(document, name, values[0] if single else values)
    document["kubernetes"] = {"audit": _audit_object(event)}
    return document


def _audit_object(event: Event) -> JsonObject:
    audit = dict(event.body)
    for name in ("requestObject", "responseObject"):
        body = audit.get(name)
        if type(body) is dict and "metadata" in body:
            audit[name] = {key: value for key, value in body.items() if key != "metadata"}
        elif type(body) is list:
            audit[name] = [_without_metadata(item) for item in open_lists(body)]
    annotations = audit.get("annotations")
    if type(annotations) is dict:
        audit["annotations"] = _renamed(annotations)
    elif type(annotations) is list:
        audit["annotations"] = [
            _renamed(item) if type(item) is dict else item for item in open_lists(annotations)
        ]
    if event.aks_metadata:
        audit["aks_metadata"] = event.aks_metadata
    dropped: JsonObject | None = drop_empty(audit)
    return dropped or {}


def _without_metadata(item: Any) -> Any:
    if type(item) is dict and "metadata" in item:
        return {key: value for key, value in item.items() if key != "metadata"}
    return item


def _renamed(annotations: JsonObject) -> JsonObject:
    renamed: JsonObject = {}
    for key, value in annotations.items():
        new_key = rename_annotation(key)
        if new_key in renamed:  # a.b and a_b become one field with both values
            renamed[new_key] = [renamed[new_key], value]
        else:
            renamed[new_key] = value
    return renamed


def _without_cluster(body: JsonObject) -> JsonObject:
    """A document without any name of its cluster, however that is spelled."""
    kept = {key: value for key, value in body.items() if not key.startswith(_CLUSTER_KEYS)}
    orchestrator = kept.get("orchestrator")
    if type(orchestrator) is dict:
        kept["orchestrator"] = {
            key: value
            for key, value in orchestrator.items()
            if key != "cluster" and not key.startswith("cluster.")
        }
    elif orchestrator is not None:
        del kept["orchestrator"]
    return kept


def _with_cluster(body: JsonObject, cluster: str) -> JsonObject:
    orchestrator = body.get("orchestrator")
    if type(orchestrator) is not dict:
        return body | {"orchestrator.cluster.name": cluster}
    return body | {"orchestrator": orchestrator | {"cluster.name": cluster}}


def _put(document: JsonObject, name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        document = document.setdefault(parent, {})
    document[last] = value
