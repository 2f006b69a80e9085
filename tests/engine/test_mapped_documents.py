"""A document under a mapping is the one that its index would hold, written out field by field."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from oracle import oracle_matches

from barrelman.engine.compile import compile_query
from barrelman.query.ast import And, Exists, Is, Node, Not, Or, Pattern, Range, Text, Wild
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue, FieldType
from barrelman.records.mapping import parse_mapping

MAPPED = parse_mapping(
    {
        "dynamic": False,
        "properties": {
            "code": {"type": "long", "null_value": 7},
            "size": {"type": "alias", "path": "code"},
            "name": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 3}}},
            "word": {"type": "keyword", "null_value": "x", "ignore_above": 2, "copy_to": "all"},
            "term": {"type": "alias", "path": "word"},
            "all": {"type": "keyword"},
            "one": {"type": "constant_keyword", "value": "ab"},
            "o": {"properties": {"f": {"type": "keyword"}}},
        },
    }
).catalogue

# What the index holds, under names without dots where they are not those of objects.
PLAIN = Catalogue(
    exact={
        **dict.fromkeys(("code", "size"), FieldType.LONG),
        "name": FieldType.TEXT,
        **dict.fromkeys(("name_raw", "word", "term", "all", "one", "o.f"), FieldType.KEYWORD),
    }
)


def flat(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [each for item in value for each in flat(item)]
    return [] if isinstance(value, dict) else [value]


def indexed(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of a document, as Elasticsearch's rules for each option say."""

    def values(name: str, null_value: Any = None, limit: int = 99) -> list[Any]:
        found = [null_value if each is None else each for each in flat(document.get(name, []))]
        return [
            each
            for each in found
            if each is not None and not (isinstance(each, str) and len(each) > limit)
        ]

    inner = document.get("o")
    return {
        "code": values("code", 7),
        "size": values("code", 7),
        "name": values("name"),
        "name_raw": values("name", limit=3),
        "word": values("word", "x", 2),
        "term": values("word", "x", 2),
        "all": values("all") + values("word"),
        "one": ["ab"],
        "o": {"f": flat(inner.get("f"))} if isinstance(inner, dict) else {},
    }


_SCALARS = st.none() | st.sampled_from(["", "x", "ab", "abc", "a b", "abcd", 7, 8, "7"])
_LEAVES = _SCALARS | st.lists(_SCALARS | st.lists(_SCALARS, max_size=2), max_size=3)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("code", "name", "word", "all", "one", "size", "unmapped"), _LEAVES),
        "o": st.dictionaries(st.sampled_from(["f", "g"]), _LEAVES, max_size=2),
    },
)
_NAMES = ("code", "size", "name", "name.raw", "word", "term", "all", "one", "o", "o.f")
_FIELDS = st.sampled_from([Text(name) for name in (*_NAMES, "unmapped", "o.g")]) | st.sampled_from(
    [Pattern(("na", Wild.RUN)), Pattern((Wild.RUN, "r", Wild.RUN)), Pattern(("o", Wild.RUN))]
)
_VALUES = st.sampled_from(
    [
        *(Text(text) for text in ("x", "ab", "abc", "7", "8", "a", "abcd")),
        *(Pattern(tokens) for tokens in (("a", Wild.RUN), (Wild.RUN, "b"), (Wild.RUN,))),
    ]
)
_LEAF_NODES: st.SearchStrategy[Node] = (
    st.builds(Is, st.none() | _FIELDS, _VALUES)
    | st.builds(Exists, _FIELDS)
    | st.builds(Range, _FIELDS, st.sampled_from(["lt", "gte"]), st.just(Text("7")))
)
NODES = st.recursive(
    _LEAF_NODES,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(lambda a, b: And((a, b)), inner, inner)
        | st.builds(lambda a, b: Or((a, b)), inner, inner)
    ),
    max_leaves=4,
)


def renamed(node: Node) -> Node:
    """The same query of the document that is written out."""
    match node:
        case Not(child):
            return Not(renamed(child))
        case And(children):
            return And(tuple(map(renamed, children)))
        case Or(children):
            return Or(tuple(map(renamed, children)))
        case Is(Text("name.raw"), value):
            return Is(Text("name_raw"), value)
        case Exists(Text("name.raw")):
            return Exists(Text("name_raw"))
        case Range(Text("name.raw"), op, value):
            return Range(Text("name_raw"), op, value)
        case _:
            return node


@given(NODES, DOCUMENTS)
@example(Exists(Text("o")), {"o": {"g": "x"}})
@example(Is(None, Text("x")), {"word": [None]})
def test_a_mapped_document_is_found_as_what_its_index_holds(
    node: Node, document: dict[str, Any]
) -> None:
    found = compile_query(node, MAPPED).matches(Event(document, is_document=True), now_ms=0)
    written_out = Event(indexed(document), is_document=True)
    expected = oracle_matches(renamed(node), written_out, catalogue=PLAIN, now_ms=0)
    assert found is expected
