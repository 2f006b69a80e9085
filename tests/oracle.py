"""What a query means, written to be read and not to be fast: the judge of the engine.

An event becomes the Elastic document its data stream would hold; the document becomes a list of
(field, value) pairs; a query is asked of those pairs. Nothing is compiled, planned or shared
with the engine except the tree, the catalogue of types and the reading of dates and versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeAlias

from expressionoracle import is_met
from textoracle import are_near, is_within, matches_regexp

from barrelman.errors import TimeError
from barrelman.query.ast import (
    And,
    Before,
    Boolean,
    Compare,
    Exists,
    FieldName,
    Fuzzy,
    Holds,
    Is,
    MatchAll,
    Near,
    Nested,
    Node,
    Not,
    Null,
    Number,
    Or,
    Pattern,
    Range,
    RegExp,
    Suits,
    Text,
    Value,
    Wild,
    Within,
)
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue, FieldType
from barrelman.records.times import format_instant, parse_date_math, parse_instant_us
from barrelman.records.versions import version_key

Scalar: TypeAlias = str | int | float | bool
Json: TypeAlias = Any
TEXT = FieldType.TEXT
WHOLE = (FieldType.KEYWORD, FieldType.FLATTENED, FieldType.VERSION)
TEXTUAL = (*WHOLE, FieldType.TEXT)


# --- from an event to (field, value) pairs --------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A document, and whether it was made from a raw audit event (where "" is nothing)."""

    document: dict[str, Json]
    is_raw: bool

    def pairs(self, value: Json = None, prefix: str = "") -> list[tuple[str, Scalar]]:
        """Every leaf below a value, by its dotted name. Null is no value."""
        found: list[tuple[str, Scalar]] = []
        waiting = [(prefix, self.document if value is None else value)]
        while waiting:
            name, part = waiting.pop()
            if isinstance(part, dict):
                waiting += [(f"{name}.{key}" if name else key, part[key]) for key in part]
            elif isinstance(part, list):
                waiting += [(name, element) for element in part]
            elif part is not None and not (self.is_raw and part == ""):
                found.append((name, part))
        return found

    def objects(self, path: str, value: Json, prefix: str) -> list[dict[str, Json]]:
        """The objects whose dotted name is `path`, below a value that stands at `prefix`."""
        found = []
        waiting = [(prefix, value)]
        while waiting:
            name, part = waiting.pop()
            if isinstance(part, list):
                waiting += [(name, element) for element in part]
            elif isinstance(part, dict):
                if name == path:
                    found.append(part)
                waiting += [(f"{name}.{key}" if name else key, part[key]) for key in part]
                hidden = _implied(part, name, path)
                if hidden:
                    found.append(hidden)
        if self.is_raw:  # empty objects were dropped
            found = [part for part in found if self.pairs(part, path)]
        return found


def _implied(part: dict[str, Json], name: str, path: str) -> dict[str, Json]:
    """The object at `path` that is only there in dotted keys: of `{"b.c": 1}`, b."""
    inside = f"{name}." if name else ""
    return {
        f"{inside}{key}"[len(path) + 1 :]: part[key]
        for key in part
        if f"{inside}{key}".startswith(f"{path}.") and len(inside) <= len(path)
    }


def _is_at(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def source_of(event: Event) -> Source:
    if event.is_document:
        document = event.body
        cluster = "orchestrator.cluster.name"
        if event.cluster and not any(
            _is_at(name, cluster) for name, _ in Source(document, is_raw=False).pairs()
        ):
            document = document | {cluster: event.cluster}
        return Source(document, is_raw=False)
    return Source(document_of(event), is_raw=True)


def document_of(event: Event) -> dict[str, Json]:
    """The Elastic document of a raw audit event, before empty values and metadata go."""
    raw = event.body
    audit = dict(raw)
    if "annotations" in audit:
        audit["annotations"] = _renamed(audit["annotations"])
    for name in ("requestObject", "responseObject"):
        if name in audit:
            audit[name] = _without_metadata(audit[name])
    if event.aks_metadata:
        audit["aks_metadata"] = event.aks_metadata
    user_names = _leaves(raw, "user.username")
    user_ids = _leaves(raw, "user.uid")
    addresses = _leaves(raw, "sourceIPs")
    if any(address_number(address) is None for address in addresses):
        addresses = []
    decisions = _leaves({"annotations": audit.get("annotations")}, _DECISION)
    images = _leaves(audit, "requestObject.spec.containers.image")
    document: dict[str, Json] = {
        "kubernetes": {"audit": audit},
        "event": {
            "kind": "event",
            "action": _leaves(raw, "verb"),
            "dataset": "kubernetes.audit_logs",
            "outcome": [
                "success" if decision == "allow" else "failure"
                for decision in decisions
                if decision in ("allow", "forbid")
            ],
        },
        "data_stream": {
            "type": "logs",
            "dataset": "kubernetes.audit_logs",
            "namespace": "default",
        },
        "user": {"name": user_names, "id": user_ids},
        "user_agent": {"original": _leaves(raw, "userAgent")},
        "source": {"ip": addresses},
        "client": {"ip": addresses},
        "related": {"user": user_ids + user_names, "ip": addresses},
        "orchestrator": {
            "type": "kubernetes",
            "api_version": _leaves(raw, "apiVersion"),
            "namespace": _leaves(raw, "objectRef.namespace"),
            "resource": {
                "type": _leaves(raw, "objectRef.resource"),
                "name": _leaves(raw, "objectRef.name"),
            },
            "cluster": {"name": event.cluster},
        },
        "container": {"image": {"name": images}},
    }
    time = _time_of(event)
    if time is not None:
        document["@timestamp"] = time
    return document


_DECISION = "annotations.authorization_k8s_io/decision"


def _renamed(annotations: Json) -> Json:
    """Dots in annotation keys become underscores; keys that meet keep all their values."""
    if isinstance(annotations, list):
        return [_renamed(element) for element in annotations]
    if not isinstance(annotations, dict):
        return annotations
    renamed: dict[str, list[Json]] = {}
    for key, value in annotations.items():
        renamed.setdefault(key.replace(".", "_"), []).append(value)
    return renamed


def _without_metadata(part: Json) -> Json:
    if isinstance(part, list):
        return [_without_metadata(element) for element in part]
    if isinstance(part, dict):
        return {key: value for key, value in part.items() if key != "metadata"}
    return part


def _leaves(raw: dict[str, Json], name: str) -> list[Scalar]:
    """The values of a field of the raw event that are not empty."""
    return [value for found, value in Source(raw, is_raw=True).pairs() if found == name]


def _time_of(event: Event) -> str | None:
    metadata = event.body.get("metadata")
    for value in (
        event.wrapper_time,
        event.body.get("stageTimestamp"),
        event.body.get("requestReceivedTimestamp"),
        event.body.get("timestamp"),
        metadata.get("creationTimestamp") if isinstance(metadata, dict) else None,
    ):
        instant = parse_instant_us(value)
        if instant is not None:
            return format_instant(instant // 1000)
    return None


# --- from a query to an answer --------------------------------------------------------------


def oracle_matches(node: Node, event: Event, *, catalogue: Catalogue, now_ms: int) -> bool:
    """Whether an event meets a query."""
    source = source_of(event)
    return _Judge(source, catalogue, now_ms).holds(node, source.document, "")


def oracle_values(event: Event) -> dict[str, list[Scalar]]:
    """All fields of an event with their values."""
    fields: dict[str, list[Scalar]] = {}
    for name, value in source_of(event).pairs():
        fields.setdefault(name, []).append(value)
    return fields


@dataclass(frozen=True)
class _Judge:
    source: Source
    catalogue: Catalogue
    now_ms: int

    def holds(self, node: Node, scope: Json, prefix: str) -> bool:
        """Whether a node is true of the object `scope`, which stands at `prefix`."""
        match node:
            case MatchAll():
                return True
            case And(children):
                return all(self.holds(child, scope, prefix) for child in children)
            case Or(children):
                return any(self.holds(child, scope, prefix) for child in children)
            case Not(child):
                return not self.holds(child, scope, prefix)
            case Before(epoch_ms):
                return self.now_ms < epoch_ms
            case Nested(path, child):
                assert isinstance(path, Text)
                name = f"{prefix}.{path.value}" if prefix else path.value
                return any(
                    self.holds(child, element, name)
                    for element in self.source.objects(name, scope, prefix)
                )
            case Exists(field):
                return self.exists(field, scope, prefix)
            case Is(field, Pattern() as value) if value.tokens == (Wild.RUN,):
                if field is None or (isinstance(field, Pattern) and field.tokens == (Wild.RUN,)):
                    return True
                return self.exists(field, scope, prefix)
            case Is(field, value, True) | Is(field, Number() as value):
                return any(
                    self.is_exactly(kind, found, value)
                    for kind, found in self.values(field, scope, prefix)
                )
            case Is(field, value):
                return any(
                    self.equals(kind, found, value, free=field is None)
                    for kind, found in self.values(field, scope, prefix)
                )
            case Within(field, bounds):
                return any(
                    all(self.lies(kind, found, op, _spelled(value)) for op, value in bounds)
                    for kind, found in self.values(field, scope, prefix)
                )
            case Range(field, op, value, True) | Range(field, op, Number() as value):
                return any(
                    self.lies_exactly(kind, found, op, value)
                    for kind, found in self.values(field, scope, prefix)
                )
            case Range(field, op, Text() | Pattern() as value):
                literal = _spelled(value)
                return any(
                    self.lies(kind, found, op, literal)
                    for kind, found in self.values(field, scope, prefix)
                )
            case Compare() | Suits() | Holds():
                return is_met(node, self, scope, prefix)
            case _:
                raise AssertionError(node)

    def values(
        self, field: FieldName | None, scope: Json, prefix: str
    ) -> Iterator[tuple[FieldType | None, Scalar]]:
        """The values a condition on `field` looks at, each with the type of its field."""
        for name, value in self.source.pairs(scope, prefix):
            relative = name[len(prefix) + 1 :] if prefix else name
            kind = self.type_of(name)
            if field is None:
                yield kind, value
            elif isinstance(field, Pattern):
                if matches_pattern(field.tokens, relative):
                    yield kind, value
            elif relative == field.value:
                if not self.is_inside(name, prefix, FieldType.NESTED):
                    yield kind, value
            elif relative.startswith(f"{field.value}."):
                asked = f"{prefix}.{field.value}" if prefix else field.value
                if self.catalogue.explicit_type_of(asked) is FieldType.FLATTENED:
                    yield FieldType.KEYWORD, value

    def type_of(self, name: str) -> FieldType | None:
        if self.is_inside(name, "", FieldType.FLATTENED):
            return FieldType.KEYWORD
        return self.catalogue.type_of(name)

    def is_inside(self, name: str, prefix: str, kind: FieldType) -> bool:
        """Whether an object around the field, below `prefix`, has that type."""
        parts = name.split(".")
        parents = [".".join(parts[:count]) for count in range(1, len(parts))]
        return any(
            self.catalogue.explicit_type_of(parent) is kind
            for parent in parents
            if len(parent) > len(prefix)
        )

    def exists(self, field: FieldName, scope: Json, prefix: str) -> bool:
        asked = ""
        if isinstance(field, Text):
            asked = f"{prefix}.{field.value}" if prefix else field.value
            if self.is_inside(f"{asked}.", prefix, FieldType.NESTED):
                return False
        for name, value in self.source.pairs(scope, prefix):
            relative = name[len(prefix) + 1 :] if prefix else name
            has_words = self.type_of(name) is not TEXT or bool(words(_text(value)))
            if isinstance(field, Pattern):
                if has_words and matches_pattern(field.tokens, relative):
                    return True
            elif relative == field.value:
                if has_words:
                    return True
            elif relative.startswith(f"{field.value}.") and self.type_of(asked) is not TEXT:
                return True  # an object with a value in it
        return False

    def equals(self, kind: FieldType | None, found: Scalar, value: Value, *, free: bool) -> bool:
        if isinstance(value, Null) or kind is FieldType.NESTED:
            return False
        if isinstance(value, Pattern):
            if free:  # Elasticsearch reads it as a query_string, whose spaces mean "or"
                return any(
                    self.fits_clause(kind, found, clause) for clause in _clauses(value.tokens)
                )
            return self.fits_pattern(kind, found, value)
        if isinstance(value, RegExp | Fuzzy | Near):
            return self.nearly(kind, found, value)
        if isinstance(value, Boolean):
            literal, quoted = ("true" if value.value else "false"), False
        elif isinstance(value, Text):
            literal, quoted = value.value, value.quoted
        else:
            raise AssertionError(value)
        if kind in WHOLE:
            return _text(found) == literal
        if kind is FieldType.TEXT:
            return _text_matches(_text(found), literal, quoted=quoted)
        if kind is FieldType.BOOLEAN:
            wanted = {"true": True, "false": False, "": False}
            return literal in wanted and _as_boolean(found) is wanted[literal]
        if isinstance(value, Boolean) and kind is not None:
            return False  # true is no number, date or address
        if kind in (FieldType.LONG, FieldType.DOUBLE):
            number, bound = _as_number(found, kind), number_in(literal)
            return number is not None and bound is not None and number == bound
        if kind is FieldType.DATE:
            return self.is_on(_as_date(found), literal)
        if kind is FieldType.IP:
            return _is_in_network(found, literal)
        return self.equals_by_value(found, literal)

    def is_exactly(self, kind: FieldType | None, found: Scalar, value: Value) -> bool:
        """EQL: a text is that text, a number that number, and a date or an address what it says."""
        if kind is FieldType.NESTED or isinstance(value, Null):
            return False
        if isinstance(value, Pattern):
            of_texts = FieldType.KEYWORD if kind is TEXT else kind
            return self.fits_pattern(of_texts, found, value)
        if kind is FieldType.BOOLEAN:
            return isinstance(value, Boolean) and _as_boolean(found) is value.value
        if isinstance(value, Number):
            number = self.number_at(kind, found)
            return number is not None and number == exact(value.value)
        if isinstance(value, Boolean):
            return kind in (None, *TEXTUAL) and found is value.value
        if not isinstance(value, Text):
            return self.nearly(FieldType.KEYWORD if kind is TEXT else kind, found, value)
        if kind is FieldType.DATE:
            return self.is_on(_as_date(found), value.value)
        if kind is FieldType.IP:
            return _is_in_network(found, value.value)
        return self.text_at(kind, found) == value.value

    def lies_exactly(
        self, kind: FieldType | None, found: Scalar, op: str, value: Text | Pattern | Number
    ) -> bool:
        if isinstance(value, Number):
            number = self.number_at(kind, found)
            return number is not None and _lies(number, op, exact(value.value))
        literal = _spelled(value)
        if kind is FieldType.DATE:
            return self.lies_in_time(_as_date(found), op, literal)
        if kind is FieldType.IP:
            return _lies_in_addresses(found, op, literal)
        if kind is FieldType.VERSION:
            return _lies(version_key(_text(found)), op, version_key(literal))
        text = self.text_at(kind, found)
        return text is not None and _lies(_bytes(text), op, _bytes(literal))

    def nearly(self, kind: FieldType | None, found: Scalar, value: Value) -> bool:
        """What is nearly so is asked of a whole value, on a text field of its words."""
        if isinstance(value, Near):
            if kind is TEXT:
                return are_near(words(value.text), words(_text(found)), value.slop)
            return self.equals(kind, found, Text(value.text, quoted=True), free=False)
        if kind is not TEXT and self.text_at(kind, found) is None:
            return False
        candidates = words(_text(found)) if kind is TEXT else [_text(found)]
        if isinstance(value, RegExp):
            return any(
                matches_regexp(value.source, text, ignore_case=value.ignore_case)
                for text in candidates
            )
        assert isinstance(value, Fuzzy)
        wanted = value.text.lower() if kind is TEXT else value.text
        return any(is_within(wanted, text, value.edits) for text in candidates)

    def truth_of(self, found: Scalar) -> bool | None:
        return _as_boolean(found)

    def address_of(self, found: Scalar) -> str | None:
        """An address as Elasticsearch writes it."""
        if address_number(found) is None:
            return None
        address = ip_address(str(found))
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return str(mapped or address)

    def is_in_network(self, found: Scalar, network: str) -> bool:
        return _is_in_network(found, network)

    def number_at(self, kind: FieldType | None, found: Scalar) -> Decimal | None:
        """The number that a value is for a field of that type."""
        if kind in (FieldType.LONG, FieldType.DOUBLE):
            return _as_number(found, kind)
        if kind is FieldType.DATE:
            instant = _as_date(found)
            return None if instant is None else Decimal(instant)
        return exact(found) if kind in (None, *TEXTUAL) and _is_number(found) else None

    def text_at(self, kind: FieldType | None, found: Scalar) -> str | None:
        """The text that a value is for a field of that type."""
        if kind in TEXTUAL:
            return _text(found)
        return found if kind is None and isinstance(found, str) else None

    def equals_by_value(self, found: Scalar, literal: str) -> bool:
        """A field without a type: each value has its own."""
        if isinstance(found, bool):
            return _text(found) == literal
        if isinstance(found, int | float):
            bound = number_in(literal)
            return bound is not None and exact(found) == bound
        return (
            found == literal
            or _is_in_network(found, literal)
            or (_looks_like_date(literal) and self.is_on(_date_by_looks(found), literal))
        )

    def fits_clause(
        self, kind: FieldType | None, found: Scalar, clause: tuple[str | Wild, ...]
    ) -> bool:
        if clause == (Wild.RUN,):
            return True
        if any(isinstance(token, Wild) for token in clause):
            return self.fits_pattern(kind, found, Pattern(clause))
        return self.equals(kind, found, Text("".join(map(str, clause))), free=True)

    def fits_pattern(self, kind: FieldType | None, found: Scalar, value: Pattern) -> bool:
        if kind in (None, *WHOLE):
            if kind is None and not isinstance(found, str):
                return False
            return matches_pattern(value.tokens, _text(found), ignore_case=value.ignore_case)
        if kind is FieldType.TEXT:
            return _text_fits(_text(found), value)
        return False

    def lies(self, kind: FieldType | None, found: Scalar, op: str, literal: str) -> bool:
        if kind in (FieldType.BOOLEAN, FieldType.NESTED):
            return False
        if kind in (FieldType.LONG, FieldType.DOUBLE):
            number, bound = _as_number(found, kind), number_in(literal)
            return number is not None and bound is not None and _lies(number, op, bound)
        if kind is FieldType.DATE:
            return self.lies_in_time(_as_date(found), op, literal)
        if kind is FieldType.IP:
            return _lies_in_addresses(found, op, literal)
        if kind is FieldType.VERSION:
            return _lies(version_key(_text(found)), op, version_key(literal))
        if kind is FieldType.TEXT:
            return any(_lies(word.encode(), op, _bytes(literal)) for word in words(_text(found)))
        if _is_number(found) and number_in(literal) is not None:
            return _lies(exact(found), op, number_in(literal))
        if kind is None:
            if not isinstance(found, str):
                return False  # a number or a boolean has no place among texts
            if _date_by_looks(found) is not None and _looks_like_date(literal):
                return self.lies_in_time(_date_by_looks(found), op, literal)
            if address_number(found) is not None and address_number(literal) is not None:
                return _lies_in_addresses(found, op, literal)
        return _lies(_bytes(_text(found)), op, _bytes(literal))

    def is_on(self, found: int | None, literal: str) -> bool:
        return self.lies_in_time(found, "gte", literal) and self.lies_in_time(found, "lte", literal)

    def lies_in_time(self, found: int | None, op: str, literal: str) -> bool:
        try:
            bound = parse_date_math(literal).resolve_ms(self.now_ms, round_up=op in ("gt", "lte"))
        except TimeError:
            return False
        return found is not None and _lies(found, op, bound)


# --- single values --------------------------------------------------------------------------


def _text(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _spelled(value: Text | Pattern) -> str:
    if isinstance(value, Text):
        return value.value
    return "".join(part if isinstance(part, str) else part.value for part in value.tokens)


def _lies(found: Any, op: str, bound: Any) -> bool:
    if op == "gt":
        return bool(found > bound)
    if op == "gte":
        return bool(found >= bound)
    if op == "lt":
        return bool(found < bound)
    return bool(found <= bound)


def matches_pattern(
    tokens: tuple[str | Wild, ...], text: str, *, ignore_case: bool = False
) -> bool:
    """All the places where a match of the tokens so far can end; the whole text must be one."""
    if ignore_case:
        text = _lower(text)
        tokens = tuple(_lower(token) if isinstance(token, str) else token for token in tokens)
    ends = {0}
    for token in tokens:
        if not ends:
            return False
        if token is Wild.RUN:
            ends = set(range(min(ends), len(text) + 1))
        elif token is Wild.CHAR:
            ends = {end + 1 for end in ends if end < len(text)}
        else:
            assert isinstance(token, str)
            ends = {end + len(token) for end in ends if text.startswith(token, end)}
    return len(text) in ends


def _lower(text: str) -> str:
    """Elasticsearch ignores the case of ASCII letters only."""
    return "".join(char.lower() if char.isascii() else char for char in text)


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def exact(value: Scalar) -> Decimal:
    return Decimal(repr(value))


_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def number_in(text: str) -> Decimal | None:
    """A number as JSON has it: whole ones exactly, others as the nearest double."""
    if not _NUMBER.fullmatch(text):
        return None
    is_whole = text.lstrip("+-").isdigit()
    return Decimal(text) if is_whole else Decimal(repr(float(text)))


def _as_number(value: Scalar, kind: FieldType) -> Decimal | None:
    """Elasticsearch takes "80" for a number, and on a long field drops a value's fraction."""
    if isinstance(value, str):
        number = number_in(value)
    else:
        number = exact(value) if _is_number(value) else None
    if number is None or kind is not FieldType.LONG or number == int_part(number):
        return number
    return int_part(number)


def int_part(number: Decimal) -> Decimal | None:
    return number.to_integral_value(ROUND_DOWN) if number.is_finite() else None


def _as_boolean(value: Scalar) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False, "": False}.get(value) if isinstance(value, str) else None


def _as_date(value: Scalar) -> int | None:
    instant = parse_instant_us(value)
    return None if instant is None else instant // 1000


def _date_by_looks(value: Scalar) -> int | None:
    if isinstance(value, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        return _as_date(value)
    return None


def _looks_like_date(literal: str) -> bool:
    return re.match(r"[0-9]{4}-[0-9]{2}|now", literal) is not None


def address_number(value: Scalar) -> int | None:
    """An address as 128 bits; IPv4 as ::ffff:a.b.c.d, so that all are in one order."""
    if not isinstance(value, str) or "%" in value:
        return None
    try:
        address: IPv4Address | IPv6Address = ip_address(value)
    except ValueError:
        return None
    return int(address) + (0xFFFF << 32 if isinstance(address, IPv4Address) else 0)


def _is_in_network(found: Scalar, literal: str) -> bool:
    address = address_number(found)
    if address is None:
        return False
    base, slash, length = literal.partition("/")
    network = address_number(base)
    if network is None:
        return False
    if not slash:
        return address == network
    if not re.fullmatch("[0-9]{1,3}", length):
        return False
    bits = int(length)
    width = 128 if ":" in base else 32
    if bits > width:
        return False
    shift = width - bits
    return address >> shift == network >> shift


def _lies_in_addresses(found: Scalar, op: str, literal: str) -> bool:
    address, bound = address_number(found), address_number(literal)
    return address is not None and bound is not None and _lies(address, op, bound)


# --- text fields ----------------------------------------------------------------------------

_LETTER = r"[^\W\d_]"
# Letters join over `:` `.` `'`, digits over `.` `,` `;` `'`; `_` joins anything.
_WORD = re.compile(rf"(?:\w|(?<={_LETTER})[:.'](?={_LETTER})|(?<=\d)[.,;'](?=\d))+")


def words(text: str) -> list[str]:
    """The standard tokenizer, for the scripts that put spaces between words."""
    found = (match[0].lower() for match in _WORD.finditer(text))
    return [word for word in found if word.strip("_")]


def _text_matches(text: str, literal: str, *, quoted: bool) -> bool:
    there, wanted = words(text), words(literal)
    if not quoted:
        return any(word in there for word in wanted)
    starts = range(len(there) - len(wanted) + 1)
    return bool(wanted) and any(there[at : at + len(wanted)] == wanted for at in starts)


def _text_fits(text: str, pattern: Pattern) -> bool:
    """Spaces part a pattern into several, one of which must fit one word."""
    there = words(text)
    for clause in _clauses(pattern.tokens):
        if any(isinstance(token, Wild) for token in clause):
            lowered = tuple(part.lower() if isinstance(part, str) else part for part in clause)
            if any(matches_pattern(lowered, word) for word in there):
                return True
        elif any(word in there for word in words("".join(map(str, clause)))):
            return True
    return False


def _clauses(tokens: tuple[str | Wild, ...]) -> list[tuple[str | Wild, ...]]:
    clauses: list[list[str | Wild]] = [[]]
    for token in tokens:
        if isinstance(token, Wild):
            clauses[-1].append(token)
            continue
        for index, piece in enumerate(re.split(r"\s+", token)):
            if index:
                clauses.append([])
            if piece:
                clauses[-1].append(piece)
    return [tuple(clause) for clause in clauses if clause]
