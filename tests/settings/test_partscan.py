"""What a process tells of its part."""

from __future__ import annotations

from pathlib import Path

from barrelman.detection.scan import Scan
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
