"""What a search gives of each alert it finds: in which order, and how much of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from barrelman.engine.patterns import compile_pattern
from barrelman.errors import RequestError
from barrelman.query.ast import Text
from barrelman.records.fields import FieldType
from barrelman.records.frozen import frozen
from barrelman.records.paths import Path, Scalar, walk_leaves
from barrelman.records.times import parse_instant_us
from barrelman.rules.patterns import parse_wildcard
from barrelman.rules.schema import describe_value
from barrelman.service.dsl import ALERT_CATALOGUE, modern_name

JsonObject: TypeAlias = dict[str, Any]

MOST_HITS: Final = 10_000
"""How far a search reaches, what it steps over counted: beyond it goes `search_after`."""
_CONSTANTS: Final = ("_score", "_doc", "_shard_doc")


# --- order ---------------------------------------------------------------------------------


class _Backwards:
    """A value that is sorted from high to low."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Backwards) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Backwards) and bool(self.value == other.value)

    __hash__ = None  # type: ignore[assignment]  # only ever compared


@frozen
class SortKey:
    """One field that hits are ordered by."""

    field: str
    is_descending: bool
    missing_first: bool
    read: Callable[[object], list[Scalar]] | None
    """None: every hit has the same value."""
    is_date: bool

    def value(self, document: object) -> Any:
        """The value as a hit's `sort` gives it; None where the field has none."""
        if self.read is None:
            return None
        values = [_comparable(value, is_date=self.is_date) for value in self.read(document)]
        values = [value for value in values if value is not None]
        if not values:
            return None
        return (max if self.is_descending else min)(values, key=_rank)

    def key(self, value: Any) -> Any:
        """What to compare values by."""
        if value is None:
            return (0,) if self.missing_first else (2,)
        ranked = _rank(value)
        return (1, _Backwards(ranked) if self.is_descending else ranked)


def _rank(value: Any) -> tuple[int, Any]:
    """Values of different kinds have an order, too."""
    if isinstance(value, bool):
        return (0, int(value))
    return (1, value) if isinstance(value, int | float) else (2, str(value))


def _comparable(value: Any, *, is_date: bool) -> Any:
    if not is_date:
        return value
    instant = parse_instant_us(value)
    return None if instant is None else instant // 1000


def parse_sort(given: object) -> list[SortKey]:
    """The order that a request asks for. Raises RequestError."""
    listed = given if isinstance(given, list) else [] if given is None else [given]
    return [_parse_key(each) for each in listed]


def _parse_key(given: object) -> SortKey:
    options: Mapping[str, Any] = {}
    if isinstance(given, str):
        field, colon, order = given.partition(":")
        options = {"order": order} if colon else {}
    elif isinstance(given, dict) and len(given) == 1:
        [(field, stated)] = given.items()
        options = stated if isinstance(stated, dict) else {"order": stated}
    else:
        raise RequestError(f"sort: expected a field or {{field: order}}: {describe_value(given)}")
    left = set(options) - {"order", "missing", "unmapped_type", "format", "mode", "numeric_type"}
    if left:
        raise RequestError(f"sort.{field}: '{min(left)}' is not answered here")
    order = str(options.get("order", "desc" if field == "_score" else "asc")).lower()
    if order not in ("asc", "desc"):
        raise RequestError(f"sort.{field}: expected 'asc' or 'desc', found '{order}'")
    missing = options.get("missing", "_last")
    if missing not in ("_first", "_last"):
        raise RequestError(f"sort.{field}.missing: expected '_first' or '_last'")
    name = modern_name(field)
    read = None if field in _CONSTANTS else Path(name).values
    is_date = ALERT_CATALOGUE.type_of(name) is FieldType.DATE
    return SortKey(name, order == "desc", missing == "_first", read, is_date)


class Top:
    """The first few of many, by some keys; of equals, the earlier one.

    Holds at most twice as many as it gives, however many are offered.
    """

    def __init__(
        self,
        size: int,
        keys: Sequence[SortKey],
        *,
        after: Sequence[Any] = (),
        come_sorted: bool = False,
    ) -> None:
        """`come_sorted`: what is offered comes in the order of the keys."""
        self._size = size
        self._keys = keys
        self._come_sorted = come_sorted or not keys
        self._after = None
        if after:
            pairs = zip(keys, after, strict=True)
            self._after = [key.key(_after_value(key, value)) for key, value in pairs]
        self._held: list[tuple[list[Any], int, list[Any], Any]] = []
        self._count = 0

    def offer(self, document: object, item: Any) -> None:
        if not self._size:
            return
        self._count += 1
        if self._come_sorted:
            if len(self._held) < self._size:
                values = [key.value(document) for key in self._keys]
                self._held.append(([], self._count, values, item))
            return
        values = [key.value(document) for key in self._keys]
        order = [key.key(value) for key, value in zip(self._keys, values, strict=True)]
        if self._after is not None and not self._after < order:
            return
        self._held.append((order, self._count, values, item))
        if len(self._held) >= 2 * self._size + 64:
            self._cut()

    @property
    def is_settled(self) -> bool:
        """Whether nothing that comes later can be among the first."""
        return self._come_sorted and len(self._held) >= self._size

    def _cut(self) -> None:
        self._held.sort(key=lambda each: each[:2])
        del self._held[self._size :]

    def result(self) -> list[tuple[list[Any], Any]]:
        """The values it was sorted by and the item of each, in order."""
        self._cut()
        return [(values, item) for _, _, values, item in self._held]


def _after_value(key: SortKey, value: Any) -> Any:
    return _comparable(value, is_date=key.is_date) if isinstance(value, str) else value


# --- how much of a document ----------------------------------------------------------------


def parse_source(given: object) -> Callable[[JsonObject], JsonObject] | None:
    """What a request's `_source` leaves of a document; None where it wants none at all."""
    if given is None or given is True:
        return lambda document: document
    if given is False:
        return None
    includes: object = given
    excludes: object = ()
    if isinstance(given, dict):
        if set(given) - {"includes", "excludes", "include", "exclude"}:
            raise RequestError("_source: expected includes and excludes")
        includes = given.get("includes", given.get("include", ()))
        excludes = given.get("excludes", given.get("exclude", ()))
    wanted, unwanted = _patterns(includes), _patterns(excludes)
    return lambda document: _pick(document, wanted, unwanted, "")


def _patterns(given: object) -> list[Callable[[str], bool]]:
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise RequestError("_source: expected names of fields")
    tests = []
    for text in listed:
        name = modern_name(text)
        tests += [_test(name), _test(f"{name}.*")]
    return tests


def _test(name: str) -> Callable[[str], bool]:
    pattern = parse_wildcard(name, chars="*")
    return pattern.value.__eq__ if isinstance(pattern, Text) else compile_pattern(pattern)


def _pick(
    node: JsonObject,
    wanted: list[Callable[[str], bool]],
    unwanted: list[Callable[[str], bool]],
    prefix: str,
) -> JsonObject:
    picked: JsonObject = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if any(test(name) for test in unwanted):
            continue
        is_wanted = not wanted or any(test(name) for test in wanted)
        if isinstance(value, dict):
            inner = _pick(value, [] if is_wanted else wanted, unwanted, f"{name}.")
            if inner or (is_wanted and not value):
                picked[key] = inner
        elif is_wanted:
            picked[key] = value
        elif isinstance(value, list):
            inner_list = [
                found
                for each in value
                if isinstance(each, dict) and (found := _pick(each, wanted, unwanted, f"{name}."))
            ]
            if inner_list:
                picked[key] = inner_list
    return picked


def parse_fields(given: object) -> Callable[[JsonObject], JsonObject] | None:
    """What a request's `fields` adds to a hit: lists of values by name."""
    if given is None:
        return None
    if not isinstance(given, list):
        raise RequestError("fields: expected a list of names")
    names = []
    for each in given:
        name = each.get("field") if isinstance(each, dict) else each
        if not isinstance(name, str):
            raise RequestError("fields: expected a list of names")
        names.append(name)
    return lambda document: _field_values(document, names)


def _field_values(document: JsonObject, names: Iterable[str]) -> JsonObject:
    found: dict[str, list[Scalar]] = {}
    for name in names:
        if "*" in name:
            test = _test(modern_name(name))
            for leaf, value in walk_leaves(document):
                if test(leaf):
                    found.setdefault(leaf, []).append(value)
        else:
            values = Path(modern_name(name)).values(document)
            if values:
                found[name] = values
    return found
