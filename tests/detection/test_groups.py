"""Values to fold by: read from events, put in order, and given a name."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from barrelman.detection.finding import Finding, GroupValue, SequenceOf, ThresholdResult
from barrelman.detection.groups import (
    Groups,
    count_keys,
    group_reader,
    instance_id,
    key_order,
    keys_of,
    lacks_value,
    written,
)
from barrelman.detection.groups import groups_of as found_groups
from barrelman.detection.match import pack
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE
from barrelman.rules.load import load_rules
from barrelman.rules.rule import Rule

ORDER = key_order(("f", "g"), catalogue=AUDIT_CATALOGUE)
MANY: list[GroupValue] = [None, 0, 1, -1, 2.5, "", "-", "0", "1", "i1:1", "[]", "a", "a\ud800"]
MANY += [True, (), ("a",), ("a", "b"), ("ab",), (1, "1"), ("1", 1, 1)]


def rule_of(kind: str, *names: str, **more: Any) -> Rule:
    document = {
        "rule_id": "r",
        "name": "n",
        "description": "d",
        "risk_score": 1,
        "severity": "low",
        "type": kind,
        "query": "*",
        "alert_suppression": {"group_by": names},
        **more,
    }
    (loaded,) = load_rules(json.dumps(document), path="rules.ndjson").rules
    assert loaded.rule is not None, loaded.errors
    return loaded.rule


def groups_of(rule: Rule, event: Event) -> Groups:
    read = group_reader(rule, catalogue=AUDIT_CATALOGUE)
    assert read is not None
    return read(event)


def document(**body: object) -> Event:
    return Event(body, is_document=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (None, None),
        ([], None),
        ([None], None),
        (["a"], "a"),
        (["b", "a"], ("a", "b")),
        (["b", ["a", "b"]], ("a", "b", "b")),
        (["10", 9, "9", 10.5], (9, 10.5, "10", "9")),
        ({"x": 1}, None),
    ],
)
def test_an_events_values(value: object, expected: GroupValue) -> None:
    rule = rule_of("new_terms", "x.f", new_terms_fields=["a"], history_window_start="now-7d")
    assert groups_of(rule, document(x={"f": value})) == (expected, "")


def test_raw_events_and_documents_are_read_by_one_name() -> None:
    rule = rule_of("query", "user.name", "kubernetes.audit.user.groups")
    raw = Event({"user": {"username": "eve", "groups": ["b", "a"]}})
    assert groups_of(rule, raw) == ("eve", ("a", "b"), "")
    assert groups_of(rule, document(**{"user.name": "eve"})) == ("eve", None, "")


def test_buckets_of_queries_are_made_of_terms() -> None:
    """A keyword is a text, whatever the event spells."""
    rule = rule_of("query", "user.name")
    assert groups_of(rule, document(user={"name": 5})) == ("5", "")


def test_behind_the_values_stands_the_cluster() -> None:
    rule = rule_of("query", "user.name")
    user = {"user": {"username": "eve"}}
    assert groups_of(rule, Event(user, cluster="bay")) == ("eve", "bay")
    told = document(orchestrator={"cluster": {"name": "harbour"}})
    assert groups_of(rule, told) == (None, "harbour")
    bound = Event(told.body, is_document=True, cluster="bay", is_bound=True)
    assert groups_of(rule, bound) == (None, "bay")


def test_a_sequence_is_of_the_cluster_of_all_its_events() -> None:
    read = found_groups(("f",), catalogue=AUDIT_CATALOGUE)
    for clusters, expected in ((["bay", "bay"], "bay"), (["bay", "harbour"], ""), (["bay"], "bay")):
        payloads = tuple(
            pack("id", Event({"f": "x"}, is_document=True, cluster=name)) for name in clusters
        )
        finding = Finding("id", 0, 0, 0, payloads, about=SequenceOf(()))
        assert read(finding) == ("x", expected)


@pytest.mark.parametrize("cluster", ["", "bay"])
def test_a_threshold_is_of_the_cluster_that_was_counted(cluster: str) -> None:
    about = ThresholdResult(3, 0, 9, (("f", "x"),), cluster=cluster)
    read = found_groups((), catalogue=AUDIT_CATALOGUE)
    assert read(Finding("id", 0, 0, 0, (), about=about)) == ("x", cluster)


def test_buckets_alike_are_in_the_order_of_their_clusters() -> None:
    keys: list[Any] = [("b", 1, ""), ("a", 2, "x"), ("a", 1, "y"), ("a", 1, "x"), ("a", 1, "")]
    assert sorted(keys, key=ORDER) == [keys[4], keys[3], keys[2], keys[1], keys[0]]


def test_a_rule_that_does_not_suppress_reads_nothing() -> None:
    plain = rule_of("query", "f", alert_suppression=None)
    threshold = rule_of(
        "threshold",
        threshold={"field": ["a"], "value": 2},
        alert_suppression={"duration": {"value": 5, "unit": "m"}},
    )
    for rule in (plain, threshold):
        assert group_reader(rule, catalogue=AUDIT_CATALOGUE) is None


def test_lists_fan_out_in_order_and_each_value_once() -> None:
    groups: Groups = (("b", "a", "b", 1), "x")
    keys = [(1, "x"), ("a", "x"), ("b", "x")]
    assert keys_of(groups, most=9, order=ORDER) == keys
    assert keys_of(groups, most=2, order=ORDER) == keys[:2]
    assert count_keys(groups) == 3
    assert keys_of((("b", "a"), ("d", "c")), most=3, order=ORDER) == [
        ("a", "c"),
        ("a", "d"),
        ("b", "c"),
    ]


@pytest.mark.parametrize("groups", [(None, "a"), ((), "a"), ((), None)])
def test_an_empty_list_is_missing(groups: Groups) -> None:
    (key,) = keys_of(groups, most=9, order=ORDER)
    assert key[0] is None
    assert count_keys(groups) == 1


def test_the_first_keys_are_the_first_of_all() -> None:
    groups: Groups = (("c", 2, "a"), ("z", "y", 1.5))
    everything = sorted(itertools.product(*groups), key=ORDER)  # type: ignore[arg-type]
    for most in range(1, 10):
        assert keys_of(groups, most=most, order=ORDER) == everything[:most]


def test_missing_ones_come_first() -> None:
    keys = [("a", None), (None, "a"), (2, "a"), (None, None), ("a", 1), (10, "a")]
    assert sorted(keys, key=ORDER) == [
        (None, None),
        (None, "a"),
        (2, "a"),
        (10, "a"),
        ("a", None),
        ("a", 1),
    ]


def test_only_a_null_makes_groups_incomplete() -> None:
    assert lacks_value((None, "a"))
    assert not lacks_value(("", 0, False))


def test_no_two_values_are_written_alike() -> None:
    assert len({written(value) for value in MANY}) == len(MANY)
    assert written(1.0) == written(1)


def test_instances_differ_by_rule_and_by_every_value() -> None:
    pairs = list(itertools.product(MANY, MANY))
    names = {instance_id(pair, rule_id=rule_id) for pair in pairs for rule_id in ("r", "s")}
    assert len(names) == 2 * len(pairs)
    assert instance_id(("a", 1), rule_id="r") == instance_id(("a", 1.0), rule_id="r")
