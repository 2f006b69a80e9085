"""EQL's conditions, from tokens to a tree: operators in their order, calls, names of fields.

`not` binds tighter than `and`, `and` tighter than `or`; `in`, `:`, `like` and `regex` bind tighter
than arithmetic, arithmetic tighter than `==` and its kin, of which a condition has one.
"""

from __future__ import annotations

from dataclasses import replace

from barrelman.query.ast import And, Node, Or, Span
from barrelman.query.eqlbuild import Builder, Likeness, Operand, Operator
from barrelman.query.eqlcursor import Cursor
from barrelman.query.eqllex import LARGEST, RESERVED
from barrelman.query.eqltree import FieldUse

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


class Conditions:
    """Reads conditions at a cursor. `fields`: every field named so far."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.build = Builder(cursor.text)
        self.fields: dict[str, FieldUse] = {}

    def condition(self) -> Node:
        return self.build.condition(self.expression())

    def expression(self) -> Operand:
        either: list[Operand] = []
        both = [self.negation()]
        while word := self.cursor.take_word("and", "or"):
            if word.value == "or":
                either.append(self.build.junction(And, both))
                both = []
            both.append(self.negation())
        return self.build.junction(Or, [*either, self.build.junction(And, both)])

    def negation(self) -> Operand:
        is_negated = False
        is_condition = False
        while self.cursor.take_word("not"):
            is_negated = not is_negated
            is_condition = True
        operand = self.comparison()
        if is_negated:
            return self.build.negation(operand)
        return self.build.made(self.build.condition(operand), operand) if is_condition else operand

    def comparison(self) -> Operand:
        left = self.sum()
        if not self.cursor.token.is_symbol(*_OPERATORS):
            return left
        op = self.cursor.take()
        right = self.sum()
        if self.cursor.token.is_symbol(*_OPERATORS):
            hint = "put one comparison in brackets, or `and` between two"
            self.cursor.fail(self.cursor.token, "a comparison cannot follow a comparison", hint)
        return self.build.comparison(left, _OPERATORS[str(op.value)], right)

    def sum(self) -> Operand:
        left = self.product()
        while op := self.cursor.take_symbol("+", "-"):
            left = self.build.arithmetic(left, str(op.value), self.product())
        return left

    def product(self) -> Operand:
        left = self.signed()
        while op := self.cursor.take_symbol("*", "/", "%"):
            left = self.build.arithmetic(left, str(op.value), self.signed())
        return left

    def signed(self) -> Operand:
        return self.matched(self.unary())

    def unary(self) -> Operand:
        """An operand with the signs before it."""
        start = self.cursor.token
        minuses = 0
        while sign := self.cursor.take_symbol("-", "+"):
            minuses += sign.value == "-"
        token = self.cursor.token
        if minuses % 2 and token.value == LARGEST and isinstance(token.value, int):
            self.cursor.take()
            return self.build.smallest((start.span[0], token.span[1]))
        operand = self.primary()
        if start.is_symbol("-", "+"):
            return self.build.signed(operand, start.span[0], is_negative=bool(minuses % 2))
        return operand

    def matched(self, operand: Operand) -> Operand:
        """With what may follow it: `in (…)`, `: "…"`, `like (…)` and their kin."""
        token = self.cursor.token
        if token.is_word("not") and self.cursor.following.is_word("in", "in~"):
            self.cursor.take()
            return self.build.negation(self.member(operand))
        if token.is_word("in", "in~"):
            return self.member(operand)
        how = _LIKENESSES.get(str(token.value)) if token.kind in ("word", "symbol") else None
        if how is None:
            return operand
        self.cursor.take()
        return self.listed(self.build.likeness(operand, how, self.literals(how)))

    def listed(self, operand: Operand) -> Operand:
        """With the span of its list, which ends in a bracket."""
        return replace(operand, span=(operand.span[0], self.cursor.end))

    def member(self, operand: Operand) -> Operand:
        word = self.cursor.take()
        if word.value == "in~":
            if not self.cursor.token.is_symbol("("):
                self.cursor.missing("`(`", after="`in~`")
            return self.listed(self.build.likeness(operand, "in~", self.literals("in~")))
        if not self.cursor.token.is_symbol("("):
            self.cursor.missing("`(`", after="`in`")
        opener = self.cursor.open()
        items = [self.expression()]
        while self.cursor.take_symbol(","):
            items.append(self.expression())
        self.cursor.close(opener)
        return self.listed(self.build.membership(operand, items))

    def literals(self, how: str) -> list[Operand]:
        if not self.cursor.token.is_symbol("("):
            return [self.literal(how)]
        opener = self.cursor.open()
        found = [self.literal(how)]
        while self.cursor.take_symbol(","):
            found.append(self.literal(how))
        self.cursor.close(opener)
        return found

    def literal(self, how: str) -> Operand:
        token = self.cursor.token
        if token.kind in ("word", "name") and not token.is_word("true", "false", "null"):
            message = f"only a literal, or a list of literals, can follow `{how}`"
            self.cursor.fail(token, message, 'for a text write it in quotes: "…"')
        if token.is_symbol("-", "+") and self.cursor.following.kind == "number":
            return self.unary()
        if token.kind in ("symbol", "end"):
            self.cursor.missing("a literal", after=f"`{how}`")
        return self.build.constant(self.cursor.take())

    def primary(self) -> Operand:
        token = self.cursor.token
        if token.is_symbol("("):
            opener = self.cursor.open()
            operand = self.expression()
            closer = self.cursor.close(opener)
            return replace(operand, span=(opener.span[0], closer.span[1]))
        if token.kind in ("text", "number") or token.is_word("true", "false", "null"):
            return self.build.constant(self.cursor.take())
        if self.starts_call():
            return self.call()
        start = token.span[0]
        use = self.field_name(after="")
        span = start, self.cursor.end
        return self.build.field(use.name, span, optional=use.optional)

    def starts_call(self) -> bool:
        token = self.cursor.token
        return (
            token.kind == "word"
            and token.value not in RESERVED
            and self.cursor.following.is_symbol("(")
        )

    def call(self) -> Operand:
        name = self.cursor.take()
        self.build.function(name)
        opener = self.cursor.open()
        args = []
        if not self.cursor.token.is_symbol(")"):
            args.append(self.expression())
            while self.cursor.take_symbol(","):
                args.append(self.expression())
        closer = self.cursor.close(opener)
        return self.build.call(name, args, closer.span[1])

    # --- names ---

    def field_name(self, *, after: str) -> FieldUse:
        start = self.cursor.token
        optional = self.cursor.take_symbol("?") is not None
        parts = [self.name_part(after=after, is_first=True)]
        while self.cursor.take_symbol("."):
            parts.append(self.name_part(after="`.`", is_first=False))
        if self.cursor.token.is_symbol("[") and self.cursor.following.kind == "number":
            hint = "a comparison with an array asks for any of its values"
            self.cursor.fail(self.cursor.token, "EQL cannot reach into an array by number", hint)
        return self.note(".".join(parts), (start.span[0], self.cursor.end), optional=optional)

    def name_part(self, *, after: str, is_first: bool) -> str:
        token = self.cursor.token
        if token.kind == "name":
            return str(self.cursor.take().value)
        if token.kind != "word":
            self.cursor.missing("a field or a value" if is_first else "a name", after=after)
        word = str(token.value)
        if word.endswith("~"):
            self.cursor.fail(
                token, f"there is no operator {word}", "like~, regex~ and in~ are operators"
            )
        if is_first and word in RESERVED:
            self.cursor.missing("a field or a value", after=after)
        return str(self.cursor.take().value)

    def note(self, name: str, span: Span, *, optional: bool) -> FieldUse:
        """A field that is somewhere named without `?` is not optional."""
        use = FieldUse(name, optional, span=span)
        known = self.fields.get(name)
        if known is None or (known.optional and not optional):
            self.fields[name] = use
        return use
