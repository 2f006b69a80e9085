"""The `Authorization` header: what a client shows.

ApiKey base64(id:secret)      as Kibana's clients do
Bearer id.secret              as API servers and Prometheus do
Basic base64(name:password)   an account, or a key's id and secret
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, Literal, NamedTuple

# Longer than any that we make: not worth decoding.
_MOST_LENGTH: Final = 4096


class Shown(NamedTuple):
    """A name and a secret. `is_pair`: typed as name and password, so it may be an account's."""

    kind: Literal["key", "pair"]
    name: str
    secret: str


def parse(header: str) -> Shown | None:
    """None where it is none of these."""
    if len(header) > _MOST_LENGTH:
        return None
    scheme, _, rest = header.strip().partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "apikey":
            return _shown("key", _decoded(rest), ":")
        case "basic":
            return _shown("pair", _decoded(rest), ":")
        case "bearer":
            # Some clients know one kind of token only, and send Kibana's form as one.
            return _shown("key", rest, ".") or _shown("key", _decoded(rest), ":")
    return None


def _shown(kind: Literal["key", "pair"], text: str | None, between: str) -> Shown | None:
    name, found, secret = (text or "").partition(between)
    return Shown(kind, name, secret) if found and name and secret else None


def _decoded(text: str) -> str | None:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
