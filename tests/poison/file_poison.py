"""Poisoned rows: files of CSV and JSON lines of which some rows are bad."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

from tests.poison.facts import Fact, instant
from tests.poison.json_poison import JSON_KINDS, dumped, poisoned_json

HEADER = "location_id,sold_at,sale_id,sku_id,units,revenue_cents,knowledge_time"
Spell = Callable[[Random, Fact], str]
RowKind = Callable[[Random, Fact], tuple[str, Fact | None]]
"""A line, and what a row accepted from it must say; None: nothing may be accepted."""
Offered = tuple[bytes, dict[str, Fact], int]
"""A file's bytes, by sale id the facts that rows accepted from it must equal, and how many rows it has."""


def fields_of(fact: Fact) -> list[str]:
    return [str(value) for value in fact.as_fields().values()]


def _with(column: int, *values: str) -> RowKind:
    def make(rng: Random, fact: Fact) -> tuple[str, Fact | None]:
        fields = fields_of(fact)
        fields[column] = rng.choice(values)
        return ",".join(fields), None

    return make


def _sku(*values: str) -> RowKind:
    def make(rng: Random, fact: Fact) -> tuple[str, Fact | None]:
        text = rng.choice(values)
        fields = fields_of(fact)
        fields[3] = '"' + text.replace('"', '""') + '"'
        return ",".join(fields), fact.but(sku_id=text)

    return make


def _spelt(column: int, spell: Callable[[Random, Fact], str], **changes: object) -> RowKind:
    """Another spelling: acceptable as the fact with these changes, or not at all."""

    def make(rng: Random, fact: Fact) -> tuple[str, Fact | None]:
        fields = fields_of(fact)
        fields[column] = spell(rng, fact)
        return ",".join(fields), fact.but(**changes)

    return make


def _unlike(column: int, spell: Spell) -> RowKind:
    """Something that only resembles the value: never acceptable."""
    return lambda rng, fact: (_spelt(column, spell)(rng, fact)[0], None)


UNITS, MONEY, SOLD, KNOWN, SKU = 4, 5, 1, 6, 3
FIRST_OF_TWO = datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
ROW_KINDS: dict[str, RowKind] = {
    "too few fields": lambda rng, fact: (",".join(fields_of(fact)[: rng.randint(1, 6)]), None),
    "too many fields": lambda rng, fact: (",".join([*fields_of(fact), "x"]), None),
    "other separator": lambda rng, fact: (";".join(fields_of(fact)), None),
    "no finite number": _with(UNITS, "NaN", "inf", "-Infinity", "1e999", "#N/A", "NULL"),
    "huge integer": _with(UNITS, str(2**63), "9" * 20, "9" * 400, "-" + "9" * 25),
    "part of a unit": _with(UNITS, "1.5", "0.001", "1/2"),
    "below the minimum": _with(UNITS, "-1", "-99999"),
    "number form": _with(UNITS, "0x10", "1_000", "five", "١٢", "5 pcs", "--5", "1e", "𝟝"),
    "decimal comma": _with(MONEY, '"1,50"', '"1.000,50"', '"1,000,000,000,000,000"'),
    "money form": _with(MONEY, "$5", "5 EUR", "1e30", "9" * 45),
    "no such time": _with(SOLD, "2025-02-30T10:00:00Z", "2025-01-10T25:00:00Z", "soon", "10.01.2025", "01/10/2025"),
    "skipped hour": _with(SOLD, "2025-03-30T02:30:00"),
    "far away years": _with(SOLD, "0000-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "0201-01-01T00:00:00Z"),
    "known never": _with(KNOWN, "", "x", "2025-02-30T00:00:00Z"),
    "no article": _with(SKU, "", '""'),
    "blanks around an id": _with(SKU, '" A1"', '"A1 "'),
    "formula": _sku("=1+1", "@SUM(A1)", "+1|cmd", "=cmd|' /C calc'!A0"),
    "injection": _sku("x' OR '1'='1", 'a"; drop table records;--', "../../x"),
    "other scripts": _sku("А1", "A\u202e1", "\U0001f600"),
    "line end in a cell": _sku("A\n1", "A\r\n1", "A,1"),
    "two signs": _with(UNITS, "+-5", "++5", "-+5", "- 5", "\u22125", "5-", "(5)"),
    "digits that a float loses": _unlike(UNITS, lambda rng, fact: rng.choice(
        [f"{fact.units}.00000000000000000000001", f"{fact.units - 1}.99999999999999999999999e0", "1e-400", "1e-7",
         f"{fact.units}.0000001e0", "99999999999999999999e-20", "15e-1"])),
    "exponents without end": _with(UNITS, "1e999999999", "1e-999999999", "1e99999999999999999999", "9" * 5_000 + "e0"),
    "number in other clothes": _with(
        UNITS, '"1,000"', "1 000", "1'000", "1\u00a0000", "\uff15", "0b1", "0o7", "true", "yes", "\u00bd", "\u2164",
        "5%", "=5", "5e", "e5", "1.2.3", "#REF!", "1e5.0"),
    "plus sign": _spelt(UNITS, lambda rng, fact: f"+{fact.units}"),
    "exponent that cancels": _spelt(UNITS, lambda rng, fact: f"{fact.units}00e-2"),
    "blanks around a number": _spelt(UNITS, lambda rng, fact: rng.choice([" {}", "{} ", '"\t{}"']).format(fact.units)),
    "quoted number": _spelt(UNITS, lambda rng, fact: f'"{fact.units}"'),
    "minus zero": _spelt(UNITS, lambda rng, fact: rng.choice(["-0", "-0.0", "-0e5"]), units=0),
    "second sixty": _unlike(
        SOLD, lambda rng, fact: instant(fact.sold_at)[:16] + rng.choice([":60Z", ":60", ":60.5Z"])),
    "no such offset": _unlike(SOLD, lambda rng, fact: instant(fact.sold_at)[:-1] + rng.choice(
        ["+25:00", "+01:60", "\u221201:00", "\u221200:00", "+1", "Z+00:00", "+00:00Z", "ZZ", " CET",
         "+\uff10\uff11:00"])),
    "years of five digits": _with(SOLD, "10000-01-01T00:00:00Z", "12025-01-10T00:00:00Z", "-2025-01-10T00:00:00Z"),
    "hour twenty-four": _with(SOLD, "2025-01-10T24:00:00Z", "2025-01-10T23:60:00Z", "2025-01-10 -1:00"),
    "digits of other scripts": _with(SOLD, "\uff12\uff10\uff12\uff15-01-10T10:00:00Z", "2025-01-1\u0660",
                                     "2025-0\U0001d7cf-10"),
    "an hour that occurs twice": _spelt(SOLD, lambda rng, fact: "2025-10-26T02:30:00", sold_at=FIRST_OF_TWO),
    "parts of a microsecond": _spelt(SOLD, lambda rng, fact: instant(fact.sold_at)[:-1] + ".000000400Z"),
    "invisible characters": _sku("\ufeffA1", "A\u200b1", "A\u20281", "A\u00851", "\u2066A1"),
    "NUL in a cell": _with(SKU, "A\x001", "\x00", '"A\x00"'),
    "the header again": lambda rng, fact: (HEADER, None),
    "leading zeros": lambda rng, fact: (
        ",".join([*fields_of(fact)[:4], f"00{fact.units}", *fields_of(fact)[5:]]), fact),
    "whole number with a point": lambda rng, fact: (
        ",".join([*fields_of(fact)[:4], f"{fact.units}.0", *fields_of(fact)[5:]]), fact),
    "seconds left out": lambda rng, fact: (
        ",".join([fact.location_id, instant(fact.sold_at)[:16] + "Z", *fields_of(fact)[2:]]),
        fact.but(sold_at=fact.sold_at.replace(second=0))),
}  # fmt: skip


SOUND_IN_A_FILE = {"the future", "known in the future", "number for text", "no zone", "a date for a time"}
"""A feed file gives the zone, plans may lie ahead, and a cell is text whatever its quotes."""
_KINDS_IN_FILES = [kind for kind in JSON_KINDS if kind not in SOUND_IN_A_FILE]


def csv_file(rng: Random, facts: list[Fact], *, n_bad: int) -> Offered:
    """A CSV of these facts, the last `n_bad` of them poisoned, in mixed order."""
    lines: list[str] = []
    acceptable = {fact.sale_id: fact for fact in facts[: len(facts) - n_bad]}
    lines += [",".join(fields_of(fact)) for fact in acceptable.values()]
    for fact in facts[len(facts) - n_bad :]:
        text, as_fact = ROW_KINDS[rng.choice(list(ROW_KINDS))](rng, fact)
        lines.append(text)
        if as_fact is not None:
            acceptable[fact.sale_id] = as_fact
    rng.shuffle(lines)
    return "\n".join([HEADER, *lines, ""]).encode(), acceptable, len(lines)


def jsonl_file(rng: Random, facts: list[Fact], *, n_bad: int) -> Offered:
    """JSON lines of these facts, the last `n_bad` of them poisoned."""
    acceptable = {fact.sale_id: fact for fact in facts[: len(facts) - n_bad]}
    lines = [dumped(fact.as_fields()) for fact in acceptable.values()]
    for fact in facts[len(facts) - n_bad :]:
        _, body, as_fact = poisoned_json(rng, fact, _KINDS_IN_FILES)
        if len(body) < 100_000:
            lines.append(body.replace(b"\n", b" ").replace(b"\r", b" "))
        if as_fact is not None:
            acceptable[fact.sale_id] = as_fact
    # A line of nothing is none.
    return b"\n".join([*lines, b""]), acceptable, sum(1 for line in lines if line)
