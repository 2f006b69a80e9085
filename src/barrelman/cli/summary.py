"""The account that a scan gives at its end, on stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from barrelman.cli.printing import printable
from barrelman.detection.finding import MOST_LIVE
from barrelman.detection.scan import ScanCounts
from barrelman.engine.reading import MOST_COMBINATIONS
from barrelman.records.severities import SEVERITIES
from barrelman.records.times import format_instant
from barrelman.rules.rule import Rule
from barrelman.settings.scan import RuleSettings

_MOST_LISTED: Final = 5


@dataclass
class Reading:
    """What was read, over all sources."""

    sources: int = 0
    bytes: int = 0
    malformed: int = 0
    foreign: int = 0
    gke: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    is_cut: bool = False
    """Alerts that were found are not all written, for the interruption's sake."""
    span_us: tuple[int, int] | None = None
    past_events: int = 0
    """Events read for the sake of the past alone."""
    samples: dict[str, int] = field(default_factory=dict)
    """How many problems of each kind were shown as they came."""


def summary_lines(
    reading: Reading,
    counts: ScanCounts,
    settings: RuleSettings,
    blind: Sequence[tuple[Rule, str]],
) -> Iterator[str]:
    """The summary, a line at a time: first what was found, then what was not, and why."""
    if reading.interrupted:
        yield "interrupted: what follows is true of what was read so far"
        if reading.is_cut:
            yield "    more alerts were found than are written"
    yield from _read_lines(reading, counts)
    yield from _alert_lines(counts, settings)
    yield from _loss_lines(reading, counts, settings)
    yield _rules_line(settings)
    for loaded in settings.unsupported[:_MOST_LISTED]:
        yield printable(f"    unsupported: {loaded.name or loaded.path}: {loaded.reason}")
    yield from _more(settings.unsupported, "`barrelman rules check` lists all")
    if blind:
        yield f"blind      {_count(len(blind), 'rule')} could not fire on this input:"
        for rule, reason in blind[:_MOST_LISTED]:
            yield f"    {printable(rule.name)}: {printable(reason)}"
        yield from _more(blind, "")


def _read_lines(reading: Reading, counts: ScanCounts) -> Iterator[str]:
    rate = counts.tally.events / reading.seconds if reading.seconds > 0 else 0
    speed = reading.bytes / reading.seconds if reading.seconds > 0 else 0
    yield (
        f"scanned    {_count(counts.tally.events, 'event')}, {_size(reading.bytes)} "
        f"in {_duration(reading.seconds)} ({rate:,.0f} events/s, {_size(speed)}/s)"
    )
    if reading.span_us is not None:
        first, last = (format_instant(us // 1000)[:19].replace("T", " ") for us in reading.span_us)
        yield f"    from {first} to {last} UTC"


def _alert_lines(counts: ScanCounts, settings: RuleSettings) -> Iterator[str]:
    shown = ", ".join(
        f"{counts.by_severity[severity]} {severity}"
        for severity in reversed(SEVERITIES)
        if counts.by_severity[severity]
    )
    capped = sum(rule.capped for rule in counts.rules)
    suppressed = sum(rule.suppressed for rule in counts.rules)
    line = f"alerts     {counts.alerts:,}" + (f" ({shown})" if shown else "")
    if capped:
        line += f", {capped} capped"
    if suppressed:
        line += f", {suppressed:,} suppressed"
    if counts.below:
        line += f", {counts.below:,} below the severity asked for"
    yield line
    named = [
        (each.rule.name, found)
        for each, found in zip(settings.runnable, counts.rules, strict=True)
        if found.matches
    ]
    named.sort(key=lambda pair: (-pair[1].alerts, pair[0]))
    for name, found in named[:_MOST_LISTED] if not capped else named:
        extra = f", {found.capped} capped" if found.capped else ""
        extra += f", {found.suppressed:,} suppressed" if found.suppressed else ""
        yield f"    {printable(name)}: {_count(found.alerts, 'alert')}{extra}"
    if not capped:
        yield from _more(named, "")
    if capped:
        yield "    capped: matches beyond what a run may alert; --max-signals none shows them all"
    if suppressed:
        yield "    suppressed: folded into an alert that tells how many it stands for"


def _loss_lines(reading: Reading, counts: ScanCounts, settings: RuleSettings) -> Iterator[str]:
    def total(name: str) -> int:
        return sum(getattr(rule, name) for rule in counts.rules)

    for number, text in (
        (reading.malformed, "malformed  {}: broken, and not judged"),
        (reading.foreign, "foreign    {}: whole, but no audit events"),
        (reading.gke, "gke        {}: Google Cloud audit entries, not yet judged"),
    ):
        if number:
            yield text.format(_count(number, "line or object"))
    if total("duplicates"):
        yield f"duplicates {_count(total('duplicates'), 'match')} of an event seen before"
    if total("conflicting"):
        yield (
            f"reused ids {_count(total('conflicting'), 'match')} under the Audit-ID of another "
            "act, alerted all the same: a client can choose it"
        )
    for name, text in (
        ("late", "late       {} came after their runs and were alerted in the next"),
        ("unplaced", "unplaced   {} had no time that the rule's windows read"),
        ("outside", "outside    {} outside --since/--until, counted back from the log's end"),
    ):
        if total(name):
            yield text.format(_count(total(name), "match"))
    if total("evicted"):
        yield (
            f"let go     {total('evicted'):,} keys or partial sequences: a rule holds "
            f"{MOST_LIVE:,} at most, and {MOST_COMBINATIONS:,} of several arrays of one event; it "
            "may have missed what hangs on others"
        )
    if counts.tally.cuts:
        yield (
            f"cut        {_count(counts.tally.cuts, 'time')} a condition saw only "
            f"{MOST_COMBINATIONS:,} combinations of an event's arrays: it may hold for another"
        )
    yield from _history_lines(reading, counts, settings)
    if counts.tally.outside:
        yield f"outside    {_count(counts.tally.outside, 'event')} outside --since/--until"
    if counts.tally.ahead:
        ahead = _count(counts.tally.ahead, "event") if counts.has_all_times else "events"
        yield f"ahead      {ahead} of a day or more from now: is a clock wrong?"
    if counts.tally.truncated:
        truncated = _count(counts.tally.truncated, "event")
        yield f"truncated  {truncated} without bodies: rules on bodies are blind to them"
    if counts.tally.untimed:
        untimed = _count(counts.tally.untimed, "event")
        yield f"untimed    {untimed} without a time, taken at the log's end"


def _history_lines(reading: Reading, counts: ScanCounts, settings: RuleSettings) -> Iterator[str]:
    if reading.past_events:
        past = _count(reading.past_events, "event")
        yield f"history    {past} of the past, which raise no alert"
    without = sum(
        each.rule.type == "new_terms" and found.matches > 0 and not found.history
        for each, found in zip(settings.runnable, counts.rules, strict=True)
    )
    if without:
        had = "new-terms rule had" if without == 1 else "new-terms rules had"
        yield (
            f"history    {without} {had} no past: what the first window holds is new to it; "
            "--history PATH gives older logs"
        )


def _rules_line(settings: RuleSettings) -> str:
    parts = [f"{len(settings.runnable)} ran"]
    for number, word in (
        (len(settings.unsupported), "unsupported"),
        (len(settings.invalid), "invalid"),
        (settings.disabled, "disabled"),
        (settings.too_low, "below the severity asked for"),
    ):
        if number:
            parts.append(f"{number} {word}")
    return "rules      " + ", ".join(parts)


def _more(listed: Sequence[object], hint: str) -> Iterator[str]:
    if len(listed) > _MOST_LISTED:
        yield f"    and {len(listed) - _MOST_LISTED} more" + (f"; {hint}" if hint else "")


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    if noun == "line or object":
        return f"{number:,} lines or objects"
    return f"{number:,} {noun}{'es' if noun.endswith('ch') else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
