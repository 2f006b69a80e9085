"""The benchmark measures what it says: whole processes, what they hold, and ratios by round."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
HAS_PROC = Path("/proc/self/smaps_rollup").exists()


def python(code: str) -> str:
    """What a script beside the benchmark's own would print."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_suite_gives_a_table_of_processes_and_one_of_bars(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "compare.py"), "every-line", "--mib", "1"]
    done = subprocess.run(
        [*command, "--rounds", "1", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "### every-line\n" in done.stdout
    [sieved, plain] = re.findall(r"^\| (barrelman.*?) \| .*\d \|$", done.stdout, re.MULTILINE)
    assert (sieved, plain) == ("barrelman scan", "barrelman scan --no-sieve")
    bar = (
        r"^\| times the time without a sieve \| at most 1\.1 \|( [\d.]+ \|){3} (yes|\*\*no\*\*) \|$"
    )
    assert re.search(bar, done.stdout, re.MULTILINE)
    [log] = tmp_path.iterdir()
    assert log.name.endswith("-1m-every-line.log")


def test_ratios_are_taken_within_a_round_and_the_median_is_judged() -> None:
    printed = python(
        "from measure import *\n"
        "slow = Contender('slow', [], wall_seconds=[4.0, 10.0, 6.0])\n"
        "fast = Contender('fast', [], wall_seconds=[2.0, 2.0, 2.0])\n"
        "for limit in ({'least': 3}, {'most': 2}):\n"
        "    bar = Bar('', ratios(slow, fast), **limit)\n"
        "    print(bar.wanted, *bar.judged())\n"
    )
    assert printed.splitlines() == ["at least 3 3.0 2.0 5.0 True", "at most 2 3.0 2.0 5.0 False"]


def test_each_round_begins_with_another_contender(tmp_path: Path) -> None:
    out = tmp_path / "order"
    printed = python(
        "from measure import *\n"
        f"def one(name): return Contender(name, ['sh', '-c', 'printf ' + name + ' >> {out}'])\n"
        "them = [one('a'), one('b'), one('c')]\n"
        "alternate(them, rounds=4, name='order')\n"
        "print(*(len(each.wall_seconds) for each in them))\n"
    )
    assert printed == "4 4 4\n"
    assert out.read_text() == "abcbcacababc"


def test_contenders_that_fail_or_disagree_are_not_timed() -> None:
    with pytest.raises(AssertionError, match="exit code 3"):
        python("from measure import *\nContender('x', ['sh', '-c', 'exit 3']).warm_up()\n")
    with pytest.raises(AssertionError, match="disagree"):
        python(
            "from suites import *\n"
            "agree([Contender('x', [], found=1), Contender('y', [], found=2)])\n"
        )


@pytest.mark.skipif(not HAS_PROC, reason="memory is read from /proc")
def test_memory_is_that_of_all_processes_and_shared_pages_count_once() -> None:
    printed = python(
        "import os\n"
        "from measure import *\n"
        "held = bytearray(b'x') * (32 * MIB)\n"
        "def forked(body):\n"
        "    (ready, tell), (wait, leave) = os.pipe(), os.pipe()\n"
        "    if not os.fork():\n"
        "        os.close(leave)\n"
        "        more = body()\n"
        "        os.write(tell, b'.')\n"
        "        os.read(wait, 1)\n"
        "        os._exit(0)\n"
        "    os.read(ready, 1)\n"
        "    total = held_bytes(os.getpid())\n"
        "    os.close(leave)\n"
        "    os.wait()\n"
        "    return total // MIB\n"
        "print(held_bytes(os.getpid()) // MIB, forked(lambda: None),\n"
        "      forked(lambda: bytearray(b'x') * (64 * MIB)))\n"
    )
    alone, shared, grown = map(int, printed.split())
    assert 32 <= alone < 60
    assert alone <= shared < alone + 16
    assert shared + 56 < grown < shared + 80


def test_the_beginning_of_a_log_is_whole_lines(tmp_path: Path) -> None:
    log, part = tmp_path / "log", tmp_path / "part"
    log.write_bytes(b"".join(b"%d" % n + b"x" * 1000 + b"\n" for n in range(4000)))
    sizes = (1, 1001, 1 << 20, 3_000_000)
    python(
        "from inputs import *\n"
        f"for size_bytes in {sizes}:\n"
        f"    cut(Path({str(log)!r}), Path({str(part)!r} + str(size_bytes)), size_bytes)\n"
    )
    for size_bytes in sizes:
        cut = Path(f"{part}{size_bytes}").read_bytes()
        assert log.read_bytes().startswith(cut)
        assert cut.endswith(b"\n")
        assert size_bytes <= len(cut) <= size_bytes + 1100
