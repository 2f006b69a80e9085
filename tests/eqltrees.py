"""Conditions that only EQL and Lucene have, as hypothesis strategies: exact, computed and near."""

from __future__ import annotations

from typing import Any, TypeVar

from hypothesis import strategies as st

from barrelman.query.ast import (
    And,
    Boolean,
    Call,
    Compare,
    CompareOp,
    Condition,
    Constant,
    Exists,
    Expression,
    FieldValue,
    Fuzzy,
    Holds,
    Is,
    Near,
    Node,
    Not,
    Number,
    Or,
    Pattern,
    Range,
    RangeOp,
    RegExp,
    Suits,
    Text,
    Value,
)

NUMBERS: st.SearchStrategy[int | float] = st.sampled_from(
    [
        *(0, 1, -1, 2, 3, -7, 10, 80, 5, 12345, 80.5, -2.5, 0.0, 1.0, 2**62, 2**63 - 1, 1e300),
        1_795_417_560_000,
    ]
)
PLACES = st.sampled_from([0, 1, 2, 3, -1, -2, 100, -100, 1.5])
MATCHES: dict[str, list[Any]] = {
    "a": ["a"],
    "a|b": ["b"],
    ".*": ["", "create"],
    ".+": ["x"],
    "(a|b)*": ["abba", ""],
    "[a-c]+.*": ["create"],
    ".*te": ["create", "delete"],
    "cre?ate": ["create", "crate"],
    "<1-100>": ["007", 7, 100],
    "<01-80>": ["07", 80],
    "~(a.*)": ["create"],
    "~a": ["", "aa"],
    "a.*&.*b": ["ab", "a or b"],
    "@": ["x"],
    "#": [""],
    "()": [""],
    r"\d+": ["12345", 12345],
    r"\w+(-\w+)*": ["kube-system"],
    '".*"': [".*"],
    "(a?){3}b{0,2}": ["aab"],
    "[^a]*": ["\U0001f600", "x"],
    "(create|delete|list)": ["create", "delete"],
    ".*system:(masters|nodes).*": ["system:masters", "xsystem:nodes"],
    "A.*": ["Abc"],
    r"10\.0\..*": ["10.0.0.7"],
    "tr.e": [True, "tree", "true"],
    "~(.*create.*)": ["delete"],
    ".{3,6}": ["create"],
    "(.*ate.*)&(~(re.*))": ["create"],
    r"12345|12345\.0": [12345, 12345.0, "12345"],
    "1e.*": ["1e5", 1e22],
    ".*e999.*": ["1e999"],
    ".*create.*|/api/v1/.*": ["recreated", "/api/v1/pods"],
    "R&D.*": ["R", "D"],
    r"R\&D <team\>": ["R&D <team>"],
    'a "quoted".*': ["a quoted word"],
    r"a \"quoted\" .*": ['a "quoted" word'],
    "nämespace": ["nämespace"],
    "(two words){1,}": ["two words"],
    "(create){2}x?": ["createcreate"],
    "fal(se)": [False, "false"],
}
"""Regular expressions, each with values that meet it, or nearly."""
EXPRESSIONS = st.sampled_from([*MATCHES])
Drawn = TypeVar("Drawn")
OPERATORS: st.SearchStrategy[CompareOp] = st.sampled_from(["eq", "gt", "gte", "lt", "lte"])
RANGES: st.SearchStrategy[RangeOp] = st.sampled_from(["gt", "gte", "lt", "lte"])
NETWORKS = st.sampled_from(["10.0.0.0/8", "::/0", "::1", "10.0.0.1", "0.0.0.0/0", "fe80::/10"])
REGEXPS = st.builds(RegExp, EXPRESSIONS, st.booleans())


def hidden(strategy: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn]:
    """The same by a short name: hypothesis writes out what strategies are made of."""

    @st.composite
    def drawn(draw: st.DrawFn) -> Drawn:
        return draw(strategy)

    return drawn()


def special_leaves(
    names: st.SearchStrategy[str],
    texts: st.SearchStrategy[str],
    patterns: st.SearchStrategy[Pattern],
) -> st.SearchStrategy[Node]:
    """Leaves of any kind; their types are not checked."""
    quoted = st.builds(Text, texts, quoted=st.just(True))
    texts, patterns = hidden(texts), hidden(patterns)
    fields = hidden(st.builds(Text, names))
    values: st.SearchStrategy[Value] = (
        quoted | st.builds(Number, NUMBERS) | st.builds(Boolean, st.booleans()) | patterns | REGEXPS
    )
    near: st.SearchStrategy[Value] = (
        REGEXPS
        | st.builds(Fuzzy, texts, st.integers(0, 2))
        | st.builds(Near, texts, st.integers(0, 4))
    )
    bounds = quoted | st.builds(Number, NUMBERS)
    plain: st.SearchStrategy[Node] = (
        st.builds(Is, fields, values, st.just(True))
        | st.builds(Is, fields, values, st.just(True))
        | st.builds(Range, fields, RANGES, bounds, st.just(True))
        | st.builds(Is, fields | fields | st.none() | patterns, near)
    )
    return hidden(plain) | hidden(_computed(fields, hidden(plain), texts, patterns))


def _computed(
    fields: st.SearchStrategy[Text],
    leaves: st.SearchStrategy[Node],
    texts: st.SearchStrategy[str],
    patterns: st.SearchStrategy[Pattern],
) -> st.SearchStrategy[Node]:
    read = st.builds(FieldValue, fields)
    text = hidden(_texts(read, texts))
    number = hidden(_numbers(read, text))
    plain_truth = hidden(_truths(text, texts))
    inner: st.SearchStrategy[Node] = hidden(
        st.recursive(
            leaves | st.builds(Exists, fields) | st.builds(Compare, number, OPERATORS, number),
            lambda nodes: (
                st.builds(Not, nodes)
                | st.builds(And, st.tuples(nodes, nodes))
                | st.builds(Or, st.tuples(nodes, nodes))
            ),
            max_leaves=3,
        )
    )
    truth: st.SearchStrategy[Expression] = plain_truth | plain_truth | st.builds(Condition, inner)
    constants = st.builds(Constant, texts | NUMBERS | st.booleans() | st.none())
    anything = hidden(text | number | truth | read)
    suiting = st.builds(Text, texts, quoted=st.just(True)) | patterns | REGEXPS
    return (
        st.builds(Holds, truth)
        | st.builds(Suits, text | number, suiting)
        | st.builds(Compare, anything, OPERATORS, constants)
        | st.builds(Compare, constants, OPERATORS, anything)
        | st.builds(Compare, text, OPERATORS, st.builds(Constant, texts))
        | st.builds(Compare, number, OPERATORS, st.builds(Constant, NUMBERS))
        | st.builds(Compare, anything, OPERATORS, anything)
    )


def _call(
    name: str, *args: st.SearchStrategy[Expression], tilde: bool = False
) -> st.SearchStrategy[Expression]:
    return st.builds(
        Call, st.just(name), st.tuples(*args), st.booleans() if tilde else st.just(False)
    )


def _texts(
    read: st.SearchStrategy[Expression], texts: st.SearchStrategy[str]
) -> st.SearchStrategy[Expression]:
    constant = st.builds(Constant, texts)
    place = st.builds(Constant, PLACES)
    flag = st.builds(Constant, st.booleans())
    base = read | read | constant

    def more(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        return (
            _call("substring", inner, place)
            | _call("substring", inner, place, place)
            | _call("concat", inner, constant)
            | _call("concat", constant, inner, inner)
            | _call("string", inner)
            | _call("between", inner, constant, constant, tilde=True)
            | _call("between", inner, constant, constant, flag, tilde=True)
        )

    return base | more(base | hidden(more(base)))


def _numbers(
    read: st.SearchStrategy[Expression], text: st.SearchStrategy[Expression]
) -> st.SearchStrategy[Expression]:
    constant = st.builds(Constant, NUMBERS)
    of_text = (
        _call("length", text)
        | _call("indexof", text, text, tilde=True)
        | _call("indexof", text, text, st.builds(Constant, PLACES), tilde=True)
        | _call("number", text)
        | _call("number", text, st.builds(Constant, st.sampled_from([2, 8, 10, 16, 36, 1, 99])))
    )
    base = read | read | constant | of_text
    sums = st.sampled_from(["add", "subtract", "multiply", "divide", "modulo"])
    return base | st.builds(Call, sums, st.tuples(base, base))


def _truths(
    text: st.SearchStrategy[Expression], texts: st.SearchStrategy[str]
) -> st.SearchStrategy[Expression]:
    networks = st.builds(Constant, NETWORKS)
    part = st.builds(Constant, texts) | st.builds(Constant, texts) | text
    return (
        _call("startswith", text, part, tilde=True)
        | _call("endswith", text, part, tilde=True)
        | _call("stringcontains", text, part, tilde=True)
        | _call("cidrmatch", text, networks)
        | _call("cidrmatch", text, networks, networks)
    )
