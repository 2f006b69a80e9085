"""The keys of a `[[sinks]]` table; what they mean for each kind is the sinks' own affair."""

from __future__ import annotations

import re

from barrelman.records.frozen import frozen
from barrelman.records.severities import SEVERITIES
from barrelman.settings import keytypes as key

KINDS = ("file", "webhook", "slack", "alertmanager", "pagerduty", "syslog", "email")

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?", re.ASCII)


def _no_name(value: str) -> str | None:
    if _NAME.fullmatch(value):
        return None
    return "is not a sink's name: small letters, digits, '-' and '_', at most 64"


@frozen
class SinkTable:
    """Where alerts go. Conditions (`severity`, `rules`, `tags`, `clusters`) must hold together."""

    name: str = key.text(
        "", "Its name, in commands, metrics and the outbox.", check=_no_name, is_required=True
    )
    kind: str = key.choice(None, KINDS, "What it speaks.", is_required=True)
    enabled: bool = key.switch(True, "Alerts are sent.")
    path: str | None = key.path(None, "Of a file: where it is.")
    url: str | None = key.text(None, "Where the receiver listens.", is_secret=True)
    severity: str | None = key.choice(None, SEVERITIES, "The least severity that is sent.")
    rules: tuple[str, ...] = key.texts("Rules, by id or name, whose alerts are sent.")
    tags: tuple[str, ...] = key.texts("Tags of rules whose alerts are sent.")
    clusters: tuple[str, ...] = key.texts(
        "Clusters whose alerts are sent; `*` stands for any text."
    )
    template: str | None = key.path(None, "File with the text of a message.")
    secret: str | None = key.text(None, "Signs requests, or is the receiver's key.", is_secret=True)
    token: str | None = key.text(None, "Bearer token sent to the receiver.", is_secret=True)
    username: str | None = key.text(None, "User name at the receiver.")
    password: str | None = key.text(None, "Password at the receiver.", is_secret=True)
    ca_file: str | None = key.path(None, "Certificates in PEM that the receiver's is checked with.")
    sender: str | None = key.text(None, "Of an e-mail: whom it is from.")
    recipients: tuple[str, ...] = key.texts("Of an e-mail: whom it goes to.")
    timeout_seconds: float = key.seconds(10, "The receiver has to answer within it.", least=0.1)
    digest_after: int = key.whole(
        20, "More alerts than this within `digest_seconds` become one message; 0 never.", most=10**6
    )
    digest_seconds: float = key.seconds(60, "The span that `digest_after` counts in.", least=1)
