"""Text from outside, made safe for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with what could steer a terminal (controls, bidirectional marks) spelled out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def readable(text: str) -> str:
    """Several lines of text, each `printable`; tabs become spaces."""
    return "\n".join(printable(line) for line in text.expandtabs(4).split("\n"))
