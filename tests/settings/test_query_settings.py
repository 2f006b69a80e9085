"""An ad-hoc query from flags: which index has which mapping, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barrelman.errors import InputError, MappingError, UnsupportedError, UsageError
from barrelman.query.eqltree import EqlQuery
from barrelman.settings.query import QueryFlags, QuerySettings, read_mapping, resolve_query


@pytest.fixture
def mapping(tmp_path: Path) -> str:
    path = tmp_path / "m=1.json"
    path.write_text(json.dumps({"properties": {"a": {"type": "ip"}}}))
    return str(path)


def resolved(query: str = "a: 10.0.0.1", **flags: object) -> QuerySettings:
    return resolve_query(QueryFlags(query, **flags))  # type: ignore[arg-type]


def mapped(settings: QuerySettings) -> list[tuple[str | None, bool]]:
    return [(each.name, each.question.mapped is not None) for each in settings.inputs]


def test_paths_come_first_then_indices_in_order(mapping: str) -> None:
    settings = resolved(paths=["p", "q"], indices=["b=1", "a=2", "b=3=4"])
    assert mapped(settings) == [(None, False), ("b", False), ("a", False)]
    assert [len(each.sources) for each in settings.inputs] == [2, 2, 1]
    missing = settings.inputs[1].sources[1]
    assert isinstance(missing, InputError)
    assert missing.place.path == "3=4"


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [
        ([], [False, False, False]),
        (["{}"], [True, True, True]),  # a name of a file may hold a `=`
        (["a={}"], [False, True, False]),
        (["b={}", "a={}"], [False, True, True]),
        (["{}", "a={}"], [True, True, True]),
    ],
)
def test_a_mapping_is_for_its_index_or_for_all_that_have_none(
    mapping: str, mappings: list[str], expected: list[bool]
) -> None:
    given = [each.format(mapping) for each in mappings]
    settings = resolved(paths=["p"], indices=["a=1", "b=2"], mappings=given)
    assert [found for _, found in mapped(settings)] == expected


def test_an_index_has_its_own_mapping_before_that_of_all(mapping: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(json.dumps({"properties": {"b": {"type": "ip"}}}))
    settings = resolved(indices=["a=1", "c=2"], mappings=[mapping, f"c={other}"])
    catalogues = [each.question.mapped for each in settings.inputs]
    assert [catalogue and catalogue.knows("b") for catalogue in catalogues] == [False, True]


def test_of_a_mapping_of_several_indices_the_index_of_that_name_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "two"
    path.write_text(
        json.dumps({n: {"mappings": {"properties": {n: {"type": "ip"}}}} for n in ("a", "b")})
    )
    (only,) = resolved("b: 10.0.0.1", indices=["b=1"], mappings=[f"b={path}"]).inputs
    assert only.question.mapped is not None
    assert only.question.mapped.knows("b")
    with pytest.raises(MappingError, match="2 indices") as caught:
        resolved(indices=["c=1"], mappings=[f"c={path}"])
    assert caught.value.place.path == str(path)


def test_languages() -> None:
    assert isinstance(resolved("any where true", language="eql").question.query, EqlQuery)
    assert not isinstance(resolved("a:[1 TO 2]", language="lucene").question.query, EqlQuery)
    with pytest.raises(UnsupportedError, match="does not run yet"):
        resolved("FROM a", language="esql")


@pytest.mark.parametrize("field", ["category_field", "timestamp_field", "tiebreaker_field"])
def test_what_only_eql_has(field: str) -> None:
    with pytest.raises(UsageError, match="is for --language eql alone"):
        resolved(**{field: "f"})
    question = resolved("any where true", language="eql", **{field: "f"}).question
    assert getattr(question, field) == "f"


def test_mappings_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_mapping(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="cannot be read"):
        read_mapping(str(tmp_path))
    broken = tmp_path / "broken"
    broken.write_bytes(b"{")
    with pytest.raises(MappingError, match="truncated"):
        read_mapping(str(broken))


def test_eql_is_checked_without_a_mapping_too(tmp_path: Path) -> None:
    settings = resolved('process where process.name == "x"', language="eql", paths=["p"])
    assert settings.notes == ()
    assert settings.question.fields() == ["process.name"]
