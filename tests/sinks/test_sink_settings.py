"""How sinks are asked for: flags, tables, templates, routes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from alertdocs import alert_id, message, watchdog_document

from barrelman.errors import UsageError
from barrelman.sinks.address import parse_sink_flag, settings_of, unique_names
from barrelman.sinks.message import message_of
from barrelman.sinks.opening import open_sink
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.routes import Route
from barrelman.sinks.templates import NAMES, Template, template_for


@pytest.mark.parametrize(
    ("flag", "kind", "name", "shown"),
    [
        ("file:alerts.jsonl", "file", "file-alerts", "alerts.jsonl"),
        ("file:/var/a#b.jsonl", "file", "file-a-b", "/var/a#b.jsonl"),
        ("file:-", "file", "file-stdout", "standard output"),
        ("-", "file", "file-stdout", "standard output"),
        ("https://h.example/x?y=1", "webhook", "webhook-h-example", "https://h.example"),
        ("http://[::1]:8080/x", "webhook", "webhook-1", "http://[::1]:8080"),
        (
            "slack+https://hooks.slack.example/services/T/B/X",
            "slack",
            "slack-hooks-slack-example",
            "https://hooks.slack.example",
        ),
        (
            "alertmanager+http://am:9093/prefix",
            "alertmanager",
            "alertmanager-am",
            "http://am:9093",
        ),
        ("pagerduty:0123abcd", "pagerduty", "pagerduty", "PagerDuty"),
        (
            "pagerduty:0123abcd#region=eu",
            "pagerduty",
            "pagerduty",
            "https://events.eu.pagerduty.com",
        ),
        (
            "syslog+udp://log.example",
            "syslog",
            "syslog-log-example",
            "syslog+udp://log.example:514",
        ),
        ("syslog+tcp://log:601", "syslog", "syslog-log", "syslog+tcp://log:601"),
        ("syslog+tls://log", "syslog", "syslog-log", "syslog+tls://log:6514"),
        ("syslog+unix:///dev/log", "syslog", "syslog", "syslog+unix:///dev/log"),
        (
            "smtp://u:p@mail.example/?to=a@x.example",
            "email",
            "email-mail-example",
            "smtp://mail.example:25",
        ),
        ("smtps://mail/?to=a@x.example", "email", "email-mail", "smtps://mail:465"),
    ],
)
def test_flags(flag: str, kind: str, name: str, shown: str) -> None:
    settings = parse_sink_flag(flag)
    assert (settings.kind, settings.name, settings.shown) == (kind, name, shown)


def test_options_follow_the_address() -> None:
    settings = parse_sink_flag(
        "https://u:p%40ss@h.example/x?q=1#name=oncall&severity=high&rule=a*&rule=b&tag=T%26C"
        "&cluster=prod-*&header=X-Team:%20blue&digest_after=5&batch=20&timeout_seconds=2.5"
    )
    assert settings.name == "oncall"
    assert settings.url == "https://h.example/x?q=1"
    assert (settings.username, settings.password) == ("u", "p@ss")
    assert settings.route == Route(
        severity="high", rules=("a*", "b"), tags=("T&C",), clusters=("prod-*",)
    )
    assert settings.headers == (("X-Team", "blue"),)
    assert (settings.digest_above, settings.most, settings.timeout_seconds) == (5, 20, 2.5)


def test_mail_options_stand_in_the_query_too() -> None:
    settings = parse_sink_flag(
        "smtp://mail:2525/?to=a+b@x.example&to=c@x.example,d@x.example&from=us@x.example"
        "&starttls=always#severity=critical"
    )
    assert settings.recipients == ("a+b@x.example", "c@x.example", "d@x.example")
    assert settings.sender == "us@x.example"
    assert settings.starttls == "always"
    assert settings.route.severity == "critical"


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("", "no address"),
        ("alerts.jsonl", "no address"),
        ("ftp://x/S3CRET", "'ftp://' is no address"),
        ("file:", "no path"),
        ("https:///S3CRET", "no host"),
        ("https://[S3CRET", "cannot be read"),
        ("https://h:0/S3CRET", "port 0"),
        ("https://h:S3CRET/", "cannot be read"),
        ("pagerduty:", "no integration key"),
        ("pagerduty:S3CRET#region=mars", "us or eu"),
        ("syslog+unix://", "no path"),
        ("smtp://u:S3CRET@mail/", "nobody to write to"),
        ("smtp://mail/?to=S3CRET%0d%0aBcc:x@y.example", "address such as"),
        ("https://h/S3CRET#severity=worst", "one of low"),
        ("https://h/S3CRET#colour=blue", "no 'colour'"),
        ("https://h/#facility=user", "no 'facility'"),
        ("https://h/#secret=", "a text"),
        ("https://h/#header=S3CRET%0d%0aX:%20y", "headers"),
        ("https://h/#timeout_seconds=nan", "a number from"),
        ("https://h/#digest_after=1.5", "whole number"),
        ("https://h/#name=A%20b", "small letters"),
        ("https://u:S3CRET@h/#token=x", "one is enough"),
        ("https://h/#template=${S3CRET_x", "not finished"),
        ("https://h/#template=hello", "not JSON"),
        ("file:x#template=y&severity=low", "no 'template'"),
    ],
)
def test_what_is_wrong_is_said_without_secrets(flag: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_sink_flag(flag)
    assert says in str(raised.value)
    assert "S3CRET" not in str(raised.value)


def test_nothing_secret_is_written_of_settings() -> None:
    for flag in (
        "https://u:S3CRET@h/S3CRET?S3CRET#secret=S3CRET&header=X:S3CRET",
        "slack+https://h/S3CRET#token=S3CRET",
        "pagerduty:S3CRET",
        "smtp://u:S3CRET@mail/?to=a@x.example",
    ):
        settings = parse_sink_flag(flag)
        sink = open_sink(settings, clock=lambda: 0)
        assert "S3CRET" not in f"{settings!r} {settings} {settings.shown} {sink!r}"
        sink.close()


def table(**values: Any) -> SinkSettings:
    return settings_of({"name": "it", **values})


def test_tables() -> None:
    assert table(kind="file", path="/x/a.jsonl", rules=("a",)).route.rules == ("a",)
    assert table(kind="file", path="/x/a.jsonl").route.building_blocks
    slack = table(kind="slack", url="https://h/x", severity="high", enabled=True, digest_after=3)
    assert (slack.name, slack.url, slack.digest_above) == ("it", "https://h/x", 3)
    assert table(kind="syslog", url="tcp://log:514#facility=audit").facility == "audit"
    assert table(kind="syslog", url="syslog+udp://log").url == "syslog+udp://log:514"
    mail = table(kind="email", url="smtp://mail", recipients=("a@x.example",), sender="b@x.example")
    assert (mail.recipients, mail.sender) == (("a@x.example",), "b@x.example")
    duty = table(kind="pagerduty", secret="k", url="https://events.eu.pagerduty.com/v2/enqueue")
    assert (duty.secret, duty.url) == ("k", "https://events.eu.pagerduty.com/v2/enqueue")
    hook = settings_of(
        {"name": "it", "kind": "webhook", "url": "https://h/", "template": "path/of.json"},
        template='{"text": "${title}"}',
    )
    assert hook.template == '{"text": "${title}"}'


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"kind": "pigeon"}, "of no kind"),
        ({"kind": "file"}, "no path"),
        ({"kind": "webhook"}, "no url"),
        (
            {"kind": "webhook", "url": "smtp://x/?to=a@b.c"},
            "of kind webhook, its url of kind email",
        ),
        ({"kind": "email", "url": "smtp://x"}, "nobody to write to"),
        ({"kind": "pagerduty"}, "no integration key"),
        ({"kind": "slack", "url": "https://x", "sender": "a@b.c"}, "no 'sender'"),
        ({"kind": "slack", "url": "https://x", "severity": 3}, "'severity' of the sink 'it'"),
    ],
)
def test_what_is_wrong_in_a_table(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        table(**values)


def test_names_are_made_unique() -> None:
    sinks = [parse_sink_flag(f"https://h/{number}") for number in range(3)]
    assert [sink.name for sink in unique_names(sinks)] == [
        "webhook-h",
        "webhook-h-2",
        "webhook-h-3",
    ]


def test_standard_output_must_be_given() -> None:
    with pytest.raises(UsageError, match="standard output"):
        open_sink(parse_sink_flag("file:-"), clock=lambda: 0)


# --- templates


def test_a_template_is_filled() -> None:
    text = (
        "$5 ${severity} ${who} ${kubernetes.audit.verb} ${tags} ${risk_score} $${who} ${no.field}|"
    )
    filled = Template(text).fill(message())
    assert filled == (
        "$5 medium eve create Data Source: Kubernetes, Tactic: Privilege Escalation 47 ${who} |"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_for_every_message(name: str) -> None:
    template = Template(f"${{{name}}}")
    assert isinstance(template.fill(message()), str)
    assert isinstance(template.fill(message_of(watchdog_document(), public_url=None)), str)


@pytest.mark.parametrize("text", ["${", "${}", "${a b}", "${nope}", "${__class__}", "${who.}}${"])
def test_a_template_that_is_wrong_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="template"):
        Template(text)


def test_a_value_is_not_filled_again() -> None:
    told = message(rule__name="${who} $${who}")
    assert Template("${rule_name}").fill(told) == "${who} $${who}"


def test_a_webhooks_template_stays_json_whatever_comes() -> None:
    template = template_for("webhook", '{"text": "${rule_name}", "n": ${risk_score}}')
    told = message(rule__name='a"b\\c')
    assert json.loads(template.fill(told)) == {"text": 'a"b\\c', "n": 47}


def test_in_slack_no_value_is_markup() -> None:
    told = message(rule__name="<!channel> & <https://evil.example|x>")
    filled = template_for("slack", "*${rule_name}* <${link}|open>").fill(told)
    assert "<!channel>" not in filled
    assert "&lt;!channel&gt; &amp; " in filled


# --- routes


def takes(route: Route, **changes: Any) -> bool:
    alert: dict[str, Any] = {
        "severity": "medium",
        "rule_id": "r-1",
        "rule_name": "Pod With HostIPC",
        "cluster": "prod-eu",
        "is_building_block": False,
        "tags": lambda: ["Tactic: Execution"],
    }
    return route.takes(**alert | changes)


def test_a_route_that_says_nothing_takes_all_but_building_blocks() -> None:
    assert takes(Route(), severity="low", cluster="")
    assert takes(Route(), severity="unheard of")
    assert not takes(Route(), is_building_block=True)
    assert takes(Route(building_blocks=True), is_building_block=True)


@pytest.mark.parametrize(
    ("route", "is_taken"),
    [
        (Route(severity="medium"), True),
        (Route(severity="high"), False),
        (Route(rules=("r-1",)), True),
        (Route(rules=("pod with *",)), True),
        (Route(rules=("other", "R-?")), True),
        (Route(rules=("pod",)), False),
        (Route(clusters=("prod-*",)), True),
        (Route(clusters=("prod",)), False),
        (Route(tags=("tactic: *",)), True),
        (Route(tags=("nothing",)), False),
        (Route(severity="low", rules=("r-1",), clusters=("dev",)), False),
    ],
)
def test_routes(route: Route, is_taken: bool) -> None:
    assert takes(route) is is_taken


def test_tags_are_asked_for_only_where_they_count() -> None:
    def never() -> list[str]:
        raise AssertionError

    assert takes(Route(severity="low"), tags=never)
    assert not takes(Route(severity="critical", tags=("x",)), tags=never)


def test_ids_of_alerts_pass_through_messages() -> None:
    assert message(3).alert_id == alert_id(3)
