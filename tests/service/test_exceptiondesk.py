"""Exception lists over a database: what is kept of them, and what takes effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barrelman.errors import ConflictError, NotFoundError, RequestError, RequestShapeError
from barrelman.service.exceptionchanges import Which
from barrelman.service.exceptiondesk import ExceptionDesk
from barrelman.service.exceptionshape import expected_version, version_token
from barrelman.service.pages import Page
from barrelman.service.valuelistdesk import check_value
from barrelman.store import audit
from barrelman.store.database import Database

NOW_US = 1_795_003_200_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "barrelman.db")
    yield opened
    opened.close()


@pytest.fixture
def reloads() -> list[int]:
    return []


@pytest.fixture
def desk(database: Database, reloads: list[int]) -> ExceptionDesk:
    made = ExceptionDesk(database, clock=lambda: NOW_US, reload=lambda: reloads.append(1))
    made.create_list(a_list(), by="me")
    return made


def a_list(**changes: Any) -> dict[str, Any]:
    return {"list_id": "l", "name": "n", "description": "d", "type": "detection", **changes}


def an_item(item_id: str = "i", **changes: Any) -> dict[str, Any]:
    entry = {"field": "a", "type": "match", "operator": "included", "value": "x"}
    return {
        "list_id": "l",
        "item_id": item_id,
        "type": "simple",
        "name": "n",
        "description": "d",
        "entries": [entry],
        **changes,
    }


def test_each_change_takes_effect_and_is_noted(
    desk: ExceptionDesk, database: Database, reloads: list[int]
) -> None:
    desk.create_item(an_item(), by="me")
    desk.replace_item(an_item(name="new"), by="you")
    desk.delete_item(Which(None, "i"), by="me")
    desk.replace_list(a_list(name="new"), by="me")
    desk.delete_list(Which(None, "l"), by="me")
    assert len(reloads) == 6
    noted = database.read(lambda c: audit.find(c, newest_first=False))
    assert [(each.action, each.target) for each in noted] == [
        ("exception list created", "l"),
        ("exception item created", "i"),
        ("exception item updated", "i"),
        ("exception item deleted", "i"),
        ("exception list updated", "l"),
        ("exception list deleted", "l"),
    ]
    assert noted[2].by == "you"


def test_entries_of_every_kind_are_kept_as_they_are(desk: ExceptionDesk) -> None:
    entries: list[dict[str, Any]] = [
        {"field": "a", "type": "match", "operator": "excluded", "value": "x"},
        {"field": "a", "type": "match_any", "operator": "included", "value": ["x", "y"]},
        {"field": "a", "type": "exists", "operator": "included"},
        {"field": "a", "type": "wildcard", "operator": "included", "value": "x*"},
        {
            "field": "p",
            "type": "nested",
            "entries": [{"field": "c", "type": "match", "operator": "included", "value": "z"}],
        },
        {
            "field": "a",
            "type": "list",
            "operator": "included",
            "list": {"id": "v", "type": "keyword"},
        },
    ]
    made = desk.create_item(an_item(entries=entries), by="me")
    assert [dict(sorted(each.items())) for each in made["entries"]] == [
        dict(sorted(each.items())) for each in entries
    ]


def test_an_expiry_is_written_in_one_way(desk: ExceptionDesk) -> None:
    made = desk.create_item(an_item(expire_time="2030-01-02T03:04:05+01:00"), by="me")
    assert made["expire_time"] == "2030-01-02T02:04:05.000Z"
    with pytest.raises(RequestShapeError, match="expire_time"):
        desk.create_item(an_item("j", expire_time="soon"), by="me")


def test_a_version_is_good_once(desk: ExceptionDesk) -> None:
    made = desk.create_item(an_item(), by="me")
    desk.replace_item(an_item(_version=made["_version"]), by="me")
    with pytest.raises(ConflictError):
        desk.replace_item(an_item(_version=made["_version"]), by="me")
    desk.replace_item(an_item(), by="me")
    assert expected_version(version_token(7)) == 7
    assert expected_version(None) is None
    for wrong in ("nonsense", 5, "e30="):
        with pytest.raises(ConflictError):
            expected_version(wrong)


def test_comments_keep_who_wrote_them(desk: ExceptionDesk) -> None:
    made = desk.create_item(an_item(comments=[{"comment": "one"}]), by="me")
    comments = [*made["comments"], {"comment": "two"}]
    changed = desk.replace_item(an_item(comments=comments), by="you")
    assert [each["created_by"] for each in changed["comments"]] == ["me", "you"]
    with pytest.raises(RequestShapeError, match="comments"):
        desk.replace_item(an_item(comments=[{"comment": " "}]), by="me")


def test_pages_are_checked(desk: ExceptionDesk) -> None:
    for page in (Page(page=0), Page(per_page=20_000), Page(filter="a: (")):
        with pytest.raises(RequestError):
            desk.find_lists(page, namespace_types=())
    with pytest.raises(NotFoundError):
        desk.find_items(Page(), list_ids=["none"], namespace_types=[])


def test_an_export_leaves_expired_items_out_when_asked(desk: ExceptionDesk) -> None:
    desk.create_item(an_item("old", expire_time="2020-01-01T00:00:00Z"), by="me")
    desk.create_item(an_item("new", expire_time="2040-01-01T00:00:00Z"), by="me")
    which = Which(None, "l")
    assert len(desk.export(which, with_expired=True)) == 4
    lines = desk.export(which, with_expired=False)
    assert [each.get("item_id") for each in lines] == [None, "new", None]
    assert lines[-1]["exported_exception_list_item_count"] == 1


@pytest.mark.parametrize(
    ("value", "kind", "is_good"),
    [
        ("10.0.0.1", "ip", True),
        ("10.0.0.0/8", "ip", True),
        ("::1", "ip", True),
        ("host", "ip", False),
        ("10.0.0.1-10.0.0.9", "ip_range", True),
        ("10.0.0.0/24", "ip_range", True),
        ("10.0.0.9-10.0.0.1", "ip_range", False),
        ("10.0.0.1-::1", "ip_range", False),
        ("anything", "keyword", True),
        (5, "keyword", False),
    ],
)
def test_values_suit_their_list(value: Any, kind: str, is_good: bool) -> None:
    if is_good:
        check_value(value, kind)
    else:
        with pytest.raises(RequestShapeError):
            check_value(value, kind)


def test_values_are_added_once(desk: ExceptionDesk) -> None:
    for text in ("a\nb\n\n", "b\r\nc"):
        shown = desk.values.import_values(
            text, list_id="v", list_type="keyword", file_name="x", by="me"
        )
        assert shown["id"] == "v"
    assert desk.values.export("v") == "a\nb\nc\n"
    with pytest.raises(NotFoundError):
        desk.values.import_values("a", list_id="w", list_type=None, file_name="x", by="me")
