"""Trying to read what may be damaged: whatever the reader does, the answer is a value or a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def try_to_read(read: Callable[[], T]) -> tuple[T | None, str]:
    """The value, or None and what went wrong; the panics of Rust readers, which are no `Exception`, count as damage."""
    try:
        return read(), ""
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as fault:
        return None, f"{type(fault).__name__}: {str(fault)[:160]}"
