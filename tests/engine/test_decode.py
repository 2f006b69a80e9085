from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.engine import decode
from barrelman.engine.decode import MAX_DEPTH, DecodeError, dumps, dumps_line, loads, shallow

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


def nest(depth: int, *, by_object: bool = False) -> Any:
    value: Any = {} if by_object else []
    for _ in range(depth - 1):
        value = {"a": value} if by_object else [value]
    return value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b'{"a":', "truncated"),
        (b'{"a":"x', "truncated"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":01}', "not JSON"),
        (b'{"a":1} x', "not JSON"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper than 1024 levels"),
    ],
)
def test_refusals_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        loads(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("by_object", [False, True])
@pytest.mark.parametrize("depth", [1, 200, 254, 255, 256, 1000, MAX_DEPTH])
def test_what_can_be_loaded_can_be_written(depth: int, by_object: bool) -> None:
    opening, closing = (b'{"a":', b"}") if by_object else (b"[", b"]")
    core = b"{}" if by_object else b"[]"
    data = opening * (depth - 1) + core + closing * (depth - 1)
    assert dumps(loads(data)) == data


def test_no_nesting_is_too_deep_to_write() -> None:
    assert dumps(nest(50_000)) == b"[" * 50_000 + b"]" * 50_000


def test_the_slow_writer_agrees_with_the_fast_one() -> None:
    value = {"b": [1, 2.5, None, True, "é\n\u2028"], "a": {"": {}, "x": []}, "c": 1e25}
    deep = nest(300, by_object=True)
    both = dumps({"value": value, "deep": deep})
    assert both == b'{"value":' + dumps(value) + b',"deep":' + dumps(deep) + b"}"
    assert dumps({"b": 1, "a": deep}, sort_keys=True).startswith(b'{"a":{"a":')


@pytest.mark.parametrize(
    ("value", "written"), [({"a": "\ud800"}, b'{"a":"\\ud800"}'), ({"n": 2**70}, None)]
)
def test_values_beyond_orjson_are_written(value: Any, written: bytes | None) -> None:
    assert dumps(value) == (written or json.dumps(value, separators=(",", ":")).encode())


def test_a_line_is_one_line() -> None:
    assert dumps_line({"a": "x\ny"}) == b'{"a":"x\\ny"}\n'


@given(JSON)
@settings(deadline=None, max_examples=100)
def test_dumps_and_loads_are_inverse(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert dumps(loads(dumps(value))) == dumps(value)


MENDED: list[tuple[bytes, object]] = [
    (rb'{"a":"\ud800","b":1}', {"a": "\ufffd", "b": 1}),
    (rb'["\ud83d\ude00\udc00x", "\\ud800"]', ["\U0001f600\ufffdx", "\\ud800"]),
    (b'{"n":-1e999,"m":[1.5e-3,"1e999"]}', {"n": "-1e999", "m": [0.0015, "1e999"]}),
    (b'{"n":' + b"9" * 5000 + b"}", {"n": "9" * 5000}),
]


@pytest.mark.parametrize(("data", "value"), MENDED)
def test_what_is_json_by_its_grammar_is_read(data: bytes, value: object) -> None:
    assert loads(data) == value
    assert loads(dumps(loads(data))) == value
    assert loads(data.decode()) == value


def test_what_is_torn_is_not_mended() -> None:
    for data in (rb'{"a":"\ud800', b'{"a":1e999', rb'{"a":"\ud800"} x'):
        with pytest.raises(DecodeError):
            loads(data)


def test_a_string_without_an_end_is_searched_once() -> None:
    torn = b'"' + rb"\"" * 1000
    assert decode._MENDABLE.findall(b"[1e999," + torn) == [b"1e999", torn]
    with pytest.raises(DecodeError):
        loads(b"[1e999," + torn)


def test_what_nests_too_deep_is_written_as_text() -> None:
    value: object = {"leaf": [1, None, "x"]}
    for _ in range(5):
        value = {"a": [value]}
    assert shallow(value, levels=20) == value
    cut: Any = shallow(value, levels=4)
    assert cut["a"][0]["a"][0] == '{"a":[{"a":[{"a":[{"leaf":[1,null,"x"]}]}]}]}'
    assert shallow([[1], 2], levels=1) == ["[1]", 2]
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert shallow(deep, levels=3)[0][0][0].count("[") == 4997
