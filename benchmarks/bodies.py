"""Bodies as kube-apiserver's webhook backend sends them: EventLists, each a template filled anew.

A template is the text of a whole list, made once; what changes from one delivery to the next (audit
IDs and times) has a fixed width and is written over it. So a body of half a megabyte costs a copy
and some hundred small assignments, and any number of them can be sent by a fraction of a core.

All of a batch follows from the seed and the batch's number: which events it holds, their IDs, which
of them are attacks. Whoever knows the numbers of the batches that were acknowledged knows every
event that has to be there.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice

from generate import Mix, event_lines

BATCH_EVENTS = 400
"""What an API server puts into one batch, unless told otherwise."""
TEMPLATES = 40
# Of forty lists of this seed, an event is 1.4 kB on the mean, the largest list 1.4 MB.
TEMPLATE_SEED = 23
# Within a list, events carry neither `kind` nor `apiVersion`: Go writes those of the list alone.
_STANDING_ALONE = '{"kind":"Event","apiVersion":"audit.k8s.io/v1",'
_HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
_TAIL = b"]}\n"
_ID_WIDTH = 36
_TIME_WIDTH = 27
# An API server's events of one batch were gathered over this time before it was sent.
_GATHERED_US = 100_000
_HANDLED_US = 4_000


@dataclass(frozen=True, slots=True)
class Template:
    """A list's text, and where in it stand the audit ID and the two times of each event."""

    body: bytes
    spots: tuple[tuple[int, int, int], ...]
    attacks: tuple[int, ...]
    """Positions of the events that create a pod with host IPC."""
    users: Counter[str]


def templates(
    *, count: int = TEMPLATES, size: int = BATCH_EVENTS, attack_share: float = 0.0
) -> list[Template]:
    """The same ones on every machine. Attacks are spread evenly: one every so many events."""
    plain = event_lines(Mix(seed=TEMPLATE_SEED, match_share=0.0, rare_share=0.0003))
    attacks = event_lines(Mix(seed=TEMPLATE_SEED, profile="every-line"))
    made = []
    for number in range(count):
        first = number * size
        positions = tuple(
            position
            for position in range(size)
            if int((first + position + 1) * attack_share) > int((first + position) * attack_share)
        )
        chosen = [next(attacks if position in positions else plain)[0] for position in range(size)]
        made.append(_template(chosen, positions))
    return made


def _template(lines: Sequence[str], attacks: tuple[int, ...]) -> Template:
    pieces, spots = [], []
    users: Counter[str] = Counter()
    at = len(_HEAD)
    for line in lines:
        event = ("{" + line.rstrip("\n").removeprefix(_STANDING_ALONE)).encode("ascii")
        spots.append(
            (
                at + event.index(b'"auditID":"') + len(b'"auditID":"'),
                at + _after(event, b'"requestReceivedTimestamp":"'),
                at + _after(event, b'"stageTimestamp":"'),
            )
        )
        named = re.search(rb'"username":"([^"]+)"', event)
        users[named[1].decode() if named else ""] += 1
        pieces.append(event)
        at += len(event) + 1
    return Template(_HEAD + b",".join(pieces) + _TAIL, tuple(spots), attacks, users)


def _after(event: bytes, name: bytes) -> int:
    """Where the last member of this name has its value: bodies, which come before, may have one."""
    return event.rindex(name) + len(name)


def mean_event_bytes(made: Sequence[Template]) -> float:
    return sum(len(one.body) for one in made) / sum(len(one.spots) for one in made)


class Batches:
    """Every batch of a load, by number."""

    def __init__(
        self,
        *,
        seed: int = 1,
        count: int = TEMPLATES,
        size: int = BATCH_EVENTS,
        attack_share: float = 0.0,
    ) -> None:
        self.seed = seed
        self.size = size
        self._templates = templates(count=count, size=size, attack_share=attack_share)
        self.mean_event_bytes = mean_event_bytes(self._templates)

    def template(self, number: int) -> Template:
        return self._templates[number % len(self._templates)]

    def body(self, number: int, *, born_us: int) -> bytearray:
        """The batch as it was when its last event came to be, at `born_us` since 1970."""
        template = self.template(number)
        body = bytearray(template.body)
        step_us = _GATHERED_US // self.size
        stage_us = born_us - self.size * step_us
        for (at_id, at_received, at_stage), audit_id in zip(
            template.spots, self.audit_ids(number), strict=True
        ):
            stage_us += step_us
            body[at_id : at_id + _ID_WIDTH] = audit_id
            body[at_received : at_received + _TIME_WIDTH] = written(stage_us - _HANDLED_US)
            body[at_stage : at_stage + _TIME_WIDTH] = written(stage_us)
        return body

    def audit_ids(self, number: int) -> Iterator[bytes]:
        """The events' IDs in order, random to look at: stores must not profit from a pattern."""
        digits = random.Random(f"{self.seed}/{number}").randbytes(16 * self.size).hex().encode()
        for at in range(0, len(digits), 32):
            one = digits[at : at + 32]
            yield b"%b-%b-4%b-a%b-%b" % (one[:8], one[8:12], one[13:16], one[17:20], one[20:])

    def attacks(self, number: int) -> list[str]:
        """The IDs of the batch's attack events."""
        positions = self.template(number).attacks
        if not positions:
            return []
        ids = list(islice(self.audit_ids(number), positions[-1] + 1))
        return [ids[position].decode() for position in positions]


def written(instant_us: int) -> bytes:
    """An instant as the API server writes it: UTC, six digits of a second."""
    second, micro = divmod(instant_us, 1_000_000)
    return b"%b%06dZ" % (_second(second), micro)


@lru_cache(maxsize=8)
def _second(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()
