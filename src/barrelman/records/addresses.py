"""IP addresses and networks, as Elasticsearch's `ip` type compares them.

Addresses are 128-bit integers: an IPv4 address is its IPv4-mapped IPv6 one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_V4_BASE = 0xFFFF << 32
_LENGTH = re.compile(r"\d{1,3}", re.ASCII)


def parse_address(text: object) -> int | None:
    """The address as an integer, or None where the text is none (zones are not accepted)."""
    if type(text) is not str or not 2 <= len(text) <= 45:
        return None
    if ":" not in text:
        return _parse_v4(text)
    if "%" in text:
        return None
    import ipaddress  # late: few rules ask for addresses

    try:
        return int(ipaddress.IPv6Address(text))
    except ipaddress.AddressValueError:
        return None


@lru_cache(maxsize=4096)
def _parse_v4(text: str) -> int | None:
    """As `ipaddress` does, in a fifth of its time: there is one in every event, and few differ."""
    parts = text.split(".")
    if len(parts) != 4 or not text.isascii():
        return None
    address = _V4_BASE >> 32
    for part in parts:
        if not part.isdigit() or len(part) > 3 or (part[0] == "0" and part != "0"):
            return None
        octet = int(part)
        if octet > 255:
            return None
        address = address << 8 | octet
    return address


def parse_network(text: str) -> tuple[int, int] | None:
    """First and last address of `10.0.0.0/8`-like text (host bits may be set), else None."""
    address_text, slash, length_text = text.partition("/")
    address = parse_address(address_text)
    if address is None or not slash or not _LENGTH.fullmatch(length_text):
        return None
    length = int(length_text)
    if ":" not in address_text:
        length = length + 96 if length <= 32 else 129
    if length > 128:
        return None
    host_mask = (1 << (128 - length)) - 1
    return address & ~host_mask, address | host_mask


def parse_span(text: str) -> tuple[int, int] | None:
    """First and last address of an address or a network, else None."""
    address = parse_address(text)
    return parse_network(text) if address is None else (address, address)


def merge_spans(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same addresses as disjoint spans in order."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged
