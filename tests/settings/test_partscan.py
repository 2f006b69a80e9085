"""What a process tells of its part."""

from __future__ import annotations

import json
from pathlib import Path

from samples import event, rule, write_log

from barrelman.detection.judge import runnable_rule
from barrelman.detection.scan import Scan
from barrelman.engine.reading import CUTS
from barrelman.rules.load import load_rules
from barrelman.settings.parts import Part
from barrelman.settings.partscan import PartScan, ReaderOptions, unpack_answer
from barrelman.settings.sources import Source

BAD_LINES = 50_000


def test_a_million_bad_lines_are_told_in_a_few_and_all_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x\n" * BAD_LINES)
    source = Source(str(path), str(path), 2 * BAD_LINES, False)
    work = PartScan(
        [Part(0)],
        [source],
        judge=Scan([], now_us=0, is_timed=False).judge,
        sieve=None,
        options=ReaderOptions(max_event_bytes=1 << 20, cluster=None, is_timed=False),
    ).work
    answers = [unpack_answer(data) for data in work(0)]
    problems = [problem for answer in answers for problem in answer.problems]
    assert len(problems) <= 16 * len(answers)
    assert [problem.line for problem in problems[:5]] == [1, 2, 3, 4, 5]
    assert sum(problem.count for problem in problems) == BAD_LINES
    assert answers[-1].ending is not None
    assert answers[-1].ending.lines == BAD_LINES


def test_a_part_tells_how_often_a_condition_did_not_see_all(tmp_path: Path) -> None:
    joined = "concat(kubernetes.audit.user.groups, kubernetes.audit.sourceIPs)"
    data = rule(type="eql", language="eql", query=f'any where {joined} == "x"')
    (loaded,) = load_rules(json.dumps(data), path="r.json").rules
    assert loaded.rule is not None
    groups, addresses = ([f"{start}{n}" for n in range(101)] for start in ("g", "10.0.0."))
    many = event(1, user={"username": "eve", "groups": groups}, sourceIPs=addresses)
    path = write_log(tmp_path / "a.log", [many, event(2)])
    CUTS.note()  # another's
    work = PartScan(
        [Part(0)],
        [Source(str(path), str(path), path.stat().st_size, False)],
        judge=Scan([runnable_rule(loaded.rule)], now_us=0, is_timed=False).judge,
        sieve=None,
        options=ReaderOptions(max_event_bytes=1 << 20, cluster=None, is_timed=False),
    ).work
    *_, last = [unpack_answer(data) for data in work(0)]
    assert last.ending is not None
    assert last.ending.tally.cuts == 1
