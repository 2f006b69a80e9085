"""Positions of values in TOML and JSON texts."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.rules.escape import source_offset
from barrelman.rules.locate import JsonLocator, Path, Source, Spot, TomlLocator

TOML = '''\
# a comment with "quotes" and [brackets]
title = "top" # [not.a.table]
"quoted key" = 1

[metadata]
dates = [ "2026/11/23", # one
  "2026/11/24",
]

[rule]
name = 'literal'
note = """
[rule.fake]
name = "no" \\"""
"""
inline = { a = 1, "b" = [true, { c = 'x' }] }
dotted.key = 5

[[rule.threat]]
id = 1
[[rule.threat.technique]]
id = "first"
[[rule.threat]]
id = 2
[rule.threat.tactic]
id = "TA"
[[rule.threat.technique]]
id = "second"
'''


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (("title",), '"top"'),
        (("quoted key",), "1"),
        (("metadata", "dates", 1), '"2026/11/24"'),
        (("rule", "name"), "'literal'"),
        (("rule", "inline", "a"), "1"),
        (("rule", "inline", "b", 0), "true"),
        (("rule", "inline", "b", 1, "c"), "'x'"),
        (("rule", "dotted", "key"), "5"),
        (("rule", "threat", 0, "id"), "1"),
        (("rule", "threat", 0, "technique", 0, "id"), '"first"'),
        (("rule", "threat", 1, "id"), "2"),
        (("rule", "threat", 1, "tactic", "id"), '"TA"'),
        (("rule", "threat", 1, "technique", 0, "id"), '"second"'),
        (("rule",), "[rule]"),
    ],
)
def test_toml_values_are_found(path: Path, source: str) -> None:
    (start, end), exact = TomlLocator(Source(TOML, path="x.toml")).find(path)
    assert exact
    assert TOML[start:end] == source


def test_a_missing_value_is_placed_at_its_parent() -> None:
    spot = Spot(TomlLocator(Source(TOML, path="x.toml")), ("rule",))
    place = spot.place(("threat", 1, "tactic", "name"))
    assert (place.line, place.text) == (25, "[rule.threat.tactic]")
    assert spot.place(("absent",)).line == 10


def test_aliases_lead_to_where_a_value_was_written() -> None:
    locator = TomlLocator(Source(TOML, path="x.toml"))
    spot = Spot(locator, ("rule",), {"moved": ("inline", "b")})
    assert spot.place(("moved", 0)).column == 26


_TEXT = st.text(st.sampled_from("ab\"'\\\n\tzé😀[]{}#=,: \u2028"), max_size=12)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


def _walk(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    found = [(path, value)]
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            found += _walk(child, (*path, key))
    return found


@settings(deadline=None, max_examples=100)
@given(_JSON, st.sampled_from([None, 2]), st.booleans())
def test_every_json_value_is_found(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    locator = JsonLocator(Source(text, path="x.json"))
    for path, expected in _walk(value):
        (start, end), exact = locator.find(path)
        assert exact
        assert json.loads(text[start:end]) == expected


def _key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)


def _spell_toml(value: Any, style: int) -> str:
    if isinstance(value, dict):
        pairs = (f"{_key(key)} = {_spell_toml(one, style)}" for key, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[ # ]\n" + ",\n".join(_spell_toml(one, style) for one in value) + "]"
    if isinstance(value, str):
        if style == 1 and "'''" not in value and not value.endswith("'"):
            return f"'''\n{value}'''"
        if style == 2 and not any(char in value for char in '\\"\n'):
            return f'"""\\\n   {value}"""' if value[:1] not in (" ", "\t") else f'"""{value}"""'
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


_TOML_VALUE = st.recursive(
    st.booleans() | st.integers(-99, 99) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(_TEXT, _TOML_VALUE, min_size=1, max_size=4), st.integers(0, 2))
def test_every_toml_value_is_found(table: dict[str, Any], style: int) -> None:
    lines = (f"{_key(key)} = {_spell_toml(one, style)}" for key, one in table.items())
    text = "[table]\n" + "\n".join(lines) + "\n"
    assert tomllib.loads(text)["table"] == table
    locator = TomlLocator(Source(text, path="x.toml"))
    for path, expected in _walk(table):
        if path:
            (start, end), exact = locator.find(("table", *path))
            assert exact
            assert tomllib.loads(f"v = {text[start:end]}")["v"] == expected


@pytest.mark.parametrize(
    ("literal", "offset", "at"),
    [
        ("'abc'", 1, 2),
        ("'abc'", 3, 4),
        ("'''\nab\ncd'''", 3, 7),
        ("'''ab'''", 1, 4),
        ('"a\\tb"', 2, 4),
        ('"\\u00e9x"', 1, 7),
        ('"\\U0001F600x"', 1, 11),
        ('"\\ud83d\\ude00x"', 1, 13),
        ('"\\\\x"', 1, 3),
        ('"""\n\\\n   ab"""', 0, 9),
        ('"""a\\\n   b"""', 1, 9),
        ('"""a""b"""', 3, 6),
        ('"ab"', 9, 3),
        ("12", 1, 0),
    ],
)
def test_a_character_of_a_text_is_traced_to_its_source(literal: str, offset: int, at: int) -> None:
    assert source_offset(f"  {literal}", (2, 2 + len(literal)), offset) == at + 2


@settings(deadline=None, max_examples=100)
@given(_TEXT, st.booleans())
def test_each_character_of_a_json_string_is_where_it_was_written(
    text: str, ascii_only: bool
) -> None:
    literal = json.dumps(text, ensure_ascii=ascii_only)
    offsets = [source_offset(literal, (0, len(literal)), index) for index in range(len(text) + 1)]
    for index, char in enumerate(text):
        assert json.loads(f'"{literal[offsets[index] : offsets[index + 1]]}"') == char
    assert offsets[-1] == len(literal) - 1


def test_places_count_lines_from_the_files_first() -> None:
    source = Source("ab\r\ncd", path="x.ndjson", first_line=7)
    place = source.place(5)
    assert (place.path, place.line, place.column, place.text) == ("x.ndjson", 8, 2, "cd")
    assert source.place(1).text == "ab"
    assert source.place(99).column == 3
