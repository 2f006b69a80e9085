"""What several documents have in common."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrelman.detection.shell import shared
from barrelman.records.event import JsonObject

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abc"), VALUES)


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ({"a": 1}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {}),
        ({"a": 1}, {"b": 1}, {}),
        ({"a": 1}, {"a": 1.0}, {}),
        ({"a": 1}, {"a": True}, {}),
        ({"a": None}, {"a": None}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"b": 1}}),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, {}),
        ({"a": {}}, {"a": {}}, {"a": {}}),
        ({"a": {}}, {"a": {"b": 1}}, {}),
        ({"a": {}}, {"a": []}, {}),
        ({"a": [1, 2, 3]}, {"a": [3, 1]}, {"a": [1, 3]}),
        ({"a": [1]}, {"a": [True, 1.0]}, {}),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"c": 2, "b": 1}]}, {"a": [{"b": 1, "c": 2}]}),
        ({"a": []}, {"a": []}, {"a": []}),
        ({"a": "x"}, {"a": ["x"]}, {}),
        ({"a.b": 1}, {"a": {"b": 1}}, {}),
    ],
)
def test_two_documents(one: JsonObject, other: JsonObject, common: JsonObject) -> None:
    assert repr(shared([one, other])) == repr(common)


def test_several_keep_the_order_of_the_first() -> None:
    documents = [{"a": 1, "b": 2, "c": 3}, {"c": 3, "b": 2, "a": 1}, {"c": 3, "a": 1}]
    assert list(shared(documents).items()) == [("a", 1), ("c", 3)]


def test_one_shares_all_with_itself() -> None:
    document: JsonObject = {"a": {"b": []}, "c": {}}
    assert shared([document]) == document
    assert shared([document]) is not document


def test_documents_may_nest_deeper_than_python_calls() -> None:
    def deep(value: Any) -> JsonObject:
        for _ in range(5000):
            value = {"a": value, "b": [value] if value == 1 else 0}
        return {"x": value}

    common = shared([deep(1), deep(1)])
    depth = 0
    node: Any = common["x"]
    while isinstance(node, dict):
        node, depth = node["a"], depth + 1
    assert (node, depth) == (1, 5000)
    assert shared([deep(1), deep(2)])["x"]["b"] == 0


def _plain(one: JsonObject, other: JsonObject) -> JsonObject:
    """The same, as it is said."""
    common: JsonObject = {}
    for key in one.keys() & other.keys():
        left, right = one[key], other[key]
        if isinstance(left, dict) and isinstance(right, dict):
            both = _plain(left, right)
            if both or not (left or right):
                common[key] = both
        elif isinstance(left, list) and isinstance(right, list):
            kept = [each for each in left if any(_same(each, its) for its in right)]
            if kept or not (left or right):
                common[key] = kept
        elif _same(left, right):
            common[key] = left
    return common


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


@given(DOCUMENTS, DOCUMENTS)
def test_shared_is_what_it_says(one: JsonObject, other: JsonObject) -> None:
    assert _same(shared([one, other]), _plain(one, other))
