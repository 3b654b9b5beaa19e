"""How the C library hands out memory: settings for processes that take in events for weeks."""

from __future__ import annotations

import ctypes

LARGEST_KEPT_PIECE = 4 << 20
KEPT_BYTES = 32 << 20
MAX_ARENAS = 2

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def share_freed_memory() -> None:
    """Let threads share two arenas; call before the first thread, so before frames and tables are imported.

    Parsers, table writers and compressors each bring threads, and each thread an arena that keeps what was freed in it:
    hundreds of megabytes over some thousand files, though no more is in use than after the first.
    """
    _tune(_M_ARENA_MAX, MAX_ARENAS)


def keep_freed_memory() -> None:
    """Let the C library keep what requests give back, for the next ones, instead of returning it to the system.

    A body of a megabyte is copied a few times on its way; with memory fresh from the system every copy costs a page
    fault for each 4 KB, a tenth of the CPU of a request. Pieces of more than 4 MB still go back at once.
    """
    _tune(_M_MMAP_THRESHOLD, LARGEST_KEPT_PIECE)
    _tune(_M_TRIM_THRESHOLD, KEPT_BYTES)


def _tune(parameter: int, value: int) -> None:
    # Other C libraries (musl, that of macOS) have no such knobs, and no such arenas.
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(parameter, value)
