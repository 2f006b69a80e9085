"""The files that the suites read: generated once, and anew when the generator has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from generate import MIB, Mix, compressed, write_file
from keys import rule, write_keys
from many import write_rules

HERE = Path(__file__).parent
SOURCES = (
    *("cluster.py", "generate.py", "inputs.py", "keys.py", "many.py", "rare.py"),
    "traffic.py",
)


# A busy cluster on a bad day: sixty events a minute that some rule of forty matches. By its own
# default the generator writes ten times as many, so that a small log has some of each kind.
MIX = Mix(match_share=0.000_02, rare_share=0.000_3)


@dataclass
class Inputs:
    """Files below one folder; the size is that of the log, the others follow from it."""

    folder: Path
    mib: int

    def log(self) -> Path:
        return self._made(f"{self.mib}m.log", lambda path: write_file(path, MIX, mib=self.mib))

    def compressed_log(self) -> Path:
        log = self.log()
        return self._made(f"{self.mib}m.log.gz", lambda path: compress(log, path))

    def every_line(self) -> Path:
        """An eighth of the size is thousands of alerts already."""
        mix, mib = Mix(profile="every-line"), self.mib / 8
        return self._made(
            f"{self.mib}m-every-line.log", lambda path: write_file(path, mix, mib=mib)
        )

    def keys_log(self) -> Path:
        """A quarter of the size is a million events."""
        return self._made(f"{self.mib}m-keys.log", lambda path: write_keys(path, mib=self.mib / 4))

    def keys_rule(self, kind: str) -> Path:
        return self.text(json.dumps(rule(kind)), ".ndjson")

    def first(self, share: float) -> Path:
        """The beginning of the log, whole lines of it."""
        log = self.log()
        size_bytes = int(log.stat().st_size * share)
        return self._made(
            f"{self.mib}m-first-{size_bytes // 1024}k.log", lambda path: cut(log, path, size_bytes)
        )

    def one_line(self) -> Path:
        return self._made("one.log", lambda path: cut(self.first(0.01), path, 1))

    def rules(self, count: int) -> Path:
        if count == len(list((HERE / "rules").glob("*.toml"))):
            return HERE / "rules"
        return self._made(f"{count}.ndjson", lambda path: write_rules(path, count))

    def text(self, content: str, suffix: str) -> Path:
        """A file that holds a text: some are too long for a command line."""
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        return self._made(f"{digest}{suffix}", lambda path: path.write_text(content, "utf-8"))

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        path = self.folder / f"{fingerprint()}-{name}"
        if not path.exists():
            sys.stderr.write(f"writing {path}\n")
            self.folder.mkdir(parents=True, exist_ok=True)
            make(path)
        return path


@cache
def fingerprint() -> str:
    """Changes with everything that the files are made by."""
    rules = sorted((HERE / "rules").glob("*.toml"))
    made_by = [*(HERE / name for name in SOURCES), *rules]
    return hashlib.sha256(b"".join(path.read_bytes() for path in made_by)).hexdigest()[:8]


def compress(log: Path, path: Path) -> None:
    partial = path.with_name(path.name + ".part")
    with log.open("rb") as lines, partial.open("wb") as out, compressed(out) as packed:
        shutil.copyfileobj(lines, packed, MIB)
    partial.replace(path)


def cut(log: Path, path: Path, size_bytes: int) -> None:
    """Copies whole lines until there are `size_bytes`."""
    with log.open("rb") as lines, path.open("wb") as out:
        while size_bytes > MIB:
            size_bytes -= out.write(lines.read(min(MIB, size_bytes)))
        out.writelines(lines.readlines(size_bytes))


def count_lines(log: Path, *, containing: bytes = b"") -> int:
    with log.open("rb") as lines:
        return sum(containing in line for line in lines)
