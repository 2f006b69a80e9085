"""A query asked of events as they come, outside of any rule: what it means for one of them.

Types and places of fields come from the index's mapping. Without one a document's values say what
they are, and audit events have the types that rules give them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.engine.blind import impossible
from barrelman.engine.compile import compile_query
from barrelman.engine.literals import need_of
from barrelman.engine.reading import field_reader
from barrelman.engine.sieve import Sieve, build_sieve
from barrelman.engine.unwrap import has_audit_fields
from barrelman.errors import QueryTypeError
from barrelman.query.ast import (
    And,
    Exists,
    Is,
    Nested,
    Node,
    Not,
    Or,
    Range,
    Text,
    Within,
)
from barrelman.query.eqltree import EVENT_CATEGORY, EqlQuery, EventFilter
from barrelman.query.typecheck import check_types
from barrelman.records.event import Event
from barrelman.records.fields import (
    AUDIT,
    AUDIT_CATALOGUE,
    Catalogue,
    absence_in_raw_events,
    event_time_us,
    unknown_audit_field,
)
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar
from barrelman.records.times import parse_instant_us

if TYPE_CHECKING:
    from barrelman.engine.stages import Slots, StageProgram

TIMESTAMP: Final = "@timestamp"

Order: TypeAlias = tuple[int, int, int, Any]
"""Sorts as EQL does: by time, those without one last; then by tiebreaker, null last."""


@frozen
class Question:
    """A query with its text, and the fields that EQL tells and orders events by."""

    query: Node | EqlQuery
    text: str
    category_field: str = EVENT_CATEGORY
    timestamp_field: str = TIMESTAMP
    tiebreaker_field: str | None = None

    def node(self) -> Node:
        """What an event must meet to matter at all."""
        if isinstance(self.query, EqlQuery):
            return self.query.any_stage(self.category_field)
        return self.query

    def fields(self) -> list[str]:
        """Every field that is named, in order of first mention."""
        if isinstance(self.query, EqlQuery):
            return list(dict.fromkeys(use.name for use in self.query.fields))
        return list(dict.fromkeys(_names(self.query)))


@frozen
class Asked:
    """A question compiled for the events of one catalogue."""

    matches: Callable[[Event, int], bool]
    slots: Callable[[Event, int], Slots]
    """Stages of a sequence or a sample, with join keys; empty of other queries."""
    order: Callable[[Event], Order]


def check_question(question: Question, catalogue: Catalogue) -> None:
    """Raises QueryError where a value does not suit its field, or EQL names one that is not there.

    Of several indices `catalogue` is all of theirs in one: a field need not be in each.
    """
    query = question.query
    if isinstance(query, EqlQuery):
        from barrelman.query.eqlcheck import check_eql  # EQL alone needs it

        check_eql(query, catalogue, text=question.text)
        for name, what, option in _needed_fields(question, query):
            if not catalogue.knows(name):
                hint = f"name another with {option}"
                raise QueryTypeError(f"the mapping has no field {name}, {what}", hint=hint)
    else:
        check_types(query, catalogue, text=question.text)


def _needed_fields(question: Question, query: EqlQuery) -> Iterator[tuple[str, str, str]]:
    """Fields that are not in the query's text, with what each is for and how to name another."""
    top = query.top
    filters = [top] if isinstance(top, EventFilter) else [each.filter for each in top.stages]
    if any(each.category is not None for each in filters):
        yield question.category_field, "an event's category", "--event-category-field"
    if not isinstance(top, EventFilter):
        yield question.timestamp_field, "an event's time", "--timestamp-field"
    if question.tiebreaker_field is not None:
        yield question.tiebreaker_field, "which breaks ties", "--tiebreaker-field"


def compile_question(question: Question, catalogue: Catalogue) -> Asked:
    """The question as it is asked of the events of one index; it was checked."""
    order = partial(_order, *_order_readers(question, catalogue))
    query = question.query
    if not isinstance(query, EqlQuery):
        return _of_events(query, catalogue, order)
    if isinstance(query.top, EventFilter):
        return _of_events(query.top.node(question.category_field), catalogue, order)
    program = _stages(query, catalogue, question.category_field)
    return Asked(lambda event, now_ms: bool(program.slots(event, now_ms)), program.slots, order)


def _stages(query: EqlQuery, catalogue: Catalogue, category_field: str) -> StageProgram:
    from barrelman.engine.stages import compile_stages  # few queries are sequences or samples

    assert not isinstance(query.top, EventFilter)
    return compile_stages(query.top, catalogue, category_field=category_field)


def _of_events(node: Node, catalogue: Catalogue, order: Callable[[Event], Order]) -> Asked:
    predicate = compile_query(node, catalogue)
    return Asked(
        lambda event, now_ms: predicate.matches(event, now_ms=now_ms),
        lambda event, now_ms: (),
        order,
    )


# --- EQL's order of events -----------------------------------------------------------------


def _order_readers(
    question: Question, catalogue: Catalogue
) -> tuple[Callable[[Event], int | None], Callable[[Event], list[Scalar]]]:
    name = question.timestamp_field
    if name == TIMESTAMP and catalogue.place_of(name) is None and not catalogue.lacks(name):
        time = event_time_us
    else:
        time = partial(_first_time, field_reader(name, catalogue=catalogue))
    tie = question.tiebreaker_field
    return time, (lambda event: []) if tie is None else field_reader(tie, catalogue=catalogue)


def _order(
    time: Callable[[Event], int | None], tie: Callable[[Event], list[Scalar]], event: Event
) -> Order:
    instant_us = time(event)
    ranks = [_rank(value) for value in tie(event)]
    rank, value = min(ranks) if ranks else (2, 0)
    return instant_us is None, instant_us or 0, rank, value


def _rank(value: Scalar) -> tuple[int, Any]:
    if isinstance(value, int | float):
        return 0, value
    return 1, value.encode("utf-8", "surrogatepass")


def _first_time(read: Callable[[Event], list[Scalar]], event: Event) -> int | None:
    instants = [each for value in read(event) if (each := _instant_us(value)) is not None]
    return min(instants, default=None)


def _instant_us(value: Scalar) -> int | None:
    """A time, or a number that counts on in units of its own as one of milliseconds."""
    instant_us = parse_instant_us(value)
    if instant_us is None and type(value) is int:
        return value * 1000
    return instant_us


# --- why nothing is found ------------------------------------------------------------------


def why_no_audit_event(node: Node) -> str | None:
    """The reason why no raw audit event can meet the query, or None where one may."""
    return impossible(node, _absence)


def _absence(name: str) -> str | None:
    reason = absence_in_raw_events(name) or unknown_audit_field(name)
    if reason is None or name.startswith(f"{AUDIT}."):
        return reason
    if name == EVENT_CATEGORY:
        return f"{reason}: of EQL only 'any where …' reaches them"
    below = f"{AUDIT}.{name}"
    return reason if unknown_audit_field(below) else f"{reason}: it is called {below}"


def _names(node: Node, prefix: str = "") -> Iterator[str]:
    """The fields that a query of KQL or Lucene names; wildcard names are left out."""
    match node:
        case And(children) | Or(children):
            for child in children:
                yield from _names(child, prefix)
        case Not(child):
            yield from _names(child, prefix)
        case Nested(Text() as path, child):
            yield prefix + path.value
            yield from _names(child, f"{prefix}{path.value}.")
        case (
            Is(Text() as name)
            | Range(Text() as name)
            | Within(Text() as name)
            | Exists(Text() as name)
        ):
            yield prefix + name.value
        case _:
            pass


# --- the events of one index ---------------------------------------------------------------


class IndexQuestion:
    """The question for one index: that of its mapping, or what each kind of event takes it for."""

    def __init__(self, question: Question, *, mapped: Catalogue | None = None) -> None:
        self._question = question
        self.mapped = mapped
        self._of_documents = compile_question(question, mapped or _UNTYPED)
        self._of_audit = None if mapped is None else self._of_documents

    def asked_of(self, event: Event) -> Asked:
        """Raises QueryTypeError at the first audit event that the query does not suit."""
        if event.is_document and not (self.mapped is None and has_audit_fields(event.body)):
            return self._of_documents
        if self._of_audit is None:
            check_question(self._question, AUDIT_CATALOGUE)
            self._of_audit = compile_question(self._question, AUDIT_CATALOGUE)
        return self._of_audit

    def sieve(self) -> Sieve | None:
        """Passes over lines of the API server's own that cannot matter; None if none can be."""
        if self.mapped is not None:  # fields may stand under other names than the query's
            return None
        try:
            check_question(self._question, AUDIT_CATALOGUE)
        except QueryTypeError:
            return None  # the first audit event is to say so
        return build_sieve([need_of(self._question.node(), AUDIT_CATALOGUE)])


_UNTYPED: Final = Catalogue()
