"""One scan: events in, alerts out, and an account of everything that did not become one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from barrelman.detection.alert import Alert, AlertBuilder, is_own_descendant
from barrelman.detection.replay import Place, Raised, Replay, Retest, RuleCounts, RulePlan
from barrelman.detection.schedule import Schedule
from barrelman.detection.spill import DEFAULT_MEMORY_BYTES
from barrelman.engine.blind import impossible
from barrelman.engine.compile import Predicate, compile_query
from barrelman.engine.places import Scope, Shape, read_values
from barrelman.engine.ruleset import RuleSet
from barrelman.query.ast import Node
from barrelman.records.event import Event
from barrelman.records.fields import (
    AUDIT,
    AUDIT_CATALOGUE,
    Catalogue,
    absence_in_raw_events,
    event_time_us,
    unknown_audit_field,
)
from barrelman.records.indices import IndexPatterns
from barrelman.records.severities import SEVERITIES
from barrelman.records.times import parse_instant_us
from barrelman.rules.rule import Rule

_AHEAD_US: Final = 86_400_000_000
_TRUNCATED: Final = "audit.k8s.io/truncated"


@dataclass(frozen=True, slots=True)
class RunnableRule:
    """A rule to run, and its whole predicate: query, filters and exceptions."""

    rule: Rule
    node: Node


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of the range of events to look at: an instant, or a distance from the log's end."""

    instant_us: int | None = None
    back_us: int | None = None

    def resolve_us(self, log_end_us: int) -> int | None:
        return log_end_us - self.back_us if self.back_us is not None else self.instant_us


EVERYTHING: Final = Bound()


@dataclass(frozen=True)
class ScanOptions:
    """`max_signals`: None takes each rule's own cap, 0 means no cap at all."""

    since: Bound = EVERYTHING
    until: Bound = EVERYTHING
    max_signals: int | None = None
    least_severity: str = SEVERITIES[0]
    redacted: bool = True
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    folder: Path | None = None


@dataclass
class ScanCounts:
    """Per rule in `rules`, in the order the rules were given."""

    events: int = 0
    raw_events: int = 0
    outside: int = 0
    """Events outside --since/--until, not judged."""
    below: int = 0
    """Alerts below the least severity, not shown."""
    untimed: int = 0
    ahead: int = 0
    """Events from a day or more after the scan's own time."""
    truncated: int = 0
    """Events whose bodies the API server cut off: rules on bodies could not judge them."""
    by_severity: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SEVERITIES, 0))
    rules: list[RuleCounts] = field(default_factory=list)

    @property
    def alerts(self) -> int:
        return sum(self.by_severity.values())


class Scan:
    """`now_us` stands in for the time of events where no event of the input has one.

    `log_start_us` and `log_end_us` are the earliest and the latest time of an event fed so far,
    `last_us` that of the last one. An event a day or more ahead of `now_us`, which the caller of
    a long scan moves on, is judged like any other and is not taken for the log's end.
    """

    def __init__(
        self,
        rules: Sequence[RunnableRule],
        *,
        now_us: int,
        options: ScanOptions | None = None,
        catalogue: Catalogue = AUDIT_CATALOGUE,
    ) -> None:
        self._rules = rules
        self._options = options or ScanOptions()
        self.now_us = now_us
        predicates = [compile_query(each.node, catalogue) for each in rules]
        self._ruleset = RuleSet(predicates, [IndexPatterns(_patterns(each.rule)) for each in rules])
        since, until = self._options.since, self._options.until
        self._relative = since.back_us is not None or until.back_us is not None
        self._fixed = not self._relative and (since, until) != (EVERYTHING, EVERYTHING)
        self._replay = Replay(
            [
                _plan(each.rule, predicate, self._options.max_signals)
                for each, predicate in zip(rules, predicates, strict=True)
            ],
            memory_bytes=self._options.memory_bytes,
            folder=self._options.folder,
            ranged=self._relative,
        )
        self._builders = [
            AlertBuilder(each.rule, predicate, redacted=self._options.redacted)
            for each, predicate in zip(rules, predicates, strict=True)
        ]
        self.counts = ScanCounts(rules=self._replay.counts)
        self._bodies_seen: set[str] = set()
        self.log_start_us: int | None = None
        self.log_end_us: int | None = None
        self.last_us: int | None = None
        self._furthest_us: int | None = None

    def feed(self, event: Event) -> None:
        """Judges one event; what it sets off comes out of `advance` or `finish`."""
        counts = self.counts
        if self._fixed and not self._in_range(event):
            counts.outside += 1
            return
        counts.events += 1
        self._note(event)
        for number in self._ruleset.matches(event):
            self._add(number, event)
        for entry in self._ruleset.timed(event):
            self._add(entry.number, event)

    def advance(self, watermark_us: int) -> Iterator[Alert]:
        """Alerts of the runs that are over when every event up to then has been fed.

        None with a range that counts back from the log's end: the end is not known yet.
        """
        if not self._relative:
            yield from self._shown(self._replay.advance(watermark_us // 1000))

    def finish(self) -> Iterator[Alert]:
        """All alerts not given yet. Nothing may be fed afterwards."""
        # A log that lies in the future as a whole ends where it ends.
        ends = (self.log_end_us, self._furthest_us, self.now_us)
        log_end_us = next(end for end in ends if end is not None)
        bounds = None
        if self._relative:
            bounds = (
                self._options.since.resolve_us(log_end_us),
                self._options.until.resolve_us(log_end_us),
            )
        yield from self._shown(self._replay.finish(log_end_us=log_end_us, bounds_us=bounds))

    def blind(self) -> list[tuple[Rule, str]]:
        """Rules that could not fire on the events fed, each with the reason."""
        found = []
        for number, each in enumerate(self._rules):
            reason = self._blindness(number, each)
            if reason is not None and not self.counts.rules[number].matches:
                found.append((each.rule, reason))
        return found

    # --- inside ---

    def _add(self, number: int, event: Event) -> None:
        if not (event.is_document and is_own_descendant(event, self._rules[number].rule)):
            self._replay.add(number, event)

    def _shown(self, raised: Iterator[Raised]) -> Iterator[Alert]:
        least = SEVERITIES.index(self._options.least_severity)
        for each in raised:
            alert = self._builders[each.rule].build(each)
            if SEVERITIES.index(alert.severity) < least:
                self.counts.below += 1
                continue
            self.counts.by_severity[alert.severity] += 1
            self.counts.rules[each.rule].alerts += 1
            yield alert

    def _in_range(self, event: Event) -> bool:
        instant_us = event_time_us(event)
        if instant_us is None:
            return True
        since, until = self._options.since.instant_us, self._options.until.instant_us
        return (since is None or instant_us >= since) and (until is None or instant_us <= until)

    def _note(self, event: Event) -> None:
        """What the end of the scan will want to know: the range of times, the bodies seen."""
        body = event.body
        if not event.is_document:
            self.counts.raw_events += 1
            annotations = body.get("annotations")
            if type(annotations) is dict and annotations.get(_TRUNCATED) == "true":
                self.counts.truncated += 1
            if "requestObject" in body:
                self._bodies_seen.add("requestObject")
            if "responseObject" in body:
                self._bodies_seen.add("responseObject")
        instant_us = event_time_us(event)
        if instant_us is None:
            self.counts.untimed += 1
            return
        if self.log_start_us is None or instant_us < self.log_start_us:
            self.log_start_us = instant_us
        self._furthest_us = max(self._furthest_us or instant_us, instant_us)
        if instant_us - self.now_us > _AHEAD_US:
            self.counts.ahead += 1
            return
        self.last_us = instant_us
        if self.log_end_us is None or instant_us > self.log_end_us:
            self.log_end_us = instant_us

    def _blindness(self, number: int, each: RunnableRule) -> str | None:
        if self._ruleset.unread(number):
            patterns = ", ".join(_patterns(each.rule))
            streams = ", ".join(self._ruleset.streams())
            return f"it reads {patterns}, and the events here are in {streams}"
        if not self.counts.events or self.counts.raw_events < self.counts.events:
            return None
        return impossible(each.node, self._absence)

    def _absence(self, name: str) -> str | None:
        for body in ("requestObject", "responseObject"):
            whole = f"{AUDIT}.{body}"
            if body not in self._bodies_seen and (name == whole or name.startswith(f"{whole}.")):
                return f"no event here carries a {body} (audit level Metadata leaves it out)"
        return absence_in_raw_events(name) or unknown_audit_field(name)


def _patterns(rule: Rule) -> tuple[str, ...]:
    """A data view wins over index patterns; what it names is kept in Kibana, so it reads all."""
    return () if rule.data_view_id else rule.index or ()


def _plan(rule: Rule, predicate: Predicate, max_signals: int | None) -> RulePlan:
    cap: int | None = rule.effective_max_signals
    if max_signals is not None:
        cap = max_signals or None
    return RulePlan(
        rule_id=rule.rule_id,
        schedule=Schedule(interval_ms=rule.interval_ms, from_=rule.from_, to=rule.to),
        cap=cap,
        place=_place(rule),
        retest=_retest(predicate) if predicate.uses_now else None,
    )


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
