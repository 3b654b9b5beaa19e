"""A dead letter's origin in the header names that Kafka Connect gives its own dead letters.

Source: Kafka Connect, `errors.deadletterqueue.context.headers.enable` (KIP-298).
"""

from __future__ import annotations

import re

from replenish.stores.journal_entry import EVENT_DEAD, EVENTS_SETTLED, DeadLetter, JournalRecord

PREFIX = "__connect.errors."
_PLACE = re.compile(r"(?P<topic>.+)\[(?P<partition>\d+)\]@(?P<offset>\d+)")


def connect_headers(letter: DeadLetter, record: JournalRecord) -> dict[str, str]:
    """Headers of a letter and the record it belongs to; where there is no topic, file and row stand in its place."""
    offset = str(record.data.get("offset") or "")
    place = _PLACE.fullmatch(offset)
    if place is not None:
        topic, partition, position = place["topic"], place["partition"], place["offset"]
    else:
        topic, partition = letter.file if record.type != EVENT_DEAD else letter.feed_id, "0"
        position = offset or ("" if letter.row_nr is None else str(letter.row_nr))
    stage = {EVENT_DEAD: "VALUE_CONVERTER", EVENTS_SETTLED: "TASK_PUT"}.get(record.type, "TRANSFORMATION")
    return {
        f"{PREFIX}topic": topic,
        f"{PREFIX}partition": partition,
        f"{PREFIX}offset": position,
        f"{PREFIX}connector.name": record.source,
        f"{PREFIX}task.id": "0",
        f"{PREFIX}stage": stage,
        f"{PREFIX}class.name": record.type,
        f"{PREFIX}exception.class.name": letter.reason,
        f"{PREFIX}exception.message": letter.rule or letter.reason,
    }
