"""What is compared with what, and what is demanded of it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import orjson
from inputs import Inputs, count_lines
from keys import KEYS
from measure import Bar, Contender, memory_growth, rates, ratios
from sql import count_query, parsed_queries

LITERAL = b'"hostIPC":true'
CHECKED_MIB = 16
ORJSON_LOOP = """
import sys, orjson
count = 0
with open(sys.argv[1], "rb", buffering=1 << 20) as lines:
    for line in lines:
        event = orjson.loads(line)
        is_pod = event.get("objectRef", {}).get("resource") == "pods"
        if is_pod and event["verb"] in ("create", "update", "patch"):
            body = event.get("requestObject")
            if isinstance(body, dict) and body.get("spec", {}).get("hostIPC") is True:
                count += 1
print(count)
"""
# An order of rows that nobody asks for is work that nobody needs; a progress bar would be printed.
DUCKDB = """
import sys, duckdb
settings = {"threads": 2, "preserve_insertion_order": False}
query = open(sys.argv[1]).read()
connection = duckdb.connect(config=settings)
connection.execute("SET enable_progress_bar = false")
print(connection.execute(query).fetchone()[0])
"""
JQ = """
reduce (inputs
  | select(.objectRef.resource == "pods" and (.verb | IN("create", "update", "patch"))
           and (.requestObject | type == "object" and .spec.hostIPC == true))) as $event
  (0; . + 1)
"""


@dataclass
class Suite:
    """Contenders that run in turn, and the bars on their figures."""

    name: str
    about: str
    contenders: list[Contender]
    bars: list[Bar]
    check: Callable[[], None] = lambda: None
    """Ends the program if contenders disagree; asked before anything is timed."""
    notes: list[str] = field(default_factory=list)
    more_rounds: int = 1
    """How many times as many rounds as usual: short runs need more."""


def printed_number(out: IO[bytes]) -> int:
    return int(out.read())


def lines_of(out: IO[bytes]) -> int:
    return sum(1 for _ in out)


def barrelman() -> str:
    beside = Path(sys.executable).with_name("barrelman")
    found = str(beside) if beside.exists() else shutil.which("barrelman")
    if found is None:
        sys.exit("barrelman is not installed beside this Python; run `make bench`")
    return found


def need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        sys.exit(f"{module} is missing: pip install '.[bench]', or run `make bench`")


def scan(name: str, log: Path, *options: str, events: int = 0) -> Contender:
    return Contender(
        name,
        [barrelman(), "scan", str(log), "--format", "jsonl", "--no-progress", *options],
        log.stat().st_size,
        events,
        good_codes=(0, 1),
        count=lines_of,
    )


def with_rules(rules: Path) -> tuple[str, ...]:
    return ("--no-pack", "--rules", str(rules))


def duckdb(
    name: str, inputs: Inputs, log: Path, rules: Path | None = None, *, events: int = 0
) -> Contender:
    need("duckdb")
    query = inputs.text(count_query(log, parsed_queries(rules)), ".sql")
    command = [sys.executable, "-c", DUCKDB, str(query)]
    return Contender(name, command, log.stat().st_size, events, count=printed_number)


def agree(contenders: Sequence[Contender]) -> None:
    found = {one.name: one.found for one in contenders}
    if len(set(found.values())) != 1:
        sys.exit(f"contenders disagree: {found}")


def agree_on_rules(inputs: Inputs, rules: Path) -> None:
    """DuckDB's query and the engine match as many events of the log's beginning."""
    log = inputs.first(min(1.0, CHECKED_MIB / inputs.mib))
    command = [barrelman(), "scan", str(log), *with_rules(rules), "--format", "jsonl", "--quiet"]
    with tempfile.TemporaryFile() as out:
        subprocess.run([*command, "--max-signals", "none"], stdout=out, check=False)
        out.seek(0)
        matched = {
            (audit["auditID"], audit["stage"])
            for line in out
            for audit in [orjson.loads(line)["kubernetes"]["audit"]]
        }
    answer = duckdb("DuckDB", inputs, log, rules)
    answer.warm_up()
    if not matched or answer.found != len(matched):
        sys.exit(f"DuckDB matches {answer.found} events of {log}, barrelman {len(matched)}")


def seed(inputs: Inputs) -> Suite:
    log, part = inputs.log(), inputs.first(1 / 32)
    events = count_lines(log)
    # Nothing is capped, so that every match is in the output and can be counted.
    ours = scan("barrelman scan", log, "--max-signals", "none", events=events)
    grep_command = ["grep", "-c", LITERAL.decode(), str(log)]
    grep = Contender("grep -c", grep_command, log.stat().st_size, events, (0, 1), printed_number)
    typed = duckdb("DuckDB, typed columns", inputs, log, events=events)
    loop_command = [sys.executable, "-c", ORJSON_LOOP, str(log)]
    loop = Contender("orjson loop", loop_command, ours.size_bytes, events, count=printed_number)
    contenders = [ours, grep, typed, loop]
    notes, of_part = [], []
    if shutil.which("jq"):
        command = ["jq", "-n", JQ, str(part)]
        size_bytes, few = part.stat().st_size, count_lines(part)
        jq = Contender("jq, on 1/32 of the log", command, size_bytes, few, count=printed_number)
        contenders.append(jq)
        of_part = [jq, duckdb("DuckDB, on 1/32 of the log", inputs, part)]
        notes.append("jq reads a thirty-second of the log: the whole would take minutes a round.")
    else:
        notes.append("jq is not installed here and was left out.")

    def check() -> None:
        agree([ours, typed, loop])
        if of_part:
            of_part[1].warm_up()
            agree(of_part)
        if grep.found != count_lines(log, containing=LITERAL):
            sys.exit(f"grep counted {grep.found} lines")

    bars = [
        Bar("times the speed of grep -c", ratios(grep, ours), least=2.5),
        Bar("times the speed of DuckDB", ratios(typed, ours), least=2),
        Bar("times the speed of the orjson loop", ratios(loop, ours), least=15),
    ]
    return Suite("seed", "The shipped rule over JSON lines.", contenders, bars, check, notes)


def gzip(inputs: Inputs) -> Suite:
    need("isal")
    need("duckdb")
    log, packed = inputs.log(), inputs.compressed_log()
    events = count_lines(log)
    ours = scan("barrelman scan", packed, "--max-signals", "none", events=events)
    command = [sys.executable, "-m", "isal.igzip", "-d", "-c", str(packed)]
    igzip = Contender("igzip -d -c", command, events=events)
    typed = duckdb("DuckDB, typed columns", inputs, packed, events=events)
    contenders = [ours, igzip, typed]
    for one in contenders:
        one.size_bytes = log.stat().st_size
    bars = [Bar("times the speed of igzip -d alone", ratios(igzip, ours), least=0.8)]
    about = f"The same, compressed to {packed.stat().st_size / log.stat().st_size:.1%}."
    notes = ["MB/s are of what was compressed. igzip writes to /dev/null."]
    return Suite("gzip", about, contenders, bars, lambda: agree([ours, typed]), notes)


def forty(inputs: Inputs) -> Suite:
    log, rules = inputs.log(), inputs.rules(40)
    events = count_lines(log)
    ours = scan("barrelman scan, 40 rules", log, *with_rules(rules), events=events)
    typed = duckdb("DuckDB, one query", inputs, log, rules, events=events)
    bars = [
        Bar("events a second", rates(ours), least=500_000),
        Bar("times the speed of DuckDB", ratios(typed, ours), least=1.5),
    ]
    suite = Suite("forty", "The rules in `rules/`.", [ours, typed], bars)

    def check() -> None:
        agree_on_rules(inputs, rules)
        suite.notes = [
            f"The query counts {typed.found:,} of {events:,} events.",
            f"The scan makes {ours.found:,} alerts, up to the cap of each run.",
        ]

    suite.check = check
    return suite


def thousand(inputs: Inputs) -> Suite:
    log = inputs.log()
    events = count_lines(log)
    few, many = (
        scan(f"barrelman scan, {count:,} rules", log, *with_rules(inputs.rules(count)),
             events=events)
        for count in (40, 1000)
    )  # fmt: skip
    bars = [Bar("times the time of 40 rules", ratios(many, few), most=3)]
    check = lambda: agree_on_rules(inputs, inputs.rules(1000))  # noqa: E731
    return Suite("thousand", "More rules of the same kinds.", [few, many], bars, check)


def scale(inputs: Inputs) -> Suite:
    whole, tenth = inputs.log(), inputs.first(0.1)
    contenders, bars = [], []
    for name, options in (("1 rule", ()), ("40 rules", with_rules(inputs.rules(40)))):
        small, large = (
            scan(f"barrelman scan, {name}, {size}", log, *options, events=count_lines(log))
            for log, size in ((tenth, "1x"), (whole, "10x"))
        )
        contenders += [small, large]
        bars += [
            Bar(f"{name}: time, 10x over 1x", ratios(large, small), most=10.5),
            Bar(f"{name}: peak memory, 10x over 1x", memory_growth(large, small), most=1.1),
        ]
    return Suite("scale", "A log, and its first tenth.", contenders, bars)


def every_line(inputs: Inputs) -> Suite:
    log = inputs.every_line()
    events = count_lines(log)
    sieved, plain = (
        scan(f"barrelman scan{' '.join(('', *options))}", log, *options, events=events)
        for options in ((), ("--no-sieve",))
    )
    bars = [Bar("times the time without a sieve", ratios(sieved, plain), most=1.1)]
    about = "A log of which every line matches the shipped rule."
    return Suite("every-line", about, [sieved, plain], bars, lambda: agree([sieved, plain]))


def keys(inputs: Inputs) -> Suite:
    log = inputs.keys_log()
    events = count_lines(log)
    plain, threshold, new_terms = (
        scan(f"scan, {kind} rule", log, *with_rules(inputs.keys_rule(kind)), events=events)
        for kind in ("query", "threshold", "new_terms")
    )
    return Suite(
        "keys",
        f"One filter that {events:,} events meet, of {KEYS:,} users: each event by itself, "
        "counted by user, and users not seen before.",
        [plain, threshold, new_terms],
        [
            Bar("threshold rule : query rule, time", ratios(threshold, plain), most=1.3),
            Bar("new-terms rule : query rule, time", ratios(new_terms, plain), most=1.3),
        ],
    )


def startup(inputs: Inputs) -> Suite:
    line = inputs.one_line()
    bare = Contender("python -c pass", [sys.executable, "-c", "pass"])
    version = Contender("barrelman --version", [barrelman(), "--version"])
    usage = Contender("barrelman --help", [barrelman(), "--help"])
    one = scan("barrelman scan, one line", line)
    bars = [
        Bar(f"{each.name}: times a bare interpreter", ratios(each, bare), most=most)
        for each, most in ((version, 4), (usage, 8), (one, 15))
    ]
    about = "What it costs to begin, with the whole pack of rules."
    return Suite("startup", about, [bare, version, usage, one], bars, more_rounds=8)


SUITES: dict[str, Callable[[Inputs], Suite]] = {
    "seed": seed,
    "gzip": gzip,
    "forty": forty,
    "thousand": thousand,
    "scale": scale,
    "every-line": every_line,
    "keys": keys,
    "startup": startup,
}
