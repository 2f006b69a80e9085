"""A page of what was found: filtered by KQL, searched, sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from barrelman.engine.compile import compile_query
from barrelman.errors import QueryError, RequestError
from barrelman.query.kql import parse_kql
from barrelman.query.typecheck import check_types
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue
from barrelman.records.frozen import frozen

JsonObject: TypeAlias = dict[str, Any]

_NO_TYPES: Final = Catalogue()
_ATTRIBUTES: Final = ("exception-list", "exception-list-agnostic")


@frozen
class Page:
    """What a `_find` is asked."""

    filter: str = ""
    search: str = ""
    sort_field: str | None = None
    sort_order: str = "asc"
    page: int = 1
    per_page: int = 20


def paged(shown: list[JsonObject], page: Page, *, now_ms: int) -> JsonObject:
    """A page of lists or items, filtered and sorted."""
    if page.page < 1 or not 0 <= page.per_page <= 10_000:
        raise RequestError("page must be 1 or more, per_page from 0 to 10000")
    if page.filter.strip():
        test = _parse_filter(page.filter, now_ms)
        shown = [each for each in shown if test(each)]
    if page.search.strip():
        words = page.search.casefold().replace("*", " ").split()
        shown = [each for each in shown if _holds(each, words)]
    if page.sort_field is not None:
        field = page.sort_field.rpartition(".")[2]
        shown.sort(key=lambda each: str(each.get(field, "")), reverse=page.sort_order == "desc")
    start = (page.page - 1) * page.per_page
    return {
        "data": shown[start : start + page.per_page],
        "page": page.page,
        "per_page": page.per_page,
        "total": len(shown),
    }


def _parse_filter(text: str, now_ms: int) -> Callable[[JsonObject], bool]:
    try:
        node = parse_kql(text)
        check_types(node, _NO_TYPES, text=text)
    except QueryError as error:
        raise RequestError(f"filter: {error.oneline()}") from None
    predicate = compile_query(node, _NO_TYPES)

    def test(shown: JsonObject) -> bool:
        # Whoever filters names the kind of object that the list was, in one space or in all.
        document = {name: {"attributes": shown} for name in _ATTRIBUTES}
        return predicate.matches(Event(document, is_document=True), now_ms=now_ms)

    return test


def _holds(shown: JsonObject, words: Iterable[str]) -> bool:
    texts = [shown.get("name"), shown.get("description"), *shown.get("tags", ())]
    texts += [
        str(entry.get(key)) for entry in shown.get("entries", ()) for key in ("field", "value")
    ]
    texts += [each.get("comment") for each in shown.get("comments", ())]
    whole = "\n".join(str(text) for text in texts if text).casefold()
    return all(word in whole for word in words)
