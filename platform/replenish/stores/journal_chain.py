"""The hash chain of the journal: what of a record and its dead letters is covered, and how one links to the next.

    chain(n) = sha256(chain(n-1) + sha256(body) + header(n)),   chain(0) = 32 zero bytes

The header holds every other column, each text with its length before it, and the digest of the dead letters. The
digest of the body stands in a column of its own, so that the chain can be verified after the body was trimmed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from replenish.stores.event_run import DIGEST_BYTES, EventRun

GENESIS = bytes(32)
"""The chain before the first record."""


class LogRow(NamedTuple):
    """One record as it lies in the journal: columns of `records`, in order."""

    seq: int
    source: str
    id: str
    type: str
    subject: str
    time: str
    """ISO 8601 in UTC."""
    dataschema: str
    data: bytes | None
    """JSON object in UTF-8; None once trimmed."""
    traceparent: str | None
    epoch: int
    body_digest: bytes
    chain: bytes


class LetterRow(NamedTuple):
    """One dead letter as it lies in the journal, without what changes later (status, attempts)."""

    nr: int
    seq: int
    feed_id: str
    file: str
    row_nr: int | None
    reason: str
    field: str | None
    rule: str | None
    raw: str | None


class LettersDigest:
    """SHA-256 over the dead letters of one record, in order; `hex` is `-` where there are none."""

    def __init__(self, letters: Iterable[LetterRow] = ()) -> None:
        self._hash = hashlib.sha256()
        self._n = 0
        for letter in letters:
            self.add(letter)

    def add(self, letter: LetterRow) -> None:
        """Take in the next letter."""
        self._n += 1
        values = (letter.nr, *letter[2:])
        self._hash.update(json.dumps(values, separators=(",", ":")).encode() + b"\n")

    @property
    def hex(self) -> str:
        """The digest of the letters so far."""
        return self._hash.hexdigest() if self._n else "-"


def shared_header(epoch: int, time: str, source: str, kind: str, subject: str, dataschema: str) -> str:
    """The part of the header that the records of a batch mostly share."""
    texts = f"{len(source)}:{source}{len(kind)}:{kind}{len(subject)}:{subject}{len(dataschema)}:{dataschema}"
    return f"{epoch} {time} {texts}"


def next_chain(
    before: bytes, body_digest: bytes, seq: int, id: str, shared: str, traceparent: str | None, letters: str = "-"
) -> bytes:
    """The chain at record `seq`.

    Args:
        before: The chain at the record before it.
        body_digest: SHA-256 of `data`.
        shared: `shared_header` of its other columns.
        letters: `LettersDigest.hex` of its dead letters.
    """
    trace = "-" if traceparent is None else f"{len(traceparent)}:{traceparent}"
    header = f"{seq} {len(id)}:{id}{shared}{trace} {letters}"
    return hashlib.sha256(before + body_digest + header.encode()).digest()


def links_of_run(before: bytes, first_seq: int, time: str, epoch: int, run: EventRun) -> list[bytes]:
    """The chain at each event of a run, as `next_chain` has it, in one pass."""
    sha256, like = hashlib.sha256, run.like
    trace = "-" if like.traceparent is None else f"{len(like.traceparent)}:{like.traceparent}"
    shared = shared_header(epoch, time, like.source, like.type, like.subject, like.dataschema)
    rest = f"{shared}{trace} -"
    chains: list[bytes] = []
    digests, place = run.packed().digests, 0
    for seq, id_ in enumerate(run.ids, first_seq):
        digest = digests[place : (place := place + DIGEST_BYTES)]
        before = sha256(before + digest + f"{seq} {len(id_)}:{id_}{rest}".encode()).digest()
        chains.append(before)
    return chains


def fault_of_row(row: LogRow, letters: Sequence[LetterRow], before: bytes, seq: int) -> str | None:
    """What is wrong with a row that should be record `seq` after chain `before`, in words; None for a sound one."""
    if row.seq != seq:
        return f"record {seq} is missing: the next one is {row.seq}"
    if row.data is not None and hashlib.sha256(row.data).digest() != row.body_digest:
        return f"the body of record {seq} is not what was written"
    shared = shared_header(row.epoch, row.time, row.source, row.type, row.subject, row.dataschema)
    of_letters = LettersDigest(letters).hex
    if next_chain(before, row.body_digest, seq, row.id, shared, row.traceparent, of_letters) != row.chain:
        return f"record {seq} or one of its {len(letters)} dead letters is not what was written"
    return None


def canonical_digest(body: bytes) -> bytes:
    """SHA-256 of the JSON value in one spelling: equal for bodies that differ in spaces or the order of keys only."""
    # Where it is not JSON, only the same bytes are the same body.
    with suppress(ValueError, RecursionError):
        body = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(body).digest()
