"""What is wrong with an EQL text, and what its author probably meant.

As with KQL, these functions only make errors: nothing here decides what is valid.
"""

from __future__ import annotations

from collections.abc import Sequence

from barrelman.errors import QuerySyntaxError, place_in_text
from barrelman.query.eqllex import RESERVED, Token

_CLOSERS = {"(": ")", "[": "]", "![": "]"}
_LONGEST = 40


def explain_missing(text: str, *, token: Token, wanted: str, after: str) -> QuerySyntaxError:
    """Something must stand at a token, and what stands there is something else."""
    behind = f" after {after}" if after else ""
    if token.kind == "end":
        return _error(text, token, f"{wanted} is missing{behind}, where the query ends")
    word = str(token.value)
    hint = None
    if token.kind == "word" and word in RESERVED and "field" in wanted:
        hint = f"a field of that name stands in backticks: `{word}`"
    elif token.is_symbol("="):
        hint = "equality is written == or :"
    elif word.lower() in RESERVED and word not in RESERVED:
        hint = f"EQL's words are in lower case: {word.lower()}"
    elif token.kind == "word" and wanted == "`where`":
        hint = "as in any where true"
    return _error(text, token, f"{wanted} is missing{behind} before {_shown(text, token)}", hint)


def explain_leftover(
    text: str, *, tokens: Sequence[Token], position: int, brackets: Sequence[Token]
) -> QuerySyntaxError:
    """A condition is complete, and what follows does not join on to it."""
    token = tokens[position]
    opener = brackets[-1] if brackets else None
    if token.kind == "end" and opener is not None:
        closer = _CLOSERS[str(opener.value)]
        message = f"the `{opener.value}` that stands here is never closed"
        return _error(text, opener, message, f"add a `{closer}`")
    if token.is_symbol(")", "]"):
        return _wrong_closer(text, token, opener)
    if found := _foreign(text, tokens, position):
        return found
    if opener is not None and token.is_symbol("|"):
        return _error(text, token, "a pipe stands behind the whole query only")
    return _error(
        text,
        token,
        f"{_shown(text, token)} cannot stand here",
        "put `and` or `or` between two conditions",
    )


def _wrong_closer(text: str, token: Token, opener: Token | None) -> QuerySyntaxError:
    if opener is None:
        return _error(text, token, f"no bracket is open for this `{token.value}`", "remove it")
    place = place_in_text(text, opener.span[0])
    return _error(
        text,
        token,
        f"`{token.value}` cannot close the `{opener.value}` of line {place.line}, "
        f"column {place.column}",
        f"close that one first, with `{_CLOSERS[str(opener.value)]}`",
    )


def _foreign(text: str, tokens: Sequence[Token], position: int) -> QuerySyntaxError | None:
    """Another language's way of writing, or a field that needs backticks."""
    token = tokens[position]
    word = str(token.value)
    if token.is_symbol("="):
        return _error(text, token, "`=` is no comparison in EQL", "write ==, or : for any case")
    if token.kind == "word" and word.lower() in RESERVED and word not in RESERVED:
        return _error(
            text, token, f"`{word}` is not in lower case", f"EQL's words are: {word.lower()}"
        )
    if token.is_word("not"):
        return _error(text, token, "`not` stands before a condition", 'as in not field like "a*"')
    if token.is_word("by") or token.is_word("with"):
        return _error(text, token, f"`{word}` belongs to a sequence or a sample")
    if token.is_symbol("[", "!["):
        return _error(text, token, "square brackets belong to a sequence or a sample")
    if token.is_word("in", "in~", "like", "where", "until"):
        return _error(text, token, f"`{word}` cannot stand here")
    if token.is_symbol(","):
        return _error(text, token, "a list stands in brackets", 'as in field in ("a", "b")')
    before = tokens[position - 1]
    is_glued = token.span[0] == before.span[1] and before.kind in ("word", "name")
    if is_glued and token.kind in ("number", "word", "name"):
        hint = "a field's name with such a part stands in backticks"
        return _error(text, token, f"{_shown(text, token)} cannot follow a name", hint)
    return None


def _shown(text: str, token: Token) -> str:
    written = text[slice(*token.span)]
    return f"`{written}`" if len(written) <= _LONGEST and written.isprintable() else "this"


def _error(text: str, token: Token, message: str, hint: str | None = None) -> QuerySyntaxError:
    return QuerySyntaxError(message, place=place_in_text(text, token.span[0]), hint=hint)
