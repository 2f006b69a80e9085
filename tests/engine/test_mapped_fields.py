"""Fields as a mapping has them: aliases, multi-fields, null_value, ignore_above, what it lacks."""

from __future__ import annotations

from typing import Any

import pytest

from barrelman.engine.compile import compile_query
from barrelman.engine.reading import field_reader
from barrelman.errors import QueryTypeError
from barrelman.query.kql import parse_kql
from barrelman.query.typecheck import check_types
from barrelman.records.event import Event
from barrelman.records.mapping import parse_mapping

CATALOGUE = parse_mapping(
    {
        "dynamic": False,
        "properties": {
            "name": {
                "type": "text",
                "fields": {
                    "raw": {"type": "keyword"},
                    "short": {"type": "keyword", "ignore_above": 6},
                },
            },
            "code": {"type": "long", "null_value": -1},
            "state": {"type": "keyword", "null_value": "none"},
            "number": {"type": "alias", "path": "code"},
            "status": {"type": "alias", "path": "state"},
            "cluster": {"type": "constant_keyword", "value": "prod"},
            "path": {"type": "wildcard"},
            "release": {"type": "version"},
            "when": {"type": "date", "format": "epoch_second"},
            "labels": {"type": "flattened", "ignore_above": 4},
            "tags": {"type": "alias", "path": "labels"},
            "all": {"type": "keyword"},
            "first": {"type": "keyword", "copy_to": "all"},
            "last": {"type": "keyword", "copy_to": "all"},
            "o": {"properties": {"f": {"type": "keyword"}, "h": {"enabled": False}}},
            "free": {"dynamic": True, "properties": {}},
            "n": {
                "type": "nested",
                "properties": {
                    "k": {"type": "keyword", "null_value": "nil"},
                    "t": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
                    "alias": {"type": "alias", "path": "n.k"},
                },
            },
            "blob": {"type": "keyword", "index": False, "doc_values": False},
        },
    }
).catalogue


def matches(query: str, document: dict[str, Any]) -> bool:
    predicate = compile_query(parse_kql(query), CATALOGUE)
    return predicate.matches(Event(document, is_document=True), now_ms=0)


@pytest.mark.parametrize(
    ("query", "document", "expected"),
    [
        # multi-fields
        ("name: moon", {"name": "The Moon"}, True),
        ("name.raw: moon", {"name": "The Moon"}, False),
        ('name.raw: "The Moon"', {"name": "The Moon"}, True),
        ("name.raw: *Moon", {"name": ["x", "The Moon"]}, True),
        ("name.raw: *", {"name": "!"}, True),
        ("name: *", {"name": "!"}, False),
        ("name.raw: *", {"name": None}, False),
        ("name.raw: x", {"name.raw": "x"}, False),
        # ignore_above counts UTF-16 units, and takes the value away
        ("name.short: sixsix", {"name": "sixsix"}, True),
        ("name.short: sevenss", {"name": "sevenss"}, False),
        ("name.short: *", {"name": "sevenss"}, False),
        ("name.short: *", {"name": ["sevenss", "b"]}, True),
        ("not name.short: *", {"name": "🚢🚢🚢🚢"}, True),
        ("name.short: *", {"name": "🚢🚢🚢"}, True),
        # null_value: of an explicit null alone
        ("code: -1", {"code": None}, True),
        ("code: -1", {"code": [None]}, True),
        ("code: -1", {"code": [3, None]}, True),
        ("code: -1", {"code": []}, False),
        ("code: -1", {}, False),
        ("code < 0", {"code": None}, True),
        ("code: *", {"code": None}, True),
        ("state: none", {"state": None}, True),
        ("not state: *", {"state": None}, False),
        ("state: none", {"state": {"x": None}}, False),
        # aliases, with all that their field has
        ("number: -1", {"code": None}, True),
        ("number > 2", {"code": "3"}, True),
        ("number: *", {"number": 3}, False),
        ("status: none", {"state": [[None]]}, True),
        ("not status: *", {}, True),
        # the one value of every document
        ("cluster: prod", {}, True),
        ("cluster: *", {}, True),
        ("cluster: test", {"cluster": "test"}, False),
        # types
        ("path: *bin*", {"path": "/usr/bin/sh"}, True),
        ("release < 1.10.0", {"release": "1.9.0"}, True),
        ("release < 1.10.0", {"release": "1.10.0-rc.1"}, True),
        ("release >= 1.10", {"release": "1.9"}, False),
        ("release: 1.9.0", {"release": "1.9"}, False),
        ("release: 1.*", {"release": "1.9"}, True),
        ('when >= "2020-01-01" and when < "2021"', {"when": 1_600_000_000}, True),
        ('when: "2020-09-13"', {"when": "1600000000"}, True),
        # flattened
        ("labels.a: x", {"labels": {"a": "x"}}, True),
        ("labels: x", {"labels": {"a": {"b": "x"}}}, True),
        ("labels.a: *", {"labels": {"a": "long!"}}, False),
        ("labels: long!", {"labels": {"a": "long!"}}, False),
        ("tags.a: x", {"labels": {"a": "x"}}, True),
        ("tags: x", {"labels": {"a": "x"}}, True),
        # copies
        ("all: (a and b)", {"first": "a", "last": ["b"]}, True),
        ("all: c", {"all": "c"}, True),
        # what the mapping lacks is in no document
        ("other: x", {"other": "x"}, False),
        ("not other: x", {"other": "x"}, True),
        ("other: *", {"other": "x"}, False),
        ("o.g: x", {"o": {"g": "x"}}, False),
        ("o: *", {"o": {"g": "x"}}, False),
        ("o: *", {"o.g": "x"}, False),
        ("o: *", {"o": {"f": "x"}}, True),
        ("o: *", {"o.f": "x"}, True),
        ("o.h.x: y", {"o": {"h": {"x": "y"}}}, False),
        ("o.h: *", {"o": {"h": {"x": "y"}}}, False),
        ("free.x: 3", {"free": {"x": 3}}, True),
        ("free: *", {"free": {"x": 3}}, True),
        ("blob: x", {"blob": "x"}, False),
        ("blob: *", {"blob": "x"}, False),
        # nested
        ("n.k: x", {"n": {"k": "x"}}, False),
        ("n: {k: x}", {"n": [{"k": "x"}]}, True),
        ("n: {k: nil}", {"n": [{"k": None}]}, True),
        ("n: {alias: x}", {"n": [{"k": "x"}]}, True),
        ("n: {t.raw: A}", {"n": [{"t": "A"}]}, True),
        ("n: {t: a}", {"n": [{"t": "A"}]}, True),
        ("n: {z: a}", {"n": [{"z": "a"}]}, False),
        ("n.alias: x", {"n": [{"k": "x"}]}, False),
        ("n: {* : x}", {"n": [{"k": "x"}]}, True),
        # wildcard names and free text see aliases and multi-fields, and nothing unmapped
        ("na*: Moon", {"name": "Moon"}, True),
        ("name.*: moon", {"name": "Moon"}, False),
        ("name.*: Moon", {"name": "Moon"}, True),
        ("sta*: none", {"state": None}, True),
        ("num*: 3", {"code": 3}, True),
        ("oth*: x", {"other": "x"}, False),
        ("x", {"other": "x"}, False),
        ("prod", {}, True),
        ("moon", {"name": "The moon"}, True),
    ],
)
def test_conditions_on_mapped_fields(query: str, document: dict[str, Any], expected: bool) -> None:
    assert matches(query, document) is expected


@pytest.mark.parametrize(
    ("name", "document", "expected"),
    [
        ("name.raw", {"name": ["a", "b"]}, ["a", "b"]),
        ("number", {"code": [1, None]}, [1, -1]),
        ("cluster", {}, ["prod"]),
        ("when", {"when": [1, "x", 1.5]}, [1000, "x", 1500.0]),
        ("n.k", {"n": {"k": "x"}}, []),
        ("other", {"other": "x"}, []),
        ("free.y", {"free": {"y": 1}}, [1]),
        ("all", {"all": 1, "last": 2}, [1, 2]),
    ],
)
def test_values_of_mapped_fields(name: str, document: dict[str, Any], expected: list[Any]) -> None:
    read = field_reader(name, catalogue=CATALOGUE)
    assert read(Event(document, is_document=True)) == expected


def test_raw_audit_events_have_their_fields_under_other_names_too() -> None:
    found = parse_mapping(
        {
            "properties": {
                "who": {"type": "alias", "path": "user.name"},
                "user": {"properties": {"name": {"type": "keyword"}}},
                "kubernetes.audit.verb": {"type": "keyword", "null_value": "none"},
            }
        }
    ).catalogue
    event = Event({"verb": "get", "user": {"username": "kim"}})
    for query in ("who: kim", "who: *", "kubernetes.audit.verb: get"):
        assert compile_query(parse_kql(query), found).matches(event, now_ms=0), query
    assert field_reader("who", catalogue=found)(event) == ["kim"]


@pytest.mark.parametrize(
    "query", ["o: {f: x}", "labels: {a: x}", "other: {a: x}", "n: {o: {a: x}}"]
)
def test_what_is_not_nested_is_not_asked_as_if(query: str) -> None:
    with pytest.raises(QueryTypeError, match="the mapping has no nested object"):
        check_types(parse_kql(query), CATALOGUE, text=query)
    check_types(parse_kql("n: {k: x}"), CATALOGUE)
