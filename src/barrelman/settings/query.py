"""What an ad-hoc query was asked for, as typed, and what that comes to once files are read."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence

from barrelman.detection.ask import TIMESTAMP, IndexQuestion, Question, check_question
from barrelman.engine.decode import DecodeError, loads
from barrelman.errors import (
    InputError,
    MappingError,
    Place,
    QuerySyntaxError,
    UnsupportedError,
    UsageError,
)
from barrelman.query.ast import Node
from barrelman.query.eqltree import EVENT_CATEGORY, EqlQuery
from barrelman.records.fields import Catalogue
from barrelman.records.frozen import frozen
from barrelman.records.mapping import IndexMapping, merge_catalogues, parse_mapping
from barrelman.settings.indexes import split_name
from barrelman.settings.sources import Source, expand_sources, unreadable

# What KQL has not: of Lucene a range, a bound behind a colon, a regular expression.
_EQL = re.compile(r"\s*(?:sequence|sample)\b|.*\bwhere\b", re.IGNORECASE | re.DOTALL)
_LUCENE = re.compile(r"[\[{][^\]}]* TO [^\]}]*[\]}]|:[<>]|:/.*/")


@frozen
class QueryFlags:
    """As typed."""

    query: str
    language: str = "kql"
    paths: Sequence[str] = ()
    indices: Sequence[str] = ()
    """`NAME=PATH`."""
    mappings: Sequence[str] = ()
    """`NAME=FILE`, or a file alone for every input that has none of its own."""
    category_field: str | None = None
    timestamp_field: str | None = None
    tiebreaker_field: str | None = None


@frozen
class IndexInput:
    """One index: where its events are read, and the question as it is asked of them."""

    name: str | None
    """None for what was given by its path alone."""
    sources: tuple[Source | InputError, ...]
    question: IndexQuestion


@frozen
class QuerySettings:
    question: Question
    inputs: tuple[IndexInput, ...]
    notes: tuple[str, ...]


def resolve_query(flags: QueryFlags) -> QuerySettings:
    """Raises UsageError, MappingError, InputError and QueryError; `paths` and `indices` of which
    none is given are not looked for elsewhere."""
    if flags.language == "esql":
        raise UnsupportedError(
            "ES|QL does not run yet", hint="write the query in kql, lucene or eql"
        )
    named = _named_paths(flags.indices)
    mappings, notes = _read_mappings(flags.mappings, names=named)
    question = _question(flags)
    groups: list[tuple[str | None, Sequence[str]]] = [*named.items()]
    if flags.paths:
        groups.insert(0, (None, flags.paths))
    found = [mappings.get(name) or mappings.get(None) for name, _ in groups]
    _check(question, found)
    notes += _notes_on(question, flags, found)
    inputs = [
        IndexInput(
            name,
            tuple(expand_sources(paths)),
            IndexQuestion(question, mapped=None if mapping is None else mapping.catalogue),
        )
        for (name, paths), mapping in zip(groups, found, strict=True)
    ]
    return QuerySettings(question, tuple(inputs), tuple(notes))


def _question(flags: QueryFlags) -> Question:
    given = {
        "--event-category-field": flags.category_field,
        "--timestamp-field": flags.timestamp_field,
        "--tiebreaker-field": flags.tiebreaker_field,
    }
    if flags.language != "eql":
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option} is for --language eql alone")
    return Question(
        _parse(flags.query, flags.language),
        flags.query,
        category_field=flags.category_field or EVENT_CATEGORY,
        timestamp_field=flags.timestamp_field or TIMESTAMP,
        tiebreaker_field=flags.tiebreaker_field,
    )


def _parse(text: str, language: str) -> Node | EqlQuery:
    try:
        return _parser(language)(text)
    except QuerySyntaxError as error:
        other = _other_language(text) if language == "kql" else None
        if other is None:
            raise
        hint = f"as {other} it can be read: --language {other.lower()}"
        raise QuerySyntaxError(error.message, place=error.place, hint=hint) from None


def _parser(language: str) -> Callable[[str], Node | EqlQuery]:
    """Loaded when asked for: most queries need one of three."""
    if language == "eql":
        from barrelman.query.eql import parse_eql

        return parse_eql
    if language == "lucene":
        from barrelman.query.lucene import parse_lucene

        return parse_lucene
    from barrelman.query.kql import parse_kql

    return parse_kql


def _other_language(text: str) -> str | None:
    """The language that a text seems to be written in, if it is not KQL."""
    for name, looks in (("EQL", _EQL.match), ("Lucene", _LUCENE.search)):
        if looks(text):
            with contextlib.suppress(QuerySyntaxError):
                _parser(name.lower())(text)
                return name
    return None


def _check(question: Question, mappings: Sequence[IndexMapping | None]) -> None:
    """EQL over all indices together; other languages have no say on what a mapping lacks."""
    catalogues = [Catalogue() if each is None else each.catalogue for each in mappings]
    if isinstance(question.query, EqlQuery) and catalogues:
        catalogues = [merge_catalogues(catalogues)]
    for catalogue in catalogues:
        check_question(question, catalogue)


# --- named inputs and mappings -------------------------------------------------------------


def _named_paths(given: Sequence[str]) -> dict[str, list[str]]:
    """Paths by the name of their index, in the order of first mention."""
    named: dict[str, list[str]] = {}
    for text in given:
        name, path = split_name(text, example="old=audit-2025.log")
        named.setdefault(name, []).append(path)
    return named


def _read_mappings(
    given: Sequence[str], *, names: dict[str, list[str]]
) -> tuple[dict[str | None, IndexMapping], list[str]]:
    found: dict[str | None, IndexMapping] = {}
    notes: list[str] = []
    for text in given:
        name, path = _split_mapping(text, names)
        if name in found:
            which = f"index {name} has" if name else "inputs without one of their own have"
            raise UsageError(f"--mapping: {which} two mappings")
        found[name] = read_mapping(path, index=name)
        notes += [f"{path}: {note}" for note in found[name].notes]
    return found, notes


def _split_mapping(text: str, names: dict[str, list[str]]) -> tuple[str | None, str]:
    name, separator, path = text.partition("=")
    if separator and name in names:
        return name, path
    if separator and not path:
        raise UsageError(f"--mapping: '{text}' names no file", hint="write FILE or NAME=FILE")
    if separator and not os.path.exists(text) and os.path.exists(path):
        raise UsageError(
            f"--mapping: there is no index '{name}'", hint=f"give it: --index {name}=PATH"
        )
    return None, text


def read_mapping(path: str, *, index: str | None = None) -> IndexMapping:
    """Raises InputError for a file that cannot be read, MappingError for one that is no mapping."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        return parse_mapping(loads(data), index=index)
    except DecodeError as error:
        hint = "a mapping is JSON, as GET index/_mapping answers"
        raise MappingError(error.reason, place=Place(path=path), hint=hint) from None
    except MappingError as error:
        raise error.at(path=path) from None


# --- what a newcomer should be told --------------------------------------------------------


def _notes_on(
    question: Question, flags: QueryFlags, mappings: Sequence[IndexMapping | None]
) -> list[str]:
    notes = []
    other = _other_language(flags.query) if flags.language == "kql" else None
    if other is not None:
        notes.append(f"read as KQL, and it looks like {other}: --language {other.lower()}")
    if flags.language == "lucene":
        from barrelman.query.lucene import notes_on_lucene

        notes += notes_on_lucene(flags.query)
    if mappings and None not in mappings and flags.language != "eql":
        catalogue = merge_catalogues([each.catalogue for each in mappings if each is not None])
        for name in question.fields():
            if catalogue.knows(name):
                continue
            near = catalogue.nearest(name)
            meant = f" (did you mean {near}?)" if near else ""
            notes.append(f"the mapping has no field {name}{meant}")
    return notes
