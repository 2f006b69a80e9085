from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from eventrows import describe, incoming, line_of, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.records.rows import Row
from barrelman.store.bounds import Extent
from barrelman.store.columns import (
    KEY,
    Batch,
    Cut,
    appended,
    batch_of,
    bytes_of,
    is_readable,
    keys_in,
    read_keys,
    read_meta,
    table_of,
    unplain_in,
    write_parquet,
)
from barrelman.store.duck import Duck

EXTENT = Extent(0, 1, (1, 2), None, 0, frozenset({"c"}))


def made(some: list[Row], *, first_seq: int = 0) -> Batch:
    return batch_of(some, first_seq=first_seq, arrival_us=50, clusters=[("c", len(some))])


def test_every_column_says_what_the_row_says() -> None:
    (row,) = rows(3, verb="get", ips=["10.0.0.1", "::1"], status=404, name="ä\0b", namespace="")
    (told,) = made([row], first_seq=9).to_pylist()
    assert told.pop("arrival").timestamp() == pytest.approx(50e-6)
    assert told.pop("time").timestamp() * 1e6 == pytest.approx(row.time_us)
    assert told == {
        "seq": 9,
        "cluster": "c",
        **{name: getattr(row, name) for name in Row._fields[5:14]},
        "name": "ä\0b",
        "decision": None,
        "source_ips": ["10.0.0.1", "::1"],
        "status": 404,
        "is_plain": True,
        "is_wrapped": False,
        "key": KEY.pack(*row.key),
        "size": len(row.line) + 1,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"user": "half \ud800 pair"},
        {"source_ips": ("\udfff",)},
        {"status": 1 << 70},
        {"status": -(1 << 63) - 1},
        {"time_us": 1 << 63},
        {"time_us": -(1 << 62) - 1},
        {"time_us": -(1 << 63)},
    ],
)
def test_what_no_column_can_hold_makes_the_row_a_hint(changes: dict[str, Any]) -> None:
    plain, odd = rows(1, 2)
    batch = made([plain, odd._replace(**changes)])
    assert batch.column("is_plain").to_pylist() == [True, False]
    assert unplain_in(batch) == 1


def test_a_mistake_in_a_row_is_not_hidden() -> None:
    (row,) = rows(1)
    with pytest.raises((TypeError, ValueError)):
        made([row._replace(status="four")])  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
@settings(max_examples=20, deadline=None)
def test_batches_stay_few_and_keep_their_rows(counts: list[int]) -> None:
    row = describe(line_of(1), None, "c")
    batches: tuple[Batch, ...] = ()
    total = 0
    for number, count in enumerate(counts):
        some = [row._replace(user=f"u{number}")] * count
        batches = appended(batches, made(some, first_seq=total))
        total += count
    table = table_of(batches)
    assert table.column("seq").to_pylist() == list(range(total))
    users = [f"u{number}" for number, count in enumerate(counts) for _ in range(count)]
    assert table.column("user").to_pylist() == users
    assert len(batches) <= 12


def test_a_row_takes_few_bytes() -> None:
    some = [*incoming(*range(1000), verb="get", name="x" * 30, ips=["10.0.0.1"]).rows]
    batches: tuple[Batch, ...] = ()
    for at in range(0, 1000, 10):
        batches = appended(batches, made(some[at : at + 10], first_seq=at))
    assert bytes_of(batches) < 250 * 1000


def parquet(path: Path, count: int = 10) -> Path:
    batch = made(rows(*range(count), user="ü"))
    write_parquet(path, [batch], cuts=[Cut(0, 4), Cut(77, count - 4)], extent=EXTENT, lines_size=5)
    return path


def test_a_file_tells_its_meta_and_the_places_of_lines(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p")
    meta = read_meta(path)
    assert meta is not None
    assert meta == (EXTENT, 10, 0, 5)
    table = pq.read_table(path)
    assert table.column("frame").to_pylist() == [0] * 4 + [77] * 6
    sizes = table.column("size").to_pylist()
    assert table.column("at").to_pylist()[:6] == [
        *[sum(sizes[:at]) for at in range(4)],
        0,
        sizes[4],
    ]
    assert is_readable(path)


def test_values_that_repeat_are_written_once_whatever_batch_they_are_of(tmp_path: Path) -> None:
    batches = [made(rows(*range(2000), user=f"u{at}" * 50), first_seq=2000 * at) for at in range(3)]
    path = tmp_path / "p"
    write_parquet(path, batches, cuts=[Cut(0, 6000)], extent=EXTENT, lines_size=5)
    footer = pq.read_metadata(path)
    columns = [footer.row_group(0).column(at) for at in range(footer.num_columns)]
    (user,) = [each for each in columns if each.path_in_schema == "user"]
    assert user.total_uncompressed_size < 5000
    assert pq.read_table(path).column("user").to_pylist()[::2000] == [
        f"u{at}" * 50 for at in range(3)
    ]


def test_a_file_cut_anywhere_is_none_of_ours(tmp_path: Path) -> None:
    path = parquet(tmp_path / "p")
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert read_meta(path) is None
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_meta(path)


def test_a_strangers_file_is_none_of_ours(tmp_path: Path) -> None:
    pq.write_table(table_of([made(rows(1))]), tmp_path / "p")
    assert read_meta(tmp_path / "p") is None


def test_keys_are_read_from_disk_as_from_memory(tmp_path: Path) -> None:
    (keys,) = read_keys(parquet(tmp_path / "p"))
    assert keys == keys_in(made(rows(*range(10))))
    assert keys.keys == [KEY.pack(*row.key) for row in rows(*range(10))]


def test_duckdb_reads_files_whatever_they_are_called(tmp_path: Path) -> None:
    from barrelman.store.duck import literal_path

    duck = Duck(memory="64MB", threads=1, temporary=None)
    for name in ("a[1]b", "star*", "quest?", "it's", "a{b,c}"):
        path = parquet(tmp_path / name)
        told = duck.rows(
            'SELECT count(*) FROM read_parquet($f) WHERE "user" = $u',
            {"f": [literal_path(path)], "u": "ü"},
            {},
        )
        assert told == [(10,)], name
    duck.close()
