"""Bytes of an offered file: plain or gzip, never more than a bound."""

from __future__ import annotations

import codecs
import gzip
import io
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import IO, BinaryIO, cast

from replenish.errors import FileFault
from replenish.ingest.quotes import QuoteWatch

GZIP_MAGIC = b"\x1f\x8b"
MAX_INFLATED_BYTES = 64 << 30
MAX_INFLATION_RATIO = 200
"""Text tables deflate by 5 to 30; deflate's own limit is 1032. Far above the first lies a bomb."""
FREE_INFLATED_BYTES = 64 << 20
"""Up to this size any ratio is harmless: a small file of one repeated line deflates very well."""


class InflatedFile(io.RawIOBase):
    """The inflated bytes of a gzip file; FileFault `gzip_bomb` beyond the bound, `unreadable` where it is damaged."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._stream = gzip.open(path, "rb")  # noqa: SIM115 - closed with this object
        self._name = path.name
        self._bound = min(MAX_INFLATED_BYTES, max(FREE_INFLATED_BYTES, path.stat().st_size * MAX_INFLATION_RATIO))
        self._inflated = 0

    def readable(self) -> bool:
        """Always: it is read from only."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill the buffer as `io.RawIOBase` does; see the class for its errors."""
        view = memoryview(cast(bytearray, buffer))
        try:
            data = self._stream.read(len(view))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileFault("unreadable", f"damaged gzip file: {error}", file=self._name) from error
        self._inflated += len(data)
        if self._inflated > self._bound:
            raise FileFault("gzip_bomb", f"inflates to more than {self._bound} bytes", file=self._name)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file below, too."""
        self._stream.close()
        super().close()


class CheckedText(io.RawIOBase):
    """The bytes of a text source, decoded on the side: bytes of another encoding raise UnicodeDecodeError.

    The CSV parser hands odd rows to a callback as text; bytes it cannot decode there would be lost without a word.

    Args:
        source: Closed by its owner.
        encoding: As Python names it.
        quotes: Marks what stands behind a closing quote; None = nothing is marked.
    """

    def __init__(self, source: BinaryIO, encoding: str, quotes: QuoteWatch | None = None) -> None:
        super().__init__()
        self._source = source
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._quotes = quotes
        self._left_over = b""

    def readable(self) -> bool:
        """Always: it is read from only."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill the buffer as `io.RawIOBase` does; see the class for its error."""
        view = memoryview(cast(bytearray, buffer))
        data = self._left_over
        if not data:
            data = self._source.read(len(view))
            self._decoder.decode(data, final=not data)
            if self._quotes is not None:
                data = self._quotes.marked(data)
        self._left_over = data[len(view) :]
        data = data[: len(view)]
        view[: len(data)] = data
        return len(data)


def is_gzip(path: Path) -> bool:
    """Whether the file starts as gzip files do; its name does not matter."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def open_bytes(path: Path) -> BinaryIO:
    """The file's content, inflated where it is gzip.

    Raises:
        FileFault: While reading: `unreadable` (damaged gzip) or `gzip_bomb`.
    """
    if is_gzip(path):
        return io.BufferedReader(InflatedFile(path), 1 << 20)
    return path.open("rb")


def inflate_to_temporary(path: Path) -> IO[bytes]:
    """The content of a gzip file as an unnamed temporary file, for formats that are read back to front."""
    target = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with open_bytes(path) as source:
        shutil.copyfileobj(source, target, 1 << 20)
    target.seek(0)
    return target
