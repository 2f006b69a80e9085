"""What crosses rooms, and `frozen`, which makes the classes for it."""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TypeVar, dataclass_transform

_Made = TypeVar("_Made")


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen(described: type[_Made], /) -> type[_Made]:
    """A frozen dataclass with slots that costs a fifth of one to define.

    `dataclass` writes and compiles each method of each class, and a start of the program defines
    scores of classes: that took longer than a small scan. Here only `__init__` is written anew. It
    is mypy that keeps instances from being changed; at run time nothing does.
    """
    # Where there is no docstring, `dataclass` has `inspect` make one out of the signature.
    described.__doc__ = described.__doc__ or described.__name__
    made = dataclasses.dataclass(slots=True, eq=False, repr=False)(described)
    parts = dataclasses.fields(made)  # type: ignore[arg-type]  # it has just become a dataclass
    compared = [each.name for each in parts if each.compare]
    shown = [each.name for each in parts if each.repr]
    key = attrgetter(*compared) if compared else lambda _: ()

    def equals(self: _Made, other: object) -> bool:
        return key(self) == key(other) if type(other) is made else NotImplemented

    def hashed(self: _Made) -> int:
        return hash(key(self))

    def written(self: _Made) -> str:
        return f"{made.__qualname__}({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"

    made.__eq__ = equals  # type: ignore[method-assign,assignment]
    made.__hash__ = hashed  # type: ignore[method-assign,assignment]
    made.__repr__ = written  # type: ignore[method-assign,assignment]
    return made
