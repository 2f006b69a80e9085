"""Events in over HTTP: what is taken, what is told, and what is turned away."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from serving import Served, event, event_list, serving

from barrelman.errors import StoreError
from barrelman.server.app import Limits
from barrelman.server.bodies import MIB


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "data", limits=Limits(intake_bytes=4 * MIB)) as world:
        yield world


def stored(served: Served) -> int:
    return served.service.search.count("*")


def refusals(served: Served, cluster: str = "prod") -> int:
    counts = served.service.intake.clusters.get(cluster)
    return counts.refused if counts else 0


def test_a_batch_is_stored_before_it_is_answered(served: Served) -> None:
    me = served.asker()
    batch = event_list(event(number=1), event(number=2))
    answer = me.post("/audit/prod?timeout=30s", content=batch)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "events": 2,
        "stored": 2,
        "duplicates": 0,
        "malformed": 0,
        "foreign": 0,
        "problems": [],
    }
    assert stored(served) == 2
    again = me.post("/audit/prod", content=batch).json()
    assert (again["stored"], again["duplicates"]) == (0, 2)
    # The same events of another cluster are others.
    assert me.post("/audit/test", content=batch).json()["stored"] == 2
    assert stored(served) == 4


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "nonsense; ;"])
def test_any_content_type_is_taken(served: Served, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = served.asker().post("/audit/prod", content=event_list(event()), headers=headers)
    assert answer.json()["stored"] == 1


@pytest.mark.parametrize("items", [[], [5], ["x", None, 7], [{"a": 1}]])
def test_a_batch_without_an_event_in_it_is_no_error(served: Served, items: list[Any]) -> None:
    answer = served.asker().post("/audit/prod", content=event_list(*items))
    assert answer.status_code == 200
    assert answer.json()["malformed"] + answer.json()["foreign"] == len(items)
    assert refusals(served) == 0


def test_a_bad_item_costs_no_other(served: Served) -> None:
    batch = event_list(event(number=1), 5, {"kind": "Pod"}, event(number=2))
    answer = served.asker().post("/audit/prod", content=batch).json()
    assert answer["stored"] == 2
    assert answer["malformed"] + answer["foreign"] == 2
    assert len(answer["problems"]) == 2


def test_lines_of_every_shape_are_taken(served: Served) -> None:
    me = served.asker()
    lines = b"\n".join(json.dumps(event(number=n)).encode() for n in range(3))
    assert me.post("/events/prod", content=lines).json()["stored"] == 3
    array = json.dumps([event(number=n) for n in range(3, 5)]).encode()
    assert me.post("/events/prod", content=array).json()["stored"] == 2
    assert me.post("/events/prod", content=event_list(event(number=5))).json()["stored"] == 1
    torn = json.dumps(event(number=6)).encode() + b"\n{broken\n"
    answer = me.post("/events/prod", content=torn)
    assert answer.status_code == 200
    assert (answer.json()["stored"], answer.json()["malformed"]) == (1, 1)
    assert me.post("/events/prod", content=b"").json()["events"] == 0
    packed = gzip.compress(json.dumps(event(number=7)).encode())
    answer = me.post("/events/prod", content=packed, headers={"content-encoding": "gzip"})
    assert answer.json()["stored"] == 1
    assert stored(served) == 8


@pytest.mark.parametrize("path", ["/audit/prod", "/events/prod"])
@pytest.mark.parametrize("body", [b"nonsense", b"{broken", b"\xff\xfe\x00", b"{'a': 1}\nnot JSON"])
def test_what_is_no_json_at_all_is_refused_and_counted(
    served: Served, path: str, body: bytes
) -> None:
    answer = served.asker().post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "not_json"
    assert refusals(served) == 1


def test_what_is_too_large_is_refused_packed_or_not(served: Served) -> None:
    me = served.asker()
    assert me.post("/audit/prod", content=b" " * (4 * MIB + 1)).status_code == 413
    bomb = gzip.compress(b" " * (60 * MIB))
    answer = me.post("/audit/prod", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"
    answer = me.post("/audit/prod", content=b"x", headers={"content-encoding": "gzip"})
    assert answer.status_code == 400
    assert (
        me.post("/audit/prod", content=b"x", headers={"content-encoding": "br"}).status_code == 415
    )
    assert refusals(served) == 4
    assert served.service.intake.held_bytes == 0


def test_without_room_the_sender_is_told_when_to_come_back(served: Served) -> None:
    intake, me = served.service.intake, served.asker()
    room = served.service.options.max_bytes_in_flight - intake.held_bytes - 10
    assert intake.reserve(room)
    answer = me.post("/audit/prod", content=event_list(event()))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "overloaded"
    assert int(answer.headers["retry-after"]) >= 1
    intake.release(room)
    assert me.post("/audit/prod", content=event_list(event())).json()["stored"] == 1
    assert intake.held_bytes == 0


def test_a_store_that_fails_promises_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(batches: object) -> None:
        raise StoreError("the disk is full")

    me = served.asker()
    with monkeypatch.context() as patch:
        patch.setattr(served.service.events, "append", full)
        answer = me.post("/audit/prod", content=event_list(event()))
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "store_failed"
        assert int(answer.headers["retry-after"]) >= 1
    assert me.post("/audit/prod", content=event_list(event())).json()["stored"] == 1


def test_who_waits_no_longer_leaves_the_writer_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer settles its future, whoever has given up waiting for it."""
    futures: list[Future[Any]] = []

    def never(body: bytes, **_: object) -> Future[Any]:
        futures.append(Future())
        return futures[-1]

    monkeypatch.setattr("barrelman.server.intake._ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(served.service.intake, "offer", never)
    answer = served.asker().post("/audit/prod", content=event_list(event()))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "store_slow"
    assert not futures[0].cancelled()
    futures[0].set_result(None)


@pytest.mark.parametrize("cluster", ["a b", "a%2Fb", "..", ".", "x" * 101, "a%00", "ü", "a;b"])
def test_a_cluster_must_have_a_name(served: Served, cluster: str) -> None:
    answer = served.asker().post(f"/audit/{cluster}", content=event_list(event()))
    assert answer.status_code in (400, 404)
    assert stored(served) == 0
    assert not served.service.intake.clusters


def test_a_key_is_good_for_its_clusters(served: Served) -> None:
    bound = served.asker_with("intake", clusters=["prod"])
    assert bound.post("/audit/prod", content=event_list(event())).status_code == 200
    answer = bound.post("/audit/test", content=event_list(event()))
    assert answer.status_code == 403
    assert "other clusters than test" in answer.json()["error"]["message"]
    assert bound.post("/events/test", content=b"{}").status_code == 403
    # Of a cluster that nobody has heard of nothing is counted: its name may be anyone's idea.
    assert "test" not in served.service.intake.clusters
    other = served.asker_with("intake", name="other", clusters=["test"])
    assert other.post("/audit/prod", content=event_list(event())).status_code == 403
    assert refusals(served) == 1


@pytest.mark.parametrize(
    ("role", "status"),
    [("intake", 200), ("admin", 200), ("viewer", 403), ("analyst", 403), ("engineer", 403)],
)
def test_who_may_post(served: Served, role: str, status: int) -> None:
    asker = served.asker_with(role)
    assert asker.post("/audit/prod", content=event_list(event())).status_code == status
    assert asker.get("/api/v1/events").status_code == (403 if role == "intake" else 200)


def test_a_key_that_is_wrong_is_counted_for_a_cluster_that_is_known(served: Served) -> None:
    good = served.asker_with("intake")
    bad = served.asker(shown="Bearer no.key")
    assert bad.post("/audit/prod", content=event_list(event())).status_code == 401
    assert "prod" not in served.service.intake.clusters
    assert good.post("/audit/prod", content=event_list(event())).status_code == 200
    assert bad.post("/audit/prod", content=event_list(event())).status_code == 401
    assert served.asker().post("/audit/prod", content=b"").status_code == 401
    assert refusals(served) == 2


def test_other_methods_are_not_taken(served: Served) -> None:
    assert served.asker().get("/audit/prod").status_code == 405
    assert served.asker().ask("PUT", "/audit/prod", content=b"{}").status_code == 405
