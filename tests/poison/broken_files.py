"""Files that are broken as a whole, or look as if they were: CSV, JSON lines, Parquet, gzip and none of these."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from random import Random

from tests.poison.facts import Fact
from tests.poison.file_poison import HEADER, fields_of
from tests.poison.json_poison import dumped
from tests.poison.parquet_poison import (
    bomb,
    frame_of,
    lying_footer,
    many_columns,
    named_twice,
    odd_types,
    parquet_bytes,
    sound_oddities,
    wrong_types,
)


def _plain(facts: list[Fact]) -> bytes:
    return "\n".join([HEADER, *(",".join(fields_of(fact)) for fact in facts), ""]).encode()


def _lines(facts: list[Fact]) -> bytes:
    return b"".join(dumped(fact.as_fields()) + b"\n" for fact in facts)


def _flipped(rng: Random, body: bytes, first: int, last: int) -> bytes:
    damaged = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        damaged[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _damaged(rng: Random, facts: list[Fact], first: int, last: int) -> bytes:
    body = parquet_bytes(frame_of(facts))
    return _flipped(rng, body, first % len(body), last % len(body))


def _cut(rng: Random, body: bytes) -> bytes:
    return body[: rng.randint(3, len(body) - 1)]


def _mixed_line_ends(rng: Random, facts: list[Fact]) -> bytes:
    return _plain(facts).replace(b"\n", b"\r", 3).replace(b"\n", b"\r\n", 2)


def _packed(facts: list[Fact], name: str, n_blank: int = 0) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, _plain(facts) + b"\n" * n_blank)
        archive.writestr("xl/worksheets/sheet1.xml", "<c><f>SUM(A1)</f></c>")
    return target.getvalue()


def _wrong_gzip(rng: Random, facts: list[Fact]) -> bytes:
    """A gzip file whose check sum, length or head is a lie."""
    body = gzip.compress(_plain(facts))
    return rng.choice([
        body[: -rng.randint(1, 8)],
        body[:-8] + bytes(4) + body[-4:],
        body[:-4] + b"\xff\xff\xff\xff",
        body[:3] + b"\xff" + body[4:],
        body[:2] + b"\x07" + body[3:],
        body + gzip.compress(b"")[:-3],
        body + body[:20],
        body[:2],
    ])  # fmt: skip


_BOMB = gzip.compress(HEADER.encode() + b"\n" * (70 << 20), 9)
_ZIP_BOMB: list[bytes] = []


def _zip_bomb(rng: Random, facts: list[Fact]) -> bytes:
    if not _ZIP_BOMB:
        _ZIP_BOMB.append(_packed(facts, "xl/sharedStrings.xml", 200 << 20))
    return _ZIP_BOMB[0]


def _quoted_lines(rng: Random, facts: list[Fact]) -> bytes:
    """A cell of line ends, of up to more than the parser takes at once."""
    fields = fields_of(facts[-1])
    fields[3] = '"A' + "\n" * rng.choice([3, 3_000, 3 << 20, 5 << 20]) + '"'
    return _plain(facts[:-1]) + ",".join(fields).encode() + b"\n"


FILE_KINDS: dict[str, tuple[str, Callable[[Random, list[Fact]], bytes], bool]] = {
    # name: (file type, bytes, whether accepted rows are judged)
    "no bytes": ("csv", lambda rng, facts: b"", True),
    "random bytes": ("csv", lambda rng, facts: rng.randbytes(rng.randint(1, 4000)), True),
    "NUL bytes": ("csv", lambda rng, facts: _plain(facts).replace(b"A", b"\x00", 1), True),
    "NUL bytes alone": ("csv", lambda rng, facts: bytes(rng.randint(1, 9_000)), True),
    "invalid UTF-8": ("csv", lambda rng, facts: _plain(facts).replace(b",A", b",\xff", 1), True),
    "Latin-1 called UTF-8": ("csv", lambda rng, facts: _plain(facts).replace(b",A", b",\xc4", 1), True),
    "UTF-16 called UTF-8": ("csv", lambda rng, facts: _plain(facts).decode().encode("utf-16"), True),
    "UTF-16 and UTF-32 without a mark": ("csv", lambda rng, facts: _plain(facts).decode().encode(
        rng.choice(["utf-16-le", "utf-16-be", "utf-32-le"])), True),
    "a mark of byte order": ("csv", lambda rng, facts: b"\xef\xbb\xbf" + _plain(facts), True),
    "two files in one": ("csv", lambda rng, facts: _plain(facts[:9]) + b"\xef\xbb\xbf" + _plain(facts[9:]), True),
    "missing column": ("csv", lambda rng, facts: _plain(facts).replace(b"units", b"pieces", 1), True),
    "two columns of one name": ("csv", lambda rng, facts: _plain(facts).replace(b"units", b"sku_id", 1), True),
    "names in other clothes": ("csv", lambda rng, facts: _plain(facts).replace(
        b"units", rng.choice(["Units", " units", "units\u200b", "\uff55nits", '"units']).encode(), 1), True),
    "open quote": ("csv", lambda rng, facts: _plain(facts).replace(b",A", b',"A', 1), True),
    "two open quotes": ("csv", lambda rng, facts: _plain(facts).replace(b",A", b',"A', 2), True),
    # A quote within a cell that does not begin with one is text, and what stands behind a closing one is no value.
    "text behind a closing quote": ("csv", lambda rng, facts: _plain(facts).replace(
        b",A", rng.choice([b',""A', b',"A"', b',"A"x', b',"x"A']), rng.randint(1, 3)), True),
    "quotes in the wrong place": ("csv", lambda rng, facts: _plain(facts).replace(
        b",A", rng.choice([b',A"', b",'A", b',"A""']), rng.randint(1, 3)), False),
    "a cell of line ends": ("csv", _quoted_lines, False),
    "a line of 5 MB": ("csv", lambda rng, facts: _plain(facts) + b"x" * (5 << 20), True),
    "a thousand columns": ("csv", lambda rng, facts: HEADER.encode() + b",x" * 5_000 + b"\n", True),
    "a hundred thousand columns": ("csv", lambda rng, facts: ",".join(
        [HEADER, *(f"c{nr}" for nr in range(100_000))]).encode() + b"\n", True),
    "mixed line ends": ("csv", _mixed_line_ends, True),
    "line ends of DOS and Mac": ("csv", lambda rng, facts: _plain(facts).replace(
        b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b"\r\r\n"])), True),
    "line ends that are none": ("csv", lambda rng, facts: _plain(facts).replace(
        b"\n", rng.choice([b"\x0b", b"\x0c", b"\x85", b"\xe2\x80\xa8", b"\\n"]), rng.randint(1, 30)), True),
    "no header": ("csv", lambda rng, facts: _plain(facts).split(b"\n", 1)[1], True),
    "a header alone": ("csv", lambda rng, facts: HEADER.encode() + rng.choice(
        [b"", b"\n", b"\n\n", b"\r", b"\n\x00"]), True),
    "rows cut at the end": ("csv", lambda rng, facts: _plain(facts).rsplit(b",", 3)[0], True),
    "a file cut anywhere": ("csv", lambda rng, facts: _cut(rng, _plain(facts)).rpartition(b"\n")[0], True),
    "deep JSON": ("jsonl", lambda rng, facts: b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", True),
    "JSON bytes": ("jsonl", lambda rng, facts: rng.randbytes(500), True),
    "one JSON array": ("jsonl", lambda rng, facts: b"[" + b",".join(dumped(f.as_fields()) for f in facts) + b"]", True),
    "five thousand fields": ("jsonl", lambda rng, facts: dumped({f"f{i}": i for i in range(5_000)}) + b"\n", True),
    "JSON lines after a mark": ("jsonl", lambda rng, facts: b"\xef\xbb\xbf" + _lines(facts), True),
    "JSON lines of DOS and Mac": ("jsonl", lambda rng, facts: _lines(facts).replace(
        b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b" \n\t\n"])), True),
    "objects without line ends": ("jsonl", lambda rng, facts: _lines(facts).replace(
        b"\n", b"", rng.randint(1, 40)), True),
    "JSON in pretty print": ("jsonl", lambda rng, facts: _lines(facts).replace(b", ", b",\n"), True),
    "JSON of UTF-16": ("jsonl", lambda rng, facts: _lines(facts).decode().encode("utf-16"), True),
    "JSON text records": ("jsonl", lambda rng, facts: b"\x1e" + _lines(facts).replace(b"\n", b"\n\x1e"), True),
    "no Parquet": ("parquet", lambda rng, facts: b"PAR1" + rng.randbytes(300) + b"PAR1", True),
    "CSV called Parquet": ("parquet", lambda rng, facts: _plain(facts), True),
    "Parquet called CSV": ("csv", lambda rng, facts: parquet_bytes(frame_of(facts)), True),
    "Parquet cut short": ("parquet", lambda rng, facts: _cut(rng, parquet_bytes(frame_of(facts))), True),
    "Parquet with a damaged footer": ("parquet", lambda rng, facts: _damaged(rng, facts, -400, -1), False),
    "Parquet with damaged pages": ("parquet", lambda rng, facts: _damaged(rng, facts, 4, -400), False),
    "Parquet with a lying footer": ("parquet", lying_footer, False),
    "Parquet of wrong types": ("parquet", wrong_types, True),
    "Parquet of odd types": ("parquet", odd_types, True),
    "Parquet of seldom types": ("parquet", sound_oddities, True),
    "Parquet named twice": ("parquet", named_twice, True),
    "Parquet of many columns": ("parquet", lambda rng, facts: many_columns(facts, 3_000), True),
    "Parquet twice": ("parquet", lambda rng, facts: parquet_bytes(frame_of(facts)) * 2, True),
    "Parquet in gzip": ("parquet", lambda rng, facts: gzip.compress(parquet_bytes(frame_of(facts))), True),
    "Parquet bomb": ("parquet", bomb, True),
    "gzip cut short": ("csv", lambda rng, facts: _cut(rng, gzip.compress(_plain(facts))), True),
    "gzip damaged": ("csv", lambda rng, facts: _flipped(rng, gzip.compress(_plain(facts)), 10, 60), True),
    "gzip that lies": ("csv", _wrong_gzip, True),
    "gzip in gzip": ("csv", lambda rng, facts: gzip.compress(gzip.compress(_plain(facts))), True),
    "gzip with garbage behind": ("csv", lambda rng, facts: gzip.compress(_plain(facts)) + b"garbage", True),
    "gzip of many members": ("csv", lambda rng, facts: gzip.compress(_plain(facts[:9])) + gzip.compress(
        b"".join(_plain(facts[9:]).split(b"\n", 1)[1:])) + bytes(rng.choice([0, 512])), True),
    "gzip bomb": ("csv", lambda rng, facts: _BOMB, True),
    "another packing": ("csv", lambda rng, facts: rng.choice(
        [zlib.compress, bz2.compress, lzma.compress])(_plain(facts)), True),
    "a zip archive": ("csv", lambda rng, facts: _packed(
        facts, rng.choice(["a.csv", "../../x", "/etc/x", "xl/a.xml"])), True),
    "a zip bomb": ("csv", _zip_bomb, True),
}  # fmt: skip

SELDOM = {
    "gzip bomb",
    "a line of 5 MB",
    "a zip bomb",
    "Parquet bomb",
    "a hundred thousand columns",
    "a cell of line ends",
}


def broken_file(rng: Random, facts: list[Fact]) -> tuple[str, str, bytes, dict[str, Fact] | None]:
    """(kind, file type, bytes, acceptable facts or None where only a crash is judged)."""
    names = list(FILE_KINDS)
    kind = rng.choices(names, [0.1 if name in SELDOM else 1.0 for name in names])[0]
    file_type, make, is_judged = FILE_KINDS[kind]
    return kind, file_type, make(rng, facts), {fact.sale_id: fact for fact in facts} if is_judged else None
