"""How bad an alert is, as Elastic grades it."""

from __future__ import annotations

from typing import Final

SEVERITIES: Final = ("low", "medium", "high", "critical")
"""In rising order."""
