"""EQL text to tokens: words, names in backticks, strings, numbers and symbols.

A letter is an ASCII letter, as in Elasticsearch: any other character of a name needs backticks.
"""

from __future__ import annotations

import re
from dataclasses import field
from math import isfinite
from typing import Literal, NoReturn, TypeAlias

from barrelman.errors import QuerySyntaxError, place_in_text
from barrelman.query.ast import NO_SPAN, Span
from barrelman.records.frozen import frozen

RESERVED = frozenset(
    {"and", "any", "by", "false", "in", "join", "like", "maxspan", "not", "null", "of", "or"}
    | {"regex", "sample", "sequence", "true", "until", "where", "with"}
)
"""Words that no field's name begins with unless it stands in backticks. All in lower case."""

LARGEST = 2**63
"""The first whole number too large for a `long`; with a minus before it, it is the smallest."""

Kind: TypeAlias = Literal["word", "name", "text", "number", "symbol", "end"]


@frozen
class Token:
    """`value`: of a string or a name its content, of a word or a symbol the token itself.

    A word with `~` right behind it (`in~`, `startsWith~`) is one token.
    """

    kind: Kind
    value: str | int | float
    span: Span = field(default=NO_SPAN, compare=False)

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.value in words

    def is_symbol(self, *symbols: str) -> bool:
        return self.kind == "symbol" and self.value in symbols


_TOKEN = re.compile(
    r"""
    (?P<space>(?:[ \t\r\n]++|//[^\r\n]*+|/\*(?s:.*?)\*/)++)
    |(?P<word>[A-Za-z_@][A-Za-z0-9_]*+~?)
    |(?P<number>(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)
    |(?P<raw>\"{3}[^\r\n]*?\"{3,5}(?!\"))
    |(?P<text>\"(?!\"\")(?:[^"\\\r\n]++|\\[^\r\n])*+\")
    |(?P<name>`(?:[^`]++|``)*+`)
    |(?P<symbol>==|!=|<=|>=|!\[|/(?!\*)|[<>=:+\-*%.,()\[\]|?])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:(?P<plain>[btnfr\"'\\])|u\{(?P<code>[0-9a-fA-F]{2,8})\}|(?P<bad>.))")
_CONTROLS = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def tokenize(text: str) -> list[Token]:
    """The tokens, an `end` behind them. Raises QuerySyntaxError."""
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        shown = text.encode(errors="replace").decode()
        fail(shown, problem.start, "half of a surrogate pair is not a character")
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            _explain(text, position)
        kind = match.lastgroup
        if kind != "space":
            tokens.append(_token(text, match))
        position = match.end()
    tokens.append(Token("end", "", (len(text), len(text))))
    return tokens


def fail(text: str, offset: int, message: str, hint: str | None = None) -> NoReturn:
    raise QuerySyntaxError(message, place=place_in_text(text, offset), hint=hint)


def _token(text: str, match: re.Match[str]) -> Token:
    written, span = match[0], match.span()
    if match["word"] or match["symbol"]:
        return Token("word" if match["word"] else "symbol", written, span)
    if match["number"]:
        return Token("number", _number(text, match), span)
    if match["name"]:
        if written == "``":
            fail(text, span[0], "there is no name within the backticks")
        return Token("name", written[1:-1].replace("``", "`"), span)
    if match["raw"]:
        return Token("text", written[3:-3], span)
    decoded = _ESCAPE.sub(lambda escape: _decode(text, span[0] + 1, escape), written[1:-1])
    return Token("text", decoded, span)


def _number(text: str, match: re.Match[str]) -> int | float:
    written = match[0]
    if written.isdigit():
        digits = written.lstrip("0") or "0"
        if len(digits) > 19 or int(digits) > LARGEST:
            fail(text, match.start(), "the number is too large", "whole numbers have 64 bits")
        return int(digits)
    number = float(written)
    if not isfinite(number):
        fail(text, match.start(), "the number is too large")
    return number


def _decode(text: str, offset: int, escape: re.Match[str]) -> str:
    at = offset + escape.start()
    if plain := escape["plain"]:
        return _CONTROLS.get(plain, plain)
    if code := escape["code"]:
        point = int(code, 16)
        if 0xD800 <= point <= 0xDFFF:
            fail(text, at, "half of a surrogate pair is not a character", r"as in \u{1f600}")
        if point > 0x10FFFF:
            fail(text, at, f"there is no character {code}", "the last one is 10ffff")
        return chr(point)
    if escape["bad"] == "u":
        hint = r"as in \u{00e9}; for a backslash write \\"
        fail(text, at, r"`\u` needs 2 to 8 hexadecimal digits in braces", hint)
    shown = f"`{escape['bad']}`" if escape["bad"].isprintable() else "this character"
    hint = r'write \\ for a backslash, or """…""" for a text as it stands'
    fail(text, at, f"a backslash cannot escape {shown}", hint)


def _explain(text: str, position: int) -> NoReturn:
    """Why nothing can start with the character at `position`."""
    char = text[position]
    if char == '"':
        _unclosed(text, position)
    if char == "'":
        fail(text, position, "single quotes hold no text in EQL", 'write "…"')
    if char == "/":
        fail(text, position, "the comment that starts here is never closed", "add a closing */")
    if char == "`":
        fail(text, position, "the backtick that starts here is never closed", "add a closing `")
    if text.startswith("&&", position):
        fail(text, position, "`&&` is not an operator of EQL", "write `and`")
    if char == "!":
        fail(text, position, "`!` is not an operator of EQL", "write `not`")
    if char == "~":
        fail(text, position, "`~` stands right behind an operator or a function", "as in like~")
    shown = f"`{char}`" if char.isprintable() and char != " " else "this character"
    hint = "a field's name with such a character stands in backticks: `a-b`"
    fail(text, position, f"{shown} has no meaning in EQL", hint)


def _unclosed(text: str, position: int) -> NoReturn:
    if text.startswith('"""', position):
        hint = 'add a closing """ on the same line'
        fail(text, position, 'the """ that starts here is never closed', hint)
    hint = r'add a closing " on the same line; a line feed within a text is \n'
    fail(text, position, "the quote that starts here is never closed", hint)
