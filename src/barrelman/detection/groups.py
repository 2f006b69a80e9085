"""By which values repeats are folded: read from events, put in order, and given a name.

Behind the values of a rule's fields stands the cluster: what happens in one cluster is no repeat of
what happened in another, whose people may not even see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, product
from typing import Any, TypeAlias

from barrelman.detection.finding import Finding, GroupValue, SequenceOf, ThresholdResult
from barrelman.detection.identity import cluster_name
from barrelman.detection.match import unpack
from barrelman.engine.reading import FieldReader, field_reader
from barrelman.engine.terms import composite_order, term_reader
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue
from barrelman.records.paths import Scalar
from barrelman.rules.rule import Rule

Groups: TypeAlias = tuple[GroupValue, ...]
"""The values of the fields in turn, and the cluster: "" for that of no name, or of several."""
Key: TypeAlias = tuple[Scalar | None, ...]
"""One value of each field, and the cluster: the key of a bucket. None where the field is
missing."""
KeyOrder: TypeAlias = tuple[tuple[Any, ...], ...]

OrderOf: TypeAlias = Callable[[Key], KeyOrder]


def group_reader(rule: Rule, *, catalogue: Catalogue) -> Callable[[Event], Groups] | None:
    """Reads the values of the fields that a rule suppresses by. None for a rule that does not, or
    whose groups are of what it finds, not of an event.

    A list of one value is that value, as in Elasticsearch; longer lists are put in order, so that
    two events whose lists hold the same are of one group.
    """
    suppression = rule.alert_suppression
    if suppression is None or not suppression.group_by:
        return None
    is_aggregated = rule.type in ("query", "saved_query")
    read_field = term_reader if is_aggregated else field_reader
    readers = [read_field(name, catalogue=catalogue) for name in suppression.group_by]
    return lambda event: (
        *[_group_value(read(event)) for read in readers],
        cluster_name(event),
    )


def groups_of(names: Sequence[str], *, catalogue: Catalogue) -> Callable[[Finding], Groups | None]:
    """Reads the values by which a finding is folded: the terms of a threshold, the values that
    were read of a single event.

    Of a sequence it is what all of its events have in common (of lists, the values that stand in
    all): that is what the shell of their alerts shows. A field in which they differ is missing.
    """
    readers = [field_reader(name, catalogue=catalogue) for name in names]

    def read(finding: Finding) -> Groups | None:
        if isinstance(finding.about, ThresholdResult):
            values = [value for _, value in finding.about.terms]
            return *values, finding.about.cluster
        if not isinstance(finding.about, SequenceOf):
            return finding.groups
        events = [unpack(payload)[1] for payload in finding.payloads]
        clusters = {cluster_name(event) for event in events}
        cluster = clusters.pop() if len(clusters) == 1 else ""
        return *[_shared(reader, events) for reader in readers], cluster

    return read


def lacks_value(groups: Groups | None) -> bool:
    return groups is None or None in groups


def keys_of(groups: Groups, *, most: int, order: OrderOf) -> list[Key]:
    """The buckets that an event falls into: the first ones in that order.

    Arrays fan out; a value that stands twice in one counts once.
    """
    key = single_key(groups)
    if key is not None:
        return [key]
    columns: list[Sequence[Scalar | None]] = [
        value if isinstance(value, tuple) else (value,) for value in groups
    ]
    firsts = [column[0] if column else None for column in columns]
    for number, column in enumerate(columns):
        # Field by field: keys that differ in one are in the order of its values.
        by_value = {
            value: order((*firsts[:number], value, *firsts[number + 1 :])) for value in column
        }
        columns[number] = sorted(by_value, key=by_value.__getitem__) or (None,)
    # Lazily: three long lists make more combinations than memory holds.
    return list(islice(product(*columns), most))


def single_key(groups: Groups) -> Key | None:
    """The one bucket of an event without lists; None where there is a list."""
    for value in groups:
        if type(value) is tuple:
            return None
    return groups  # type: ignore[return-value]  # no list is in it


def count_keys(groups: Groups) -> int:
    """How many buckets an event falls into."""
    number = 1
    for value in groups:
        number *= len(set(value)) or 1 if type(value) is tuple else 1
    return number


def key_order(names: Sequence[str], *, catalogue: Catalogue) -> OrderOf:
    """The order of buckets, field by field: missing ones first, then as `composite_order`. Of
    those that are alike in all fields, it is that of their clusters."""
    orders = [composite_order((name,), catalogue=catalogue) for name in names]

    def order(key: Key) -> KeyOrder:
        values = [
            () if value is None else by((value,)) for value, by in zip(key, orders, strict=False)
        ]
        return *values, key[len(orders) :]

    return order


def written(value: GroupValue) -> str:
    """A value so that no two different ones are written alike; 1 and 1.0 are not different."""
    if value is None:
        return "-"
    if type(value) is tuple:
        return f"[{''.join(map(written, value))}]"
    if type(value) is float and value.is_integer():
        value = int(value)
    text = str(value)
    return f"{type(value).__name__[0]}{len(text)}:{text}"


def digest(*parts: str) -> str:
    """Hex SHA-256 of texts, each told apart by its length."""
    import hashlib  # late, with OpenSSL behind it

    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def instance_id(groups: Groups, *, rule_id: str) -> str:
    """The name of all that one rule folds together."""
    return digest("group", rule_id, *map(written, groups))


def _group_value(values: list[Scalar]) -> GroupValue:
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(sorted(values, key=_in_order))


def _shared(read: FieldReader, events: Sequence[Event]) -> GroupValue:
    first, *others = (read(event) for event in events)
    for values in others:
        there = {(type(value), value) for value in values}  # to Python, True is 1
        first = [value for value in first if (type(value), value) in there]
    return _group_value(first)


def _in_order(value: Scalar) -> tuple[bool, Scalar]:
    return type(value) is str, value
