"""Rules of every type in one scan: whatever the order, the parts and the deliveries of its log."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from samples import event as event_data
from samples import rule as rule_data

from barrelman.detection.alert import Alert
from barrelman.detection.judge import RunnableRule, Tally, runnable_rule
from barrelman.detection.scan import Bound, Scan, ScanOptions, sieve_of
from barrelman.engine.decode import dumps
from barrelman.records.event import Event, JsonObject
from barrelman.rules.load import load_rules

NOW_US = 1_900_000_000 * 1_000_000
NAME = "kubernetes.audit.objectRef.name"
USER = "kubernetes.audit.user.username"
ANY = "kubernetes.audit.verb:*"
INDICATOR = ("feeds", "1", {"threat": {"indicator": {"name": "p3"}}})
MAPPING = [{"entries": [{"field": NAME, "type": "mapping", "value": "threat.indicator.name"}]}]
SEQUENCE = f"sequence by {USER} with maxspan=4m [any where true] [any where true]"
FOLDED = {"group_by": [USER], "missing_fields_strategy": "suppress"}
HOUR = {"value": 1, "unit": "h"}
KINDS: dict[str, dict[str, Any]] = {
    "query": {},
    "suppressed": {"alert_suppression": FOLDED},
    "suppressed for long": {"alert_suppression": {**FOLDED, "duration": HOUR}},
    "threshold": {"type": "threshold", "threshold": {"field": [USER], "value": 2}},
    "suppressed threshold": {
        "type": "threshold",
        "threshold": {"field": [USER], "value": 2},
        "alert_suppression": {"duration": HOUR},
    },
    "new terms": {
        "type": "new_terms",
        "new_terms_fields": [USER],
        "history_window_start": "now-10m",
    },
    "threat match": {
        "type": "threat_match",
        "threat_query": "*:*",
        "threat_mapping": MAPPING,
        "threat_index": ["feeds"],
    },
    "eql": {"type": "eql", "language": "eql", "query": "any where true"},
    "sequence": {"type": "eql", "language": "eql", "query": SEQUENCE},
    "suppressed sequence": {
        "type": "eql",
        "language": "eql",
        "query": SEQUENCE,
        "alert_suppression": {**FOLDED, "duration": HOUR},
    },
}


def rule_of(kind: str, number: int = 0, **changes: Any) -> RunnableRule:
    data = rule_data(rule_id=f"{number:08}-0000-4000-8000-000000000000", name=kind)
    data |= {"query": ANY} | KINDS[kind] | changes
    (loaded,) = load_rules(json.dumps(data), path="r.json").rules
    assert loaded.status == "ready", loaded.reason
    assert loaded.rule is not None
    return runnable_rule(loaded.rule, documents=[INDICATOR])


def all_rules() -> list[RunnableRule]:
    return [rule_of(kind, number) for number, kind in enumerate(KINDS)]


def bodies(count: int = 60) -> list[JsonObject]:
    """One a minute, of three users that take turns now and then."""
    drawn = random.Random(3)
    made = []
    for number in range(count):
        body = event_data(number, seconds=60 * number + drawn.randrange(50))
        body["user"] = {"username": f"u{drawn.randrange(3)}", "groups": ["a", "b"]}
        body["objectRef"]["name"] = f"p{number % 7}"
        made.append(body)
    return made


def scan_of(rules: Sequence[RunnableRule], **options: Any) -> Scan:
    return Scan(rules, now_us=NOW_US, options=ScanOptions(**options))


def written(alerts: Iterable[Alert]) -> list[bytes]:
    return [dumps(alert.document) for alert in alerts]


def fed(scan: Scan, found: Iterable[JsonObject]) -> list[Alert]:
    for body in found:
        scan.feed(Event(body))
    return list(scan.finish())


def test_every_kind_alerts() -> None:
    scan = scan_of(all_rules())
    fed(scan, bodies())
    raised = {
        each.rule.name: n.raised for each, n in zip(all_rules(), scan.counts.rules, strict=True)
    }
    assert min(raised.values()) > 0, raised
    assert raised["query"] == 60


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_log_does_not_matter(kind: str) -> None:
    wanted = written(fed(scan_of([rule_of(kind)]), bodies()))
    for seed in range(3):
        shuffled = bodies()
        random.Random(seed).shuffle(shuffled)
        assert written(fed(scan_of([rule_of(kind)]), shuffled)) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_delivery_changes_nothing(kind: str) -> None:
    scan = scan_of([rule_of(kind)])
    found = bodies()
    alerts = fed(scan, [*found, *found[::-1]])
    assert written(alerts) == written(fed(scan_of([rule_of(kind)]), found))
    assert alerts
    assert scan.counts.rules[0].duplicates == scan.counts.rules[0].matches // 2 > 0


@pytest.mark.parametrize("memory_bytes", [0, 4_000])
def test_what_does_not_fit_in_memory_is_the_same(tmp_path: Path, memory_bytes: int) -> None:
    wanted = written(fed(scan_of(all_rules()), bodies()))
    scan = scan_of(all_rules(), memory_bytes=memory_bytes, folder=tmp_path)
    assert written(fed(scan, bodies())) == wanted


@pytest.mark.parametrize(
    "kind", ["suppressed", "threshold", "new terms", "threat match", "sequence"]
)
@pytest.mark.parametrize("late", [1, 300, 699])
def test_what_was_found_too_early_is_found_anew(kind: str, late: int) -> None:
    """Operators are given matches before the log's end: at an older one they begin anew."""
    found = bodies(700)
    # The more operators there are, the fewer matches are held back for each.
    idle = [rule_of("threshold", number, query="no.such:field") for number in range(1, 32)]
    rules = [rule_of(kind), *idle]
    wanted = written(fed(scan_of(rules), found))
    moved = [*found[:late], *found[late + 1 :], found[late]]
    scan = scan_of(rules)
    assert written(fed(scan, moved)) == wanted
    counts = scan.counts.rules[0]
    assert counts.raised == counts.alerts > 0
    assert (counts.late, counts.unplaced) == (0, 0)
    assert written(fed(scan_of(rules), found[::-1])) == wanted


def test_judges_of_parts_find_what_one_finds() -> None:
    wanted = written(fed(scan_of(all_rules()), bodies()))
    scan, other = scan_of(all_rules()), scan_of(all_rules())
    found = bodies()
    for part in (found[:25], found[25:26], found[26:]):
        other.judge.tally = Tally()
        matches = [match for body in part for match in other.judge.feed(Event(body))]
        scan.take(matches, other.judge.tally)
    assert written(scan.finish()) == wanted


def test_the_sieve_loses_nothing() -> None:
    rules = [rule for rule in all_rules() if rule.rule.type != "eql"]
    sieve = sieve_of([rule for rule in rules if rule.rule.type == "threat_match"])
    assert sieve is not None
    lines = b"".join(dumps(body) + b"\n" for body in bodies())
    passed = [lines[start:stop] for start, stop in sieve.lines(memoryview(lines), len(lines))]
    names = {json.loads(line)["objectRef"]["name"] for line in passed}
    assert "p3" in names


class TestLive:
    """A pipe whose events come as they happen: alerts are given run by run."""

    def given(self, kind: str) -> tuple[Scan, list[list[Alert]]]:
        scan = scan_of([rule_of(kind)])
        batches = []
        for number, body in enumerate(bodies()):
            scan.feed(Event(body))
            if number % 6 == 5:
                end_us = scan.tally.end_us
                assert end_us is not None
                batches.append(list(scan.advance(end_us)))
        batches.append(list(scan.finish()))
        return scan, batches

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if "duration" not in str(KINDS[kind])])
    def test_what_is_not_held_is_what_a_file_gives(self, kind: str) -> None:
        _, batches = self.given(kind)
        assert sum(bool(batch) for batch in batches) > 1
        assert sorted(written(a for batch in batches for a in batch)) == sorted(
            written(fed(scan_of([rule_of(kind)]), bodies()))
        )

    def test_an_alert_that_changes_is_given_again(self) -> None:
        scan, batches = self.given("suppressed for long")
        alerts = [alert for batch in batches for alert in batch]
        final = {alert.id: dumps(alert.document) for alert in alerts}
        assert len(alerts) > len(final) == scan.counts.alerts
        assert sorted(final.values()) == sorted(
            written(fed(scan_of([rule_of("suppressed for long")]), bodies()))
        )


class TestThePast:
    def users(self, alerts: Iterable[Alert]) -> list[str]:
        return [alert.document["kibana.alert.new_terms"][0] for alert in alerts]

    def test_what_was_seen_before_is_not_new(self) -> None:
        found = bodies(12)
        without = self.users(fed(scan_of([rule_of("new terms")]), found[6:]))
        assert set(without) == {"u0", "u1", "u2"}
        scan = scan_of([rule_of("new terms", history_window_start="now-1d")])
        history = scan.history()
        for body in found[:6]:
            history.feed(Event(body))
        known = {body["user"]["username"] for body in found[:6]}
        assert set(self.users(fed(scan, found[6:]))) == set(without) - known
        assert scan.counts.rules[0].history == 6
        assert (history.tally.events, scan.tally.events) == (6, 6)

    def test_an_event_of_the_scan_is_no_past(self) -> None:
        found = bodies(12)
        scan = scan_of([rule_of("new terms", history_window_start="now-1d")])
        history = scan.history()
        for body in found:
            history.feed(Event(body))
        assert written(fed(scan, found)) == written(
            fed(scan_of([rule_of("new terms", history_window_start="now-1d")]), found)
        )

    @pytest.mark.parametrize("is_relative", [False, True])
    def test_what_lies_before_the_range_is_a_past(self, is_relative: bool) -> None:
        found = bodies(40)
        rule = rule_of("new terms", history_window_start="now-1d")
        whole = scan_of([rule])
        fed(whole, found)
        start_us, end_us = whole.tally.start_us, whole.tally.end_us
        assert start_us is not None
        assert end_us is not None
        middle_us = (start_us + end_us) // 2
        since = Bound(back_us=end_us - middle_us) if is_relative else Bound(middle_us)
        scan = scan_of([rule], since=since)
        assert fed(scan, found) == []
        counts = scan.counts.rules[0]
        assert counts.history > 0

    def test_what_lies_behind_the_range_makes_nothing_known(self) -> None:
        """Not even where the rule's windows see it before what lies within."""
        long, short, last = bodies(3)
        for body, received, stage in (
            (long, "10:00", "10:30"),
            (short, "10:01", "10:01"),
            (last, "11:00", "11:00"),
        ):
            body["user"] = {"username": "u0"}
            body["requestReceivedTimestamp"] = f"2026-03-01T{received}:00.000000Z"
            body["stageTimestamp"] = f"2026-03-01T{stage}:00.000000Z"
        field = "kubernetes.audit.requestReceivedTimestamp"
        rule = rule_of("new terms", history_window_start="now-1d", timestamp_override=field)
        scan = scan_of([rule], until=Bound(back_us=45 * 60_000_000))
        assert self.users(fed(scan, [long, short, last])) == ["u0"]

    def test_rules_that_do_not_look_back_have_no_past(self) -> None:
        assert scan_of([rule_of(kind) for kind in KINDS if kind != "new terms"]).history_rules == []
        scan = scan_of(all_rules())
        assert [scan.history().rules[0].rule.name] == ["new terms"]
