"""Poisoned JSON objects: each kind takes a sound fact and gives bytes, and the fact they may be read as, or None."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random

from tests.poison.facts import Fact, instant

Poisoned = tuple[bytes, Fact | None]
"""The bytes, and what a row accepted from them must say; None: nothing may be accepted."""
Kind = Callable[[Random, Fact], Poisoned]

HUGE_TEXT = "x" * (1 << 20)


def dumped(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _set(name: str, *values: object) -> Kind:
    """One of these values in a field: never acceptable."""
    return lambda rng, fact: (dumped(fact.as_fields() | {name: rng.choice(values)}), None)


def _literal(name: str, *texts: str) -> Kind:
    """One of these JSON literals, as they stand, in a field: never acceptable."""

    def make(rng: Random, fact: Fact) -> Poisoned:
        marked = dumped(fact.as_fields() | {name: "@@"})
        return marked.replace(b'"@@"', rng.choice(texts).encode()), None

    return make


def _spelling(name: str, spell: Callable[[Fact], str]) -> Kind:
    """Another spelling of the same value: acceptable as that value, or not at all."""

    def make(rng: Random, fact: Fact) -> Poisoned:
        marked = dumped(fact.as_fields() | {name: "@@"})
        return marked.replace(b'"@@"', spell(fact).encode()), fact

    return make


def _bytes(change: Callable[[Random, bytes], bytes]) -> Kind:
    return lambda rng, fact: (change(rng, dumped(fact.as_fields())), None)


def _missing(rng: Random, fact: Fact) -> Poisoned:
    fields = fact.as_fields()
    del fields[rng.choice(["location_id", "sold_at", "sale_id", "sku_id", "units"])]
    return dumped(fields), None


def _twice(rng: Random, fact: Fact) -> Poisoned:
    other = fact.units + rng.randint(1, 9)
    return dumped(fact.as_fields())[:-1] + f', "units": {other}}}'.encode(), None


def _twice_escaped(rng: Random, fact: Fact) -> Poisoned:
    return dumped(fact.as_fields())[:-1] + f', "un\\u0069ts": {fact.units + 1}}}'.encode(), None


def _deep(field: str) -> Kind:
    def make(rng: Random, fact: Fact) -> Poisoned:
        depth = rng.choice([70, 500, 20_000])
        opened, closed = rng.choice([("[", "]"), ('{"a":', "}")])
        nest = opened * depth + "1" + closed * depth
        return dumped(fact.as_fields() | {field: "@@"}).replace(b'"@@"', nest.encode()), None

    return make


def _text(change: Callable[[Random, Fact], str]) -> Kind:
    """Odd but sound text: acceptable exactly as it stands."""

    def make(rng: Random, fact: Fact) -> Poisoned:
        sku = change(rng, fact)
        return dumped(fact.as_fields() | {"sku_id": sku}), fact.but(sku_id=sku)

    return make


def _extra(rng: Random, fact: Fact) -> Poisoned:
    extra = rng.choice([{"store_mood": "odd"}, {"UNITS": 99}, {"units ": 99}, {"": 1}, {"__op": "delete"}, {"seq": 1}])
    return dumped(fact.as_fields() | extra), fact


def _future(rng: Random, fact: Fact) -> Poisoned:
    ahead = fact.sold_at + timedelta(days=rng.choice([3_650, 20_000, 60_000]))
    return dumped(fact.as_fields() | {"sold_at": instant(ahead)}), None


def _cut(rng: Random, body: bytes) -> bytes:
    return body[: rng.randint(1, len(body) - 1)]


def _at(text: str) -> Callable[[Fact], str]:
    """The time of sale with something else in place of its `Z`."""
    return lambda fact: f'"{instant(fact.sold_at)[:-1]}{text}"'


def _changed(name: str, literal: Callable[[Random, Fact], str], **changes: object) -> Kind:
    """Another literal for a field: acceptable as the fact with these changes, or not at all."""

    def make(rng: Random, fact: Fact) -> Poisoned:
        marked = dumped(fact.as_fields() | {name: "@@"})
        return marked.replace(b'"@@"', literal(rng, fact).encode()), fact.but(**changes)

    return make


def _leap(rng: Random, fact: Fact) -> Poisoned:
    return dumped(fact.as_fields() | {"sold_at": f"{instant(fact.sold_at)[:16]}:60Z"}), None


_NO_OFFSETS = (
    "+24:00", "+99:99", "+01:60", "\u221201:00", "+1:00", "Z+00:00", "+00:00Z", "+\uff10\uff11:00", "+0", "++01:00",
)  # fmt: skip


def _offset(rng: Random, fact: Fact) -> Poisoned:
    return dumped(fact.as_fields() | {"sold_at": instant(fact.sold_at)[:-1] + rng.choice(_NO_OFFSETS)}), None


_OTHER_NAMES = ("Units", "units ", "un\u0131ts", "\uff55nits", "units\0", "\ufeffunits")


def _renamed(rng: Random, fact: Fact) -> Poisoned:
    return dumped({rng.choice(_OTHER_NAMES) if k == "units" else k: v for k, v in fact.as_fields().items()}), None


def _lost_digits(rng: Random, fact: Fact) -> Poisoned:
    text = rng.choice([f"{fact.units}.00000000000000000000001", f"{fact.units - 1}.99999999999999999999999", "1e-400"])
    return dumped(fact.as_fields() | {"units": "@@"}).replace(b'"@@"', text.encode()), None


JSON_KINDS: dict[str, Kind] = {
    "digits that a float loses": _lost_digits,
    "more digits than a number has": _literal(
        "units", "1" * 5_000, "0." + "0" * 5_000 + "1", "1e" + "9" * 50, "1e-99999"),
    "minus zero": _changed("units", lambda rng, fact: rng.choice(["-0", "-0.0", "0e9", "-0e-9"]), units=0),
    "exponent that cancels": _spelling("units", lambda fact: f"{fact.units}00e-2"),
    "small exponent": _spelling("units", lambda fact: f"{fact.units / 100:.2f}E+2"),
    "second sixty": _leap,
    "no such offset": _offset,
    "years of five digits": _set("sold_at", "10000-01-01T00:00:00Z", "+12025-01-10T00:00:00Z", "-2025-01-10T00:00:00Z"),
    "hour twenty-four": _set("sold_at", "2025-01-10T24:00:00Z", "2025-01-10T23:60:00Z", "2025-01-10T-1:00:00Z"),
    "digits of other scripts": _set(
        "sold_at", "\uff12\uff10\uff12\uff15-01-10T10:00:00Z", "2025-01-10T1\u0660:00:00Z", "2025-01-1\U0001d7ce"
    ),
    "parts of a microsecond": _changed("sold_at", lambda rng, fact: _at(".000000400Z")(fact)),
    "number in other clothes": _set(
        "units", "1,000", "1 000", "1'000", "1_000", "0x10", "0b1", "\uff15", "\U0001d7dd", "\u2212" "5", "+-5", "++5",
        "\u00bd", "\u2164", "yes", "true", "5e", "5 pcs", "1e400", "=5", "5%", "\u00b25",
    ),
    "flag for money": _literal("revenue_cents", "true", "false", '"yes"'),
    "mark of byte order": _bytes(lambda rng, body: rng.choice([b" ", b"{"]) + b"\xef\xbb\xbf" + body),
    "UTF-16 without a mark": _bytes(lambda rng, body: body.decode().encode(
        rng.choice(["utf-16-le", "utf-16-be", "utf-32"]))),
    "escaped pair of surrogates": _changed("sku_id", lambda rng, fact: '"\\ud83d\\ude00"', sku_id="\U0001f600"),
    "pair the wrong way round": _literal("sku_id", '"\\ude00\\ud83d"', '"\\ud83d\\ud83d"', '"\\ud83dx"'),
    "surrogate in UTF-8": _bytes(lambda rng, body: body.replace(b'"A', b'"\xed\xa0\x80', 1)),
    "escapes that are none": _literal(
        "sku_id", '"\\x41"', '"\\u12"', '"\\U0001F600"', '"\\"', '"\\u+041"', '"\\u 041"'),
    "invisible characters": _text(lambda rng, fact: rng.choice(
        ["\ufeffA1", "A\u200b1", "A\u20281", "A\u00851", "\u2066A1"])),
    "key in other clothes": _renamed,
    "key twice in depth": lambda rng, fact: (dumped(fact.as_fields())[:-1] + b', "x": [{"a": 1, "a": 2}]}', None),
    "cut short": _bytes(_cut),
    "empty": _bytes(lambda rng, body: b""),
    "blanks": _bytes(lambda rng, body: rng.choice([b" ", b"\t", b"\x00", b"\xef\xbb\xbf"])),
    "trailing garbage": _bytes(lambda rng, body: body + rng.choice([b"x", b"}", b"{}", b"\x00", b"//c"])),
    "comment": _bytes(lambda rng, body: b"/* */" + body),
    "single quotes": _bytes(lambda rng, body: body.replace(b'"', b"'")),
    "no object": _bytes(lambda rng, body: rng.choice([b"1", b'"x"', b"null", b"[]", b"[1,2]", b"true"])),
    "wrapped in an array twice": _bytes(lambda rng, body: b"[[" + body + b"]]"),
    "invalid UTF-8": _bytes(lambda rng, body: body.replace(b'"A', b'"\xff\xfe', 1)),
    "overlong UTF-8": _bytes(lambda rng, body: body.replace(b'"A', b'"\xc0\xaf', 1)),
    "UTF-16": _bytes(lambda rng, body: body.decode().encode("utf-16")),
    "byte dropped": _bytes(lambda rng, body: body.replace(b":", b"", 1)),
    "raw control character": _bytes(lambda rng, body: body.replace(b'"A', b'"\x01A', 1)),
    "raw line end in text": _bytes(lambda rng, body: body.replace(b'"A', b'"\nA', 1)),
    "NaN": _literal("units", "NaN", "Infinity", "-Infinity", "nan", "1e999", "-1e999", "1E400"),
    "huge integer": _literal("units", str(2**63), str(2**64), "9" * 40, "1" + "0" * 400, "-" + "9" * 30),
    "huge money": _literal("revenue_cents", str(2**63), "9" * 25, "1e30"),
    "number form": _literal("units", "007", "0x1F", "+5", "1_000", "1,5", ".5", "5.", "--1"),
    "part of a unit": _literal("units", "1.5", "0.1", "2.0000001", "1e-3"),
    "below the minimum": _set("units", -1, -5, -(2**40)),
    "money below the minimum": _set("revenue_cents", -1, -999),
    "flag for a number": _literal("units", "true", "false"),
    "text for a number": _set("units", "five", "", " ", "1e2x", "NaN", "null", "١٢"),
    "list for a number": _set("units", [], [1], {}, {"a": 1}),
    "number for text": _literal("sku_id", "5", "true", "1.5", "[]", "{}"),
    "null for a required field": _literal("units", "null"),
    "null for a key": _literal("sale_id", "null"),
    "missing field": _missing,
    "key given twice": _twice,
    "key given twice, once escaped": _twice_escaped,
    "deep nesting in a field": _deep("sku_id"),
    "deep nesting in an unknown field": _deep("note"),
    "no zone": lambda rng, fact: (dumped(fact.as_fields() | {"sold_at": instant(fact.sold_at)[:-1]}), None),
    "a date for a time": lambda rng, fact: (dumped(fact.as_fields() | {"sold_at": instant(fact.sold_at)[:10]}), None),
    "no such time": _set("sold_at", "2025-02-30T10:00:00Z", "2025-13-01T00:00:00Z", "2025-01-01T25:00:00Z", "soon", ""),
    "no such zone": _set("sold_at", "2025-01-10T10:00:00+25:00", "2025-01-10T10:00:00 CET", "2025-01-10T10:00:00+1"),
    "far away years": _set("sold_at", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"),
    "seconds since an epoch": _literal("sold_at", "1736500000", "1736500000000", "-1", "1e18"),
    "the future": _future,
    "known in the future": lambda rng, fact: (
        dumped(fact.as_fields() | {"knowledge_time": instant(fact.known_at + timedelta(days=3_650))}), None),
    "knowledge that is no time": _set("knowledge_time", "x", "2025-02-30T00:00:00Z", 5, [], True),
    "lone surrogate": _literal("sku_id", '"\\ud800"', '"A\\udfff1"', '"\\ud800\\u0041"'),
    "escaped NUL": _literal("sku_id", '"A\\u0000"', '"\\u0000"'),
    "escaped control character": _literal("sku_id", '"A\\u0001B"', '"\\u001b[31mA"', '"\\u007f"'),
    "a text of a megabyte": lambda rng, fact: (dumped(fact.as_fields() | {"sku_id": HUGE_TEXT + "y"}), None),
    "blanks around an id": _set("sku_id", " A1", "A1 ", "\tA1", "", " "),
    "unknown field": _extra,
    "formula": _text(lambda rng, fact: rng.choice(["=1+1", "@SUM(A1)", "+1|cmd", "-2+3", "=cmd|' /C calc'!A0"])),
    "injection": _text(lambda rng, fact: rng.choice(["x' OR '1'='1", 'a"; drop table j;--', "../../x", "{{7*7}}"])),
    "other scripts": _text(lambda rng, fact: rng.choice(["А1", "A\u202e1", "\u0661", "e\u0301", "\U0001f600"])),
    "blanks in JSON": lambda rng, fact: (json.dumps(fact.as_fields(), indent=rng.randint(0, 3)).encode(), fact),
    "whole number with a point": _spelling("units", lambda fact: f"{fact.units}.0"),
    "whole number with an exponent": _spelling("units", lambda fact: f"{fact.units}e0"),
    "number as text": _spelling("units", lambda fact: f'"{fact.units}"'),
    "offset in place of Z": _spelling("sold_at", lambda fact: f'"{instant(fact.sold_at)[:-1]}+00:00"'),
    "escaped letters": _spelling("sale_id", lambda fact: '"' + "".join(f"\\u{ord(c):04x}" for c in fact.sale_id) + '"'),
}  # fmt: skip


def poisoned_json(rng: Random, fact: Fact, kinds: Sequence[str] = tuple(JSON_KINDS)) -> tuple[str, bytes, Fact | None]:
    """(kind, bytes, acceptable fact or None) of one of the kinds, drawn evenly."""
    kind = rng.choice(kinds)
    body, acceptable = JSON_KINDS[kind](rng, fact)
    return kind, body, acceptable
