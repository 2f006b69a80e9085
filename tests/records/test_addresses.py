from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.records.addresses import parse_address, parse_network

V4 = 0xFFFF << 32


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.0.0.0", V4),
        ("10.0.0.1", V4 + 0x0A000001),
        ("255.255.255.255", V4 + 0xFFFFFFFF),
        ("::", 0),
        ("::1", 1),
        ("::ffff:10.0.0.1", V4 + 0x0A000001),
        ("2001:DB8::1", 0x20010DB8 << 96 | 1),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", 0x20010DB8 << 96 | 1),
    ],
)
def test_addresses(text: str, number: int) -> None:
    assert parse_address(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", ":", ":::", "1", "1.2.3", "1.2.3.4.5", "256.0.0.1", "01.2.3.4", "1.2.3.4 "),
        *(" ::1", "::g", "fe80::1%eth0", "1.2.3.4/32", "[::1]", "\u0661.2.3.4", "0x7f.0.0.1"),
        *("localhost", "::1::", "1:2:3:4:5:6:7:8:9", "1" * 5000, "\ud800\ud800"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None


@given(
    st.lists(st.sampled_from([*"0123456789.", "25", "255", "256", "00"]), max_size=16).map("".join)
)
@settings(deadline=None)
def test_dotted_texts_are_what_the_standard_library_takes_them_for(text: str) -> None:
    try:
        expected: int | None = V4 + int(ip_address(text))
    except ValueError:
        expected = None
    assert parse_address(text) == expected


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], {}, b"10.0.0.1"])
def test_only_text_is_an_address(value: object) -> None:
    assert parse_address(value) is None


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
        ("10.1.2.3/8", "10.0.0.0", "10.255.255.255"),
        ("10.1.2.3/32", "10.1.2.3", "10.1.2.3"),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("::1/128", "::1", "::1"),
        ("::ffff:10.0.0.0/104", "10.0.0.0", "10.255.255.255"),
        ("10.0.0.0/08", "10.0.0.0", "10.255.255.255"),
    ],
)
def test_networks(text: str, low: str, high: str) -> None:
    assert parse_network(text) == (parse_address(low), parse_address(high))


@pytest.mark.parametrize(
    "text",
    [
        *("10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/+8", "/8"),
        *("10.0.0.0/8/8", "10.0.0.0/255.0.0.0", "10.0.0.0/ 8", "10.0.0/8", "10.0.0.0/\u0668"),
        *("10.0.0.0/" + "9" * 5000, "10.0.0.0/\u00b2"),
    ],
)
def test_what_is_no_network(text: str) -> None:
    assert parse_network(text) is None


@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses())
@settings(max_examples=133, deadline=None)
def test_networks_hold_what_they_should(base: object, length: int, other: object) -> None:
    address = ip_address(str(other))
    if ":" in str(base):
        network: IPv4Network | IPv6Network = IPv6Network((str(base), length), strict=False)
    else:
        length %= 33
        network = IPv4Network((str(base), length), strict=False)
    limits = parse_network(f"{base}/{length}")
    number = parse_address(str(other))
    assert limits is not None
    assert number is not None
    if address.version == network.version:
        assert (limits[0] <= number <= limits[1]) is (address in network)
