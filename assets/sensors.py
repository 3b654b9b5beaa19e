"""Sensors."""

from typing import Any


def build_sensors(jobs: dict[str, Any], contracts: dict[str, Any]) -> list[Any]:
    """None yet."""
    return []
