"""Bodies of a run behind one another, packed with LZ4 where that makes them shorter.

Events of one feed repeat names, places and articles, so packing saves most of what a commit writes to disk, and costs
less time than writing it. Whether bodies are packed is told by their length: plain ones are as long as their ends say.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from replenish.errors import DamagedLog


def pack_bodies(bodies: Iterable[bytes | memoryview]) -> bytes:
    """The bodies as one: packed, or plain where that is not longer."""
    plain = b"".join(bodies)
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
