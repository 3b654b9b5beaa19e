"""Rows of an offered file as frames of source columns, a chunk at a time, in bounded memory.

Text formats give every field as text, exactly as it stands in the file; Parquet keeps its types. Row numbers count the
records of the file from 1, without the header.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from replenish.contracts.dataset import FileFormat
from replenish.errors import FileFault
from replenish.ingest.json_lines import parse_json_lines
from replenish.ingest.parquet_batches import MAX_COLUMNS, check_columns, parquet_frames
from replenish.ingest.plain_columns import plain_columns
from replenish.ingest.quotes import MARK, QuoteWatch, has_mark
from replenish.ingest.reasons import MISPLACED_QUOTE
from replenish.ingest.source import CheckedText, inflate_to_temporary, is_gzip, open_bytes

CHUNK_ROWS = 250_000
BLOCK_BYTES = 4 << 20
"""Bytes parsed at once. No record may be longer; larger blocks cost memory and save no time."""
HEADER_BYTES = 1 << 20
MAX_BROKEN_ROWS = 1_000_000
"""Rows with a wrong number of fields before the separator is taken to be wrong, and memory kept bounded."""
LINE = "line"
_LINE_END = re.compile(r"\r\n?|\n")
"""Of the parser; a text may hold other characters that Python takes for the end of a line."""
InvalidRowHandler = Callable[[pacsv.InvalidRow], Literal["skip", "error"]]


@dataclass(frozen=True)
class BrokenRow:
    """A record that has no columns: too many or too few fields, or no JSON object."""

    row_nr: int
    reason: str
    rule: str
    raw: str


@dataclass(frozen=True)
class SourceChunk:
    """Consecutive records of a file: `frame` holds the sound ones, `row_nrs` their numbers (Int64)."""

    frame: pl.DataFrame
    row_nrs: pl.Series
    broken: tuple[BrokenRow, ...] = ()

    @property
    def offered(self) -> int:
        """Records in this chunk, sound or not."""
        # Not the height of the frame: JSON objects without any field leave it without columns.
        return self.row_nrs.len() + len(self.broken)

    def with_frame(self, frame: pl.DataFrame) -> SourceChunk:
        """The same records with other columns."""
        return replace(self, frame=frame)


def read_chunks(path: Path, file_format: FileFormat) -> Iterator[SourceChunk]:
    """The file's records in order.

    Raises:
        FileFault: `empty_file`, `wrong_encoding`, `duplicate_column`, `too_many_broken_rows`, `unclosed_quote`,
            `gzip_bomb`, `unreadable`.
    """
    readers = {"csv": _csv_chunks, "jsonl": _jsonl_chunks, "parquet": _parquet_chunks}
    try:
        yield from _one_ahead(readers[file_format.type](path, file_format))
    except FileFault:
        raise
    except (UnicodeError, LookupError) as error:
        raise FileFault("wrong_encoding", f"not {file_format.encoding}: {error}", file=path.name) from error
    except pa.ArrowInvalid as error:
        raise _as_fault(error, path, file_format) from error
    except (OSError, pa.ArrowException) as error:
        raise FileFault("unreadable", f"cannot be read as {file_format.type}: {error}", file=path.name) from error


def _one_ahead(chunks: Generator[SourceChunk]) -> Iterator[SourceChunk]:
    """The chunks in order, the next one parsed in a thread while this one is judged; a fault comes in its turn."""
    with closing(chunks), ThreadPoolExecutor(1) as parser:
        following = parser.submit(next, chunks, None)
        while (chunk := following.result()) is not None:
            following = parser.submit(next, chunks, None)
            yield chunk


def _csv_chunks(path: Path, file_format: FileFormat) -> Generator[SourceChunk]:
    with open_bytes(path) as source:
        head = source.read(HEADER_BYTES)
    if not head:
        raise FileFault("empty_file", "the file has no bytes", file=path.name)
    names = _header(head, file_format)
    check_columns(names)
    # So that a file of a header alone has its columns checked, too.
    yield SourceChunk(pl.DataFrame(schema=dict.fromkeys(names, pl.String())), _numbers([]))
    if b"\n" in head or b"\r" in head:
        yield from _delimited(path, file_format, names, has_header=True)


def _header(head: bytes, file_format: FileFormat) -> list[str]:
    # Bytes of another encoding: said at once, since the parser's callback for odd rows could only swallow it.
    text = codecs.getincrementaldecoder(file_format.encoding)().decode(head)
    if _LINE_END.split(text, 1)[0].count(file_format.separator) > 2 * MAX_COLUMNS:
        # Before the parser makes room for them; there may be separators within quotes, too.
        raise FileFault("unreadable", f"a header of far more than {MAX_COLUMNS} columns")
    if len(head) < HEADER_BYTES and not file_format.encoding.lower().startswith("utf-16"):
        # The parser takes a line without an end for no header at all.
        head += b"\n"
    options = pacsv.ReadOptions(use_threads=False, block_size=2 * HEADER_BYTES, encoding=file_format.encoding)
    with pacsv.open_csv(
        io.BytesIO(head), read_options=options, parse_options=_parse_options(file_format, lambda row: "skip")
    ) as reader:
        return list(reader.schema.names)


def _delimited(path: Path, file_format: FileFormat, names: list[str], *, has_header: bool) -> Iterator[SourceChunk]:
    broken: list[pacsv.InvalidRow] = []

    def skip(row: pacsv.InvalidRow) -> Literal["skip", "error"]:
        broken.append(row)
        return "skip" if len(broken) <= MAX_BROKEN_ROWS else "error"

    first_row = 2 if has_header else 1
    quotes = _quote_watch(file_format)
    with (
        open_bytes(path) as source,
        pacsv.open_csv(
            cast("IO[bytes]", CheckedText(source, file_format.encoding, quotes)),
            read_options=pacsv.ReadOptions(
                use_threads=False,
                block_size=BLOCK_BYTES,
                column_names=names,
                skip_rows=0,
                skip_rows_after_names=1 if has_header else 0,
                encoding=file_format.encoding,
            ),
            parse_options=_parse_options(file_format, skip),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        ) as reader,
    ):
        last_row: tuple[str, ...] = ()
        for chunk in _numbered(reader, broken, first_row, file_format.quote):
            last_row = chunk.frame.row(-1) if chunk.frame.height else last_row
            yield _without_marked(chunk, file_format) if quotes is not None and quotes.n_marked else chunk
        _refuse_swallowed(last_row, file_format)


def _quote_watch(file_format: FileFormat) -> QuoteWatch | None:
    """None where there are no quotes, or where a character is more than a byte everywhere."""
    wide = file_format.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))
    return QuoteWatch(file_format.quote, file_format.separator) if file_format.quote and not wide else None


def _without_marked(chunk: SourceChunk, file_format: FileFormat) -> SourceChunk:
    """Rows with something behind a closing quote are broken; the mark is in none of what is kept."""
    letters = tuple(replace(row, raw=row.raw.replace(MARK, "")) for row in chunk.broken)
    is_marked = has_mark(chunk.frame)
    if not is_marked.any():
        return replace(chunk, broken=letters)
    rule = f"nothing between a closing {file_format.quote} and the separator; within a value it is written twice"
    fields = chunk.frame.filter(is_marked).rows()
    marked = tuple(
        BrokenRow(nr, MISPLACED_QUOTE, rule, file_format.separator.join(row).replace(MARK, file_format.quote))
        for nr, row in zip(chunk.row_nrs.filter(is_marked).to_list(), fields, strict=True)
    )
    broken = tuple(sorted((*letters, *marked), key=lambda row: row.row_nr))
    return SourceChunk(chunk.frame.filter(~is_marked), chunk.row_nrs.filter(~is_marked), broken)


def _numbered(
    reader: pacsv.CSVStreamingReader, broken: list[pacsv.InvalidRow], first_row: int, quote: str
) -> Iterator[SourceChunk]:
    """Chunks with their row numbers: the parser numbers only the rows it leaves out, sound ones fill the gaps."""
    sound = 0
    taken = 0
    for batch in reader:
        gaps = np.array([(row.number or 0) - first_row - i for i, row in enumerate(broken, taken)], dtype=np.int64)
        position = np.arange(sound, sound + batch.num_rows, dtype=np.int64)
        before = np.searchsorted(gaps, position, side="right")
        last = taken + (int(before[-1]) if before.size else 0)
        letters = tuple(_field_count(row, first_row, quote) for row in broken[: last - taken])
        yield from _split(_frame_of(batch), position + taken + before + 1, letters)
        del broken[: last - taken]
        sound, taken = sound + batch.num_rows, last
    if broken:
        letters = tuple(_field_count(row, first_row, quote) for row in broken)
        yield SourceChunk(pl.DataFrame(schema=_frame_of(reader.schema.empty_table()).schema), _numbers([]), letters)


def _split(frame: pl.DataFrame, row_nrs: np.ndarray, broken: tuple[BrokenRow, ...]) -> Iterator[SourceChunk]:
    for start in range(0, max(frame.height, 1), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        yield SourceChunk(frame[rows], _numbers(row_nrs[rows]), broken if start == 0 else ())


def _refuse_swallowed(last_row: tuple[str, ...], file_format: FileFormat) -> None:
    """Refuse a file whose last field holds whole records: its quote was never closed, and the count of fields is right.

    Raises:
        FileFault: `unclosed_quote`.
    """
    if file_format.quote and len(last_row) > 1:
        behind = _LINE_END.split(last_row[-1])[1:]
        if any(line.count(file_format.separator) == len(last_row) - 1 for line in behind):
            raise FileFault("unclosed_quote", f"the last field swallows the {len(behind)} rows behind it")


def _field_count(row: pacsv.InvalidRow, first_row: int, quote: str) -> BrokenRow:
    # Rows behind a quote that is never closed are swallowed by its field: nobody could count them as offered.
    if quote and row.text.count(quote) % 2 and _LINE_END.search(row.text.strip()):
        nr = (row.number or 0) - first_row + 1
        raise FileFault("unclosed_quote", f"the quote opened in row {nr} swallows the rows behind it", row=nr)
    rule = f"{row.expected_columns} fields, has {row.actual_columns}"
    return BrokenRow((row.number or 0) - first_row + 1, "wrong_field_count", rule, row.text)


def _jsonl_chunks(path: Path, file_format: FileFormat) -> Generator[SourceChunk]:
    # The control character cannot stand in JSON text, so every line is one field.
    as_lines = FileFormat(type="csv", separator="\x01", quote="", encoding=file_format.encoding)
    if path.stat().st_size == 0:
        raise FileFault("empty_file", "the file has no bytes", file=path.name)
    for chunk in _delimited(path, as_lines, [LINE], has_header=False):
        lines = chunk.frame[LINE].to_list()
        frame, faults = parse_json_lines(lines)
        is_sound = pl.Series([fault is None for fault in faults], dtype=pl.Boolean())
        broken = tuple(
            BrokenRow(nr, fault.reason, str(fault), line)
            for nr, fault, line in zip(chunk.row_nrs.to_list(), faults, lines, strict=True)
            if fault is not None
        )
        yield SourceChunk(frame, chunk.row_nrs.filter(is_sound), chunk.broken + broken)


def _parquet_chunks(path: Path, file_format: FileFormat) -> Generator[SourceChunk]:
    source = inflate_to_temporary(path) if is_gzip(path) else path.open("rb")
    with source:
        row_nr = 0
        for frame in parquet_frames(source, CHUNK_ROWS):
            numbers = _numbers(np.arange(row_nr + 1, row_nr + frame.height + 1))
            yield SourceChunk(plain_columns(frame), numbers)
            row_nr += frame.height


def _parse_options(file_format: FileFormat, handler: InvalidRowHandler) -> pacsv.ParseOptions:
    return pacsv.ParseOptions(
        delimiter=file_format.separator,
        quote_char=file_format.quote or False,
        double_quote=True,
        newlines_in_values=bool(file_format.quote),
        invalid_row_handler=handler,
    )


def _numbers(values: np.ndarray | list[int]) -> pl.Series:
    return pl.Series("row_nr", values, dtype=pl.Int64)


def _frame_of(data: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(data)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table of columns was expected")
    return frame


def _as_fault(error: pa.ArrowInvalid, path: Path, file_format: FileFormat) -> FileFault:
    text = str(error)
    if "UTF8" in text or "utf-8" in text.lower():
        return FileFault("wrong_encoding", f"not {file_format.encoding}: {text}", file=path.name)
    if "Empty CSV" in text:
        return FileFault("empty_file", "the file has no header", file=path.name)
    if "CSV parse error: Expected" in text:
        return FileFault("too_many_broken_rows", f"the separator is not {file_format.separator!r}", file=path.name)
    return FileFault("unreadable", f"cannot be read as {file_format.type}: {text}", file=path.name)
