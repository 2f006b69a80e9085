"""What is around every answer: headers, errors in one shape, limits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Served, serving
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from barrelman.errors import (
    BarrelmanError,
    ConflictError,
    NotFoundError,
    Place,
    QuerySyntaxError,
    SinkError,
    StoreError,
    UnsupportedError,
    UsageError,
)
from barrelman.server.app import Limits
from barrelman.server.problems import RefusedError, is_kibana_path, refused


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "data", limits=Limits(requests_per_second=2)) as world:
        yield world


async def fail(request: Request) -> Response:
    raise ValueError("a secret detail")


async def gone(request: Request) -> Response:
    raise StoreError("the disk is full", hint="make room")


async def fine(request: Request) -> Response:
    return PlainTextResponse("fine", headers={"cache-control": "max-age=5"})


def add(served: Served) -> None:
    served.app.router.routes[:0] = [
        Route("/fail", fail),
        Route("/gone", gone),
        Route("/fine", fine),
    ]


def test_every_answer_has_the_headers_that_keep_browsers_out(served: Served) -> None:
    add(served)
    me = served.asker()
    for path in ("/healthz", "/nothing", "/fail", "/api/v1/whoami"):
        headers = me.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert not [name for name in headers if name.startswith("access-control")]
        assert "strict-transport-security" not in headers
    assert me.get("/fine").headers["cache-control"] == "max-age=5"


def test_a_request_has_a_number_its_own_or_a_new_one(served: Served) -> None:
    me = served.asker()
    assert (
        me.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    )
    answer = me.get("/nothing", headers={"x-request-id": 'evil"<id>'})
    assert answer.headers["x-request-id"] != 'evil"<id>'
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
    ids = {me.get("/healthz").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_a_path_that_is_none_and_a_method_that_is_wrong(served: Served) -> None:
    me = served.asker()
    answer = me.get("/nothing/at/all")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    answer = me.ask("PUT", "/api/v1/events")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert "GET" in answer.headers["allow"]
    # No redirect to a path with or without a slash: a body would be sent twice.
    assert me.get("/api/v1/events/").status_code == 404
    assert me.get("/healthz/").status_code == 404


def test_for_kibanas_paths_errors_are_as_kibana_writes_them(served: Served) -> None:
    answer = served.asker().get("/api/detection_engine/no/such/path")
    assert answer.status_code == 404
    assert answer.json() == {
        "statusCode": 404,
        "error": "Not Found",
        "message": "there is nothing at this path",
    }
    served.key("viewer")
    for path in ("/api/detection_engine/rules", "/s/main/api/detection_engine/rules"):
        answer = served.asker().get(path)
        assert answer.status_code == 401
        assert answer.json()["error"] == "Unauthorized"


@pytest.mark.parametrize(
    ("path", "is_kibanas"),
    [
        ("/api/detection_engine/rules", True),
        ("/s/any/api/exception_lists", True),
        ("/internal/detection_engine/rules", True),
        ("/api/status", True),
        ("/api/v1/rules", False),
        ("/api/v1", False),
        ("/api/v10", True),
        ("/api/openapi.json", False),
        ("/audit/api/x", False),
        ("/metrics", False),
    ],
)
def test_whose_path_it_is(path: str, is_kibanas: bool) -> None:
    assert is_kibana_path(path) is is_kibanas


def test_a_fault_of_ours_tells_the_log_and_not_the_caller(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    add(served)
    with caplog.at_level(logging.ERROR, "barrelman.server"):
        answer = served.asker().get("/fail", headers={"x-request-id": "id-1"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    assert "id-1" in caplog.text
    assert "a secret detail" in caplog.text


def test_a_full_disk_says_when_to_come_back(served: Served) -> None:
    add(served)
    answer = served.asker().get("/gone")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    error = answer.json()["error"]
    assert (error["code"], error["message"], error["hint"]) == (
        "unavailable",
        "the disk is full",
        "make room",
    )


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UsageError("x"), 400, "bad_request"),
        (QuerySyntaxError("x"), 400, "invalid_query"),
        (UnsupportedError("x"), 400, "unsupported"),
        (NotFoundError("x"), 404, "not_found"),
        (ConflictError("x"), 409, "conflict"),
        (StoreError("x"), 503, "unavailable"),
        (SinkError("x", retry_after_seconds=9), 502, "sink_failed"),
        (RefusedError("x", status=418, code="teapot"), 418, "teapot"),
    ],
)
def test_each_error_has_its_status(error: BarrelmanError, status: int, code: str) -> None:
    found = refused(error)
    assert (found.status, found.code, found.message) == (status, code, "x")


def test_where_a_query_is_wrong_is_told(served: Served) -> None:
    answer = served.asker().get("/api/v1/events", params={"query": "user.name: ("})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid_query"
    assert error["place"]["line"] == 1
    assert error["place"]["column"] >= 12
    assert refused(QuerySyntaxError("x", place=Place(line=1, column=2))).place.column == 2


def test_who_asks_too_often_has_to_wait_and_intake_is_not_counted(served: Served) -> None:
    viewer, intake = served.asker_with("viewer"), served.asker_with("intake")
    statuses = [viewer.get("/api/v1/whoami").status_code for _ in range(30)]
    assert statuses[:20] == [200] * 20
    assert statuses[-1] == 429
    answer = viewer.get("/api/v1/whoami")
    assert answer.json()["error"]["code"] == "too_many_requests"
    assert int(answer.headers["retry-after"]) >= 1
    # Others are not held to account for it.
    assert intake.get("/api/v1/whoami").status_code == 200
    assert {intake.post("/events/prod", content=b"").status_code for _ in range(40)} == {200}
    assert {viewer.get("/healthz").status_code for _ in range(40)} == {200}


def test_health_is_asked_without_a_key_and_readiness_says_why_not(served: Served) -> None:
    served.key("viewer")
    stranger = served.asker(address="192.0.2.1", host="example")
    assert stranger.get("/healthz").json() == {"status": "ok"}
    assert stranger.get("/readyz").json() == {"status": "ok", "reasons": []}
    served.service.intake.fault = "the disk is full"
    served.app.state.readiness.forget()
    answer = stranger.get("/readyz")
    assert answer.status_code == 503
    assert "the disk is full" in answer.json()["reasons"][0]
    assert stranger.get("/healthz").status_code == 200


def test_pages_of_other_sites_are_turned_away(served: Served) -> None:
    me = served.asker()
    answer = me.get("/api/v1/whoami", headers={"origin": "https://attacker.example"})
    assert answer.status_code == 403
    assert me.post("/audit/x", headers={"origin": "null"}, content=b"{}").status_code == 403
    assert served.asker(host="attacker.example").get("/api/v1/whoami").status_code == 403
