"""A scan from what was typed to its exit code: the loop from bytes to alerts."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Final

from barrelman.cli.output import ArraySink, LineSink, Sink, TableSink, silence
from barrelman.cli.printing import printable
from barrelman.cli.progress import Progress
from barrelman.cli.reading import Input, Listener, is_regular, read_times
from barrelman.cli.summary import Reading, summary_lines
from barrelman.detection.scan import Scan, ScanOptions, sieve_of
from barrelman.engine.problem import Problem
from barrelman.engine.sieve import Sieve
from barrelman.errors import InputError, UsageError
from barrelman.settings.parts import read_sample
from barrelman.settings.partscan import ReaderOptions
from barrelman.settings.scan import (
    RangeFlags,
    RuleFlags,
    RuleSettings,
    parse_size_bytes,
    resolve_options,
    resolve_rules,
)
from barrelman.settings.sources import Source, expand_sources
from barrelman.settings.workers import count_cores

if TYPE_CHECKING:
    from barrelman.detection.alert import Alert

EXIT_INTERRUPTED: Final = 130

# Which pieces are rare in a log is not worth a look for fewer rules.
_RULES_WORTH_A_SAMPLE: Final = 4
# Of a smaller log each event's time is read.
_SMALL_BYTES: Final = 16 * 1024 * 1024
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
        indexes=given["index"],
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
    jobs = given["jobs"] or count_cores()
    settings = resolve_rules(flags)
    sources = expand_sources(paths)
    history = expand_sources(given["history"]) if given["history"] else []
    _refuse_overwriting(given["output"], sources)
    with contextlib.ExitStack() as stack:
        sink = _open_sink(given["format_"], given["output"], stack)
        run = _Run(
            settings=settings,
            sources=sources,
            history=history,
            options=options,
            sink=sink,
            quiet=given["quiet"],
            progress=not (given["quiet"] or given["no_progress"]),
            max_event_bytes=max_event_bytes,
            cluster=given["cluster"],
            now_us=now_us,
            jobs=jobs,
            strict=given["strict"],
            wants_sieve=not given["no_sieve"],
        )
        return run.run()


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
    history: list[Source | InputError]
    options: ScanOptions
    sink: Sink
    quiet: bool
    progress: bool
    max_event_bytes: int
    cluster: str | None
    now_us: int
    jobs: int
    strict: bool
    wants_sieve: bool

    def run(self) -> int:
        found = [source for source in self.sources if isinstance(source, Source)]
        past = [source for source in self.history if isinstance(source, Source)]
        # A look at each event's time costs more than the rest; of a small log it is nothing.
        is_small = sum(source.size_bytes or 0 for source in found) < _SMALL_BYTES
        is_timed = self.options.has_range or not all(map(is_regular, found)) or is_small
        self.options_of_readers = ReaderOptions(
            max_event_bytes=self.max_event_bytes,
            cluster=self.cluster,
            is_strict=self.strict,
            is_timed=is_timed,
        )
        self.scan = Scan(
            self.settings.runnable, now_us=self.now_us, options=self.options, is_timed=is_timed
        )
        self.sieve = self._make_sieve(found, is_small=is_small) if self.wants_sieve else None
        self.reading = Reading(sources=len(found))
        self.failures = 0
        self.stopped = False
        self.closed = False
        started = time.monotonic()
        self.bar = Progress(
            sys.stderr,
            sizes_bytes=[source.size_bytes for source in (*past, *found)],
            wanted=self.progress and not any(source.is_live for source in found),
        )
        self._report_settings()
        with self._interruptible():
            self._read_history()
            self._read()
            self.bar.close()
            self._write(self.scan.finish())
            self._write((), last=True)
        self.reading.seconds = time.monotonic() - started
        self._summarise()
        return self._exit_code()

    def _make_sieve(self, found: Sequence[Source], *, is_small: bool) -> Sieve | None:
        has_choice = len(self.settings.runnable) >= _RULES_WORTH_A_SAMPLE
        sample = read_sample(found) if has_choice and not is_small else b""
        return sieve_of(self.settings.runnable, sample=sample)

    # --- reading ---

    def _read_history(self) -> None:
        """What happened before, for the rules that look back at it."""
        if not self.history:
            return
        if not self.scan.history_rules:
            self._say("note: --history is not read: no rule that runs looks back")
            return
        past = self.scan.history()
        Input(
            self.history,
            scan=past,
            sieve=sieve_of(past.rules) if self.wants_sieve else None,
            options=replace(self.options_of_readers, is_timed=True),
            jobs=self.jobs,
            listener=self._listener(lambda watermark_us: None),
        ).read()
        self.reading.past_events = past.tally.events

    def _listener(self, on_live_look: Callable[[int], None]) -> Listener:
        return Listener(
            on_problem=self._note,
            on_bytes=self._count_bytes,
            on_failure=self._fail,
            on_live_look=on_live_look,
            is_stopped=lambda: self.stopped,
        )

    def _read(self) -> None:
        listener = self._listener(lambda watermark_us: self._write(self.scan.advance(watermark_us)))
        Input(
            self.sources,
            scan=self.scan,
            sieve=self.sieve,
            options=self.options_of_readers,
            jobs=self.jobs,
            listener=listener,
        ).read()
        if self.scan.wants_end and not self.stopped:
            exact = read_times(
                self.sources,
                options=self.options_of_readers,
                now_us=self.scan.now_us,
                is_stopped=lambda: self.stopped,
            )
            if exact is not None:
                self.scan.tally.set_times(exact)

    def _count_bytes(self, disk_bytes: int, plain_bytes: int) -> None:
        self.bar.advance(disk_bytes)
        self.reading.bytes += plain_bytes

    def _note(self, problem: Problem, source: Source) -> None:
        kind = problem.kind
        setattr(self.reading, kind, getattr(self.reading, kind) + problem.count)
        shown = self.reading.samples.get(kind, 0)
        if shown < _MOST_SAMPLES and not self.quiet:
            self.reading.samples[kind] = shown + 1
            from barrelman.detection.redact import redact_text

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

    def _fail(self, error: str) -> None:
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
        start_us, end_us = self.scan.tally.start_us, self.scan.tally.end_us
        if start_us is not None and end_us is not None:
            self.reading.span_us = (start_us, end_us)
        if not self.quiet:
            blind = self.scan.blind()
            for line in summary_lines(self.reading, self.scan.counts, self.settings, blind):
                self._say(line)

    def _exit_code(self) -> int:
        if self.reading.interrupted:
            return EXIT_INTERRUPTED
        if self.failures or self.settings.errors or self.settings.invalid:
            return 2
        if self.strict and self.reading.malformed:
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
