"""Ids met before, in memory and beyond."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.detection.seen import SeenIds


@given(
    steps=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2**32 - 1)), max_size=120),
    held=st.sampled_from([0, 1, 2, 7, 1_000]),
)
@settings(deadline=None, max_examples=60)
def test_as_a_dictionary_would(steps: list[tuple[int, int]], held: int) -> None:
    seen, known = SeenIds(held=held), dict[int, int]()
    try:
        for number, mark in steps:
            expected = known.get(number)
            known.setdefault(number, mark)
            assert seen.add(number.to_bytes(16), mark) == expected
    finally:
        seen.close()


def test_the_first_mark_stays_across_the_limit() -> None:
    seen = SeenIds(held=10)
    keys = [n.to_bytes(16) for n in range(1_000)]
    assert [seen.add(key, n) for n, key in enumerate(keys)] == [None] * 1_000
    assert [seen.add(key, 7) for key in keys] == list(range(1_000))
    seen.close()


def test_a_mark_of_nought_is_known_too() -> None:
    seen = SeenIds(held=0)
    assert [seen.add(b"k" * 16, 0) for _ in range(3)] == [None, 0, 0]
    seen.close()
    seen = SeenIds(held=2)
    keys = [n.to_bytes(16) for n in range(4)]  # three move out, the last stays in memory
    assert [seen.add(key, 0) for key in keys] == [None] * 4
    assert [seen.add(key, 9) for key in keys] == [0] * 4
    seen.close()


def test_closing_without_a_database_and_twice() -> None:
    seen = SeenIds(held=1)
    seen.close()
    for n in range(5):
        seen.add(n.to_bytes(16), n)
    seen.close()
    seen.close()
