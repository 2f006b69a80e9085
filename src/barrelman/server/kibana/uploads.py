"""The one file in a body of several parts.

Read here and not by a library: the body is in memory and bounded already, and clients exist whose
parts end in bare line feeds or whose last boundary is missing.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from barrelman.errors import RequestShapeError
from barrelman.records.frozen import frozen

_BOUNDARY: Final = re.compile(r"boundary=(?:\"([^\"]{1,200})\"|([^\s;,]{1,200}))", re.IGNORECASE)
_NAME: Final = re.compile(rb"(?i)\bname=(?:\"([^\"]*)\"|([^\s;]+))")
_FILE_NAME: Final = re.compile(rb"(?i)\bfilename=(?:\"([^\"]*)\"|([^\s;]+))")


@frozen
class Upload:
    """A file that was sent."""

    name: str
    content: bytes


def read_upload(body: bytes, *, content_type: str) -> Upload:
    """The part named `file`. A body that has no parts is the file itself. RequestShapeError."""
    if not content_type.lower().startswith("multipart/"):
        if not body.strip():
            raise RequestShapeError("[request body]: expected a file")
        return Upload("", body)
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise RequestShapeError("[request body]: multipart without a boundary")
    boundary = b"--" + (found[1] or found[2]).encode("latin-1", "replace")
    for part in _parts(body, boundary):
        head, content = _split(part)
        disposition = re.search(rb"(?im)^content-disposition:(.*)$", head)
        if disposition is None:
            continue
        name = _NAME.search(re.sub(rb"(?i)filename\*?=(?:\"[^\"]*\"|[^\s;]+)", b"", disposition[1]))
        if name is not None and (name[1] or name[2]) == b"file":
            file_name = _FILE_NAME.search(disposition[1])
            raw = (file_name[1] or file_name[2] or b"") if file_name else b""
            return Upload(raw.decode("utf-8", "replace"), content)
    raise RequestShapeError("[request body]: no part named 'file'")


def _parts(body: bytes, boundary: bytes) -> list[bytes]:
    """What stands between the boundaries, each of which begins a line."""
    mark = re.compile(rb"(?:\A|\n)(" + re.escape(boundary) + rb")(?=--|\r?\n|\Z)")
    marks = [*(found.start(1) for found in mark.finditer(body)), len(body)]
    parts = []
    for start, end in pairwise(marks):
        after = body[start + len(boundary) : end]
        if after.startswith(b"--"):
            break
        parts.append(after.partition(b"\n")[2])
    return parts


def _split(part: bytes) -> tuple[bytes, bytes]:
    """A part's headers and its content, without the line's end that belongs to the boundary."""
    found = re.search(rb"\r?\n\r?\n", part)
    if found is None:
        return part, b""
    content = part[found.end() :]
    for ending in (b"\r\n", b"\n"):
        if content.endswith(ending):
            return part[: found.start()], content[: -len(ending)]
    return part[: found.start()], content
