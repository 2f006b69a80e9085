"""Masking secrets in what a person or another system will read.

Masked are the values of Secret objects (`data`, `stringData`, patches of them, copies that are
kept as text in an annotation or in `event.original`), fields that hold tokens or passwords in
request and response bodies, and bearer tokens, JSON web tokens and authorization headers in any
string, URL-encoded ones included.
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
# More Secrets side by side in dotted keys are no real document: then all of it counts as one.
_MOST_BEGINNINGS: Final = 16
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
_SECRET_KINDS: Final = frozenset({"Secret", "SecretList"})

# Each begins with a word, and what precedes a match is not searched again: linear on any text.
_BEGIN: Final = r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))"
_SPACE: Final = r"(?:\s|\+|%20)"
_HEADER: Final = rf"authorization[\\\"']*+(?:\s|%20)*+(?:[:=]|%3A|%3D){_SPACE}*+[\\\"']*+"
_SCHEME: Final = r"(?:basic|bearer|digest|negotiate|token)"
_WORD: Final = r"[^\s&,;\"']+"
_HINT = re.compile(r"bearer|eyJ|token|authorization|password|secret|api[-_]?key", re.IGNORECASE)
_NAMES: Final = (
    r"(?:(?:access|id|refresh|bearer)[-_]?)?token|client[-_]?secret|password|authorization"
    r"|api[-_]?key"
)
_MASKED_TEXT: Final = (
    # A member of JSON kept as text: its quotes carry as many backslashes as it lies deep.
    (
        re.compile(
            rf'("(?:{_NAMES})(\\*)"\s*:\s*\2")(?:.*?)((?<!\\)\2"|\Z)', re.IGNORECASE | re.DOTALL
        ),
        rf"\1{MASK}\3",
    ),
    (re.compile(rf'("(?:{_NAMES})\\*"\s*:\s*\[)\s*\\*"[^\]]*', re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(rf"{_BEGIN}(bearer{_SPACE}+)[\w.~+/=%-]+", re.IGNORECASE), rf"\1{MASK}"),
    (
        re.compile(rf"{_BEGIN}({_HEADER}{_SCHEME}{_SPACE}++)(?!\[redacted){_WORD}", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    (
        re.compile(
            rf"{_BEGIN}({_HEADER})(?!{_SCHEME}{_SPACE}|\[redacted){_WORD}(?:{_SPACE}+{_WORD})?",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(rf"{_BEGIN}eyJ[A-Za-z0-9]{{4,}}(?:\.[\w-]*){{1,4}}"), MASK),
    (
        re.compile(
            rf"{_BEGIN}((?:(?:access|id|refresh|bearer|auth|security)[-_]?)?token(?:=|%3D))"
            r"[^&\s\"',;]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
)
_SECRET_TEXT = re.compile(
    r'"kind\\*"\s*:\s*\\*"Secret(?:List)?\\*"|"resource\\*"\s*:\s*\\*"secrets\\*"'
)
_DATA_TEXT = re.compile(r'"(?:data|stringData|requestObject|responseObject)\\*"\s*:')


def redact_text(text: str) -> str:
    """The text with tokens and authorization headers masked.

    Of a Secret, or an event about one, that is kept as text, all is masked from its data on.
    """
    if _HINT.search(text):
        if _SECRET_TEXT.search(text):
            data = _DATA_TEXT.search(text)
            if data is not None:
                text = text[: data.end()] + MASK
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
            inner, dotted = context.within(node), _dotted_secrets(node)
            for key, value in node.items():
                below = inner.below(key, value, node, is_secret=key.startswith(dotted))
                target[key] = _masked(value, below, todo)
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
        if self.in_body and not self.in_secret and _is_secret(node.get("kind")):
            return _Context(of_secret=self.of_secret, in_body=True, in_secret=True)
        return self

    def below(self, key: str, value: Any, node: JsonObject, *, is_secret: bool) -> _Context:
        """The context of one member; dotted keys count as the steps they stand for."""
        if self.masked:
            return self
        parts = key.split(".")
        in_body = self.in_body or not _BODIES.isdisjoint(parts)
        if not in_body:
            return self
        in_secret = self.in_secret or self.of_secret or is_secret
        path = node.get("path") if key == "value" else None  # an operation of a JSON patch
        masked = _holds_token(parts[-1], value)
        if type(path) is str:
            masked = masked or _holds_token(path.rpartition("/")[2], value)
        if in_secret:
            masked = (
                masked
                or not _SECRET_PARTS.isdisjoint(parts)
                or key.endswith(_APPLIED)
                or (type(path) is str and path.startswith(_SECRET_PATCH))
                or (type(path) is str and path.endswith(_APPLIED))
                or (type(value) is str and parts[-1] in _BODIES)
            )
        return _Context(of_secret=self.of_secret, in_body=True, in_secret=in_secret, masked=masked)


def _holds_token(name: str, value: Any) -> bool:
    """Whether a member of that name holds a token: as text, or as a list of texts."""
    if name.lower().replace("_", "").replace("-", "") not in _TOKEN_NAMES:
        return False
    return type(value) is not dict and not (
        type(value) is list and any(type(item) is dict for item in value)
    )


def _is_secret(kind: Any) -> bool:
    kinds = kind if type(kind) is list else [kind]
    return any(type(each) is str and each in _SECRET_KINDS for each in kinds)


def _dotted_secrets(node: JsonObject) -> tuple[str, ...]:
    """Beginnings of the dotted keys that lie in a Secret, told by its kind beside them."""
    found = [key[:-4] for key in node if key.endswith(".kind") and _is_secret(node[key])]
    return tuple(found) if len(found) <= _MOST_BEGINNINGS else ("",)


def _masked(value: Any, context: _Context, todo: list[tuple[Any, Any, _Context]]) -> Any:
    """The value's copy; what it holds is put on the list of things still to copy."""
    if type(value) is dict or type(value) is list:
        copy: Any = type(value)()
        todo.append((value, copy, context))
        return copy
    if context.masked and value is not None:
        return MASK
    return redact_text(value) if type(value) is str else value
