"""What a line must hold for a rule to match the raw event on it, as pieces of its bytes.

A *need* is a conjunction of clauses, a clause a set of alternatives: of each clause one piece must
stand on the line. A need may be weaker than the query, never stronger; one without clauses says
that any line could match. It speaks of one audit event written as JSON on one line.

A key or a text is looked for as any JSON encoder spells it: in ASCII, without the characters that
some encoders escape. What is left of a text then is its *pieces*. An encoder may still write any
character as `\\uXXXX`, and a slash as `\\/`: whoever uses a piece must let lines pass on which one
of its characters may be spelled so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from barrelman.engine.shares import Clause, guessed_share
from barrelman.query.ast import (
    And,
    Before,
    Boolean,
    Call,
    Compare,
    Constant,
    Exists,
    FieldName,
    FieldValue,
    Fuzzy,
    Holds,
    Is,
    MatchAll,
    Near,
    Nested,
    Node,
    Not,
    Null,
    Number,
    Or,
    Pattern,
    Range,
    RegExp,
    Suits,
    Text,
    Value,
    Wild,
    Within,
)
from barrelman.query.operands import fields_needed
from barrelman.query.typecheck import NUMBER
from barrelman.records.addresses import parse_span
from barrelman.records.fields import (
    AUDIT,
    Catalogue,
    FieldType,
    absence_in_raw_events,
)
from barrelman.records.frozen import frozen

# What encoders spell in more than one way: quotes and backslashes, and & < > (Go).
_UNSAFE = re.compile(r"[^ !#$%\'()*+,\-./0-9:;=?@A-Z\[\]^_`a-z{|}~]+")
_UNSAFE_IN_KEYS = re.compile(
    r"[^ !#$%\'()*+,\-./0-9:;=?@A-Z\[\]^`a-z{|}~]+"
)  # _ may stand for a dot
# A part of a number; also of one that no double holds, which is read as the text of it.
_NUMBERLIKE = re.compile(r"[+\-]?[0-9]*\.?[0-9]*(?:[eE][+\-]?)?[0-9]*")
_DATELIKE = re.compile(r"now\b|\d{4}-\d\d", re.ASCII)
_WORDS: Final = ("true", "false")
_SHORTEST: Final = 4

# What the pipeline adds with the very values of the raw event.
_RAW_NAMES: Final = frozenset(
    {
        "event.action",
        "user.name",
        "user.id",
        "user_agent.original",
        "orchestrator.api_version",
        "orchestrator.resource.type",
        "orchestrator.resource.name",
        "orchestrator.namespace",
        "container.image.name",
        "related.user",
    }
)
# EQL's functions that are patterns: what stands before the text and behind it.
_PATTERNS: Final[dict[str, tuple[tuple[Wild, ...], tuple[Wild, ...]]]] = {
    "startswith": ((), (Wild.RUN,)),
    "endswith": ((Wild.RUN,), ()),
    "stringcontains": ((Wild.RUN,), (Wild.RUN,)),
}
_DECISIONS: Final = {"success": "allow", "failure": "forbid"}
# Read from the finished document, where keys and values may be other ones than on the line.
_CHANGED: Final = ("", "requestObject", "responseObject", "annotations")


@frozen
class Need:
    """`clauses` None: no raw event can match. `reasons`: why there are not more clauses."""

    clauses: tuple[Clause, ...] | None = ()
    reasons: tuple[str, ...] = ()
    keys: tuple[Clause, ...] = ()
    """Clauses as well, that speak of the names of fields only."""

    @property
    def all_clauses(self) -> tuple[Clause, ...]:
        return (*(self.clauses or ()), *self.keys)

    @property
    def is_met_by_any(self) -> bool:
        """Whether any line could match, as far as this tells."""
        return self.clauses is not None and not self.all_clauses


_NEVER: Final = Need(None)


def need_of(node: Node, catalogue: Catalogue) -> Need:
    """The need of a query on raw audit events."""
    return _Deriving(catalogue, "").need(node)


def pieces(text: str, *, is_start: bool, is_end: bool, unsafe: re.Pattern[str]) -> list[bytes]:
    """The parts of a JSON string that every encoder writes alike, quotes at its ends included."""
    found: list[bytes] = []
    at = 0
    for gap in [*unsafe.finditer(text), None]:
        end = gap.start() if gap else len(text)
        if end > at:
            opens = b'"' if is_start and at == 0 else b""
            closes = b'"' if is_end and end == len(text) else b""
            found.append(opens + text[at:end].encode("ascii") + closes)
        at = gap.end() if gap else end
    return [piece for piece in found if len(piece) >= _SHORTEST]


class _Deriving:
    """Follows the predicate's compiler leaf by leaf, with the same names and types."""

    def __init__(self, catalogue: Catalogue, prefix: str) -> None:
        self._catalogue = catalogue
        self._prefix = prefix

    def need(self, node: Node) -> Need:
        match node:
            case MatchAll():
                return Need(reasons=("it matches every event",))
            case And(children):
                return _all_of([self.need(child) for child in children])
            case Or(children):
                return _any_of([self.need(child) for child in children])
            case Not(Not(child)):
                return self.need(child)
            case Not():
                return Need(reasons=("what a `not` excludes need not be there",))
            case Before():
                return Need(reasons=("an expiry date says nothing of the event",))
            case Nested(path, child):
                return self._nested(path, child)
            case Is(target, Pattern() as value) if value.is_star and target is not None:
                return self._exists(target)
            case Is(None, _):
                return Need(reasons=("free text may stand in any field",))
            case Is(target, value, exact) if target is not None:
                return self._leaf(target, value, exact=exact)
            case Range(target) | Within(target):
                return self._leaf(target, None)
            case Exists(target):
                return self._exists(target)
            case Holds(Call(function, (FieldValue(target), Constant(str(text))), ignore_case)) if (
                function in _PATTERNS
            ):
                before, behind = _PATTERNS[function]
                pattern = Pattern((*before, text, *behind), ignore_case)
                return self._leaf(target, pattern, exact=True)
            case Compare() | Suits() | Holds():
                return self._computed(node)
        raise AssertionError(node)

    def _computed(self, node: Compare | Suits | Holds) -> Need:
        """A condition that is null, and so not met, without its fields."""
        needs = [self._leaf(field, None) for field in fields_needed(node)]
        return (
            _all_of(needs) if needs else Need(reasons=("it may be met where fields are missing",))
        )

    def _leaf(self, target: FieldName, value: Value | None, *, exact: bool = False) -> Need:
        """Some value of the field meets a test; `value` where that test is to equal it."""
        if isinstance(target, Pattern):
            return Need(reasons=("a wildcard names its field",))
        if isinstance(value, Null) or self._is_absent(target.value):
            return _NEVER
        name = self._prefix + target.value
        kind = self._catalogue.type_of(name)
        if not self._prefix and not name.startswith(f"{AUDIT}."):
            return self._ecs_leaf(name, kind, value, exact=exact)
        if self._is_changed(name):
            return Need(reasons=(f"{name} is made by the pipeline",))
        # A flattened field is also read where only a longer dotted key tells of it.
        key = _key_pieces(name, is_end=kind is not FieldType.FLATTENED)
        return _both(_values_need(name, kind, value, exact=exact), key)

    def _ecs_leaf(
        self, name: str, kind: FieldType | None, value: Value | None, *, exact: bool
    ) -> Need:
        if name == "event.outcome" and isinstance(value, Text) and value.value in _DECISIONS:
            value = Text(_DECISIONS[value.value])
        elif name not in _RAW_NAMES:
            return Need(reasons=(f"{name} is made by the pipeline",))
        return _values_need(name, kind, value, exact=exact)

    def _exists(self, target: FieldName) -> Need:
        if isinstance(target, Pattern):
            return Need(reasons=("a wildcard names its field",))
        if self._is_absent(target.value):
            return _NEVER
        name = self._prefix + target.value
        if self._is_changed(name) or not name.startswith(f"{AUDIT}."):
            return Need(reasons=(f"{name} is there in most events",))
        return _both(Need(), _key_pieces(name, is_end=False))

    def _nested(self, path: FieldName, child: Node) -> Need:
        if isinstance(path, Pattern):
            return _NEVER
        name = self._prefix + path.value
        if not self._prefix and absence_of(path.value):
            return _NEVER
        if self._is_changed(name) or not name.startswith(f"{AUDIT}."):
            return Need(reasons=(f"{name} is made by the pipeline",))
        inner = _Deriving(self._catalogue, f"{name}.").need(child)
        return inner if inner.clauses is None else _both(inner, _key_pieces(name, is_end=False))

    def _is_absent(self, name: str) -> bool:
        """Whether no raw event shows a value there."""
        if not self._prefix and absence_of(name):
            return True
        return self._catalogue.is_hidden(self._prefix + name, prefix=self._prefix)

    def _is_changed(self, name: str) -> bool:
        below = name.removeprefix(f"{AUDIT}.")
        is_whole = below in _CHANGED or name in (AUDIT, "kubernetes")
        return is_whole or below.partition(".")[0] == "aks_metadata"


def absence_of(name: str) -> bool:
    """Whether no raw event has the field: one that neither the API nor the pipeline knows."""
    return not name.startswith("kubernetes.") and absence_in_raw_events(name) is not None


def _key_pieces(name: str, *, is_end: bool) -> list[bytes]:
    """What the keys on the way to a field hold: each part of its name, the last one to its end.

    Keys may be dotted, so that only the first part is known to begin one.
    """
    parts = name.removeprefix(f"{AUDIT}.").split(".")
    is_top = name.startswith(f"{AUDIT}.")
    last = len(parts) - 1
    return [
        piece
        for number, part in enumerate(parts)
        for piece in pieces(
            part,
            is_start=is_top and number == 0,
            is_end=is_end and number == last,
            unsafe=_UNSAFE_IN_KEYS,
        )
    ]


def _values_need(name: str, kind: FieldType | None, value: Value | None, *, exact: bool) -> Need:
    """The need of equalling `value`, where that must be a JSON string."""
    if value is None:
        return Need(reasons=(f"{name} is compared, not equalled",))
    if isinstance(value, Boolean | Null):
        return Need(reasons=(f'{name} may be spelled true, or "true"',))
    if isinstance(value, Number):
        return Need(reasons=(f"{value.value} may be spelled in several ways",))
    if exact and kind is FieldType.TEXT:
        kind = FieldType.KEYWORD  # it is compared whole
    if kind not in (None, FieldType.KEYWORD, FieldType.FLATTENED):
        return Need(reasons=(f"a value of type {kind.value} has many spellings",))
    match value:
        case Text(text):
            return _text_need(name, kind, text, exact=exact)
        case Near(text):
            return _text_need(name, kind, text, exact=False)
        case Pattern():
            return _pattern_need(name, kind, value)
        case RegExp():
            return _regexp_need(name, value)
        case Fuzzy():
            return Need(reasons=(f"{name} need only be nearly {value.text!r}",))


def _text_need(name: str, kind: FieldType | None, text: str, *, exact: bool) -> Need:
    if exact and kind is None:
        return _spelled_need(name, text)  # only a JSON string equals a text
    if _may_be_no_string(text):
        return Need(reasons=(f"{text!r} may be a number or a word of JSON",))
    if kind is None and (_DATELIKE.match(text) or parse_span(text) is not None):
        return Need(reasons=(f"{text!r} may be a date or an address, which have many spellings",))
    return _spelled_need(name, text)


def _spelled_need(name: str, text: str) -> Need:
    found = pieces(text, is_start=True, is_end=True, unsafe=_UNSAFE)
    if not found:
        return Need(reasons=(f"the value of {name} holds nothing that is always spelled alike",))
    return Need(tuple(frozenset([piece]) for piece in found))


def _pattern_need(name: str, kind: FieldType | None, pattern: Pattern) -> Need:
    if pattern.ignore_case:
        return Need(reasons=(f"{name} is compared without regard to case",))
    found: list[bytes] = []
    last = len(pattern.tokens) - 1
    for number, token in enumerate(pattern.tokens):
        # What fits into a number, true or false may stand there without quotes.
        if isinstance(token, Wild) or _fits_no_string(token):
            continue
        is_start, is_end = number == 0, number == last
        found += pieces(token, is_start=is_start, is_end=is_end, unsafe=_UNSAFE)
    if not found:
        return Need(reasons=(f"the pattern for {name} holds no piece of {_SHORTEST} characters",))
    return Need(tuple(frozenset([piece]) for piece in found))


def _regexp_need(name: str, value: RegExp) -> Need:
    """Of each alternative the longest text that every match holds."""
    from barrelman.engine.held import held_texts  # late: few rules have one

    clauses: dict[Clause, None] = {}
    for texts in held_texts(value):
        if any(_fits_no_string(text) for text in texts):
            continue
        held = [pieces(text, is_start=False, is_end=False, unsafe=_UNSAFE) for text in texts]
        if len(held) == 1:
            clauses.update((frozenset([piece]), None) for piece in held[0])
        elif all(held):
            clauses[frozenset(max(each, key=len) for each in held)] = None
    if not clauses:
        return Need(
            reasons=(f"the regular expression for {name} holds no piece that must be there",)
        )
    return Need(tuple(clauses))


def _fits_no_string(text: str) -> bool:
    return _NUMBERLIKE.fullmatch(text) is not None or any(text in word for word in _WORDS)


def _may_be_no_string(text: str) -> bool:
    if text in _WORDS or text == "" or NUMBER.fullmatch(text):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


# --- putting needs together ----------------------------------------------------------------


def _both(need: Need, key: Iterable[bytes]) -> Need:
    assert need.clauses is not None
    keys = (*need.keys, *(frozenset([piece]) for piece in key))
    return Need(need.clauses, need.reasons, keys)


def _all_of(needs: list[Need]) -> Need:
    clauses: dict[Clause, None] = {}
    keys: dict[Clause, None] = {}
    reasons: dict[str, None] = {}
    for need in needs:
        if need.clauses is None:
            return _NEVER
        clauses.update(dict.fromkeys(need.clauses))
        keys.update(dict.fromkeys(need.keys))
        reasons.update(dict.fromkeys(need.reasons))
    return Need(tuple(clauses), tuple(reasons), tuple(keys))


def _any_of(needs: list[Need]) -> Need:
    """Of each branch its rarest clause; clauses that all branches have stay by themselves."""
    possible = [need for need in needs if need.clauses is not None]
    if not possible:
        return _NEVER
    reasons = tuple(dict.fromkeys(reason for need in possible for reason in need.reasons))
    if any(need.is_met_by_any for need in possible):
        return Need(reasons=reasons)
    rarest = [min(need.all_clauses, key=guessed_share) for need in possible]
    first, *others = (set(need.all_clauses) for need in possible)
    shared = first.intersection(*others)
    clauses = dict.fromkeys(
        [
            frozenset().union(*rarest),
            *(clause for clause in possible[0].clauses or () if clause in shared),
        ]
    )
    keys = tuple(clause for clause in possible[0].keys if clause in shared)
    return Need(tuple(clauses), reasons, keys)
