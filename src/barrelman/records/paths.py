"""Reading a dotted field name out of nested JSON.

Elasticsearch sees no arrays and no difference between `{"a": {"b": 1}}` and `{"a.b": 1}`:
a field is the set of values found on every way to spell its name. So does `Path`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

_END: Final = -1

LONGEST_NAME: Final = 32_000
"""Characters of a field's name; Elasticsearch indexes no longer ones."""

Scalar = str | int | float | bool


class Path:
    """A field name taken apart once: at each level, the keys to try and the level each leads to.

    `forbidden` leaves out one (level, key) step; `rename` compares keys of one level after a
    rewriting, for objects whose keys Elastic spells otherwise than Kubernetes.
    """

    __slots__ = ("_rename_level", "_renamed", "_rests", "_steps", "is_plain", "name")

    def __init__(
        self,
        name: str,
        *,
        forbidden: tuple[int, str] | None = None,
        rename: tuple[int, Callable[[str], str]] | None = None,
    ) -> None:
        self.name = name
        parts = name.split(".")
        size = len(parts)
        self._steps = tuple(
            tuple(
                (key, _END if end == size else end)
                for end in range(start + 1, size + 1)
                if (start, key := ".".join(parts[start:end])) != forbidden
            )
            for start in range(size)
        )
        self._rests = tuple(".".join(parts[start:]) + "." for start in range(size))
        self._rename_level, self._renamed = rename if rename else (_END, str)
        self.is_plain = forbidden is None and rename is None
        """Whether every key is taken as it is."""

    def nodes(self, root: object) -> list[Any]:
        """What stands at the end of the path, objects and arrays included, as it stands there."""
        found: list[Any] = []
        self._walk(root, 0, found)
        return found

    def implied(self, root: object) -> list[dict[str, Any]]:
        """The objects of that name which only dotted keys tell of: `a` in `{"a.b": 1}`."""
        found: list[dict[str, Any]] = []
        self._walk_implied(root, 0, found)
        return found

    def objects(self, root: object) -> list[dict[str, Any]]:
        """Every object of that name, arrays opened."""
        found = [node for node in open_lists(self.nodes(root)) if type(node) is dict]
        return found + self.implied(root)

    def values(self, root: object) -> list[Scalar]:
        """The field's values: every scalar below, arrays opened, objects and nulls left out."""
        found = self.nodes(root)
        for node in found:
            if node is None or type(node) is list or type(node) is dict:
                return list(scalars(found))
        return found

    def _walk(self, node: object, level: int, found: list[Any]) -> None:
        if type(node) is dict:
            if level == self._rename_level:
                self._walk_renamed(node, level, found)
                return
            for key, next_level in self._steps[level]:
                if key in node:
                    if next_level == _END:
                        found.append(node[key])
                    else:
                        self._walk(node[key], next_level, found)
        elif type(node) is list:
            for item in open_lists(node):
                if type(item) is dict:
                    self._walk(item, level, found)

    def _walk_implied(self, node: object, level: int, found: list[dict[str, Any]]) -> None:
        for item in open_lists([node]):
            if type(item) is not dict or level == self._rename_level:
                continue  # renamed keys hold no dots
            rest = self._rests[level]
            below = {key[len(rest) :]: item[key] for key in item if key.startswith(rest)}
            if below:
                found.append(below)
            for key, next_level in self._steps[level]:
                if next_level != _END and key in item:
                    self._walk_implied(item[key], next_level, found)

    def _walk_renamed(self, node: dict[str, Any], level: int, found: list[Any]) -> None:
        for raw_key, value in node.items():
            renamed = self._renamed(raw_key)
            for key, next_level in self._steps[level]:
                if renamed == key:
                    if next_level == _END:
                        found.append(value)
                    else:
                        self._walk(value, next_level, found)


def open_lists(nodes: list[Any]) -> Iterator[Any]:
    """What a list holds, lists within it opened: Elasticsearch knows no list of lists.

    Iterative, as is all that follows an event's depth: it nests up to 1024 levels.
    """
    pending = nodes[::-1]
    while pending:
        node = pending.pop()
        if type(node) is list:
            pending.extend(reversed(node))
        else:
            yield node


def scalars(nodes: list[Any]) -> Iterator[Scalar]:
    """The scalars in a list of nodes, nested arrays opened, objects and nulls left out."""
    return (node for node in open_lists(nodes) if node is not None and type(node) is not dict)


def has_value(nodes: list[Any], *, empty_text: bool) -> bool:
    """Whether any scalar stands in or below these nodes; `empty_text` says if "" is one.

    Null, [] and {} are no values (an Elasticsearch field without a value is missing).
    """
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if type(node) is dict:
            pending.extend(node.values())
        elif type(node) is list:
            pending.extend(node)
        elif node is not None and (empty_text or node != ""):
            return True
    return False


def walk_leaves(root: object) -> Iterator[tuple[str, Scalar]]:
    """Every scalar of a document with its dotted name, nulls left out, in document order.

    Names end after `LONGEST_NAME` characters, and one is made at a time: a long key above many
    others would else cost its length for each of them.
    """
    levels: list[tuple[str, Iterator[Any], dict[str, Any] | None]] = [("", iter([root]), None)]
    while levels:
        name, items, owner = levels[-1]
        for item in items:
            node = item if owner is None else owner[item]
            if node is None:
                continue
            inner = name if owner is None else _join(name, item)
            if type(node) is dict:
                levels.append((inner, iter(node), node))
                break
            if type(node) is list:
                levels.append((inner, iter(node), None))
                break
            yield inner, node
        else:
            levels.pop()


def _join(name: str, key: str) -> str:
    return (f"{name}.{key}" if name else key)[:LONGEST_NAME]


def drop_empty(root: Any) -> Any:
    """A copy without null, "", {} and [] at any depth; None where nothing is left.

    Elastic's audit data stream does this last. Iterative: an event nests up to 1024 deep.
    """
    holder: list[Any] = []
    # Post-order: a container is judged once its children are built.
    stack: list[tuple[Any, Any, Any, list[tuple[Any, Any]] | None]] = [(root, holder, None, None)]
    while stack:
        node, parent, key, children = stack.pop()
        if children is None:
            if type(node) is dict:
                copy: Any = {}
                stack.append((node, parent, key, [(copy, None)]))
                stack.extend((node[k], copy, k, None) for k in reversed(node))
                continue
            if type(node) is list:
                copy = []
                stack.append((node, parent, key, [(copy, None)]))
                stack.extend((item, copy, None, None) for item in reversed(node))
                continue
            built = node
        else:
            built = children[0][0]
        if built is None or built == "" or built == {} or built == []:
            continue
        if type(parent) is list:
            parent.append(built)
        else:
            parent[key] = built
    return holder[0] if holder else None
