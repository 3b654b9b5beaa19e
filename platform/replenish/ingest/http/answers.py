"""What a sender is told: a verdict a row, counts that add up, and a status that says whether to look closer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, NamedTuple

import msgspec

from replenish.errors import RequestRefused
from replenish.ingest.reasons import ID_CONFLICT
from replenish.stores.journal_entry import AcceptedRange, EventEntry, Outcome, Receipt, RepeatedConflict

VERDICT_TYPE = b"application/json"
PROBLEM_TYPE = b"application/problem+json"
UNREADABLE = ("not_json", "wrong_encoding")
"""Reasons that leave nothing of a lone event to give a verdict on."""


Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class HttpAnswer(NamedTuple):
    """Status, media type, body and further headers of one answer."""

    status: int
    media_type: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class RowVerdict(msgspec.Struct, omit_defaults=True):
    """What became of one row (counted from 1); `seq` is its place in the log. Durable when it is given."""

    row: int
    id: str
    outcome: Outcome
    seq: int
    reason: str | None = None
    field: str | None = None
    rule: str | None = None


class RequestVerdict(msgspec.Struct):
    """offered = accepted + dead + duplicate (an id conflict counts as dead). Seqs are those of accepted rows.

    `verdicts` may be written already, where every row is accepted.
    """

    offered: int
    accepted: int
    dead: int
    duplicate: int
    first_seq: int | None
    last_seq: int | None
    verdicts: list[RowVerdict] | msgspec.Raw


class Problem(msgspec.Struct, omit_defaults=True):
    """A request refused as a whole, as RFC 9457 has it. `seq`: where its body is kept as a dead letter."""

    title: str
    status: int
    detail: str
    seq: int | None = None


_encode = msgspec.json.Encoder().encode


def request_verdict(
    ids: Sequence[str], entries: Sequence[EventEntry], receipts: Sequence[Receipt], *, is_minimal: bool
) -> RequestVerdict:
    """The verdict on a request's rows; `ids` as offered. Minimal: plainly accepted rows are only counted."""
    n = len(receipts)
    if isinstance(receipts, AcceptedRange) and n:
        return _accepted(ids, receipts.seqs, is_minimal=is_minimal)
    outcomes = [receipt[0] for receipt in receipts]
    n_accepted, n_duplicate = outcomes.count("accepted"), outcomes.count("duplicate")
    if n and n_accepted == n:
        return _accepted(ids, [receipt[1] for receipt in receipts], is_minimal=is_minimal)
    seqs = [receipt[1] for receipt in receipts if receipt[0] == "accepted"]
    rows = [
        _row_verdict(nr, id_, entry, receipt)
        for nr, (id_, entry, receipt) in enumerate(zip(ids, entries, receipts, strict=True), 1)
        if not is_minimal or receipt[0] != "accepted"
    ]
    first, last = (min(seqs), max(seqs)) if seqs else (None, None)
    return RequestVerdict(n, n_accepted, n - n_accepted - n_duplicate, n_duplicate, first, last, rows)


def _accepted(ids: Sequence[str], seqs: Sequence[int], *, is_minimal: bool) -> RequestVerdict:
    n, written = len(seqs), msgspec.Raw(b"[]") if is_minimal else _accepted_rows(ids, seqs)
    return RequestVerdict(n, n, 0, 0, seqs[0], seqs[-1], written)


def _accepted_rows(ids: Sequence[str], seqs: Sequence[int]) -> msgspec.Raw:
    """`RowVerdict` of accepted rows as JSON, without an object for each."""
    packed = _encode(ids)
    # One with a quotation mark could look as if it were two.
    is_escaped = b"\\" in packed
    names = [_encode(id_)[1:-1].decode() for id_ in ids] if is_escaped else packed[2:-2].decode().split('","')
    rows = [
        f'{{"row":{nr},"id":"{name}","outcome":"accepted","seq":{seq}}}'
        for nr, (name, seq) in enumerate(zip(names, seqs, strict=True), 1)
    ]
    return msgspec.Raw(f"[{','.join(rows)}]".encode())


def answer_of(verdict: RequestVerdict, *, is_single: bool) -> HttpAnswer:
    """200 where every row is accepted or known; 207 where some row is refused; alone, it is 400, 409 or 422."""
    status = 200
    if isinstance(verdict.verdicts, list) and any(row.reason is not None for row in verdict.verdicts):
        status = 207
        if is_single:
            only = verdict.verdicts[0]
            if only.reason in UNREADABLE:
                return problem(400, str(only.reason), str(only.rule), seq=only.seq)
            status = 409 if only.reason == ID_CONFLICT else 422
    return HttpAnswer(status, VERDICT_TYPE, _encode(verdict))


def refusal(
    refused: RequestRefused, *, seq: int | None = None, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> HttpAnswer:
    """The answer to a request that is refused as a whole."""
    if refused.status == 401:
        headers = (*headers, (b"www-authenticate", b'Bearer realm="replenish"'))
    return problem(refused.status, refused.code, str(refused), seq=seq, headers=headers)


def problem(
    status: int, title: str, detail: str, *, seq: int | None = None, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> HttpAnswer:
    """A refusal in words."""
    return HttpAnswer(status, PROBLEM_TYPE, _encode(Problem(title, status, detail, seq)), headers)


def _row_verdict(row: int, id_: str, entry: EventEntry, receipt: Receipt) -> RowVerdict:
    if receipt.outcome == "conflict" or isinstance(receipt, RepeatedConflict):
        rule = "the id stands for another event"
        return RowVerdict(row, id_, receipt.outcome, receipt.seq, ID_CONFLICT, "id", rule)
    if entry.letter is None:
        return RowVerdict(row, id_, receipt.outcome, receipt.seq)
    letter = entry.letter
    return RowVerdict(row, id_, receipt.outcome, receipt.seq, letter.reason, letter.field, letter.rule)


async def send_answer(send: Send, answer: HttpAnswer) -> None:
    """Write one answer."""
    headers = [(b"content-type", answer.media_type), (b"content-length", b"%d" % len(answer.body)), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
