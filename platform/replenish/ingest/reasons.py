"""Why something was not accepted: every reason code the platform itself writes, and what it means.

A feed may add codes of its own for rows it leaves out on purpose (`exclude: [{reason: ...}]`); no others exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CLOCK_SKEW = "clock_skew"
ID_CONFLICT = "id_conflict"
KEY_CONFLICT = "key_conflict"
MISPLACED_QUOTE = "misplaced_quote"
RETRACTION_OF_UNKNOWN = "retraction_of_unknown"
UNKNOWN_FEED = "unknown_feed"

_VALUES = {
    "not_a_number": "a value is present where a number is due, and cannot be read as one",
    "bad_time": "a value is no time or date that exists, or lies outside 1900 to 2200",
    "not_a_flag": "a value is neither true nor false",
    "not_text": "a value is present where text is due, and is none",
    "missing_required": "a required field is absent, null or empty",
    "not_finite": "a number is NaN or infinite",
    "below_minimum": "a number lies below the contract's minimum",
    "above_maximum": "a number lies above the contract's maximum",
    "pattern_mismatch": "a text does not match the contract's pattern",
    "not_allowed": "a text is none of the allowed values",
    "naive_time": "the time of a single event has no offset from UTC",
    CLOCK_SKEW: "the event says it happened, or became known, more than five minutes from now",
    "out_of_range": "a number is greater than the platform keeps: whole numbers up to 10^12, all within 64 bits",
}
_JSON = {
    "not_json": "not one JSON object, as RFC 8259 has it",
    "duplicate_key": "an object has one key twice",
    "too_deep": "objects and lists are nested more than 64 deep",
    "control_character": "a text holds a control character that is no tab or line end",
    "lone_surrogate": "a text holds half of a surrogate pair, which is no character",
    "too_large": "longer than the door takes: 1 MiB for a text, the door's own limit for an event",
    "wrong_encoding": "the bytes are not in the encoding that was declared (events: UTF-8)",
}
_EVENTS = {
    "bad_envelope": "the CloudEvents envelope, change record or message around the event is malformed",
    "unsupported_version": "the envelope or change record has a version that this door does not read",
    "poison": "the message could not be turned into an event at all",
    UNKNOWN_FEED: "no feed of this id takes single events",
    "unknown_stream": "no contract declares this stream",
    ID_CONFLICT: "the id was used before, by an event that says something else",
    "toast_unknown": "an update left out a large value that it did not change, and the log does not have it either",
    "unsupported_operation": "a change record of a kind that names no row to change",
    "schema_drift": "the source's table or message schema no longer fits the feed",
}
_FACTS = {
    KEY_CONFLICT: "another row says something else of the same fact at the same knowledge time",
    RETRACTION_OF_UNKNOWN: "a retraction of a fact that nobody knew at that time",
}
_FILES = {
    "wrong_field_count": "a row has more or fewer fields than the header",
    MISPLACED_QUOTE: "text stands behind a closing quote: a quote within a value is written twice",
    "missing_column": "the file lacks a column that the feed reads",
    "duplicate_column": "two columns of the file have one name",
    "empty_file": "the file has no bytes",
    "gzip_bomb": "the file inflates beyond every sensible ratio",
    "unreadable": "the file cannot be read as its declared format",
    "too_many_broken_rows": "so many rows have a wrong number of fields that the separator is taken to be wrong",
    "unclosed_quote": "a quote is never closed and swallows the rows behind it",
    "dead_share": "more than the contract's share of the rows is faulty",
    "zone_contradiction": "a time has an offset that the feed's zone does not have at that instant",
}

REASONS: Mapping[str, str] = MappingProxyType(_VALUES | _JSON | _EVENTS | _FACTS | _FILES)
"""Reason code to its meaning; the whole list."""
