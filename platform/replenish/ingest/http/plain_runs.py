"""Many rows at once: those of a request that plainly have one shape are read and checked without a loop in Python.

The shape is that of the first row: the same attributes in the same order, the same source, type and feed, data with
the same fields. All rows are decoded into structs of that shape in one call and written again in another. Where the
bytes are the same, no name stands twice, no number was rounded, nothing lies between the values and nothing was left
out; what a contract says of a value is part of the struct. Whatever differs is left to the reader of single rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from concurrent.futures import Future
from datetime import date, datetime
from functools import lru_cache
from operator import attrgetter, sub
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from replenish.contracts.event_struct import FIRST_TIME, LAST_TIME, MAX_CLOCK_SKEW, EventStruct, whole_pattern
from replenish.ingest.http.cloud_event import LONGEST_ID, Envelope, Whole64
from replenish.ingest.strict_json import INT64_MAX, INT64_MIN, MAX_TEXT_BYTES
from replenish.stores.packed_bodies import BodyPacker

FEWEST_ROWS = 8
"""Below, making sure of a shape costs more than it saves."""
MOST_SEEN_TEXTS, LONGEST_SEEN_TEXT = 2_048, 64
"""Of one field that follows a pattern: stores and articles come again, and need not be looked at again."""
_DATA = b'"data":'
_LINE_END = b"\n"
_DECODE_ROW = msgspec.json.Decoder(dict[str, Any]).decode
_encode_lines = msgspec.json.Encoder().encode_lines
_ANY_VALUE = Whole64 | float | str | bool | None | UnsetType
_LONGEST_INSTANT = 64
MOST_OTHER_FIELDS = 32
"""Fields that the contract does not know. What is compiled for a shape is kept, and grows with its fields."""
_SHARED = ("specversion", "source", "type", "subject")


class PlainRows(NamedTuple):
    """Sound rows of one shape; `bodies` are their data as it lies in the request, not copied."""

    ids: list[str]
    bodies: list[memoryview]
    packing: Future[bytes] | None
    """What packs them meanwhile, where that was worth beginning."""


class _Instants(NamedTuple):
    """How the values of one field that holds instants or dates are taken out and read."""

    values: Callable[[Any], str | UnsetType | None]
    read: Callable[[list[Any]], list[Any]]
    latest: Literal["now", "our days"] | None
    """How far ahead they may lie; None for dates, which any reader takes."""
    is_data: bool = True
    """Of the data, or of the envelope."""


class _Texts(NamedTuple):
    """A field whose texts follow a pattern: few different ones, mostly, so each is looked at once."""

    values: Callable[[Any], str | UnsetType | None]
    search: Callable[[str], re.Match[str] | None]
    seen: set[str | UnsetType | None]
    """Short texts of requests before that follow it."""


class _Shape(NamedTuple):
    decode: Callable[[bytes], list[Any]]
    instants: tuple[_Instants, ...]
    texts: tuple[_Texts, ...]


class FirstRow(NamedTuple):
    """The first row of a request: its `fields`, and the attributes that a run of rows like it would share."""

    envelope: Envelope
    fields: dict[str, Any]


def first_envelope(row: bytes) -> FirstRow | None:
    """What a run of rows like this one would share; None where it can be no run."""
    if len(row) > MAX_TEXT_BYTES:
        return None
    try:
        fields = _DECODE_ROW(row)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    names = tuple(fields)
    is_plain = names[-1:] == ("data",) and "id" in fields and set(names[:-1]) <= {*_SHARED, "id", "time"}
    shared = {name: fields[name] for name in _SHARED if name in fields}
    if not is_plain or not all(isinstance(value, str) for value in shared.values()):
        return None
    return FirstRow(Envelope(**shared), fields)


def line_ends(body: bytes) -> list[int]:
    """The places of the line ends; the caller has counted them, since one is a byte to send and an object to hold.

    No slower than numpy, which lets go of Python's lock and has to wait for it.
    """
    found: list[int] = []
    find, place = body.find, -1
    while (place := find(_LINE_END, place + 1)) >= 0:
        found.append(place)
    return found


def plain_rows(
    body: bytes,
    ends: list[int],
    fields: dict[str, Any],
    shape: EventStruct,
    now: datetime,
    packer: BodyPacker | None = None,
) -> PlainRows | None:
    """The rows read as one; None where any of them has to be looked at more closely.

    Args:
        body: Rows of one request, each with a line end; the first one has passed `first_envelope`.
        ends: The places of the line ends.
        fields: Of the first row.
        shape: What the contract says of their data.
        now: Arrival.
        packer: Begins with the data before they are read; should they be no run, its work is lost.
    """
    # No backslash: so no control characters, no half characters, and every quotation mark begins or ends a text.
    if b"\\" in body or b"\x7f" in body:
        return None
    first = body[: ends[0] + 1]
    try:
        if len(fields["data"]) > len(shape.columns) + MOST_OTHER_FIELDS:
            return None
        shared = tuple((name, fields[name]) for name in fields if name in _SHARED)
        compiled = _compiled(shape, tuple(fields), shared, tuple(fields["data"]))
        if compiled is None or _encode_lines(compiled.decode(first)) != first:
            return None
        # As will be seen, there is one line end a row, texts hold none, and the data come last.
        row_starts, view = [0, *[end + 1 for end in ends[:-1]]], memoryview(body)
        starts = [body.index(_DATA, start) + len(_DATA) for start in row_starts]
        bodies = [view[start : end - 1] for start, end in zip(starts, ends, strict=True)]
        packing = None if packer is None else packer.begin(bodies, len(body))
        events = compiled.decode(body)
        if _encode_lines(events) != body:
            return None
        data = [event.data for event in events]
        if not all(_are_in_time(instants, data if instants.is_data else events, now) for instants in compiled.instants):
            return None
        if not all(_match(texts, data) for texts in compiled.texts):
            return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, ValueError):
        return None
    ids = [event.id for event in events]
    if not "".join(ids).isprintable():
        return None
    if len(body) > MAX_TEXT_BYTES and max(map(sub, ends, row_starts)) > MAX_TEXT_BYTES:
        return None
    return PlainRows(ids, bodies, packing)


def _are_in_time(instants: _Instants, events: list[Any], now: datetime) -> bool:
    given = [value for value in map(instants.values, events) if value is not None and value is not UNSET]
    if not given:
        return True
    read = instants.read(given)
    latest = now + MAX_CLOCK_SKEW if instants.latest == "now" else LAST_TIME
    return instants.latest is None or (min(read) >= FIRST_TIME and max(read) <= latest)


def _match(texts: _Texts, events: list[Any]) -> bool:
    different = set(map(texts.values, events)) - texts.seen
    if not all(map(texts.search, different)):  # type: ignore[arg-type]
        return False
    if len(texts.seen) + len(different) > MOST_SEEN_TEXTS:
        texts.seen.clear()
        texts.seen.update((None, UNSET))
    texts.seen.update(text for text in different if len(text) <= LONGEST_SEEN_TEXT)  # type: ignore[arg-type]
    return True


@lru_cache(maxsize=128)
def _compiled(
    shape: EventStruct, names: tuple[str, ...], shared: tuple[tuple[str, str], ...], data_names: tuple[str, ...]
) -> _Shape | None:
    """The decoder of rows of one shape; None where it could not say all that the contract says."""
    known = {field.name: field for field in msgspec.structs.fields(shape.struct)}
    columns = {column.name: column for column in shape.columns}
    if any(field.required and name not in data_names for name, field in known.items()):
        return None
    fields: list[Any] = []
    instants: list[_Instants] = []
    texts: list[_Texts] = []
    for nr, name in enumerate(data_names):
        place = f"f{nr}"
        field, column = known.get(name), columns.get(name)
        kind = "timestamp" if column is None and field is not None else column and column.logical_type
        if field is None:
            fields.append((place, _ANY_VALUE, UNSET))
        elif kind in ("timestamp", "date"):
            instants.append(_Instants(attrgetter(place), _reader(str(kind)), _latest(shape, name)))
            fields.append(_field(place, Annotated[str, Meta(max_length=_LONGEST_INSTANT)], field))
        elif column is not None and column.pattern is not None and not column.allowed:
            texts.append(_Texts(attrgetter(place), re.compile(whole_pattern(column.pattern)).search, {None, UNSET}))
            fields.append(_field(place, Annotated[str, Meta(min_length=1)], field))
        elif column is not None and kind == "number":
            fields.append(_field(place, _number(column.minimum, column.maximum), field))
        else:
            fields.append(_field(place, field.type, field))
    rename = {f"f{nr}": name for nr, name in enumerate(data_names)}
    data = msgspec.defstruct("RunData", fields, gc=False, kw_only=True, forbid_unknown_fields=True, rename=rename)
    attributes: list[Any] = [(name, Literal[value]) for name, value in shared]
    attributes += [("id", Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]), ("data", data)]
    if "time" in names:
        attributes.append(("time", Annotated[str, Meta(max_length=_LONGEST_INSTANT)]))
        instants.append(_Instants(attrgetter("time"), _reader("timestamp"), None, is_data=False))
    ordered = sorted(attributes, key=lambda attribute: names.index(attribute[0]))
    row = msgspec.defstruct("RunRow", ordered, gc=False, kw_only=True, forbid_unknown_fields=True)
    return _Shape(msgspec.json.Decoder(row).decode_lines, tuple(instants), tuple(texts))


def _field(place: str, value: Any, field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    return (place, value) if field.required else (place, value | None | UnsetType, UNSET)


def _latest(shape: EventStruct, name: str) -> Literal["now", "our days"] | None:
    if name not in shape.times:
        return None
    return "now" if name in shape.present else "our days"


def _reader(kind: str) -> Callable[[list[Any]], list[Any]]:
    value: Any = Annotated[datetime, Meta(tz=True)] if kind == "timestamp" else date

    def read(texts: list[Any]) -> list[Any]:
        return msgspec.convert(texts, list[value])

    return read


def _number(minimum: float | None, maximum: float | None) -> Any:
    """A number that is written again as it was sent: whole ones stay whole."""
    lowest = INT64_MIN if minimum is None else max(INT64_MIN, math.ceil(minimum))
    highest = INT64_MAX if maximum is None else min(INT64_MAX, math.floor(maximum))
    return Annotated[int, Meta(ge=lowest, le=highest)] | Annotated[float, Meta(ge=minimum, le=maximum)]
