"""Operands of a Lucene query joined to one: what must hold, what should, what must not.

There is no precedence. Each operand is put to those before it, and may change what the last of
them is: an AND makes musts of both its sides, whatever stands around them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import Literal as Choice
from typing import TypeAlias

from barrelman.query.ast import And, Is, Node, Not, Or, Span, Text
from barrelman.records.frozen import frozen

Sign: TypeAlias = Choice["+", "-", ""]
Joint: TypeAlias = Choice["and", "or"] | None


class Occur(Enum):
    MUST = "must"
    SHOULD = "should"
    NOT = "must not"


@frozen
class Operand:
    """One of several, and where it stands: from its sign to its boost."""

    occur: Occur
    node: Node
    joint: Joint
    """What stands before it."""
    span: Span

    @property
    def word(self) -> str | None:
        """The word that it is, without a sign or a field of its own."""
        node = self.node
        if not isinstance(node, Is) or not isinstance(node.value, Text) or node.value.quoted:
            return None
        return node.value.value if node.value.span[0] == self.span[0] else None


class Operands:
    """Those of one pair of brackets. `default_and`: what nothing joins must hold."""

    def __init__(self, *, default_and: bool) -> None:
        self._default_and = default_and
        self._operands: list[Operand] = []

    def add(self, node: Node, *, sign: Sign, joint: Joint, span: Span) -> None:
        last = self._operands[-1] if self._operands else None
        if last is not None and last.occur is not Occur.NOT:
            if joint == "and":
                self._operands[-1] = replace(last, occur=Occur.MUST)
            elif joint == "or" and self._default_and:
                self._operands[-1] = replace(last, occur=Occur.SHOULD)
        self._operands.append(Operand(self._occur(sign, joint), node, joint, span))

    def _occur(self, sign: Sign, joint: Joint) -> Occur:
        if sign == "-":
            return Occur.NOT
        if self._default_and:
            return Occur.SHOULD if joint == "or" else Occur.MUST
        return Occur.MUST if sign == "+" or joint == "and" else Occur.SHOULD

    @property
    def has_must(self) -> bool:
        return any(each.occur is Occur.MUST for each in self._operands)

    def node(self) -> Node:
        """All in one. Where something must hold, what only should is left out: it would rank."""
        shoulds = [each.node for each in self._operands if each.occur is Occur.SHOULD]
        others = [
            Not(each.node) if each.occur is Occur.NOT else each.node
            for each in self._operands
            if each.occur is not Occur.SHOULD
        ]
        if shoulds and not self.has_must:
            others.insert(0, any_of(shoulds))
        return others[0] if len(others) == 1 else And(tuple(others))

    def notes(self, text: str) -> Iterator[str]:
        """What in them is hardly meant as it is read; `text` is the query."""
        operands, has_must = self._operands, self.has_must
        for index, each in enumerate(operands):
            written = text[slice(*each.span)].strip()
            if has_must and each.occur is Occur.SHOULD:
                yield f"'{written}' adds nothing beside what must hold: brackets say what is meant"
            if each.word in ("and", "or", "not"):
                yield f"'{each.word}' is a word here: operators are in capitals"
            before, after = operands[max(index - 1, 0)], operands[min(index + 1, len(operands) - 1)]
            if index and None not in (before.word, each.word) and each.joint is after.joint is None:
                yield (
                    f"'{before.word} {each.word}' is either word; Elasticsearch takes it for one "
                    "value of a keyword: write OR, or put it in quotes"
                )


def any_of(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Or(tuple(nodes))
