"""TLS to syslog collectors and mail servers."""

from __future__ import annotations

import ssl

from barrelman.errors import SinkError
from barrelman.sinks.wording import one_line


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Checks certificates and names, by the system's authorities or those of one file."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise SinkError(
            f"the certificates '{one_line(ca_file)}' cannot be read: {error.strerror}"
        ) from None
