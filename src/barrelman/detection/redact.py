"""Masking secrets in what a person or another system will read.

Masked are the values of Secret objects (`data`, `stringData`, patches of them, the copy that
`kubectl apply` keeps in an annotation), fields that hold tokens or passwords in request and
response bodies, and bearer tokens, JSON web tokens and authorization headers in any string.
"""

from __future__ import annotations

import re
from typing import Any, Final

from barrelman.records.event import JsonObject
from barrelman.records.fields import AUDIT
from barrelman.records.paths import Path

MASK: Final = "[redacted]"

_RESOURCE: Final = Path(f"{AUDIT}.objectRef.resource")
_BODIES: Final = frozenset({"requestObject", "responseObject"})
_SECRET_PARTS: Final = frozenset({"data", "stringData"})
_SECRET_PATCH: Final = ("/data", "/stringData")
_APPLIED: Final = "last-applied-configuration"
_TOKEN_NAMES: Final = frozenset(
    {
        "token",
        "accesstoken",
        "idtoken",
        "refreshtoken",
        "bearertoken",
        "clientsecret",
        "password",
        "authorization",
        "apikey",
    }
)
_HINT = re.compile(r"bearer\s|eyJ|token=|authorization", re.IGNORECASE)
_MASKED_TEXT: Final = (
    (re.compile(r"\b(bearer\s+)[\w.~+/=-]+", re.IGNORECASE), rf"\1{MASK}"),
    (
        re.compile(r"\b(authorization\s*[:=]\s*(?:basic\s+)?)(?!bearer)[^\s,;\"']+", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    (re.compile(r"\beyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)?"), MASK),
    (re.compile(r"([?&](?:\w*_)?token=)[^&\s]+", re.IGNORECASE), rf"\1{MASK}"),
)


def redact_text(text: str) -> str:
    """The text with bearer tokens, JSON web tokens and authorization headers masked."""
    if _HINT.search(text):
        for pattern, replacement in _MASKED_TEXT:
            text = pattern.sub(replacement, text)
    return text


def redact(document: JsonObject) -> JsonObject:
    """A masked copy of an event's document; the document itself is not changed."""
    of_secret = "secrets" in _RESOURCE.values(document)
    copy: JsonObject = {}
    todo: list[tuple[Any, Any, _Context]] = [(document, copy, _Context(of_secret=of_secret))]
    while todo:
        node, target, context = todo.pop()
        if type(node) is dict:
            inner = context.within(node)
            for key, value in node.items():
                target[key] = _masked(value, inner.below(key, value, node), todo)
        else:
            target.extend(_masked(item, context, todo) for item in node)
    return copy


class _Context:
    """What is known of the place that the walk has reached."""

    __slots__ = ("in_body", "in_secret", "masked", "of_secret")

    def __init__(
        self,
        *,
        of_secret: bool,
        in_body: bool = False,
        in_secret: bool = False,
        masked: bool = False,
    ) -> None:
        self.of_secret = of_secret
        self.in_body = in_body
        self.in_secret = in_secret
        self.masked = masked

    def within(self, node: JsonObject) -> _Context:
        """The context inside an object: a Secret, wherever in a body it stands, is one."""
        if self.in_body and not self.in_secret and node.get("kind") == "Secret":
            return _Context(of_secret=self.of_secret, in_body=True, in_secret=True)
        return self

    def below(self, key: str, value: Any, node: JsonObject) -> _Context:
        """The context of one member; dotted keys count as the steps they stand for."""
        if self.masked:
            return self
        parts = key.split(".")
        in_body = self.in_body or not _BODIES.isdisjoint(parts)
        if not in_body:
            return self
        in_secret = self.in_secret or self.of_secret
        masked = in_secret and (
            not _SECRET_PARTS.isdisjoint(parts)
            or key.endswith(_APPLIED)
            or (key == "value" and str(node.get("path", "")).startswith(_SECRET_PATCH))
        )
        if type(value) is str:
            name = parts[-1].lower().replace("_", "").replace("-", "")
            masked = masked or name in _TOKEN_NAMES
        return _Context(of_secret=self.of_secret, in_body=True, in_secret=in_secret, masked=masked)


def _masked(value: Any, context: _Context, todo: list[tuple[Any, Any, _Context]]) -> Any:
    """The value's copy; what it holds is put on the list of things still to copy."""
    if type(value) is dict or type(value) is list:
        copy: Any = type(value)()
        todo.append((value, copy, context))
        return copy
    if context.masked and value is not None:
        return MASK
    return redact_text(value) if type(value) is str else value
