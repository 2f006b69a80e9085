"""The configuration: all that is wrong with it at once, each in its place, and who wins."""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.settings.config import SECTIONS, Config, split_listen
from barrelman.settings.configload import Flag, LoadedConfig, load_config
from barrelman.settings.configtext import (
    HIDDEN,
    config_toml,
    configuration_markdown,
    defaults_toml,
)
from barrelman.settings.keytypes import keys_of
from barrelman.settings.sinktable import SinkTable
from barrelman.sinks.options import OPTIONS

ROOT = Path(__file__).parents[2]


def load(
    tmp_path: Path, text: str = "", *flags: Flag, environment: Mapping[str, str] | None = None
) -> LoadedConfig:
    file = tmp_path / "barrelman.toml"
    file.write_text(text)
    return load_config(str(file), environment=environment or {}, flags=flags)


def taken(loaded: LoadedConfig) -> Config:
    assert not loaded.errors, [error.oneline() for error in loaded.errors]
    assert loaded.config is not None
    return loaded.config


def told(loaded: LoadedConfig) -> list[str]:
    """What is wrong, with line and column."""
    assert loaded.config is None
    return [
        f"{error.place.line}:{error.place.column}: {error.message}"
        + (f" ({error.hint})" if error.hint else "")
        for error in loaded.errors
    ]


def test_without_anything_the_defaults_hold() -> None:
    assert taken(load_config(None, environment={"PATH": "/bin", "BARRELMAN_URL": "x"})) == Config()


def test_a_file(tmp_path: Path) -> None:
    config = taken(
        load(
            tmp_path,
            """
            [server]
            listen = "[::]:0"
            max_body_bytes = "32MiB"
            idle_seconds = "2m"
            [intake]
            clusters = [{name = "prod", silent_after_seconds = 60}, {name = "test"}]
            [[intake.files]]
            paths = ["logs/*.log", "/var/log/audit.log"]
            cluster = "prod"
            from_start = true
            [rules]
            paths = ["rules"]
            [[sinks]]
            name = "everything"
            kind = "file"
            path = "alerts.jsonl"
            """,
        )
    )
    assert config.server.listen == "[::]:0"
    assert (config.server.max_body_bytes, config.server.idle_seconds) == (32 * 1024**2, 120)
    assert [(each.name, each.silent_after_seconds) for each in config.intake.clusters] == [
        ("prod", 60),
        ("test", None),
    ]
    (files,) = config.intake.files
    assert files.paths == (f"{tmp_path}/logs/*.log", "/var/log/audit.log")
    assert (files.cluster, files.from_start, files.poll_seconds) == ("prod", True, 0.5)
    assert config.rules.paths == (f"{tmp_path}/rules",)
    assert config.sinks == (
        {"name": "everything", "kind": "file", "path": f"{tmp_path}/alerts.jsonl"},
    )


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """\
[server]
listen = "0.0.0.0"
tls_crt = "a"
max_connections = 0
max_body_bytes = true
[storage]
x = 1
[intake]
max_bytes_in_flight = "lots"
clusters = [{name = "a b"}, {silent_after_seconds = -1}]
[[intake.files]]
paths = "*.log"
[detection]
live = "yes"
[[sinks]]
name = "a"
kind = "slak"
[log]
level = "loud"
""",
    )
    assert told(loaded) == [
        "2:10: server.listen: '0.0.0.0' is not HOST:PORT, as 127.0.0.1:8130 and [::]:8130 are",
        "3:1: unknown key 'tls_crt' in [server] (did you mean 'tls_cert'?)",
        "4:19: server.max_connections: must be at least 1, not 0",
        (
            "5:18: server.max_body_bytes: must be a number of bytes or a text like '64MiB', not "
            "true or false (true)"
        ),
        "6:1: unknown table 'storage' (did you mean 'store'?)",
        "9:23: intake.max_bytes_in_flight: 'lots' is not a size (write 64MiB, or bytes)",
        (
            "10:21: intake.clusters.name: 'a b' is not a cluster's name: letters, digits, '.', "
            "'_' and '-', at most 100"
        ),
        "10:53: intake.clusters.silent_after_seconds: must be at least 0 seconds, not -1",
        "10:29: 'name' is missing (The cluster's name, as in the paths it posts to.)",
        "12:9: intake.files.paths: must be a list of texts, not a text (write ['*.log'])",
        "11:1: 'cluster' is missing (The cluster that the events are of.)",
        "14:8: detection.live: must be true or false, not a text ('yes')",
        "17:8: sinks.kind: 'slak' is none of its values (did you mean 'slack'?)",
        "19:9: log.level: 'loud' is none of its values (one of debug, info, warning, error)",
    ]
    assert all(str(tmp_path) in (error.place.path or "") for error in loaded.errors)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server\nx = 1", r"1:8: is no TOML: "),
        ("[log]\nlevel = ", r"2:9: is no TOML: "),
        ("a = 1\na = 2\n", r"2:\d: is no TOML: "),
        ("server = 3", r"1:\d+: 'server' must be a table"),
        ('"a(" = 3', r"1:1: unknown table 'a\('"),
        ("[intake]\nfiles = 3", r"2:9: 'intake.files' must be a list of tables"),
        ("[server]\nlisten = 1979-05-27", r"must be a text, not a date"),
        ('[server]\nlisten = "a\\u0000b:1"', "NUL"),
        ('[store]\ndata = ""', r"store.data: the text is empty"),
        ("[store]\nretention_days = nan", r"at least 0 days"),
        ("[store]\nretention_days = inf", r"at most"),
        ("[store]\nthreads = 2.5", r"must be a whole number"),
        ('[server]\npublic_url = "ftp://x"', "is not a URL"),
        ('[server]\npublic_url = "https://x?y"', "query"),
        ('[server]\nlisten = "a:99999"', "HOST:PORT"),
        ("server.listne = 1", r"1:8: unknown key 'listne' in \[server\] \(did you mean 'listen'"),
    ],
)
def test_a_mistake(tmp_path: Path, text: str, expected: str) -> None:
    (found,) = told(load(tmp_path, text))
    assert re.search(expected, found), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[server]\ntls_cert = "c.pem"', "2:12: server.tls_cert is given without server.tls_key"),
        ('[server]\ntls_key = "c.pem"', "2:11: server.tls_key is given without server.tls_cert"),
        ('[server]\nclient_ca = "c.pem"', "2:13: server.client_ca is given without"),
        (
            '[server]\ntls_cert = "c.pem"\ntls_key = "c.pem"\npublic_url = "http://x"',
            "4:14: server.public_url begins with http:",
        ),
        ('[server]\nclient_ca = "gone.pem"', "cannot be read: No such file"),
        (
            '[[access.certificates]]\ncommon_name = "a"\nrole = "admin"',
            "1:1: access.certificates are given, and server.client_ca",
        ),
        ('[intake]\nmax_bytes_in_flight = "2MiB"', "2:23: intake.max_bytes_in_flight is less"),
        ('[intake]\nmax_event_bytes = "100MiB"', "2:19: intake.max_event_bytes is more"),
        ('[store]\nretention_bytes = "1MiB"', "2:19: store.retention_bytes is less than two"),
        (
            '[intake]\nclusters = [{name = "a"}, {name = "a"}]',
            "2:35: there are two clusters 'a'",
        ),
        (
            '[[sinks]]\nname = "f"\nkind = "file"\npath = "x"\ntoken = "t"',
            "1:1: a sink of kind file has no 'token'",
        ),
        ('[[sinks]]\nname = "w"\nkind = "webhook"', "1:1: the sink 'w' has no url"),
        (
            '[[sinks]]\nname = "w"\nkind = "slack"\nurl = "https://x/y"\ntemplate = "gone"',
            "1:1: the template",
        ),
        (
            '[[sinks]]\nname = "w"\nkind = "slack"\ntoken = "a"\ntoken_file = "c"',
            "5:14: both 'token' and 'token_file' are given",
        ),
    ],
)
def test_keys_at_odds(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "c.pem").write_text("x")
    found = told(load(tmp_path, text))
    assert any(expected in each for each in found), found


def test_a_conflict_that_rests_on_a_mistake_is_not_told(tmp_path: Path) -> None:
    text = "[server]\nmax_body_bytes = true\n[intake]\nmax_bytes_in_flight = '1MiB'\n"
    assert len(told(load(tmp_path, text))) == 1


def test_flags_win_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    text = '[server]\nlisten = "a:1"\npublic_url = "http://a"\n[store]\ndata = "d"\n'
    environment = {
        "BARRELMAN_SERVER__LISTEN": "b:2",
        "BARRELMAN_SERVER__PUBLIC_URL": "http://b",
    }
    flag = Flag("server.listen", "c:3", "--listen")
    loaded = load(tmp_path, text, flag, environment=environment)
    config = taken(loaded)
    assert config.server.listen == "c:3"
    assert config.server.public_url == "http://b"
    assert config.store.data == f"{tmp_path}/d"
    shown = config_toml(loaded)
    assert 'listen = "c:3"  # --listen\n' in shown
    assert "  # BARRELMAN_SERVER__PUBLIC_URL\n" in shown
    assert f"  # {tmp_path}/barrelman.toml:5\n" in shown


@pytest.mark.parametrize(
    ("name", "written", "section", "key", "value"),
    [
        ("STORE__THREADS", "4", "store", "threads", 4),
        ("STORE__RETENTION_DAYS", "1.5", "store", "retention_days", 1.5),
        ("STORE__RETENTION_BYTES", " 50GiB ", "store", "retention_bytes", 50 * 1024**3),
        ("SERVER__IDLE_SECONDS", "5m", "server", "idle_seconds", 300),
        ("DETECTION__LIVE", "no", "detection", "live", False),
        ("RULES__PATHS", "a, b", "rules", "paths", ("a", "b")),
        ("RULES__PATHS", '["a,b"]', "rules", "paths", ("a,b",)),
        ("LOG__FORMAT", "json", "log", "format", "json"),
    ],
)
def test_values_of_the_environment(
    name: str, written: str, section: str, key: str, value: object
) -> None:
    loaded = load_config(None, environment={f"BARRELMAN_{name}": written})
    assert getattr(getattr(taken(loaded), section), key) == value


def test_lists_of_tables_in_the_environment() -> None:
    written = '[{paths = ["/x"], cluster = "a"}]'
    config = taken(load_config(None, environment={"BARRELMAN_INTAKE__FILES": written}))
    assert [each.cluster for each in config.intake.files] == ["a"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BARRELMAN_SERVER__LISTN", "x", "no key 'server.listn' (did you mean 'listen'?)"),
        ("BARRELMAN_SERVR__LISTEN", "x", "names no setting (did you mean 'server'?)"),
        ("BARRELMAN_STORE__THREADS", "many", "store.threads: must be a whole number"),
        ("BARRELMAN_DETECTION__LIVE", "maybe", "detection.live: must be true or false"),
        ("BARRELMAN_SERVER__PUBLIC_URL_FILE", "/gone", "'/gone' cannot be read"),
        ("BARRELMAN_SINKS__A__URL", "x", "names no sink of the file (there: none)"),
        ("BARRELMAN_INTAKE__FILES", "a,b", "must be a list of tables"),
    ],
)
def test_a_mistake_in_the_environment(name: str, value: str, expected: str) -> None:
    (error,) = load_config(None, environment={name: value}).errors
    assert expected in error.oneline()
    assert error.place.path == name


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    (tmp_path / "other").write_text("t0ken")
    text = (
        '[[sinks]]\nname = "on-call"\nkind = "webhook"\nurl = "https://x/"\nsecret_file = "key"\n'
    )
    environment = {"BARRELMAN_SINKS__ON_CALL__TOKEN_FILE": str(tmp_path / "other")}
    loaded = load(tmp_path, text, environment=environment)
    (sink,) = taken(loaded).sinks
    assert (sink["secret"], sink["token"]) == ("s3cret", "t0ken")
    shown = config_toml(loaded)
    assert "s3cret" not in shown
    assert "t0ken" not in shown
    assert f'secret = "{HIDDEN}"' in shown
    twice = environment | {"BARRELMAN_SINKS__ON_CALL__TOKEN": "x"}
    (error,) = load(tmp_path, text, environment=twice).errors
    assert "is given, too" in error.message


@pytest.mark.parametrize("content", ["", " \n"])
def test_a_file_without_a_secret_is_a_mistake(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    text = '[[sinks]]\nname = "w"\nkind = "webhook"\nurl = "https://x/"\nsecret_file = "key"\n'
    (found,) = told(load(tmp_path, text))
    assert "5:15: sinks.secret_file: " in found


def test_a_secret_is_not_quoted(tmp_path: Path) -> None:
    text = '[[sinks]]\nname = "w"\nkind = "webhook"\nurl = "nonsense"\nsecret = ["hush"]\n'
    assert not any("hush" in each or "nonsense" in each for each in told(load(tmp_path, text)))


def test_sinks_of_flags_come_on_top(tmp_path: Path) -> None:
    text = '[[sinks]]\nname = "f"\nkind = "file"\npath = "x"\n'
    flag = Flag("sinks", [{"name": "g", "kind": "file", "path": "-"}], "--sink")
    config = taken(load(tmp_path, text, flag))
    assert [each["name"] for each in config.sinks] == ["f", "g"]
    assert config.sinks[1]["path"] == "-"


@pytest.mark.parametrize("name", ["gone.toml", "a\0b"])
def test_a_file_that_cannot_be_read(name: str) -> None:
    (error,) = load_config(name, environment={}).errors
    assert "cannot be read" in error.message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"x = 1\n\xff\xfe")
    (error,) = load_config(str(tmp_path / "a.toml"), environment={}).errors
    assert (error.message, error.place.line) == ("is not UTF-8", 2)


def test_line_ends_and_marks_of_windows(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbf[log]\r\nlevel = "loud"\r\n')
    (error,) = load_config(str(tmp_path / "a.toml"), environment={}).errors
    assert (error.place.line, error.place.column) == (2, 9)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:2", ("::1", 2)), ("a.b:65535", ("a.b", 65535))],
)
def test_listen(value: str, expected: tuple[str, int]) -> None:
    assert split_listen(value) == expected


@pytest.mark.parametrize("value", ["a", ":1", "a:", "a:x", "::1:2", "[a]:1", "a:-1", "a b:1"])
def test_listen_is_none(value: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of two kinds, and nobody sees its text
        split_listen(value)


VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)
KEYS = st.sampled_from([*SECTIONS, "sinks", "other"])
NAMES = st.sampled_from(
    [*{name for table in (*SECTIONS.values(), SinkTable) for name in keys_of(table)}, "x"]
)


def written(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(f"\\U{ord(char):08x}" for char in value)
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        pairs = (f"{written(name)} = {written(inner)}" for name, inner in value.items())
        return f"{{{', '.join(pairs)}}}"
    return str(value)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(KEYS, st.dictionaries(NAMES, VALUES, max_size=3), max_size=3))
def test_any_value_is_taken_or_told(tables: dict[str, dict[str, Any]]) -> None:
    text = ""
    for table, pairs in tables.items():
        text += f"[[{table}]]\n" if table == "sinks" else f"[{table}]\n"
        text += "".join(f"{name} = {written(value)}\n" for name, value in pairs.items())
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(Path(folder), text)
    assert (loaded.config is None) == bool(loaded.errors)
    for error in loaded.errors:
        assert error.place.line is not None
        assert str(error)


# What is written of it


def test_every_key_is_documented() -> None:
    tables = [*SECTIONS.values(), SinkTable]
    tables += [
        key.table for each in SECTIONS.values() for key in keys_of(each).values() if key.table
    ]
    for table in tables:
        assert table.__doc__
        for name, key in keys_of(table).items():
            assert key.doc.endswith("."), name
            assert key.doc[0].isupper(), name


def test_the_page_of_documentation_is_current() -> None:
    page = ROOT / "docs" / "configuration.md"
    assert page.read_text() == configuration_markdown(), (
        "write it anew: python -c 'from barrelman.settings.configtext import *; "
        'print(configuration_markdown(), end="")\' > docs/configuration.md'
    )


def test_the_defaults_in_writing_are_the_defaults(tmp_path: Path) -> None:
    """As printed, and with every default uncommented that is one."""
    text = defaults_toml()
    assert taken(load(tmp_path, text)) == Config()
    plain = text.partition("#[[sinks]]")[0].replace('#data = "', f'#data = "{tmp_path}/')
    for name in (
        *("[[intake.clusters]]", "[[intake.files]]"),
        *("[[rules.indexes]]", "[[access.certificates]]"),
    ):
        head, _, rest = plain.partition(f"#{name}")
        plain = head + rest[rest.index("\n\n") :]
    lines = [
        line.removeprefix("#")
        for line in plain.splitlines()
        if not line.startswith("# ") and "# not set" not in line
    ]
    keys = sum(1 for line in lines if " = " in line)
    config = taken(load(tmp_path, "\n".join(lines)))
    assert keys > 40
    assert config.server == Config().server
    assert config.watchdogs == Config().watchdogs
    assert config.store.data == f"{tmp_path}/barrelman-data"


def test_what_holds_in_writing_is_toml_and_the_same(tmp_path: Path) -> None:
    text = '[store]\ndata = "d"\nsegment_bytes = "3MiB"\n[intake]\nclusters = [{name="a"}]'
    first = load(tmp_path, text)
    shown = config_toml(first)
    assert tomllib.loads(shown)["store"]["segment_bytes"] == "3MiB"
    assert taken(load(tmp_path, shown)) == taken(first)


def test_the_sinks_know_every_key_of_their_table() -> None:
    assert keys_of(SinkTable).keys() == {each.key for each in OPTIONS} | {"kind", "enabled", "path"}


@pytest.mark.parametrize("name", ["ti-feeds", ".alerts", "logs-ti_abusech.malware-default", "ä"])
def test_an_index_has_a_name_that_patterns_can_name(tmp_path: Path, name: str) -> None:
    text = f'[[rules.indexes]]\nname = "{name}"\npaths = ["a.jsonl", "b"]\n'
    (index,) = taken(load(tmp_path, text)).rules.indexes
    assert index.name == name
    assert index.paths == (str(tmp_path / "a.jsonl"), str(tmp_path / "b"))


@pytest.mark.parametrize("name", ["ti-*", "a,b", "a b", "a/b"])
def test_a_pattern_is_no_name_of_an_index(tmp_path: Path, name: str) -> None:
    text = f'[[rules.indexes]]\nname = "{name}"\npaths = ["a"]\n'
    assert f"'{name}' is not an index's name" in told(load(tmp_path, text))[0]
