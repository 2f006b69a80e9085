"""What several events have in common: the source of the alert above the alerts of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from barrelman.engine.decode import dumps
from barrelman.records.event import JsonObject


def shared(documents: Sequence[JsonObject]) -> JsonObject:
    """What all of these hold at the same place: equal values, and of lists the common elements.

    Objects are compared member by member; one that nothing is left of is left out. The order is
    that of the first.
    """
    common = dict(documents[0])
    for other in documents[1:]:
        common = _both(common, other)
    return common


def _both(one: JsonObject, other: JsonObject) -> JsonObject:
    """Iterative: documents nest deeper than Python calls."""
    common: JsonObject = {}
    todo = [(one, other, common)]
    made: list[tuple[JsonObject, str, JsonObject]] = []
    while todo:
        left, right, target = todo.pop()
        for key, value in left.items():
            if key not in right:
                continue
            its = right[key]
            if type(value) is dict and type(its) is dict:
                below: JsonObject = {}
                target[key] = below
                if value or its:
                    made.append((target, key, below))
                    todo.append((value, its, below))
            elif type(value) is list and type(its) is list:
                kept = _in_both(value, its)
                if kept or not (value or its):
                    target[key] = kept
            elif type(value) is type(its) and value == its:
                target[key] = value
    for target, key, below in reversed(made):
        if not below:
            del target[key]
    return common


def _in_both(one: list[Any], other: list[Any]) -> list[Any]:
    """Told apart by their JSON: 1, 1.0 and true are three values, and objects may be deep."""
    there = {dumps(each, sort_keys=True) for each in other}
    return [each for each in one if dumps(each, sort_keys=True) in there]
