"""From a character of a text value back to the character of the source that made it.

Knows the string spellings of TOML (literal and basic, on one line or many) and JSON (`"…"`).
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # JSON: two make one
    r"|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)",
    re.DOTALL,
)
_LINE_CONTINUATION = re.compile(r"\\[ \t]*\n[ \t\n]*")


def source_offset(source: str, span: tuple[int, int], offset: int) -> int:
    """Where the `offset`-th character of the text written at `span` stands in the source.

    An offset past the text's end is the closing quote; a span that holds no text is its start.
    """
    start, end = span
    quote = source[start : start + 1]
    if quote not in ('"', "'"):
        return start
    is_multi = source[start : start + 3] == quote * 3 and end - start >= 6
    position = start + (3 if is_multi else 1)
    end -= 3 if is_multi else 1
    if is_multi and source[position : position + 1] == "\n":
        position += 1  # a line break right behind the opening is not part of the text
    if quote == "'":
        return min(position + offset, end)
    for _ in range(offset):
        position = _step(source, position, is_multi)
        if position >= end:
            return end
    return _skip_continuations(source, position) if is_multi else position


def _step(source: str, position: int, is_multi: bool) -> int:
    if is_multi:
        position = _skip_continuations(source, position)
    if source[position : position + 1] != "\\":
        return position + 1
    found = _ESCAPE.match(source, position)
    return found.end() if found else position + 1


def _skip_continuations(source: str, position: int) -> int:
    while (found := _LINE_CONTINUATION.match(source, position)) is not None:
        position = found.end()
    return position
