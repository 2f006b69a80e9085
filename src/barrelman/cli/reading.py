"""The sources of a scan, one after the other or in parts side by side, into one account."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from barrelman.detection.judge import Judge, Tally
from barrelman.detection.live import LivePipe
from barrelman.detection.match import Match
from barrelman.detection.scan import ScanOptions
from barrelman.engine.blocks import BlockReader, Item, Passed
from barrelman.engine.problem import Problem
from barrelman.engine.reader import EventReader
from barrelman.engine.sieve import Sieve
from barrelman.errors import InputError
from barrelman.records.event import Event
from barrelman.records.frozen import frozen
from barrelman.settings.parts import (
    PART_BYTES,
    Part,
    close_parts,
    read_part,
    split_sources,
    weigh,
)
from barrelman.settings.partscan import Answer, Ending, PartScan, ReaderOptions, unpack_answer
from barrelman.settings.sources import Source, read_chunks
from barrelman.settings.workers import Workers, can_fork

# How often a silent pipe is looked at.
IDLE_SECONDS: Final = 0.25


@frozen
class Listener:
    """Who hears of what is not an event, of the bytes read, and of failures."""

    on_problem: Callable[[Problem, Source], None]
    on_bytes: Callable[[int, int], None]
    """Bytes as they lie on disk, and once decompressed."""
    on_failure: Callable[[str], None]
    on_live_look: Callable[[int], None]
    """With the instant up to which every event of a live pipe has come."""
    is_stopped: Callable[[], bool]


class Taker(Protocol):
    """What is read goes there: a scan, or the past of one."""

    judge: Judge

    @property
    def tally(self) -> Tally: ...

    @property
    def now_us(self) -> int: ...

    @now_us.setter
    def now_us(self, instant_us: int) -> None: ...

    def feed(self, event: Event) -> None: ...

    def pass_over(self, passed: Passed) -> None: ...

    def take(self, matches: Iterable[Match], tally: Tally) -> None: ...


class Input:
    """Reads all sources, in order, into a scan. What is found does not depend on `jobs`."""

    def __init__(
        self,
        sources: Sequence[Source | InputError],
        *,
        scan: Taker,
        sieve: Sieve | None,
        options: ReaderOptions,
        jobs: int,
        listener: Listener,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._part_bytes = part_bytes
        self.sources = sources
        self.scan = scan
        self.sieve = sieve
        self.options = options
        self.jobs = jobs if can_fork() else 1
        self.listener = listener

    def read(self) -> None:
        files: list[Source] = []
        for source in self.sources:
            if isinstance(source, Source) and is_regular(source):
                files.append(source)
                continue
            self._read_files(files)
            files = []
            if isinstance(source, InputError):
                self.listener.on_failure(str(source))
            elif not self.listener.is_stopped():
                self._read_stream(source)
        self._read_files(files)

    def _take(self, items: Iterable[Item], source: Source) -> None:
        for item in items:
            self.take_item(item, source)

    def take_item(self, item: Item, source: Source) -> None:
        """What the next bytes of a source came to."""
        if type(item) is Event:
            self.scan.feed(item)
        elif type(item) is Passed:
            self.scan.pass_over(item)
        else:
            assert isinstance(item, Problem)
            self.listener.on_problem(item, source)

    # --- standard input, pipes ---

    def _read_stream(self, source: Source) -> None:
        listener = self.listener
        blocks = self.options.blocks(
            self.options.reader(), self.sieve, screen=self.scan.judge.screen()
        )
        chunks = read_chunks(
            source,
            stdin=sys.stdin.buffer if source.path is None else None,
            on_raw_bytes=lambda size: listener.on_bytes(size, 0),
            idle_seconds=IDLE_SECONDS if source.is_live else None,
        )
        pipe = LivePipe()
        try:
            for chunk in chunks:
                if chunk:
                    listener.on_bytes(0, len(chunk))
                    self._take(blocks.feed(chunk), source)
                if listener.is_stopped():
                    return  # what is half read is cut off by us, and not broken
                if source.is_live:
                    self._look(pipe, idle=not chunk)
        except InputError as error:
            listener.on_failure(str(error))
        self._take(blocks.finish(), source)

    def _look(self, pipe: LivePipe, *, idle: bool) -> None:
        """On a live pipe: which runs are over by now?"""
        scan = self.scan
        clock_us = scan.now_us = time.time_ns() // 1000
        watermark_us = pipe.look(
            end_us=scan.tally.end_us,
            last_us=scan.tally.last_us,
            clock_us=clock_us,
            idle_seconds=IDLE_SECONDS if idle else 0.0,
        )
        if watermark_us is not None:
            self.listener.on_live_look(watermark_us)

    # --- files ---

    def _read_files(self, files: Sequence[Source]) -> None:
        if not files or self.listener.is_stopped():
            return
        # What one process reads anyway need not be cut.
        part_bytes = self._part_bytes if self.jobs > 1 else sys.maxsize
        parts = split_sources(files, part_bytes=part_bytes)
        try:
            self._read_parts(files, parts)
        finally:
            close_parts(parts)

    def _read_parts(self, files: Sequence[Source], parts: Sequence[Part]) -> None:
        jobs = min(self.jobs, len(parts))
        # Less than a part is read sooner than processes are started for it.
        if jobs > 1 and weigh(parts, files) >= self._part_bytes:
            _SideBySide(self, files, parts).read(jobs)
            return
        self.read_files_here(files, parts)

    def read_files_here(self, files: Sequence[Source], parts: Sequence[Part]) -> None:
        """One after the other, in this process."""
        compressed = {part.source for part in parts if part.is_compressed}
        for number, source in enumerate(files):
            self.read_file(Part(0, is_compressed=number in compressed), source)

    def read_file(self, part: Part, source: Source) -> None:
        """A whole file, here."""
        self.read_here(
            part,
            source,
            self.options.blocks(self.options.reader(), self.sieve, screen=self.scan.judge.screen()),
        )

    def read_here(
        self, part: Part, source: Source, blocks: BlockReader, *, follows: bool = False
    ) -> None:
        """A part of a file, in this process, with what was open before it."""
        listener = self.listener
        told_bytes = blocks.plain_bytes
        items = read_part(
            part,
            source,
            blocks,
            on_bytes=lambda size: listener.on_bytes(size, 0),
            follows=follows,
        )
        try:
            for item in items:
                self.take_item(item, source)
                if blocks.plain_bytes > told_bytes:
                    listener.on_bytes(0, blocks.plain_bytes - told_bytes)
                    told_bytes = blocks.plain_bytes
                    if listener.is_stopped():
                        return
        except InputError as error:
            listener.on_failure(str(error))
        listener.on_bytes(0, blocks.plain_bytes - told_bytes)


class _SideBySide:
    """Files in parts, each scanned by one of several processes.

    A part is scanned as if nothing were open where it begins. Where that turns out wrong, it is
    scanned anew here, with what was open, and so are the parts behind it until nothing is.
    """

    def __init__(self, input_: Input, files: Sequence[Source], parts: Sequence[Part]) -> None:
        self._input = input_
        self._files = files
        self._parts = parts
        self._lines_before = 0
        self._carried: tuple[EventReader, BlockReader] | None = None
        self._has_passed_last = False
        """The last line of the part before was passed over."""
        self._failed: set[int] = set()

    def read(self, jobs: int) -> None:
        given = self._input
        work = PartScan(
            self._parts,
            self._files,
            judge=given.scan.judge,
            sieve=given.sieve,
            options=given.options,
        ).work
        held: list[Answer] = []
        try:
            workers = Workers(work, count=len(self._parts), jobs=jobs)
        except OSError:  # no process is to be had
            given.read_files_here(self._files, self._parts)
            return
        try:
            for number, data in workers.answers():
                part = self._parts[number]
                if data is None:
                    self._end(part, held)
                    held = []
                elif self._carried is None:
                    held.append(unpack_answer(data))
                    if part.is_first and part.is_last:  # nothing can be wrong with its begin
                        self._take(part, held.pop())
                if given.listener.is_stopped():
                    return
        except InputError as error:
            given.listener.on_failure(str(error))
        finally:
            workers.stop()

    def _end(self, part: Part, held: list[Answer]) -> None:
        """All answers to a part are there."""
        ending = held[-1].ending if held else None
        if self._carried is None and (ending is None or self._is_right(part, ending)):
            for answer in held:
                self._take(part, answer)
        else:
            self._scan_here(part)

    def _is_right(self, part: Part, ending: Ending) -> bool:
        """Whether what was assumed where the part begins is so, and nothing is open at its end."""
        if ending.has_looked_back and not self._has_passed_last:
            return False
        return ending.is_neutral or part.is_last

    def _take(self, part: Part, answer: Answer) -> None:
        given, source = self._input, self._files[part.source]
        for problem in answer.problems:
            problem.line += self._lines_before
            given.listener.on_problem(problem, source)
        given.listener.on_bytes(answer.disk_bytes, answer.plain_bytes)
        ending = answer.ending
        given.scan.take(answer.matches, Tally() if ending is None else ending.tally)
        if ending is None:
            return
        self._lines_before = 0 if part.is_last else self._lines_before + ending.lines
        self._has_passed_last = ending.has_passed_last and not part.is_last
        if ending.error is not None and part.source not in self._failed:
            self._failed.add(part.source)
            given.listener.on_failure(ending.error)

    def _scan_here(self, part: Part) -> None:
        given = self._input
        follows = self._carried is None and self._has_passed_last
        if self._carried is None:
            reader = given.options.reader(lines_before=self._lines_before)
            self._carried = (
                reader,
                given.options.blocks(reader, given.sieve, screen=given.scan.judge.screen()),
            )
        reader, blocks = self._carried
        given.read_here(part, self._files[part.source], blocks, follows=follows)
        if part.is_last or reader.is_neutral:
            self._carried = None
            self._has_passed_last = blocks.has_passed_last and not part.is_last
            self._lines_before = 0 if part.is_last else reader.lines_read


def read_times(
    sources: Iterable[Source | InputError],
    *,
    options: ReaderOptions,
    now_us: int,
    is_stopped: Callable[[], bool],
) -> Tally | None:
    """The times of all events of files that were scanned without reading them; None if stopped."""
    judge = Judge((), predicates=(), options=ScanOptions(), now_us=now_us, is_timed=True)
    timed = replace(options, is_timed=True)
    nothing = Sieve((), one_by_one=True)
    files = [source for source in sources if isinstance(source, Source) and is_regular(source)]
    for part in split_sources(files, part_bytes=sys.maxsize):
        blocks = timed.blocks(timed.reader(), nothing)
        with contextlib.suppress(InputError):  # was reported the first time
            for item in read_part(part, files[part.source], blocks, on_bytes=lambda size: None):
                if type(item) is Event:
                    judge.feed(item)
                elif type(item) is Passed:
                    judge.pass_over(item)
                if is_stopped():
                    return None
    return judge.tally


def is_regular(source: Source) -> bool:
    """Whether it can be opened more than once, and at any of its bytes."""
    return source.path is not None and source.size_bytes is not None
