"""Where a value stands in the TOML or JSON text it was read from.

The parsers in use give no positions, so a text is scanned a second time, and only when there
is an error to place. Only texts that the real parser took are scanned: the scanners here
know how to walk a document, not how to judge it.
"""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Protocol, TypeAlias

from barrelman.errors import Place
from barrelman.records.frozen import frozen

Path: TypeAlias = tuple[str | int, ...]
Span: TypeAlias = tuple[int, int]


class Source:
    """A text, the path it came from, and the line of that file on which it begins."""

    def __init__(self, text: str, *, path: str, first_line: int = 1) -> None:
        self.text = text
        self.path = path
        self.first_line = first_line
        self._starts: list[int] = []
        self._cached: tuple[int, str] = (-1, "")

    def place(self, offset: int) -> Place:
        """The place of a character offset. Places on one line share that line's text."""
        if not self._starts:
            self._starts = [0, *(found.end() for found in re.finditer("\n", self.text))]
        offset = max(0, min(offset, len(self.text)))
        index = bisect_right(self._starts, offset) - 1
        start = self._starts[index]
        if self._cached[0] != index:
            end = self.text.find("\n", start)
            line = self.text[start : end if end >= 0 else len(self.text)]
            self._cached = (index, line.rstrip("\r"))
        return Place(self.path, self.first_line + index, offset - start + 1, self._cached[1])


class Locator(Protocol):
    """Finds the span of a value by its path through tables and lists."""

    @property
    def source(self) -> Source: ...

    def find(self, path: Path) -> tuple[Span, bool]:
        """The span of the value at `path` or, failing that, of its nearest parent."""
        ...


@frozen
class Spot:
    """A part of a document: the paths asked of it begin there.

    `aliases` says where a first name really stands when the document spells it elsewhere.
    """

    locator: Locator
    base: Path = ()
    aliases: Mapping[str, Path] = field(default_factory=dict)

    def place(self, path: Path = (), *, offset: int | None = None) -> Place:
        """The place of a value, or of one character of it when it is a text."""
        if path and path[0] in self.aliases:
            path = self.aliases[str(path[0])] + path[1:]
        (start, end), exact = self.locator.find(self.base + path)
        source = self.locator.source
        if exact and offset is not None:
            from barrelman.rules.escape import source_offset  # only a broken query asks for it

            start = source_offset(source.text, (start, end), offset)
        return source.place(start)

    def within(self, *steps: str | int) -> Spot:
        return Spot(self.locator, self.base + steps)


# JSON

_JSON_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_JSON_SCALAR = re.compile(r"[^\s,\]}]*")
_JSON_GAP = re.compile(r"[\s,:]*")


class JsonLocator:
    """Walks a JSON text from `start`, entering only what the path names."""

    def __init__(self, source: Source, *, start: int = 0) -> None:
        self.source = source
        self._start = start

    def find(self, path: Path) -> tuple[Span, bool]:
        text = self.source.text
        start = _skip_gap(text, self._start)
        span = (start, _skip_json(text, start))
        for step in path:
            inner = None
            for key, child in json_children(text, span[0]):
                if key == step:
                    inner = child  # of a key given twice, parsers keep the last
            if inner is None:
                return span, False
            span = inner
        return span, True


def json_children(text: str, start: int) -> Iterator[tuple[str | int, Span]]:
    """Keys (or indexes) and spans of the values directly inside the value at `start`."""
    opening = text[start : start + 1]
    if opening not in ("{", "["):
        return
    position, index = _skip_gap(text, start + 1), 0
    while position < len(text) and text[position] not in "}]":
        key: str | int = index
        if opening == "{":
            end = _skip_json(text, position)
            key = _json_key(text[position:end])
            position = _skip_gap(text, end)
        end = _skip_json(text, position)
        if end <= position:
            return
        yield key, (position, end)
        position, index = _skip_gap(text, end), index + 1


def _json_key(literal: str) -> str:
    if "\\" not in literal:
        return literal[1:-1]
    return str(json.loads(literal))


def _skip_gap(text: str, position: int) -> int:
    found = _JSON_GAP.match(text, position)
    return found.end() if found else position


def _skip_json(text: str, start: int) -> int:
    first = text[start : start + 1]
    if first in ("{", "["):
        depth = 0
        for token in _JSON_TOKEN.finditer(text, start):
            if token[0] in ("{", "["):
                depth += 1
            elif token[0] in ("}", "]"):
                depth -= 1
                if depth == 0:
                    return token.end()
        return len(text)
    pattern = _JSON_STRING if first == '"' else _JSON_SCALAR
    found = pattern.match(text, start)
    return found.end() if found else len(text)


# TOML

_TOML_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_TOML_BLANK = re.compile(r"[ \t]*")
_TOML_BARE = re.compile(r"[A-Za-z0-9_-]+")
_TOML_SCALAR = re.compile(r"[^,\]}\n#]*")
_TOML_STRINGS = (
    ("'''", re.compile(r"'''.*?'{3,5}", re.DOTALL)),
    ('"""', re.compile(r'"""(?:[^"\\]+|\\.|"{1,2}(?!"))*"{3,5}', re.DOTALL)),
    ("'", re.compile(r"'[^'\n]*'")),
    ('"', re.compile(r'"(?:[^"\\\n]|\\.)*"')),
)


class TomlLocator:
    """Indexes a whole TOML text on first use. The text's line ends are `\\n`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._spans: dict[Path, Span] = {}

    def find(self, path: Path) -> tuple[Span, bool]:
        if not self._spans and len(path) == 1:
            # Asked of every rule for its line: one header is found without the whole index.
            headers = list(re.finditer(rf"^\[{path[0]}\]", self.source.text, re.MULTILINE))
            if len(headers) == 1:
                return headers[0].span(), True
        if not self._spans:
            self._spans = _index_toml(self.source.text)
        for length in range(len(path), 0, -1):
            span = self._spans.get(path[:length])
            if span is not None:
                return span, length == len(path)
        return (0, 0), not path


def _index_toml(text: str) -> dict[Path, Span]:
    spans: dict[Path, Span] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    position = _skip(_TOML_SPACE, text, 0)
    try:
        while position < len(text):
            if text[position] == "[":
                table, position = _read_header(text, position, counts, spans)
            else:
                position = _read_pair(text, position, table, spans)
            position = _skip(_TOML_SPACE, text, position)
    except RecursionError:
        pass  # what was indexed so far still places most errors well enough
    return spans


def _read_header(
    text: str, start: int, counts: dict[Path, int], spans: dict[Path, Span]
) -> tuple[Path, int]:
    is_array = text.startswith("[[", start)
    keys, position = _read_keys(text, start + (2 if is_array else 1))
    position += 2 if is_array else 1
    path: Path = ()
    for index, key in enumerate(keys):
        path += (key,)
        if is_array and index == len(keys) - 1:
            counts[path] = counts.get(path, 0) + 1
            spans.setdefault(path, (start, position))
        if path in counts:
            path += (counts[path] - 1,)
    spans.setdefault(path, (start, position))
    return path, position


def _read_pair(text: str, start: int, table: Path, spans: dict[Path, Span]) -> int:
    keys, position = _read_keys(text, start)
    for length in range(1, len(keys)):
        spans.setdefault(table + keys[:length], (start, position))
    position = _skip(_TOML_BLANK, text, position + 1)
    end = _read_value(text, position, table + keys, spans)
    return max(end, start + 1)


def _read_keys(text: str, position: int) -> tuple[tuple[str, ...], int]:
    keys: list[str] = []
    while True:
        position = _skip(_TOML_BLANK, text, position)
        if text[position : position + 1] in ('"', "'"):
            end = _end_of_string(text, position)
            raw = text[position + 1 : end - 1]
            if text[position] == '"' and "\\" in raw:
                raw = next(iter(tomllib.loads(f"{text[position:end]} = 0")))
        else:
            end = max(_skip(_TOML_BARE, text, position), position)
            raw = text[position:end]
        keys.append(raw)
        position = _skip(_TOML_BLANK, text, end)
        if text[position : position + 1] != ".":
            return tuple(keys), position
        position += 1


def _read_value(text: str, start: int, path: Path, spans: dict[Path, Span]) -> int:
    first = text[start : start + 1]
    if first in ('"', "'"):
        end = _end_of_string(text, start)
    elif first in ("[", "{"):
        end = _read_container(text, start, path, spans)
    else:
        end = start + len(text[start : _skip(_TOML_SCALAR, text, start)].rstrip())
    spans[path] = (start, end)
    return end


def _read_container(text: str, start: int, path: Path, spans: dict[Path, Span]) -> int:
    is_list = text[start] == "["
    position, index = _skip(_TOML_SPACE, text, start + 1), 0
    while position < len(text) and text[position] not in "]}":
        if is_list:
            end = _read_value(text, position, (*path, index), spans)
        else:
            end = _read_pair(text, position, path, spans)
        position = _skip(_TOML_SPACE, text, max(end, position + 1))
        if text[position : position + 1] == ",":
            position = _skip(_TOML_SPACE, text, position + 1)
        index += 1
    return position + 1


def _end_of_string(text: str, start: int) -> int:
    for opening, pattern in _TOML_STRINGS:
        if text.startswith(opening, start):
            found = pattern.match(text, start)
            return found.end() if found else len(text)
    return start


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return found.end() if found else position
