"""The sentence of an alert."""

from __future__ import annotations

from typing import Any

import pytest

from barrelman.detection.reason import reason_text

CASES: list[tuple[dict[str, Any], str]] = [
    ({}, "event created high alert R."),
    ({"user": {"name": "u"}}, "event by u created high alert R."),
    ({"host": {"name": "h"}}, "event on h created high alert R."),
    ({"user": {"name": "u"}, "host": {"name": "h"}}, "event by u on h created high alert R."),
    (
        {"user": {"name": "alice"}, "source": {"ip": ["10.0.0.1"]}},
        "event with source 10.0.0.1, by alice created high alert R.",
    ),
    ({"event": {"category": "process"}}, "process event created high alert R."),
    (
        {"event": {"category": ["process", "network"]}},
        "process, network event created high alert R.",
    ),
    ({"process": {"name": "sh"}}, "event with process sh, created high alert R."),
    (
        {"process": {"parent": {"name": "init"}}},
        "event with parent process init, created high alert R.",
    ),
    ({"file": {"name": "f"}}, "event with file f, created high alert R."),
    (
        {"source": {"ip": "10.0.0.1", "port": 443}},
        "event with source 10.0.0.1:443, created high alert R.",
    ),
    ({"source": {"port": 443}}, "event created high alert R."),
    (
        {"destination": {"ip": "10.0.0.2", "port": 80}},
        "event with destination 10.0.0.2:80, created high alert R.",
    ),
    (
        {"source": {"ip": ["10.0.0.1", "10.0.0.2"]}},
        "event with source 10.0.0.1, 10.0.0.2, created high alert R.",
    ),
    ({"process.name": "sh", "user.name": "u"}, "event with process sh, by u created high alert R."),
    (
        {"process": {"name": "-"}, "user": {"name": "-"}, "host": {"name": ["-", "h"]}},
        "event on h created high alert R.",
    ),
    (
        {"source": {"ip": "10.0.0.1", "port": "-"}},
        "event with source 10.0.0.1, created high alert R.",
    ),
    ({"user": {"name": ""}, "host": {"name": None}}, "event created high alert R."),
    ({"user": "odd", "source": ["odd"]}, "event created high alert R."),
    (
        {
            "event": {"category": "c"},
            "process": {"name": "p", "parent": {"name": "pp"}},
            "file": {"name": "f"},
            "source": {"ip": "s", "port": 1},
            "destination": {"ip": "d", "port": 2},
            "user": {"name": "u"},
            "host": {"name": "h"},
        },
        (
            "c event with process p, parent process pp, file f, source s:1, destination d:2,"
            " by u on h created high alert R."
        ),
    ),
]


@pytest.mark.parametrize(("document", "expected"), CASES)
def test_reason(document: dict[str, Any], expected: str) -> None:
    assert reason_text(document, severity="high", rule_name="R") == expected
