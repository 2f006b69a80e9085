"""Indicators of compromise against events: which indicators an event meets, by looking them up.

A mapping has groups of entries, each a field of the event and a field of the indicator. An event
meets an indicator when all entries of some group hold between the two: the values are equal as
a query on the event's field would have it or, for a negated entry, are not. Every group is a table
from the values of all its entries to indicators, so that a hundred thousand of them cost an event
what one costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from barrelman.engine.compile import Predicate, compile_query
from barrelman.engine.equals import Equals, Key
from barrelman.engine.places import Scope, Shape, read_below
from barrelman.engine.reading import FieldReader, field_reader
from barrelman.engine.values import keyword_text
from barrelman.query.ast import MATCH_ALL, Exists, Is, Node, Not, Text
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import Catalogue, FieldType
from barrelman.records.frozen import frozen
from barrelman.records.paths import Path, Scalar, open_lists
from barrelman.rules.filters import all_of, any_of
from barrelman.rules.rule import ThreatMappingEntry

Mapping: TypeAlias = Sequence[Sequence[ThreatMappingEntry]]
Table: TypeAlias = dict[Key, Any]
"""Of each entry the key of a value, to such a table of the next entry; behind the last one, what
the negated entries must not hold, to the numbers of the indicators."""
Refused: TypeAlias = tuple[frozenset[Key], ...]

MOST_ENRICHMENTS: Final = 200
INDICATOR_PATH: Final = "threat.indicator"
_FEED_NAME: Final = Path("threat.feed.name")
_UNMAPPED: Final = Catalogue()
# Above so many values a condition on them spares less work than it makes.
_MOST_LITERALS: Final = 200
_LOOKED_UP: Final = frozenset(
    (None, FieldType.KEYWORD, FieldType.IP, FieldType.WILDCARD, FieldType.CONSTANT_KEYWORD)
)


@frozen
class Indicator:
    """An indicator's document, and the index and id that alerts name it by."""

    index: str
    id: str
    document: JsonObject


class Hit(NamedTuple):
    """Indicators that an event meets, and the values of the group's entries that met them."""

    entries: tuple[_Side, ...]
    values: tuple[Scalar, ...]
    numbers: list[int]


class Indicators:
    """The indicators of one rule. Frozen but for what it remembers of the latest run's time."""

    def __init__(
        self,
        indicators: Sequence[Indicator],
        columns: Sequence[_Column],
        groups: Sequence[_Group],
        predicate: Predicate | None,
        indicator_path: str,
    ) -> None:
        self._indicators = indicators
        self._columns = columns
        self._groups = groups
        self._predicate = predicate
        self._path = Path(indicator_path)
        self._latest: tuple[int, dict[int, bool]] = 0, {}
        self.node = _condition(groups)
        """What an event must meet in order to meet an indicator, at whatever time."""

    def __len__(self) -> int:
        return len(self._indicators)

    @property
    def uses_now(self) -> bool:
        """Whether the answer may differ between two runs: indicators age, exceptions expire."""
        return self._predicate is not None

    def may_match(self, event: Event) -> bool:
        """Whether the event meets an indicator at some time."""
        return next(self._hits(event), None) is not None

    def matches(self, event: Event, now_ms: int) -> bool:
        """Whether the event meets an indicator that counts at that run's time."""
        if self._predicate is None:
            return self.may_match(event)
        return any(
            self._is_active(number, now_ms) for hit in self._hits(event) for number in hit.numbers
        )

    def enrichments(self, event: Event, now_ms: int) -> list[JsonObject]:
        """What an alert says of the indicators its event meets, in `threat.enrichments`.

        One for each indicator and entry, in the order of groups, values and indicators; at most
        `MOST_ENRICHMENTS`.
        """
        made: dict[tuple[int, str, str], JsonObject] = {}
        for hit in self._hits(event):
            for number in hit.numbers:
                if not self._is_active(number, now_ms):
                    continue
                for side, value in zip(hit.entries, hit.values, strict=True):
                    key = number, side.field, side.path.name
                    if key not in made:
                        made[key] = self._enrichment(number, side, value)
                    if len(made) == MOST_ENRICHMENTS:
                        return list(made.values())
        return list(made.values())

    def _hits(self, event: Event) -> Iterator[Hit]:
        keys = _EventKeys(self._columns, event)
        for group in self._groups:
            yield from group.hits(keys)

    def _is_active(self, number: int, now_ms: int) -> bool:
        if self._predicate is None:
            return True
        latest = self._latest  # one of its own for each thread that asks at another time
        if latest[0] != now_ms:
            latest = self._latest = now_ms, {}
        found = latest[1].get(number)
        if found is None:
            event = _event_of(self._indicators[number])
            found = latest[1][number] = self._predicate.matches(event, now_ms=now_ms)
        return found

    def _enrichment(self, number: int, side: _Side, value: Scalar) -> JsonObject:
        indicator = self._indicators[number]
        name = next(iter(_FEED_NAME.values(indicator.document)), None)
        return {
            "indicator": self._object(indicator.document),
            "feed": {} if name in (None, "") else {"name": name},
            "matched": {
                "atomic": value,
                "field": side.field,
                "id": indicator.id,
                "index": indicator.index,
                "type": "indicator_match_rule",
            },
        }

    def _object(self, document: JsonObject) -> JsonObject:
        """What stands at the indicator's path: of an array the first; {} where it is no object."""
        for node in open_lists(self._path.nodes(document)):
            return node if type(node) is dict else {}
        return next(iter(self._path.implied(document)), {})


def compile_indicators(
    indicators: Iterable[Indicator],
    mapping: Mapping,
    *,
    catalogue: Catalogue,
    query: Node = MATCH_ALL,
    exceptions: Node | None = None,
    indicator_path: str = INDICATOR_PATH,
    indicator_catalogue: Catalogue = _UNMAPPED,
) -> Indicators:
    """The indicators that meet `query` and no exception, made ready to be looked up.

    `catalogue` types the fields of events, `indicator_catalogue` those that `query` asks for.
    Where that depends on the run's time it is asked for each run, of what events meet.
    """
    node = query if exceptions is None else all_of([query, Not(exceptions)])
    predicate = compile_query(node, indicator_catalogue)
    columns = _Columns(catalogue)
    groups = [_Group(entries, columns) for entries in mapping]
    # Of one entry a group, all values go into one search, in which an indicator has its first.
    takes_first = all(
        len(entries) == 1 and catalogue.type_of(entry.field) in _LOOKED_UP
        for entries in mapping
        for entry in entries
    )
    kept: list[Indicator] = []
    for indicator in indicators:
        if not predicate.uses_now and not predicate.matches(_event_of(indicator), now_ms=0):
            continue
        added = [group.add(len(kept), indicator.document, takes_first) for group in groups]
        if any(added):
            kept.append(indicator)
    used = predicate if predicate.uses_now else None
    return Indicators(kept, columns.columns, groups, used, indicator_path)


class _Column:
    """A field of events, shared by the entries that name it."""

    __slots__ = ("equals", "number", "read")

    def __init__(self, number: int, read: FieldReader, kind: FieldType | None) -> None:
        self.number = number
        self.read = read
        self.equals = Equals(kind)


class _Columns:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._by_field: dict[str, _Column] = {}

    @property
    def columns(self) -> Sequence[_Column]:
        return tuple(self._by_field.values())

    def of(self, name: str) -> _Column:
        found = self._by_field.get(name)
        if found is None:
            read = _reader(name, self._catalogue)
            found = _Column(len(self._by_field), read, self._catalogue.type_of(name))
            self._by_field[name] = found
        return found


class _EventKeys:
    """The keys of an event's values, field by field, made when they are asked for."""

    __slots__ = ("_columns", "_event", "_made")

    def __init__(self, columns: Sequence[_Column], event: Event) -> None:
        self._columns = columns
        self._event = event
        self._made: list[dict[Key, Scalar] | None] = [None] * len(columns)

    def of(self, column: _Column) -> dict[Key, Scalar]:
        """The keys, each with the value it is of."""
        made = self._made[column.number]
        if made is None:
            made = {}
            for value in column.read(self._event):
                for key in column.equals.keys_of(value):
                    made.setdefault(key, value)
            self._made[column.number] = made
        return made


class _Side:
    """An entry: the event's field, and where the indicator's value stands."""

    __slots__ = ("column", "field", "path", "texts")

    def __init__(self, entry: ThreatMappingEntry, column: _Column) -> None:
        self.field = entry.field
        self.column = column
        self.path = Path(entry.value)
        self.texts: dict[str, None] | None = {}
        """Every value that an indicator has here; None where there are too many."""

    def text(self, document: JsonObject, *, takes_first: bool) -> str | None:
        """The indicator's value: only one that stands alone counts, or the first."""
        values = self.path.values(document)
        if not values or (len(values) > 1 and not takes_first):
            return None
        return keyword_text(values[0])

    def note(self, text: str) -> None:
        if self.texts is not None:
            self.texts[text] = None
            if len(self.texts) > _MOST_LITERALS:
                self.texts = None


class _Group:
    """Entries that must all hold of the same indicator."""

    __slots__ = ("entries", "negated", "table")

    def __init__(self, entries: Sequence[ThreatMappingEntry], columns: _Columns) -> None:
        sides = [(entry.negate, _Side(entry, columns.of(entry.field))) for entry in entries]
        self.entries = tuple(side for negate, side in sides if not negate)
        self.negated = tuple(side for negate, side in sides if negate)
        self.table: Table = {}

    def add(self, number: int, document: JsonObject, takes_first: bool) -> bool:
        """Whether the indicator has what this group compares."""
        texts = [side.text(document, takes_first=takes_first) for side in self.entries]
        if not texts or None in texts:
            return False
        found = [str(text) for text in texts]
        keys = [
            side.column.equals.literal_keys(text)
            for side, text in zip(self.entries, found, strict=True)
        ]
        if not all(keys):
            return False
        for side, text in zip(self.entries, found, strict=True):
            side.note(text)
        refused = tuple(self._refused(side, document) for side in self.negated)
        tables = [self.table]
        for each in keys:
            tables = [table.setdefault(key, {}) for table in tables for key in each]
        for table in tables:
            table.setdefault(refused, []).append(number)
        return True

    def _refused(self, side: _Side, document: JsonObject) -> frozenset[Key]:
        """What the event must not hold: nothing, where the indicator has no value that counts."""
        text = side.text(document, takes_first=False)
        return frozenset() if text is None else frozenset(side.column.equals.literal_keys(text))

    def hits(self, keys: _EventKeys) -> Iterator[Hit]:
        found: Iterable[tuple[tuple[Scalar, ...], Table]] = [((), self.table)]
        for side in self.entries:
            found = _step(found, keys.of(side.column))
        for values, table in found:
            for refused, numbers in table.items():
                if self._allows(refused, keys):
                    yield Hit(self.entries, values, numbers)

    def _allows(self, refused: Any, keys: _EventKeys) -> bool:
        return all(
            each.isdisjoint(keys.of(side.column))
            for side, each in zip(self.negated, refused, strict=True)
        )


def _step(
    found: Iterable[tuple[tuple[Scalar, ...], Table]], keys: dict[Key, Scalar]
) -> Iterator[tuple[tuple[Scalar, ...], Table]]:
    """The tables behind those so far that the values of the next entry lead to."""
    for values, table in found:
        for key, value in keys.items():
            below = table.get(key)
            if below is not None:
                yield (*values, value), below


def _condition(groups: Sequence[_Group]) -> Node:
    """Sound and cheap: the sieve can look for the values where they are few."""
    return any_of(
        all_of(_entry_condition(side) for side in group.entries) for group in groups if group.table
    )


def _entry_condition(side: _Side) -> Node:
    name = Text(side.field)
    if side.texts is None:
        return Exists(name)
    return any_of(Is(name, Text(text)) for text in side.texts)


def _reader(name: str, catalogue: Catalogue) -> FieldReader:
    if catalogue.explicit_type_of(name) is not FieldType.FLATTENED:
        return field_reader(name, catalogue=catalogue)
    raw, document = (
        read_below(name, Scope(shape, catalogue=catalogue)) for shape in (Shape.RAW, Shape.DOCUMENT)
    )
    return lambda event: (document if event.is_document else raw)(event)


def _event_of(indicator: Indicator) -> Event:
    return Event(
        indicator.document, is_document=True, index=indicator.index, document_id=indicator.id
    )
