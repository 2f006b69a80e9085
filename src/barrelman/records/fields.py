"""Field names: their types, and where each is found in a raw audit event.

Rules name fields as Elastic's `kubernetes.audit_logs` data stream spells them. Types follow what
rule authors assume (keyword nearly everywhere); places follow the stream's ingest pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, lru_cache
from typing import Final

from barrelman.records.addresses import parse_address
from barrelman.records.event import Event
from barrelman.records.frozen import frozen
from barrelman.records.paths import Path, Scalar
from barrelman.records.times import format_instant, parse_instant_us

AUDIT: Final = "kubernetes.audit"
AUDIT_DATASET: Final = "kubernetes.audit_logs"
TRUNCATED_ANNOTATION: Final = "audit.k8s.io/truncated"
"""Its value is "true" where the API server cut off an event's bodies."""
AUDIT_STREAM: Final = "logs-kubernetes.audit_logs-default"


class FieldType(Enum):
    """Elasticsearch mapping types that differ in how a value is compared."""

    KEYWORD = "keyword"
    TEXT = "text"
    BOOLEAN = "boolean"
    LONG = "long"
    DOUBLE = "double"
    DATE = "date"
    IP = "ip"
    FLATTENED = "flattened"
    NESTED = "nested"
    VERSION = "version"
    WILDCARD = "wildcard"
    CONSTANT_KEYWORD = "constant_keyword"


_COMPARED_AS: Final = {
    FieldType.WILDCARD: FieldType.KEYWORD,
    FieldType.CONSTANT_KEYWORD: FieldType.KEYWORD,
}


@frozen
class FieldPlace:
    """Where the values of a field come from that does not simply stand under its own name."""

    sources: tuple[str, ...]
    """Full names: of an alias its target, of a multi-field its parent."""
    null_value: Scalar | None = None
    """What an explicit null of a document stands for."""
    ignore_above: int | None = None
    """Longer texts are not indexed: they are no values."""
    constant: Scalar | None = None
    """The one value of every document, whatever it holds."""
    in_seconds: bool = False
    """Numbers are seconds since 1970, and not milliseconds."""


@dataclass(frozen=True, eq=False, repr=False)
class Catalogue:
    """Which type a field has. What it does not list has none, and is typed by its values.

    With `names` it is that of an index whose mapping is known: what the mapping lacks is either
    open to anything (typed by its values) or is in no document, as far as queries can see.
    """

    exact: Mapping[str, FieldType] = field(default_factory=dict)
    body_leaves: Mapping[str, FieldType] = field(default_factory=dict)
    """Last name of a field anywhere below requestObject or responseObject."""
    keyword_prefix: str | None = None
    """Every other field that begins so is a keyword."""
    by_value: frozenset[str] = frozenset()
    """Fields that are typed by their values in spite of the prefix."""
    names: frozenset[str] | None = None
    """Every field, multi-field, alias and object of a mapping; None without one."""
    objects: frozenset[str] = frozenset()
    """Those of `names` that are objects, nested ones among them."""
    open_objects: frozenset[str] = frozenset()
    """Objects ("" is the document) that may hold fields which the mapping does not name."""
    places: Mapping[str, FieldPlace] = field(default_factory=dict)

    def type_of(self, name: str) -> FieldType | None:
        """The type that says how the field's values are compared."""
        if self._flattened and name.startswith(self._flattened):
            return FieldType.FLATTENED
        found = self.explicit_type_of(name)
        if found is None:
            if self.keyword_prefix and name.startswith(self.keyword_prefix):
                return None if name in self.by_value else FieldType.KEYWORD
            return None
        return _COMPARED_AS.get(found, found)

    def knows(self, name: str) -> bool:
        """Whether the mapping has a field or an object of that name; without a mapping, True."""
        return self.names is None or name in self.names or name.startswith(self._flattened)

    def lacks(self, name: str) -> bool:
        """Whether no query can see such a field: the mapping has none, and takes none up."""
        if self.names is None or self.knows(name):
            return False
        parent = name
        while "." in parent:
            parent = parent.rpartition(".")[0]
            if parent in self.objects:
                return parent not in self.open_objects
            if parent in self.names:
                return True
        return "" not in self.open_objects

    def place_of(self, name: str) -> FieldPlace | None:
        """Where the field's values come from, if not from its own name."""
        if not self.places:
            return None
        found = self.places.get(name)
        if found is not None or not name.startswith(self._flattened):
            return found
        root = next(each for each in self._flattened if name.startswith(each))
        of_root = self.places.get(root[:-1])
        if of_root is None:
            return None
        key = name[len(root) :]
        return replace(of_root, sources=tuple(f"{source}.{key}" for source in of_root.sources))

    def exact_name(self, name: str) -> str | None:
        """The field whose values are compared whole where `name` is asked for: itself, or the
        keyword among the multi-fields of a text field. None where a text field has none."""
        if self.names is None or self.explicit_type_of(name) is not FieldType.TEXT:
            return name
        whole = (FieldType.KEYWORD, FieldType.WILDCARD)
        found = (each for each in self.places if self.exact.get(each) in whole)
        return next((each for each in found if each.rpartition(".")[0] == name), None)

    def fields_below(self, name: str) -> list[str]:
        """The mapped fields in an object, by name; objects are left out."""
        return [each for each in self._leaves if each.startswith(f"{name}.")]

    def nearest(self, name: str) -> str | None:
        """A mapped name that was probably meant; None where none is like it."""
        return _nearest(name, self.names or frozenset())

    @cached_property
    def _leaves(self) -> tuple[str, ...]:
        return tuple(sorted((self.names or frozenset()) - self.objects))

    def is_hidden(self, name: str, *, prefix: str = "") -> bool:
        """Whether only a nested query reaches the field: one within an object below `prefix`."""
        return any(
            len(parent) > len(prefix) and f"{name}.".startswith(parent) for parent in self._nested
        )

    @cached_property
    def _flattened(self) -> tuple[str, ...]:
        return self._beginnings(FieldType.FLATTENED)

    @cached_property
    def _nested(self) -> tuple[str, ...]:
        return self._beginnings(FieldType.NESTED)

    def _beginnings(self, kind: FieldType) -> tuple[str, ...]:
        return tuple(f"{name}." for name, found in self.exact.items() if found is kind)

    def explicit_type_of(self, name: str) -> FieldType | None:
        """The type of a field that is listed itself, not by its prefix."""
        found = self.exact.get(name)
        if found is None and self.body_leaves and name.startswith(_BODIES):
            found = self.body_leaves.get(name.rpartition(".")[2])
        return found


_BODIES: Final = (f"{AUDIT}.requestObject.", f"{AUDIT}.responseObject.")
_KEYWORDS: Final = (
    "event.kind",
    "event.action",
    "event.outcome",
    "event.dataset",
    "event.category",
    "event.type",
    "event.module",
    "data_stream.type",
    "data_stream.dataset",
    "data_stream.namespace",
    "user.name",
    "user.id",
    "user_agent.original",
    "orchestrator.type",
    "orchestrator.api_version",
    "orchestrator.resource.type",
    "orchestrator.resource.name",
    "orchestrator.namespace",
    "orchestrator.cluster.name",
    "orchestrator.cluster.id",
    "related.user",
    "container.image.name",
)

AUDIT_CATALOGUE: Final = Catalogue(
    exact={
        **dict.fromkeys(_KEYWORDS, FieldType.KEYWORD),
        **dict.fromkeys(("source.ip", "client.ip", "related.ip"), FieldType.IP),
        **dict.fromkeys(
            (
                "@timestamp",
                "event.ingested",
                "event.created",
                f"{AUDIT}.stageTimestamp",
                f"{AUDIT}.requestReceivedTimestamp",
            ),
            FieldType.DATE,
        ),
        f"{AUDIT}.responseStatus.code": FieldType.LONG,
        **dict.fromkeys(
            (f"{AUDIT}.verb", f"{AUDIT}.stage", f"{AUDIT}.level", f"{AUDIT}.auditID"),
            FieldType.KEYWORD,
        ),
    },
    body_leaves={
        **dict.fromkeys(
            (
                "hostNetwork",
                "hostPID",
                "hostIPC",
                "privileged",
                "allowPrivilegeEscalation",
                "runAsNonRoot",
            ),
            FieldType.BOOLEAN,
        ),
        "runAsUser": FieldType.LONG,
        "runAsGroup": FieldType.LONG,
    },
    keyword_prefix=f"{AUDIT}.",
    # Authors take it for a keyword; a rule that asks it for a network should still be answered.
    by_value=frozenset({f"{AUDIT}.sourceIPs"}),
)


# --- where a field stands in a raw event ---------------------------------------------------


def rename_annotation(key: str) -> str:
    """An annotation's key as the data stream spells it: dots become `_`, slashes stay."""
    return key.replace(".", "_")


@lru_cache(maxsize=4096)
def raw_path(name: str) -> Path:
    """The path in a raw event of a name below `kubernetes.audit.` (given without that).

    The pipeline removes `requestObject.metadata` and `responseObject.metadata`.
    """
    first, _, rest = name.partition(".")
    if first in ("requestObject", "responseObject") and rest:
        return Path(name, forbidden=(1, "metadata"))
    if first == "annotations" and rest:
        return Path(name, rename=(1, rename_annotation))
    return Path(name)


_VERB = Path("verb")
_USERNAME = Path("user.username")
_UID = Path("user.uid")
_USER_AGENT = Path("userAgent")
_API_VERSION = Path("apiVersion")
_SOURCE_IPS = Path("sourceIPs")
_RESOURCE = Path("objectRef.resource")
_NAMESPACE = Path("objectRef.namespace")
_NAME = Path("objectRef.name")
_IMAGE = Path("requestObject.spec.containers.image")
_DECISION = raw_path("annotations.authorization_k8s_io/decision")
_OUTCOMES: Final = {"allow": "success", "forbid": "failure"}
# The webhook's first betas wrote `timestamp`; without one the object's own creation time serves.
_TIME_FIELDS: Final = ("stageTimestamp", "requestReceivedTimestamp", "timestamp")

Reader = Callable[[Event], list[Scalar]]


def read_single(path: Path, whole: Reader) -> Reader:
    """`whole`, but what is nearly always so is settled at once: one text or number, or none, in
    an object of the raw event or in the event itself."""
    names = path.name.split(".")
    if len(names) > 2:
        return whole
    parent, key, dotted = names[0], names[-1], path.name

    def read_member(target: Event) -> list[Scalar]:
        value = target.body.get(key)
        if value.__class__ is str:
            return [value] if value else []
        if value is None:
            return []
        return [value] if value.__class__ is int else whole(target)

    def read_inner(target: Event) -> list[Scalar]:
        body = target.body
        node = body.get(parent)
        if node.__class__ is dict and dotted not in body:
            value = node.get(key)
            if value.__class__ is str:
                return [value] if value else []
            if value is None:
                return []
            if value.__class__ is int:
                return [value]
        return whole(target)

    return read_member if len(names) == 1 else read_inner


def _present(path: Path) -> Reader:
    return read_single(
        path, lambda event: [value for value in path.values(event.body) if value != ""]
    )


def _constant(value: str) -> Reader:
    return lambda event: [value]


def _outcome(event: Event) -> list[Scalar]:
    decisions = (_OUTCOMES.get(str(value)) for value in _DECISION.values(event.body))
    return list(dict.fromkeys(outcome for outcome in decisions if outcome))


def _source_ip(event: Event) -> list[Scalar]:
    addresses = _present(_SOURCE_IPS)(event)
    # One that does not parse takes the whole field away, as the pipeline's convert does.
    return [] if any(parse_address(address) is None for address in addresses) else addresses


def _related_user(event: Event) -> list[Scalar]:
    values = [*_present(_UID)(event), *_present(_USERNAME)(event)]
    return list({(type(value), value): value for value in values}.values())  # True is not 1


def _cluster(event: Event) -> list[Scalar]:
    return [event.cluster] if event.cluster else []


def _ingested(event: Event) -> list[Scalar]:
    arrival = event.ingested_us
    return [] if arrival is None else [format_instant(arrival // 1000)]


def event_time_us(event: Event) -> int | None:
    """When the event happened, in microseconds since 1970; None where it does not say.

    stageTimestamp, else requestReceivedTimestamp, else what the first betas wrote; the wrapper's
    time for an AKS record; a document's own `@timestamp`.
    """
    if event.is_document:
        for value in TIMESTAMP.values(event.body):
            instant = parse_instant_us(value)
            if instant is not None:
                return instant
        return None
    if event.wrapper_time is not None:
        instant = parse_instant_us(event.wrapper_time)
        if instant is not None:
            return instant
    for name in _TIME_FIELDS:
        instant = parse_instant_us(event.body.get(name))
        if instant is not None:
            return instant
    metadata = event.body.get("metadata")
    if type(metadata) is dict:
        return parse_instant_us(metadata.get("creationTimestamp"))
    return None


def _timestamp(event: Event) -> list[Scalar]:
    instant = event_time_us(event)
    return [] if instant is None else [format_instant(instant // 1000)]


TIMESTAMP: Final = Path("@timestamp")

ECS_FIELDS: Final[Mapping[str, Reader]] = {
    "@timestamp": _timestamp,
    "event.kind": _constant("event"),
    "event.action": _present(_VERB),
    "event.dataset": _constant(AUDIT_DATASET),
    "event.outcome": _outcome,
    "event.ingested": _ingested,
    "data_stream.type": _constant("logs"),
    "data_stream.dataset": _constant(AUDIT_DATASET),
    "data_stream.namespace": _constant("default"),
    "user.name": _present(_USERNAME),
    "user.id": _present(_UID),
    "user_agent.original": _present(_USER_AGENT),
    "source.ip": _source_ip,
    "client.ip": _source_ip,
    "related.user": _related_user,
    "related.ip": _source_ip,
    "orchestrator.type": _constant("kubernetes"),
    "orchestrator.api_version": _present(_API_VERSION),
    "orchestrator.cluster.name": _cluster,
    "orchestrator.resource.type": _present(_RESOURCE),
    "orchestrator.resource.name": _present(_NAME),
    "orchestrator.namespace": _present(_NAMESPACE),
    "container.image.name": _present(_IMAGE),
}
"""What the data stream's pipeline adds beside `kubernetes.audit`, in the order it is written."""


def absence_in_raw_events(name: str) -> str | None:
    """Why a raw audit event can never have this field, or None where it can."""
    if name.startswith(f"{AUDIT}."):
        rest = name[len(AUDIT) + 1 :]
        for body in ("requestObject", "responseObject"):
            if rest == f"{body}.metadata" or rest.startswith(f"{body}.metadata."):
                return f"{AUDIT}.{body}.metadata is removed from audit events"
        if rest.startswith("annotations.") and "." in rest[len("annotations.") :]:
            spelled = rename_annotation(rest[len("annotations.") :])
            return f"annotation keys are spelled with _ for each dot: {AUDIT}.annotations.{spelled}"
        return None
    if name in (AUDIT, "kubernetes") or name in ECS_FIELDS:
        return None
    if any(known.startswith(f"{name}.") for known in ECS_FIELDS):
        return None
    return f"audit events have no field {name}"


_ENVELOPE: Final = frozenset(
    {
        "kind",
        "apiVersion",
        "metadata",
        "level",
        "timestamp",
        "auditID",
        "stage",
        "requestURI",
        "verb",
        "user",
        "impersonatedUser",
        "authenticationMetadata",
        "sourceIPs",
        "userAgent",
        "objectRef",
        "responseStatus",
        "requestObject",
        "responseObject",
        "requestReceivedTimestamp",
        "stageTimestamp",
        "annotations",
        "aks_metadata",
    }
)
_USER: Final = frozenset({"username", "uid", "groups", "extra"})
_CLOSED: Final[Mapping[str, frozenset[str]]] = {
    "user": _USER,
    "impersonatedUser": _USER,
    "objectRef": frozenset(
        {
            "resource",
            "namespace",
            "name",
            "uid",
            "apiGroup",
            "apiVersion",
            "resourceVersion",
            "subresource",
        }
    ),
    "responseStatus": frozenset(
        {"kind", "apiVersion", "metadata", "status", "message", "reason", "details", "code"}
    ),
}
"""The members that `audit.k8s.io` gives an event and its parts; bodies and annotations are open."""


def unknown_audit_field(name: str) -> str | None:
    """Why a field below `kubernetes.audit.` is none that the audit API knows, or None.

    A word of caution, not a proof: an event may hold what its API does not define.
    """
    if not name.startswith(f"{AUDIT}."):
        return None
    first, _, rest = name[len(AUDIT) + 1 :].partition(".")
    if first not in _ENVELOPE:
        return f"audit events have no field {AUDIT}.{first}{_meant(first, _ENVELOPE, '')}"
    second = rest.partition(".")[0]
    known = _CLOSED.get(first)
    if known is not None and second and second not in known:
        return f"audit events have no field {AUDIT}.{first}.{second}{_meant(second, known, first)}"
    return None


def _meant(name: str, known: frozenset[str], parent: str) -> str:
    near = _nearest(name, known)
    return f" (did you mean {parent}{'.' if parent else ''}{near}?)" if near else ""


def _nearest(name: str, known: frozenset[str]) -> str | None:
    from difflib import get_close_matches

    same = [each for each in known if each.casefold() == name.casefold()]
    near = same or get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    return near[0] if near else None
