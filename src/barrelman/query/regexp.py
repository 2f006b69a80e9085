r"""Lucene's regular expressions, to a tree. They match a whole value, and `.` any character.

    a|b   ab   a?  a*  a+  a{2}  a{2,}  a{2,5}   (a)   ()   [a-c\]x]  [^a-c]   \.   \d \w \s
    a&b   ~a   "ab"   #   @   <1-31>

`&` is both, `~` (of what stands right behind it) all texts but those, `"…"` plain text, `#` no text
at all, `@` any text, `<n-m>` a number in that interval. All bind as in Lucene: `|` loosest, then
`&`, then one behind the other, then repetition, then `~`. `^` and `$` are characters as others are,
and there is neither looking around nor back.
"""

from __future__ import annotations

from typing import Final, NoReturn, TypeAlias

from barrelman.errors import QuerySyntaxError, place_in_text
from barrelman.records.frozen import frozen

LONGEST: Final = 1000
"""As many characters as Elasticsearch takes (`index.max_regex_length`)."""
MOST_PLACES: Final = 10_000
"""How many characters an expression may stand for where each repetition is written out."""
MAX_NESTING: Final = 50
MOST_DIGITS: Final = 18

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Spans of code points, both ends included: in order, apart."""

_LAST: Final = 0x10FFFF
_ANY: Final[Ranges] = ((0, _LAST),)
_CLASSES: Final[dict[str, Ranges]] = {
    "d": ((48, 57),),
    "s": ((9, 10), (13, 13), (32, 32)),
    "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
}


@frozen
class Chars:
    """One character of these."""

    ranges: Ranges


@frozen
class Chain:
    """One behind the other; none is the empty text."""

    parts: tuple[Tree, ...]


@frozen
class Either:
    """One of these; none is no text at all."""

    choices: tuple[Tree, ...]


@frozen
class Both:
    parts: tuple[Tree, ...]


@frozen
class Other:
    """Every text but those of `than`."""

    than: Tree


@frozen
class Repeat:
    of: Tree
    least: int
    most: int | None


Tree: TypeAlias = Chars | Chain | Either | Both | Other | Repeat

ANY_TEXT: Final = Repeat(Chars(_ANY), 0, None)
_EMPTY: Final = Chain(())
_DIGIT: Final = Chars(((48, 57),))


def parse_regexp(source: str, *, ignore_case: bool = False) -> Tree:
    """Raises QuerySyntaxError with the place in `source`. The case of ASCII letters is ignored."""
    if len(source) > LONGEST:
        message = f"a regular expression has at most {LONGEST} characters"
        raise QuerySyntaxError(message, place=place_in_text(source, LONGEST))
    parser = _Parser(source, ignore_case=ignore_case)
    tree = parser.whole()
    if places_of(tree) > MOST_PLACES:
        parser.at = 0
        parser.fail(
            f"it stands for more than {MOST_PLACES} characters",
            "repeat less, or less often within a repetition",
        )
    return tree


def places_of(tree: Tree) -> int:
    """How many characters stand in it where each repetition is written out."""
    match tree:
        case Chars():
            return 1
        case Chain(parts) | Either(parts) | Both(parts):
            return sum(map(places_of, parts))
        case Other(than):
            return places_of(than)
        case Repeat(of, least, most):
            return places_of(of) * max(least, most or 1)


class _Parser:
    def __init__(self, source: str, *, ignore_case: bool) -> None:
        self.source = source
        self.ignore_case = ignore_case
        self.at = 0
        self.depth = 0

    def whole(self) -> Tree:
        if not self.source:
            return _EMPTY
        tree = self.union()
        if self.at < len(self.source):
            self.fail("`)` closes no bracket", r"as a character it is written \)")
        return tree

    # --- from the loosest to the tightest ---

    def union(self) -> Tree:
        choices = [self.intersection()]
        while self.take("|"):
            choices.append(self.intersection())
        return choices[0] if len(choices) == 1 else Either(tuple(choices))

    def intersection(self) -> Tree:
        parts = [self.chain()]
        while self.take("&"):
            parts.append(self.chain())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def chain(self) -> Tree:
        parts = [self.repeated()]
        while self.at < len(self.source) and self.source[self.at] not in ")|&":
            parts.append(self.repeated())
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def repeated(self) -> Tree:
        tree = self.complement()
        while True:
            if self.take("?"):
                tree = _repeat(tree, 0, 1)
            elif self.take("*"):
                tree = _repeat(tree, 0, None)
            elif self.take("+"):
                tree = _repeat(tree, 1, None)
            elif self.take("{"):
                tree = _repeat(tree, *self.bounds())
            else:
                return tree

    def bounds(self) -> tuple[int, int | None]:
        start = self.at - 1
        least = self.integer()
        most: int | None = least
        if self.take(","):
            most = None if self.peek() == "}" else self.integer()
        if not self.take("}"):
            self.fail("a repetition ends with `}`", "{2}, {2,} or {2,5}")
        if most is not None and most < least:
            self.at = start
            self.fail("a repetition's second number is the greater one", f"{{{most},{least}}}")
        return least, most

    def integer(self) -> int:
        start = self.at
        while self.peek().isascii() and self.peek().isdigit():
            self.at += 1
        text = self.source[start : self.at]
        if not text:
            self.fail("a number is expected here", r"as a character `{` is written \{")
        return min(int(text), MOST_PLACES + 1)

    def complement(self) -> Tree:
        count = 0
        while self.take("~"):
            count += 1
        tree = self.simple()
        return Other(tree) if count % 2 else tree

    def simple(self) -> Tree:
        if self.take("."):
            return Chars(_ANY)
        if self.take("#"):
            return Either(())
        if self.take("@"):
            return ANY_TEXT
        if self.take('"'):
            text = self.until('"', "plain text within quotes")
            return Chain(tuple(self.char(ord(each)) for each in text))
        if self.take("("):
            return self.group()
        if self.take("<"):
            return self.interval(self.until(">", "an interval"))
        if self.take("["):
            return Chars(self.char_class())
        return self.one()

    def group(self) -> Tree:
        start = self.at - 1
        if self.take(")"):
            return _EMPTY
        self.depth += 1
        if self.depth > MAX_NESTING:
            self.fail(f"brackets lie more than {MAX_NESTING} deep in each other")
        tree = self.union()
        self.depth -= 1
        if not self.take(")"):
            self.at = start
            self.fail("`(` is never closed", r"as a character it is written \(")
        return tree

    def until(self, end: str, what: str) -> str:
        start = self.at
        stop = self.source.find(end, start)
        if stop < 0:
            self.at = start - 1
            sign = self.source[self.at]
            self.fail(f"{what} ends with `{end}`", rf"as a character `{sign}` is written \{sign}")
        self.at = stop + 1
        return self.source[start:stop]

    def interval(self, text: str) -> Tree:
        low, dash, high = text.partition("-")
        if not (dash and _is_number(low) and _is_number(high)):
            self.at -= len(text) + 2
            self.fail("an interval is written <1-31>", r"as a character `<` is written \<")
        is_fixed = len(low) == len(high)
        if int(low) > int(high):
            low, high = high, low
        width = max(len(low), len(high))
        spans = [_digits(low.zfill(width), high.zfill(width))]
        if not is_fixed:
            spans = [Chain((Repeat(Chars(((48, 48),)), 0, None), spans[0]))]
            for shorter in range(len(str(int(low))), width):
                most = min(int(high), 10**shorter - 1)
                spans.append(_digits(str(int(low)).zfill(shorter), str(most).zfill(shorter)))
        return Either(tuple(spans))

    # --- characters ---

    def one(self) -> Tree:
        escaped = self.peek() == "\\"
        char = self.any_char()
        if escaped and char.lower() in _CLASSES:
            return Chars(_named(char))
        return self.char(ord(char))

    def any_char(self) -> str:
        """The next character, whatever it is, or the one behind a backslash."""
        if self.take("\\") and self.at == len(self.source):
            self.fail("a character is expected behind the backslash", r"\\ is a backslash")
        if self.at == len(self.source):
            self.fail("the regular expression is not finished", "() is the empty text")
        self.at += 1
        return self.source[self.at - 1]

    def char_class(self) -> Ranges:
        start = self.at - 1
        is_negated = self.take("^")
        ranges: list[tuple[int, int]] = []
        while True:
            ranges += self.class_member(start)
            if self.take("]"):
                break
        found = _merged(ranges)
        if self.ignore_case:
            found = _any_case(found)
        return _but(found) if is_negated else found

    def class_member(self, start: int) -> Ranges:
        if self.at >= len(self.source):
            self.at = start
            self.fail("`[` is never closed", r"as a character it is written \[")
        escaped = self.peek() == "\\"
        char = self.any_char()
        if escaped and char.lower() in _CLASSES:
            return _named(char)
        first = last = ord(char)
        if self.peek() == "-" and self.source[self.at + 1 : self.at + 2] not in ("", "]"):
            self.at += 1
            last = ord(self.any_char())
            if last < first:
                self.fail("a range begins with the lower character", f"{chr(last)}-{char}")
        return ((first, last),)

    def char(self, code: int) -> Chars:
        ranges = ((code, code),)
        return Chars(_any_case(ranges) if self.ignore_case else ranges)

    # --- reading ---

    def peek(self) -> str:
        return self.source[self.at : self.at + 1]

    def take(self, char: str) -> bool:
        if self.peek() != char:
            return False
        self.at += 1
        return True

    def fail(self, message: str, hint: str | None = None) -> NoReturn:
        place = place_in_text(self.source, self.at)
        raise QuerySyntaxError(message, place=place, hint=hint)


def _repeat(tree: Tree, least: int, most: int | None) -> Tree:
    if (least, most) == (1, 1):
        return tree
    if isinstance(tree, Repeat):  # `a?*` and its kin, in any number
        is_simple = {least, tree.least} <= {0, 1} and {most, tree.most} <= {1, None}
        if is_simple:
            is_open = most is None or tree.most is None
            return Repeat(tree.of, least * tree.least, None if is_open else 1)
    return Repeat(tree, least, most)


def _digits(low: str, high: str) -> Tree:
    """The numbers from `low` to `high`, all of one width."""
    rest = len(low) - 1
    if rest < 0:
        return _EMPTY
    if set(low) == {"0"} and set(high) == {"9"}:
        return Repeat(_DIGIT, rest + 1, rest + 1)
    first, last = ord(low[0]), ord(high[0])
    if first == last:
        return Chain((Chars(((first, first),)), _digits(low[1:], high[1:])))
    choices: list[Tree] = [
        Chain((Chars(((first, first),)), _digits(low[1:], "9" * rest))),
        Chain((Chars(((last, last),)), _digits("0" * rest, high[1:]))),
    ]
    if last - first > 1:
        between = Chars(((first + 1, last - 1),))
        choices.append(Chain((between, Repeat(_DIGIT, rest, rest))))
    return Either(tuple(choices))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _named(char: str) -> Ranges:
    ranges = _CLASSES[char.lower()]
    return ranges if char.islower() else _but(ranges)


def _merged(ranges: list[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def _but(ranges: Ranges) -> Ranges:
    """All characters that are in none of the ranges."""
    left: list[tuple[int, int]] = []
    start = 0
    for low, high in ranges:
        if low > start:
            left.append((start, low - 1))
        start = high + 1
    if start <= _LAST:
        left.append((start, _LAST))
    return tuple(left)


def _any_case(ranges: Ranges) -> Ranges:
    """The same with the other case of ASCII letters."""
    found = list(ranges)
    for low, high in ranges:
        for first, last, shift in ((65, 90, 32), (97, 122, -32)):
            start, stop = max(low, first), min(high, last)
            if start <= stop:
                found.append((start + shift, stop + shift))
    return _merged(found)
