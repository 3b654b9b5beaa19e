"""Transactions that are longer than memory: read twice from the source, journalled in pieces.

Nobody ever sees a row as it was between two statements of one transaction, so only its last version may be an event.
The first reading finds out which versions are the last, and remembers a digest a row; the second journals those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from replenish.ingest.cdc.row_events import RowBatch
from replenish.ingest.cdc.source_tables import BoundTable
from replenish.stores.journal_entry import EVENT_DELETE

LONG_MESSAGES = 200_000
LONG_BYTES = 256 << 20
"""Where as many messages are of one transaction and its end is not in sight, it is read twice."""
DIGEST_BYTES = 16


class LastVersions:
    """Which events of a transaction stay: all of them are offered in order to `see`, then the same ones to `keep`."""

    def __init__(self, tables: Mapping[str, BoundTable]) -> None:
        self._tables = tables
        self._digests: list[bytes] = []
        self._new: list[NDArray[np.bool_]] = []
        self._deletes: list[NDArray[np.bool_]] = []
        self._stays: NDArray[np.bool_] | None = None
        self._n_seen = self._n_kept = 0

    def see(self, batch: RowBatch) -> None:
        """Take note of the next events."""
        n_events = len(batch.entries)
        self._digests.append(b"".join(self._digest(entry.body, nr) for nr, entry in enumerate(batch.entries)))
        new = np.zeros(n_events, np.bool_)
        new[batch.new] = True
        self._new.append(new)
        self._deletes.append(np.fromiter((e.type == EVENT_DELETE for e in batch.entries), np.bool_, n_events))
        self._n_seen += n_events

    def keep(self, batch: RowBatch) -> RowBatch:
        """Those of the next events that stay."""
        if self._stays is None:
            self._stays = self._find()
        first, self._n_kept = self._n_kept, self._n_kept + len(batch.entries)
        return batch.of(self._stays[first : self._n_kept].tolist())

    def _digest(self, body: bytes, nr: int) -> bytes:
        row = msgspec.json.decode(body)
        bound = self._tables[row["__table"]]
        if not bound.is_known_by_commit:
            # Its versions have times of their own: each is an event.
            return blake2b(b"%d" % (self._n_seen + nr), digest_size=DIGEST_BYTES).digest()
        key: list[Any] = [bound.table, *(row.get(name) for name in bound.key_columns)]
        return blake2b(msgspec.json.encode(key), digest_size=DIGEST_BYTES).digest()

    def _find(self) -> NDArray[np.bool_]:
        digests = np.frombuffer(b"".join(self._digests), f"S{DIGEST_BYTES}")
        stays = np.zeros(len(digests), np.bool_)
        if not len(digests):
            return stays
        order = np.argsort(digests, kind="stable")
        placed = digests[order]
        differs = placed[1:] != placed[:-1]
        first, last = order[np.concatenate(([True], differs))], order[np.concatenate((differs, [True]))]
        # What came and went within the transaction was never there.
        stays[last] = ~(np.concatenate(self._deletes)[last] & np.concatenate(self._new)[first])
        self._digests.clear()
        return stays


def pieces_of_transaction(lists: Iterator[list[bytes]], behind: list[bytes]) -> Iterator[list[bytes]]:
    """The lists of messages up to and with the next commit; what the last one has behind it goes to `behind`."""
    for messages in lists:
        end = bytes(message[0] for message in messages).find(b"C") + 1
        if end:
            behind += messages[end:]
            yield messages[:end]
            return
        yield messages
