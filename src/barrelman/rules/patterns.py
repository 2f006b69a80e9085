"""Elasticsearch wildcard texts (`*`, `?`, `\\` before a literal one) as patterns."""

from __future__ import annotations

from barrelman.query.ast import Pattern, Text, Wild


def parse_wildcard(text: str, *, ignore_case: bool = False, chars: str = "*?\\") -> Pattern | Text:
    """The pattern a wildcard text means. Only the special characters in `chars` are special."""
    tokens: list[str | Wild] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char not in chars:
            tokens.append(char)
        elif char == "*":
            tokens.append(Wild.RUN)
        elif char == "?":
            tokens.append(Wild.CHAR)
        else:  # a backslash takes the next character as it is; at the end it stands for itself
            position += 1
            tokens.append(text[position : position + 1] or char)
        position += 1
    return pattern_value(tokens, ignore_case=ignore_case)


def pattern_value(
    tokens: list[str | Wild] | tuple[str | Wild, ...], *, ignore_case: bool = False
) -> Pattern | Text:
    """A pattern of these tokens, literal neighbours joined; the empty text where none is left."""
    joined: list[str | Wild] = []
    for token in tokens:
        if isinstance(token, str) and joined and isinstance(joined[-1], str):
            joined[-1] += token
        elif token != "":
            joined.append(token)
    if not joined:
        return Text("")
    return Pattern(tuple(joined), ignore_case=ignore_case)
