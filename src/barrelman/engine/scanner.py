"""A JSON validator that can stop and go on between any two bytes.

It decodes nothing: it says where a document ends, where it breaks (at the first byte that
cannot belong), and where the elements of its list lie. The list of a document is its top-level
array, or the array under one of LIST_KEYS (or `hits.hits`) of its top-level object.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from enum import Enum
from typing import ClassVar, Final

from barrelman.engine.decode import MAX_DEPTH

LIST_KEYS: Final = frozenset({"items", "records", "logEvents", "events"})
_EVENT_KEYS = frozenset(
    {"@timestamp", "_source", "kubernetes", "auditID", "verb", "requestURI", "objectRef"}
)

_MAX_NUMBER_BYTES = 65_536
_NOTED_KEY_BYTES = 256

_WS = rb"[ \t\r\n]*+"
_BODY = rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+'
_STRING = b'"' + _BODY + b'"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
_SCALAR = b"(?:" + _STRING + b"|" + _NUMBER + b"|true|false|null)"

_match_space = re.compile(_WS).match
_match_body = re.compile(_BODY).match
_match_key = re.compile(b'"(' + _BODY + b')"' + _WS + b":").match
_match_string = re.compile(b'"(' + _BODY + b')"').match
_match_number = re.compile(_NUMBER).match
_match_word = re.compile(rb"true|false|null").match
_match_members = re.compile(
    b"(?:" + _STRING + _WS + b":" + _WS + _SCALAR + _WS + b"," + _WS + b")++"
).match
_match_scalars = re.compile(b"(?:" + _SCALAR + _WS + b"," + _WS + b")++").match
_is_torn_escape = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?").fullmatch
_match_number_like = re.compile(rb"[-+.eE0-9]+").match

_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = b"{}[]"
_QUOTE, _COMMA, _COLON, _BACKSLASH = b'",:\\'


def forbids_list(key: str) -> bool:
    """Whether an object with this key is an event or a document: its arrays are its own."""
    return key in _EVENT_KEYS or key.startswith("kubernetes.")


class Status(Enum):
    MORE = "more"
    """All input is read, and the document goes on."""
    DONE = "done"
    BROKEN = "broken"


class _Want(Enum):
    VALUE = 1
    VALUE_OR_END = 2
    KEY = 3
    KEY_OR_END = 4
    COLON = 5
    COMMA_OR_END = 6
    STRING_REST = 7


class Scanner:
    """Reads one document out of a buffer that its owner fills at the end and cuts at the start.

    After `scan`, `position` is the first unread byte: the end of the document, the byte that
    breaks it, or the beginning of a token that is not whole yet.
    """

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.status = Status.MORE
        self.reason = ""
        self.list_depth = 0
        """Open brackets at an element of the list being read; 0 outside of lists."""
        self.has_list = False
        self.element_start: int | None = None
        """Where the list's unfinished element begins; below 0 once its start has been cut off."""
        self._bounds = array("q")
        self.last_string = position
        """Near the last string before `position`: where a torn document may hide the next."""
        self._stack = bytearray()
        self._want = _Want.VALUE
        self._is_key = False
        self._top_key = ""
        self._key = ""
        self.may_have_list = True
        """No key so far says that the document's arrays are its own."""

    @property
    def wants_element(self) -> bool:
        """Whether the next token may begin an element of the list."""
        return (
            self.list_depth > 0
            and len(self._stack) == self.list_depth
            and self._want in (_Want.VALUE, _Want.VALUE_OR_END)
        )

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where the finished elements lie that the owner has not taken."""
        return list(zip(self._bounds[::2], self._bounds[1::2], strict=True))

    def take_bounds(self) -> array[int]:
        """As `spans`, flat, and for the owner to keep."""
        bounds, self._bounds = self._bounds, array("q")
        return bounds

    def shift(self, count: int) -> None:
        """The owner cut `count` bytes off the start of the buffer."""
        self.position -= count
        self.last_string = max(0, self.last_string - count)
        if self.element_start is not None:
            self.element_start -= count

    def pass_element(self, *, has_comma: bool) -> None:
        """The owner has read a whole element, and a comma maybe, by itself."""
        self._want = _Want.VALUE if has_comma else _Want.COMMA_OR_END

    def scan(self, data: bytearray) -> Status:
        """Reads on from `position` to the end of the data or of the document."""
        at = self.position
        end = len(data)
        steps = self._STEPS
        while self.status is Status.MORE:
            if self._want is not _Want.STRING_REST and at < end and data[at] <= 32:
                at = _match_space(data, at).end()  # type: ignore[union-attr]  # matches nothing too
            if at >= end:
                break
            next_at = steps[self._want](self, data, at)
            if next_at < 0:  # a token that may be whole once more has come
                at = ~next_at
                break
            at = next_at
        self.position = at
        return self.status

    def _break(self, at: int, reason: str) -> int:
        self.status = Status.BROKEN
        self.reason = reason
        return at

    def _read_key(self, data: bytearray, at: int) -> int:
        if data[at] == _CLOSE_OBJECT and self._want is _Want.KEY_OR_END:
            return self._close(at)
        if data[at] != _QUOTE:
            return self._break(at, "not JSON")
        is_shallow = self._is_shallow()
        if not is_shallow:
            run = _match_members(data, at)
            if run is not None:
                self._want = _Want.KEY
                self.last_string = run.end()
                return run.end()
        self.last_string = at
        match = _match_key(data, at)
        self._want = _Want.VALUE
        if match is None:
            match = _match_string(data, at)
            self._want = _Want.COLON
        if match is not None:
            if is_shallow:
                self._note_key(match[1])
            return match.end()
        if is_shallow and len(data) - at < _NOTED_KEY_BYTES:
            body = _match_body(data, at + 1)
            if body is not None and body.end() == len(data):
                self._want = _Want.KEY
                return ~at
        return self._begin_string(at, is_key=True)

    def _is_shallow(self) -> bool:
        """Whether keys here decide what is a list, so that members are read one by one."""
        if self.list_depth:
            return len(self._stack) <= self.list_depth
        return len(self._stack) <= (2 if self._top_key == "hits" else 1)

    def _note_key(self, raw: bytes) -> None:
        key = bytes(raw[:_NOTED_KEY_BYTES]).decode(errors="replace")
        self._key = key
        if len(self._stack) == 1:
            self._top_key = key
            if forbids_list(key):
                self.may_have_list = False

    def _begin_string(self, at: int, *, is_key: bool) -> int:
        self.last_string = at
        self._is_key = is_key
        self._want = _Want.STRING_REST
        if is_key:
            self._key = ""
        return at + 1

    def _read_string_rest(self, data: bytearray, at: int) -> int:
        at = _match_body(data, at).end()  # type: ignore[union-attr]  # matches nothing too
        if at >= len(data):
            return at
        if data[at] == _QUOTE:
            if self._is_key:
                self._want = _Want.COLON
            else:
                self._end_value(at + 1)
            return at + 1
        if data[at] == _BACKSLASH and _is_torn_escape(data, at):
            return ~at
        return self._break(at, "truncated" if data[at] in b"\r\n" else "not JSON")

    def _read_colon(self, data: bytearray, at: int) -> int:
        if data[at] != _COLON:
            return self._break(at, "not JSON")
        self._want = _Want.VALUE
        return at + 1

    def _read_value(self, data: bytearray, at: int) -> int:
        byte = data[at]
        depth = len(self._stack)
        in_list = self.list_depth > 0 and depth == self.list_depth
        if byte == _CLOSE_ARRAY and self._want is _Want.VALUE_OR_END:
            return self._close(at)
        if not in_list and depth and self._stack[-1] == _OPEN_ARRAY:
            run = _match_scalars(data, at)
            if run is not None:
                self._want = _Want.VALUE
                self.last_string = run.end()
                return run.end()
        if byte in b"{[":
            if in_list:
                self.element_start = at
            return self._open(at, byte)
        if depth == 0:
            return self._break(at, "not JSON")
        if in_list:
            self.element_start = at
        if byte == _QUOTE:
            self.last_string = at
            match = _match_string(data, at)
            if match is None:
                return self._begin_string(at, is_key=False)
        else:
            match = _match_word(data, at)
            if match is None:
                like = _match_number_like(data, at)
                if like is not None and like.end() < len(data):
                    match = _match_number(data, at)
            if match is None:
                return self._read_torn_scalar(data, at)
        self._end_value(match.end())
        return match.end()

    def _read_torn_scalar(self, data: bytearray, at: int) -> int:
        """A number or a word that the data ends in, or something that is neither."""
        rest = bytes(data[at : at + _MAX_NUMBER_BYTES])
        if len(rest) < _MAX_NUMBER_BYTES and at + len(rest) == len(data):
            number = _match_number_like(rest)
            if number is not None and number.end() == len(rest):
                return ~at
            if any(word.startswith(rest) for word in (b"true", b"false", b"null")):
                return ~at
        return self._break(at, "not JSON")

    def _open(self, at: int, bracket: int) -> int:
        stack = self._stack
        depth = len(stack)
        if depth >= MAX_DEPTH:
            return self._break(at, f"nested deeper than {MAX_DEPTH} levels")
        stack.append(bracket)
        if bracket == _OPEN_OBJECT:
            self._want = _Want.KEY_OR_END
            return at + 1
        self._want = _Want.VALUE_OR_END
        if self.list_depth == 0 and depth <= 2 and self._is_list(depth):
            self.list_depth = depth + 1
            self.has_list = True
        return at + 1

    def _is_list(self, depth: int) -> bool:
        if depth == 0:
            return True
        if not self.may_have_list or _OPEN_ARRAY in self._stack[:depth]:
            return False
        if depth == 1:
            return self._key in LIST_KEYS
        return self._top_key == self._key == "hits"

    def _close(self, at: int) -> int:
        stack = self._stack
        if stack.pop() == _OPEN_ARRAY and len(stack) + 1 == self.list_depth:
            self.list_depth = 0
        self._end_value(at + 1)
        return at + 1

    def _end_value(self, end: int) -> None:
        depth = len(self._stack)
        if depth == 0:
            self.status = Status.DONE
        elif depth == self.list_depth and self.element_start is not None:
            self._bounds.append(self.element_start)
            self._bounds.append(end)
            self.element_start = None
        self._want = _Want.COMMA_OR_END

    def _read_comma(self, data: bytearray, at: int) -> int:
        byte = data[at]
        is_object = self._stack[-1] == _OPEN_OBJECT
        if byte == _COMMA:
            self._want = _Want.KEY if is_object else _Want.VALUE
            return at + 1
        if byte == (_CLOSE_OBJECT if is_object else _CLOSE_ARRAY):
            return self._close(at)
        return self._break(at, "not JSON")

    _STEPS: ClassVar[dict[_Want, Callable[[Scanner, bytearray, int], int]]] = {
        _Want.VALUE: _read_value,
        _Want.VALUE_OR_END: _read_value,
        _Want.KEY: _read_key,
        _Want.KEY_OR_END: _read_key,
        _Want.COLON: _read_colon,
        _Want.COMMA_OR_END: _read_comma,
        _Want.STRING_REST: _read_string_rest,
    }
