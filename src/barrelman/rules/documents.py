"""The bytes of a file -> the objects in it, each with its place.

Knows TOML, one JSON value (an object, an array, a `_find` reply) and NDJSON, told apart by the
path's ending and by content. What cannot be read becomes a Broken and stops nothing else.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

from barrelman.errors import BarrelmanError, Place, RuleError
from barrelman.records.frozen import frozen
from barrelman.rules.locate import JsonLocator, Path, Source, Spot, TomlLocator, json_children
from barrelman.rules.schema import is_deeper_than

MAX_LEVELS: Final = 100
"""How deep a rule may nest: what is read here, others may recurse through freely."""

Format: TypeAlias = Literal["toml", "json", "ndjson"]

_TOML_ERROR: Final = (
    r"(?s)(?P<message>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)"
)
_JSON_ARRAY = re.compile(rb"\s*\[\s*(?:[{\]]|\Z)")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# The parser takes time and memory by the square of a key's parts: long keys are found before it.
_PART: Final = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(
    rf"(?m)(?:^|[\[{{,])[ \t]*+(?P<key>{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_LEVELS},}}+)"
    r"[ \t]*+[=\]]"
)
_BOM: Final = b"\xef\xbb\xbf"


@frozen
class Record:
    """One parsed object (or whatever stood in its place)."""

    data: Any
    spot: Spot
    line: int
    is_toml: bool = False
    problem: RuleError | None = None
    """Why the object is only to be told apart, not to be read: it nests too deep."""


@frozen
class Broken:
    """Text that does not parse, and why."""

    error: BarrelmanError
    line: int
    text: str


def read_documents(content: bytes | str, *, path: str) -> Iterator[Record | Broken]:
    """All objects of a file in order."""
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    content = content.removeprefix(_BOM)
    form = detect_format(content, path=path)
    if form == "toml":
        yield _read_toml(content, path)
    elif form == "ndjson":
        for number, line in enumerate(content.split(b"\n"), 1):
            if line.strip():
                yield from _read_json(line, path, number)
    else:
        yield from _read_json(content, path, 1)


def detect_format(content: bytes, *, path: str) -> Format:
    """How the content is to be read."""
    suffix = path.lower().rpartition(".")[2]
    is_json = content.lstrip()[:1] == b"{" or _JSON_ARRAY.match(content) is not None
    if suffix == "toml" or (suffix not in ("json", "ndjson", "jsonl") and not is_json):
        return "toml"
    lines = [line for line in content.split(b"\n") if line.strip()]
    if len(lines) < 2 or _parses(content):
        return "json"
    if suffix != "json" and suffix in ("ndjson", "jsonl"):
        return "ndjson"
    # A pretty-printed document that is broken begins and ends with lines that are no objects.
    return "ndjson" if _parses(lines[0]) or _parses(lines[-1]) else "json"


def _parses(content: bytes) -> bool:
    try:
        parse_json(content.decode("utf-8"))
    except ValueError:
        return False
    return True


def parse_json(text: str) -> Any:
    """One JSON value, by the letter of the standard. Raises JSONDecodeError."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
        if _SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise json.JSONDecodeError("nested too deep", text, 0) from None
    except UnicodeEncodeError:
        found = _SURROGATE.search(text)
        at = found.start() if found else 0
        raise json.JSONDecodeError("half a surrogate pair", text, at) from None
    except ValueError as error:  # NaN, or more digits than Python takes
        raise json.JSONDecodeError(str(error), text, 0) from None
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _read_json(content: bytes, path: str, first_line: int) -> Iterator[Record | Broken]:
    text = _decode(content, path, first_line)
    if isinstance(text, Broken):
        yield text
        return
    source = Source(text, path=path, first_line=first_line)
    try:
        data = parse_json(text)
    except json.JSONDecodeError as error:
        place = source.place(error.pos)
        yield Broken(RuleError(f"not JSON: {error.msg}", place=place), place.line or 1, text)
        return
    yield from _expand(data, source)


def _record(data: Any, spot: Spot, line: int, *, is_toml: bool = False) -> Record:
    problem = None
    if is_deeper_than(data, MAX_LEVELS):
        message = f"nested deeper than {MAX_LEVELS} levels"
        problem = RuleError(message, place=spot.place(_deep_path(data)))
    return Record(data, spot, line, is_toml, problem)


def _deep_path(data: Any) -> Path:
    """The way to the first value that is nested too deep."""
    ways: list[tuple[Any, Path]] = [(data, ())]
    while ways:
        value, path = ways.pop()
        if len(path) > MAX_LEVELS:
            return path
        if isinstance(value, dict):
            ways += [(child, (*path, key)) for key, child in reversed(value.items())]
        elif isinstance(value, list):
            ways += [(child, (*path, index)) for index, child in reversed([*enumerate(value)])]
    return ()


def _expand(data: Any, source: Source) -> Iterator[Record]:
    """The elements of an array or of a `_find` reply; anything else is itself."""
    spot = Spot(JsonLocator(source))
    elements = data
    if isinstance(data, dict) and isinstance(data.get("data"), list) and "type" not in data:
        elements, spot = data["data"], spot.within("data")
    (start, _), _found = spot.locator.find(spot.base)
    if not isinstance(elements, list):
        yield _record(data, spot, source.place(start).line or 1)
        return
    spans = json_children(source.text, start)
    for element, (_key, span) in zip(elements, spans, strict=False):
        line = source.place(span[0]).line or 1
        yield _record(element, Spot(JsonLocator(source, start=span[0])), line)


def _read_toml(content: bytes, path: str) -> Record | Broken:
    text = _decode(content, path, 1)
    if isinstance(text, Broken):
        return text
    text = text.replace("\r\n", "\n")
    source = Source(text, path=path)
    long_key = _LONG_KEY.search(text)
    if long_key is not None:
        place = source.place(long_key.start("key"))
        message = f"a key of more than {MAX_LEVELS} parts"
        return Broken(RuleError(message, place=place), place.line or 1, text)
    try:
        data = tomllib.loads(text)
    except RecursionError:
        return Broken(RuleError("TOML nested too deep to read", place=source.place(0)), 1, text)
    except ValueError as error:
        found = re.fullmatch(_TOML_ERROR, str(error))
        place, message = source.place(len(text) if found else 0), str(error)
        if found:
            message = found["message"]
            if found["line"]:
                place = _place_of_column(source, int(found["line"]), int(found["column"]))
        return Broken(RuleError(f"not TOML: {message}", place=place), place.line or 1, text)
    return _record(data, Spot(TomlLocator(source)), 1, is_toml=True)


def _place_of_column(source: Source, line: int, column: int) -> Place:
    offset = 0
    for _ in range(line - 1):
        offset = source.text.find("\n", offset) + 1
    return source.place(offset + column - 1)


def _decode(content: bytes, path: str, first_line: int) -> str | Broken:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        readable = content[: error.start].decode("utf-8")
        text = content.decode("utf-8", "replace")
        place = Source(text, path=path, first_line=first_line).place(len(readable))
        problem = RuleError("not UTF-8 text", place=place, hint="save the file as UTF-8")
        return Broken(problem, place.line or 1, text)


def as_error(broken: Broken, kind: type[BarrelmanError]) -> BarrelmanError:
    """The same problem as an error of another kind."""
    return kind(broken.error.message, place=broken.error.place, hint=broken.error.hint)
