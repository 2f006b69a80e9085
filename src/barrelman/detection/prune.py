"""A query to a condition on the store's columns: what they can rule out without a line being read.

Like the sieve it may say yes too often, never no: of rows whose columns say what they seem to
(`Row.is_plain`) it keeps all that meet the query. Where it is *exact* it keeps no others.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from barrelman.query.ast import (
    And,
    Exists,
    Is,
    MatchAll,
    Node,
    Not,
    Number,
    Or,
    Pattern,
    Text,
    Value,
    Wild,
)
from barrelman.records.fields import AUDIT, Catalogue, FieldType
from barrelman.records.where import Always, Equals, IsNull, Where, Wildcard
from barrelman.records.where import And as AllOf
from barrelman.records.where import Not as Negated
from barrelman.records.where import Or as AnyOf

ALWAYS: Final = Always()
NEVER: Final = Always(is_true=False)
_COLUMNS: Final = {
    "event.action": "verb",
    f"{AUDIT}.verb": "verb",
    "user.name": "user",
    f"{AUDIT}.user.username": "user",
    "orchestrator.resource.type": "resource",
    f"{AUDIT}.objectRef.resource": "resource",
    f"{AUDIT}.objectRef.subresource": "subresource",
    f"{AUDIT}.objectRef.apiGroup": "api_group",
    "orchestrator.namespace": "namespace",
    f"{AUDIT}.objectRef.namespace": "namespace",
    "orchestrator.resource.name": "name",
    f"{AUDIT}.objectRef.name": "name",
    f"{AUDIT}.stage": "stage",
    f"{AUDIT}.level": "level",
    f"{AUDIT}.auditID": "audit_id",
    "orchestrator.cluster.name": "cluster",
}
_ADDRESSES: Final = ("source.ip", "client.ip", "related.ip", f"{AUDIT}.sourceIPs")
_STATUS: Final = f"{AUDIT}.responseStatus.code"
_V4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}", re.ASCII)
_CODE = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)


class Pruned(NamedTuple):
    """A condition on columns, and whether plain rows meet it just when they meet the query."""

    where: Where
    is_exact: bool

    @property
    def is_useful(self) -> bool:
        """Whether it rules anything out."""
        return self.where != ALWAYS


_NO_HELP: Final = Pruned(ALWAYS, False)


def prune(node: Node, catalogue: Catalogue) -> Pruned:
    """The condition of a query."""
    match node:
        case MatchAll():
            return Pruned(ALWAYS, True)
        case And(children):
            parts = [prune(child, catalogue) for child in children]
            wheres = tuple(part.where for part in parts if part.where != ALWAYS)
            return Pruned(AllOf(wheres) if wheres else ALWAYS, all(part.is_exact for part in parts))
        case Or(children):
            parts = [prune(child, catalogue) for child in children]
            if any(part.where == ALWAYS for part in parts):
                return Pruned(ALWAYS, any(p.is_exact and p.where == ALWAYS for p in parts))
            either = AnyOf(tuple(part.where for part in parts))
            return Pruned(either, all(part.is_exact for part in parts))
        case Not(child):
            part = prune(child, catalogue)
            if not part.is_exact:
                return _NO_HELP
            if part.where == ALWAYS:
                return Pruned(NEVER, True)
            return Pruned(Negated(part.where), True)
        case Is(Text() as field, value, exact):
            return _leaf(field.value, value, catalogue, exact=exact)
        case Exists(Text() as field):
            return _there(field.value, catalogue)
    return _NO_HELP


def _leaf(name: str, value: Value, catalogue: Catalogue, *, exact: bool) -> Pruned:
    if isinstance(value, Pattern) and value.is_star:
        return _there(name, catalogue)
    if name in _ADDRESSES and isinstance(value, Text) and _V4.fullmatch(value.value):
        # An address may be written in other ways, and one that is none hides all: not exact.
        return Pruned(Equals("source_ips", value.value), False)
    if name == _STATUS:
        code = _code(value, exact=exact)
        if code is not None and catalogue.type_of(name) is FieldType.LONG:
            return Pruned(Equals("status", code), True)
        return _NO_HELP
    column = _COLUMNS.get(name)
    if column is None or catalogue.type_of(name) is not FieldType.KEYWORD:
        return _NO_HELP
    if isinstance(value, Text):
        if not value.value:
            return _NO_HELP
        return Pruned(Equals(column, value.value), True)
    if isinstance(value, Pattern) and not value.ignore_case:
        pieces = [_spell(token) for token in value.tokens]
        if None not in pieces:
            pattern = "".join(piece or "" for piece in pieces)
            return Pruned(Wildcard(column, pattern), is_exact=True)
    return _NO_HELP


def _code(value: Value, *, exact: bool) -> int | None:
    """The status code that a value stands for, one that the column can hold."""
    if isinstance(value, Number):
        text = str(value.value)
    elif isinstance(value, Text) and not exact:
        text = value.value
    else:
        return None
    return int(text) if _CODE.fullmatch(text) else None


def _there(name: str, catalogue: Catalogue) -> Pruned:
    column = _COLUMNS.get(name)
    if column is None or catalogue.type_of(name) is not FieldType.KEYWORD:
        return _NO_HELP
    return Pruned(Negated(IsNull(column)), True)


def _spell(token: str | Wild) -> str | None:
    """A piece of a pattern where `*` and `?` are wildcards; None where it holds one itself."""
    if isinstance(token, Wild):
        return token.value
    return None if any(char in token for char in "*?\\") else token
