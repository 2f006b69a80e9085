"""docs/kibana-api.md says what is answered: every path with its role, each word of a request."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.routing import Route

from barrelman.errors import RequestShapeError
from barrelman.server.kibana import routes
from barrelman.server.kibana.uploads import read_upload
from barrelman.service.aggregations import KINDS as AGGREGATIONS
from barrelman.service.alertsearch import SEARCH_MEMBERS
from barrelman.service.dsl import KINDS as QUERIES
from barrelman.service.rulebulk import ACTIONS
from barrelman.service.ruledesk import SORT_FIELDS
from barrelman.service.ruleedit import EDIT_TYPES

PAGE = (Path(__file__).parents[2] / "docs" / "kibana-api.md").read_text(encoding="utf-8")
ROW = re.compile(r"(?m)^\| (GET|POST|PUT|PATCH|DELETE) `([^`]+)` \| (\w+) \|")


def test_every_path_stands_on_the_page_with_its_role_and_no_other_does() -> None:
    served = set()
    for route in routes:
        assert isinstance(route, Route)
        [method] = (route.methods or set()) - {"HEAD"}
        served.add((method, route.path, getattr(route.endpoint, "needs", None)))
    assert set(ROW.findall(PAGE)) == served
    assert len(ROW.findall(PAGE)) == len(routes)


@pytest.mark.parametrize(
    "word", [*QUERIES, *AGGREGATIONS, *ACTIONS, *EDIT_TYPES, *SEARCH_MEMBERS, "kbn-xsrf"]
)
def test_every_word_of_a_request_stands_on_the_page(word: str) -> None:
    assert f"`{word}`" in PAGE


def test_no_query_or_aggregation_is_promised_that_is_not_answered() -> None:
    for heading, kinds in (("**Queries** are", QUERIES), ("**Aggregations** are", AGGREGATIONS)):
        sentence = PAGE[PAGE.index(heading) :].partition("\n\n")[0].partition(". In a")[0]
        named = set(re.findall(r"`([a-z_]+)`", sentence))
        assert named - {"minimum_should_match", "epoch_millis", "epoch_second"} == set(kinds)


def test_sort_fields_are_those_of_the_field() -> None:
    assert {"name", "riskScore", "severity", "enabled", "updatedAt"} <= set(SORT_FIELDS)


# --- the file in a body --------------------------------------------------------------------

PART = 'Content-Disposition: form-data; name="file"; filename="a b.ndjson"'

LAST = f"--B\r\n{PART}\r\n\r\none\r\n--B--"


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (f"--B\r\n{PART}\r\nContent-Type: x\r\n\r\none\ntwo\r\n--B--\r\n", "one\ntwo"),
        (f"--B\r\n{PART}\r\n\r\none\n\r\n--B--\r\n", "one\n"),
        (f"--B\n{PART}\n\none\n--B--\n", "one"),
        (f"--B\r\n{PART}\r\n\r\none\r\n", "one"),
        (f"preamble\r\n--B\r\n{PART}\r\n\r\n--Bone\r\n--B--", "--Bone"),
        (
            f'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n{LAST}',
            "one",
        ),
        (f"--B\r\n{PART}\r\n\r\n\r\n--B--\r\n", ""),
    ],
)
def test_the_file_in_a_body_of_parts(body: str, content: str) -> None:
    for kind in ("multipart/form-data; boundary=B", 'multipart/form-data; boundary="B"'):
        found = read_upload(body.encode(), content_type=kind)
        assert (found.name, found.content.decode()) == ("a b.ndjson", content)


def test_a_body_without_parts_is_the_file() -> None:
    assert read_upload(b"one", content_type="application/x-ndjson").content == b"one"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/x-ndjson"),
        (b"--B\r\n\r\n--B--", "multipart/form-data"),
        (b"--B\r\n\r\n--B--", "multipart/form-data; boundary=B"),
        (
            b'--B\r\nContent-Disposition: form-data; name="f"; filename="file"\r\n\r\n1\r\n--B--',
            "multipart/form-data; boundary=B",
        ),
        (b"nothing of the kind", "multipart/form-data; boundary=B"),
    ],
)
def test_a_body_without_a_file_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(RequestShapeError):
        read_upload(body, content_type=kind)
