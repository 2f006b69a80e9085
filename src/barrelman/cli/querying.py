"""An ad-hoc query from what was typed to its exit code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from barrelman.cli.output import silence
from barrelman.cli.printing import readable
from barrelman.cli.results import ArrayWriter, CsvWriter, LineWriter, TableWriter, Writer
from barrelman.detection.answer import Answer, found_of
from barrelman.detection.ask import IndexQuestion, why_no_audit_event
from barrelman.engine.blocks import BlockReader, Item, Passed
from barrelman.engine.problem import Problem
from barrelman.engine.reader import EventReader
from barrelman.engine.reading import CUTS, MOST_COMBINATIONS
from barrelman.errors import InputError, QueryTypeError, UsageError
from barrelman.query.eqltree import EqlQuery
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue
from barrelman.records.paths import walk_leaves
from barrelman.settings.parts import Part, read_part
from barrelman.settings.query import IndexInput, QueryFlags, QuerySettings, resolve_query
from barrelman.settings.sources import Source, is_compressed, read_chunks

EXIT_INTERRUPTED: Final = 130

_MOST_SAMPLES: Final = 5
# Documents whose fields are remembered, to tell what a query that finds nothing may have meant.
_LOOKED_AT: Final = 200
_MOST_NAMES: Final = 5_000


def run_query(given: Mapping[str, Any]) -> int:
    """Runs a query with the options as typed, by name, and gives the exit code."""
    now_ms = time.time_ns() // 1_000_000
    paths = given["paths"]
    if not paths and not given["index"]:
        paths = _standard_input(given["query"])
    flags = QueryFlags(
        query=given["query"],
        language=given["language"],
        paths=paths,
        indices=given["index"],
        mappings=given["mapping"],
        category_field=given["event_category_field"],
        timestamp_field=given["timestamp_field"],
        tiebreaker_field=given["tiebreaker_field"],
    )
    settings = resolve_query(flags)
    writer = _open_writer(given["format_"], settings)
    return _Run(settings, writer, now_ms=now_ms).run()


def _standard_input(query: str) -> tuple[str, ...]:
    if os.path.exists(query):
        hint = "QUERY comes first, then PATHs: barrelman query 'verb: get' FILE"
        raise UsageError(f"'{query}' is a file, and no query", hint=hint)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("no PATH to search", hint="name a log, a folder or - for standard input")
    return ("-",)


def _open_writer(format_: str | None, settings: QuerySettings) -> Writer:
    match format_ or ("table" if sys.stdout.isatty() else "jsonl"):
        case "jsonl":
            return LineWriter(sys.stdout.buffer)
        case "json":
            return ArrayWriter(sys.stdout.buffer)
        case "csv":
            return CsvWriter(sys.stdout)
        case _:
            from shutil import get_terminal_size

            return TableWriter(
                sys.stdout,
                width=get_terminal_size().columns,
                question=settings.question,
                catalogue=_one_catalogue(settings),
            )


def _one_catalogue(settings: QuerySettings) -> Catalogue | None:
    """The mapping that all inputs share, if there is one."""
    mapped = [each.question.mapped for each in settings.inputs]
    return mapped[0] if all(each is mapped[0] for each in mapped) else None


class _Run:
    """One query over all inputs."""

    def __init__(self, settings: QuerySettings, writer: Writer, *, now_ms: int) -> None:
        self._settings = settings
        self._question = settings.question
        self._writer = writer
        self._now_ms = now_ms
        is_eql = isinstance(self._question.query, EqlQuery)
        self._answer = Answer(self._question) if is_eql else None
        self._found = 0
        self._events = 0
        self._audit_events = 0
        self._failures = 0
        self._broken = 0
        self._samples = 0
        self._names: dict[str, None] = {}
        self._looked_at = 0

    def run(self) -> int:
        for note in self._settings.notes:
            _say(f"note: {note}")
        try:
            self._read_all()
            self._finish()
            self._writer.close()
        except BrokenPipeError:
            silence(sys.stdout)
        except QueryTypeError:  # of events of another kind than those before
            self._writer.close()
            raise
        except KeyboardInterrupt:
            _say("interrupted: what was found so far is all there is")
            self._writer.close()
            return EXIT_INTERRUPTED
        self._sum_up()
        return 2 if self._failures else 1 if self._found else 0

    def _write(self, result: Any) -> None:
        self._found += 1
        self._writer.write(result)

    def _finish(self) -> None:
        if self._answer is not None:
            for result in self._answer.finish():
                self._write(result)

    # --- reading ---

    def _read_all(self) -> None:
        for given in self._settings.inputs:
            sieve = given.question.sieve()
            for source in given.sources:
                if isinstance(source, InputError):
                    self._fail(source)
                    continue
                reader = EventReader(takes_any=True)
                try:
                    self._read(source, BlockReader(reader, sieve=sieve), given)
                except InputError as error:
                    self._fail(error)

    def _read(self, source: Source, blocks: BlockReader, given: IndexInput) -> None:
        for item in self._items(source, blocks):
            if type(item) is Event:
                self._judge(item, given.question)
            elif type(item) is Passed:
                self._events += item.events
                self._audit_events += item.events
            else:
                assert isinstance(item, Problem)
                self._note(item, source)

    def _items(self, source: Source, blocks: BlockReader) -> Iterator[Item]:
        if source.path is not None and source.size_bytes is not None:
            part = Part(0, is_compressed=_is_compressed(source.path))
            yield from read_part(part, source, blocks, on_bytes=lambda size: None)
            return
        stdin = sys.stdin.buffer if source.path is None else None
        try:
            for chunk in read_chunks(source, stdin=stdin):
                yield from blocks.feed(chunk)
                if source.is_live:
                    self._writer.pause()
        except InputError:
            yield from blocks.finish()
            raise
        yield from blocks.finish()

    def _judge(self, event: Event, question: IndexQuestion) -> None:
        self._events += 1
        if not event.is_document:
            self._audit_events += 1
        elif self._looked_at < _LOOKED_AT:
            self._looked_at += 1
            if len(self._names) < _MOST_NAMES:
                self._names.update(dict.fromkeys(name for name, _ in walk_leaves(event.body)))
        asked = question.asked_of(event)
        if self._answer is not None:
            self._answer.take(event, asked, now_ms=self._now_ms)
        elif asked.matches(event, self._now_ms):
            self._write(found_of(event))

    # --- what is not found, and why ---

    def _note(self, problem: Problem, source: Source) -> None:
        self._broken += problem.count
        self._samples += 1
        if self._samples <= _MOST_SAMPLES:
            where = f"{source.name}:{problem.line}"
            _say(f"{where}: {problem.kind}: {problem.reason}: {problem.excerpt}")

    def _fail(self, error: InputError) -> None:
        self._failures += 1
        _say(f"barrelman: {error}")

    def _sum_up(self) -> None:
        if self._broken:
            lines = "1 line is" if self._broken == 1 else f"{self._broken:,} lines are"
            _say(f"warning: {lines} malformed, and not searched")
        if self._answer is not None:
            if self._answer.untimed:
                name = self._question.timestamp_field
                _say(f"warning: {_count(self._answer.untimed)} without {name}: in no sequence")
            if self._answer.evicted:
                _say(
                    f"warning: {self._answer.evicted:,} beginnings of sequences were let go: "
                    "there were too many at once"
                )
        cuts = CUTS.take()
        if cuts:
            times = "once" if cuts == 1 else f"{cuts:,} times"
            _say(
                f"warning: {times} a condition saw only {MOST_COMBINATIONS:,} combinations of a "
                "document's arrays: it may hold for another"
            )
        if self._found:
            left_out = getattr(self._writer, "left_out", 0)
            if left_out:
                fields = "1 more field has" if left_out == 1 else f"{left_out} more fields have"
                _say(f"note: {fields} no room here; --format jsonl shows whole documents")
        elif not self._failures:
            self._explain()

    def _explain(self) -> None:
        """Nothing was found: as far as it can be told, why."""
        _say(f"nothing found in {_count(self._events)}")
        if self._events and self._audit_events == self._events:
            reason = why_no_audit_event(self._question.node())
            if reason is not None:
                _say(f"note: {reason}")
        elif self._looked_at and not self._audit_events and self._is_unmapped():
            for name in self._question.fields():
                self._explain_field(name)

    def _is_unmapped(self) -> bool:
        return all(each.question.mapped is None for each in self._settings.inputs)

    def _explain_field(self, name: str) -> None:
        if any(each == name or each.startswith(f"{name}.") for each in self._names):
            return
        near = Catalogue(names=frozenset(self._names)).nearest(name)
        meant = f" (did you mean {near}?)" if near else ""
        first = (
            "no document"
            if self._looked_at == self._events
            else (f"none of the first {self._looked_at} documents")
        )
        _say(f"note: {first} has a field {name}{meant}")


def _count(number: int) -> str:
    return "1 document" if number == 1 else f"{number:,} documents"


def _say(line: str) -> None:
    sys.stderr.write(readable(line) + "\n")


def _is_compressed(path: str) -> bool:
    try:
        return is_compressed(path)
    except OSError:  # whoever reads it will say so
        return False
