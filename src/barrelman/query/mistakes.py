"""What is wrong with a KQL text, and what its author probably meant.

The parser stops at the first character that cannot be; from there these functions look
around for the usual causes. They only make errors: nothing here decides what is valid.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY

from barrelman.errors import QuerySyntaxError, place_in_text
from barrelman.records.frozen import frozen

_SPACE = " \t\r\n\xa0"
_NOT = re.compile(f"not[{_SPACE}]", re.IGNORECASE)
_LONGEST_EXAMPLE = 60
_CLOSERS = {"(": ")", "{": "}"}
_JOIN = "put `and` or `or` between two conditions"


@frozen
class Standstill:
    """Where the parser got to, and what it has read so far."""

    _: KW_ONLY
    text: str
    position: int
    brackets: tuple[int, ...]
    """Offsets of the brackets still open, the innermost last."""
    name: str
    """The latest field name, as written."""
    last: tuple[int, int] | None
    """The span of the latest literal, as far as it could be read."""

    @property
    def char(self) -> str:
        return self.text[self.position : self.position + 1]

    @property
    def last_text(self) -> str:
        return self.text[slice(*self.last)] if self.last else ""

    def error(
        self, message: str, hint: str | None = None, *, at: int | None = None
    ) -> QuerySyntaxError:
        return _error(self.text, self.position if at is None else at, message, hint)


def _error(text: str, offset: int, message: str, hint: str | None = None) -> QuerySyntaxError:
    return QuerySyntaxError(message, place=place_in_text(text, offset), hint=hint)


# Mistakes that the parser recognises itself.


def half_character(text: str, offset: int) -> QuerySyntaxError:
    # The text may hold the half itself, which no terminal and no JSON can show.
    shown = text.encode(errors="replace").decode()
    return _error(
        shown,
        offset,
        "half of a surrogate pair is not a character",
        r"write both halves, as in \ud83d\ude00, or the character itself",
    )


def too_deep(text: str, offset: int, *, limit: int) -> QuerySyntaxError:
    return _error(
        text,
        offset,
        f"brackets are nested more than {limit} deep",
        "remove brackets that group nothing, or split the query",
    )


def null_bound(text: str, offset: int) -> QuerySyntaxError:
    hint = 'write "null" for the word; field:* asks for any value'
    return _error(text, offset, "null is not a bound: nothing lies above or below it", hint)


def open_quote(text: str, offset: int) -> QuerySyntaxError:
    hint = 'add a closing "'
    if '\\"' in text[offset:]:
        hint += r'; \" is a quote within the text, to end it with a backslash write \\"'
    return _error(text, offset, "the quote that starts here is never closed", hint)


def bad_escape(text: str, offset: int) -> QuerySyntaxError:
    char = text[offset + 1 : offset + 2]
    if not char:
        return _error(text, offset, "nothing follows the backslash", r"write \\ for a backslash")
    if char == "u":
        hint = r"as in \u00e9; for a backslash write \\"
        return _error(text, offset, r"`\u` needs four hexadecimal digits", hint)
    shown = f"`{char}`" if char.isprintable() and char != " " else "whitespace"
    hint = r"write \\ for a backslash"
    if not char.isalnum():
        hint = rf"{shown} needs no backslash; for a backslash write \\"
    return _error(text, offset, f"a backslash cannot escape {shown}", hint)


# A condition or a value must start here, and what stands here cannot start one.


def explain_missing(state: Standstill, *, wanted: str) -> QuerySyntaxError:
    before = state.text[: state.position].rstrip(_SPACE)
    char = state.char
    if _NOT.match(state.text, state.position):
        return _misplaced_not(state, before)
    if char in ("<", ">") and before.endswith(":"):
        operator = state.text[state.position : state.position + 2].rstrip(":\"'" + _SPACE)
        operator = operator if operator in ("<=", ">=") else char
        return state.error(
            f"`:{operator}` is not a comparison", f"without the colon: {state.name} {operator} …"
        )
    if char and char in ":<>":
        return _missing_name(state, wanted)
    if char == "{":
        return _misplaced_brace(state)
    if char == "(":
        return state.error("a comparison takes one value, without brackets")
    if before.endswith(("(", "{")):
        return _empty_brackets(state, len(before) - 1, wanted)
    return state.error(
        f"a {wanted} is missing after `{_last_word(before)}`",
        'write field:* for any value, field:"" for the empty text' if wanted == "value" else None,
    )


def _misplaced_not(state: Standstill, before: str) -> QuerySyntaxError:
    word = state.text[state.position : state.position + 3]
    if before.endswith(":"):
        start = state.position + 3
        start += len(state.text[start:]) - len(state.text[start:].lstrip(_SPACE))
        value = _one_word(state.text, start) or "value"
        name = state.name
        return state.error(
            f"`{word}` cannot stand between a field and its value",
            f"write not {name}:{value} or {name}:(not {value})",
        )
    if before.endswith(("<", ">", "=")):
        return state.error(
            f"`{word}` cannot stand before a bound", "write it before the field: not field > value"
        )
    return state.error(f"`{word}` cannot follow another `not`", "remove both, or write not (not …)")


def _missing_name(state: Standstill, wanted: str) -> QuerySyntaxError:
    if wanted == "condition":
        return state.error(f"a field name is missing before `{state.char}`")
    return state.error(
        f"unquoted text cannot start with `{state.char}`",
        _quoting_hint(state, state.position),
    )


def _misplaced_brace(state: Standstill) -> QuerySyntaxError:
    return state.error(
        "`{` can stand only after a field and a colon",
        r"write field:{ … } for conditions on one nested object, \{ for the character",
    )


def _empty_brackets(state: Standstill, opener: int, wanted: str) -> QuerySyntaxError:
    bracket = state.text[opener]
    if not state.char:
        return _unclosed(state, opener)
    if state.char == _CLOSERS[bracket]:
        hint = 'write "" for the empty text' if wanted == "value" else None
        return state.error(f"there is nothing within `{bracket}{state.char}`", hint, at=opener)
    return state.error(f"a {wanted} is missing after `{bracket}`")


# A condition or a value is complete, and what follows does not join on to it.


def explain_leftover(state: Standstill, *, operand_end: int) -> QuerySyntaxError:
    last = state.last
    after_literal = last is not None and not state.text[last[1] : operand_end].strip(_SPACE)
    unquoted = after_literal and not state.last_text.startswith('"')
    if error := _foreign_word(state, unquoted=unquoted):
        return error
    char = state.char
    if not char:
        return _unclosed(state, state.brackets[-1])
    if char in ")}":
        return _wrong_closer(state)
    if char == "(":
        return state.error(
            "a bracket cannot follow a value" if after_literal else "`and` or `or` is missing here",
            "put `and` or `or` before it, or `:` where a field's values follow",
        )
    if unquoted:
        return _broken_value(state)
    if after_literal and char not in ":<>{":
        return state.error(
            "`and` or `or` is missing after the quoted text",
            r'for several values write field:("a" or "b"); \" is a quote within a text',
        )
    if char == "{":
        return _misplaced_brace(state)
    if char in ":<>":
        return state.error(f"`{char}` can stand only after a field's name", _JOIN)
    return state.error("`and` or `or` is missing here", _JOIN)


def _foreign_word(state: Standstill, *, unquoted: bool) -> QuerySyntaxError | None:
    """A keyword without its whitespace, or another language's operator."""
    text, position = state.text, state.position
    if unquoted and state.last is not None:
        start, end = state.last
        if match := re.search(r"(?<!\S)(?:&&|\|\|)(?!\S)", text[start:end]):
            return _unknown_operator(state, match[0], start + match.start())
        glued = re.search(r"(?<!\S)(?:and|or|not)$", text[start:end], re.IGNORECASE)
        if glued and state.char == "(" and position == end:
            return _glued_word(state, glued[0], start + glued.start())
        if _NOT.match(text, position):
            return _not_in_value(state, start, end)
    elif match := re.compile(r"&&|\|\||(?:and|or|not)\b", re.I).match(text, position):
        if match[0] in ("&&", "||"):
            return _unknown_operator(state, match[0], position)
        return _glued_word(state, match[0], position)
    return None


def _unknown_operator(state: Standstill, symbol: str, at: int) -> QuerySyntaxError:
    word = "and" if symbol == "&&" else "or"
    return state.error(f"`{symbol}` is not an operator of KQL", f"write `{word}`", at=at)


def _glued_word(state: Standstill, word: str, at: int) -> QuerySyntaxError:
    if word.lower() != "not":
        return state.error(f"`{word}` needs whitespace on both sides", at=at)
    if state.text[at + 3 : at + 4] == "(":
        return state.error("`not` needs whitespace before `(`", "write not (…)", at=at)
    return state.error("`and` or `or` is missing before `not`", "write `and not`", at=at)


def _not_in_value(state: Standstill, start: int, end: int) -> QuerySyntaxError:
    if end < state.position:
        return state.error(
            "`and` or `or` is missing before `not`",
            "write `and not`, or quote the value if the word belongs to it",
        )
    value = state.text[start:end] + state.text[end : end + 3]
    return state.error(
        "`not` before whitespace is a keyword, even at the end of a word",
        f'quote the value: "{value} …"' if _showable(value) else "quote the value",
    )


def _unclosed(state: Standstill, opener: int) -> QuerySyntaxError:
    bracket = state.text[opener]
    return state.error(
        f"the `{bracket}` that stands here is never closed",
        f"add a `{_CLOSERS[bracket]}`",
        at=opener,
    )


def _wrong_closer(state: Standstill) -> QuerySyntaxError:
    char = state.char
    if not state.brackets:
        return state.error(
            f"no bracket is open for this `{char}`", f"remove it, or write \\{char} in a value"
        )
    opener = state.text[state.brackets[-1]]
    place = place_in_text(state.text, state.brackets[-1])
    return state.error(
        f"`{char}` cannot close the `{opener}` of line {place.line}, column {place.column}",
        f"close that one first, with `{_CLOSERS[opener]}`",
    )


def _broken_value(state: Standstill) -> QuerySyntaxError:
    """Unquoted text ran into a character that it cannot hold."""
    assert state.last is not None
    start, end = state.last
    if match := re.match(f"(?:and|or)[{_SPACE}]", state.last_text, re.IGNORECASE):
        word = match[0].rstrip(_SPACE)
        return state.error(f"a condition or a value is missing before `{word}`", at=start)
    if end < state.position and state.char == "{":
        return _misplaced_brace(state)
    if end < state.position and state.char == '"':
        return state.error("`and` or `or` is missing before the quoted text", _JOIN)
    hint = _quoting_hint(state, start)
    if any(char in _SPACE for char in state.last_text):
        hint = "put `and` or `or` before the next condition, or quote the value"
    elif state.char in (":", "<", ">") and _in_list(state):
        hint += "; brackets after `field:` hold only values of that field"
    elif end < state.position and state.char in ("<", ">"):
        hint = "join comparisons with `and`: field > 1 and field < 5"
    return state.error(f"`{state.char}` cannot stand in unquoted text", hint)


def _in_list(state: Standstill) -> bool:
    if not state.brackets:
        return False
    return state.text[: state.brackets[-1]].rstrip(_SPACE).endswith(":")


# Excerpts of the query, for hints.


def _quoting_hint(state: Standstill, start: int) -> str:
    value = _one_word(state.text, start)
    if re.search(r"(?<!\\)\*", value):
        return f"put a backslash before `{state.char}`: quotes would turn off the wildcard"
    value = re.sub(r"\\([():<>*{}])", r"\1", value)
    if not value or '"' in value:
        return r"quote the value, with \" for a quote within it"
    return f'quote the value: "{value}"'


def _one_word(text: str, start: int) -> str:
    """From there to the next whitespace or to the bracket that ends the value, or ""."""
    match = re.compile(f"[^{_SPACE}]{{0,{_LONGEST_EXAMPLE + 1}}}").match(text, start)
    word = match[0] if match else ""
    while word[-1:] in (")", "}") and word.count(word[-1]) > word.count(
        "(" if word[-1] == ")" else "{"
    ):
        word = word[:-1]
    return word if _showable(word) else ""


def _showable(text: str) -> bool:
    return len(text) <= _LONGEST_EXAMPLE and text.isprintable()


def _last_word(before: str) -> str:
    match = re.search(r"and$|or$|not$|[<>]=?$|.$", before, re.IGNORECASE)
    return match[0] if match else before[-1:]
