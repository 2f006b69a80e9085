"""Where the service that owns a data folder listens: a small file in it, while it runs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Final

_NAME: Final = "endpoint.json"


def write_endpoint(folder: Path, url: str) -> None:
    """Says it to commands on the same machine."""
    draft = folder / f"{_NAME}.new"
    draft.write_text(json.dumps({"url": url}), encoding="utf-8")
    draft.replace(folder / _NAME)


def remove_endpoint(folder: Path) -> None:
    """The service has ended."""
    with contextlib.suppress(OSError):
        (folder / _NAME).unlink(missing_ok=True)


def read_endpoint(folder: Path) -> str | None:
    """The URL, or None where no service ever said one."""
    try:
        found = json.loads((folder / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    url = found.get("url") if isinstance(found, dict) else None
    return url if isinstance(url, str) else None
