"""The engine against the oracle, on the conditions that EQL and Lucene add."""

from __future__ import annotations

from eqltrees import special_leaves
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle_matches, oracle_values
from test_oracle import (
    DOCUMENTS,
    LITERALS,
    NAMES,
    NOW_MS,
    PATTERNS,
    RAW_EVENTS,
    RAW_NAMES,
    RELATIVE_NAMES,
    TYPED,
    judge,
    suits,
)

from barrelman.engine.blind import impossible
from barrelman.engine.compile import compile_query
from barrelman.query.ast import And, Nested, Node, Not, Or, Pattern, Text, Wild
from barrelman.query.render import describe
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, absence_in_raw_events

often = settings(max_examples=140, deadline=None)


def trees(names: st.SearchStrategy[str], catalogue: Catalogue) -> st.SearchStrategy[Node]:
    leaves = special_leaves(names, LITERALS, PATTERNS).filter(lambda leaf: suits(leaf, catalogue))
    return st.recursive(
        leaves,
        lambda nodes: (
            st.builds(Not, nodes)
            | st.builds(And, st.tuples(nodes, nodes))
            | st.builds(Or, st.tuples(nodes, nodes, nodes))
            | st.builds(Nested, st.sampled_from([Text("a"), Text("nested")]), nodes)
        ),
        max_leaves=3,
    )


DOCUMENT_TREES = trees(NAMES, TYPED)
RAW_TREES = trees(RAW_NAMES | RELATIVE_NAMES, AUDIT_CATALOGUE)


@often
@given(DOCUMENT_TREES, DOCUMENTS)
def test_documents(node: Node, event: Event) -> None:
    judge(node, event, TYPED)


@often
@given(RAW_TREES, RAW_EVENTS)
def test_raw_events(node: Node, event: Event) -> None:
    judge(node, event, AUDIT_CATALOGUE)


@often
@given(RAW_TREES, RAW_EVENTS)
def test_a_raw_event_and_its_document_agree(node: Node, event: Event) -> None:
    if not any(name.startswith("kubernetes.") for name in oracle_values(event)):
        return
    predicate = compile_query(node, AUDIT_CATALOGUE)
    document = Event(ecs_document(event), is_document=True)
    assert predicate.matches(event, now_ms=NOW_MS) is predicate.matches(document, now_ms=NOW_MS)


@often
@given(DOCUMENT_TREES)
def test_every_tree_can_be_shown(node: Node) -> None:
    assert describe(node)


@often
@given(RAW_TREES, RAW_EVENTS)
def test_what_is_called_impossible_never_matches(node: Node, event: Event) -> None:
    if impossible(node, absence_in_raw_events) is None:
        return
    for name in ("annotations", "annotations.a.b", "requestObject.metadata"):
        event.body.pop(name, None)
    assert not oracle_matches(node, event, catalogue=AUDIT_CATALOGUE, now_ms=NOW_MS)


# Few fields with few values: conditions are met as often as not.
SOME_NAMES = st.sampled_from(["a", "b", "b.a", "keyword", "long", "boolean", "date", "ip", "text"])
SOME_TEXTS = st.sampled_from(
    ["a", "ab", "aba", "A", "", "b", "1", "0x1f", "7", "2026-11-23", "::1"]
)
SOME_SCALARS = SOME_TEXTS | st.sampled_from(
    [1, 7, -7, 2.5, True, False, None, "10.0.0.1", "ab ab", "2026-11-23T00:00:00Z", "true"]
)
SOME_DOCUMENTS = st.builds(
    Event,
    st.dictionaries(
        st.sampled_from(["a", "b", "keyword", "long", "boolean", "date", "ip", "text"]),
        SOME_SCALARS | SOME_SCALARS | st.lists(SOME_SCALARS, max_size=3),
        min_size=3,
    ),
    is_document=st.just(True),
)
SOME_PATTERNS = st.sampled_from(
    [
        *(Pattern(("a", Wild.RUN)), Pattern((Wild.RUN, "a"), ignore_case=True)),
        *(Pattern(("ab",), ignore_case=True), Pattern((Wild.CHAR,)), Pattern(())),
        Pattern((Wild.RUN,), ignore_case=True),
    ]
)


@often
@given(
    special_leaves(SOME_NAMES, SOME_TEXTS, SOME_PATTERNS).filter(lambda leaf: suits(leaf, TYPED)),
    SOME_DOCUMENTS,
)
def test_conditions_that_are_often_met(node: Node, event: Event) -> None:
    judge(node, event, TYPED)
