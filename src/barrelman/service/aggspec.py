"""What every aggregation is made from: its options, its state, and what a search may still hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from barrelman.errors import RequestError
from barrelman.records.fields import FieldType
from barrelman.records.paths import Path, Scalar
from barrelman.records.times import parse_instant_us
from barrelman.service.dsl import ALERT_CATALOGUE, modern_name

JsonObject: TypeAlias = dict[str, Any]
MakeHit: TypeAlias = Callable[[JsonObject, Callable[[JsonObject], JsonObject] | None], JsonObject]

MOST_BUCKETS: Final = 65_536
MOST_HITS: Final = 5_000
"""How many documents the buckets of a search may hold together."""


class State(Protocol):
    """An aggregation under way."""

    def add(self, document: JsonObject) -> None: ...

    def result(self) -> JsonObject: ...


Start: TypeAlias = Callable[[], State]


class Purse:
    """How many buckets a search may still open, and what builds its hits."""

    def __init__(self, make_hit: MakeHit, *, now_ms: int) -> None:
        self.make_hit = make_hit
        self.now_ms = now_ms
        self.left = MOST_BUCKETS
        self.hits_left = MOST_HITS

    def take(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise RequestError(
                f"aggs: more than {MOST_BUCKETS} buckets", hint="ask for a coarser division"
            )

    def take_hits(self, count: int) -> None:
        self.hits_left -= count
        if self.hits_left < 0:
            raise RequestError(
                f"aggs: more than {MOST_HITS} hits in all buckets", hint="ask for fewer of each"
            )


class Options:
    """What an aggregation is given; each option is taken once, and none may be left."""

    def __init__(self, where: str, given: Mapping[str, Any]) -> None:
        self.where = where
        self._given = dict(given)

    def take(self, name: str, default: Any = None) -> Any:
        return self._given.pop(name, default)

    def scalar(self, name: str) -> Scalar | None:
        """A single value, or None where it is not given."""
        value = self.take(name)
        if value is not None and not isinstance(value, str | int | float):
            raise RequestError(f"{self.where}.{name}: expected a single value")
        return value

    def rest(self) -> dict[str, Any]:
        """All that was not taken yet."""
        given, self._given = self._given, {}
        return given

    def number(self, name: str, default: int) -> int:
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise RequestError(f"{self.where}.{name}: expected a whole number from 0")
        return value

    def field(self) -> str:
        name = self.take("field")
        if not isinstance(name, str) or not name:
            raise RequestError(f"{self.where}: expected a 'field'")
        return modern_name(name)

    def end(self, *ignored: str) -> None:
        left = sorted(set(self._given) - set(ignored))
        if left:
            raise RequestError(f"{self.where}: '{left[0]}' is not answered here")


def reader_of(name: str, missing: Any = None) -> Callable[[JsonObject], list[Any]]:
    """Each value of a field once, dates as milliseconds."""
    path = Path(name)
    holds_dates = is_date(name)

    def read(document: JsonObject) -> list[Any]:
        values: list[Scalar] = path.values(document)
        if holds_dates:
            values = [v // 1000 for each in values if (v := parse_instant_us(each)) is not None]
        if not values and missing is not None:
            return [missing]
        # True is not 1, and 1 is 1.0.
        return list({(type(each) is bool, each): each for each in values}.values())

    return read


def is_date(name: str) -> bool:
    """Whether a field holds dates."""
    return ALERT_CATALOGUE.type_of(name) is FieldType.DATE
