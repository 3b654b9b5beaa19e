"""A body as rows: one JSON object each, still as bytes; and the media types that say how they are put together."""

from __future__ import annotations

import json
from typing import Literal

import msgspec

from replenish.errors import RequestRefused

Layout = Literal["single", "array", "lines", "any"]
"""One object; an array of objects; one object a line; an array or one object, whichever it is."""

CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENT_BATCH = "application/cloudevents-batch+json"
LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
JSON = "application/json"

_ROWS = msgspec.json.Decoder(list[msgspec.Raw])
_SPACE = b" \t\r\n"


def layout_of(media_type: str) -> Layout:
    """How bodies of this media type hold rows.

    Raises:
        RequestRefused: 415, none that is taken here.
    """
    known: dict[str, Layout] = {CLOUD_EVENT: "single", CLOUD_EVENT_BATCH: "array", JSON: "any"}
    if media_type in LINES:
        return "lines"
    if media_type not in known:
        raise RequestRefused(
            415, "unknown_media_type", f"content-type must be one of {', '.join([*known, LINES[0]])}", got=media_type
        )
    return known[media_type]


def media_type_of(content_type: str) -> str:
    """The media type in lower case, without its parameters.

    Raises:
        RequestRefused: 415, another character set than UTF-8.
    """
    media_type, *parameters = (part.strip() for part in content_type.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' "').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise RequestRefused(415, "unknown_charset", "charset must be utf-8")
    return media_type.lower()


def split_rows(body: bytes, layout: Layout, most_rows: int) -> list[bytes]:
    """The rows of a body, in order; whether each is a readable object is for its reader to say.

    Raises:
        RequestRefused: 400 no JSON array where one must be (`not_json`), or no row at all; 413 too many rows.
    """
    if layout == "lines":
        rows = _lines(body, most_rows)
    elif layout == "array" or (layout == "any" and body.lstrip(_SPACE)[:1] == b"["):
        rows = _elements(body, most_rows)
    else:
        rows = [body.strip(_SPACE)]
    if not rows or not rows[0]:
        raise RequestRefused(400, "empty", "the request holds no event")
    return rows


def _lines(body: bytes, most_rows: int) -> list[bytes]:
    rows = body.split(b"\n", most_rows)
    if not rows[-1].strip(_SPACE):
        rows.pop()
    elif len(rows) > most_rows:
        raise _too_many(most_rows)
    if b"" in rows or b"\r" in body:
        rows = [row for row in (line.strip(_SPACE) for line in rows) if row]
    return rows


def _elements(body: bytes, most_rows: int) -> list[bytes]:
    # A comma costs a byte to send and an object to hold: many of them are counted before anything is built.
    if body.count(b",") >= most_rows and _has_more_elements(body, most_rows):
        raise _too_many(most_rows)
    try:
        return [bytes(row) for row in _ROWS.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestRefused(400, "not_json", f"the body is no JSON array: {error}") from error
    except RecursionError:
        raise RequestRefused(400, "too_deep", "the body is nested too deeply") from None


def _has_more_elements(body: bytes, most_rows: int) -> bool:
    """Whether the array has more than `most_rows` elements; each is read and forgotten, so memory stays bounded."""
    decoder = json.JSONDecoder()
    try:
        text = body.decode()
        place = text.index("[") + 1
        for _ in range(most_rows):
            _, place = decoder.raw_decode(text, _after_space(text, place))
            place = _after_space(text, place)
            if text[place : place + 1] != ",":
                return False
            place += 1
    except (ValueError, RecursionError):
        # Not JSON: refused as such by the reader that follows, which stops at the same place.
        return False
    return True


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\r", "\n"):
        place += 1
    return place


def _too_many(most_rows: int) -> RequestRefused:
    return RequestRefused(413, "too_many_rows", f"a request may hold {most_rows} events; send smaller batches")
