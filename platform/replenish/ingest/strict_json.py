"""Strict JSON: one object whose meaning no two readers could take differently.

JSON as RFC 8259 has it (no NaN, no Infinity, no comments, UTF-8 without a byte order mark), and beyond that: no key
twice, whole numbers within 64 bits, no number too great for a float, no lone surrogates, no control characters but tab
and line ends, at most 64 levels deep, texts of at most 1 MiB, beyond that length at most 100,000 commas.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from replenish.errors import EventFault

MAX_DEPTH = 64
MAX_TEXT_BYTES = 1 << 20
MAX_COMMAS = 100_000
"""Of an object longer than a text may be: a value costs two bytes to send and sixty to hold."""
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

_Whole = Annotated[int, Meta(ge=INT64_MIN, le=INT64_MAX)]
_decode = msgspec.json.Decoder(dict[str, _Whole | float | str | bool | list | dict | None]).decode
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BLANKS = b" \t\r\n"
_NO_TRACE = bytes(set(range(256)) - set(b'":[\\\x7f0123456789'))
"""Bytes that say nothing about repeated keys and control characters; digits keep the colons of times from quotes."""


def strict_object(body: bytes) -> dict[str, Any]:
    """The JSON object that the bytes are.

    Raises:
        EventFault: `not_json`, `wrong_encoding`, `duplicate_key`, `too_deep`, `out_of_range`, `control_character`,
            `lone_surrogate` or `too_large`.
    """
    if len(body) > MAX_TEXT_BYTES and body.count(b",") > MAX_COMMAS:
        raise EventFault("too_large", f"more than {MAX_COMMAS} values")
    try:
        value = _decode(body)
    except UnicodeDecodeError as error:
        raise EventFault("wrong_encoding", f"not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise EventFault("too_deep", f"nested more than {MAX_DEPTH} deep") from None
    except msgspec.DecodeError as error:
        raise _fault_of(error, body) from None
    # Every key leaves `":` behind, some texts do, too: as many as keys means that no key was swallowed as a repeat.
    traces = body.translate(None, _NO_TRACE)
    if traces.count(b'":') != len(value) or b"[" in traces:
        _check_structure(value, body)
    if b"\\" in traces or b"\x7f" in traces:
        _check_texts(value)
    if len(body) > MAX_TEXT_BYTES:
        _check_lengths(value)
    return value


def _fault_of(error: msgspec.DecodeError, body: bytes) -> EventFault:
    """The fault behind an error of the decoder, by its words; `not_json` for all that is about syntax."""
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        if text.startswith(("Number out of range", "Expected `int`")):
            return EventFault("out_of_range", "a number lies outside 64 bits")
        return EventFault("not_json", "one JSON object")
    # The decoder takes half a pair for a text that ends too soon; a real one is cut at the last quote.
    if "surrogate" in text or ("truncated" in text and _SURROGATE.search(body)):
        return EventFault("lone_surrogate", "surrogates come in pairs")
    return EventFault("not_json", f"one JSON object: {text}")


def _check_structure(value: dict[str, Any], body: bytes) -> None:
    """Depth, numbers in nested values, and keys given twice; the exact reading only where the counts differ."""
    n_keys = _count_keys(value, 1)
    if body.translate(None, _BLANKS).count(b'":') != n_keys:
        json.loads(body, object_pairs_hook=_refuse_repeated)


def _count_keys(value: dict[str, Any] | list[Any], depth: int) -> int:
    if depth > MAX_DEPTH:
        raise EventFault("too_deep", f"nested more than {MAX_DEPTH} deep")
    is_object = isinstance(value, dict)
    n_keys = len(value) if is_object else 0
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            n_keys += _count_keys(item, depth + 1)
        elif isinstance(item, int) and not INT64_MIN <= item <= INT64_MAX:
            raise EventFault("out_of_range", "a number lies outside 64 bits")
    return n_keys


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise EventFault("duplicate_key", "no key twice", field=twice)
    return value


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise EventFault("control_character", "no control characters but tab and line ends")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _check_lengths(value: Any) -> None:
    if isinstance(value, str):
        if len(value) > MAX_TEXT_BYTES or len(value.encode()) > MAX_TEXT_BYTES:
            raise EventFault("too_large", f"a text has at most {MAX_TEXT_BYTES} bytes")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_lengths(key)
            _check_lengths(item)
    elif isinstance(value, list):
        for item in value:
            _check_lengths(item)
