"""Masking secrets in what a person or another system will read.

Masked are the values of Secret objects (`data`, `stringData`, patches of them, copies that are
kept as text in an annotation or in `event.original`), fields that hold tokens or passwords in
request and response bodies, and bearer tokens, JSON web tokens and authorization headers in any
string, URL-encoded ones included.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

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
        "authtoken",
        "bearertoken",
        "idtoken",
        "refreshtoken",
        "securitytoken",
        "sessiontoken",
        "authorization",
        "cookie",
        "setcookie",
    }
)
_SECRET_ENDS: Final = (
    "password",
    "passwd",
    "passphrase",
    "secretkey",
    "secretaccesskey",
    "privatekey",
    "clientsecret",
    "apikey",
    "dockerconfigjson",
    "dockercfg",
)
# Members of an object that only says where a secret lies, or what shape it has.
_REFERENCES: Final = frozenset(
    {
        "name",
        "namespace",
        "key",
        "kind",
        "apiVersion",
        "group",
        "optional",
        "path",
        "audience",
        "expirationSeconds",
        "secretName",
        "secretRef",
        "secretKeyRef",
        "configMapKeyRef",
        "valueFrom",
        "from",
        "$ref",
        "type",
        "format",
        "description",
        "properties",
        "required",
        "items",
        "enum",
        "pattern",
        "nullable",
        "minLength",
        "maxLength",
    }
)
# Ends of the names of lists that may be command lines.
_ARGUMENTS: Final = (
    *("args", "argv", "arguments", "command", "commands", "cmd", "entrypoint"),
    *("flags", "opts", "options", "parameters", "params"),
)
# What says who did what to which object is evidence, whatever it looks like.
_KEPT: Final = frozenset({"username", "objectRef", "verb", "image"})
_KEPT_AT_ROOT: Final = frozenset({"user", "orchestrator", "related", "container"})
_SECRET_KINDS: Final = frozenset({"Secret", "SecretList"})

# Each begins with a word, and what precedes a match is not searched again: linear on any text.
_BEGIN: Final = r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))"
_SPACE: Final = r"(?:\s|\+|%20)"
_GAP: Final = r"(?:[-_]|%5F|%2D)?"
_HEADER: Final = rf"authorization[\\\"']*+(?:\s|%20)*+(?:[:=]|%3A|%3D){_SPACE}*+[\\\"']*+"
_SCHEME: Final = r"(?:basic|bearer|digest|negotiate|token)"
_WORD: Final = r"[^\s&,;\"']+"
_APART: Final = r"(?:[\W_]|%5F|%2D)*+"
# What any of the patterns below needs; `api` alone stands in every URI.
_HINT = re.compile(
    rf"bearer|basic|eyJ|token|authorization|passw|passphrase|secret|api{_APART}key"
    rf"|private{_APART}key|credential|cookie|docker{_APART}(?:cfg|config)|://|%3A%2F%2F",
    re.IGNORECASE,
)
_TOKEN: Final = rf"(?:(?:access|auth|bearer|id|refresh|security|session){_GAP})?token"
_STRONG: Final = (
    rf"(?:password|passwd|passphrase|secret{_GAP}(?:access{_GAP})?key|private{_GAP}key"
    rf"|client{_GAP}secret|api{_GAP}key|dockerconfigjson|dockercfg)"
)
_NAMES: Final = rf"(?:[\w.-]{{0,40}}{_STRONG}|{_TOKEN}|authorization|(?:set-)?cookie)"


@cache
def _masked_text() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Patterns and what they leave. Compiling them takes 4 ms, and few texts ask for it."""
    return (
        # A member of JSON kept as text: its quotes carry as many backslashes as it lies deep.
        (
            re.compile(
                rf'("{_NAMES}(\\*+)"\s*+:\s*+\2")(?:.*?)((?<!\\)\2"|\Z)', re.IGNORECASE | re.DOTALL
            ),
            rf"\1{MASK}\3",
        ),
        (
            re.compile(rf'("{_NAMES}\\*+"\s*+:\s*+\[)\s*+\\*+"[^\]]*+', re.IGNORECASE),
            rf"\1{MASK}",
        ),
        (re.compile(rf"{_BEGIN}(bearer{_SPACE}++)[\w.~+/=%-]++", re.IGNORECASE), rf"\1{MASK}"),
        (
            re.compile(
                rf"{_BEGIN}({_HEADER}{_SCHEME}{_SPACE}++)(?!\[redacted){_WORD}", re.IGNORECASE
            ),
            rf"\1{MASK}",
        ),
        (
            re.compile(
                rf"{_BEGIN}({_HEADER})(?!{_SCHEME}{_SPACE}|\[redacted)"
                rf"{_WORD}(?:{_SPACE}++{_WORD})?",
                re.IGNORECASE,
            ),
            rf"\1{MASK}",
        ),
        (
            re.compile(
                r"(cookie\s*+(?::|%3A|=)(?:\s|\+|%20)*+)(?!\[redacted)[^\r\n&\"']++", re.IGNORECASE
            ),
            rf"\1{MASK}",
        ),
        (
            re.compile(
                rf"((?:{_BEGIN}{_TOKEN}|{_STRONG})(?:=|%3D))(?!\[redacted)[^&\s\"',;]++",
                re.IGNORECASE,
            ),
            rf"\1{MASK}",
        ),
        # A flag and, as the next argument, its value: in a command line, a URI or a list as text.
        (
            re.compile(
                rf"(-(?:{_TOKEN}|{_STRONG})(?:{_SPACE}++|&command=|\\*+\"\s*+,\s*+\\*+\"))"
                r"(?![-\[])[^&\s\"',;\\]++",
                re.IGNORECASE,
            ),
            rf"\1{MASK}",
        ),
        (re.compile(r"(://[^/\s:@?#\"']*+:)[^/\s@\"']++(?=@)"), rf"\1{MASK}"),
        (
            re.compile(
                r"(%3A%2F%2F(?:(?!%2F|%3A|%40)[^&\s])*+%3A)(?:(?!%2F|%40)[^&\s])++(?=%40)",
                re.IGNORECASE,
            ),
            rf"\1{MASK}",
        ),
    )


_SECRET_TEXT = re.compile(
    r'"kind\\*+"\s*+:\s*+\\*+"Secret(?:List)?\\*+"|"resource\\*+"\s*+:\s*+\\*+"secrets\\*+"'
)
_DATA_TEXT = re.compile(r'"(?:data|stringData|requestObject|responseObject)\\*+"\s*+:')
_ENV_TEXT = re.compile(
    r'("name(\\*+)"\s*+:\s*+\2"([^"\\]*+)\2"\s*+,\s*+\2"value\2"\s*+:\s*+\2")'
    r'(?:(?!(?<!\\)\2").)*+((?<!\\)\2"|\Z)',
    re.DOTALL,
)
_BASIC = re.compile(rf"{_BEGIN}(basic{_SPACE}++)([\w+/=%-]++)", re.IGNORECASE)
_ENCODED = re.compile(r"\d|[a-z][A-Z]|=|%3D")
_JWT = re.compile(rf"{_BEGIN}eyJ[\w-]{{4,}}+(?:\.[\w-]*+){{0,4}}+")
_FLAG = re.compile(r"--?([A-Za-z][\w-]*)")


def redact_text(text: str) -> str:
    """The text with tokens, passwords and authorization headers masked.

    Of a Secret, or an event about one, that is kept as text, all is masked from its data on.
    """
    if _HINT.search(text):
        if _SECRET_TEXT.search(text):
            data = _DATA_TEXT.search(text)
            if data is not None:
                text = text[: data.end()] + MASK
        for pattern, replacement in _masked_text():
            text = pattern.sub(replacement, text)
        text = _ENV_TEXT.sub(_mask_env, text)
        text = _BASIC.sub(_mask_basic, text)
        text = _JWT.sub(_mask_jwt, text)
    return text


# Labels, images and names are the same in many events.
_redacted = lru_cache(maxsize=8192)(redact_text)


def _mask_env(found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}{found[4]}" if _is_secret_variable(found[3]) else found[0]


def _mask_basic(found: re.Match[str]) -> str:
    """Masked is what looks encoded: `basic setup` is a phrase."""
    return found[1] + MASK if _ENCODED.search(found[2]) else found[0]


def _mask_jwt(found: re.Match[str]) -> str:
    """Half a token is masked, too; the list API's `continue` (`{"v":…`) is none."""
    text = found[0]
    is_continue = text.startswith("eyJ2Ijo") and "eyJ" not in text[3:] and "." not in text
    return text if is_continue or (len(text) < 16 and "." not in text) else MASK


def _is_secret_name(name: str) -> bool:
    plain = name.lower().replace("_", "").replace("-", "")
    return plain in _TOKEN_NAMES or plain.endswith(_SECRET_ENDS)


def _is_secret_variable(name: str) -> bool:
    """Names of variables say more than those of fields: none refers to a Secret by its name."""
    plain = name.lower().replace("_", "").replace("-", "").replace(".", "")
    return _is_secret_name(name) or plain.endswith(("token", "secret", "credentials", "cookie"))


def _is_secret_flag(item: Any) -> bool:
    flag = _FLAG.fullmatch(item) if type(item) is str else None
    name = flag[1].lower() if flag else ""
    return _is_secret_name(name) or name.endswith("-token")


def redact(document: JsonObject, *, is_made_up: bool = False) -> JsonObject:
    """A masked copy of an event's document; the document itself is not changed.

    `is_made_up`: it holds single fields under their dotted names. What stood beside them is not
    known: masked is what it may have told to be secret.
    """
    copy: JsonObject = {}
    resources = _RESOURCE.values(document)
    of_secret = "secrets" in resources or (is_made_up and not resources)
    if is_made_up:
        document = {
            name: MASK if value is not None and may_be_secret(name) else value
            for name, value in document.items()
        }
    todo: list[_Step] = [(document, copy, _context(of_secret=of_secret, at_root=True))]
    while todo:
        node, target, context = todo.pop()
        if type(node) is not dict:
            _extend(target, node, context, todo)
            continue
        inner, dotted = context.within(node), _dotted_secrets(node)
        for key, value in node.items():
            if inner.masked or inner.kept:
                below = inner
            else:
                below = inner.below(key, value, node, is_secret=key.startswith(dotted))
            target[key] = _masked(value, below, todo)
    return copy


def may_be_secret(name: str) -> bool:
    """Whether a field's values are secrets or not by what stands beside them in a body: the name
    of a variable, the path of a patch, the argument before, the kind of an object within."""
    parts = name.split(".")
    body = next((at for at, part in enumerate(parts) if part in _BODIES), None)
    if body is None:
        return False
    steps = parts[body + 1 :]
    if "value" in steps or any(map(_is_secret_name, steps[:-1])):
        return True
    # Whether the body itself is a Secret is known otherwise.
    if not _SECRET_PARTS.isdisjoint(steps[1:]) or steps[1:][-1:] == ["raw"]:
        return True
    if name.endswith(_APPLIED) and steps[:2] != ["metadata", "annotations"]:
        return True
    return parts[-1].lower().endswith(_ARGUMENTS)


def _extend(target: list[Any], node: list[Any], context: _Context, todo: list[_Step]) -> None:
    """A list's copy; of a command's arguments, the one after `--token` is its value."""
    before: Any = None
    for item in node:
        is_value = context.in_body and type(item) is str and _is_secret_flag(before)
        masked = is_value and not item.startswith("-")
        target.append(MASK if masked else _masked(item, context, todo))
        before = item


class _Key:
    """What the name of a member says by itself; a dotted one counts as the steps it stands for."""

    __slots__ = (
        *("is_kept", "is_kept_at_root", "last", "names_secret", "of_body", "of_secret", "parts"),
    )

    def __init__(self, key: str) -> None:
        self.parts = key.split(".")
        self.last = self.parts[-1]
        self.of_body = not _BODIES.isdisjoint(self.parts)
        self.is_kept = not _KEPT.isdisjoint(self.parts)
        self.is_kept_at_root = self.parts[0] in _KEPT_AT_ROOT
        self.names_secret = any(map(_is_secret_name, self.parts))
        self.of_secret = (
            not _SECRET_PARTS.isdisjoint(self.parts) or key.endswith(_APPLIED) or self.last == "raw"
        )


_key_of = lru_cache(maxsize=4096)(_Key)
# A log may hold keys of any length: those are not remembered.
_LONGEST_REMEMBERED: Final = 128


class _Context:
    """What is known of the place that the walk has reached. Few differ: `_context` keeps them."""

    __slots__ = ("at_root", "in_body", "in_secret", "kept", "masked", "of_secret")

    def __init__(
        self,
        *,
        of_secret: bool,
        at_root: bool = False,
        in_body: bool = False,
        in_secret: bool = False,
        kept: bool = False,
        masked: bool = False,
    ) -> None:
        self.of_secret = of_secret
        self.at_root = at_root
        self.in_body = in_body
        self.in_secret = in_secret
        self.kept = kept
        self.masked = masked

    def within(self, node: JsonObject) -> _Context:
        """The context inside an object: a Secret, wherever in a body it stands, is one."""
        if self.in_body and not self.in_secret and _is_secret(node.get("kind")):
            return _context(of_secret=self.of_secret, in_body=True, in_secret=True)
        return self

    def below(self, key: str, value: Any, node: JsonObject, *, is_secret: bool) -> _Context:
        """The context of one member, where this one is neither masked nor kept."""
        name = _key_of(key) if len(key) <= _LONGEST_REMEMBERED else _Key(key)
        if not (self.in_body or name.of_body):
            kept = name.is_kept or (self.at_root and name.is_kept_at_root)
            return _context(of_secret=self.of_secret, kept=kept)
        in_secret = self.in_secret or self.of_secret or is_secret
        masked = name.names_secret and _holds_secret(name.parts, value)
        if name.last == "value":  # of an operation of a JSON patch, or of a variable
            masked = masked or self._is_secret_value(key, value, node, in_secret=in_secret)
        if in_secret and not masked:
            masked = name.of_secret or (type(value) is str and name.last in _BODIES)
        return _context(
            of_secret=self.of_secret,
            in_body=True,
            in_secret=in_secret,
            kept=not masked and name.last == "image",
            masked=masked,
        )

    def _is_secret_value(self, key: str, value: Any, node: JsonObject, *, in_secret: bool) -> bool:
        """Whether what stands beside a `value` says that it is one."""
        path, name = (node.get(f"{key[:-5]}{other}") for other in ("path", "name"))
        if type(name) is str and _is_secret_variable(name) and type(value) is not dict:
            return True
        if type(path) is not str:
            return False
        if _holds_secret(path.split("/"), value):
            return True
        return in_secret and (path.startswith(_SECRET_PATCH) or path.endswith(_APPLIED))


_context = cache(_Context)  # six flags: 64 at the most


_Step: TypeAlias = tuple[Any, Any, _Context]


def _holds_secret(steps: list[str], value: Any) -> bool:
    """Whether what stands at these steps is a secret, not a switch, a reference or a schema."""
    if not any(_is_secret_name(step) for step in steps):
        return False
    if not _is_secret_name(steps[-1]):
        return steps[-1] not in _REFERENCES and type(value) is not bool
    items = value if type(value) is list else [value]
    return any(
        not item.keys() <= _REFERENCES if type(item) is dict else type(item) is not bool
        for item in items
    )


def _is_secret(kind: Any) -> bool:
    kinds = kind if type(kind) is list else [kind]
    return any(type(each) is str and each in _SECRET_KINDS for each in kinds)


def _dotted_secrets(node: JsonObject) -> tuple[str, ...]:
    """Beginnings of the dotted keys that lie in a Secret, told by its kind beside them."""
    found = [key[:-4] for key in node if key.endswith(".kind") and _is_secret(node[key])]
    return tuple(found) if len(found) <= _MOST_BEGINNINGS else ("",)


def _masked(value: Any, context: _Context, todo: list[_Step]) -> Any:
    """The value's copy; what it holds is put on the list of things still to copy."""
    if type(value) is dict or type(value) is list:
        copy: Any = type(value)()
        todo.append((value, copy, context))
        return copy
    if context.kept:
        return value
    if context.masked and value is not None:
        return MASK
    if type(value) is not str:
        return value
    return _redacted(value) if len(value) <= _LONGEST_REMEMBERED else redact_text(value)
