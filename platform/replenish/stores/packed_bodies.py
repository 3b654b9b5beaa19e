"""Bodies of a run behind one another, packed with LZ4 where that makes them shorter.

Events of one feed repeat names, places and articles, so packing saves most of what a commit writes to disk, and costs
less time than writing it. Whether bodies are packed is told by their length: plain ones are as long as their ends say.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from replenish.errors import DamagedLog

WORTH_A_THREAD_BYTES = 256 << 10
"""Packing fewer takes about as long as it takes two threads to change over twice."""


def pack_bodies(bodies: Iterable[bytes | memoryview]) -> bytes:
    """The bodies as one: packed, or plain where that is not longer."""
    return _packed(b"".join(bodies))


class BodyPacker:
    """Packs one run at a time on a thread of its own, which needs Python's lock only to begin and to end."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "body-packer")
        self._last: Future[bytes] | None = None

    def begin(self, bodies: Iterable[bytes | memoryview], n_bytes: int) -> Future[bytes] | None:
        """What `pack_bodies` will give; None where they are too few for it, or the thread is at work: pack them later.

        Args:
            bodies: What to pack.
            n_bytes: Their length together.
        """
        if n_bytes < WORTH_A_THREAD_BYTES or (self._last is not None and not self._last.done()):
            return None
        plain, has_begun = b"".join(bodies), threading.Event()

        def pack() -> bytes:
            has_begun.set()
            return _packed(plain)

        self._last = self._thread.submit(pack)
        # The thread gets Python's lock at once, and has no use for it when it comes back to us.
        has_begun.wait()
        return self._last


def _packed(plain: bytes) -> bytes:
    packed: bytes = _codec().compress(plain, asbytes=True)
    return packed if len(packed) < len(plain) else plain


def unpack_bodies(stored: bytes, n_bytes: int, *, seq: int) -> bytes:
    """The bodies as they came, behind one another.

    Args:
        stored: What `pack_bodies` gave.
        n_bytes: Their length as they came.
        seq: Of the first of them, for the error.

    Raises:
        DamagedLog: They are not what was written.
    """
    if len(stored) == n_bytes:
        return stored
    try:
        unpacked: bytes = _codec().decompress(stored, decompressed_size=n_bytes, asbytes=True)
    except (OSError, ValueError, MemoryError) as error:
        raise DamagedLog("the bodies of a run of events are not what was written", seq=seq) from error
    return unpacked


@lru_cache(maxsize=1)
def _codec() -> Any:
    # Not at import: most commands only look at the log's end.
    from pyarrow import Codec

    return Codec("lz4_raw")
