"""Compares what a load was told with what a server has: each event and each alert once."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load import Ledger
from subject import Subject, SubjectError, alerts_of, barrelman

_AUDIT_ID = re.compile(rb'"auditID":"([^"]*)"')


def dumped(data: Path) -> Iterator[str]:
    """The audit ID of every stored event, read from the folder of a server that has ended."""
    options = ["--format", "jsonl", "--limit", "none", "--oldest-first"]
    command = [barrelman(), "search", "*", "--data", str(data), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for line in child.stdout:
            # What is hostile may be stored with an ID that is no text; a load's never are.
            if found := _AUDIT_ID.search(line):
                yield found[1].decode("utf-8", "replace")
    if child.returncode not in (0, 1):
        raise SubjectError(f"barrelman search ended with {child.returncode}")


@dataclass
class Account:
    """What was found, and in sentences what is wrong with it."""

    figures: dict[str, object] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Acknowledged, and not stored."""

    def check(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            self.failures.append(otherwise)


def settle(server: Subject, ledger: Ledger, *, seconds: float = 60.0) -> None:
    """Waits until every acknowledged attack has its alert, or for so long."""
    wanted = set(ledger.attacks())

    def all_there() -> bool:
        try:
            return wanted <= set(alerts_of(server.alerts()))
        except SubjectError:  # a line is being written
            return False

    server.waited(all_there, seconds=seconds, pause=0.25)


def account(server: Subject, ledger: Ledger, *, may_lose: bool = False) -> Account:
    """The server has ended. With `may_lose`, missing events are for the caller to judge."""
    found = Account()
    stored = Counter(dumped(server.data))
    sent = {
        one.decode() for number in sorted(ledger.sent) for one in ledger.batches.audit_ids(number)
    }
    acknowledged = set(ledger.acknowledged_ids())
    found.lost = acknowledged - stored.keys()
    found.figures |= {"events acknowledged": len(acknowledged), "events stored": stored.total()}
    if not may_lose:
        found.check(not found.lost, f"{len(found.lost)} acknowledged events are lost")
    doubled = [one for one, count in stored.items() if count > 1]
    found.check(not doubled, f"{len(doubled)} events are stored twice, such as {doubled[:2]}")
    strange = stored.keys() - sent
    found.check(not strange, f"{len(strange)} stored events were never sent")
    _account_of_alerts(found, server, ledger, stored.keys())
    return found


def _account_of_alerts(
    found: Account, server: Subject, ledger: Ledger, stored: Iterable[str]
) -> None:
    try:
        alerts = server.alerts()
    except SubjectError as error:
        found.failures.append(str(error))
        return
    there = set(stored)
    attacks = {one for one in ledger.attacks(sorted(ledger.sent)) if one in there}
    found.figures |= {"attacks stored": len(attacks), "alerts in the file": len(alerts)}
    named = Counter(alerts_of(alerts))
    missing = attacks - named.keys()
    found.check(not missing, f"{len(missing)} attacks have no alert, such as {sorted(missing)[:2]}")
    twice = [one for one, count in named.items() if count > 1]
    found.check(not twice, f"{len(twice)} attacks have several alerts, such as {twice[:2]}")
    stray = named.keys() - set(ledger.attacks(sorted(ledger.sent)))
    found.check(not stray, f"{len(stray)} alerts are about no attack")
    doubled = doubled_ids(alerts)
    found.check(not doubled, f"{len(doubled)} alerts stand in the file twice")


def doubled_ids(alerts: Sequence[dict[str, Any]]) -> list[str]:
    """Alerts of any rule that are there more than once."""
    counts = Counter(str(alert["kibana.alert.uuid"]) for alert in alerts)
    return [one for one, count in counts.items() if count > 1]


def eventually(server: Subject, is_so: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Raises unless something becomes so in time."""
    if not server.waited(is_so, seconds=seconds, pause=0.1):
        ended = "" if server.is_alive else "; the server has ended"
        raise SubjectError(f"{what}: not within {seconds:g} s{ended}; it said:\n{server.said()}")
