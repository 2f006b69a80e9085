"""One scan: events in, alerts out, and an account of everything that did not become one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from barrelman.detection.blindness import blindness, unread_reason
from barrelman.detection.counts import RuleCounts
from barrelman.detection.finding import Raised
from barrelman.detection.judge import (
    EVERYTHING,
    Bound,
    Judge,
    RunnableRule,
    ScanOptions,
    Tally,
    patterns_of,
)
from barrelman.detection.match import Match, as_past
from barrelman.detection.replay import Replay
from barrelman.engine.blocks import Passed
from barrelman.engine.compile import Predicate, compile_query
from barrelman.engine.literals import Need, need_of
from barrelman.engine.sieve import Sieve, build_sieve
from barrelman.records.event import Event
from barrelman.records.fields import (
    AUDIT_CATALOGUE,
    AUDIT_STREAM,
    Catalogue,
)
from barrelman.records.indices import IndexPatterns
from barrelman.records.severities import SEVERITIES
from barrelman.rules.rule import Rule

if TYPE_CHECKING:
    from barrelman.detection.alert import Alert, AlertBuilder

__all__ = ["EVERYTHING", "Bound", "RunnableRule", "Scan", "ScanCounts", "ScanOptions", "needs_of"]


@dataclass
class ScanCounts:
    """Per rule in `rules`, in the order the rules were given."""

    tally: Tally
    has_all_times: bool = True
    """The time of each event was read, not only of some."""
    below: int = 0
    """Alerts below the least severity, not shown."""
    by_severity: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SEVERITIES, 0))
    rules: list[RuleCounts] = field(default_factory=list)

    @property
    def alerts(self) -> int:
        return sum(self.by_severity.values())


class Scan:
    """`now_us` stands in for the time of events where no event of the input has one.

    Feed it events, or give a `judge` of the same scan a part of the input each and take what
    they find in the input's order. `is_timed` False spares reading the time of events that no
    rule matches; where the log's end then decides about alerts, `wants_end` says so.
    """

    def __init__(
        self,
        rules: Sequence[RunnableRule],
        *,
        now_us: int,
        options: ScanOptions | None = None,
        catalogue: Catalogue = AUDIT_CATALOGUE,
        is_timed: bool = True,
    ) -> None:
        self._rules = rules
        self._options = options or ScanOptions()
        predicates = [compile_query(each.node, catalogue) for each in rules]
        self.judge = Judge(
            rules,
            predicates=predicates,
            options=self._options,
            now_us=now_us,
            is_timed=is_timed,
        )
        self._replay = Replay(
            self.judge.plans,
            memory_bytes=self._options.memory_bytes,
            folder=self._options.folder,
            ranged=self._options.is_relative,
        )
        self._predicates = predicates
        self.counts = ScanCounts(
            self.judge.tally, has_all_times=self.judge.is_timed, rules=self._replay.counts
        )

    @cached_property
    def _builders(self) -> list[AlertBuilder]:
        """Made with the first alert: a scan that finds none does not load what builds them."""
        from barrelman.detection.alert import AlertBuilder

        return [
            AlertBuilder(
                each.rule,
                predicate,
                redacted=self._options.redacted,
                enrich=None if each.indicators is None else each.indicators.enrichments,
            )
            for each, predicate in zip(self._rules, self._predicates, strict=True)
        ]

    @property
    def now_us(self) -> int:
        return self.judge.now_us

    @now_us.setter
    def now_us(self, instant_us: int) -> None:
        self.judge.now_us = instant_us

    @property
    def tally(self) -> Tally:
        """What was fed and taken so far."""
        return self.judge.tally

    @property
    def wants_end(self) -> bool:
        """Whether an alert's run hangs on the log's end, and that is not known exactly."""
        return self._replay.has_untimed and not self.judge.is_timed

    def feed(self, event: Event) -> None:
        """Judges one event; what it sets off comes out of `advance` or `finish`."""
        for match in self.judge.feed(event):
            self._replay.take(match)

    def pass_over(self, passed: Passed) -> None:
        """Counts events that no rule can match."""
        self.judge.pass_over(passed)

    def take(self, matches: Iterable[Match], tally: Tally) -> None:
        """What another judge found in the next part of the input."""
        for match in matches:
            self._replay.take(match)
        self.tally.add(tally)

    @property
    def history_rules(self) -> list[int]:
        """Numbers of the rules whose runs look back at events that happened before."""
        plans = self.judge.plans
        return [
            number
            for number, plan in enumerate(plans)
            if plan.operation is not None and plan.operation.takes_history
        ]

    def history(self) -> History:
        """What takes the events of the past; to be fed before anything else."""
        return History(self, self._replay, self._rules, self._predicates)

    def advance(self, watermark_us: int) -> Iterator[Alert]:
        """Alerts of the runs that are over when every event up to then has been fed.

        None with a range that counts back from the log's end: the end is not known yet.
        """
        if not self._options.is_relative:
            yield from self._shown(self._replay.advance(watermark_us // 1000))

    def finish(self) -> Iterator[Alert]:
        """All alerts not given yet. Nothing may be fed afterwards."""
        self.judge.note_cuts()
        # A log that lies in the future as a whole ends where it ends.
        ends = (self.tally.end_us, self.tally.furthest_us, self.now_us)
        log_end_us = next(end for end in ends if end is not None)
        bounds = None
        if self._options.is_relative:
            bounds = (
                self._options.since.resolve_us(log_end_us),
                self._options.until.resolve_us(log_end_us),
            )
        yield from self._shown(self._replay.finish(log_end_us=log_end_us, bounds_us=bounds))

    def blind(self) -> list[tuple[Rule, str]]:
        """Rules that could not fire on the events fed, each with the reason."""
        found = []
        for number, each in enumerate(self._rules):
            reason: str | None
            if self.counts.rules[number].raised:
                continue
            if self.judge.unread(number):
                reason = unread_reason(each.rule, self.tally)
            else:
                reason = blindness(each, self.tally)
            if reason is not None:
                found.append((each.rule, reason))
        return found

    # --- inside ---

    def _shown(self, raised: Iterator[Raised]) -> Iterator[Alert]:
        least = SEVERITIES.index(self._options.least_severity)
        for each in raised:
            alerts = self._builders[each.rule].build_all(each)
            alert = alerts[-1]
            if SEVERITIES.index(alert.severity) < least:
                self.counts.below += each.is_new
                continue
            self.counts.by_severity[alert.severity] += each.is_new
            self.counts.rules[each.rule].alerts += each.is_new
            yield from alerts


class History:
    """Takes events of the past as a scan takes its own: rules remember them, and alert on none."""

    def __init__(
        self,
        scan: Scan,
        replay: Replay,
        rules: Sequence[RunnableRule],
        predicates: Sequence[Predicate],
    ) -> None:
        self._numbers = scan.history_rules
        self._replay = replay
        self.rules = [rules[number] for number in self._numbers]
        self.judge = Judge(
            self.rules,
            predicates=[predicates[number] for number in self._numbers],
            options=ScanOptions(),
            now_us=scan.now_us,
            is_timed=True,
        )
        self.now_us = scan.now_us

    @property
    def tally(self) -> Tally:
        return self.judge.tally

    def feed(self, event: Event) -> None:
        """An event of the past."""
        self._remember(self.judge.feed(event))

    def pass_over(self, passed: Passed) -> None:
        """Counts events that no rule can match."""
        self.judge.pass_over(passed)

    def take(self, matches: Iterable[Match], tally: Tally) -> None:
        """What another judge found in a part of the past."""
        self._remember(matches)
        self.tally.add(tally)

    def _remember(self, matches: Iterable[Match]) -> None:
        for match in matches:
            self._replay.take(as_past((self._numbers[match[0]], *match[1:])))


def needs_of(rules: Sequence[RunnableRule], catalogue: Catalogue = AUDIT_CATALOGUE) -> list[Need]:
    """What each rule needs a line to hold: nothing can where it reads no raw audit events."""
    return [
        need_of(each.node, catalogue)
        if IndexPatterns(patterns_of(each.rule)).read(AUDIT_STREAM)
        else Need(None)
        for each in rules
    ]


def sieve_of(rules: Sequence[RunnableRule], *, sample: bytes = b"") -> Sieve | None:
    """The sieve of a scan with these rules; None where one of them can match any line.

    With a `sample` of the log it is made for what is rare there.
    """
    return build_sieve(needs_of(rules), sample=sample)
