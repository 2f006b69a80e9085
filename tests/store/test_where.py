import fnmatch
import re
from collections.abc import Iterator
from typing import Any

import pytest
from eventrows import describe, line_of, opened, read_only, shut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barrelman.records.rows import Row
from barrelman.records.where import (
    Always,
    And,
    Between,
    Equals,
    In,
    IsNull,
    Not,
    Or,
    Prefix,
    Where,
    Wildcard,
)
from barrelman.store.bounds import bounds_of
from barrelman.store.events import EventStore, Incoming
from barrelman.store.where import Values, render, render_bounds

TEXTS = ["", "a", "A", "ab", "a%", "a_", "a\\", "ä", "a*b", "%", "_x", "a\nb", "a\0b", "'", "null"]
NUMBERS = [0, 200, -1, 404, (1 << 63) - 1]
COLUMNS = ["user", "name", "verb", "cluster", "source_ips"]


def meets(where: Where, row: Row, cluster: str) -> bool:
    """The same judged row by row."""
    match where:
        case Always(is_true):
            return is_true
        case Not(part):
            return not meets(part, row, cluster)
        case And(parts):
            return all(meets(part, row, cluster) for part in parts)
        case Or(parts):
            return any(meets(part, row, cluster) for part in parts)
        case _:
            return meets_test(where, row, cluster)


def meets_test(
    where: Equals | In | Prefix | Wildcard | Between | IsNull, row: Row, cluster: str
) -> bool:
    values: list[Any] = (
        [cluster] if where.column == "cluster" else [getattr(row, where.column, None)]
    )
    if where.column == "source_ips":
        values = list(row.source_ips)
    values = [value for value in values if value is not None]
    match where:
        case IsNull():
            return not values
        case Equals(_, value):
            return any(type(each) is type(value) and each == value for each in values)
        case In(_, choices):
            return any(type(each) is type(c) and each == c for each in values for c in choices)
        case Prefix(_, text):
            return any(each.startswith(text) for each in values)
        case Wildcard(_, pattern):
            pieces = re.split(r"([*?])", pattern)
            regex = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pieces)
            return any(re.fullmatch(regex, each, re.DOTALL) for each in values)
        case Between(_, low, high):
            return any(
                (low is None or each >= low) and (high is None or each <= high) for each in values
            )


texts = st.sampled_from(TEXTS)
columns = st.sampled_from(COLUMNS)
patterns = st.text(st.sampled_from("aAb*?%_\\ä\n"), max_size=5)
leaves: st.SearchStrategy[Where] = st.one_of(
    st.builds(Always, st.booleans()),
    st.builds(Equals, columns, texts),
    st.builds(Equals, st.just("status"), st.sampled_from([*NUMBERS, 1 << 80])),
    st.builds(Equals, columns, st.sampled_from(NUMBERS)),
    st.builds(In, columns, st.lists(texts, max_size=3).map(tuple)),
    st.builds(
        In, st.just("status"), st.lists(st.sampled_from([*NUMBERS, "200"]), max_size=3).map(tuple)
    ),
    st.builds(Prefix, columns, texts),
    st.builds(Wildcard, columns, patterns),
    st.builds(
        Between, st.just("status"), st.none() | st.integers(-9, 500), st.none() | st.integers()
    ),
    st.builds(IsNull, st.sampled_from([*COLUMNS, "status"])),
)
trees: st.SearchStrategy[Where] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


def sample() -> list[tuple[str, Row]]:
    found = []
    for number in range(120):
        text = TEXTS[number % len(TEXTS)]
        members: dict[str, Any] = {
            "user": text,
            "verb": [None, "a", "get"][number % 3],
            "name": TEXTS[number * 7 % len(TEXTS)] if number % 4 else None,
            "status": [None, *NUMBERS][number % 6],
            "ips": [TEXTS[at % len(TEXTS)] for at in range(number, number + number % 4)],
        }
        cluster = ["a", "ab"][number % 2]
        found.append((cluster, describe(line_of(number, **members), None, cluster)))
    return found


SAMPLE = sample()


@pytest.fixture(scope="module", params=["owner", "reader"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EventStore]:
    """Half of the sample in two segments, half in the log."""
    path = tmp_path_factory.mktemp("where")
    owner = opened(path)
    for at, (cluster, row) in enumerate(SAMPLE):
        owner.append([Incoming(cluster, [row])])
        if at in {20, 60}:
            owner.seal()
    store = read_only(path) if request.param == "reader" else owner
    yield store
    if store is not owner:
        store.close()
    shut(owner)


@given(where=trees)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_columns_answer_as_rows_do(store: EventStore, where: Where) -> None:
    wanted = [at for at, (cluster, row) in enumerate(SAMPLE) if meets(where, row, cluster)]
    found = store.select(where)
    assert [ref.seq for ref in found] == wanted
    counted = store.count(where)
    assert counted.plain == len(wanted)
    assert not list(counted.others)


def test_a_value_is_never_text_of_the_statement() -> None:
    values = Values()
    hostile = "'); DROP TABLE x; --"
    where = And((Equals("user", hostile), Wildcard("name", hostile), In("verb", (hostile,))))
    statement = render(Not(where), values)
    assert hostile not in statement
    assert list(values.named.values()).count(hostile) == 3


@pytest.mark.parametrize(
    "where", [Equals("seq", 1), IsNull('x" OR TRUE'), Between("user", 1, 2), Prefix("status", "2")]
)
def test_columns_are_those_there_are(where: Where) -> None:
    with pytest.raises(ValueError, match="is no column"):
        render(where, Values())


def test_no_bounds_bind_nothing() -> None:
    values = Values()
    assert set(render_bounds(bounds_of(), values, has_unplain=True)) <= set("TRUE AND()")
    assert not values.named


def test_bounds_beyond_any_number_are_bounds(store: EventStore) -> None:
    far = 1 << 90
    assert len(store.select(Always(), first_seq=-far, last_seq=far)) == len(SAMPLE)
    assert len(store.select(Always(), time_us=(-far, far), arrival_us=(-far, far))) == len(SAMPLE)
    assert not store.select(Always(), time_us=(far, None))


def test_the_wildcards_are_the_usual_ones() -> None:
    """Those of the standard library, but for its brackets."""
    for pattern in ("a*", "?b", "*", "a?", ""):
        row = describe(line_of(1, user="ab"), None, "c")
        assert meets(Wildcard("user", pattern), row, "c") == fnmatch.fnmatchcase("ab", pattern)
