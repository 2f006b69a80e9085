"""EQL text, in Elasticsearch's dialect, to a query.

Recursive descent over tokens, in linear time. `not` binds tighter than `and`, `and` tighter than
`or`; `in`, `:`, `like` and `regex` bind tighter than arithmetic, arithmetic tighter than `==` and
its kin, of which a condition has one.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import NoReturn

from barrelman.query.ast import And, Or, Span
from barrelman.query.eqlbuild import MAX_NESTING, Builder, Likeness, Operand, Operator
from barrelman.query.eqllex import RESERVED, Token, fail, tokenize
from barrelman.query.eqlmistakes import explain_leftover, explain_missing
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
_OPERATORS: dict[str, Operator] = {
    "==": "eq",
    "!=": "ne",
    ">": "gt",
    ">=": "gte",
    "<": "lt",
    "<=": "lte",
}
_LIKENESSES: dict[str, Likeness] = {
    "like": "like",
    "like~": "like~",
    "regex": "regex",
    "regex~": "regex~",
    ":": ":",
}
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
        self.text = text
        self.tokens = tokenize(text)
        self.position = 0
        self.brackets: list[Token] = []
        self.build = Builder(text)
        self.fields: dict[str, FieldUse] = {}

    # --- tokens ---

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.token
        self.position += token.kind != "end"
        return token

    def take_word(self, *words: str) -> Token | None:
        return self.take() if self.token.is_word(*words) else None

    def take_symbol(self, *symbols: str) -> Token | None:
        return self.take() if self.token.is_symbol(*symbols) else None

    def expect_word(self, word: str, *, after: str) -> None:
        if not self.take_word(word):
            self.missing(f"`{word}`", after=after)

    def expect_symbol(self, symbol: str, *, after: str) -> None:
        if not self.take_symbol(symbol):
            self.missing(f"`{symbol}`", after=after)

    def missing(self, wanted: str, *, after: str) -> NoReturn:
        raise explain_missing(self.text, self.token, wanted=wanted, after=after)

    def fail(self, token: Token, message: str, hint: str | None = None) -> NoReturn:
        fail(self.text, token.span[0], message, hint)

    # --- the whole ---

    def query(self) -> EqlQuery:
        if len(self.tokens) == 1:
            self.fail(self.token, "the query is empty", "write: any where true")
        top = self.top()
        pipes = []
        while bar := self.take_symbol("|"):
            if isinstance(top, Sample):
                self.fail(bar, "a sample takes no pipes")
            pipes.append(self.pipe(bar))
        if self.token.kind != "end":
            raise explain_leftover(self.text, self.tokens, self.position, self.brackets)
        return EqlQuery(top, tuple(pipes), tuple(self.fields.values()))

    def top(self) -> Top:
        start = self.token
        if self.take_word("join"):
            hint = "write a sequence, or a sample for events in any order"
            self.fail(start, "Elasticsearch does not run `join`", hint)
        if self.take_word("sequence"):
            return self.sequence(start)
        if self.take_word("sample"):
            return self.sample(start)
        return self.event_filter()

    def pipe(self, bar: Token) -> Pipe:
        name = self.take()
        if name.is_word(*_OTHER_PIPES):
            self.fail(
                name, f"Elasticsearch does not run the pipe {name.value}", "it has head and tail"
            )
        if name.is_symbol("|"):
            self.fail(bar, "`||` is not an operator of EQL", "write `or`")
        if not name.is_word("head", "tail"):
            self.fail(name, "a pipe is head or tail", "as in | head 10")
        count = self.take()
        if count.kind != "number" or not isinstance(count.value, int) or count.value < 1:
            hint = f"as in | {name.value} 10"
            self.fail(count, f"{name.value} needs a whole number above 0", hint)
        return Pipe("head" if name.value == "head" else "tail", count.value)

    def event_filter(self) -> EventFilter:
        token = self.take()
        category: str | None = None
        if token.kind == "text" or (token.kind == "word" and token.value not in RESERVED):
            category = str(token.value)
        elif not token.is_word("any"):
            if self.token.is_word("where"):
                hint = f'quote it: "{token.value}" where …'
                self.fail(token, "this cannot be an event category as it stands", hint)
            self.position -= token.kind != "end"
            self.missing("an event category or `any`", after="")
        self.expect_word("where", after="an event category")
        return EventFilter(category, self.build.condition(self.expression()))

    # --- sequences and samples ---

    def sequence(self, start: Token) -> Sequence:
        keys = self.keys()
        maxspan_ms = self.maxspan()
        if self.token.is_word("by"):
            self.fail(
                self.token, "`by` stands before `with maxspan`", "sequence by key with maxspan=1m"
            )
        steps = self.steps(start, keys)
        until = None
        if word := self.take_word("until"):
            if not self.token.is_symbol("[", "!["):
                self.missing("`[`", after="`until`")
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
                fail(self.text, step.start, "a sample knows no missing events")
            if step.runs > 1:
                fail(self.text, step.start, "a sample knows no runs", "write the filter again")
        if self.token.is_word("until"):
            self.fail(self.token, "a sample knows no `until`: its events are in no order")
        if not keys and not steps[0].keys:
            self.fail(
                start, "a sample needs a key to join by", "as in sample by user.name [ … ] [ … ]"
            )
        if len(steps) < 2:
            self.fail(start, "a sample needs two filters at least")
        return Sample(tuple(_stage(step, keys) for step in steps))

    def steps(self, start: Token, keys: tuple[FieldUse, ...]) -> list[_Step]:
        """One or more; all join by the same number of fields."""
        steps = []
        while self.token.is_symbol("[", "!["):
            steps.append(self.step())
        if not steps:
            self.missing("a filter in square brackets", after=f"`{start.value}`")
        if sum(step.runs for step in steps) > MAX_RUNS:
            self.fail(start, f"more than {MAX_RUNS} events, runs counted", "split the query")
        self.check_counts(steps)
        if len(keys) + len(steps[0].keys) > MAX_KEYS:
            self.fail(start, f"more than {MAX_KEYS} fields to join by")
        return steps

    def step(self) -> _Step:
        opener = self.take()
        self.brackets.append(opener)
        event_filter = self.event_filter()
        if not self.token.is_symbol("]"):
            raise explain_leftover(self.text, self.tokens, self.position, self.brackets)
        self.take()
        self.brackets.pop()
        keys = self.keys()
        runs = self.runs()
        if not keys:
            keys = self.keys()
        is_missing = opener.value == "!["
        if is_missing and runs is not None:
            hint = "no such event is as good as no two of them"
            self.fail(opener, "missing events have no runs", hint)
        return _Step(event_filter, keys, is_missing, runs or 1, opener.span[0])

    def keys(self) -> tuple[FieldUse, ...]:
        if not self.take_word("by"):
            return ()
        keys = [self.key()]
        while self.take_symbol(","):
            keys.append(self.key())
        return tuple(keys)

    def key(self) -> FieldUse:
        token = self.token
        if token.kind in ("text", "number") or self.starts_call():
            self.fail(token, "only fields join events", "name a field")
        return self.field_name(after="`by`")

    def maxspan(self) -> int | None:
        if not self.take_word("with"):
            return None
        name = self.take()
        if not name.is_word("maxspan"):
            self.fail(name, "a sequence takes `with maxspan`", "as in with maxspan=1m")
        self.expect_symbol("=", after="`maxspan`")
        count = self.take()
        if count.kind != "number":
            self.fail(count, "maxspan needs a number and its unit", "as in maxspan=1m")
        if not isinstance(count.value, int):
            self.fail(count, "maxspan is a whole number of its unit", "take a smaller unit")
        unit = self.take()
        unit_ms = _UNIT_MS.get(str(unit.value)) if unit.kind == "word" else None
        if unit_ms is None:
            hint = f"the units are {', '.join(_UNIT_MS)}, as in maxspan=1m"
            self.fail(unit, "maxspan has no unit that is known", hint)
        maxspan_ms = count.value * unit_ms
        if not 0 < maxspan_ms <= _LONGEST_MS:
            self.fail(count, "maxspan is above 0 and at most ten years")
        return maxspan_ms

    def runs(self) -> int | None:
        if not self.take_word("with"):
            return None
        name = self.take()
        if not name.is_word("runs"):
            hint = (
                "`with maxspan` stands before the first filter" if name.is_word("maxspan") else None
            )
            self.fail(name, "a filter of a sequence takes `with runs`", hint or "as in with runs=3")
        self.expect_symbol("=", after="`runs`")
        count = self.take()
        if count.kind != "number" or not isinstance(count.value, int):
            self.fail(count, "runs needs a whole number", "as in with runs=3")
        if not 1 <= count.value <= MAX_RUNS:
            self.fail(count, f"runs is a number from 1 to {MAX_RUNS}")
        return count.value

    def check_counts(self, steps: Several[_Step]) -> None:
        wanted = len(steps[0].keys)
        for step in steps:
            if len(step.keys) != wanted:
                fail(
                    self.text,
                    step.start,
                    f"the first filter joins by {wanted} fields of its own, and this one by "
                    f"{len(step.keys)}",
                    "all filters, `until` too, join by the same number of fields",
                )

    def check_until(self, until: _Step, word: Token) -> None:
        if until.is_missing:
            self.fail(word, "`until` waits for an event: `![` cannot follow it")
        if until.runs > 1:
            self.fail(word, "`until` takes no runs: the first event ends the sequence")

    def check_runs(self, steps: Several[_Step], start: Token) -> None:
        if sum(step.runs for step in steps) < 2:
            self.fail(start, "a sequence needs two filters at least", "or one `with runs=2`")
        if all(step.is_missing for step in steps):
            self.fail(start, "a sequence needs one filter at least that is not `![`")

    def check_span(self, steps: Several[_Step]) -> None:
        for step in steps:
            if step.is_missing:
                hint = "write it before the first filter: with maxspan=1m"
                fail(self.text, step.start, "missing events need a maxspan", hint)

    # --- conditions ---

    def expression(self) -> Operand:
        either: list[Operand] = []
        both = [self.negation()]
        while word := self.take_word("and", "or"):
            if word.value == "or":
                either.append(self.build.junction(And, both))
                both = []
            both.append(self.negation())
        return self.build.junction(Or, [*either, self.build.junction(And, both)])

    def negation(self) -> Operand:
        is_negated = False
        is_condition = False
        while self.take_word("not"):
            is_negated = not is_negated
            is_condition = True
        operand = self.comparison()
        if is_negated:
            return self.build.negation(operand)
        return self.build.made(self.build.condition(operand), operand) if is_condition else operand

    def comparison(self) -> Operand:
        left = self.sum()
        if not self.token.is_symbol(*_OPERATORS):
            return left
        op = self.take()
        right = self.sum()
        if self.token.is_symbol(*_OPERATORS):
            hint = "put one comparison in brackets, or `and` between two"
            self.fail(self.token, "a comparison cannot follow a comparison", hint)
        return self.build.comparison(left, _OPERATORS[str(op.value)], right)

    def sum(self) -> Operand:
        left = self.product()
        while op := self.take_symbol("+", "-"):
            left = self.build.arithmetic(left, str(op.value), self.product())
        return left

    def product(self) -> Operand:
        left = self.signed()
        while op := self.take_symbol("*", "/", "%"):
            left = self.build.arithmetic(left, str(op.value), self.signed())
        return left

    def signed(self) -> Operand:
        first = self.token
        minuses = 0
        while sign := self.take_symbol("-", "+"):
            minuses += sign.value == "-"
        if minuses % 2 and self.token.kind == "number" and self.token.value == 2**63:
            self.take()
            return self.matched(self.build.smallest((first.span[0], self.token.span[0])))
        operand = self.primary()
        if first.is_symbol("-", "+"):
            operand = self.build.signed(operand, first.span[0], is_negative=bool(minuses % 2))
        return self.matched(operand)

    def matched(self, operand: Operand) -> Operand:
        """With what may follow it: `in (…)`, `: "…"`, `like (…)` and their kin."""
        token = self.token
        if token.is_word("not") and self.tokens[self.position + 1].is_word("in", "in~"):
            self.take()
            return self.build.negation(self.member(operand))
        if token.is_word("in", "in~"):
            return self.member(operand)
        how = _LIKENESSES.get(str(token.value)) if token.kind in ("word", "symbol") else None
        if how is None:
            return operand
        self.take()
        return self.build.likeness(operand, how, self.literals(how))

    def member(self, operand: Operand) -> Operand:
        word = self.take()
        if word.value == "in~":
            if not self.token.is_symbol("("):
                self.missing("`(`", after="`in~`")
            return self.build.likeness(operand, "in~", self.literals("in~"))
        if not self.token.is_symbol("("):
            self.missing("`(`", after="`in`")
        opener = self.open()
        items = [self.expression()]
        while self.take_symbol(","):
            items.append(self.expression())
        self.close(opener)
        return self.build.membership(operand, items)

    def literals(self, how: str) -> list[Token]:
        if not self.token.is_symbol("("):
            return [self.literal(how)]
        opener = self.open()
        found = [self.literal(how)]
        while self.take_symbol(","):
            found.append(self.literal(how))
        self.close(opener)
        return found

    def literal(self, how: str) -> Token:
        token = self.token
        if token.kind in ("word", "name") and not token.is_word("true", "false", "null"):
            hint = 'for a text write it in quotes: "…"'
            self.fail(token, f"only a literal, or a list of literals, can follow `{how}`", hint)
        if token.kind in ("symbol", "end"):
            self.missing("a literal", after=f"`{how}`")
        return self.take()

    def primary(self) -> Operand:
        token = self.token
        if token.is_symbol("("):
            opener = self.open()
            operand = self.expression()
            self.close(opener)
            return operand
        if token.kind in ("text", "number") or token.is_word("true", "false", "null"):
            return self.build.constant(self.take())
        if self.starts_call():
            return self.call()
        start = token.span[0]
        use = self.field_name(after="")
        span = start, self.tokens[self.position - 1].span[1]
        return self.build.field(use.name, span, optional=use.optional)

    def starts_call(self) -> bool:
        token = self.token
        return (
            token.kind == "word"
            and token.value not in RESERVED
            and self.tokens[self.position + 1].is_symbol("(")
        )

    def call(self) -> Operand:
        name = self.take()
        self.build.function(name)
        opener = self.open()
        args = []
        if not self.token.is_symbol(")"):
            args.append(self.expression())
            while self.take_symbol(","):
                args.append(self.expression())
        closer = self.close(opener)
        return self.build.call(name, args, closer.span[1])

    def open(self) -> Token:
        opener = self.take()
        if len(self.brackets) >= MAX_NESTING:
            hint = "remove brackets that group nothing, or split the query"
            self.fail(opener, f"brackets are nested more than {MAX_NESTING} deep", hint)
        self.brackets.append(opener)
        return opener

    def close(self, opener: Token) -> Token:
        if not self.token.is_symbol(")"):
            raise explain_leftover(self.text, self.tokens, self.position, self.brackets)
        assert self.brackets.pop() is opener
        return self.take()

    # --- names ---

    def field_name(self, *, after: str) -> FieldUse:
        start = self.token
        optional = self.take_symbol("?") is not None
        parts = [self.name_part(after=after, is_first=True)]
        while self.take_symbol("."):
            parts.append(self.name_part(after="`.`", is_first=False))
        if self.token.is_symbol("[") and self.tokens[self.position + 1].kind == "number":
            hint = "a comparison with an array asks for any of its values"
            self.fail(self.token, "EQL cannot reach into an array by number", hint)
        return self.note(".".join(parts), (start.span[0], self.end_of_last()), optional=optional)

    def name_part(self, *, after: str, is_first: bool) -> str:
        token = self.token
        if token.kind == "name":
            return str(self.take().value)
        if token.kind != "word":
            self.missing("a field or a value" if is_first else "a name", after=after)
        word = str(token.value)
        if word.endswith("~"):
            self.fail(token, f"there is no operator {word}", "like~, regex~ and in~ are operators")
        if is_first and word in RESERVED:
            self.missing("a field or a value", after=after)
        return str(self.take().value)

    def end_of_last(self) -> int:
        return self.tokens[self.position - 1].span[1]

    def note(self, name: str, span: Span, *, optional: bool) -> FieldUse:
        """A field that is somewhere named without `?` is not optional."""
        use = FieldUse(name, optional, span=span)
        known = self.fields.get(name)
        if known is None or (known.optional and not optional):
            self.fields[name] = use
        return use


def _stage(step: _Step, keys: tuple[FieldUse, ...]) -> Stage:
    return Stage(step.filter, (*keys, *step.keys), step.is_missing, step.runs)
