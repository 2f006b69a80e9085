"""Indices given as files: documents, a JSON object a line, that rules find under a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from barrelman.engine.decode import DecodeError, loads
from barrelman.engine.lines import Batch, LineSplitter
from barrelman.errors import BarrelmanError, InputError, Place, UsageError
from barrelman.records.event import JsonObject
from barrelman.records.indices import IndexPatterns
from barrelman.settings.sources import Source, expand_sources, read_chunks

if TYPE_CHECKING:
    from barrelman.rules.rule import Rule

IndexDocument: TypeAlias = tuple[str, str, JsonObject]
"""The index's name, the document's id in it, and the document."""

MOST_DOCUMENTS: Final = 2_000_000
"""Documents of one index: they are held in memory."""
_MOST_SAID: Final = 5


@dataclass
class Indexes:
    """The indices that were given, by name, and what could not be read of them."""

    documents: dict[str, list[IndexDocument]] = field(default_factory=dict)
    errors: list[BarrelmanError] = field(default_factory=list)

    def matching(self, patterns: Sequence[str]) -> list[IndexDocument] | None:
        """The documents of the indices that such patterns name; None where they name none."""
        wanted = IndexPatterns(patterns)
        names = [name for name in self.documents if wanted.read(name)]
        return [each for name in names for each in self.documents[name]] if names else None


def read_indexes(given: Sequence[str]) -> Indexes:
    """Reads `NAME=PATH` each; paths of one name add up. Raises UsageError for another form."""
    indexes = Indexes()
    for text in given:
        name, path = split_name(text, example="ti-feeds=feeds.jsonl")
        read_index(name, path, indexes)
    return indexes


def split_name(text: str, *, example: str) -> tuple[str, str]:
    """Name and path of an option `--index NAME=PATH`. Raises UsageError."""
    name, sign, path = text.partition("=")
    if not (name and sign and path):
        hint = f"write NAME=PATH, as in --index {example}"
        raise UsageError(f"--index: '{text}' does not name an index and its path", hint=hint)
    return name, path


def read_index(name: str, path: str, indexes: Indexes) -> None:
    """Adds the documents of a file, a folder or a glob to an index.

    A search hit (`_id`, `_source`) is taken as the document that it holds. A broken line is said,
    the first few of a file each, and the rest of the file goes on.
    """
    held = indexes.documents.setdefault(name, [])
    for source in expand_sources([path]):
        if isinstance(source, InputError):
            indexes.errors.append(source)
            continue
        broken = _Broken(source.name, indexes.errors)
        try:
            for line, found in read_objects(source, broken.note):
                if len(held) >= MOST_DOCUMENTS:
                    message = f"index '{name}' holds more than {MOST_DOCUMENTS:,} documents"
                    indexes.errors.append(InputError(message, place=Place(source.name, line)))
                    return
                held.append(_document(name, found, f"{source.name}:{line}"))
        except InputError as error:
            indexes.errors.append(error)
        broken.finish()


def read_objects(
    source: Source, on_broken: Callable[[int, str], None]
) -> Iterator[tuple[int, JsonObject]]:
    """The JSON objects of a source with their lines, blank lines left out.

    `on_broken` hears of lines that hold none. Raises InputError as `read_chunks`.
    """
    splitter = LineSplitter()
    number = 0

    def objects(batch: Batch) -> Iterator[tuple[int, JsonObject]]:
        nonlocal number
        if batch.long_ended:
            number += 1
            on_broken(number, f"longer than {splitter.limit_bytes // (1024 * 1024)} MiB")
        for line in batch.lines:
            number += 1
            if not line or line.isspace():
                continue
            try:
                found = loads(line)
            except DecodeError as error:
                on_broken(number, error.reason)
                continue
            if type(found) is dict:
                yield number, found
            else:
                on_broken(number, "not a JSON object")

    for chunk in read_chunks(source):
        for batch in splitter.feed(chunk):
            yield from objects(batch)
    yield from objects(splitter.finish())


def missing_reason(rule: Rule) -> str:
    """Why an indicator match rule does not run when none of its indices was given."""
    names = ", ".join(rule.threat_index) or "any index"
    return f"its indicators are in {names}, and no index of that name was given"


class _Broken:
    """The lines of one file that hold no object: the first few are said each."""

    def __init__(self, path: str, errors: list[BarrelmanError]) -> None:
        self._path = path
        self._errors = errors
        self._count = 0

    def note(self, line: int, reason: str) -> None:
        self._count += 1
        if self._count <= _MOST_SAID:
            self._errors.append(InputError(reason, place=Place(self._path, line)))

    def finish(self) -> None:
        if self._count > _MOST_SAID:
            more = self._count - _MOST_SAID
            message = f"{more:,} more lines hold no JSON object"
            self._errors.append(InputError(message, place=Place(self._path)))


def _document(name: str, found: JsonObject, place: str) -> IndexDocument:
    source = found.get("_source")
    if type(source) is dict:
        return str(found.get("_index") or name), str(found.get("_id") or place), source
    return name, str(found.get("_id") or place), found
