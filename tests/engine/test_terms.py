"""Terms: values as a field's type indexes them, and the order of buckets."""

from __future__ import annotations

import pytest

from barrelman.engine.terms import composite_order, term_reader
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldType
from barrelman.records.paths import Scalar

TYPED = Catalogue(exact={kind.value: kind for kind in FieldType})


def terms(name: str, *values: object) -> list[Scalar]:
    event = Event({name: list(values)}, is_document=True)
    return term_reader(name, catalogue=TYPED)(event)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("keyword", ["a", 5, 1.5, True, None, ""], ["a", "5", "1.5", "true", ""]),
        ("keyword", ["a", "b"], ["a", "b"]),
        ("boolean", [True, "false", "", "yes", 1], [True, False, False]),
        ("long", ["7", 7.9, 7, "x", True], [7, 7, 7]),
        ("double", ["7.5", 7], [7.5, 7]),
        (
            "date",
            ["2026-11-23T07:00:00Z", "2026-11-23T08:00:00.000+01:00", 1_795_417_200_000, "x"],
            [1_795_417_200_000] * 3,
        ),
        ("ip", ["192.0.2.1", "::FFFF:192.0.2.1", "2001:DB8::0:1", "x", 7],
         ["192.0.2.1", "192.0.2.1", "2001:db8::1"]),
        ("unknown", ["a", 5, True], ["a", 5, True]),
        ("nested", ["a"], []),
    ],
)  # fmt: skip
def test_values_are_terms_of_the_fields_type(
    kind: str, values: list[object], expected: list[Scalar]
) -> None:
    found = terms(kind, *values)
    assert found == expected
    assert [type(each) for each in found] == [type(each) for each in expected]


def test_of_a_flattened_field_all_that_stands_below() -> None:
    event = Event({"flattened": {"a": {"b": ["x", 1]}, "c": "y"}}, is_document=True)
    assert term_reader("flattened", catalogue=TYPED)(event) == ["x", "1", "y"]
    assert term_reader("flattened.a.b", catalogue=TYPED)(event) == ["x", "1"]


def test_what_only_nested_queries_see_has_no_terms() -> None:
    event = Event({"nested": [{"a": "x"}]}, is_document=True)
    assert term_reader("nested.a", catalogue=TYPED)(event) == []


def test_of_a_raw_event() -> None:
    event = Event({"user": {"username": "eve", "groups": ["a", ""]}})
    read = {
        name: term_reader(name, catalogue=AUDIT_CATALOGUE)(event)
        for name in ("user.name", "kubernetes.audit.user.groups", "user.email")
    }
    assert list(read.values()) == [["eve"], ["a"], []]


def test_buckets_are_in_the_order_of_their_terms() -> None:
    order = composite_order(["a", "b"], catalogue=TYPED)
    buckets: list[tuple[Scalar, ...]] = [
        (-1, "z"),
        (2.5, "a"),
        (10, "a"),
        ("10", "a"),
        ("9", 1),
        ("9", "1"),
        ("B", "a"),
        ("a", "a"),
        ("é", "a"),
        ("\uffff", "a"),
        ("\U00010000", "a"),
    ]
    assert sorted(set(buckets), key=order) == buckets


def test_addresses_are_in_the_order_of_numbers() -> None:
    order = composite_order(["ip", "keyword"], catalogue=TYPED)
    buckets: list[tuple[Scalar, ...]] = [("9.0.0.1", "a"), ("10.0.0.1", "a"), ("2001:db8::", "a")]
    assert sorted(set(buckets), key=order) == buckets
