"""The rules that watch at one time, compiled together: what a service judges events by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from barrelman.detection.alert import AlertBuilder
from barrelman.detection.judge import RunnableRule, patterns_of
from barrelman.detection.match import Operation, Retest, RulePlan
from barrelman.detection.scan import sieve_of
from barrelman.detection.schedule import Schedule
from barrelman.detection.source import is_own_descendant
from barrelman.engine.compile import Predicate, compile_query
from barrelman.engine.ruleset import RuleSet
from barrelman.engine.sieve import Sieve
from barrelman.query.eqltree import EventFilter
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, AUDIT_STREAM
from barrelman.records.indices import IndexPatterns, data_stream
from barrelman.rules.rule import Rule

if TYPE_CHECKING:
    from barrelman.detection.runs import Runs


class Watcher:
    """One rule on watch."""

    def __init__(self, runnable: RunnableRule, *, most_signals: int | None = None) -> None:
        rule = runnable.rule
        self.runnable = runnable
        self.rule: Rule = rule
        self.uuid = rule.uuid
        self._builder: tuple[bool, AlertBuilder] | None = None
        self.predicate: Predicate = compile_query(runnable.node, AUDIT_CATALOGUE)
        self.schedule = Schedule(interval_ms=rule.interval_ms, from_=rule.from_, to=rule.to)
        self.cap = rule.effective_max_signals
        if most_signals is not None:
            self.cap = min(self.cap, most_signals)
        self.plan = self.plan_over(self.schedule)
        """How the rule runs on its ticks."""

    @property
    def uses_now(self) -> bool:
        """Whether the rule's answer depends on the run's time: only runs can ask it."""
        return self.predicate.uses_now

    @property
    def operation(self) -> Operation | None:
        """None: each match is an alert of its own."""
        return self.plan.operation

    @property
    def duration_ms(self) -> int | None:
        """For how long an alert takes in repeats; None: those of its own run."""
        suppression = self.rule.alert_suppression
        return None if suppression is None else suppression.duration_ms

    @cached_property
    def is_live(self) -> bool:
        """Whether an event is an alert whatever else happens: then it is one when it arrives."""
        rule = self.rule
        if self.uses_now or rule.alert_suppression is not None:
            return False
        if rule.eql is not None:
            return isinstance(rule.eql.top, EventFilter) and not rule.eql.pipes
        return self.operation is None or rule.type == "threat_match"

    def meets_alone(self, event: Event, now_ms: int) -> bool:
        """Of an event that the predicate lets through to a live rule: whether it is an alert."""
        return self.operation is None or self.operation.operand(event, now_ms) is not None

    def plan_over(self, runs: Runs) -> RulePlan:
        """How the rule runs where its runs are these: what they read goes by arrival.

        Its operator folds the repeats of one run. Those of several are folded by whoever knows
        the alerts and what became of them.
        """
        rule, predicate = self.rule, self.predicate
        operation = None
        if rule.type not in ("query", "saved_query") or rule.alert_suppression is not None:
            from barrelman.detection.operators import operation_of  # most rules need none

            operation = operation_of(
                _within_runs(rule), cap=self.cap, runs=runs, indicators=self.runnable.indicators
            )
        return RulePlan(
            rule_id=rule.rule_id,
            schedule=self.schedule,
            cap=self.cap,
            place=_arrival_us,
            retest=_retest(predicate) if predicate.uses_now else None,
            operation=operation,
        )

    def builder(self, *, redacts: bool = True) -> AlertBuilder:
        """What builds the rule's alerts; made once."""
        if self._builder is None or self._builder[0] != redacts:
            self._builder = redacts, self._made_builder(self.rule, redacts=redacts)
        return self._builder[1]

    def builder_as(self, uuid: str) -> AlertBuilder:
        """One whose alerts are those of a rule that has this id."""
        return self._made_builder(replace(self.rule, id=uuid), redacts=True)

    def _made_builder(self, rule: Rule, *, redacts: bool) -> AlertBuilder:
        indicators = self.runnable.indicators
        enrich = None if indicators is None else indicators.enrichments
        return AlertBuilder(rule, self.predicate, redacted=redacts, enrich=enrich)

    def window_ms(self, tick_ms: int) -> tuple[int, int]:
        """The first and the last millisecond that a run at `tick_ms` reads, both included."""
        rule = self.rule
        return rule.from_.resolve_ms(tick_ms), rule.to.resolve_ms(tick_ms, round_up=True)

    def ticks(self, instant_ms: int) -> range:
        """The times, in milliseconds, of the runs that read what arrived then."""
        first, last = self.schedule.ticks(instant_ms)
        step = self.schedule.interval_ms
        return range(first * step, last * step + 1, step)


def _within_runs(rule: Rule) -> Rule:
    suppression = rule.alert_suppression
    if suppression is None or suppression.duration_ms is None:
        return rule
    return replace(rule, alert_suppression=replace(suppression, duration_ms=None))


def _arrival_us(event: Event) -> int | None:
    return event.ingested_us


def _retest(predicate: Predicate) -> Retest:
    return lambda event, now_ms: predicate.matches(event, now_ms=now_ms)


class Lineup:
    """Frozen: a change of rules makes another one. Rules are known by their place in it."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = tuple(watchers)
        self.number_of = {each.uuid: number for number, each in enumerate(self.watchers)}
        self._ruleset = RuleSet(
            [each.predicate for each in self.watchers],
            [IndexPatterns(patterns_of(each.rule)) for each in self.watchers],
        )
        self._parts: dict[frozenset[int], tuple[Lineup, tuple[int, ...]]] = {}

    @cached_property
    def sieve(self) -> Sieve | None:
        """None where one of the rules can match any line."""
        return sieve_of([each.runnable for each in self.watchers]) if self.watchers else None

    def matches(self, event: Event) -> list[int]:
        """Numbers of the rules that an event meets, in order.

        Among them are those whose answer depends on the time: the caller asks them again.
        """
        stream: str | None = AUDIT_STREAM
        if event.is_document:
            stream = data_stream(event)
            numbers = self._ruleset.matches(event, stream=stream)
            return [n for n in numbers if not is_own_descendant(event, self.watchers[n].rule)]
        return self._ruleset.matches(event, stream=stream)

    def part(self, numbers: Collection[int]) -> tuple[Lineup, tuple[int, ...]]:
        """A lineup of some of the rules, and the number that each has in this one."""
        wanted = frozenset(numbers)
        if len(wanted) == len(self.watchers):
            return self, tuple(range(len(self.watchers)))
        known = self._parts.get(wanted)
        if known is None:
            chosen = tuple(sorted(wanted))
            known = Lineup([self.watchers[number] for number in chosen]), chosen
            if len(self._parts) < 64:
                self._parts[wanted] = known
        return known
