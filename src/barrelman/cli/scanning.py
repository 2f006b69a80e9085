"""A scan from what was typed to its exit code: the loop from bytes to alerts."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any, Final

from barrelman.cli.output import ArraySink, LineSink, Sink, TableSink, silence
from barrelman.cli.printing import printable
from barrelman.cli.progress import Progress
from barrelman.cli.summary import Reading, summary_lines
from barrelman.detection.alert import Alert
from barrelman.detection.live import LivePipe
from barrelman.detection.redact import redact_text
from barrelman.detection.scan import Scan, ScanOptions
from barrelman.engine.problem import Problem
from barrelman.engine.reader import EventReader
from barrelman.errors import InputError, UsageError
from barrelman.settings.scan import (
    RangeFlags,
    RuleFlags,
    RuleSettings,
    parse_size_bytes,
    resolve_options,
    resolve_rules,
)
from barrelman.settings.sources import Source, expand_sources, read_chunks

EXIT_INTERRUPTED: Final = 130

# How often a silent pipe is looked at.
_IDLE_SECONDS: Final = 0.25
_MOST_SAMPLES: Final = 5
# How long alerts already found are still written after an interruption.
_PATIENCE_SECONDS: Final = 1.0


def run_scan(given: Mapping[str, Any]) -> int:
    """Runs a scan with the options as typed, by name, and gives the exit code."""
    now_us = time.time_ns() // 1000
    flags = RuleFlags(
        rules=given["rules"],
        no_pack=given["no_pack"],
        include_all=given["all_rules"],
        exceptions=given["exceptions"],
        selected=given["rule"],
        severity=given["severity"],
    )
    ranges = RangeFlags(
        since=given["since"],
        until=given["until"],
        max_signals=given["max_signals"],
        redacted=not given["no_redact"],
    )
    paths = given["paths"] or _default_paths()
    options = resolve_options(ranges, severity=given["severity"], now_us=now_us)
    max_event_bytes = parse_size_bytes(given["max_event_size"])
    settings = resolve_rules(flags)
    sources = expand_sources(paths)
    _refuse_overwriting(given["output"], sources)
    with contextlib.ExitStack() as stack:
        sink = _open_sink(given["format_"], given["output"], stack)
        run = _Run(
            settings=settings,
            sources=sources,
            options=options,
            sink=sink,
            quiet=given["quiet"],
            progress=not (given["quiet"] or given["no_progress"]),
            max_event_bytes=max_event_bytes,
            cluster=given["cluster"],
            now_us=now_us,
        )
        return run.run(strict=given["strict"])


def _default_paths() -> tuple[str, ...]:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("no PATH to scan", hint="name a log, a folder or - for standard input")
    return ("-",)


def _refuse_overwriting(output: str | None, sources: Iterable[Source | InputError]) -> None:
    if output in (None, "-") or not os.path.exists(output):
        return
    for source in sources:
        if isinstance(source, Source) and source.path and os.path.samefile(source.path, output):
            raise UsageError(f"--output {output} is one of the logs to scan")


def _open_sink(format_: str | None, output: str | None, stack: contextlib.ExitStack) -> Sink:
    to_file = output not in (None, "-")
    kind = format_ or ("table" if not to_file and sys.stdout.isatty() else "jsonl")
    if kind == "table":
        text: IO[str] = sys.stdout
        if to_file:
            text = stack.enter_context(_opened(str(output), "w"))
        return TableSink(text)
    binary: IO[bytes] = sys.stdout.buffer
    if to_file:
        binary = stack.enter_context(_opened(str(output), "wb"))
    return LineSink(binary) if kind == "jsonl" else ArraySink(binary)


def _opened(path: str, mode: str) -> Any:
    try:
        return open(path, mode, encoding=None if "b" in mode else "utf-8")
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}") from None


@dataclass
class _Run:
    """One scan from its first byte to its exit code."""

    settings: RuleSettings
    sources: list[Source | InputError]
    options: ScanOptions
    sink: Sink
    quiet: bool
    progress: bool
    max_event_bytes: int
    cluster: str | None
    now_us: int

    def run(self, *, strict: bool) -> int:
        self.scan = Scan(self.settings.runnable, now_us=self.now_us, options=self.options)
        self.reading = Reading()
        self.failures = 0
        self.stopped = False
        self.closed = False
        started = time.monotonic()
        found = [source for source in self.sources if isinstance(source, Source)]
        self.bar = Progress(
            sys.stderr,
            sizes_bytes=[source.size_bytes for source in found],
            wanted=self.progress and not any(source.is_live for source in found),
        )
        self._report_settings()
        with self._interruptible():
            for source in self.sources:
                if isinstance(source, InputError):
                    self._fail(source)
                elif not self.stopped:
                    self._read(source)
            self.bar.close()
            self._write(self.scan.finish())
            self._write((), last=True)
        self.reading.seconds = time.monotonic() - started
        self._summarise()
        return self._exit_code(strict)

    # --- reading ---

    def _read(self, source: Source) -> None:
        self.reading.sources += 1
        reader = EventReader(max_event_bytes=self.max_event_bytes, cluster=self.cluster)
        chunks = read_chunks(
            source,
            stdin=sys.stdin.buffer if source.path is None else None,
            on_raw_bytes=self.bar.advance,
            idle_seconds=_IDLE_SECONDS if source.is_live else None,
        )
        pipe = LivePipe()
        try:
            for chunk in chunks:
                if chunk:
                    self.reading.bytes += len(chunk)
                    self._take(reader.feed(chunk), source)
                if self.stopped:
                    break
                if source.is_live:
                    self._look(pipe, idle=not chunk)
        except InputError as error:
            self._fail(error)
        if not self.stopped:  # else what is half read is cut off by us, and not broken
            self._take(reader.finish(), source)

    def _take(self, items: Iterable[Any], source: Source) -> None:
        feed = self.scan.feed
        for item in items:
            if isinstance(item, Problem):
                self._note(item, source)
            else:
                feed(item)

    def _look(self, pipe: LivePipe, *, idle: bool) -> None:
        """On a live pipe: alerts of the runs that are over by now."""
        clock_us = self.scan.now_us = time.time_ns() // 1000
        watermark_us = pipe.look(
            end_us=self.scan.log_end_us,
            last_us=self.scan.last_us,
            clock_us=clock_us,
            idle_seconds=_IDLE_SECONDS if idle else 0.0,
        )
        if watermark_us is not None:
            self._write(self.scan.advance(watermark_us))

    def _note(self, problem: Problem, source: Source) -> None:
        kind = problem.kind
        setattr(self.reading, kind, getattr(self.reading, kind) + problem.count)
        shown = self.reading.samples.get(kind, 0)
        if shown < _MOST_SAMPLES and not self.quiet:
            self.reading.samples[kind] = shown + 1
            excerpt = redact_text(problem.excerpt)
            what = f"{source.name}:{problem.line}: {kind}: {problem.reason}: {excerpt}"
            self.bar.say(printable(what))

    # --- writing ---

    def _write(self, alerts: Iterable[Alert], *, last: bool = False) -> None:
        """A reader of our output that went away ends the scan, and is no error."""
        if self.closed:
            return
        try:
            self.sink.write(self._while_wanted(alerts))
            if last:
                self.sink.close()
        except BrokenPipeError:
            self.closed = self.stopped = True
            silence(sys.stdout)

    def _while_wanted(self, alerts: Iterable[Alert]) -> Iterator[Alert]:
        """All of them; after an interruption, as many as a person will wait for."""
        deadline = 0.0
        for alert in alerts:
            yield alert
            if self.reading.interrupted:
                deadline = deadline or time.monotonic() + _PATIENCE_SECONDS
                if time.monotonic() > deadline:
                    self.reading.is_cut = True
                    return

    def _say(self, line: str) -> None:
        self.bar.say(line)

    def _fail(self, error: InputError) -> None:
        self.failures += 1
        self._say(f"barrelman: {error}")

    def _report_settings(self) -> None:
        for loaded in self.settings.invalid:
            for problem in loaded.errors or ():
                self._say(f"invalid rule: {problem}")
            if not loaded.errors:
                self._say(f"invalid rule: {loaded.reason}")
        for error in self.settings.errors:
            self._say(f"barrelman: {error}")
        for warning in self.settings.warnings:
            self._say(f"warning: {printable(warning)}")
        if not self.quiet:
            for note in self.settings.notes:
                self._say(f"note: {printable(note)}")
        if not self.settings.runnable:
            self._say("warning: no rule runs: nothing can be found")

    def _summarise(self) -> None:
        start_us, end_us = self.scan.log_start_us, self.scan.log_end_us
        if start_us is not None and end_us is not None:
            self.reading.span_us = (start_us, end_us)
        if not self.quiet:
            blind = self.scan.blind()
            for line in summary_lines(self.reading, self.scan.counts, self.settings, blind):
                self._say(line)

    def _exit_code(self, strict: bool) -> int:
        if self.reading.interrupted:
            return EXIT_INTERRUPTED
        if self.failures or self.settings.errors or self.settings.invalid:
            return 2
        if strict and self.reading.malformed:
            return 2
        return 1 if self.scan.counts.alerts else 0

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM stop reading; what was read is finished. A second one ends at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopped = self.reading.interrupted = True
            for each, handler in previous.items():
                signal.signal(each, signal.default_int_handler if each == number else handler)

        previous: dict[int, Any] = {}
        try:
            for caught in (signal.SIGINT, signal.SIGTERM):
                previous[caught] = signal.signal(caught, stop)
        except ValueError:  # not in the main thread: somebody else minds the signals
            yield
            return
        try:
            yield
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)
