"""The description of the API, and the page about it: every path is in both, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Served, serving

from barrelman.server import openapi
from barrelman.server.app import ENDPOINTS
from barrelman.server.endpoints import Endpoint

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("openapi") / "data") as world:
        yield world


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    answer = served.asker().get("/api/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    read: dict[str, Any] = json.loads(answer.content)
    return read


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_route_is_described_and_every_description_is_routed(
    served: Served, document: dict[str, Any]
) -> None:
    routed = {
        (method, openapi.plain(path))
        for path, route in openapi.flat(served.app.routes)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routed == {(method, path) for method, path, _ in operations(document)}
    assert len(routed) > 30


def test_every_path_that_is_described_is_answered(served: Served, document: dict[str, Any]) -> None:
    """Not as one that there is not, whatever else is wrong with the request."""
    admin = served.asker_with("admin")
    for method, path, _ in operations(document):
        # With the id of nothing, a number where one is needed.
        filled = re.sub(r"\{\w+\}", "1", path)
        answer = admin.ask(method, filled)
        assert answer.status_code not in (405, 429, 500), (method, path)
        assert "nothing at this path" not in answer.text, (method, path)


def test_what_is_described_is_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "Barrelman"
    own: dict[tuple[str, str], Endpoint] = {
        (each.method, openapi.plain(each.path)): each for each in ENDPOINTS
    }
    names = []
    for method, path, operation in operations(document):
        in_path = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", path)
        assert operation["summary"]
        assert "default" in operation["responses"]
        endpoint = own.get((method, path))
        if endpoint is not None:
            names.append(operation["operationId"])
            assert ("requestBody" in operation) is (endpoint.body is not None)
            if endpoint.role is not None:
                assert f"`{endpoint.role}`" in operation["description"]
    assert len(names) == len(set(names)) == len(ENDPOINTS)
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        found: Any = document
        for part in reference.split("/"):
            found = found[part]


def test_who_needs_no_key_is_said(document: dict[str, Any]) -> None:
    open_paths = {path for _, path, each in operations(document) if each.get("security") == []}
    assert open_paths == {"/healthz", "/readyz"}


def test_answers_hold_what_is_described(served: Served, document: dict[str, Any]) -> None:
    me = served.asker()
    for method, path, operation in operations(document):
        if method != "GET" or "{" in path or not path.startswith("/api/v1"):
            continue
        answer = me.get(path)
        if answer.status_code == 200:
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert set(answer.json()) == set(schema["properties"]), path


def test_the_page_names_every_endpoint_of_ours_and_no_other() -> None:
    named = set(re.findall(r"`(GET|POST|PUT|DELETE) (/[^`\s]+)`", PAGE))
    assert named == {(each.method, openapi.plain(each.path)) for each in ENDPOINTS}


def test_the_page_says_who_may(document: dict[str, Any]) -> None:
    open_paths = ("/healthz", "/readyz", "/alerts/{id}")
    rows = dict(re.findall(r"(?m)^\| `((?:GET|POST|PUT|DELETE) /[^`]+)` \| ([a-z]+) \|", PAGE))
    for each in ENDPOINTS:
        said = rows[f"{each.method} {openapi.plain(each.path)}"]
        if each.role is not None:
            assert said == each.role
        else:
            assert said == ("anyone" if each.path in open_paths else "any")


@pytest.mark.parametrize("each", ENDPOINTS, ids=lambda each: f"{each.method} {each.path}")
def test_the_page_names_every_parameter(each: Any) -> None:
    for parameter in each.parameters:
        assert f"`{parameter.name}`" in PAGE
    for name in (each.body or {}).get("properties", {}):
        assert f"`{name}`" in PAGE
