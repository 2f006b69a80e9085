"""Writes an audit log of any size, the same one for the same seed.

    python benchmarks/generate.py benchmarks/data/256m.log --mib 256
    python benchmarks/generate.py - --events 10000 --seed 7 | head
    python benchmarks/generate.py benchmarks/data/every.log --profile every-line --gzip

Shares of verbs, levels and sizes follow what busy clusters log: three events in four are reads
without bodies, a pod's creation is a few kilobytes, and a list answered at RequestResponse has a
long tail up to megabytes. Two events in a hundred hold the words that detection rules look for.
Everything is made of templates filled with random parts, so the writer is faster than the
readers it is made for.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from cluster import NAMESPACES, Actor, actors
from rare import Rare
from traffic import SHARE_BY_VERB, Request, Requests

MIB = 1 << 20
START = datetime(2026, 11, 16, 0, 0, tzinfo=UTC)
BLOCK_EVENTS = 2048
PROFILES = ("mixed", "every-line", "metadata")
# What the API server itself uses for rotated logs: Go's gzip at its default level.
GZIP_LEVEL = 6

_EVENT = (
    '{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"%s","auditID":"%s","stage":"%s",'
    '"requestURI":"%s","verb":"%s","user":%s%s,"sourceIPs":["%s"],"userAgent":"%s"%s,'
    '"responseStatus":{"metadata":{},"code":%d}%s,"requestReceivedTimestamp":"%s%06dZ",'
    '"stageTimestamp":"%s%06dZ","annotations":{"authorization.k8s.io/decision":"%s",'
    '"authorization.k8s.io/reason":"%s"}}\n'
)


@dataclass(frozen=True, slots=True)
class Mix:
    """What a log is made of. `match_share` events create a pod with host IPC."""

    seed: int = 1
    profile: str = "mixed"
    match_share: float = 0.0005
    rare_share: float | None = None
    """Events of the kinds in `rare.py`; None: as many as busy clusters have."""
    events_per_second: float = 500.0


def event_lines(mix: Mix) -> Iterator[tuple[str, bool]]:
    """Lines without end, and of each whether it is a pod created with host IPC."""
    rng = random.Random(mix.seed)
    requests, rare, everyone = Requests(rng), Rare(rng), actors()
    draw_by_verb = requests.draw_by_verb
    verbs, weights = list(SHARE_BY_VERB), list(SHARE_BY_VERB.values())
    every_line, without_bodies = mix.profile == "every-line", mix.profile == "metadata"
    match_below = 1.0 if every_line else mix.match_share
    rare_below = match_below + (rare.share if mix.rare_share is None else mix.rare_share)
    elapsed_us = 0.0
    while True:
        # Drawn in blocks, which costs a third of as many single choices.
        block = zip(
            rng.choices(verbs, weights, k=BLOCK_EVENTS),
            rng.choices(everyone, k=BLOCK_EVENTS),
            rng.choices(NAMESPACES, k=BLOCK_EVENTS),
            strict=True,
        )
        for verb, actor, namespace in block:
            elapsed_us += rng.expovariate(mix.events_per_second) * 1e6
            kind = rng.random()
            if kind >= rare_below:
                request = draw_by_verb[verb]()
            elif kind >= match_below:
                request = rare.draw()
            else:
                request = requests.matching()
            matches = kind < match_below
            if without_bodies:
                request, matches = replace(request, level="Metadata", bodies=""), False
            yield render(request, actor, namespace, rng, int(elapsed_us)), matches


def render(
    request: Request, actor: Actor, namespace: str, rng: random.Random, elapsed_us: int
) -> str:
    """One line; actor and namespace are those of a request that leaves them open."""
    actor = request.actor or actor
    bits = f"{rng.getrandbits(128):032x}"
    audit_id = f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"
    namespace = namespace if request.namespace is None else request.namespace
    name = f"item-{bits[24:]}" if request.name is None else request.name
    # One read in a hundred is refused.
    forbidden = request.refused or (request.level == "Metadata" and rng.random() < 0.01)
    second, micro = divmod(elapsed_us, 1_000_000)
    moment = written(second)
    ended = min(micro + int(300 + rng.random() * 39_700), 999_999)
    uri = request.uri or uri_of(request, namespace, name)
    return _EVENT % (
        request.level, audit_id, request.stage, uri, request.verb, actor.user,
        f',"impersonatedUser":{request.impersonated}' if request.impersonated else "",
        actor.address, actor.agent,
        reference(request, namespace, name) if request.resource else "",
        403 if forbidden else request.code, request.bodies, moment, micro, moment, ended,
        "forbid" if forbidden else "allow", "" if forbidden else actor.reason,
    )  # fmt: skip


def reference(request: Request, namespace: str, name: str) -> str:
    text = f',"objectRef":{{"resource":"{request.resource}"'
    if namespace:
        text += f',"namespace":"{namespace}"'
    if name:
        text += f',"name":"{name}"'
    if request.group:
        text += f',"apiGroup":"{request.group}"'
    if request.subresource:
        return f'{text},"apiVersion":"v1","subresource":"{request.subresource}"}}'
    return text + ',"apiVersion":"v1"}'


def uri_of(request: Request, namespace: str, name: str) -> str:
    path = f"/apis/{request.group}/v1" if request.group else "/api/v1"
    if namespace:
        path += f"/namespaces/{namespace}"
    path += f"/{request.resource}/{name}" if name else f"/{request.resource}"
    if request.subresource:
        path += f"/{request.subresource}"
    return f"{path}?{request.parameters}"


@lru_cache(maxsize=4)
def written(second: int) -> str:
    """A second of the log as its timestamps begin. Hundreds of events share one."""
    return (START + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.")


def write(
    out: BinaryIO, lines: Iterator[tuple[str, bool]], *, events: int = 0, mib: float = 0.0
) -> str:
    """Writes lines until there are `events`, or else `mib`; says what was written."""
    size_bytes = count = matches = 0
    block: list[str] = []
    for line, is_match in lines:
        block.append(line)
        count += 1
        matches += is_match
        size_bytes += len(line)  # every template and filling is ASCII
        full = count >= events if events else size_bytes >= mib * MIB
        if full or len(block) >= BLOCK_EVENTS:
            out.write("".join(block).encode("ascii"))
            block.clear()
        if full:
            break
    return f"{count} events, {size_bytes / MIB:.1f} MiB, {matches} pods created with host IPC"


def write_file(
    path: Path, mix: Mix, *, events: int = 0, mib: float = 0.0, compress: bool = False
) -> str:
    """Writes a log, and says what is in it; sizes are those before compression."""
    # Under another name until whole, so that a broken-off run is not taken for a log.
    partial = path.with_name(path.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        out: BinaryIO = stack.enter_context(partial.open("wb"))
        if compress:
            out = stack.enter_context(compressed(out))
        told = write(out, event_lines(mix), events=events, mib=mib)
    partial.replace(path)
    return told


def compressed(out: BinaryIO) -> BinaryIO:
    """A gzip stream that carries no name and no time, which would differ from run to run."""
    packed = gzip.GzipFile("", "wb", compresslevel=GZIP_LEVEL, fileobj=out, mtime=0)
    return cast("BinaryIO", packed)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a realistic audit log.")
    parser.add_argument("path", help="where to; - is standard output")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--mib", type=float, default=64.0, help="size to reach (default 64)")
    size.add_argument("--events", type=int, default=0, help="number of events instead of a size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default="mixed",
        help="every-line: each event matches the shipped rule; metadata: no event has a body",
    )
    parser.add_argument(
        "--match-share", type=float, default=0.0005, help="share of events that match that rule"
    )
    parser.add_argument(
        "--rare-share", type=float, help="share of events that hold what benchmarks/rules look for"
    )
    parser.add_argument("--events-per-second", type=float, default=500.0)
    parser.add_argument("--gzip", action="store_true", help="compress; sizes are those before")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    mix = Mix(
        seed=options.seed,
        profile=options.profile,
        match_share=options.match_share,
        rare_share=options.rare_share,
        events_per_second=options.events_per_second,
    )
    size = {"events": options.events, "mib": options.mib}
    if options.path != "-":
        told = write_file(Path(options.path), mix, **size, compress=options.gzip)
    elif options.gzip:
        with compressed(sys.stdout.buffer) as out:
            told = write(out, event_lines(mix), **size)
    else:
        told = write(sys.stdout.buffer, event_lines(mix), **size)
    sys.stderr.write(told + "\n")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
