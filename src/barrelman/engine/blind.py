"""Why a rule cannot fire on an input: a field its query needs never occurs there.

Sound, not complete: a reason is given only where the query is false for every event of that
input; a rule without one may still be silent for other reasons.
"""

from __future__ import annotations

from collections.abc import Callable

from barrelman.query.ast import (
    And,
    Compare,
    Exists,
    Holds,
    Is,
    Nested,
    Node,
    Or,
    Range,
    Suits,
    Text,
    Within,
)
from barrelman.query.operands import fields_needed

Absence = Callable[[str], str | None]
"""Why a field cannot occur, or None where it can."""


def impossible(node: Node, absent: Absence, *, prefix: str = "") -> str | None:
    """The reason why `node` is never true, or None."""
    match node:
        case And(children):
            reasons = (impossible(child, absent, prefix=prefix) for child in children)
            return next((reason for reason in reasons if reason is not None), None)
        case Or(children):
            return _all_impossible(children, absent, prefix)
        case (
            Is(Text() as target)
            | Range(Text() as target)
            | Within(Text() as target)
            | Exists(Text() as target)
        ):
            return absent(prefix + target.value)
        case Nested(Text() as path, child):
            name = prefix + path.value
            return absent(name) or impossible(child, absent, prefix=f"{name}.")
        case Compare() | Suits() | Holds():
            reasons = (absent(prefix + field.value) for field in fields_needed(node))
            return next((reason for reason in reasons if reason is not None), None)
        case _:
            return None


def _all_impossible(children: tuple[Node, ...], absent: Absence, prefix: str) -> str | None:
    reasons: list[str] = []
    for child in children:
        reason = impossible(child, absent, prefix=prefix)
        if reason is None:
            return None
        if reason not in reasons:
            reasons.append(reason)
    return "; ".join(reasons) if reasons else None
