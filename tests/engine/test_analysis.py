from __future__ import annotations

import pytest

from barrelman.engine.analysis import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  -/#  ", []),
        ("Hello, World", ["hello", "world"]),
        ("system:serviceaccounts:kube-system", ["system:serviceaccounts:kube", "system"]),
        ("system:masters", ["system:masters"]),
        ("ubuntu:latest", ["ubuntu:latest"]),
        ("ubuntu:22.04", ["ubuntu", "22.04"]),
        (
            "docker.io/bitnami/node-exporter:1.2",
            ["docker.io", "bitnami", "node", "exporter", "1.2"],
        ),
        ("::1", ["1"]),
        ("it's can\u2019t", ["it's", "can\u2019t"]),
        ("1,000.5;7", ["1,000.5;7"]),
        ("a.1", ["a", "1"]),
        ("1:2", ["1", "2"]),
        ("v1.31", ["v1.31"]),
        ("snake_case __ _x_", ["snake_case", "_x_"]),
        ("a..b", ["a", "b"]),
        (".a.", ["a"]),
        ("Caf\u00e9 \u00dcBER", ["caf\u00e9", "\u00fcber"]),
        ("\u65e5\u672c\u8a9e", ["\u65e5", "\u672c", "\u8a9e"]),
        ("pod\u65e5x", ["pod", "\u65e5", "x"]),
        ("line\nbreak\ttab", ["line", "break", "tab"]),
        ("a\u00b7b", ["a\u00b7b"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_long_text_takes_one_pass() -> None:
    assert len(words("a." * 200_000)) == 1
    assert words("_" * 200_000) == []
