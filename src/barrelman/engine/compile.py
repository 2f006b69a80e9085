"""A query's tree -> a Python function: the exact predicate on one decoded event.

The boolean structure becomes one generated expression, which CPython evaluates without a call
per node; each leaf is a closure made for its field, type and values. Measured with the seed
rule's shape, the generated expression is about twice as fast as closures over closures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any, Final

from barrelman.engine.exact import exact_comparison, exact_equality
from barrelman.engine.patterns import compile_pattern
from barrelman.engine.places import (
    Reader,
    Scope,
    Shape,
    read_below,
    read_implied,
    read_leaves,
    read_nodes,
    read_objects,
    read_values,
)
from barrelman.engine.texts import split_clauses
from barrelman.engine.values import (
    NEVER,
    Test,
    ValueTest,
    any_equality,
    comparison,
    existence,
    interval,
    keyword_text,
)
from barrelman.query.ast import (
    And,
    Before,
    Boolean,
    Compare,
    Exists,
    FieldName,
    Holds,
    Is,
    MatchAll,
    Nested,
    Node,
    Not,
    Number,
    Or,
    Pattern,
    Range,
    Suits,
    Text,
    Value,
    Wild,
    Within,
)
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue, FieldType
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar, has_value

Leaf = Callable[[Any, int], bool]

# CPython's tokenizer takes 200 nested parentheses: deeper trees go into functions of their own.
_EXPRESSION_DEPTH: Final = 40


@frozen
class Evidence:
    """A condition that can speak for an alert: its field, and a test of one value."""

    field: str
    read: Callable[[Any], list[Scalar]]
    test: Test


@frozen
class Predicate:
    """A compiled query. Frozen: it holds no state between events."""

    node: Node = field(repr=False)
    catalogue: Catalogue = field(repr=False)
    raw: Leaf
    document: Leaf
    uses_now: bool
    """Whether the answer may differ between two runs that read the same event."""
    evidence: tuple[tuple[Evidence, ...], tuple[Evidence, ...]] = field(repr=False)

    def matches(self, event: Event, *, now_ms: int) -> bool:
        """The only judge. `now_ms` is the run's time, for `now` in dates and expiring items."""
        return (self.document if event.is_document else self.raw)(event, now_ms)

    def explain(self, event: Event, *, now_ms: int) -> list[tuple[str, Scalar]]:
        """The values, with their fields, that met conditions of the query; in query order."""
        found: dict[tuple[str, type, Scalar], None] = {}  # True is not 1
        for each in self.evidence[event.is_document]:
            for value in each.read(event):
                if each.test(value, now_ms):
                    found[each.field, type(value), value] = None
        return [(name, value) for name, _, value in found]


def compile_query(node: Node, catalogue: Catalogue) -> Predicate:
    """Compiles a tree whose types were checked (`check_types`); what slipped through is False."""
    raw = _Compiler(catalogue, Scope(Shape.RAW, catalogue=catalogue))
    document = _Compiler(catalogue, Scope(Shape.DOCUMENT, catalogue=catalogue))
    return Predicate(
        node=node,
        catalogue=catalogue,
        raw=raw.function(node),
        document=document.function(node),
        uses_now=raw.uses_now or document.uses_now,
        evidence=(tuple(raw.evidence), tuple(document.evidence)),
    )


def compile_raw(node: Node, catalogue: Catalogue) -> Leaf:
    """The predicate on raw events alone: a part of a query that `compile_query` takes whole."""
    return _Compiler(catalogue, Scope(Shape.RAW, catalogue=catalogue)).function(node)


class _Compiler:
    """One function under construction: its leaves are gathered as names of its namespace."""

    def __init__(self, catalogue: Catalogue, scope: Scope) -> None:
        self.catalogue = catalogue
        self.scope = scope
        self.uses_now = False
        self.evidence: list[Evidence] = []
        self.negated = False
        self.names: dict[str, Any] = {}

    def function(self, node: Node) -> Leaf:
        source = f"lambda x, now: {self.expression(node, depth=0)}"
        made: Leaf = eval(source, self.names)  # our own text: names and operators only
        return made

    def expression(self, node: Node, *, depth: int) -> str:
        if depth >= _EXPRESSION_DEPTH:
            return self.call(self.function(node))
        match node:
            case MatchAll():
                return "True"
            case And(children):
                return self.joined(" and ", children, depth=depth)
            case Or(children):
                return self.joined(" or ", _merge_equalities(children), depth=depth)
            case Not(child):
                self.negated = not self.negated
                inner = self.expression(child, depth=depth + 1)
                self.negated = not self.negated
                return f"(not {inner})"
            case Before(epoch_ms):
                self.uses_now = True
                return f"(now < {epoch_ms})"
            case _AnyOf(name, values, exact):
                return self.is_any(Text(name), values, exact=exact)
            case Is(target, value, exact):
                return self.is_any(target, (value,), exact=_is_exact(value, exact=exact))
            case Range(target, op, value, exact):
                if exact or isinstance(value, Number):
                    return self.leaf(target, lambda kind: exact_comparison(kind, op, value))
                return self.leaf(target, lambda kind: comparison(kind, op, value))
            case Within(target, bounds):
                return self.leaf(target, lambda kind: interval(kind, bounds))
            case Exists(target):
                return self.exists(target)
            case Nested(path, child):
                return self.nested(path, child)
            case Compare() | Suits() | Holds():
                return self.computed(node)

    def joined(self, operator: str, children: Iterable[Node | _AnyOf], *, depth: int) -> str:
        parts = [self.expression(child, depth=depth + 1) for child in children]  # type: ignore[arg-type]
        if not parts:
            return "True" if operator == " and " else "False"
        return f"({operator.join(parts)})"

    def call(self, leaf: Leaf) -> str:
        name = f"f{len(self.names)}"
        self.names[name] = leaf
        return f"{name}(x, now)"

    # --- leaves ---

    def is_any(self, target: FieldName | None, values: tuple[Value, ...], *, exact: bool) -> str:
        """Some value of the field equals one of these."""
        if all(isinstance(value, Pattern) and value.is_star for value in values):
            if target is None or (isinstance(target, Pattern) and target.is_star):
                return "True"
            return self.exists(target)
        if target is None:
            return self.free_text(values, exact=exact)
        if (
            isinstance(target, Text)
            and not self.is_hidden(target)
            and self.catalogue.type_of(self.scope.prefix + target.value) is FieldType.KEYWORD
            and all(isinstance(value, Text if exact else Text | Boolean) for value in values)
        ):
            return self.keyword(target.value, values)
        make = exact_equality if exact else any_equality
        return self.leaf(target, lambda kind: make(kind, values))

    def keyword(self, name: str, values: tuple[Value, ...]) -> str:
        """The commonest leaf by far: a set of exact strings."""
        wanted = frozenset(
            value.value if isinstance(value, Text) else keyword_text(_truth(value))
            for value in values
        )
        read = read_values(name, self.scope)
        self.note(name, read, lambda got, _: keyword_text(got) in wanted)

        def leaf(target: Any, now_ms: int) -> bool:
            for got in read(target):
                if (got if type(got) is str else keyword_text(got)) in wanted:
                    return True
            return False

        return self.call(leaf)

    def leaf(self, target: FieldName, make: Callable[[FieldType | None], ValueTest]) -> str:
        if isinstance(target, Pattern):
            return self.any_field(compile_pattern(target), make)
        name = target.value
        kind = self.catalogue.type_of(self.scope.prefix + name)
        made = make(kind)
        if made is NEVER or self.is_hidden(target):
            return "False"
        self.uses_now |= made.uses_now
        test = made.test
        read = self.reader(name)
        self.note(name, read, test)
        return self.call(_any_value(read, test))

    def reader(self, name: str) -> Reader:
        is_flattened = self.catalogue.explicit_type_of(self.scope.prefix + name)
        if is_flattened is FieldType.FLATTENED:
            return read_below(name, self.scope)
        return read_values(name, self.scope)

    def computed(self, node: Compare | Suits | Holds) -> str:
        from barrelman.engine.expressions import compile_computed  # late: only EQL has them

        leaf, single, test = compile_computed(node, self)
        if single is not None and test is not None:
            self.note(single.name, single.read, test)
        return self.call(leaf)

    def field(self, target: Text) -> tuple[Reader, FieldType | None] | None:
        """How a field is read, and its type; None where no event shows a value there."""
        if self.is_hidden(target):
            return None
        return self.reader(target.value), self.catalogue.type_of(self.scope.prefix + target.value)

    def part(self, node: Node) -> Leaf:
        """A condition within an expression: it is no evidence by itself."""
        inner = _Compiler(self.catalogue, self.scope)
        made = inner.function(node)
        self.uses_now |= inner.uses_now
        return made

    def is_hidden(self, target: Text) -> bool:
        """Whether no event shows a value there, whatever it holds."""
        prefix = self.scope.prefix
        return self.scope.lacks(target.value) or self.catalogue.is_hidden(
            prefix + target.value, prefix=prefix
        )

    def note(self, name: str, read: Callable[[Any], list[Scalar]], test: Test) -> None:
        if not self.negated and not self.scope.prefix:
            self.evidence.append(Evidence(name, read, test))

    def exists(self, target: FieldName) -> str:
        if isinstance(target, Pattern):
            return self.any_field(
                compile_pattern(target), lambda kind: ValueTest(existence(kind, empty_text=True))
            )
        name = target.value
        if self.is_hidden(target):
            return "False"
        kind = self.catalogue.type_of(self.scope.prefix + name)
        if kind is FieldType.TEXT:
            read, test = read_values(name, self.scope), existence(kind, empty_text=False)
            return self.call(lambda x, now_ms: any(test(got, now_ms) for got in read(x)))
        nodes, implied = read_nodes(name, self.scope), read_implied(name, self.scope)
        empty_text = self.scope.empty_text
        return self.call(
            lambda x, now_ms: (
                has_value(nodes(x), empty_text=empty_text)
                or has_value(implied(x), empty_text=empty_text)
            )
        )

    def nested(self, path: FieldName, child: Node) -> str:
        if isinstance(path, Pattern) or self.scope.lacks(path.value):
            return "False"
        inner = _Compiler(self.catalogue, self.scope.inside(path.value))
        matches = inner.function(child)
        self.uses_now |= inner.uses_now
        objects = read_objects(path.value, self.scope)
        return self.call(lambda x, now_ms: any(matches(each, now_ms) for each in objects(x)))

    # --- any field: wildcard names and free text. Values that do not suit a type do not match ---

    def any_field(
        self,
        is_wanted: Callable[[str], bool],
        make: Callable[[FieldType | None], ValueTest],
    ) -> str:
        """`make` gives the test for each type that a field of that name turns out to have."""
        tests = {kind: make(kind) for kind in (None, *FieldType)}
        self.uses_now |= any(made.uses_now for made in tests.values())
        leaves, type_of, skip = read_leaves(self.scope), self.catalogue.type_of, self.scope.prefix

        def leaf(target: Any, now_ms: int) -> bool:
            return any(
                is_wanted(name[len(skip) :]) and tests[type_of(name)].test(got, now_ms)
                for name, got in leaves(target)
            )

        return self.call(leaf)

    def free_text(self, values: tuple[Value, ...], *, exact: bool) -> str:
        """No field: of any field. A pattern is a query_string, whose spaces mean "or"."""
        wanted: list[Value] = []
        if any(
            (Wild.RUN,) in split_clauses(v, lower=False) for v in values if isinstance(v, Pattern)
        ):
            return "True"
        for value in values:
            if isinstance(value, Pattern):
                wanted.extend(_as_value(clause) for clause in split_clauses(value, lower=False))
            else:
                wanted.append(value)
        make = exact_equality if exact else any_equality
        return self.any_field(lambda name: True, lambda kind: make(kind, wanted))


def _any_value(read: Reader, test: Test) -> Leaf:
    def leaf(target: Any, now_ms: int) -> bool:
        for got in read(target):  # noqa: SIM110  # half the time of any()
            if test(got, now_ms):
                return True
        return False

    return leaf


@frozen
class _AnyOf:
    """Equalities of one field joined by `or`."""

    name: str
    values: tuple[Value, ...]
    exact: bool


def _merge_equalities(children: tuple[Node, ...]) -> list[Node | _AnyOf]:
    """`f:a or f:b` read as one leaf; a list of thousands of values is one set."""
    merged: dict[tuple[str, bool], list[Value]] = {}
    order: list[Node | tuple[str, bool]] = []
    for child in children:
        if isinstance(child, Is) and isinstance(child.field, Text) and not _is_star(child.value):
            key = child.field.value, _is_exact(child.value, exact=child.exact)
            if key not in merged:
                order.append(key)
            merged.setdefault(key, []).append(child.value)
        else:
            order.append(child)
    return [
        _AnyOf(each[0], tuple(merged[each]), exact=each[1]) if isinstance(each, tuple) else each
        for each in order
    ]


def _is_exact(value: Value, *, exact: bool) -> bool:
    """A number is a number in whatever language it was written."""
    return exact or isinstance(value, Number)


def _is_star(value: Value) -> bool:
    return isinstance(value, Pattern) and value.is_star


def _truth(value: Value) -> bool:
    return isinstance(value, Boolean) and value.value


def _as_value(clause: tuple[str | Wild, ...]) -> Value:
    if any(isinstance(token, Wild) for token in clause):
        return Pattern(clause)
    return Text("".join(str(token) for token in clause))
