"""EQL's functions on single values."""

from __future__ import annotations

import math
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from expressionoracle import Date, call
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.engine.functions import Instant, first_argument, fold, function
from barrelman.query.eqlcalls import FUNCTIONS

CASES: list[tuple[str, list[Any], Any]] = [
    ("add", [1, 2], 3),
    ("add", [1, 2.5], 3.5),
    ("add", [2**63 - 1, 1], None),
    ("add", ["1", 2], None),
    ("add", [True, 1], None),
    ("add", [1e308, 1e308], None),
    ("subtract", [2, 5], -3),
    ("subtract", [-(2**63), 1], None),
    ("multiply", [3, -2], -6),
    ("multiply", [2**62, 2], None),
    ("multiply", [0.5, 4], 2.0),
    ("divide", [7, 2], 3),
    ("divide", [-7, 2], -3),
    ("divide", [7, -2], -3),
    ("divide", [-7, -2], 3),
    ("divide", [7, 2.0], 3.5),
    ("divide", [7.0, 2], 3.5),
    ("divide", [1, 0], None),
    ("divide", [1.0, 0.0], None),
    ("divide", [2**63 - 1, 1], 2**63 - 1),
    ("divide", [-(2**63), -1], None),
    ("modulo", [7, 3], 1),
    ("modulo", [-7, 3], -1),
    ("modulo", [7, -3], 1),
    ("modulo", [-7.5, 2], -1.5),
    ("modulo", [7, 0], None),
    ("modulo", [7.0, 0], None),
    ("between", ["welcome to event query language", " ", " "], "to"),
    ("between", ["welcome to event query language", " ", " ", True], "to event query"),
    ("between", ["System Idle Process", "s", "e"], "t"),
    ("between", ["System Idle Process", "S", "e"], "yst"),
    ("between", ["System Idle Process", "s", "x"], ""),
    ("between", ["System Idle Process", "x", "e"], ""),
    ("between", ["ab", "ab", "b"], ""),
    ("between", ["aXbX", "a", "X", True], "Xb"),
    ("between", ["text", "", "x"], "text"),
    ("between", ["text", "t", ""], "text"),
    ("between", ["", "a", "b"], ""),
    ("between", [1, "a", "b"], None),
    ("cidrmatch", ["10.1.2.3", "10.0.0.0/8"], True),
    ("cidrmatch", ["10.1.2.3", "11.0.0.0/8", "10.1.0.0/16"], True),
    ("cidrmatch", ["12.1.2.3", "11.0.0.0/8", "10.1.0.0/16"], False),
    ("cidrmatch", ["::ffff:10.1.2.3", "10.0.0.0/8"], True),
    ("cidrmatch", ["2001:db8::1", "2001:db8::/32"], True),
    ("cidrmatch", ["10.1.2.3", "::/0"], True),
    ("cidrmatch", ["10.1.2.3", "10.1.2.3"], True),
    ("cidrmatch", ["no address", "10.0.0.0/8"], None),
    ("cidrmatch", [10, "10.0.0.0/8"], None),
    ("concat", ["a", "b", "c"], "abc"),
    ("concat", ["a", 1, 2.5, True], "a12.5true"),
    ("concat", ["", ""], ""),
    ("endswith", ["abc", "bc"], True),
    ("endswith", ["abc", "BC"], False),
    ("endswith", ["abc", ""], True),
    ("endswith", [5, "5"], None),
    ("indexof", ["abcabc", "c"], 2),
    ("indexof", ["abcabc", "c", 3], 5),
    ("indexof", ["abcabc", "x"], None),
    ("indexof", ["abcabc", "a", -5], 0),
    ("indexof", ["abcabc", "a", 99], None),
    ("indexof", ["abc", "", 1], 1),
    ("indexof", ["abc", "a", 1.5], None),
    ("length", ["abc"], 3),
    ("length", [""], 0),
    ("length", ["\U0001f600é"], 2),
    ("length", [5], None),
    ("number", ["1234"], 1234),
    ("number", ["-12"], -12),
    ("number", ["31.5"], 31.5),
    ("number", ["1e3"], 1000.0),
    ("number", ["0x1F"], 31),
    ("number", ["0x1F", 16], 31),
    ("number", ["1f", 16], 31),
    ("number", ["1010", 2], 10),
    ("number", ["12", 2], None),
    ("number", ["abc"], None),
    ("number", [""], None),
    ("number", [" 1"], None),
    ("number", ["1_0"], None),
    ("number", ["\u0663"], None),
    ("number", ["nan"], None),
    ("number", ["1e999"], None),
    ("number", ["9" * 5000], None),
    ("number", ["9223372036854775807"], 2**63 - 1),
    ("number", ["9223372036854775808"], None),
    ("number", ["11", 1], None),
    ("number", ["11", 37], None),
    ("number", ["z" * 5000, 36], None),
    ("number", [5], 5),
    ("startswith", ["abc", "ab"], True),
    ("startswith", ["abc", "AB"], False),
    ("startswith", ["", ""], True),
    ("startswith", ["abc", 5], None),
    ("string", [5], "5"),
    ("string", [5.0], "5.0"),
    ("string", [True], "true"),
    ("string", ["x"], "x"),
    ("string", [Instant(1_795_417_560_000)], "2026-11-23T07:06:00.000Z"),
    ("string", [Instant(10**30)], None),
    ("stringcontains", ["abc", "b"], True),
    ("stringcontains", ["abc", "B"], False),
    ("stringcontains", ["abc", ""], False),
    ("stringcontains", ["", ""], False),
    ("substring", ["abcdef", 2], "cdef"),
    ("substring", ["abcdef", 2, 4], "cd"),
    ("substring", ["abcdef", -2], "ef"),
    ("substring", ["abcdef", 1, -1], "bcde"),
    ("substring", ["abcdef", 4, 2], ""),
    ("substring", ["abcdef", 9], ""),
    ("substring", ["abcdef", -99, 99], "abcdef"),
    ("substring", ["abcdef", 1.0], None),
    ("substring", ["abcdef", True], None),
]


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(("name", "args", "expected"), CASES)
def test_a_function_of_values(name: str, args: list[Any], expected: Any) -> None:
    assert same(function(name)(*args), expected)
    assert same(first_argument(name, args[1:])(args[0]), expected)


FOLDED: list[tuple[str, list[Any], Any]] = [
    ("startswith", ["ABC", "ab"], True),
    ("endswith", ["abc", "BC"], True),
    ("stringcontains", ["aBc", "b"], True),
    ("stringcontains", ["aBc", ""], False),
    ("indexof", ["abC", "c"], 2),
    ("indexof", ["abCabC", "c", 3], 5),
    ("between", ["System Idle Process", "s", "E"], "yst"),
    ("between", ["System Idle Process", "s", "E", True], "ystem Idle Proc"),
    ("between", ["\u0130aXb", "A", "B"], "X"),  # its small letter is two characters
    ("startswith", ["ÉCLAIR", "é"], True),
]


@pytest.mark.parametrize(("name", "args", "expected"), FOLDED)
def test_a_tilde_ignores_case(name: str, args: list[Any], expected: Any) -> None:
    assert same(function(name, ignore_case=True)(*args), expected)
    assert same(first_argument(name, args[1:], ignore_case=True)(args[0]), expected)


def arguments(name: str) -> int:
    return FUNCTIONS[name].least


@pytest.mark.parametrize("name", [*FUNCTIONS])
def test_every_function_of_the_language_is_there_and_null_makes_null(name: str) -> None:
    args: list[Any] = ["10.0.0.1"] * arguments(name)
    for at in range(len(args)):
        with_null = [*args[:at], None, *args[at + 1 :]]
        assert function(name)(*with_null) is None
        assert first_argument(name, with_null[1:])(with_null[0]) is None
    if FUNCTIONS[name].may_ignore_case:
        assert function(name, ignore_case=True)(*[None] * len(args)) is None


@given(st.text())
def test_folding_keeps_places(text: str) -> None:
    assert len(fold(text)) == len(text)


TEXTS = st.text("abAB. 01x-", max_size=8) | st.sampled_from(
    ["10.0.0.1", "::1", "::ffff:10.0.0.1", "0xff", "-7", "1e3", "\u0130", "ß", "\ud800"]
)
VALUES: st.SearchStrategy[Any] = (
    TEXTS
    | st.integers(-5, 5)
    | st.sampled_from([True, False, None, 2.5, -0.0, 1e308, 2**62, 2**64, 16, 2, 1e22])
)


class Addresses:
    """What the oracle asks of addresses."""

    def address_of(self, found: Any) -> str | None:
        try:
            return str(ip_address(found)) if isinstance(found, str) and len(found) > 1 else None
        except ValueError:
            return None

    def is_in_network(self, found: Any, network: str) -> bool:
        try:
            wanted = ip_network(network, strict=False)
        except ValueError:
            return False
        address = ip_address(found)
        mapped = getattr(address, "ipv4_mapped", None)
        return any(each in wanted for each in (address, mapped) if each is not None)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*FUNCTIONS]), st.lists(VALUES, min_size=4, max_size=4), st.booleans())
def test_functions_are_those_of_the_oracle(name: str, args: list[Any], tilde: bool) -> None:
    described = FUNCTIONS[name]
    if name == "cidrmatch":
        args[1:] = ["10.0.0.0/8", "::/64"]
    args = args[: max(len(described.takes), arguments(name))]
    ignore_case = tilde and described.may_ignore_case
    judge: Any = Addresses()
    for count in range(arguments(name), len(args) + 1):
        given_args = args[:count]
        expected = None
        if None not in given_args:
            expected = call(judge, name, given_args, ignore_case=ignore_case)
        got = function(name, ignore_case=ignore_case)(*given_args)
        assert same(got, expected)
        rest = first_argument(name, given_args[1:], ignore_case=ignore_case)
        assert same(rest(given_args[0]), expected)


def test_a_date_is_a_number_and_its_text() -> None:
    assert function("add")(Instant(5), 2) == call(Addresses(), "add", [Date(5), 2]) == 7  # type: ignore[arg-type]
    assert math.isclose(function("divide")(Instant(5), 2.0), 2.5)  # type: ignore[arg-type]
