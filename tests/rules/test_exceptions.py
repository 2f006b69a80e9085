"""Exception items as expressions, what is refused, and which rule gets which list."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Before,
    Boolean,
    Exists,
    Is,
    Nested,
    Node,
    Not,
    Or,
    Pattern,
    Text,
    Wild,
)
from barrelman.rules.assign import Assignment, assign_exceptions, rule_predicate
from barrelman.rules.exceptions import (
    ExceptionSet,
    ValueList,
    exception_node,
    merge_sets,
    parse_value_list,
)
from barrelman.rules.filters import MATCH_NONE
from barrelman.rules.load import load_exceptions, load_rules
from barrelman.rules.rule import Rule

F = Text("f")
A, B = Is(F, Text("a", quoted=True)), Is(F, Text("b", quoted=True))
MATCH_A = {"type": "match", "field": "f", "operator": "included", "value": "a"}


def load(*objects: dict[str, Any]) -> ExceptionSet:
    result = load_exceptions("\n".join(json.dumps(one) for one in objects), path="e.ndjson")
    assert result.errors == ()
    return result.exceptions


def item(*entries: dict[str, Any], list_id: str = "l", **more: Any) -> dict[str, Any]:
    made = {"list_id": list_id, "item_id": "i", "type": "simple", "entries": list(entries)}
    return {**made, **more}


def entry(kind: str, operator: str = "included", **more: Any) -> dict[str, Any]:
    return {"type": kind, "field": "f", "operator": operator, **more}


VALUES = {
    "keys": parse_value_list("a\n\n  b \r\n", list_id="keys", list_type="keyword", path="keys"),
    "ips": ValueList("ips", "ip", ("10.0.0.1", "10.1.0.0/16")),
    "spans": ValueList("spans", "ip_range", ("10.0.0.0-10.0.0.2", "192.168.0.0/16", "fe80::1")),
    "none": ValueList("none", "keyword", ()),
    "bad": ValueList("bad", "ip", ("10.0.0.1", "ten"), (1, 2), "bad"),
}


def listed(list_id: str, list_type: str, operator: str = "included") -> dict[str, Any]:
    return entry("list", operator, list={"id": list_id, "type": list_type})


def any_is(*values: str) -> Or:
    return Or(tuple(Is(F, Text(value)) for value in values))


ITEMS: list[tuple[dict[str, Any], Node]] = [
    (item(MATCH_A), A),
    (item(entry("match", "excluded", value="a")), Not(A)),
    (item(entry("match", value=True)), Is(F, Boolean(True))),
    (item(entry("match_any", value=["a", "b"])), Or((A, B))),
    (item(entry("match_any", "excluded", value=["a", "b"])), Not(Or((A, B)))),
    (item(entry("exists")), Exists(F)),
    (item(entry("exists", "excluded")), Not(Exists(F))),
    (item(entry("wildcard", value="a?*")), Is(F, Pattern(("a", Wild.CHAR, Wild.RUN)))),
    (
        item(
            {
                "type": "nested",
                "field": "f",
                "entries": [
                    {**MATCH_A, "field": "x"},
                    {**entry("exists", "excluded"), "field": "y"},
                ],
            }
        ),
        Nested(F, And((Is(Text("x"), Text("a", quoted=True)), Not(Exists(Text("y")))))),
    ),
    (item(MATCH_A, entry("exists")), And((A, Exists(F)))),
    (item(listed("keys", "keyword")), any_is("a", "b")),
    (item(listed("keys", "keyword", "excluded")), Not(any_is("a", "b"))),
    (item(listed("ips", "ip")), any_is("10.0.0.1", "10.1.0.0/16")),
    (
        item(listed("spans", "ip_range")),
        any_is("10.0.0.0/31", "10.0.0.2/32", "192.168.0.0/16", "fe80::1"),
    ),
    (item(listed("none", "keyword")), MATCH_NONE),
    (item(MATCH_A, expire_time="1970-01-01T00:00:01.500Z"), And((A, Before(1500)))),
    (
        item(MATCH_A, os_types=["linux"]),
        And(
            (
                A,
                Or(
                    (
                        Is(Text("host.os.type"), Text("linux")),
                        Is(Text("host.os.name"), Pattern(("linux",), ignore_case=True)),
                    )
                ),
            )
        ),
    ),
]


@pytest.mark.parametrize(("data", "node"), ITEMS)
def test_an_item_is_translated(data: dict[str, Any], node: Node) -> None:
    assert exception_node(load(data).items, value_lists=VALUES) == (node, ())


def test_any_item_of_several_suffices() -> None:
    items = load(item(MATCH_A), item(entry("exists"))).items
    assert exception_node(items) == (Or((A, Exists(F))), ())
    assert exception_node(()) == (None, ())


REFUSED: list[tuple[dict[str, Any], str]] = [
    (item(listed("nowhere", "ip")), "the values of list 'nowhere' are not known"),
    (item(MATCH_A, listed("keys", "date")), "value lists of type 'date' are not supported"),
    (item(listed("bad", "ip", "excluded")), "value list 'bad': 'ten' is no value of type 'ip'"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED)
def test_an_item_that_cannot_be_said_is_not_applied(data: dict[str, Any], message: str) -> None:
    node, [error] = exception_node(load(data, item(entry("exists"))).items, value_lists=VALUES)
    assert node == Exists(F)
    assert message in error.message
    assert "item 'i' of exception list 'l' is not applied" in error.message
    assert error.place.path in ("e.ndjson", "bad")
    assert error.place.line is not None


def test_a_bad_value_leaves_the_others_of_its_list() -> None:
    node, [error] = exception_node(load(item(listed("bad", "ip"))).items, value_lists=VALUES)
    assert node == Is(F, Text("10.0.0.1"))
    assert str(error.place) == "bad:2"


@pytest.mark.parametrize("value", ["10.0.0.9-10.0.0.1", "10.0.0.1-fe80::1", "1-2", "x/8", "-"])
def test_bad_spans_are_named(value: str) -> None:
    values = {"v": ValueList("v", "ip_range", (value,))}
    node, [error] = exception_node(load(item(listed("v", "ip_range"))).items, value_lists=values)
    assert node == MATCH_NONE
    assert f"'{value}' is no value of type 'ip_range'" in error.message


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_span_holds_exactly_its_addresses(one: int, other: int, probe: int) -> None:
    first, last = sorted((one, other))
    values = {"v": ValueList("v", "ip_range", (f"{ip_address(first)} - {ip_address(last)}",))}
    node, errors = exception_node(load(item(listed("v", "ip_range"))).items, value_lists=values)
    assert errors == ()
    leaves = node.children if isinstance(node, Or) else (node,)
    networks = [
        ip_network(leaf.value.value)
        for leaf in leaves
        if isinstance(leaf, Is) and isinstance(leaf.value, Text)
    ]
    assert len(networks) == len(leaves)
    for address in (first, last, probe, max(first - 1, 0), min(last + 1, 2**32 - 1)):
        inside = any(ip_address(address) in network for network in networks)
        assert inside == (first <= address <= last)


BROKEN: list[tuple[dict[str, Any], str]] = [
    (item(), "entries: expected a list of at least 1"),
    (item(entry("regex", value="a")), "entries[0].type: expected one of match, match_any, exists"),
    (item(entry("match")), "entries[0].value: missing"),
    (item(entry("match", value=[1])), "entries[0].value: expected a text, found a list of 1"),
    (item(entry("match", "is", value="a")), "entries[0].operator: expected 'included' or 'excl"),
    (item(entry("match_any", value=[])), "entries[0].value: expected a list of at least 1"),
    (item(entry("list", list={"id": "x"})), "entries[0].list.type: missing"),
    (
        item({"type": "nested", "field": "f", "entries": [entry("wildcard", value="a")]}),
        "entries[0].entries[0].type: expected one of match, match_any, exists, found 'wildcard'",
    ),
    (item("f"), "entries[0]: expected an object"),  # type: ignore[arg-type]
    (item(MATCH_A, expire_time="soon"), "expire_time: 'soon' is not a date"),
    (item(MATCH_A, os_types=["beos"]), "os_types[0]: expected 'linux', 'macos' or 'windows'"),
    (item(MATCH_A, namespace_type="both"), "namespace_type: expected 'single' or 'agnostic'"),
]


@pytest.mark.parametrize(("data", "message"), BROKEN)
def test_a_broken_item_is_not_applied(data: dict[str, Any], message: str) -> None:
    text = json.dumps({"list_id": "l", "type": "detection"}) + "\n" + json.dumps(data)
    result = load_exceptions(text, path="e.ndjson")
    assert result.exceptions.items == ()
    [error] = result.errors
    assert message in error.message
    assert "item 'i' is not applied" in error.message
    assert error.place.line == 2
    assert error.place.column is not None


def test_sets_are_joined() -> None:
    first = ExceptionSet(value_lists={"v": ValueList("v", "ip", ("1.1.1.1",), (4,), "a")})
    second = ExceptionSet(value_lists={"v": ValueList("v", None, ("2.2.2.2",), (5,), "b")})
    joined = merge_sets((first, second)).value_lists["v"]
    assert (joined.type, joined.values) == ("ip", ("1.1.1.1", "2.2.2.2"))
    assert str(joined.place(1)) == ""
    assert str(merge_sets((first, first)).value_lists["v"].place(1)) == "a:4"


# Which lists apply to which rule


def rule(rule_id: str, *refs: tuple[str, str], query: str = "q:1") -> Rule:
    lists = [
        {"id": "x", "list_id": list_id, "type": "detection", "namespace_type": space}
        for list_id, space in refs
    ]
    data = {
        "rule_id": rule_id,
        "type": "query",
        "name": rule_id,
        "description": "d",
        "risk_score": 1,
        "severity": "low",
        "query": query,
        "exceptions_list": lists,
    }
    [loaded] = load_rules(json.dumps(data), path="r.json").rules
    assert loaded.rule is not None
    return loaded.rule


def container(list_id: str, list_type: str = "detection", **more: Any) -> dict[str, Any]:
    return {"list_id": list_id, "type": list_type, "name": list_id, **more}


def assign(
    *rules: Rule, given: ExceptionSet | None = None, exported: ExceptionSet | None = None
) -> Assignment:
    return assign_exceptions(
        rules, given=given or ExceptionSet(), exported=exported or ExceptionSet()
    )


def test_a_rule_gets_the_lists_it_names() -> None:
    found = load(container("l"), item(MATCH_A), container("m"), item(entry("exists"), list_id="m"))
    rules = (rule("r1", ("l", "single")), rule("r2", ("l", "single"), ("m", "single")), rule("r3"))
    for result in (assign(*rules, given=found), assign(*rules, exported=found)):
        assert result.exceptions == {"r1": A, "r2": Or((A, Exists(F)))}
        assert (result.notes, result.errors, result.rule_notes) == ((), (), {})


def test_the_namespace_counts_where_both_give_it() -> None:
    for space, applies in ((None, True), ("agnostic", True), ("single", False)):
        found = load(container("l", namespace_type=space), item(MATCH_A, namespace_type=space))
        result = assign(rule("r", ("l", "agnostic")), given=found)
        assert ("r" in result.exceptions) == applies
        assert ("r" in result.rule_notes) == (not applies)
        assert result.notes == (), "a list that a rule names never applies to every rule"


def test_a_list_that_was_not_given_is_noted() -> None:
    result = assign(rule("r", ("l", "single"), ("endpoint_list", "agnostic")))
    assert result.exceptions == {}
    assert result.rule_notes == {
        "r": ("exception list 'l' was not given: it is not applied",),
    }


def test_the_endpoint_list_is_left_to_its_agent() -> None:
    found = load(container("endpoint_list", "endpoint"), item(MATCH_A, list_id="endpoint_list"))
    result = assign(rule("r", ("endpoint_list", "agnostic")), given=found)
    assert (result.exceptions, result.notes, result.rule_notes) == ({}, (), {})


UNNAMED: list[tuple[list[dict[str, Any]], bool, str]] = [
    ([container("l"), item(MATCH_A)], True, "it applies to every rule"),
    ([container("l", "rule_default"), item(MATCH_A)], False, "of type 'rule_default' is named by"),
    ([item(MATCH_A)], False, "the line that gives its type is missing"),
]


@pytest.mark.parametrize(("objects", "applies", "note"), UNNAMED)
def test_a_given_list_that_no_rule_names(
    objects: list[dict[str, Any]], applies: bool, note: str
) -> None:
    result = assign(rule("r1"), rule("r2"), given=load(*objects))
    assert set(result.exceptions) == ({"r1", "r2"} if applies else set())
    [said] = result.notes
    assert note in said


def test_an_exported_list_that_no_rule_names_is_not_applied() -> None:
    result = assign(rule("r"), exported=load(container("l"), item(MATCH_A)))
    assert result.exceptions == {}
    assert "no rule names it: it is not applied" in result.notes[0]


def test_an_item_in_error_is_told_once() -> None:
    found = load(container("l"), item(listed("nowhere", "ip")), item(MATCH_A))
    result = assign(rule("r1", ("l", "single")), rule("r2", ("l", "single")), given=found)
    assert result.exceptions == {"r1": A, "r2": A}
    assert len(result.errors) == 1


def test_the_predicate_is_query_and_filters_and_not_exceptions() -> None:
    query = Is(Text("q"), Text("1"))
    assert rule_predicate(rule("r")) == query
    assert rule_predicate(rule("r"), exceptions=A) == And((query, Not(A)))
    assert rule_predicate(rule("r", query="")) == MATCH_ALL
    assert rule_predicate(rule("r", query="q:1 and q:1"), exceptions=A) == And(
        (query, query, Not(A))
    )


@pytest.mark.parametrize("inside", [False, True])
def test_the_name_of_an_entrys_field_has_its_bounds(inside: bool) -> None:
    long = {**MATCH_A, "field": ".".join("f" * 101)}
    one = {"type": "nested", "field": "n", "entries": [long]} if inside else long
    result = load_exceptions(json.dumps(item(MATCH_A, one), indent=1), path="e.json")
    assert result.exceptions.items == ()
    [error] = result.errors
    where = "entries[1].entries[0].field" if inside else "entries[1].field"
    assert f"{where}: expected a field name of at most 100 parts" in error.message
    assert error.place.text is not None
    assert "f.f.f" in error.place.text
