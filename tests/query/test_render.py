"""Trees to KQL and back, and to a text for people where KQL has no words."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Before,
    Boolean,
    Exists,
    Is,
    Nested,
    Node,
    Not,
    Null,
    Or,
    Pattern,
    Range,
    Text,
    Wild,
)
from barrelman.query.kql import TRIMMED, parse_kql
from barrelman.query.render import describe, render_kql

FIELD = Text("f")
A, B, C = (Is(FIELD, Text(letter)) for letter in "abc")
OTHER = Is(Text("g"), Text("x"))
STAR = Pattern((Wild.RUN,))

# Letters that make keywords, whitespace of every kind, and all that needs an escape.
SYMBOLS = [*'\\():<>"*{}?', "\t", "\n", "\r", "\x00", "\xa0", "\u3000", "\u200b", "\U000e0001"]
WORDS = [*"ant orNOT", " and ", " or", "not ", "é", "😀", "null", "true", "\\u0041", "u0041"]
TEXTS = st.lists(st.sampled_from([*SYMBOLS, *WORDS]), max_size=6).map("".join)
TRIM = TEXTS.map(lambda text: text.strip(TRIMMED))


def join(first: str, middle: list[str | Wild], last: str) -> Pattern:
    joined: list[str | Wild] = []
    for part in (first, Wild.RUN, *middle, Wild.RUN, last):
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part:
            joined.append(part)
    return Pattern(tuple(joined))


PATTERNS = st.just(STAR) | st.builds(join, TRIM, st.lists(TEXTS | st.just(Wild.RUN)), TRIM)
TYPED = (Text("null"), Text("true"), Text("false"))
NAMES = st.builds(Text, TRIM) | st.builds(Text, TEXTS, quoted=st.just(True)) | PATTERNS
VALUES = st.one_of(
    NAMES.filter(lambda name: name not in TYPED),
    st.builds(Boolean, st.booleans()),
    st.just(Null()),
)
# Few fields, so that they repeat and lists come up.
FIELDS = st.sampled_from([FIELD, Text("f", quoted=True), STAR]) | NAMES
LEAVES = st.one_of(
    st.builds(Is, st.none() | FIELDS, VALUES),
    st.builds(Is, st.just(FIELD), VALUES),
    st.builds(
        Range,
        FIELDS,
        st.sampled_from(["lt", "lte", "gt", "gte"]),
        NAMES.filter(lambda name: name != Text("null")),
    ),
)


def joined_of(nodes: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(nodes, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(And, several),
        st.builds(Or, several),
        st.builds(Not, nodes),
        st.builds(Nested, FIELDS, nodes),
    )


TREES = st.recursive(LEAVES, joined_of, max_leaves=8)


@settings(deadline=None, max_examples=150)
@given(TREES)
def test_parse_undoes_render(tree: Node) -> None:
    text = render_kql(tree)
    assert parse_kql(text) == tree
    assert text.isprintable()


@settings(deadline=None)
@given(TREES)
def test_description_of_what_kql_can_say_is_kql(tree: Node) -> None:
    # Only escaped whitespace makes an empty text without quotes: no sight for people.
    assume("Text(value='', quoted=False" not in repr(tree))
    assert describe(tree) == render_kql(tree)


def test_only_null_is_no_bound_without_quotes() -> None:
    for word in ("true", "false"):
        node = Range(Text("f"), "lt", Text(word))
        assert describe(node) == render_kql(node) == f"f < {word}"
    assert describe(Range(Text("f"), "lt", Text("null"))) == 'f < "null"'


def test_everything() -> None:
    assert render_kql(MATCH_ALL) == ""
    assert parse_kql(render_kql(MATCH_ALL)) == MATCH_ALL
    assert describe(MATCH_ALL) == "*:*"


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (Or((A, B)), "f:(a or b)"),
        (Or((A, And((B, Not(C))))), "f:(a or b and not c)"),
        (And((Or((A, B)), C)), "f:(a or b) and f:c"),
        (Or((Or((A, B)), C)), "f:(a or b) or f:c"),
        (Or((A, OTHER, B)), "f:a or g:x or f:b"),
        (Or((Or((A, OTHER)), B)), "(f:a or g:x) or f:b"),
        (And((And((A, OTHER)), Or((A, OTHER)))), "(f:a and g:x) and (f:a or g:x)"),
        (Not(Or((A, B))), "not f:(a or b)"),
        (Not(And((A, OTHER))), "not (f:a and g:x)"),
        (Not(Not(A)), "not (not f:a)"),
        (And((A, Not(Not(B)))), "f:a and not (not f:b)"),
        (Not(Nested(FIELD, A)), "not f:{ f:a }"),
        (Or((Is(None, Text("a")), Is(None, STAR))), "a or *"),
        (And((Range(FIELD, "gt", Text("1")), Range(FIELD, "lte", Text("2")))), "f > 1 and f <= 2"),
    ],
)
def test_canonical_form(tree: Node, text: str) -> None:
    assert render_kql(tree) == text
    assert parse_kql(text) == tree


@pytest.mark.parametrize(
    "tree",
    [
        Exists(FIELD),
        Before(0),
        And((A, MATCH_ALL)),
        Not(MATCH_ALL),
        Nested(FIELD, MATCH_ALL),
        And((A,)),
        Or(()),
        Is(FIELD, Text("true")),
        Is(FIELD, Text("null")),
        Is(None, Text("false")),
        Range(FIELD, "lt", Text("null")),
        Is(FIELD, Text(" a")),
        Is(FIELD, Text("a\u3000")),
        Is(Text("\n"), Text("a")),
        Is(FIELD, Text("\ud800")),
        Is(FIELD, Text("\ud800", quoted=True)),
        Is(FIELD, Pattern(("\udfff", Wild.RUN))),
        Is(FIELD, Pattern(("a", Wild.CHAR, Wild.RUN))),
        Is(FIELD, Pattern(("a", Wild.RUN), ignore_case=True)),
        Is(FIELD, Pattern(("a",))),
        Is(FIELD, Pattern(())),
        Is(FIELD, Pattern(("a", "b", Wild.RUN))),
        Is(FIELD, Pattern(("", Wild.RUN))),
        Is(FIELD, Pattern((" a", Wild.RUN))),
        Is(Pattern((Wild.RUN, "a ")), Text("a")),
    ],
    ids=ascii,
)
def test_what_kql_cannot_say(tree: Node) -> None:
    with pytest.raises(ValueError, match="KQL"):
        render_kql(tree)
    describe(tree).encode()


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (Exists(FIELD), "f:*"),
        (And((Exists(FIELD), Not(A))), "f:(* and not a)"),
        (
            Not(And((OTHER, Before(1_791_000_000_000)))),
            "not (g:x and before 2026-10-03T04:00:00.000Z)",
        ),
        (Before(10**30), f"before {10**30} ms after 1970"),
        (Is(FIELD, Pattern(("a?", Wild.CHAR, "b*", Wild.RUN))), r"f:a\??b\**"),
        (Is(FIELD, Pattern(("a", Wild.RUN), ignore_case=True)), "f:a* (any case)"),
        (Is(FIELD, Text("true")), 'f:"true"'),
        (Is(FIELD, Text(" a ")), 'f:" a "'),
        (Is(FIELD, Pattern(())), r"f:\t"),
        (Is(FIELD, Text("\ud800")), r"f:\ud800"),
        (And((A, MATCH_ALL)), "f:a and *:*"),
        (And(()), "*:*"),
        (Or(()), "not *:*"),
        (Not(Or(())), "not (not *:*)"),
        (Or((A,)), "f:a"),
    ],
    ids=ascii,
)
def test_description(tree: Node, text: str) -> None:
    assert describe(tree) == text


def test_no_tree_is_too_deep() -> None:
    tree: Node = A
    for _ in range(5_000):
        tree = Not(tree)
    assert describe(tree) == "not (" * 4_999 + "not f:a" + ")" * 4_999
