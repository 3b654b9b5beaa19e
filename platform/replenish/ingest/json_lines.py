"""JSON lines as columns of text; numbers keep their digits."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl

from replenish.errors import EventFault, FileFault
from replenish.ingest.strict_json import strict_object

MAX_FIELDS = 1000
"""Distinct field names in one chunk; more means that keys are data and the file no table."""

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parse_json_lines(lines: Sequence[str]) -> tuple[pl.DataFrame, list[EventFault | None]]:
    """The sound objects among the lines as one text column a field (nested values as JSON), and the fault of each line.

    Returns:
        A row for each line whose fault is None, in order; a field that an object lacks is null.

    Raises:
        FileFault: `unreadable`: more than 1000 field names.
    """
    rows: list[dict[str, msgspec.Raw]] = []
    faults: list[EventFault | None] = []
    names: dict[str, None] = {}
    for line in lines:
        body = line.encode()
        try:
            strict_object(body)
        except EventFault as fault:
            faults.append(fault)
            continue
        faults.append(None)
        rows.append(_raw_fields(body))
        names.update(dict.fromkeys(rows[-1]))
        if len(names) > MAX_FIELDS:
            raise FileFault("unreadable", f"the objects of this file are no table: over {MAX_FIELDS} field names")
    columns = (pl.Series(name, [cell_text(row.get(name)) for row in rows], dtype=pl.String()) for name in names)
    return pl.DataFrame(list(columns)), faults


def cell_text(raw: msgspec.Raw | None) -> str | None:
    """A JSON value as a cell: a text without its quotes, null as null, everything else as it is written."""
    if raw is None:
        return None
    text = bytes(raw)
    if text[:1] == b'"':
        decoded: str = msgspec.json.decode(text)
        return decoded
    return None if text == b"null" else text.decode()
