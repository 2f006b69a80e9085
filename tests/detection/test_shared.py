"""What the events of a sequence have in common, of one field."""

from __future__ import annotations

import pytest

from barrelman.detection.finding import Finding, GroupValue, SequenceOf
from barrelman.detection.groups import _shared, groups_of
from barrelman.detection.match import pack
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE
from barrelman.records.paths import Scalar


class Text(str):
    """One that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Text.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_long_lists_are_not_compared_each_with_each() -> None:
    both: list[Scalar] = [Text("both")]
    lists = [[*(Text(f"{name}{number}") for number in range(1000)), *both] for name in "ab"]
    given = iter(lists)
    events = [Event({}, is_document=True)] * 2
    assert _shared(lambda event: next(given), events) == "both"
    assert Text.compared < 100


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1], [True]], None),
        ([[True, 0], [True, False]], True),
        ([["a", "b", "a"], ["a", "c"]], ("a", "a")),
        ([["b", "a"], ["a", "b"], ["b"]], "b"),
        ([["a"], []], None),
    ],
)
def test_what_stands_in_all_lists(values: list[list[Scalar]], expected: GroupValue) -> None:
    payloads = tuple(pack("id", Event({"f": each}, is_document=True)) for each in values)
    finding = Finding("id", 0, 0, 0, payloads, about=SequenceOf(()))
    groups = groups_of(("f",), catalogue=AUDIT_CATALOGUE)(finding)
    assert groups is not None
    assert groups[0] == expected
    assert type(groups[0]) is type(expected)
