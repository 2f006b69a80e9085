"""What finds bytes fast finds what Python finds, and what does without it, too."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from barrelman.engine import find as module
from barrelman.engine.find import PLAIN, count, find, rfind

CHILD = """
import sys
sys.modules["stringzilla"] = None  # as where it is not installed
from barrelman.engine import find
assert not find.IS_FAST
assert (find.find, find.rfind, find.count) == find.PLAIN
data = bytearray(b"one\\ntwo\\n")
print(find.find(data, b"\\n", 4, 8))
print(find.rfind(memoryview(data), b"\\n", 0, 7))
print(find.count(data, b"o", 0, 8))
"""

FEW_BYTES = st.lists(st.sampled_from([b"a", b"b", b"\n", b"}\n{", b"\x00", b"\xff"]), max_size=80)


@settings(max_examples=250, deadline=None)
@given(
    FEW_BYTES.map(b"".join),
    FEW_BYTES.map(lambda parts: b"".join(parts)[:12]).filter(bool),
    st.integers(0, 90),
    st.integers(0, 90),
    st.sampled_from([bytes, bytearray, lambda data: memoryview(bytearray(data))]),
)
@example(b"", b"a", 0, 0, bytes)
@example(b"ab", b"ab", 0, 2, bytearray)
@example(b"ab", b"b", 1, 1, bytearray)
@example(b"ab", b"b", 2, 2, bytes)
@example(b"ab", b"b", 2, 1, bytes)
@example(b"ab", b"ab", 1, 2, bytes)
@example(b"ab\nab", b"ab", 0, 4, bytearray)
@example(b"}\n{}\n{", b"}\n{", 0, 6, bytearray)
def test_each_way_answers_as_bytes_do(
    data: bytes, text: bytes, start: int, end: int, kind: type[bytes]
) -> None:
    end = min(end, len(data))  # no caller asks beyond what is there
    given_as = kind(data)
    for one, other, name in zip(
        (find, rfind, count), PLAIN, ("find", "rfind", "count"), strict=True
    ):
        expected = getattr(data, name)(text, start, end)
        assert other(given_as, text, start, end) == expected
        if name == "count" and _overlaps(text):
            continue  # no caller counts what could overlap with itself
        assert one(given_as, text, start, end) == expected


def _overlaps(text: bytes) -> bool:
    return any(text.startswith(text[at:]) for at in range(1, len(text)))


def test_the_library_is_used_where_it_is_there() -> None:
    stringzilla = pytest.importorskip("stringzilla")
    assert module.IS_FAST
    assert find is stringzilla.find
    assert count is stringzilla.count


def test_without_the_library_the_answers_are_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "3", "2"]
