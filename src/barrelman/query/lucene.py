r"""Lucene's classic query language, as Elasticsearch's `query_string` reads it, to a tree.

    user.name:eve AND NOT verb:(get OR list)     +a -b c     risk:[50 TO *}     risk:>=50
    "exact phrase"   "near words"~3   image:*nginx?   nme~1   /joh?n(ath[oa]n)?/   _exists_:f

AND and OR have no precedence: as in Lucene each operand becomes one that *must*, *should* or *must
not* hold, and an AND makes the operands on both of its sides musts. So `a OR b AND c` is `b AND c`:
beside a must, a should only ranks what is found. Operands that nothing joins should hold.

Words end at whitespace and at `! ( ) : ^ [ ] " { } ~ /`; a backslash takes the character behind it
as it is. One thing is read otherwise than in Elasticsearch, which gives words that stand side by
side to the field as one text: `f:(a b)` is `f:(a OR b)` for every type of field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final, NoReturn, TypeAlias
from typing import Literal as Choice

from barrelman.errors import QuerySyntaxError, place_in_text
from barrelman.query.ast import (
    MATCH_ALL,
    Boolean,
    Exists,
    FieldName,
    Fuzzy,
    Is,
    Near,
    Node,
    Pattern,
    Range,
    RangeOp,
    RegExp,
    Span,
    Text,
    Value,
    Wild,
    Within,
)
from barrelman.query.lucenejoin import Joint, Operands, Sign, any_of
from barrelman.records.frozen import frozen

MAX_NESTING: Final = 30
"""How many brackets may be open at once: as many boolean levels as Elasticsearch takes."""
MOST_EDITS: Final = 2

Token: TypeAlias = str | Wild

_WS: Final = " \\t\\n\\r\u3000"
_NO_WORD: Final = rf'{_WS}!():^\[\]"{{}}~\\/'
_SPACES: Final = re.compile(f"[{_WS}]*+")
_WORD: Final = re.compile(
    rf"(?:[^{_NO_WORD}+\-]|\\.)(?:[^{_NO_WORD}]|\\.)*+", re.DOTALL
)  # with its wildcards
_ALONE: Final = re.compile(rf"[+\-!](?=[{_WS}])")
_QUOTED: Final = re.compile(r'"(?P<body>(?:[^"\\]|\\.)*+)"', re.DOTALL)
_REGEXP: Final = re.compile(r"/(?P<body>(?:\\/|[^/])*)/", re.DOTALL)
_BOUND: Final = re.compile(rf'"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>[^{_WS}\]}}]++)', re.DOTALL)
_BOOST: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_SUFFIX: Final = re.compile(rf"~(?P<amount>(?:[^{_NO_WORD}*?]|\\.)*+)", re.DOTALL)
_PIECE: Final = re.compile(
    r"\\u(?P<code>[0-9a-fA-F]{4})|\\(?P<plain>.)|(?P<wild>[*?])|[^\\*?]++", re.DOTALL
)
_JOINTS: Final[dict[str, Joint]] = {"AND": "and", "&&": "and", "OR": "or", "||": "or"}
_COMPARISON: Final = re.compile("[<>]=?")
_OPS: Final[dict[str, RangeOp]] = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_EXISTS: Final = Text("_exists_")
_ANY_NAME: Final = Pattern((Wild.RUN,))


def parse_lucene(
    text: str,
    *,
    default_fields: Sequence[str] = (),
    default_operator: Choice["or", "and"] = "or",
    rename: Callable[[str], str] = str,
) -> Node:
    """The tree of a query; MATCH_ALL for an empty one. Raises QuerySyntaxError.

    `default_fields` are asked where the text names none; without them, any field is. `rename` gives
    the name to use for a field that the text names. With the operator "and", operands that nothing
    joins must all hold.
    """
    names = tuple(_as_name(_tokens_of(name), span=(0, 0)) for name in default_fields)
    return _Parser(text, names, default_operator == "and", rename).parse()


def notes_on_lucene(text: str) -> list[str]:
    """What in a query that parses is hardly meant as it is read, inner brackets first."""
    parser = _Parser(text, (), False, str)
    parser.parse()
    return list(dict.fromkeys(parser.notes))


@frozen
class _Word:
    """A word or a phrase as it was read: text, and where wildcards stand in it."""

    tokens: tuple[Token, ...]
    span: Span

    @property
    def text(self) -> str:
        """Without wildcards there is one token at most."""
        return "".join(token if isinstance(token, str) else token.value for token in self.tokens)

    @property
    def is_wild(self) -> bool:
        return any(isinstance(token, Wild) for token in self.tokens)


class _Parser:
    """`position` is all that moves, and `depth` with it; `notes` gather."""

    __slots__ = ("default_and", "depth", "names", "notes", "position", "rename", "text")

    def __init__(
        self,
        text: str,
        names: tuple[FieldName, ...],
        default_and: bool,
        rename: Callable[[str], str],
    ) -> None:
        self.text = text
        self.names = names
        self.default_and = default_and
        self.rename = rename
        self.position = 0
        self.depth = 0
        self.notes: list[str] = []

    def parse(self) -> Node:
        try:
            self.text.encode()
        except UnicodeEncodeError as problem:
            self.text = self.text.encode(errors="replace").decode()
            self.fail("half of a surrogate pair is not a character", problem.start)
        if self.at_end():
            return MATCH_ALL
        node = self.query(None)
        if not self.at_end():
            self.fail("this ')' closes nothing", hint=r"remove it; for a bracket itself write \)")
        return node

    # --- reading on ---

    def skip_space(self) -> None:
        match = _SPACES.match(self.text, self.position)
        assert match is not None  # it also matches nothing
        self.position = match.end()

    def at_end(self) -> bool:
        self.skip_space()
        return self.position == len(self.text)

    def at(self, start: str) -> bool:
        return self.text.startswith(start, self.position)

    def word_here(self) -> str:
        match = _WORD.match(self.text, self.position)
        return match[0] if match else ""

    # --- operands and how they are joined ---

    def query(self, field: FieldName | None) -> Node:
        operands = Operands(default_and=self.default_and)
        joint: Joint = None
        while True:
            self.skip_space()
            start = self.position
            sign = self.sign()
            node = self.operand(field)
            operands.add(node, sign=sign, joint=joint, span=(start, self.position))
            if self.at_end() or self.at(")"):
                self.notes += operands.notes(self.text)
                return operands.node()
            joint = self.joint()

    def joint(self) -> Joint:
        word = self.word_here()
        joint = _JOINTS.get(word)
        if joint is not None:
            self.position += len(word)
        return joint

    def sign(self) -> Sign:
        """The `+`, `-`, `!` or NOT before an operand: "+", "-" or ""."""
        self.skip_space()
        if self.word_here() == "NOT":
            self.position += len("NOT")
            return "-"
        char = self.text[self.position : self.position + 1]
        if char not in ("+", "-", "!") or _ALONE.match(self.text, self.position):
            return ""
        self.position += 1
        return "+" if char == "+" else "-"

    def operand(self, field: FieldName | None) -> Node:
        if self.at_end():
            self.fail("an operand is missing at the end", hint="a value, or field:value")
        name = self.field_here()
        if name is None:
            return self.group(field) if self.at("(") else self.term(field)
        if self.at_end() or self.at(")"):
            self.fail("a value is missing after the field")
        if name is not _ANY_NAME:
            return self.group(name) if self.at("(") else self.term(name)
        # `*:x` is asked of all fields, whatever the default ones are.
        names, self.names = self.names, ()
        node = self.group(None) if self.at("(") else self.term(None)
        self.names = names
        return node

    def field_here(self) -> FieldName | None:
        """Steps over `name:`, if there is one."""
        start = self.position
        match = _WORD.match(self.text, start)
        if match is None or match[0] in (*_JOINTS, "NOT"):
            return None
        self.position = match.end()
        self.skip_space()
        if not self.at(":"):
            self.position = start
            return None
        self.position += 1
        self.skip_space()
        written = self.decode(match[0], start, wild=False).text
        if written == "*":
            return _ANY_NAME
        renamed = written if written == _EXISTS.value else self.rename(written)
        return _as_name(_tokens_of(renamed), span=match.span())

    def group(self, field: FieldName | None) -> Node:
        start = self.position
        self.depth += 1
        if self.depth > MAX_NESTING:
            hint = "remove brackets that group nothing, or split the query"
            self.fail(f"brackets are nested more than {MAX_NESTING} deep", start, hint=hint)
        self.position += 1
        if not self.at_end() and self.at(")"):
            self.fail("there is nothing between these brackets", start)
        if self.at_end():
            self.fail("the ')' to this bracket is missing", start)
        node = self.query(field)
        if not self.at(")"):
            self.fail("the ')' to this bracket is missing", start)
        self.position += 1
        self.depth -= 1
        self.suffixes(fuzzy=False)
        return node

    # --- single conditions ---

    def term(self, field: FieldName | None) -> Node:
        char = self.text[self.position]
        if char == '"':
            return self.phrase(field)
        if char in "[{":
            return self.interval(field)
        if char == "/":
            return self.regexp(field)
        start = self.position
        match = _ALONE.match(self.text, start) or _WORD.match(self.text, start)
        if match is None or match[0] in _JOINTS or match[0] == "NOT":
            self.fail_missing(field)
        self.position = match.end()
        word = self.decode(match[0], start, wild=True)
        amount = self.suffixes(fuzzy=True)
        if self.at(":"):
            self.fail_colon(field)
        if field == _EXISTS:
            return Exists(_as_name(_tokens_of(self.rename(word.text)), span=word.span))
        if word.is_wild:
            return self.pattern(field, Pattern(word.tokens, span=word.span))
        if amount is not None:
            return self.fuzzy(field, word, amount)
        if field is not None and _COMPARISON.match(word.text):
            return self.comparison(field, word)
        if word.text in ("true", "false"):
            return self.equal(field, Boolean(word.text == "true", span=word.span))
        return self.equal(field, Text(word.text, span=word.span))

    def equal(self, field: FieldName | None, value: Value) -> Node:
        if field is None and self.names:
            return any_of([Is(name, value) for name in self.names])
        return Is(field, value)

    def pattern(self, field: FieldName | None, pattern: Pattern) -> Node:
        if pattern.is_star:
            if field is not None:
                return Exists(field)
            return any_of([Exists(name) for name in self.names]) if self.names else MATCH_ALL
        has_space = any(isinstance(token, str) and " " in token for token in pattern.tokens)
        if field is None and not self.names and has_space:
            # A pattern of no field is KQL's, whose spaces part it; here they were escaped.
            return Is(_ANY_NAME, pattern)
        return self.equal(field, pattern)

    def fuzzy(self, field: FieldName | None, word: _Word, amount: str) -> Node:
        if amount in ("", "AUTO", "auto"):
            edits = (len(word.text) > 2) + (len(word.text) > 5)
        elif amount in ("0", "1", "2"):
            edits = int(amount)
        else:
            hint = f"write ~ and 0, 1 or {MOST_EDITS} behind a word; for ~ itself write \\~"
            self.fail(f"'~{amount}' is no number of edits", word.span[1], hint=hint)
        return self.equal(field, Fuzzy(word.text, edits, span=word.span))

    def phrase(self, field: FieldName | None) -> Node:
        start = self.position
        match = _QUOTED.match(self.text, start)
        if match is None:
            hint = 'add a closing "; \\" is a quote within the text'
            self.fail("the quote that starts here is never closed", hint=hint)
        self.position = match.end()
        text = self.decode(match["body"], start + 1, wild=False).text
        amount = self.suffixes(fuzzy=True)
        if self.at(":"):
            hint = "a field's name stands without quotes, \\ before what is special in it"
            self.fail("a quoted text is not a field's name", start, hint=hint)
        span = start, match.end()
        if field == _EXISTS:
            return Exists(_as_name(_tokens_of(self.rename(text)), span=span))
        if not amount or amount == "0":
            return self.equal(field, Text(text, quoted=True, span=span))
        if not (amount.isascii() and amount.isdigit() and len(amount) < 10):
            hint = 'as in "some words"~3: so many others may stand between them'
            self.fail(f"'~{amount}' is no distance", match.end(), hint=hint)
        return self.equal(field, Near(text, int(amount), span=span))

    def regexp(self, field: FieldName | None) -> Node:
        start = self.position
        match = _REGEXP.match(self.text, start)
        if match is None:
            hint = "for a slash itself write \\/ or put the whole value in quotes"
            self.fail("the regular expression that starts here is never closed", hint=hint)
        self.refuse_exists(field, "a regular expression")
        self.position = match.end()
        self.suffixes(fuzzy=True)
        return self.equal(field, RegExp(match["body"], span=match.span()))

    def comparison(self, field: FieldName, word: _Word) -> Node:
        match = _COMPARISON.match(word.text)
        assert match is not None
        rest = word.text[match.end() :]
        if not rest:
            hint = f'right behind it, as in {match[0]}10; for the text itself write "{match[0]}"'
            self.fail(f"a bound is missing after {match[0]}", word.span[0], hint=hint)
        return Range(field, _OPS[match[0]], Text(rest, span=word.span))

    def interval(self, field: FieldName | None) -> Node:
        start = self.position
        self.refuse_exists(field, "a range")
        self.position += 1
        low = self.bound(start)
        self.skip_space()
        end = self.position + 2
        if not self.at("TO") or self.text[end : end + 1] in ("]", "}"):
            self.fail("TO is missing in this range", hint="as in [1 TO 5}, [a TO *]")
        self.position = end
        high = self.bound(start)
        self.skip_space()
        if not (self.at("]") or self.at("}")):
            hint = 'a bound that holds spaces, "]" or "}" needs quotes'
            self.fail("the ']' or '}' that ends this range is missing", start, hint=hint)
        ops: tuple[RangeOp, RangeOp] = (
            "gte" if self.text[start] == "[" else "gt",
            "lte" if self.at("]") else "lt",
        )
        self.position += 1
        self.suffixes(fuzzy=False)
        pairs = zip(ops, (low, high), strict=True)
        bounds = tuple((op, text) for op, text in pairs if text.value != "*")
        names = (field,) if field is not None else self.names or (_ANY_NAME,)
        return any_of([_between(name, bounds) for name in names])

    def bound(self, start: int) -> Text:
        self.skip_space()
        match = _BOUND.match(self.text, self.position)
        if match is None or match[0] == "TO":
            hint = "as in [1 TO 5], [a TO *]"
            self.fail("a bound of this range is missing", start, hint=hint)
        self.position = match.end()
        group = "plain" if match["quoted"] is None else "quoted"
        text = self.decode(match[group], match.start(group), wild=False).text
        return Text(text, quoted=group == "quoted", span=match.span())

    def suffixes(self, *, fuzzy: bool) -> str | None:
        """Steps over `^boost` and `~amount`; a boost only ranks. None: there is no `~`."""
        amount = None
        self.skip_space()
        while self.at("^") or (fuzzy and amount is None and self.at("~")):
            if self.at("^"):
                match = _BOOST.match(self.text, self.position + 1)
                if match is None:
                    hint = "as in word^2; for ^ itself write \\^"
                    self.fail("a number is missing after ^", hint=hint)
            else:
                match = _SUFFIX.match(self.text, self.position)
                assert match is not None  # `~` alone is one
                amount = match["amount"]
            self.position = match.end()
            self.skip_space()
        return amount

    def decode(self, text: str, start: int, *, wild: bool) -> _Word:
        """A word with its escapes resolved. Without `wild`, `*` and `?` are characters."""
        tokens: list[Token] = []
        for piece in _PIECE.finditer(text):
            if piece["code"]:
                tokens.append(chr(int(piece["code"], 16)))
            elif piece["plain"]:
                if piece["plain"] == "u":
                    hint = r"as in \u00e9; for a backslash write \\"
                    message = r"`\u` needs four hexadecimal digits"
                    self.fail(message, start + piece.start(), hint=hint)
                tokens.append(piece["plain"])
            elif piece["wild"] and wild:
                tokens.append(Wild(piece["wild"]))
            else:
                tokens.append(piece[0])
        try:
            joined = _joined(tokens)
        except UnicodeDecodeError:
            hint = r"write both halves, as in \ud83d\ude00, or the character itself"
            self.fail("half of a surrogate pair is not a character", start, hint=hint)
        return _Word(joined, (start, start + len(text)))

    # --- what is wrong ---

    def fail(self, message: str, at: int | None = None, *, hint: str | None = None) -> NoReturn:
        place = place_in_text(self.text, self.position if at is None else at)
        raise QuerySyntaxError(message, place=place, hint=hint)

    def fail_missing(self, field: FieldName | None) -> NoReturn:
        """An operand must start here, and what stands here starts none."""
        char, word = self.text[self.position], self.word_here()
        if word in _JOINTS or word == "NOT":
            hint = f'an operand must stand before it; for the word itself write "{word}"'
            if word == "NOT":
                hint = "one NOT is enough; for a double one use brackets: NOT (NOT a)"
            self.fail(f"'{word}' joins nothing", hint=hint)
        if char == "\\":
            self.fail("nothing follows the backslash", hint=r"write \\ for a backslash")
        if char == ")":
            self.fail("an operand is missing before ')'")
        if char == ":":
            self.fail("a field's name is missing before ':'", hint=r"for a colon itself write \:")
        if char in "+-!":
            hint = f"one sign is enough; for the character itself write \\{char}"
            self.fail(f"'{char}' cannot stand here", hint=hint)
        what = "an operand" if field is None else "a value"
        hint = f"for the character itself write \\{char}, or put the whole value in quotes"
        self.fail(f"{what} cannot start with '{char}'", hint=hint)

    def fail_colon(self, field: FieldName | None) -> NoReturn:
        hint = r"for a colon within a value write \: or put the value in quotes"
        if field is None:
            hint = r"a field's name takes neither ~ nor ^; " + hint
        self.fail("a ':' cannot stand here", hint=hint)

    def refuse_exists(self, field: FieldName | None, what: str) -> None:
        if field == _EXISTS:
            self.fail(f"{what} is no field's name", hint="as in _exists_:user.name")


def _between(name: FieldName, bounds: tuple[tuple[RangeOp, Text], ...]) -> Node:
    if not bounds:
        return MATCH_ALL if name is _ANY_NAME else Exists(name)
    return Range(name, *bounds[0]) if len(bounds) == 1 else Within(name, bounds)


def _as_name(tokens: Sequence[Token], *, span: Span) -> FieldName:
    if Wild.RUN in tokens:
        return Pattern(tuple(tokens), span=span)
    return Text("".join(map(str, tokens)), span=span)


def _tokens_of(name: str) -> tuple[Token, ...]:
    """A field's name: a `*` is a wildcard, also an escaped one, as Elasticsearch has it."""
    pieces: list[Token] = []
    for index, piece in enumerate(name.split("*")):
        pieces += ([Wild.RUN] if index else []) + ([piece] if piece else [])
    return tuple(pieces)


def _joined(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """Literal neighbours as one, in which the halves of surrogate pairs have met."""
    joined: list[Token] = []
    for is_text, run in groupby(tokens, lambda token: isinstance(token, str)):
        if is_text:
            text = "".join(map(str, run))
            joined.append(text.encode("utf-16", "surrogatepass").decode("utf-16"))
        else:
            joined.extend(run)
    return tuple(joined)
