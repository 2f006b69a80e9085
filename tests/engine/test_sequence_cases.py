"""Sequences and samples as they are written: the machine, and the oracle, over documents."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from sequenceoracle import samples_of, sequences_of

from barrelman.engine.sample import find_samples
from barrelman.engine.sequence import find_sequences
from barrelman.engine.stages import compile_stages
from barrelman.query.eql import parse_eql
from barrelman.query.eqltree import EventFilter, Sequence
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue, FieldType

DATA = tomllib.loads(Path(__file__).with_name("sequence_cases.toml").read_text("utf-8"))
TYPED = Catalogue(exact={"ip": FieldType.IP, "from": FieldType.IP, "user": FieldType.KEYWORD})


@pytest.mark.parametrize("case", DATA["cases"], ids=lambda case: case["about"])
@pytest.mark.parametrize("catalogue", [Catalogue(), TYPED], ids=["by value", "typed"])
def test_case(case: dict[str, Any], catalogue: Catalogue) -> None:
    query = parse_eql(case["query"]).top
    assert not isinstance(query, EventFilter)
    program = compile_stages(query, catalogue)
    fed = [
        (each["at"] * 1000, program.slots(Event(each["doc"], is_document=True), 0), each["id"])
        for each in DATA["events"]
    ]
    if isinstance(query, Sequence):
        found = [each.items for each in find_sequences(query, fed)]
        slow = [items for _, items in sequences_of(query, fed)]
    else:
        found = [each.items for each in find_samples(query, fed)]
        slow = [items for _, items in samples_of(query, fed)]
    shown = [" ".join(item or "-" for item in items) for items in found]
    assert shown == case["expected"]
    assert sorted(found, key=str) == sorted(slow, key=str)
