from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.engine.lines import LineSplitter


def split(chunks: list[bytes], *, limit: int = 1000) -> list[tuple[str, bytes]]:
    """Every line in order, long ones joined and marked."""
    splitter = LineSplitter(long_line_bytes=limit)
    found: list[tuple[str, bytes]] = []
    held: list[bytes] = []
    batches = [batch for chunk in chunks for batch in splitter.feed(chunk)]
    for batch in [*batches, splitter.finish()]:
        held += batch.long_parts
        if batch.long_ended:
            found.append(("long", b"".join(held)))
            held = []
        found += [("line", line) for line in batch.lines]
        held += batch.begun
    assert held == []
    return found


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
        (b"\n\na\n\n", [b"", b"", b"a", b""]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", [b"a", b"\xef\xbb\xbfb"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb", [b"\xef\xbb"]),
        ("a\u2028b\x0bc\x85\n".encode(), ["a\u2028b\x0bc\x85".encode()]),
    ],
)
def test_lines(data: bytes, lines: list[bytes]) -> None:
    expected = [("line", line) for line in lines]
    assert split([data]) == expected
    assert split([bytes([byte]) for byte in data]) == expected


@pytest.mark.parametrize(("length", "kind"), [(9, "line"), (10, "line"), (11, "long")])
def test_a_line_is_long_by_its_length_alone(length: int, kind: str) -> None:
    data = b"x\n" + b"y" * length + b"\nz\n"
    expected = [("line", b"x"), (kind, b"y" * length), ("line", b"z")]
    for size in range(1, len(data) + 1):
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        assert split(chunks, limit=10) == expected


def test_a_long_line_is_never_held_whole() -> None:
    splitter = LineSplitter(long_line_bytes=100)
    for _ in range(1000):
        for batch in splitter.feed(b"x" * 50):
            assert sum(map(len, batch.long_parts + batch.begun)) <= 150
    assert splitter.finish().long_ended


@given(st.lists(st.text("ab\n", max_size=12)), st.integers(1, 6))
@settings(deadline=None)
def test_chunks_make_no_difference(texts: list[str], limit: int) -> None:
    chunks = [text.encode() for text in texts]
    data = b"".join(chunks)
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [line for _, line in split(chunks, limit=limit)] == expected
    assert split(chunks, limit=limit) == split([data], limit=limit)
