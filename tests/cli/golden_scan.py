"""Scans files as the command does, but in parts of a few kilobytes: run by test_golden.

    golden_scan.py JOBS PART_BYTES sieve|no-sieve RULES LOG...

Alerts go to standard output, and nothing else does.
"""

from __future__ import annotations

import sys

from barrelman.cli.reading import Input, Listener
from barrelman.detection.scan import Scan, sieve_of
from barrelman.engine.decode import dumps_line
from barrelman.settings.partscan import ReaderOptions
from barrelman.settings.scan import RuleFlags, resolve_rules
from barrelman.settings.sources import Source, expand_sources

NOW_US = 1_795_824_000_000_000  # 2026-11-28T00:00:00Z


def main() -> None:
    jobs, part_bytes, sieve, rules, *logs = sys.argv[1:]
    runnable = resolve_rules(RuleFlags(rules=[rules])).runnable
    sources = expand_sources(logs)
    assert all(isinstance(source, Source) for source in sources), sources
    scan = Scan(runnable, now_us=NOW_US, is_timed=False)
    problems: list[str] = []
    Input(
        sources,
        scan=scan,
        sieve=sieve_of(runnable) if sieve == "sieve" else None,
        options=ReaderOptions(max_event_bytes=1 << 20, cluster="golden", is_timed=False),
        jobs=int(jobs),
        listener=Listener(
            on_problem=lambda problem, source: problems.append(f"{source.name}: {problem}"),
            on_bytes=lambda disk_bytes, plain_bytes: None,
            on_failure=problems.append,
            on_live_look=lambda watermark_us: None,
            is_stopped=lambda: False,
        ),
        part_bytes=int(part_bytes),
    ).read()
    for alert in scan.finish():
        sys.stdout.buffer.write(dumps_line(alert.document))
    sys.exit("\n".join(problems) or 0)


if __name__ == "__main__":
    main()
