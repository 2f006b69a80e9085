"""Where a query's field is read: the name is resolved once, here, and never per event.

A *reader* takes what a leaf is evaluated on (an Event, or one object of a nested path) and
gives the field's values; a *node reader* gives what stands there, objects included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT, ECS_FIELDS, absence_in_raw_events, raw_path
from barrelman.records.frozen import frozen
from barrelman.records.paths import Path, Scalar, has_value, walk_leaves

Reader = Callable[[Any], list[Scalar]]
NodeReader = Callable[[Any], list[Any]]
LeafWalker = Callable[[Any], Iterator[tuple[str, Scalar]]]


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

    @property
    def empty_text(self) -> bool:
        return self.shape is Shape.DOCUMENT

    def lacks(self, name: str) -> bool:
        """Whether no raw event can have the field, which saves making its document to look."""
        if self.prefix or self.shape is Shape.DOCUMENT or name.startswith("kubernetes."):
            return False
        return absence_in_raw_events(name) is not None

    def inside(self, path: str) -> Scope:
        return Scope(self.shape, f"{self.prefix}{path}.")


def read_values(name: str, scope: Scope) -> Reader:
    """The reader of a field's values; in raw events "" is left out."""
    if not scope.prefix and scope.shape is Shape.RAW and name in ECS_FIELDS:
        return ECS_FIELDS[name]
    path, root = _locate(name, scope)
    if scope.empty_text:
        return lambda target: path.values(root(target))
    return lambda target: [value for value in path.values(root(target)) if value != ""]


def read_nodes(name: str, scope: Scope) -> NodeReader:
    """The reader of what stands at a field, for `exists` on objects."""
    if not scope.prefix and scope.shape is Shape.RAW and name in ECS_FIELDS:
        return ECS_FIELDS[name]
    path, root = _locate(name, scope)
    return lambda target: path.nodes(root(target))


def read_implied(name: str, scope: Scope) -> NodeReader:
    """The reader of objects that only dotted keys tell of: `a` of `{"a.b": 1}`."""
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
    if scope.empty_text:
        return leaves
    return lambda target: (pair for pair in leaves(target) if pair[1] != "")


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
