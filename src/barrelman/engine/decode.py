"""JSON in and out. The only file that imports orjson.

`loads` takes nesting up to MAX_DEPTH; orjson writes only a quarter of that, so what is deeper
is written here, without recursion: any value that could be loaded can be written.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 1024
JSON_SPACE: Final = b" \t\r\n"

# Strings and numbers, so that neither is looked for within the other. A string that does not end
# is taken whole too: else each quote in it would be tried as the beginning of another.
_MENDABLE = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"?+|-?[0-9]++(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+', re.DOTALL
)
# A backslash that is escaped itself, or a whole pair (kept); else a half.
_SURROGATE = re.compile(
    rb"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)

_DEEP_REASON = f"nested deeper than {MAX_DEPTH} levels"


# For the one loop that cannot afford our own error: orjson as it is.
read = orjson.loads
JSONDecodeError = orjson.JSONDecodeError


class DecodeError(ValueError):
    """Bytes that are no JSON document; `reason` says in a few words why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """The value of one JSON document. Raises DecodeError.

    What is JSON by its grammar is read, whatever it holds: half a surrogate pair becomes U+FFFD,
    as Go writes it, and a number that no double holds becomes the text of it. A client may put
    either into a patch, and must not be unseen for it.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "surrogate" in error.msg or "infinity" in error.msg:
            return _loads_mended(data)
        raise DecodeError(explain(error.msg, data)) from None


def _loads_mended(data: bytes | bytearray | memoryview | str) -> Any:
    text = data.encode(errors="surrogatepass") if isinstance(data, str) else bytes(data)
    try:
        return orjson.loads(_MENDABLE.sub(_mend, text))
    except orjson.JSONDecodeError as error:
        raise DecodeError(explain(error.msg, data)) from None


def _mend(found: re.Match[bytes]) -> bytes:
    piece = found[0]
    if piece[:1] == b'"':
        return _SURROGATE.sub(lambda half: half[0] if half[1] else rb"\ufffd", piece)
    return b'"' + piece + b'"' if math.isinf(float(piece)) else piece


def explain(message: str, data: bytes | bytearray | memoryview | str) -> str:
    """Our words for why orjson refused `data`, given its own."""
    if "UTF-8" in message or "utf-8" in message:
        return "not UTF-8"
    if "depth" in message or "recursion" in message.lower():
        return _DEEP_REASON
    if "end of data" in message or "zero-length" in message:
        return "truncated"
    if isinstance(data, bytes | bytearray | memoryview):
        try:
            bytes(data).decode()
        except UnicodeDecodeError:
            return "not UTF-8"
    return "not JSON"


def dumps(value: Any, *, sort_keys: bool = False) -> bytes:
    """Compact UTF-8 JSON. Keys stay in their order unless `sort_keys`."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError:  # too deep for orjson, an integer beyond 64 bits, half a surrogate pair
        return _write(value, sort_keys)


def shallow(value: Any, *, levels: int) -> Any:
    """A value with what nests deeper than so many levels written as the JSON text of it."""
    if levels == 0:
        return dumps(value).decode(errors="replace") if isinstance(value, dict | list) else value
    if isinstance(value, dict):
        return {key: shallow(held, levels=levels - 1) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [shallow(held, levels=levels - 1) for held in value]
    return value


def dumps_line(value: Any, *, sort_keys: bool = False) -> bytes:
    """`dumps` and a line feed; the document itself holds none."""
    return dumps(value, sort_keys=sort_keys) + b"\n"


def _write(value: Any, sort_keys: bool) -> bytes:
    """Writes any nesting with a stack of its own: entries are text to add or values to open."""
    parts: list[bytes] = []
    todo: list[tuple[bool, Any]] = [(False, value)]
    while todo:
        is_text, item = todo.pop()
        if is_text:
            parts.append(item)
        elif isinstance(item, dict):
            keys = sorted(item) if sort_keys else list(item)
            todo.append((True, b"}"))
            for position in range(len(keys) - 1, -1, -1):
                key = keys[position]
                todo.append((False, item[key]))
                todo.append((True, (b"," if position else b"") + _write_scalar(str(key)) + b":"))
            parts.append(b"{")
        elif isinstance(item, list | tuple):
            todo.append((True, b"]"))
            for position in range(len(item) - 1, -1, -1):
                todo.append((False, item[position]))
                if position:
                    todo.append((True, b","))
            parts.append(b"[")
        else:
            parts.append(_write_scalar(item))
    return b"".join(parts)


def _write_scalar(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()
