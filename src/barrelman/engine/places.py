"""Where a query's field is read: the name is resolved once, here, and never per event.

A *reader* takes what a leaf is evaluated on (an Event, or one object of a nested path) and
gives the field's values; a *node reader* gives what stands there, objects included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import field
from enum import Enum
from typing import Any, Final

from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event
from barrelman.records.fields import (
    AUDIT,
    ECS_FIELDS,
    Catalogue,
    FieldPlace,
    absence_in_raw_events,
    raw_path,
    read_single,
)
from barrelman.records.frozen import frozen
from barrelman.records.paths import Path, Scalar, has_value, open_lists, walk_leaves

Reader = Callable[[Any], list[Scalar]]
NodeReader = Callable[[Any], list[Any]]
LeafWalker = Callable[[Any], Iterator[tuple[str, Scalar]]]

_UNMAPPED: Final = Catalogue()
_SECONDS = re.compile(r"-?\d{1,12}", re.ASCII)
# Names of fields whose answer is remembered; documents may hold any number of others.
_MOST_NAMES: Final = 10_000


class Shape(Enum):
    """What a leaf is evaluated on."""

    RAW = "raw"
    """An Event whose body is a raw audit event: "" is no value."""
    DOCUMENT = "document"
    """An Event whose body is an Elastic document: "" is a value."""


@frozen
class Scope:
    """The shape, and the path of the nested object that fields are relative to ("" outside)."""

    shape: Shape
    prefix: str = ""
    catalogue: Catalogue = field(default=_UNMAPPED, compare=False, repr=False)

    @property
    def empty_text(self) -> bool:
        return self.shape is Shape.DOCUMENT

    def lacks(self, name: str) -> bool:
        """Whether no event can have the field, which saves looking for it."""
        if self.catalogue.lacks(self.prefix + name):
            return True
        if self.catalogue.place_of(self.prefix + name) is not None:
            return False
        if self.prefix or self.shape is Shape.DOCUMENT or name.startswith("kubernetes."):
            return False
        return absence_in_raw_events(name) is not None

    def inside(self, path: str) -> Scope:
        return Scope(self.shape, f"{self.prefix}{path}.", self.catalogue)

    def place_of(self, name: str) -> FieldPlace | None:
        return self.catalogue.place_of(self.prefix + name)

    def below(self, name: str) -> list[str] | None:
        """The fields, relative to the scope, that are all a mapped object can hold; else None."""
        catalogue, whole = self.catalogue, self.prefix + name
        if whole not in catalogue.objects or whole in catalogue.open_objects:
            return None
        fields = catalogue.fields_below(whole)
        return [
            each[len(self.prefix) :]
            for each in fields
            if not catalogue.is_hidden(each, prefix=self.prefix)
        ]


def read_values(name: str, scope: Scope) -> Reader:
    """The reader of a field's values; in raw events "" is left out."""
    place = scope.place_of(name)
    return _read_own(name, scope) if place is None else _read_placed(place, scope)


def _read_own(name: str, scope: Scope) -> Reader:
    if not scope.prefix and scope.shape is Shape.RAW and name in ECS_FIELDS:
        return ECS_FIELDS[name]
    path, root = _locate(name, scope)
    if scope.empty_text:
        return lambda target: path.values(root(target))
    whole: Reader = lambda target: [  # noqa: E731  # the two readers side by side
        value for value in path.values(root(target)) if value != ""
    ]
    return read_single(path, whole) if root is _body and path.is_plain else whole


def read_nodes(name: str, scope: Scope) -> NodeReader:
    """The reader of what stands at a field, for `exists` on objects."""
    if scope.place_of(name) is not None:
        return read_values(name, scope)
    below = scope.below(name)
    if below is not None:
        readers = [read_values(each, scope) for each in below]
        return lambda target: [value for read in readers for value in read(target)]
    if not scope.prefix and scope.shape is Shape.RAW and name in ECS_FIELDS:
        return ECS_FIELDS[name]
    path, root = _locate(name, scope)
    return lambda target: path.nodes(root(target))


def read_implied(name: str, scope: Scope) -> NodeReader:
    """The reader of objects that only dotted keys tell of: `a` of `{"a.b": 1}`."""
    if scope.place_of(name) is not None or scope.below(name) is not None:
        return lambda target: []
    path, root = _locate(name, scope)
    return lambda target: path.implied(root(target))


def read_objects(name: str, scope: Scope) -> NodeReader:
    """The reader of a nested path: every object there. Of raw events empty ones were dropped."""
    path, root = _locate(name, scope)
    if scope.empty_text:
        return lambda target: path.objects(root(target))
    return lambda target: [
        node for node in path.objects(root(target)) if has_value([node], empty_text=False)
    ]


def read_below(name: str, scope: Scope) -> Reader:
    """The reader of a flattened field itself: its values are all that stand below it."""
    place = scope.place_of(name)
    if place is not None:
        readers = [_read_own_below(source, scope) for source in _sources(place, scope)]
        keep = _keeper(place)
        return lambda target: [each for read in readers for each in read(target) if keep(each)]
    return _read_own_below(name, scope)


def _read_own_below(name: str, scope: Scope) -> Reader:
    path, root = _locate(name, scope)

    def read(target: Any) -> list[Scalar]:
        there = root(target)
        leaves = walk_leaves([*path.nodes(there), *path.implied(there)])
        return [value for _, value in leaves if scope.empty_text or value != ""]

    return read


def read_leaves(scope: Scope) -> LeafWalker:
    """Every field of the target with its full name, for free text and wildcard field names."""
    if scope.prefix:
        prefix = scope.prefix
        leaves: LeafWalker = lambda target: (  # noqa: E731  # the two walkers side by side
            (prefix + name, value) for name, value in walk_leaves(target)
        )
    else:
        leaves = lambda event: walk_leaves(ecs_document(event))  # noqa: E731
    if not scope.empty_text:
        filled = leaves
        leaves = lambda target: (pair for pair in filled(target) if pair[1] != "")  # noqa: E731
    return leaves if scope.catalogue.names is None else _mapped_leaves(leaves, scope)


def _mapped_leaves(leaves: LeafWalker, scope: Scope) -> LeafWalker:
    """The leaves that a mapping shows, and those of its aliases and multi-fields."""
    catalogue, prefix = scope.catalogue, scope.prefix
    placed = [
        (name, read_values(name[len(prefix) :], scope))
        for name in catalogue.places
        if name.startswith(prefix) and not catalogue.is_hidden(name, prefix=prefix)
    ]
    shown: dict[str, bool] = {}

    def is_shown(name: str) -> bool:
        found = shown.get(name)
        if found is None:
            found = catalogue.place_of(name) is None and not catalogue.lacks(name)
            if len(shown) < _MOST_NAMES:
                shown[name] = found
        return found

    def walk(target: Any) -> Iterator[tuple[str, Scalar]]:
        for name, value in leaves(target):
            if is_shown(name):
                yield name, value
        for name, read in placed:
            for value in read(target):
                yield name, value

    return walk


# --- fields that do not stand under their own name -----------------------------------------


def _read_placed(place: FieldPlace, scope: Scope) -> Reader:
    if place.constant is not None:
        constant = [place.constant]
        return lambda target: constant
    readers = [_read_source(source, place, scope) for source in _sources(place, scope)]
    keep = _keeper(place)
    if place.in_seconds:
        return lambda target: [_in_ms(v) for read in readers for v in read(target) if keep(v)]
    return lambda target: [value for read in readers for value in read(target) if keep(value)]


def _sources(place: FieldPlace, scope: Scope) -> list[str]:
    """Relative to the scope; a place has none outside of it."""
    size = len(scope.prefix)
    return [source[size:] for source in place.sources if source.startswith(scope.prefix)]


def _read_source(name: str, place: FieldPlace, scope: Scope) -> Reader:
    null_value = place.null_value
    if null_value is None or scope.shape is Shape.RAW:  # of raw events nulls were dropped
        return _read_own(name, scope)
    path, root = _locate(name, scope)

    def read(target: Any) -> list[Scalar]:
        found = open_lists(path.nodes(root(target)))
        return [null_value if node is None else node for node in found if type(node) is not dict]

    return read


def _keeper(place: FieldPlace) -> Callable[[Scalar], bool]:
    limit = place.ignore_above
    if limit is None:
        return lambda value: True
    # Elasticsearch counts UTF-16 units: a character beyond the first 65,536 is two.
    return lambda value: (
        type(value) is not str
        or len(value) * 2 <= limit
        or len(value.encode("utf-16-le", "surrogatepass")) <= limit * 2
    )


def _in_ms(value: Scalar) -> Scalar:
    if type(value) is str and _SECONDS.fullmatch(value):
        value = int(value)
    return value * 1000 if type(value) is int or type(value) is float else value


# Objects that the pipeline changes are read from the finished document, not from the raw event.
_CHANGED = ("", "requestObject", "responseObject", "annotations")


def _locate(name: str, scope: Scope) -> tuple[Path, Callable[[Any], object]]:
    """The path of a field and what to walk it on."""
    if scope.prefix:
        return Path(name), _itself
    if scope.shape is Shape.DOCUMENT:
        return Path(name), ecs_document
    below = name.removeprefix(f"{AUDIT}.")
    if below == name or below in _CHANGED or below.partition(".")[0] == "aks_metadata":
        return Path(name), ecs_document
    return raw_path(below), _body


def _itself(target: Any) -> object:
    return target


def _body(event: Event) -> object:
    return event.body
