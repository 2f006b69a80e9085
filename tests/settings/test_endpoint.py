"""The small file that says where a service listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrelman.settings.endpoint import read_endpoint, remove_endpoint, write_endpoint


def test_it_says_what_was_said_last(tmp_path: Path) -> None:
    assert read_endpoint(tmp_path) is None
    write_endpoint(tmp_path, "http://127.0.0.1:8420")
    assert read_endpoint(tmp_path) == "http://127.0.0.1:8420"
    write_endpoint(tmp_path, "https://[::1]:9")
    assert read_endpoint(tmp_path) == "https://[::1]:9"
    assert [each.name for each in tmp_path.iterdir()] == ["endpoint.json"], "no draft is left"


def test_it_goes_with_the_service(tmp_path: Path) -> None:
    write_endpoint(tmp_path, "http://x")
    remove_endpoint(tmp_path)
    assert read_endpoint(tmp_path) is None
    remove_endpoint(tmp_path)
    remove_endpoint(tmp_path / "nowhere")
    assert read_endpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b'"x"', b"{}", b'{"url":7}', b'{"url":null}', b"\xff\xfe"]
)
def test_what_is_none_is_taken_for_none(tmp_path: Path, content: bytes) -> None:
    write_endpoint(tmp_path, "http://x")
    (tmp_path / "endpoint.json").write_bytes(content)
    assert read_endpoint(tmp_path) is None


def test_a_folder_in_its_place_is_none(tmp_path: Path) -> None:
    (tmp_path / "endpoint.json").mkdir()
    assert read_endpoint(tmp_path) is None
    remove_endpoint(tmp_path)
