"""Elasticsearch mappings as catalogues: types, wrappers, what is said and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from barrelman.errors import MappingError
from barrelman.records.fields import Catalogue, FieldPlace, FieldType
from barrelman.records.mapping import parse_mapping


def catalogue(**properties: Any) -> Catalogue:
    return parse_mapping({"properties": properties}).catalogue


@pytest.mark.parametrize(
    ("kind", "compared", "mapped"),
    [
        ("keyword", FieldType.KEYWORD, FieldType.KEYWORD),
        ("wildcard", FieldType.KEYWORD, FieldType.WILDCARD),
        ("constant_keyword", FieldType.KEYWORD, FieldType.CONSTANT_KEYWORD),
        ("text", FieldType.TEXT, FieldType.TEXT),
        ("match_only_text", FieldType.TEXT, FieldType.TEXT),
        ("long", FieldType.LONG, FieldType.LONG),
        ("byte", FieldType.LONG, FieldType.LONG),
        ("unsigned_long", FieldType.LONG, FieldType.LONG),
        ("scaled_float", FieldType.DOUBLE, FieldType.DOUBLE),
        ("double", FieldType.DOUBLE, FieldType.DOUBLE),
        ("boolean", FieldType.BOOLEAN, FieldType.BOOLEAN),
        ("date", FieldType.DATE, FieldType.DATE),
        ("date_nanos", FieldType.DATE, FieldType.DATE),
        ("ip", FieldType.IP, FieldType.IP),
        ("flattened", FieldType.FLATTENED, FieldType.FLATTENED),
        ("version", FieldType.VERSION, FieldType.VERSION),
        ("geo_point", None, None),
    ],
)
def test_types(kind: str, compared: FieldType | None, mapped: FieldType | None) -> None:
    found = catalogue(f={"type": kind})
    assert found.type_of("f") is compared
    assert found.explicit_type_of("f") is mapped
    assert found.knows("f")
    assert not found.lacks("f")


_F = {"f": {"type": "keyword"}}


@pytest.mark.parametrize(
    "document",
    [
        {"properties": _F},
        {"mappings": {"properties": _F}},
        {"mappings": {"_doc": {"properties": _F}}},
        {"mappings": {"_meta": {"managed": True}, "properties": _F}},
        {"logs-1": {"mappings": {"properties": _F}}},
        {"logs-1": {"aliases": {}, "mappings": {"properties": _F}, "settings": {}}},
        {"index_patterns": ["logs-*"], "template": {"mappings": {"properties": _F}}},
        _F,
    ],
)
def test_wrappers(document: Any) -> None:
    assert parse_mapping(document).catalogue.type_of("f") is FieldType.KEYWORD


def test_of_several_indices_one_is_picked() -> None:
    two = {name: {"mappings": {"properties": {name: {"type": "ip"}}}} for name in ("a", "b")}
    assert parse_mapping(two, index="b").catalogue.knows("b")
    assert parse_mapping(two, index="b").index == "b"
    with pytest.raises(MappingError, match="2 indices: a, b"):
        parse_mapping(two)


@pytest.mark.parametrize("document", [{}, {"mappings": {}}, {"properties": {}}])
def test_an_empty_mapping_is_open_to_anything(document: Any) -> None:
    found = parse_mapping(document).catalogue
    assert not found.knows("f")
    assert not found.lacks("f")
    assert found.type_of("f") is None


def test_objects_and_dotted_names() -> None:
    found = catalogue(**{"a.b": {"properties": {"c.d": {"type": "long"}}}, "e": {"properties": {}}})
    assert found.type_of("a.b.c.d") is FieldType.LONG
    assert found.objects == {"a", "a.b", "a.b.c", "e"}
    assert found.fields_below("a") == ["a.b.c.d"]
    assert all(map(found.knows, ("a", "a.b", "a.b.c", "a.b.c.d", "e")))


@pytest.mark.parametrize(
    ("root", "inner", "is_lacking"),
    [
        (None, None, (False, False)),
        (True, None, (False, False)),
        ("runtime", None, (False, False)),
        (False, None, (True, True)),
        ("strict", None, (True, True)),
        ("false", "true", (True, False)),
        (True, False, (False, True)),
    ],
)
def test_what_a_mapping_lacks(root: Any, inner: Any, is_lacking: tuple[bool, bool]) -> None:
    spec: dict[str, Any] = {"properties": {"o": {"properties": {"f": {"type": "keyword"}}}}}
    if root is not None:
        spec["dynamic"] = root
    if inner is not None:
        spec["properties"]["o"]["dynamic"] = inner
    found = parse_mapping(spec).catalogue
    assert (found.lacks("x"), found.lacks("o.x")) == is_lacking
    assert found.lacks("o.f.x")  # a keyword holds no fields
    assert not found.knows("x")


def test_what_is_below_a_flattened_field_is_known() -> None:
    found = parse_mapping({"dynamic": False, "properties": {"f": {"type": "flattened"}}}).catalogue
    assert found.knows("f.a.b")
    assert not found.lacks("f.a.b")
    assert found.type_of("f.a.b") is FieldType.FLATTENED


def test_an_object_that_is_not_enabled_shows_nothing() -> None:
    assert catalogue(o={"enabled": False}).lacks("o.f")


def test_multi_fields_and_aliases() -> None:
    found = catalogue(
        message={"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 3}}},
        size={"type": "long"},
        bytes={"type": "alias", "path": "size"},
        limited={"type": "keyword", "ignore_above": "5", "null_value": "none"},
        short={"type": "alias", "path": "limited"},
    )
    assert found.type_of("message.raw") is FieldType.KEYWORD
    assert found.place_of("message.raw") == FieldPlace(("message",), ignore_above=3)
    assert found.type_of("bytes") is FieldType.LONG
    assert found.place_of("bytes") == FieldPlace(("size",))
    assert found.place_of("short") == FieldPlace(("limited",), null_value="none", ignore_above=5)
    assert found.place_of("size") is None
    assert "message" not in found.objects


def test_the_exact_field_of_a_text() -> None:
    found = catalogue(
        a={"type": "text", "fields": {"n": {"type": "long"}, "k": {"type": "keyword"}}},
        b={"type": "text"},
        c={"type": "keyword", "fields": {"text": {"type": "text"}}},
    )
    assert found.exact_name("a") == "a.k"
    assert found.exact_name("b") is None
    assert found.exact_name("c") == "c"
    assert found.exact_name("nowhere") == "nowhere"
    assert Catalogue().exact_name("a") == "a"


def test_an_alias_of_a_flattened_field_has_its_keys() -> None:
    found = catalogue(f={"type": "flattened"}, g={"type": "alias", "path": "f"})
    assert found.place_of("g.a.b") == FieldPlace(("f.a.b",))


def test_copies() -> None:
    found = catalogue(
        first={"type": "keyword", "copy_to": "all"},
        last={"type": "keyword", "copy_to": ["all", "unmapped"]},
        all={"type": "text", "fields": {"raw": {"type": "keyword"}}},
    )
    assert found.place_of("all") == FieldPlace(("all", "first", "last"))
    assert found.place_of("all.raw") == FieldPlace(("all", "first", "last"))
    assert found.place_of("unmapped") == FieldPlace(("unmapped", "last"))


def test_notes() -> None:
    spec = {
        "dynamic_templates": [{"t": {}}],
        "runtime": {"computed": {"type": "long", "script": "emit(1)"}, "plain": {"type": "long"}},
        "properties": {
            "where": {"type": "geo_point"},
            "name": {"type": "keyword", "normalizer": "lowercase"},
            "text": {"type": "text", "analyzer": "standard"},
            "when": {"type": "date", "format": "strict_date_optional_time||MM/dd/yyyy"},
            "blob": {"type": "keyword", "index": False, "doc_values": False},
            "column": {"type": "keyword", "index": False},
        },
    }
    found = parse_mapping(spec)
    assert found.notes == (
        "dynamic_templates have no effect here",
        "the runtime field computed is not computed: it has no value here",
        "where of type geo_point: typed by values here",
        "normalizer has no effect here: name",
        "the date format MM/dd/yyyy has no effect here: when",
        "what is not indexed has no effect here: blob",
    )
    assert found.catalogue.type_of("plain") is FieldType.LONG
    assert found.catalogue.place_of("blob") == FieldPlace(())
    assert found.catalogue.place_of("column") is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "a mapping is a JSON object"),
        ("keyword", "a mapping is a JSON object"),
        ({"mappings": [], "settings": {}}, "neither properties nor mappings"),
        ({"settings": {}}, "neither properties nor mappings"),
        ({"properties": []}, "properties is not an object"),
        ({"properties": {"a": "keyword"}}, "a is not an object"),
        ({"properties": {"o": {"properties": {"a": 1}}}}, r"o\.a is not an object"),
        ({"properties": {"": {"type": "ip"}}}, "a field without a name"),
        ({"properties": {"a": {"type": "keyworde"}}}, "a is of type keyworde, which is none"),
        ({"properties": {"a": {"type": 1}}}, "a has no type"),
        ({"properties": {"a": {"type": "text", "fields": {"k": {}}}}}, r"a\.k has no type"),
        ({"properties": {"a": {"type": "alias"}}}, "a is an alias without a path"),
        ({"properties": {"a": {"type": "alias", "path": "b"}}}, "a is an alias of b"),
        (
            {"properties": {"a": {"type": "alias", "path": "o"}, "o": {"properties": {}}}},
            "a is an alias of o",
        ),
        (
            {
                "properties": {
                    "a": {"type": "alias", "path": "n.f"},
                    "n": {"type": "nested", "properties": {"f": {"type": "ip"}}},
                }
            },
            "in another nested object",
        ),
        ({"properties": {"a": {"type": "keyword", "ignore_above": "x"}}}, "ignore_above of a"),
        ({"properties": {"a": {"type": "keyword", "null_value": []}}}, "null_value of a"),
    ],
)
def test_what_is_no_mapping(document: Any, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        parse_mapping(document)


def test_a_type_that_is_none_is_answered_with_one_that_is() -> None:
    with pytest.raises(MappingError) as caught:
        parse_mapping({"properties": {"a": {"type": "keywrd"}}})
    assert caught.value.hint == "did you mean keyword?"


def test_a_mapping_may_be_deep_but_not_endless() -> None:
    deep: dict[str, Any] = {"type": "keyword"}
    for _ in range(500):
        deep = {"properties": {"o": deep}}
    with pytest.raises(MappingError, match="nests more than"):
        parse_mapping({"properties": {"o": deep}})
