"""A log of many megabytes: the same alerts and counts by any number of processes, by any way."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from samples import event, lines

PATIENCE_SECONDS = 120
PART_BYTES = 16 * 1024 * 1024
# What the summary says of what was found, without speed and times.
COUNTS = re.compile(
    r"^(?:scanned +[\d,]+ event|(?!scanned)[a-z]+  +.*|    .*alerts?\b.*)"
    r"|(?<=:)\d+: (?:malformed|foreign): .*",
    re.MULTILINE,
)


def block(*, filler: int) -> bytes:
    """Lines whose numbers are to be filled in: one in so many is a match."""
    made = [
        event(0, requestObject=None, verb=verb, requestURI="/api/v1/" + "x" * filler)
        for verb in ("get", "list", "watch", "create") * 40
    ]
    made += [event(0, objectRef={"resource": "pods", "namespace": "shop", "name": "p-@@@@@@"})]
    text = lines(made).replace(b"2026-11-23T12:01:00", b"2026-11-23T@@:##:00")
    return text.replace(b"00000000-0000-4000-8000-000000000000", b"@@@@@@-%%%")


def write_big(path: Path, *, size_bytes: int, at_cuts: Sequence[bytes]) -> None:
    """A log with these bytes across the places where it is cut into parts."""
    template = block(filler=900)
    numbered = re.sub(b"%%%", lambda found: b"%03d" % (found.start() % 1000), template)
    with path.open("wb") as file:
        number = written = 0
        waiting = list(enumerate(at_cuts, 1))
        while written < size_bytes:
            moment = b"%02d:%02d" % (1 + number // 60, number % 60)
            data = numbered.replace(b"@@:##", moment).replace(b"@@@@@@", b"%06d" % number)
            if waiting and written + len(data) > waiting[0][0] * PART_BYTES - 300:
                data = fitted(data, waiting[0][0] * PART_BYTES - 300 - written)
                data += waiting.pop(0)[1]
            file.write(data)
            written += len(data)
            number += 1


def fitted(data: bytes, size: int) -> bytes:
    """Whole lines of data, and a blank one, that end at a size."""
    whole = data[: data.rfind(b"\n", 0, size) + 1]
    return whole + b" " * (size - len(whole) - 1) + b"\n"


AT_CUTS = (
    json.dumps(event(900_001), indent=2).encode() + b"\n",
    lines([event(900_002)])[:250] + b"\n" + b"talk\n" + lines([event(900_003)]),
)
ODD = lines(
    [
        event(900_004, requestReceivedTimestamp=None, stageTimestamp=None),
        event(900_005, seconds=50_000, verb="get"),
    ]
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "audit.log"
    write_big(path, size_bytes=36 * 1024 * 1024, at_cuts=[AT_CUTS[0] + ODD, AT_CUTS[1]])
    with path.open("ab") as file:  # in a part that is read by itself: its number is none of it
        file.write(b"more talk\n" + lines([event(900_006)]))
    return path


def scan(*arguments: object, stdin: Path | None = None) -> tuple[int, str, list[str]]:
    """Exit code, alerts (a digest: who shows how megabytes differ takes minutes), counts."""
    with open(stdin or "/dev/null", "rb") as given:
        done = subprocess.run(
            [sys.executable, "-m", "barrelman", "scan", *map(str, arguments)],
            stdin=given,
            capture_output=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
    err = done.stderr.decode()
    assert "Traceback" not in err
    alerts = done.stdout.count(b"\n")
    odd = [name for name in ("900001", "900004") if name.encode() in done.stdout]
    digest = f"{alerts} alerts {' '.join(odd)} {hashlib.sha256(done.stdout).hexdigest()}"
    return done.returncode, digest, COUNTS.findall(err)


@pytest.fixture(scope="module")
def judged(log: Path) -> tuple[int, str, list[str]]:
    """Each event decoded and its time read: standard input is no file to be cut."""
    found = scan("-", "--no-sieve", stdin=log)
    assert int(found[1].split()[0]) > 150
    assert "900001 900004" in found[1]
    assert any(line.startswith("malformed") for line in found[2])
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("--jobs", 1),
        ("--jobs", 2),
        ("--jobs", 3),
        ("--jobs", 5, "--strict"),
        ("--jobs", 2, "--no-sieve"),
    ],
    ids=str,
)
def test_the_ways_to_read_a_file(
    log: Path, judged: tuple[int, str, list[str]], arguments: tuple[object, ...]
) -> None:
    code, out, counts = scan(log, *arguments)
    assert out == judged[1]
    assert counts == judged[2]
    assert code == (2 if "--strict" in arguments else judged[0])


def test_standard_input(log: Path, judged: tuple[int, str, list[str]]) -> None:
    assert scan("-", stdin=log) == judged


def test_compressed(log: Path, judged: tuple[int, str, list[str]]) -> None:
    packed = log.with_suffix(".gz")
    packed.write_bytes(gzip.compress(log.read_bytes(), compresslevel=1))
    for jobs in (1, 2):
        assert scan(packed, "--jobs", jobs) == judged


def test_several_files(log: Path, tmp_path: Path) -> None:
    """A file that ends in a torn line takes nothing from the next, nor is its end its own."""
    small = tmp_path / "a.log"
    small.write_bytes(lines([event(5)]) + lines([event(6)])[:200])
    last = tmp_path / "z.log"
    last.write_bytes(b'"auditID":"x"}\n' + lines([event(7)]))
    gone = tmp_path / "gone.log"
    files = (small, log, gone, log, last, small)
    expected = scan(*files, "--jobs", 1, "--no-sieve")
    assert expected[0] == 2
    for jobs in (2, 3):
        assert scan(*files, "--jobs", jobs) == expected


def test_a_last_line_without_its_end_across_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    filler = lines([event(1, verb="get", requestURI="x" * 10_000)])
    last = lines([event(2)])[:-1]
    data = filler * (PART_BYTES // len(filler))
    path.write_bytes(data + b"\n" * (PART_BYTES - len(data) - 100) + last)
    expected = scan(path, "--jobs", 1)
    assert expected[1].startswith("1 alerts")
    assert scan(path, "--jobs", 2) == expected


@pytest.mark.parametrize(
    "bounds",
    [("--since", "2026-11-23T02:10:00Z", "--until", "2026-11-23T04:00:00Z"), ("--since", "20h")],
    ids=str,
)
def test_ranges(log: Path, bounds: tuple[str, ...]) -> None:
    expected = scan("-", "--no-sieve", *bounds, stdin=log)
    assert not expected[1].startswith("0 alerts")
    for jobs in (1, 2):
        assert scan(log, "--jobs", jobs, *bounds) == expected
