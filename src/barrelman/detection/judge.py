"""What is settled event by event: which rules match, and an account of what was looked at.

A judge needs no event but the one before it, so that any number of them may work side by side on
parts of one input; `Tally`s are then added up, and the matches taken in the input's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from barrelman.detection.match import (
    Match,
    Operation,
    Place,
    Retest,
    RulePlan,
    as_past,
    match_of,
)
from barrelman.detection.schedule import Schedule
from barrelman.detection.spill import DEFAULT_MEMORY_BYTES
from barrelman.engine.blocks import BODIES, Passed
from barrelman.engine.compile import Predicate
from barrelman.engine.places import Scope, Shape, read_values
from barrelman.engine.reading import CUTS
from barrelman.engine.ruleset import MOST_STREAMS, RuleSet, Screen
from barrelman.query.ast import MATCH_ALL, Node
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import (
    AUDIT_CATALOGUE,
    AUDIT_STREAM,
    TRUNCATED_ANNOTATION,
    absence_in_raw_events,
    event_time_us,
)
from barrelman.records.frozen import frozen
from barrelman.records.indices import IndexPatterns, data_stream
from barrelman.records.severities import SEVERITIES
from barrelman.records.times import parse_instant_us
from barrelman.rules.assign import rule_predicate
from barrelman.rules.filters import all_of
from barrelman.rules.rule import Rule

if TYPE_CHECKING:
    from pathlib import Path

    from barrelman.engine.indicators import Indicators

_AHEAD_US: Final = 86_400_000_000


@frozen
class RunnableRule:
    """A rule to run, and its whole predicate: query, filters and exceptions.

    An indicator match rule comes with its indicators.
    """

    rule: Rule
    node: Node
    indicators: Indicators | None = None


@frozen
class Bound:
    """One end of the range of events to look at: an instant, or a distance from the log's end."""

    instant_us: int | None = None
    back_us: int | None = None

    def resolve_us(self, log_end_us: int) -> int | None:
        return log_end_us - self.back_us if self.back_us is not None else self.instant_us


EVERYTHING: Final = Bound()


def runnable_rule(
    rule: Rule,
    *,
    exceptions: Node | None = None,
    documents: Iterable[tuple[str, str, JsonObject]] = (),
) -> RunnableRule:
    """A rule made ready. `documents` are those of its threat indices: index, id and content.

    Exceptions apply to indicators as well as to events.
    """
    node = rule_predicate(rule, exceptions=exceptions)
    if rule.type != "threat_match":
        return RunnableRule(rule, node)
    from barrelman.engine.indicators import INDICATOR_PATH, Indicator, compile_indicators

    indicators = compile_indicators(
        (Indicator(*each) for each in documents),
        rule.threat_mapping,
        catalogue=AUDIT_CATALOGUE,
        query=MATCH_ALL if rule.threat_ast is None else rule.threat_ast,
        exceptions=exceptions,
        indicator_path=rule.threat_indicator_path or INDICATOR_PATH,
    )
    return RunnableRule(rule, all_of([node, indicators.node]), indicators)


@frozen
class ScanOptions:
    """`max_signals`: None takes each rule's own cap, 0 means no cap at all."""

    since: Bound = EVERYTHING
    until: Bound = EVERYTHING
    max_signals: int | None = None
    least_severity: str = SEVERITIES[0]
    redacted: bool = True
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    folder: Path | None = None

    @property
    def is_relative(self) -> bool:
        """Whether the range counts back from the log's end."""
        return self.since.back_us is not None or self.until.back_us is not None

    @property
    def has_range(self) -> bool:
        return (self.since, self.until) != (EVERYTHING, EVERYTHING)


@dataclass
class Tally:
    """What a stretch of the input held. Times are of the events whose time was read."""

    events: int = 0
    raw_events: int = 0
    outside: int = 0
    """Events outside --since/--until, not judged."""
    untimed: int = 0
    ahead: int = 0
    """Events from a day or more after the scan's own time."""
    truncated: int = 0
    """Events whose bodies the API server cut off: rules on bodies could not judge them."""
    cuts: int = 0
    """How often a condition was asked of some combinations of an event's arrays alone."""
    bodies: set[str] = field(default_factory=set)
    """Which of BODIES an event carried."""
    streams: set[str | None] = field(default_factory=set)
    """Data streams of the events; None: one did not say. Of very many the first ones."""
    start_us: int | None = None
    end_us: int | None = None
    """The latest time of an event that is not ahead."""
    last_us: int | None = None
    """The time of the last event that is not ahead."""
    furthest_us: int | None = None

    def add(self, later: Tally) -> None:
        """Adds what came behind it."""
        added = ("events", "raw_events", "outside", "untimed", "ahead", "truncated", "cuts")
        for name in added:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.bodies |= later.bodies
        for stream in later.streams:
            self.note_stream(stream)
        self.start_us = _least(self.start_us, later.start_us)
        self.end_us = _most(self.end_us, later.end_us)
        self.furthest_us = _most(self.furthest_us, later.furthest_us)
        self.last_us = self.last_us if later.last_us is None else later.last_us

    def note_stream(self, stream: str | None) -> None:
        """An event's data stream. A real input names a handful; of one that names a new one in each
        event the first are kept."""
        if len(self.streams) < MOST_STREAMS:
            self.streams.add(stream)

    def set_times(self, exact: Tally) -> None:
        """Takes over the times of an account of the same input that knows them all."""
        for name in ("untimed", "ahead", "start_us", "end_us", "last_us", "furthest_us"):
            setattr(self, name, getattr(exact, name))

    def packed(self) -> tuple[Any, ...]:
        """As plain values, for another process."""
        return tuple(self.__dict__.values())

    def note_time(self, instant_us: int | None, now_us: int, *, step: int = 1) -> None:
        """The time of one more event; of one less (-1), or of one counted elsewhere (0)."""
        if instant_us is None:
            self.untimed += step
            return
        self.start_us = _least(self.start_us, instant_us)
        self.furthest_us = _most(self.furthest_us, instant_us)
        if instant_us - now_us > _AHEAD_US:
            self.ahead = self.ahead + step if step else max(self.ahead, 1)
            return
        self.last_us = instant_us
        self.end_us = _most(self.end_us, instant_us)


class Judge:
    """`is_timed`: each event's time is read; else that of those that match, and of a few others.

    `now_us`, which the caller of a long scan moves on, tells events that lie ahead of it.
    """

    def __init__(
        self,
        rules: Sequence[RunnableRule],
        *,
        predicates: Sequence[Predicate],
        options: ScanOptions,
        now_us: int,
        is_timed: bool,
    ) -> None:
        self.now_us = now_us
        self.tally = Tally()
        self.plans = [
            _plan(each, predicate, options.max_signals)
            for each, predicate in zip(rules, predicates, strict=True)
        ]
        self._looking_back = frozenset(
            number
            for number, plan in enumerate(self.plans)
            if plan.operation is not None and plan.operation.takes_history
        )
        self.is_timed = is_timed or options.has_range
        self._rules = rules
        self._ruleset = RuleSet(
            predicates, [IndexPatterns(patterns_of(each.rule)) for each in rules]
        )
        self._has_fixed_range = options.has_range and not options.is_relative
        self._since_us = options.since.instant_us
        self._until_us = options.until.instant_us

    def feed(self, event: Event) -> list[Match]:
        """Judges the next event."""
        tally = self.tally
        instant_us: int | None = None
        if self.is_timed:
            instant_us = event_time_us(event)
            if self._has_fixed_range and not self._in_range(instant_us):
                tally.outside += 1
                return self._past(event, instant_us)
            tally.note_time(instant_us, self.now_us)
        tally.events += 1
        stream: str | None = AUDIT_STREAM
        if event.is_document:
            stream = data_stream(event)
        else:
            self._note_raw(event)
        if stream not in tally.streams:
            tally.note_stream(stream)
        numbers = self._ruleset.matches(event, stream=stream)
        matches: list[Match] = []
        if not numbers:
            return matches
        for number in numbers:
            rule = self._rules[number].rule
            if event.is_document and _is_own_descendant(event, rule):
                continue
            match = match_of(number, self.plans[number], event)
            if match is not None:
                matches.append(match)
        if matches and not self.is_timed:
            tally.note_time(matches[0][2], self.now_us)  # the event's own time
        return matches

    def _past(self, event: Event, instant_us: int | None) -> list[Match]:
        """What rules that look back remember of an event before the range."""
        if not self._looking_back or instant_us is None or instant_us >= (self._since_us or 0):
            return []
        stream = data_stream(event) if event.is_document else AUDIT_STREAM
        found: list[Match] = []
        for number in self._ruleset.matches(event, stream=stream):
            if number in self._looking_back:
                match = match_of(number, self.plans[number], event)
                found += [] if match is None else [as_past(match)]
        return found

    def note_cuts(self) -> None:
        """Takes over what conditions could not ask, so far."""
        self.tally.cuts += CUTS.take()

    def screen(self) -> Screen | None:
        """Of decoded raw events, which a reader may pass over like those not decoded."""
        return None if self.is_timed else self._ruleset.screen(AUDIT_STREAM)

    def pass_over(self, passed: Passed) -> None:
        """Counts events that no rule can match."""
        tally = self.tally
        tally.bodies.update(passed.bodies)
        events = passed.events
        step = -1 if events < 0 else 1
        for instant_us in passed.times_us:
            if self._has_fixed_range and not self._in_range(instant_us):
                tally.outside += step
                events -= step
            else:
                tally.note_time(instant_us, self.now_us, step=step)
        for instant_us in passed.seen_us:
            tally.note_time(instant_us, self.now_us, step=0)
        tally.events += events
        tally.raw_events += events
        # In a timed account one without a time taken over turned out to be torn.
        if events > 0 and (passed.times_us or not self.is_timed):
            tally.note_stream(AUDIT_STREAM)

    def unread(self, number: int) -> bool:
        """Whether no data stream in the tally is one that this rule reads."""
        return self._ruleset.unread(number, self.tally.streams)

    def _in_range(self, instant_us: int | None) -> bool:
        if instant_us is None:
            return True
        since, until = self._since_us, self._until_us
        return (since is None or instant_us >= since) and (until is None or instant_us <= until)

    def _note_raw(self, event: Event) -> None:
        tally, body = self.tally, event.body
        tally.raw_events += 1
        annotations = body.get("annotations")
        if type(annotations) is dict and TRUNCATED_ANNOTATION in annotations:
            tally.truncated += annotations[TRUNCATED_ANNOTATION] == "true"
        if len(tally.bodies) < len(BODIES):
            tally.bodies.update(name for name in BODIES if name in body)


def patterns_of(rule: Rule) -> tuple[str, ...]:
    """A data view wins over index patterns; what it names is kept in Kibana, so it reads all."""
    return () if rule.data_view_id else rule.index or ()


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None or (other is not None and other < one) else one


def _most(one: int | None, other: int | None) -> int | None:
    return other if one is None or (other is not None and other > one) else one


def _plan(runnable: RunnableRule, predicate: Predicate, max_signals: int | None) -> RulePlan:
    rule = runnable.rule
    cap: int | None = rule.effective_max_signals
    if max_signals is not None:
        cap = max_signals or None
    schedule = Schedule(interval_ms=rule.interval_ms, from_=rule.from_, to=rule.to)
    return RulePlan(
        rule_id=rule.rule_id,
        schedule=schedule,
        cap=cap,
        place=_place(rule),
        retest=_retest(predicate) if predicate.uses_now else None,
        operation=_operation(runnable, cap, schedule),
    )


def _operation(runnable: RunnableRule, cap: int | None, runs: Schedule) -> Operation | None:
    rule = runnable.rule
    if rule.type in ("query", "saved_query") and rule.alert_suppression is None:
        return None  # most rules: what the others need is not loaded for them
    from barrelman.detection.operators import operation_of

    return operation_of(rule, cap=cap, runs=runs, indicators=runnable.indicators)


def _retest(predicate: Predicate) -> Retest:
    return lambda event, now_ms: predicate.matches(event, now_ms=now_ms)


def _place(rule: Rule) -> Place | None:
    """By `timestamp_override`, and by @timestamp where an event has none of that."""
    name = rule.timestamp_override
    if name is None or name == "@timestamp":
        return None
    readers = {shape: read_values(name, Scope(shape)) for shape in Shape}
    never_raw = absence_in_raw_events(name) is not None
    falls_back = not rule.timestamp_override_fallback_disabled

    def place(event: Event) -> int | None:
        if event.is_document or not never_raw:
            shape = Shape.DOCUMENT if event.is_document else Shape.RAW
            for value in readers[shape](event):
                instant_us = parse_instant_us(value)
                if instant_us is not None:
                    return instant_us
        return event_time_us(event) if falls_back else None

    return place


def _is_own_descendant(event: Event, rule: Rule) -> bool:
    from barrelman.detection.source import is_own_descendant  # loaded by documents alone

    return is_own_descendant(event, rule)
