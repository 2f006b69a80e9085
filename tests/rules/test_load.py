"""The shapes rule files come in, what else lies in them, and places in the files themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.query.ast import Is, Text
from barrelman.rules.load import LoadResult, load_exceptions, load_rules

UUID = "0d1f9a5c-90e7-4b0e-8f3f-6d0f9a1b2c3d"
TOML = f"""\
[metadata]
creation_date = "2026/11/23"
updated_date = "2026/11/23"
maturity = "production"

[rule]
author = ["We"]
description = "D"
language = "kuery"
name = "N"
risk_score = 21
rule_id = "{UUID}"
severity = "low"
type = "query"
query = '''
a:1
'''
"""
RULE: dict[str, Any] = {
    "rule_id": "r1",
    "type": "query",
    "name": "N",
    "description": "D",
    "risk_score": 21,
    "severity": "low",
    "query": "a:1",
}
LIST = {"list_id": "l", "type": "detection", "name": "L", "namespace_type": "single"}
ITEM = {
    "list_id": "l",
    "item_id": "i",
    "type": "simple",
    "entries": [{"type": "exists", "field": "f", "operator": "included"}],
}
CONNECTOR = {"id": "c", "type": "action", "attributes": {}}
DETAILS = {"exported_count": 1, "exported_rules_count": 1, "missing_rules": []}


def toml_with(old: str, new: str) -> str:
    assert old in TOML
    return TOML.replace(old, new)


# TOML


def test_a_toml_rule_is_ready() -> None:
    [loaded] = load_rules(TOML, path="r.toml").rules
    assert (loaded.status, loaded.rule_id, loaded.name, loaded.type, loaded.language) == (
        *("ready", UUID, "N", "query"),
        "kuery",
    )
    assert loaded.line == 6
    assert loaded.rule is not None
    assert loaded.rule.query_ast == Is(Text("a"), Text("1"))
    assert loaded.rule.metadata["maturity"] == "production"


TOML_PROBLEMS = [
    ('creation_date = "2026/11/23"\n', "", "metadata.creation_date: missing", 1, 1),
    (f'rule_id = "{UUID}"\n', "", "rule_id: missing", 6, 1),
    (UUID, "not-a-uuid", "rule_id: expected a UUID, found 'not-a-uuid'", 12, 11),
    ('author = ["We"]\n', "", "author: missing", 6, 1),
    ('author = ["We"]', 'author = "We"', "author: expected a list", 7, 10),
    ('language = "kuery"\n', "", "language: missing", 6, 1),
    ('name = "N"\n', "", "name: missing", 6, 1),
    ('description = "D"\n', "", "description: missing", 6, 1),
    ("risk_score = 21", "risk_score = 2.5", "risk_score: expected a whole number", 11, 14),
    ("risk_score = 21", "risk_score = 2026-11-23", "found a date or time", 11, 14),
    ('"low"', '"tiny"', "severity: expected", 13, 12),
    (
        'updated_date = "2026/11/23"',
        'updated_date = "2026-11-23"',
        "metadata.updated_date: expected a date such as '2026/11/23'",
        *(3, 16),
    ),
    ('updated_date = "2026/11/23"', 'updated_date = "2026/13/01"', "is not a day", 3, 16),
    ('"production"', '"finished"', "metadata.maturity: expected", 4, 12),
    ('name = "N"', 'name = "N"\nindex = ["a"]\ndata_view_id = "v"', "given beside index", 12, 16),
    (
        'name = "N"',
        'name = "N"\nalert_suppression = { group_by = ["a"] }',
        "alert_suppression.missing_fields_strategy: missing",
        *(11, 21),
    ),
    ('name = "N"', 'name = "N"\ninterval = "1 h"', "interval: '1 h' is not a duration", 11, 12),
    ("a:1\n", "a:1 and\n  b:(2\n", "query: ", 17, 5),
    ("a:1\n", "a:1 and\n  b:>2\n", "query: ", 17, 5),
    (
        'type = "query"',
        'type = "threat_match"\nthreat_query = "b:1"',
        "threat_language: missing",
        6,
        1,
    ),
    ('type = "query"', 'type = "new_terms"\nnew_terms = 5', "new_terms: expected a table", 15, 13),
]


@pytest.mark.parametrize(("old", "new", "message", "line", "column"), TOML_PROBLEMS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_toml_problems_have_their_place(
    old: str, new: str, message: str, line: int, column: int, line_end: str
) -> None:
    text = toml_with(old, new).replace("\n", line_end)
    [loaded] = load_rules(text.encode(), path="r.toml").rules
    assert loaded.status == "invalid"
    [error] = [error for error in loaded.errors if message in error.message]
    assert (error.place.path, error.place.line, error.place.column) == ("r.toml", line, column)
    assert error.place.text == text.split(line_end)[line - 1]
    assert f"r.toml:{line}:{column}: " in loaded.reason


NEW_TERMS = """\
type = "new_terms"
[rule.new_terms]
field = "new_terms_fields"
value = ["user.name"]
[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-7d"
"""


def test_new_terms_are_flattened() -> None:
    text = TOML.replace('type = "query"\n', "") + NEW_TERMS
    [loaded] = load_rules(text, path="r.toml").rules
    assert loaded.status == "ready"
    assert loaded.rule is not None
    assert loaded.rule.new_terms_fields == ("user.name",)
    assert loaded.rule.parameters["history_window_start"] == "now-7d"
    assert "new_terms" not in loaded.rule.parameters


def test_flattened_fields_are_placed_where_they_were_written() -> None:
    text = TOML.replace('type = "query"\n', "") + NEW_TERMS.replace("now-7d", "now-1m")
    text = text.replace('["user.name"]', "[]")
    [loaded] = load_rules(text, path="r.toml").rules
    places = [(error.place.line, error.place.text) for error in loaded.errors]
    assert places == [(20, "value = []"), (23, 'value = "now-1m"')]


def test_placeholders_of_the_guide_are_filled() -> None:
    text = toml_with('name = "N"', 'name = "N"\nnote = "Run ${osquery_0} and ${investigate_0}."')
    text += '[[transform.osquery]]\nlabel = "L"\nquery = "select 1"\n'
    text += '[[transform.investigate]]\nlabel = "M"\nproviders = [[{ field = "f" }]]\n'
    [loaded] = load_rules(text, path="r.toml").rules
    assert loaded.rule is not None
    assert loaded.rule.note == (
        'Run !{osquery{"label":"L","query":"select 1"}} and '
        '!{investigate{"label":"M","providers":[[{"field":"f"}]]}}.'
    )


def test_free_tables_become_json() -> None:
    text = toml_with('name = "N"', 'name = "N"\nmeta = { a = 2026-11-23, b = inf, c = [1] }')
    [loaded] = load_rules(text, path="r.toml").rules
    assert loaded.rule is not None
    assert loaded.rule.parameters["meta"] == {"a": "2026-11-23", "b": "inf", "c": [1]}
    assert json.dumps(loaded.rule.parameters)


SYNTAX = [
    ("a = [1\n", "Unclosed array", 2),
    ("a = 1\na = 2\nb = 3\n", "Cannot overwrite", 2),
    ("a = \n", "Invalid value", 1),
    ("x" * 9, "Expected '='", 1),
]


@pytest.mark.parametrize(("text", "message", "line"), SYNTAX)
def test_broken_toml_is_invalid_with_its_place(text: str, message: str, line: int) -> None:
    for named in (True, False):
        [loaded] = load_rules(text, path="r.toml", named=named).rules
        assert loaded.status == "invalid"
        assert message in loaded.reason
        assert loaded.line == line


def test_broken_toml_still_tells_its_name() -> None:
    [loaded] = load_rules(TOML + "oops", path="r.toml").rules
    assert (loaded.rule_id, loaded.name, loaded.line) == (UUID, "N", 18)


HOSTILE = ["a = " + "[" * 5000, "a = " + "9" * 5000, "a = 0x" + "f" * 5000, "\0", "a = '\xff"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_toml_is_invalid(text: str) -> None:
    [loaded] = load_rules(text, path="r.toml").rules
    assert loaded.status == "invalid"


def test_a_giant_number_is_named_without_being_written_out() -> None:
    text = toml_with("risk_score = 21", "risk_score = 0x" + "f" * 9000)
    [loaded] = load_rules(text, path="r.toml").rules
    assert "found a number beyond all bounds" in loaded.reason


NO_RULES = [
    ("pyproject.toml", '[project]\nname = "x"\n', "not a rule: no [rule] table"),
    ("e.toml", "[metadata]\n[[exceptions]]\n", "not a rule: exception lists in TOML"),
    ("c.toml", "[metadata]\n[[action_connectors]]\n", "not a rule: action connectors"),
    ("any.json", '{"a": 1}', "not a rule"),
    ("any.json", "[1, 2]", "not a rule"),
    ("any.json", '"text"', "not a rule"),
    ("log.jsonl", '{"kind":"Event"}\n{"kind":"Event"}\n{"ki', "not a rule"),
]


@pytest.mark.parametrize(("path", "text", "reason"), NO_RULES)
def test_what_is_no_rule_is_skipped_in_a_folder(path: str, text: str, reason: str) -> None:
    result = load_rules(text, path=path, named=False)
    assert result.rules == ()
    assert [one.reason for one in result.skipped] == [reason]


@pytest.mark.parametrize(("path", "text", "reason"), NO_RULES)
def test_what_is_no_rule_is_invalid_when_named(path: str, text: str, reason: str) -> None:
    result = load_rules(text, path=path, named=True)
    assert {one.status for one in result.rules} == {"invalid"}
    assert any(reason in one.reason for one in result.rules)


@pytest.mark.parametrize("named", [True, False])
def test_metadata_without_a_rule_is_invalid(named: bool) -> None:
    [loaded] = load_rules("\n[metadata]\nx = 1\n", path="r.toml", named=named).rules
    assert (loaded.status, loaded.line) == ("invalid", 2)
    assert "[metadata] without a [rule] table" in loaded.reason


@pytest.mark.parametrize("path", ["r.toml", "r.json", "r.ndjson", "r"])
def test_an_empty_file_is_invalid_when_named(path: str) -> None:
    [loaded] = load_rules(b"", path=path).rules
    assert loaded.status == "invalid"


# JSON


def nd(*objects: object) -> str:
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in objects)


ASSET = {"id": "r1_3", "type": "security-rule", "attributes": RULE}
SECOND = {**RULE, "rule_id": "r2", "name": "N2"}
SHAPES = [
    ("one object", json.dumps(RULE), [("r1", 1)]),
    ("pretty", json.dumps(RULE, indent=2), [("r1", 1)]),
    ("array", json.dumps([RULE, SECOND], indent=2), [("r1", 2), ("r2", 11)]),
    ("find reply", nd({"page": 1, "total": 2, "data": [RULE, SECOND]}), [("r1", 1), ("r2", 1)]),
    ("asset", json.dumps(ASSET, indent=1), [("r1", 4)]),
    ("assets", json.dumps([ASSET, SECOND]), [("r1", 1), ("r2", 1)]),
    ("export", nd(RULE, "", SECOND, DETAILS) + "\n", [("r1", 1), ("r2", 3)]),
    ("crlf", nd(RULE, SECOND).replace("\n", "\r\n"), [("r1", 1), ("r2", 2)]),
    ("byte order mark", "\ufeff" + nd(RULE, SECOND), [("r1", 1), ("r2", 2)]),
    ("line separators", nd({**RULE, "name": "a\u2028b"}, SECOND), [("r1", 1), ("r2", 2)]),
]


@pytest.mark.parametrize(("name", "text", "found"), SHAPES)
@pytest.mark.parametrize("path", ["r.json", "r.ndjson", "export"])
def test_json_shapes(name: str, text: str, found: list[tuple[str, int]], path: str) -> None:
    result = load_rules(text, path=path)
    assert [(one.rule_id, one.line) for one in result.rules] == found, name
    assert {one.status for one in result.rules} == {"ready"}
    assert result.errors == ()


def test_an_export_holds_more_than_rules() -> None:
    values = [{"id": "v", "type": "ip"}, {"list_id": "v", "value": "10.0.0.1"}]
    text = nd(RULE, LIST, ITEM, *values, CONNECTOR, DETAILS)
    result = load_rules(text, path="export.ndjson")
    assert [one.rule_id for one in result.rules] == ["r1"]
    assert [one.list_id for one in result.exceptions.lists] == ["l"]
    assert [one.item_id for one in result.exceptions.items] == ["i"]
    assert result.exceptions.value_lists["v"].values == ("10.0.0.1",)
    assert [(one.line, one.reason) for one in result.skipped] == [
        (6, "an action connector"),
        (7, "the details line of an export"),
    ]
    assert result.errors == ()


def test_one_broken_line_stops_no_other() -> None:
    text = nd(RULE, '{"rule_id": "rx", "name": "half', SECOND).encode() + b"\n{\xff}\n"
    result = load_rules(text, path="export.ndjson")
    assert [(one.rule_id, one.line, one.status) for one in result.rules] == [
        ("r1", 1, "ready"),
        ("rx", 2, "invalid"),
        ("r2", 3, "ready"),
        (None, 4, "invalid"),
    ]
    assert "export.ndjson:2:" in result.rules[1].reason
    assert "export.ndjson:4:2: not UTF-8 text" in result.rules[3].reason


def test_a_broken_pretty_document_is_placed() -> None:
    text = json.dumps(RULE, indent=2).replace('"low",', '"low"')
    [loaded] = load_rules(text, path="r.json").rules
    assert loaded.status == "invalid"
    assert loaded.line == 8


def test_unknown_lines_among_rules_are_told() -> None:
    text = nd(RULE, {"kind": "Event"})
    assert [one.status for one in load_rules(text, path="x.ndjson").rules] == ["ready", "invalid"]
    result = load_rules(text, path="x.ndjson", named=False)
    assert [(one.line, one.reason) for one in result.skipped] == [(2, "not a rule")]


KQL_PLACES = [
    ("indented", json.dumps({**RULE, "query": 'a:1 and "x'}, indent=1), 8, 20),
    ("escaped line break", json.dumps({**RULE, "query": "a:1 and\n\tb:>2"}), 1, None),
    ("asset", json.dumps({"type": "security-rule", "attributes": {**RULE, "query": ")"}}), 1, None),
]


@pytest.mark.parametrize(("name", "text", "line", "column"), KQL_PLACES)
def test_bad_kql_in_json_is_placed(name: str, text: str, line: int, column: int | None) -> None:
    [loaded] = load_rules(text, path="r.json").rules
    [error] = loaded.errors
    assert error.place.line == line, name
    assert error.place.column is not None
    query = text.split("\n")[line - 1]
    assert error.place.text == query
    wanted = {
        "indented": '\\"x',
        "escaped line break": ">2",
        "asset": ")",
    }[name]
    assert query[error.place.column - 1 :].startswith(wanted)
    assert column is None or error.place.column == column


@pytest.mark.parametrize(
    ("literal", "caret_at"),
    [
        ('"a:1 and b:>2"', ">2"),
        ('"é:\\"\\u00e9\\" and b:>2"', ">2"),
        ("'a:1 and b:>2'", ">2"),
        ('"""\na:1 and \\\n   b:>2"""', ">2"),
        ("'''\na:1 and\n\tb:>2'''", ">2"),
    ],
)
def test_bad_kql_in_toml_is_placed(literal: str, caret_at: str) -> None:
    text = toml_with("'''\na:1\n'''", literal)
    [loaded] = load_rules(text, path="r.toml").rules
    [error] = loaded.errors
    assert error.place.text is not None
    assert error.place.column is not None
    assert error.place.text == text.split("\n")[(error.place.line or 0) - 1]
    assert error.place.text[error.place.column - 1 :].startswith(caret_at)
    assert str(error).endswith("^")


def test_deep_objects_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    [loaded] = load_rules(json.dumps({**RULE, "meta": deep}), path="r.json").rules
    assert "nested deeper than 100 levels" in loaded.reason


BROKEN_JSON = [
    ('{"a": NaN}', "NaN is no JSON value"),
    ('{"a": "\\ud800"}', "half a surrogate pair"),
    ("[" * 100_000, "nested too deep"),
    ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
    ("", "not JSON"),
    ('{"rule_id": "x" "name": "y"}', "not JSON: Expecting ',' delimiter"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN_JSON)
def test_broken_json_is_invalid_with_its_reason(text: str, message: str) -> None:
    for path in ("r.json", "r.ndjson"):
        [loaded] = load_rules(text or " x", path=path).rules
        assert loaded.status == "invalid"
        assert message in loaded.reason


def test_numbers_beyond_json_stay_harmless() -> None:
    text = json.dumps({**RULE, "meta": {"big": 10**40}}).replace("21", "1e999")
    [loaded] = load_rules(text, path="r.json").rules
    assert (
        "risk_score: expected a whole number from 0 to 100, found the number inf" in loaded.reason
    )
    [loaded] = load_rules(text.replace("1e999", "21"), path="r.json").rules
    assert loaded.rule is not None
    assert loaded.rule.parameters["meta"] == {"big": hex(10**40)}


# Exception files


def test_an_exception_file_is_read() -> None:
    text = nd(LIST, ITEM, RULE, DETAILS)
    result = load_exceptions(text, path="e.ndjson")
    assert len(result.exceptions.lists) == len(result.exceptions.items) == 1
    assert result.rules == ()
    assert result.skipped[0].reason == "a rule, in a file given for exception lists"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (nd(LIST, '{"list_id', ITEM), [2]),
        (nd({"a": 1}, {"b": 2}), [1]),
        (nd(LIST, {"a": 1}, {"b": 2}), [2, 3]),
        (nd({**LIST, "list_id": ""}), [1]),
        (nd({**ITEM, "entries": []}), [1]),
        (nd({"list_id": "v", "value": 5}), [1]),
        ("[metadata]\n", [1]),
    ],
)
def test_what_is_wrong_in_an_exception_file_is_an_error(text: str, lines: list[int]) -> None:
    result = load_exceptions(text, path="e.ndjson" if text[0] == "{" else "e.toml")
    assert [error.place.line for error in result.errors] == lines
    assert {type(error).__name__ for error in result.errors} == {"ExceptionListError"}


# Anything


@settings(deadline=None, max_examples=120)
@given(st.binary(max_size=60), st.sampled_from(["x.toml", "x.json", "x.ndjson", "x"]))
def test_any_bytes_give_a_result(content: bytes, path: str) -> None:
    assert isinstance(load_rules(content, path=path), LoadResult)
    assert isinstance(load_rules(content, path=path, named=False), LoadResult)
    assert isinstance(load_exceptions(content, path=path), LoadResult)


_KEYS = st.sampled_from([*RULE, "filters", "threat", "threshold", "list_id", "entries", "meta"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_KEYS, inner, max_size=2),
    max_leaves=5,
)


@settings(deadline=None, max_examples=120)
@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_any_values_in_a_rule_give_a_result(changes: dict[str, Any]) -> None:
    for base in (RULE, ITEM):
        result = load_rules(json.dumps({**base, **changes}), path="r.json")
        for loaded in result.rules:
            assert (loaded.rule is None) == (loaded.status == "invalid")
            assert bool(loaded.reason) == (loaded.status != "ready")


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(TOML)), st.text(max_size=3), st.integers(0, 5))
def test_any_damage_to_a_toml_rule_gives_one_rule(at: int, inserted: str, removed: int) -> None:
    text = TOML[:at] + inserted + TOML[at + removed :]
    [loaded] = load_rules(text, path="r.toml").rules
    assert loaded.status in ("ready", "unsupported", "invalid")


def test_a_rule_without_the_repositorys_metadata_is_ready() -> None:
    without = TOML[TOML.index("[rule]") :]
    (loaded,) = load_rules(without, path="mine.toml").rules
    assert (loaded.status, loaded.reason) == ("ready", "")


ESQL = """[rule]
author = ["me"]
description = "D"
language = "esql"
name = "N"
query = '''
QUERY
'''
risk_score = 21
rule_id = "11111111-0000-4000-8000-000000000007"
severity = "low"
type = "esql"
"""
ESQL_QUERIES = [
    ("from a METADATA _id, _version, _index | where x | keep _id, _version, _index, x", ""),
    ("from a metadata _index,_version,_id\n| KEEP *", ""),
    ("from a | stats n = count(*) by x | keep n", ""),
    ("from a | where x", "without a KEEP command"),
    ("from a // | keep *\n | where y", "without a KEEP command"),
    ("from a | keep *", "METADATA must name _id, _version, _index"),
    ("from a metadata _id, _version, _index | keep x", "KEEP must name _id, _version, _index"),
    ("from a /* | keep *", "without a KEEP command"),
    ('from a metadata _id, _version, _index | where b == "c /* d" | keep *', ""),
    ("/*" * 200_000, "without a KEEP command"),
    ('"' + '\\\\"' * 200_000, "without a KEEP command"),
]


@pytest.mark.parametrize(("query", "wrong"), ESQL_QUERIES)
def test_esql_rules_carry_their_events_along(query: str, wrong: str) -> None:
    (loaded,) = load_rules(ESQL.replace("QUERY", query), path="e.toml").rules
    assert loaded.status == ("invalid" if wrong else "unsupported")
    assert wrong in loaded.reason
    (loaded,) = load_rules(ESQL + 'index = ["a"]\n', path="e.toml").rules
    assert "names its indices in FROM" in loaded.reason


@pytest.mark.parametrize(
    "line",
    [
        "name = 1979-05-27",
        "name." + ".".join("x" * 3000) + " = 1",
        "meta." + ".".join("x" * 3000) + " = 1",
        "timestamp_override = '" + ".".join("x" * 600) + "'",
        "severity_mapping = [{field='"
        + "." * 600
        + "', operator='equals', value='', severity='low'}]",
        "response_actions = [{action_type_id='.osquery', params={timeout=10}}]",
    ],
)
def test_an_odd_value_makes_its_rule_invalid_and_nothing_else(line: str) -> None:
    text = TOML.replace('name = "N"\n', "") if line.startswith("name") else TOML
    (loaded,) = load_rules(text + line + "\n", path="r.toml").rules
    assert (loaded.status, loaded.rule) == ("invalid", None)
    for table in ("[metadata]", "[[transform.osquery]]"):
        deep = table + "\n" + ".".join("y" * 3000) + " = 1\n"
        (loaded,) = load_rules(deep + TOML[TOML.index("[rule]") :], path="r.toml").rules
        assert loaded.status == "invalid"


# Whatever a file holds

DEEP = {"a": json.loads("[" * 150 + "]" * 150)}


def test_one_rule_nested_too_deep_stops_no_other() -> None:
    deep = {**RULE, "rule_id": "deep", "name": "Deep", "meta": DEEP}
    text = json.dumps([RULE, deep, {**RULE, "rule_id": "r2"}], indent=1)
    found = load_rules(text, path="r.json").rules
    assert [(each.status, each.rule_id) for each in found] == [
        *(("ready", "r1"), ("invalid", "deep"), ("ready", "r2")),
    ]
    [error] = found[1].errors
    assert error.message == "nested deeper than 100 levels"
    assert found[1].name == "Deep"
    assert error.place.text is not None
    assert error.place.text.strip() == "["


def test_what_is_no_rule_may_nest_as_it_likes() -> None:
    text = json.dumps({"any": DEEP})
    found = load_rules(text, path="tree.json", named=False)
    assert (found.rules, found.errors) == ((), ())
    assert len(found.skipped) == 1


def test_a_list_item_nested_too_deep_is_an_error() -> None:
    text = "\n".join(json.dumps(one) for one in (LIST, ITEM, {**ITEM, "meta": DEEP}))
    for found in (load_rules(text, path="e.ndjson"), load_exceptions(text, path="e.ndjson")):
        assert len(found.exceptions.items) == 1
        [error] = found.errors
        assert (error.message, error.place.line) == ("nested deeper than 100 levels", 3)


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("{key} = 1", 1),
        ("  [{key}]", 4),
        ("t = {{ a = 1, {key} = 2 }}", 14),
    ],
)
@pytest.mark.parametrize("part", ["x", "'x y'", '"x\\" y"'])
def test_a_key_of_very_many_parts_is_refused_before_it_is_parsed(
    line: str, column: int, part: str
) -> None:
    text = TOML + line.format(key=" . ".join([part] * 100_000)) + "\n"
    [loaded] = load_rules(text, path="r.toml").rules
    [error] = loaded.errors
    assert error.message == "a key of more than 100 parts"
    assert (error.place.line, error.place.column) == (18, column)
    assert (loaded.rule_id, loaded.name) == (UUID, "N")


def test_dots_in_texts_are_no_parts_of_keys() -> None:
    text = toml_with('description = "D"', f'description = "{"a." * 300}b, {"a." * 300}b"')
    [loaded] = load_rules(text, path="r.toml").rules
    assert loaded.status == "ready"


def nest_toml(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("levels", [50, 99, 150, 5000])
def test_lists_in_lists_are_read_or_refused_with_their_place(levels: int) -> None:
    [loaded] = load_rules(TOML + f"x = {nest_toml(levels)}\n", path="r.toml").rules
    assert loaded.status == ("ready" if levels < 100 else "invalid")
    assert [error.place.path for error in loaded.errors] == ["r.toml"] * (levels >= 100)


ODD: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**70, -(10**30), "", "now", "now-1d", "1h", "kuery", "a:1", "a:(", "\0"])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["query", "bool", "field", "value", "", "a.b"]), inner)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("rule_id", "type", "name", "description", "risk_score", "severity", "query", "language"),
        *("filters", "threat", "interval", "from", "to", "threshold", "new_terms_fields"),
        *("history_window_start", "severity_mapping", "risk_score_mapping", "exceptions_list"),
        *("alert_suppression", "index", "data_view_id", "saved_id", "threat_mapping", "note"),
        *("threat_query", "threat_filters", "max_signals", "meta", "actions", "response_actions"),
        *("investigation_fields", "required_fields", "throttle", "timeline_id", "id", "new_terms"),
        *("list_id", "entries", "data", "attributes", "items_per_search", "concurrent_searches"),
    ]
)
TYPES = st.sampled_from(
    [
        *("query", "saved_query", "threshold", "new_terms", "threat_match", "eql", "esql"),
        *("machine_learning", "security-rule", "detection", "simple", "ip", "action"),
    ]
)


def to_toml(value: Any) -> str:
    """A value as TOML writes it; null, which it has not, as a date."""
    if value is None:
        return "1979-05-27"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 2**63 or value < 0 else hex(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {to_toml(each)}" for key, each in value.items())
        return "{" + ", ".join(pairs) + "}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "?")


def check_result(result: LoadResult, *, named: bool) -> None:
    assert result.rules or result.skipped or result.errors or result.exceptions.items or not named
    for rule in result.rules:
        assert (rule.rule is None) == (rule.status == "invalid")
        assert bool(rule.reason) == (rule.status != "ready")
        json.dumps([rule.rule.parameters, rule.rule.metadata] if rule.rule else rule.reason)


@given(kind=TYPES, changes=st.dictionaries(KEYS, ODD, max_size=3), named=st.booleans())
@settings(deadline=None, max_examples=125)
def test_any_json_gives_a_result(kind: str, changes: dict[str, Any], named: bool) -> None:
    text = json.dumps({**RULE, "type": kind, **changes}).replace("Infinity", "1e999")
    result = load_rules(text, path="r.json", named=named)
    check_result(result, named=False)
    load_exceptions(text, path="r.json")


@given(
    kind=TYPES,
    changes=st.dictionaries(KEYS, ODD, max_size=3),
    table=st.sampled_from(["metadata", "transform", "rule", "exceptions", "new_terms"]),
    odd=ODD,
)
@settings(deadline=None, max_examples=125)
def test_any_toml_gives_a_result(kind: str, changes: dict[str, Any], table: str, odd: Any) -> None:
    fields = {**RULE, "author": ["We"], "language": "kuery", "rule_id": UUID, "type": kind}
    lines = [f"{key} = {to_toml(value)}" for key, value in {**fields, **changes}.items()]
    beside = "" if table == "rule" else f"{table} = {to_toml(odd)}\n"
    text = beside + "[rule]\n" + "\n".join(lines) + "\n"
    result = load_rules(text, path="r.toml")
    check_result(result, named=True)
    assert len(result.rules) == 1
