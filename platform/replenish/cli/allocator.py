"""How the C library hands out memory: settings for processes that take in events for weeks."""

from __future__ import annotations

import ctypes
import os

LARGEST_KEPT_PIECE = 4 << 20
KEPT_BYTES = 32 << 20
MAX_ARENAS = 2
FRAMES_KEPT_MS = 10_000

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def tune_allocators() -> None:
    """Keep a process that works for weeks small, and one that takes in a file fast; call before any other import.

    Threads share two arenas of the C library: parsers, table writers and compressors each bring threads, and each
    thread an arena that keeps what was freed in it, hundreds of megabytes over some thousand files. Memory of frames
    goes back to the system after ten seconds, not after half a one: the next chunk of a file would have to ask for it
    again, a sixth of the time of the file. Who sets the variable of frames' allocator has chosen.
    """
    _tune(_M_ARENA_MAX, MAX_ARENAS)
    os.environ.setdefault("_RJEM_MALLOC_CONF", f"dirty_decay_ms:{FRAMES_KEPT_MS},muzzy_decay_ms:{FRAMES_KEPT_MS}")


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
