"""Indices given as files: what is read of them, and what is said of the rest."""

import gzip
from pathlib import Path

import pytest

from barrelman.errors import UsageError
from barrelman.settings import indexes
from barrelman.settings.indexes import read_indexes


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def test_documents_are_found_by_the_name_of_their_index(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", '{"a": 1}', "", '{"_id": "x", "a": 2}')
    two = write(tmp_path / "two.jsonl", '{"_index": "b", "_id": "y", "_source": {"a": 3}}')
    found = read_indexes([f"ti-one={one}", f"ti-two={two}"])
    assert found.errors == []
    assert found.matching(["ti-one"]) == [
        ("ti-one", f"{one}:1", {"a": 1}),
        ("ti-one", "x", {"_id": "x", "a": 2}),
    ]
    assert found.matching(["ti-*", "-ti-one"]) == [("b", "y", {"a": 3})]
    assert found.matching(["other-*"]) is None
    assert len(found.matching([]) or ()) == 3


def test_paths_of_one_name_add_up_and_may_be_packed_or_folders(tmp_path: Path) -> None:
    folder = tmp_path / "feeds"
    folder.mkdir()
    write(folder / "a.jsonl", '{"a": 1}')
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b'{"a": 2}'))  # without a line feed
    more = write(tmp_path / "more.jsonl", '{"a": 3}')
    found = read_indexes([f"x={folder}", f"x={more}"])
    assert [document["a"] for _, _, document in found.documents["x"]] == [1, 2, 3]


def test_broken_lines_are_said_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}', "nonsense", "[1]", '{"a": 2}', *["7"] * 9)
    found = read_indexes([f"x={path}"])
    assert [document["a"] for _, _, document in found.documents["x"]] == [1, 2]
    said = [error.oneline() for error in found.errors]
    assert said[0].startswith(f"{path}:2: ")
    assert said[1] == f"{path}:3: not a JSON object"
    assert said[-1] == f"{path}: 6 more lines hold no JSON object"
    assert len(said) == 6


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    found = read_indexes([f"x={tmp_path / 'none.jsonl'}"])
    assert "cannot be read" in found.errors[0].oneline()
    assert found.matching(["x"]) == []


@pytest.mark.parametrize("text", ["x", "=a", "x=", ""])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_indexes([text])
    assert "NAME=PATH" in str(refused.value.hint)


def test_very_many_documents_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "MOST_DOCUMENTS", 2)
    path = write(tmp_path / "a.jsonl", *['{"a": 1}'] * 3)
    found = read_indexes([f"x={path}"])
    assert len(found.documents["x"]) == 2
    assert found.errors[0].oneline() == f"{path}:3: index 'x' holds more than 2 documents"
