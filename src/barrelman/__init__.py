"""Barrelman: Elastic-format detection rules over Kubernetes audit events."""

__version__ = "0.1.0"
