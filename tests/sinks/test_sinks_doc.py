"""docs/sinks.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from alertdocs import message

from barrelman.sinks.address import parse_sink_flag
from barrelman.sinks.flood import RuleCount, flood_of
from barrelman.sinks.options import KINDS, OPTIONS
from barrelman.sinks.templates import NAMES
from barrelman.sinks.webhook import sign

TEXT = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def code(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_section(kind: str) -> None:
    assert f"\n### {kind}\n" in section("Kinds")


def test_every_option_stands_in_a_table_with_its_kinds() -> None:
    rows: dict[str, tuple[str, str]] = {}
    for line in (section("Options") + section("Which alerts")).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            rows[cells[0].strip("`")] = cells[1].strip("`"), cells[2] if len(cells) > 3 else "all"
    for option in OPTIONS:
        key, kinds = rows.pop(option.flag)
        assert key == option.key
        wanted = {"all": KINDS, "all but file": KINDS[1:]}.get(kinds, tuple(kinds.split(", ")))
        assert set(wanted) == set(option.kinds), option.flag
    assert rows.keys() == {"region"}


def test_every_name_of_a_template_is_there() -> None:
    assert set(NAMES) <= code(section("Templates"))


def test_every_field_of_a_request_is_there() -> None:
    told = code(section("Kinds"))
    flood = flood_of(
        [], total=1, counts=[RuleCount("x", "low", 1)], since_us=0, until_us=0, public_url=None
    )
    assert message().fields().keys() <= told
    assert flood.fields().keys() <= told


def test_every_address_in_it_can_be_read() -> None:
    found = [
        word.strip("'")
        for line in TEXT.splitlines()
        if line.startswith("    ") or "--sink" in line
        for word in line.replace("…", "x").split()
        if re.match(r"'?(?:[a-z+]+://|file:|pagerduty:)", word) and "barrelman.example" not in word
    ]
    kinds = {parse_sink_flag(address.replace("HOST", "h")).kind for address in found}
    assert kinds == set(KINDS)


def test_the_check_of_a_signature_works() -> None:
    source = TEXT.partition("```python\n")[2].partition("```")[0]
    made: dict[str, Any] = {}
    exec(compile(source, "docs/sinks.md", "exec"), made)
    header = sign(b"body", secret=b"s", at_seconds=5)
    assert made["is_ours"](b"body", header, b"s")
    assert not made["is_ours"](b"Body", header, b"s")
    assert not made["is_ours"](b"body", header.replace("t=5", "t=6"), b"s")
