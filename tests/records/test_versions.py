from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest

from barrelman.records.versions import version_key

IN_ORDER = [
    "0.0.1",
    "0.9",
    "0.9.0",
    "1-alpha",
    "1",
    "1.0.0-1",
    "1.0.0-2",
    "1.0.0-10",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0",
    "1.0.0+build",
    "1.2.0",
    "1.9.0",
    "1.10.0",
    "11.0",
    # no versions: after all that are, by their bytes
    "",
    "1.02.0",
    "1.2.",
    "v1.2.0",
    "ö",
]


@pytest.mark.parametrize(("first", "second"), list(pairwise(IN_ORDER)))
def test_the_order_of_versions(first: str, second: str) -> None:
    assert version_key(first) < version_key(second)
    assert not version_key(second) < version_key(first)


def test_thousands_of_digits_are_no_version() -> None:
    assert version_key("9" * 100_000) > version_key("9" * 400)
    assert version_key("1.0.0") == version_key("1.0.0")
    assert version_key("\ud800") > version_key("1")


def test_long_texts_are_not_remembered() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(200):
            version_key(f"{number}" + "x" * 20_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1_000_000
