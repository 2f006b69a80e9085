from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.records.paths import LONGEST_NAME, Path, drop_empty, has_value, walk_leaves

KEYS = st.sampled_from(["a", "b", "a.b", "b.a", "a.a", ".", "a.", ".b"])
SCALARS = st.sampled_from([None, "", "x", 0, 1, True, False, 1.5])
JSON = st.recursive(
    SCALARS,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(KEYS, parts, max_size=4),
    max_leaves=16,
)


def deep(levels: int, end: Any) -> Any:
    for _ in range(levels):
        end = {"a": [end]}
    return end


def typed(values: list[Any]) -> list[tuple[str, Any]]:
    return sorted((type(value).__name__, value) for value in values)


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_a_path_finds_what_a_walk_finds(root: Any) -> None:
    fields: dict[str, list[Any]] = {}
    for name, value in walk_leaves(root):
        fields.setdefault(name, []).append(value)
    fields.pop("", None)  # a scalar that is no field of anything
    for name, values in fields.items():
        assert typed(Path(name).values(root)) == typed(values)


@pytest.mark.parametrize("text", ['{"a": {"b": 1}}', '{"a.b": 1}', '[{"a": [[{"b": [[1]]}]]}]'])
def test_all_spellings_of_a_name(text: str) -> None:
    assert Path("a.b").values(json.loads(text)) == [1]


@pytest.mark.parametrize(
    ("name", "text", "nodes", "implied"),
    [
        ("a", '{"a": {"b": 1}}', [{"b": 1}], []),
        ("a", '{"a.b": 1, "a.c": 2, "ab": 3}', [], [{"b": 1, "c": 2}]),
        ("a.b", '{"a": {"b.c": 1}}', [], [{"c": 1}]),
        ("a.b", '{"a.b.c": 1, "a": {"b": 2}}', [2], [{"c": 1}]),
        ("a.b", '[{"a": [[{"b.c": 1}]]}]', [], [{"c": 1}]),
        ("a", '{"a": null}', [None], []),
        ("a", '{"b": {"a": 1}}', [], []),
        ("a", '"a"', [], []),
    ],
)
def test_what_stands_at_a_name(
    name: str, text: str, nodes: list[Any], implied: list[dict[str, Any]]
) -> None:
    root = json.loads(text)
    assert Path(name).nodes(root) == nodes
    assert Path(name).implied(root) == implied
    assert Path(name).objects(root) == [node for node in nodes if type(node) is dict] + implied


def test_a_forbidden_step_is_taken_at_its_level_only() -> None:
    path = Path("body.metadata.name", forbidden=(1, "metadata"))
    assert path.values({"body": {"metadata": {"name": "x"}}}) == []
    assert path.values({"body": [{"metadata": {"name": "x"}}]}) == []
    deeper = Path("body.spec.metadata", forbidden=(1, "metadata"))
    assert deeper.values({"body": {"spec": {"metadata": 1}}}) == [1]


def test_renamed_keys_are_compared_as_renamed() -> None:
    path = Path("notes.a_b/c", rename=(1, lambda key: key.replace(".", "_")))
    assert path.values({"notes": {"a.b/c": 1, "a_b/c": 2, "a": {"b/c": 3}}}) == [1, 2]
    dotted = Path("notes.a.b", rename=(1, lambda key: key.replace(".", "_")))
    assert dotted.values({"notes": {"a.b": 1}}) == []
    assert dotted.values({"notes": {"a": {"b": 2}}}) == [2]


@pytest.mark.parametrize(
    ("value", "with_empty_text", "without"),
    [
        (None, False, False),
        ("", True, False),
        ([], False, False),
        ({}, False, False),
        ([[], [None], {"a": {}}], False, False),
        ([{"a": [""]}], True, False),
        (False, True, True),
        (0, True, True),
        ({"a": [None, {"b": 0}]}, True, True),
    ],
)
def test_having_a_value(value: Any, with_empty_text: bool, without: bool) -> None:
    assert has_value([value], empty_text=True) is with_empty_text
    assert has_value([value], empty_text=False) is without


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (None, None),
        ("", None),
        ({"a": {"b": [None, "", {}]}}, None),
        ({"a": False, "b": 0, "c": 0.0, "d": " "}, {"a": False, "b": 0, "c": 0.0, "d": " "}),
        ([[1, ""], [], [None]], [[1]]),
        ({"z": 1, "a": {"y": "", "x": 2}}, {"z": 1, "a": {"x": 2}}),
    ],
)
def test_dropping_what_is_empty(value: Any, left: Any) -> None:
    assert drop_empty(value) == left


@given(JSON)
@settings(max_examples=133, deadline=None)
def test_dropping_keeps_order_and_every_value(root: Any) -> None:
    before = json.dumps(root)
    left = drop_empty(root)
    kept = [(name, value) for name, value in walk_leaves(root) if value != ""]
    assert list(walk_leaves(left)) == kept
    assert drop_empty(left) == left
    assert json.dumps(root) == before


def test_depth_is_no_problem() -> None:
    root = deep(1000, {"x": 1, "y": ""})
    name = ".".join(["a"] * 1000 + ["x"])
    assert next(walk_leaves(root)) == (name, 1)
    assert has_value([root], empty_text=False)
    assert list(walk_leaves(drop_empty(root))) == [(name, 1)]
    lists: Any = 1
    for _ in range(1000):
        lists = [lists]
    assert Path("a").values({"a": lists}) == [1]
    assert Path("a.b").implied({"a": lists}) == []


def test_long_names_are_cut_and_lose_no_value() -> None:
    root = {"k" * 50_000: {f"c{number}": number for number in range(3000)}}
    leaves = list(walk_leaves(root))
    assert [value for _, value in leaves] == list(range(3000))
    assert {len(name) for name, _ in leaves} == {LONGEST_NAME}
