"""The keys of a `[[sinks]]` table; what they mean for each kind is the sinks' own affair."""

from __future__ import annotations

from collections.abc import Mapping

from barrelman.records.frozen import frozen
from barrelman.records.severities import SEVERITIES
from barrelman.settings import keytypes as key
from barrelman.sinks.options import FACILITIES, KINDS, STARTTLS


@frozen
class SinkTable:
    """Where alerts go. Conditions (`severity`, `rules`, `tags`, `clusters`) must hold together."""

    name: str = key.text(
        "",
        "Its name in commands, metrics and the outbox; it should never change.",
        is_required=True,
    )
    kind: str = key.choice(None, KINDS, "What it speaks.", is_required=True)
    enabled: bool = key.switch(True, "Alerts are sent.")
    path: str | None = key.path(None, "Of a file: where it is; `-` is standard output.")
    url: str | None = key.text(
        None, "Where the receiver listens, as `--sink` takes it.", is_secret=True
    )
    severity: str | None = key.choice(None, SEVERITIES, "The least severity that is sent.")
    rules: tuple[str, ...] = key.texts("Rules, by id or name, whose alerts are sent.")
    tags: tuple[str, ...] = key.texts("Tags of rules whose alerts are sent.")
    clusters: tuple[str, ...] = key.texts("Clusters whose alerts are sent.")
    building_blocks: bool | None = key.switch(
        None, "Send alerts of building-block rules, too; unset, files alone do."
    )
    template: str | None = key.path(None, "File with the text of a message.")
    secret: str | None = key.text(
        None, "Signs a webhook's requests; of PagerDuty the integration's key.", is_secret=True
    )
    token: str | None = key.text(None, "Bearer token for the receiver.", is_secret=True)
    username: str | None = key.text(None, "User name at the receiver.")
    password: str | None = key.text(None, "Password at the receiver.", is_secret=True)
    headers: Mapping[str, str] | None = key.text_table("More headers of each request.")
    proxy: str | None = key.text(None, "HTTP proxy on the way to the receiver.", is_secret=True)
    ca_file: str | None = key.path(None, "Certificates in PEM that the receiver's is checked with.")
    timeout_seconds: float = key.seconds(10, "The receiver has to answer within it.", least=0.1)
    digest_after: int | None = key.whole(
        None,
        "More alerts than this within `digest_seconds` become one message; 0 never makes one. "
        "Unset, 20 for people (slack, email, pagerduty) and 0 for machines.",
        most=10**6,
    )
    digest_seconds: float = key.seconds(60, "The span that `digest_after` counts in.", least=1)
    batch: int | None = key.whole(
        None, "Most messages of a request; unset, as the kind does.", least=1, most=1000
    )
    give_up_seconds: float | None = key.seconds(
        None, "A message that cannot be handed over is dropped after it; unset, never.", least=0.1
    )
    sender: str | None = key.text(None, "Of an e-mail: whom it is from.")
    recipients: tuple[str, ...] = key.texts("Of an e-mail: whom it goes to.")
    starttls: str = key.choice("auto", STARTTLS, "Of an e-mail: whether TLS is asked for.")
    facility: str = key.choice("local0", FACILITIES, "Of syslog: the facility.")
    hostname: str | None = key.text(None, "Of syslog and e-mail: the name this machine goes by.")
    resolve_seconds: float = key.seconds(
        4 * 3600, "Of Alertmanager: an alert is taken for resolved after it.", least=0.1
    )
