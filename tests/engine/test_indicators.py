"""Indicators against events: cases, and that looking up finds what trying one by one finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import oracle_matches

from barrelman.engine.compile import compile_query
from barrelman.engine.indicators import (
    MOST_ENRICHMENTS,
    Indicator,
    Indicators,
    compile_indicators,
)
from barrelman.query.ast import And, Before, Is, Node, Not, Range, Text
from barrelman.query.kql import parse_kql
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldType
from barrelman.records.paths import Path
from barrelman.records.times import parse_date_math
from barrelman.rules.rule import ThreatMappingEntry

NOW_MS = parse_date_math("2026-11-23T07:06:00Z").resolve_ms(0)
DAY_MS = 86_400_000
TYPES = Catalogue(
    exact={
        "k": FieldType.KEYWORD,
        "t": FieldType.TEXT,
        "b": FieldType.BOOLEAN,
        "l": FieldType.LONG,
        "d": FieldType.DOUBLE,
        "w": FieldType.DATE,
        "i": FieldType.IP,
        "f": FieldType.FLATTENED,
        "n": FieldType.NESTED,
        "v": FieldType.VERSION,
    }
)
Json = dict[str, Any]


def entry(field: str, value: str, *, negate: bool = False) -> ThreatMappingEntry:
    return ThreatMappingEntry(field=field, type="mapping", value=value, negate=negate)


def compiled(
    documents: Sequence[Json], *groups: Sequence[ThreatMappingEntry], **options: Any
) -> Indicators:
    indicators = [Indicator("ti", f"i{n}", each) for n, each in enumerate(documents)]
    return compile_indicators(indicators, groups, **{"catalogue": TYPES, **options})


def document(**fields: Any) -> Event:
    return Event(fields, is_document=True)


def meets(found: Indicators, event: Event, *, now_ms: int = NOW_MS) -> bool:
    answer = found.matches(event, now_ms=now_ms)
    assert answer is bool(found.enrichments(event, now_ms=now_ms))
    if answer:
        assert found.may_match(event)
        node = compile_query(found.node, TYPES)
        assert node.matches(event, now_ms=now_ms)
    return answer


# --- equality by the type of the event's field ---


@pytest.mark.parametrize(
    ("field", "value", "equal", "other"),
    [
        ("k", "Eve", ["Eve", ["x", "Eve"], [["Eve"]]], ["eve", "Eve ", None, [], {"Eve": 1}]),
        ("k", "", [""], [None, " "]),
        ("k", 80, [80, "80"], [80.0, "80.0"]),
        ("k", True, [True, "true"], ["True", 1]),
        ("k", "10.0.0.0/8", ["10.0.0.0/8"], ["10.1.2.3"]),
        ("t", "Evil Host", ["an evil day", "HOST", ["x", "host"]], ["evils", ""]),
        ("b", "true", [True, "true"], [False, 1, "True"]),
        ("b", False, [False, "false", ""], [True, 0, None]),
        ("l", "443", [443, "443", 443.9, [1, 443]], [44, "x", True]),
        ("l", 1.5, [], [1, 1.5, 2]),
        ("d", "0.50", [0.5, "0.5", "5e-1"], [0.51, "a", None]),
        ("i", "10.1.2.3", ["10.1.2.3", "::ffff:10.1.2.3", ["::1", "10.1.2.3"]], ["10.1.2.4", "x"]),
        ("i", "2001:DB8::1", ["2001:db8:0::1"], ["2001:db8::2"]),
        ("i", "10.0.0.0/8", ["10.1.2.3", "10.255.255.255"], ["11.0.0.0", "9.255.255.255"]),
        ("i", "0.0.0.0/0", ["1.2.3.4"], ["::1"]),
        ("i", "nonsense", [], ["nonsense"]),
        ("w", "2026-11-23", ["2026-11-23T23:59:59.999Z", 1795392000000], ["2026-11-24", "x"]),
        ("w", "2026-11", ["2026-11-30T12:00:00Z"], ["2026-12-01"]),
        ("w", "2026-11-23T01:00:00+02:00", ["2026-11-22T23:00:00.500Z"], ["2026-11-23T01:00:00Z"]),
        ("w", "now", [], ["2026-11-23T07:06:00Z"]),
        ("v", "1.0.0", ["1.0.0"], ["1.0", "1.0.1"]),
        ("f", "x", [{"a": "x"}, {"a": {"b": ["y", "x"]}}], [{"x": "y"}]),
        ("f.a", "80", [{"a": 80}, {"a": ["80"]}], [{"b": "80"}]),
        ("n.a", "x", [], [{"a": "x"}]),
        ("u", "x", ["x", ["y", "x"]], ["X"]),
        ("u", "80", [80, 80.0, "80"], ["80.0", True]),
        ("u", True, [True, "true"], [1, "1"]),
        ("u", "10.1.2.3", ["10.1.2.3", "::ffff:10.1.2.3"], ["10.1.2.30"]),
        ("u", "10.0.0.0/8", ["10.1.2.3", "10.0.0.0/8"], ["11.1.2.3"]),
        ("u", "2026-11-23", ["2026-11-23", "2026-11-23T05:00:00Z"], ["2026-11-24T00:00:00Z"]),
        ("u.deep", "x", [{"deep": "x"}, [{"deep": "y"}, {"deep": "x"}]], [{"other": "x"}]),
    ],
)
def test_values_are_equal_as_the_field_has_it(
    field: str, value: Any, equal: list[Any], other: list[Any]
) -> None:
    found = compiled(
        [{"threat": {"indicator": {"x": value}}}], [entry(field, "threat.indicator.x")]
    )
    top = field.partition(".")[0]
    assert [each for each in equal if not meets(found, document(**{top: each}))] == []
    assert [each for each in other if meets(found, document(**{top: each}))] == []


def test_raw_audit_events_are_read_by_the_names_that_rules_give() -> None:
    found = compiled(
        [{"threat.indicator.ip": "203.0.113.0/24", "name": "eve"}],
        [entry("source.ip", "threat.indicator.ip"), entry("user.name", "name")],
        catalogue=AUDIT_CATALOGUE,
    )
    event = Event({"user": {"username": "eve"}, "sourceIPs": ["10.0.0.1", "203.0.113.7"]})
    assert found.matches(event, now_ms=NOW_MS)
    event = Event({"user": {"username": "bob"}, "sourceIPs": ["203.0.113.7"]})
    assert not found.matches(event, now_ms=NOW_MS)
    assert not found.matches(Event({"user": {"username": "eve"}}), now_ms=NOW_MS)


# --- groups and entries ---

IP_AND_USER = [entry("i", "ip"), entry("k", "user")]


def test_all_entries_of_a_group_must_hold_of_the_same_indicator() -> None:
    found = compiled(
        [{"ip": "10.0.0.1", "user": "eve"}, {"ip": "10.0.0.2", "user": "bob"}], IP_AND_USER
    )
    assert meets(found, document(i="10.0.0.1", k="eve"))
    assert not meets(found, document(i="10.0.0.1", k="bob"))
    assert not meets(found, document(i="10.0.0.1"))
    # Each of an event's values may be the one that holds.
    assert meets(found, document(i=["10.0.0.2", "10.0.0.1"], k=["x", "bob"]))


def test_one_group_is_enough() -> None:
    found = compiled(
        [{"ip": "10.0.0.1"}, {"user": "eve"}], [entry("i", "ip")], [entry("k", "user")]
    )
    assert meets(found, document(i="10.0.0.1"))
    assert meets(found, document(k="eve", i="10.0.0.9"))
    assert not meets(found, document(k="10.0.0.1", i="9.9.9.9"))


def test_an_indicator_without_a_field_of_a_group_is_none_of_its() -> None:
    found = compiled([{"ip": "10.0.0.1"}, {"user": "eve", "ip": None}], IP_AND_USER)
    assert len(found) == 0
    assert not meets(found, document(i="10.0.0.1", k="eve"))


def test_a_negated_entry_must_not_hold_of_that_indicator() -> None:
    group = [entry("i", "ip"), entry("k", "owner", negate=True)]
    found = compiled(
        [{"ip": "10.0.0.1", "owner": "eve"}, {"ip": "10.0.0.1", "owner": "bob"}], group
    )
    assert meets(found, document(i="10.0.0.1", k="eve"))  # the other indicator
    assert meets(found, document(i="10.0.0.1", k="carol"))
    assert meets(found, document(i="10.0.0.1"))  # a missing field holds nothing
    assert not meets(found, document(i="10.0.0.1", k=["eve", "bob"]))
    only = compiled([{"ip": "10.0.0.1", "owner": "eve"}], group)
    assert not meets(only, document(i="10.0.0.1", k=["carol", "eve"]))
    (made,) = only.enrichments(document(i="10.0.0.1", k="carol"), now_ms=NOW_MS)
    assert made["matched"]["field"] == "i"


@pytest.mark.parametrize("owner", [None, [], ["eve", "bob"]])
def test_a_negated_entry_needs_one_value_of_the_indicator_to_refuse(owner: Any) -> None:
    group = [entry("i", "ip"), entry("k", "owner", negate=True)]
    found = compiled([{"ip": "10.0.0.1", "owner": owner}], group)
    assert meets(found, document(i="10.0.0.1", k="eve"))


def test_a_negated_address_may_be_a_network() -> None:
    group = [entry("k", "user"), entry("i", "net", negate=True)]
    found = compiled([{"user": "eve", "net": "10.0.0.0/8"}], group)
    assert meets(found, document(k="eve", i="11.0.0.1"))
    assert not meets(found, document(k="eve", i="10.9.9.9"))


def test_of_an_array_of_an_indicator_the_first_counts_or_none() -> None:
    several = [{"ip": ["10.0.0.1", "10.0.0.2"], "user": "eve"}]
    single = compiled(several, [entry("i", "ip")])
    assert meets(single, document(i="10.0.0.1"))
    assert not meets(single, document(i="10.0.0.2"))
    assert len(compiled(several, IP_AND_USER)) == 0
    # One group with two entries, or a field that is not looked up as it is: of no group the first.
    assert len(compiled(several, [entry("i", "ip")], IP_AND_USER)) == 0
    assert len(compiled(several, [entry("t", "ip")])) == 0
    assert meets(
        compiled([{"ip": ["10.0.0.1"], "user": "eve"}], IP_AND_USER),
        document(i="10.0.0.1", k="eve"),
    )


def test_without_indicators_nothing_matches() -> None:
    found = compiled([], IP_AND_USER)
    assert not meets(found, document(i="10.0.0.1", k="eve"))
    assert not compile_query(found.node, TYPES).matches(document(i="1.1.1.1"), now_ms=NOW_MS)


# --- which indicators count ---


def test_only_indicators_that_meet_the_query_and_no_exception_count() -> None:
    documents = [
        {"user": "eve", "kind": "bad"},
        {"user": "bob", "kind": "good"},
        {"user": "dan", "kind": "bad", "team": "red"},
    ]
    found = compiled(
        documents,
        [entry("k", "user")],
        query=parse_kql("kind:bad"),
        exceptions=parse_kql("team:red"),
    )
    assert not found.uses_now
    assert len(found) == 1
    assert [name for name in ("eve", "bob", "dan") if meets(found, document(k=name))] == ["eve"]


def test_indicators_age_with_the_time_of_the_run() -> None:
    documents = [{"user": "eve", "@timestamp": "2026-11-22T12:00:00Z"}]
    found = compiled(
        documents,
        [entry("k", "user")],
        query=parse_kql('@timestamp >= "now-1d/d" and @timestamp <= now'),
    )
    assert found.uses_now
    event = document(k="eve")
    assert found.may_match(event)
    answers = [meets(found, event, now_ms=NOW_MS + days * DAY_MS) for days in (-1, 0, 1, 0)]
    assert answers == [False, True, False, True]


def test_an_exception_that_expires_counts_until_then() -> None:
    exception = And((Before(NOW_MS), Is(Text("user"), Text("eve"))))
    found = compiled([{"user": "eve"}], [entry("k", "user")], exceptions=exception)
    assert not meets(found, document(k="eve"), now_ms=NOW_MS - 1)
    assert meets(found, document(k="eve"), now_ms=NOW_MS)


# --- enrichments ---


def test_an_enrichment_has_the_indicator_its_feed_and_what_matched() -> None:
    body = {
        "threat": {
            "indicator": {"ip": "10.0.0.0/8", "confidence": "High"},
            "feed": {"name": "abuse"},
        }
    }
    found = compiled([body], [entry("i", "threat.indicator.ip")])
    assert found.enrichments(document(i=["::1", "10.0.0.7"]), now_ms=NOW_MS) == [
        {
            "indicator": {"ip": "10.0.0.0/8", "confidence": "High"},
            "feed": {"name": "abuse"},
            "matched": {
                "atomic": "10.0.0.7",
                "field": "i",
                "id": "i0",
                "index": "ti",
                "type": "indicator_match_rule",
            },
        }
    ]


@pytest.mark.parametrize(
    ("body", "indicator", "feed"),
    [
        (
            {"threat": {"indicator": [{"a": 1}, {"a": 2}], "feed": {"name": ["x", "y"]}}},
            {"a": 1},
            "x",
        ),
        ({"threat.indicator": {"a": 1}, "threat.feed.name": "x"}, {"a": 1}, "x"),
        ({"threat.indicator.a": 1, "threat": {"feed": {"name": ""}}}, {"a": 1}, None),
        ({"threat": {"indicator": "text"}}, {}, None),
        ({}, {}, None),
    ],
)
def test_an_indicator_is_the_object_at_its_path(body: Json, indicator: Json, feed: Any) -> None:
    found = compiled([{"user": "eve", **body}], [entry("k", "user")])
    (made,) = found.enrichments(document(k="eve"), now_ms=NOW_MS)
    assert made["indicator"] == indicator
    assert made["feed"] == ({} if feed is None else {"name": feed})


def test_the_path_may_be_another() -> None:
    found = compiled([{"ioc": {"user": "eve"}}], [entry("k", "ioc.user")], indicator_path="ioc")
    (made,) = found.enrichments(document(k="eve"), now_ms=NOW_MS)
    assert made["indicator"] == {"user": "eve"}


def test_each_entry_of_a_group_makes_an_enrichment_once() -> None:
    documents = [{"ip": "10.0.0.1", "user": "eve"}, {"ip": "10.0.0.0/8", "user": "eve"}]
    found = compiled(documents, IP_AND_USER, [entry("k", "user")])
    made = found.enrichments(document(i="10.0.0.1", k=["eve", "eve"]), now_ms=NOW_MS)
    matched = [(each["matched"]["id"], each["matched"]["field"]) for each in made]
    assert matched == [("i0", "i"), ("i0", "k"), ("i1", "i"), ("i1", "k")]


def test_an_event_has_so_many_enrichments_at_most() -> None:
    found = compiled([{"user": "eve"}] * (MOST_ENRICHMENTS + 50), [entry("k", "user")])
    made = found.enrichments(document(k="eve"), now_ms=NOW_MS)
    assert [each["matched"]["id"] for each in made] == [f"i{n}" for n in range(MOST_ENRICHMENTS)]


# --- looking up finds what trying one by one finds ---

SCALARS = [
    *("eve", "bob", "Eve bob", "", "80", "80.0", "true", "1.0.0", "x"),
    *("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.0/8", "10.0.0.0/31", "0.0.0.0/0", "::/0", "::1"),
    *("2026-11-23", "2026-11", "2026", "2026-11-23T07:06:00Z", "2026-11-23T07:06:00.000Z", "now"),
    *("2026-11-23T09:06+02:00", "2026-11-23T00:00:00+01:00||/d", "2026-11-23||/M"),
    *(80, 80.0, 80.5, 1, 0, True, False, 1795417560000, 10**20, -0.0),
]
FIELDS = ["k", "t", "b", "l", "d", "w", "i", "f.a", "v", "u"]
values = st.sampled_from(SCALARS) | st.lists(st.sampled_from([*SCALARS, None]), max_size=3)
objects = st.fixed_dictionaries({}, optional=dict.fromkeys(("a", "b", "c"), values))
events = st.fixed_dictionaries(
    {}, optional={field: values for field in FIELDS if "." not in field} | {"f": objects}
)
entries = st.builds(
    entry, st.sampled_from(FIELDS), st.sampled_from(["a", "b", "c"]), negate=st.booleans()
)
groups = st.lists(
    st.lists(entries, min_size=1, max_size=3).filter(lambda group: not group[0].negate),
    min_size=1,
    max_size=3,
)
SINGLE = ("k", "i", "u")


def condition(group: Sequence[ThreatMappingEntry], body: Json, *, takes_first: bool) -> Node | None:
    """What an event must meet to meet that indicator; None where the indicator cannot be met."""
    parts: list[Node] = []
    for each in group:
        found = Path(each.value).values(body)
        if len(found) == 1 or (found and takes_first):
            value = found[0]
            text = value if isinstance(value, str) else repr(value)
            text = str(value).lower() if isinstance(value, bool) else text
            node = Is(Text(each.field), Text(text))
            if text.startswith("now") and TYPES.type_of(each.field) is FieldType.DATE:
                node = Is(Text("no.such"), Text("x"))  # it is no date of a document
            parts.append(Not(node) if each.negate else node)
        elif not each.negate:
            return None
    return And(tuple(parts))


@given(st.lists(objects, max_size=4), groups, st.lists(events, max_size=4))
def test_looking_up_finds_what_trying_finds(
    documents: list[Json], mapping: list[list[ThreatMappingEntry]], bodies: list[Json]
) -> None:
    found = compiled(documents, *mapping)
    takes_first = all(len(group) == 1 and group[0].field in SINGLE for group in mapping)
    wanted = [
        node
        for body in documents
        for group in mapping
        if (node := condition(group, body, takes_first=takes_first)) is not None
    ]
    for body in bodies:
        event = document(**body)
        expected = any(
            oracle_matches(node, event, catalogue=TYPES, now_ms=NOW_MS) for node in wanted
        )
        assert meets(found, event) is expected


def test_a_hundred_thousand_indicators_are_in_tables() -> None:
    documents = [
        {"ip": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "user": "eve"} for n in range(10**5)
    ]
    found = compiled(documents, IP_AND_USER)
    assert len(found) == 10**5
    (made, _) = found.enrichments(document(i="10.1.2.3", k="eve"), now_ms=NOW_MS)
    assert made["matched"]["id"] == f"i{(1 << 16) + (2 << 8) + 3}"
    # The condition is of the few users alone; addresses are too many to be looked for.
    assert not compile_query(found.node, TYPES).matches(document(i="10.1.2.3"), now_ms=NOW_MS)
    assert compile_query(found.node, TYPES).matches(document(i="1.1.1.1", k="eve"), now_ms=NOW_MS)


def test_a_range_in_the_query_of_indicators_is_read_by_their_values() -> None:
    documents = [{"user": "eve", "score": 80}, {"user": "bob", "score": 20}]
    found = compiled(documents, [entry("k", "user")], query=Range(Text("score"), "gte", Text("50")))
    assert meets(found, document(k="eve"))
    assert not meets(found, document(k="bob"))
