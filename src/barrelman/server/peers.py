"""What a connection says of its other end, and a request of the way it came."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from barrelman.server.problems import RefusedError

PEER: Final = "barrelman.peer"
"""The key in `scope["extensions"]`: set by the listener alone, from the TLS handshake."""

_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_FORWARDING: Final = (
    *("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip"),
    *("cf-connecting-ip", "fastly-client-ip", "x-original-host"),
)
"""Headers that a proxy adds; so does every one that begins as the next says."""
_FORWARDED: Final = "x-forwarded"


class Peer(NamedTuple):
    """Of a client certificate that one of our authorities signed: its subject."""

    common_name: str
    alternatives: tuple[str, ...] = ()
    """`DNS:…`, `URI:…`, `email:…`, `IP Address:…`"""


def peer_of(scope: Scope) -> Peer | None:
    found: Peer | None = (scope.get("extensions") or {}).get(PEER)
    return found


def address_of(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def network_of(scope: Scope) -> str:
    """The address to hold to account: of IPv6 the /64, of which anyone has all."""
    address = address_of(scope)
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return address


def is_from_this_machine(scope: Scope, headers: Headers) -> bool:
    """Whether someone on this machine asks for themselves.

    Not so a proxy that runs here and speaks for others, nor a browser that was sent here by a page
    whose name it looked up as 127.0.0.1: that one says the page's name in `Host`.
    """
    try:
        parsed = ip_address(address_of(scope))
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    if not (mapped or parsed).is_loopback or _is_forwarded(headers):
        return False
    return _host_in(f"//{headers.get('host', '')}") in _LOCAL_HOSTS


def refuse_other_origins(headers: Headers) -> None:
    """A page of another site may not have a browser ask here with what the browser knows."""
    origin, host = headers.get("origin"), headers.get("host", "")
    is_foreign = origin is not None and origin.partition("://")[2].lower() != host.lower()
    if is_foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise RefusedError("requests from pages of other sites are not taken", status=403)


def _is_forwarded(headers: Headers) -> bool:
    return any(name in _FORWARDING or name.startswith(_FORWARDED) for name in headers)


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
