"""EQL text, in Elasticsearch's dialect, to a query.

Recursive descent over tokens, in linear time. Here stands what a query is as a whole; conditions
are read by `eqlconditions`.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import NoReturn

from barrelman.query.eqlconditions import Conditions
from barrelman.query.eqlcursor import Cursor
from barrelman.query.eqllex import RESERVED, Token, fail
from barrelman.query.eqltree import (
    EqlQuery,
    EventFilter,
    FieldUse,
    Pipe,
    Sample,
    Sequence,
    Stage,
    Top,
)
from barrelman.records.frozen import frozen

MAX_RUNS = 100
"""How often a stage may repeat, and how many stages a sequence has in all."""

MAX_KEYS = 32

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST_MS = 10 * 365 * 86_400_000
_OTHER_PIPES = ("count", "filter", "sort", "unique", "unique_count")


def parse_eql(text: str) -> EqlQuery:
    """The query. Raises QuerySyntaxError, also for what Elasticsearch itself does not run."""
    return _Parser(text).query()


@frozen
class _Step:
    """A stage before its number of runs is known to fit: `keys` are its own alone."""

    filter: EventFilter
    keys: tuple[FieldUse, ...]
    is_missing: bool
    runs: int
    start: int


class _Parser:
    def __init__(self, text: str) -> None:
        self.cursor = Cursor(text)
        self.conditions = Conditions(self.cursor)

    def query(self) -> EqlQuery:
        if len(self.cursor.tokens) == 1:
            self.cursor.fail(self.cursor.token, "the query is empty", "write: any where true")
        top = self.top()
        pipes = []
        while bar := self.cursor.take_symbol("|"):
            if isinstance(top, Sample):
                self.cursor.fail(bar, "a sample takes no pipes")
            pipes.append(self.pipe(bar))
        if self.cursor.token.kind != "end":
            self.cursor.leftover()
        return EqlQuery(top, tuple(pipes), tuple(self.conditions.fields.values()))

    def top(self) -> Top:
        start = self.cursor.token
        if self.cursor.take_word("join"):
            hint = "write a sequence, or a sample for events in any order"
            self.cursor.fail(start, "Elasticsearch does not run `join`", hint)
        if self.cursor.take_word("sequence"):
            return self.sequence(start)
        if self.cursor.take_word("sample"):
            return self.sample(start)
        return self.event_filter()

    def pipe(self, bar: Token) -> Pipe:
        name = self.cursor.take()
        if name.is_word(*_OTHER_PIPES):
            message = f"Elasticsearch does not run the pipe {name.value}"
            self.cursor.fail(name, message, "it has head and tail")
        if name.is_symbol("|"):
            self.cursor.fail(bar, "`||` is not an operator of EQL", "write `or`")
        if not name.is_word("head", "tail"):
            self.cursor.fail(name, "a pipe is head or tail", "as in | head 10")
        count = self.cursor.take()
        if count.kind != "number" or not isinstance(count.value, int) or count.value < 1:
            hint = f"as in | {name.value} 10"
            self.cursor.fail(count, f"{name.value} needs a whole number above 0", hint)
        return Pipe("head" if name.value == "head" else "tail", count.value)

    def event_filter(self) -> EventFilter:
        token = self.cursor.take()
        category: str | None = None
        if token.kind == "text" or (token.kind == "word" and token.value not in RESERVED):
            category = str(token.value)
        elif not token.is_word("any"):
            if self.cursor.token.is_word("where"):
                hint = f'quote it: "{token.value}" where …'
                self.cursor.fail(token, "this cannot be an event category as it stands", hint)
            self.cursor.position -= token.kind != "end"
            self.cursor.missing("an event category or `any`", after="")
        self.cursor.expect_word("where", after="an event category")
        return EventFilter(category, self.conditions.condition())

    # --- sequences and samples ---

    def sequence(self, start: Token) -> Sequence:
        keys = self.keys()
        maxspan_ms = self.maxspan()
        if self.cursor.token.is_word("by"):
            hint = "sequence by key with maxspan=1m"
            self.cursor.fail(self.cursor.token, "`by` stands before `with maxspan`", hint)
        steps = self.steps(start, keys)
        until = None
        if word := self.cursor.take_word("until"):
            if not self.cursor.token.is_symbol("[", "!["):
                self.cursor.missing("`[`", after="`until`")
            until = self.step()
            self.check_until(until, word)
            self.check_counts([*steps, until])
        self.check_runs(steps, start)
        if maxspan_ms is None:
            self.check_span(steps)
        last = None if until is None else Stage(until.filter, (*keys, *until.keys))
        return Sequence(tuple(_stage(step, keys) for step in steps), maxspan_ms, last)

    def sample(self, start: Token) -> Sample:
        keys = self.keys()
        steps = self.steps(start, keys)
        for step in steps:
            if step.is_missing:
                self.fail(step, "a sample knows no missing events")
            if step.runs > 1:
                self.fail(step, "a sample knows no runs", "write the filter again")
        if word := self.cursor.take_word("until"):
            self.cursor.fail(word, "a sample knows no `until`: its events are in no order")
        if not keys and not steps[0].keys:
            hint = "as in sample by user.name [ … ] [ … ]"
            self.cursor.fail(start, "a sample needs a key to join by", hint)
        if len(steps) < 2:
            self.cursor.fail(start, "a sample needs two filters at least")
        return Sample(tuple(_stage(step, keys) for step in steps))

    def steps(self, start: Token, keys: tuple[FieldUse, ...]) -> list[_Step]:
        """One or more; all join by the same number of fields."""
        steps = []
        while self.cursor.token.is_symbol("[", "!["):
            steps.append(self.step())
        if not steps:
            self.cursor.missing("a filter in square brackets", after=f"`{start.value}`")
        if sum(step.runs for step in steps) > MAX_RUNS:
            self.cursor.fail(start, f"more than {MAX_RUNS} events, runs counted", "split the query")
        self.check_counts(steps)
        if len(keys) + len(steps[0].keys) > MAX_KEYS:
            self.cursor.fail(start, f"more than {MAX_KEYS} fields to join by")
        return steps

    def step(self) -> _Step:
        opener = self.cursor.open()
        event_filter = self.event_filter()
        self.cursor.close(opener)
        keys = self.keys()
        runs = self.runs()
        if not keys:
            keys = self.keys()
        is_missing = opener.value == "!["
        if is_missing and runs is not None:
            hint = "no such event is as good as no two of them"
            self.cursor.fail(opener, "missing events have no runs", hint)
        return _Step(event_filter, keys, is_missing, runs or 1, opener.span[0])

    def keys(self) -> tuple[FieldUse, ...]:
        if not self.cursor.take_word("by"):
            return ()
        keys = [self.key()]
        while self.cursor.take_symbol(","):
            keys.append(self.key())
        return tuple(keys)

    def key(self) -> FieldUse:
        token = self.cursor.token
        if token.kind in ("text", "number") or self.conditions.starts_call():
            self.cursor.fail(token, "only fields join events", "name a field")
        return self.conditions.field_name(after="`by`")

    def maxspan(self) -> int | None:
        if not self.cursor.take_word("with"):
            return None
        name = self.cursor.take()
        if not name.is_word("maxspan"):
            self.cursor.fail(name, "a sequence takes `with maxspan`", "as in with maxspan=1m")
        self.cursor.expect_symbol("=", after="`maxspan`")
        count = self.cursor.take()
        if count.kind != "number":
            self.cursor.fail(count, "maxspan needs a number and its unit", "as in maxspan=1m")
        if not isinstance(count.value, int):
            self.cursor.fail(count, "maxspan is a whole number of its unit", "take a smaller unit")
        unit = self.cursor.take()
        unit_ms = _UNIT_MS.get(str(unit.value)) if unit.kind == "word" else None
        if unit_ms is None:
            hint = f"the units are {', '.join(_UNIT_MS)}, as in maxspan=1m"
            where = unit if unit.kind == "word" else count
            self.cursor.fail(where, "maxspan has no unit that is known", hint)
        maxspan_ms = count.value * unit_ms
        if not 0 < maxspan_ms <= _LONGEST_MS:
            self.cursor.fail(count, "maxspan is above 0 and at most ten years")
        return maxspan_ms

    def runs(self) -> int | None:
        if not self.cursor.take_word("with"):
            return None
        name = self.cursor.take()
        if not name.is_word("runs"):
            hint = "as in with runs=3"
            if name.is_word("maxspan"):
                hint = "`with maxspan` stands before the first filter"
            self.cursor.fail(name, "behind a filter stands `with runs`", hint)
        self.cursor.expect_symbol("=", after="`runs`")
        count = self.cursor.take()
        if count.kind != "number" or not isinstance(count.value, int):
            self.cursor.fail(count, "runs needs a whole number", "as in with runs=3")
        if not 1 <= count.value <= MAX_RUNS:
            self.cursor.fail(count, f"runs is a number from 1 to {MAX_RUNS}")
        return count.value

    def check_counts(self, steps: Several[_Step]) -> None:
        wanted = len(steps[0].keys)
        for step in steps:
            if len(step.keys) != wanted:
                message = (
                    f"this filter joins by {len(step.keys)} of its own fields, and the first one "
                    f"by {wanted}"
                )
                hint = "all filters, `until` too, join by the same number of fields"
                self.fail(step, message, hint)

    def check_until(self, until: _Step, word: Token) -> None:
        if until.is_missing:
            self.cursor.fail(word, "`until` waits for an event: `![` cannot follow it")
        if until.runs > 1:
            self.cursor.fail(word, "`until` takes no runs: the first event ends the sequence")

    def check_runs(self, steps: Several[_Step], start: Token) -> None:
        if sum(step.runs for step in steps) < 2:
            self.cursor.fail(start, "a sequence needs two filters at least", "or one `with runs=2`")
        if all(step.is_missing for step in steps):
            self.cursor.fail(start, "a sequence needs one filter at least that is not `![`")

    def check_span(self, steps: Several[_Step]) -> None:
        for step in steps:
            if step.is_missing:
                hint = "write it before the first filter: with maxspan=1m"
                self.fail(step, "missing events need a maxspan", hint)

    def fail(self, step: _Step, message: str, hint: str | None = None) -> NoReturn:
        fail(self.cursor.text, step.start, message, hint)


def _stage(step: _Step, keys: tuple[FieldUse, ...]) -> Stage:
    return Stage(step.filter, (*keys, *step.keys), step.is_missing, step.runs)
