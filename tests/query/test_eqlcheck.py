"""What fields cannot take is told before an EQL query runs."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from barrelman.errors import QueryTypeError
from barrelman.query.eql import parse_eql
from barrelman.query.eqlcheck import check_eql
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldPlace, FieldType
from barrelman.records.paths import LONGEST_NAME

TYPES = {
    "k": FieldType.KEYWORD,
    "t": FieldType.TEXT,
    "tk": FieldType.TEXT,
    "tk.raw": FieldType.KEYWORD,
    "w": FieldType.WILDCARD,
    "c": FieldType.CONSTANT_KEYWORD,
    "v": FieldType.VERSION,
    "b": FieldType.BOOLEAN,
    "l": FieldType.LONG,
    "d": FieldType.DOUBLE,
    "date": FieldType.DATE,
    "ip": FieldType.IP,
    "f": FieldType.FLATTENED,
    "n": FieldType.NESTED,
    "n.k": FieldType.KEYWORD,
    "o.k": FieldType.KEYWORD,
}
MAPPED = Catalogue(
    exact=TYPES,
    names=frozenset({*TYPES, "o"}),
    objects=frozenset({"n", "o"}),
    places={"tk.raw": FieldPlace(("tk",))},
)
CATALOGUES = {
    "mapped": MAPPED,
    "untyped": Catalogue(),
    "audit": AUDIT_CATALOGUE,
    "open": Catalogue(exact=TYPES),
}
CASES: dict[str, list[dict[str, Any]]] = tomllib.loads(
    (Path(__file__).parent / "eql_types.toml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", CASES["suits"], ids=lambda case: case["eql"])
def test_what_suits_its_fields(case: dict[str, Any]) -> None:
    query = parse_eql(case["eql"])
    for name in case.get("catalogues", ["mapped"]):
        check_eql(query, CATALOGUES[name], text=case["eql"])


@pytest.mark.parametrize("case", CASES["mistake"], ids=lambda case: case["eql"])
def test_what_does_not_suit_is_told_with_its_place(case: dict[str, Any]) -> None:
    query = parse_eql(case["eql"])
    for name in case.get("catalogues", ["mapped"]):
        with pytest.raises(QueryTypeError) as raised:
            check_eql(query, CATALOGUES[name], text=case["eql"])
        error = raised.value
        assert (error.message, error.place.column) == (case["message"], case["column"])
        assert error.hint == case.get("hint")


def test_names_have_a_limit() -> None:
    for name, said in (
        ("a." * 100 + "a", "at most 100 parts"),
        ("a" * (LONGEST_NAME + 1), "characters"),
    ):
        with pytest.raises(QueryTypeError, match=said):
            check_eql(parse_eql(f"any where {name} == 1"), Catalogue())


def test_the_place_is_told_by_line() -> None:
    text = 'any where k == "x" and\n  l == "y"'
    with pytest.raises(QueryTypeError) as raised:
        check_eql(parse_eql(text), MAPPED, text=text)
    assert (raised.value.place.line, raised.value.place.column) == (2, 8)
