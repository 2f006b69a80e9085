"""What it costs to decode one event, by several decoders, and how much of it they look at.

    python benchmarks/decode.py benchmarks/data/1g.log --mib 64

Lines are held in memory and decoded one by one, as after a sieve: what counts is the cost of an
event, not of a block. Each decoder ends with the same seven fields at hand, and is checked to
have read the same from them. Times are CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

# Looked up by name: they are not installed where only the types of this file are checked.
msgspec: Any = import_module("msgspec")
simdjson: Any = import_module("simdjson")

MIB = 1 << 20
Read = tuple[Any, ...]


def struct(called: str, /, **fields: tuple[Any, Any]) -> Any:
    """A msgspec struct of those fields, each with its type and default."""
    each = [(field, kind, default) for field, (kind, default) in fields.items()]
    return msgspec.defstruct(called, each, gc=False, frozen=True)


def audit_struct() -> Any:
    """The envelope, decoded; bodies stay bytes until a rule asks for them."""
    texts: tuple[Any, Any] = (list[str], [])
    text, raw = (str, ""), (msgspec.Raw, msgspec.Raw(b""))
    user = struct("User", username=text, groups=texts)
    status = struct("Status", code=(int, 0))
    reference = struct("Ref", resource=text, namespace=text, name=text, subresource=text)
    return struct(
        "Audit",
        **dict.fromkeys(("verb", "level", "stage", "auditID", "requestURI", "userAgent"), text),
        user=(user, user()),
        sourceIPs=texts,
        objectRef=(reference, reference()),
        responseStatus=(status, status()),
        annotations=(dict[str, str], {}),
        stageTimestamp=text,
        requestObject=raw,
        responseObject=raw,
    )


def with_orjson(line: bytes) -> Read:
    event = orjson.loads(line)
    reference = event.get("objectRef", {})
    return (
        event["verb"], event["user"]["username"], event["userAgent"], reference.get("resource", ""),
        reference.get("namespace", ""), event["responseStatus"]["code"], event["stageTimestamp"],
    )  # fmt: skip


_audit = msgspec.json.Decoder(audit_struct())


def with_msgspec(line: bytes) -> Read:
    event = _audit.decode(line)
    reference = event.objectRef
    return (
        event.verb, event.user.username, event.userAgent, reference.resource,
        reference.namespace, event.responseStatus.code, event.stageTimestamp,
    )  # fmt: skip


_parser = simdjson.Parser()


def with_simdjson(line: bytes) -> Read:
    event = _parser.parse(line)
    reference = event.get("objectRef", {})
    return (
        event["verb"], event["user"]["username"], event["userAgent"], reference.get("resource", ""),
        reference.get("namespace", ""), event["responseStatus"]["code"], event["stageTimestamp"],
    )  # fmt: skip


DECODERS: dict[str, Callable[[bytes], Read]] = {
    "orjson, whole": with_orjson,
    "msgspec, envelope typed, bodies raw": with_msgspec,
    "simdjson, whole, 7 fields read": with_simdjson,
}


def seconds_of(decode: Callable[[bytes], Read], lines: Sequence[bytes]) -> float:
    began = time.process_time()
    for line in lines:
        decode(line)
    return time.process_time() - began


def table(lines: Sequence[bytes], *, rounds: int) -> list[str]:
    for line in lines[:2000]:
        read = {name: decode(line) for name, decode in DECODERS.items()}
        if len(set(read.values())) != 1:
            sys.exit(f"decoders disagree: {read}")
    seconds: dict[str, list[float]] = {name: [] for name in DECODERS}
    for _ in range(rounds):
        for name, decode in DECODERS.items():
            seconds[name].append(seconds_of(decode, lines))
    size_bytes = sum(map(len, lines))
    return [
        f"| {name} | {statistics.median(times) / len(lines) * 1e9:,.0f} "
        f"| {size_bytes / statistics.median(times) / 1e6:,.0f} |"
        for name, times in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time decoders on single events.")
    parser.add_argument("log", type=Path, help="an audit log; generate.py writes one")
    parser.add_argument("--mib", type=int, default=64, help="how much of it (default 64)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with options.log.open("rb") as log:
        lines = log.readlines(options.mib * MIB)
    chosen = {
        "all lines": lines,
        "lines with `secrets`": [line for line in lines if b'"secrets"' in line],
        "lines of at most 2 kB": [line for line in lines if len(line) <= 2000],
    }
    for about, some in chosen.items():
        mean = sum(map(len, some)) / max(len(some), 1)
        sys.stdout.write(f"\n{about}: {len(some):,}, {mean:,.0f} bytes each\n\n")
        sys.stdout.write("| decoder | ns an event | MB/s |\n|---|---:|---:|\n")
        sys.stdout.write("\n".join(table(some, rounds=options.rounds)) + "\n")


if __name__ == "__main__":
    main()
