"""Which operator a rule runs with, by its type and whether it suppresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from barrelman.detection.finding import GroupValue, Operand, Operator
from barrelman.detection.match import Operation
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue
from barrelman.rules.rule import Rule

if TYPE_CHECKING:
    from barrelman.detection.runs import Runs
    from barrelman.engine.indicators import Indicators


def operation_of(
    rule: Rule,
    *,
    cap: int | None,
    runs: Runs,
    indicators: Indicators | None = None,
    catalogue: Catalogue = AUDIT_CATALOGUE,
) -> Operation | None:
    """None for a rule of which each match is an alert of its own.

    `cap`: the alerts that one run may raise; None: any number. `runs` say which of them read what.
    Indicators are for rules that match them.
    """
    made = _Made(rule, cap, runs, catalogue)
    match rule.type:
        case "query" | "saved_query":
            return None if rule.alert_suppression is None else made.suppressed_query()
        case "threshold":
            return made.threshold()
        case "new_terms":
            return made.new_terms()
        case "threat_match":
            assert indicators is not None, rule.name
            return made.threat_match(indicators)
        case "eql":
            return made.eql()
    raise AssertionError(rule.type)  # refused when it was loaded


class _Made:
    """The operations of one rule: whichever fits it."""

    def __init__(self, rule: Rule, cap: int | None, runs: Runs, catalogue: Catalogue) -> None:
        self.rule = rule
        self.cap = cap
        self.runs = runs
        self.catalogue = catalogue

    def suppressed_query(self) -> Operation:
        from barrelman.detection.composite import SuppressedQuery

        rule, suppression = self.rule, self.rule.alert_suppression
        assert suppression is not None
        return Operation(
            operand=_nothing,
            groups=self.groups(),
            make=lambda: SuppressedQuery(
                self.runs,
                suppression=suppression,
                rule_id=rule.rule_id,
                cap=self.cap,
                catalogue=self.catalogue,
            ),
        )

    def threshold(self) -> Operation:
        from barrelman.detection.threshold import ThresholdOperator, threshold_operand

        rule = self.rule
        return Operation(
            operand=_timeless(threshold_operand(rule, catalogue=self.catalogue)),
            groups=None,
            make=lambda: self.folded(
                lambda cap: ThresholdOperator(
                    rule, runs=self.runs, cap=cap, catalogue=self.catalogue
                ),
                candidates=self.cap,
            ),
            needs_event=False,
        )

    def new_terms(self) -> Operation:
        from barrelman.detection.newterms import (
            NewTermsOperator,
            SeenTerms,
            newterms_operand,
        )

        rule = self.rule
        return Operation(
            operand=_timeless(newterms_operand(rule, catalogue=self.catalogue)),
            groups=self.groups(),
            make=lambda: self.folded(
                lambda cap: NewTermsOperator(
                    rule, runs=self.runs, cap=cap, catalogue=self.catalogue
                )
            ),
            takes_history=True,
            takes_unplaced=True,
            names_acts=True,
            sparing=lambda: SeenTerms(rule, runs=self.runs).needs_event,
        )

    def threat_match(self, indicators: Indicators) -> Operation:
        from barrelman.detection.newest import Newest

        oldest_first = self.rule.alert_suppression is not None

        def operand(event: Event, now_ms: int) -> Operand | None:
            return () if indicators.matches(event, now_ms) else None

        return Operation(
            operand=operand,
            groups=self.groups(),
            make=lambda: self.folded(
                lambda cap: Newest(self.runs, cap=cap, oldest_first=oldest_first)
            ),
            uses_now=indicators.uses_now,
        )

    def eql(self) -> Operation:
        from barrelman.detection.eqlruns import eql_operand, eql_operator
        from barrelman.query.eqltree import EventFilter

        rule = self.rule
        assert rule.eql is not None
        is_event = isinstance(rule.eql.top, EventFilter)
        return Operation(
            operand=eql_operand(rule, catalogue=self.catalogue),
            groups=self.groups() if is_event else None,
            names_acts=not is_event,
            make=lambda: self.folded(
                lambda cap: eql_operator(rule, runs=self.runs, cap=cap),
            ),
        )

    def groups(self) -> Callable[[Event], tuple[GroupValue, ...] | None] | None:
        from barrelman.detection.groups import group_reader

        return group_reader(self.rule, catalogue=self.catalogue)

    def folded(
        self, make: Callable[[int | None], Operator], *, candidates: int | None = None
    ) -> Operator:
        """The operator for a cap; where the rule suppresses, within what folds its findings.

        `candidates`: how many of them are looked at in a run, where that is less than usual.
        """
        suppression = self.rule.alert_suppression
        if suppression is None:
            return make(self.cap)
        from barrelman.detection.suppression import Suppressor, candidate_cap

        return Suppressor(
            make(candidate_cap(self.cap) if candidates is None else candidates),
            suppression=suppression,
            rule_id=self.rule.rule_id,
            cap=self.cap,
            catalogue=self.catalogue,
        )


def _nothing(event: Event, now_ms: int) -> Operand | None:
    return ()


def _timeless(read: Callable[[Event], Operand | None]) -> Callable[[Event, int], Operand | None]:
    return lambda event, now_ms: read(event)
