"""Quotes of delimited text: what stands behind a closing quote is marked, for the parser joins it to the value."""

from __future__ import annotations

import numpy as np
import polars as pl

MARK = "\x01\x02\x01"
"""Stands behind a closing quote that does not end its field; control characters in a row that nobody sends."""
_LINE_ENDS = b"\r\n"


class QuoteWatch:
    """Follows the quotes of a text source piece by piece: `"A"x` is no value, though parsers read it as `Ax`.

    A quote opens a field where it is the field's first character, and is text elsewhere in a field without quotes.

    Args:
        quote: The quote character, of one byte.
        separator: The separator of fields, of one byte.
    """

    def __init__(self, quote: str, separator: str) -> None:
        self._quote = quote.encode()
        self._ends = separator.encode() + _LINE_ENDS
        self._is_end = np.isin(np.arange(256), np.frombuffer(self._ends + self._quote, np.uint8))
        self._before = b"\n"
        self._is_inside = False
        self._is_open_ended = False
        self.n_marked = 0
        """Marks set so far."""

    def marked(self, data: bytes) -> bytes:
        """The next piece of the source, with the marks."""
        if not data or (self._quote not in data and not self._is_open_ended):
            self._before = data[-1:] or self._before
            return data
        places = [] if self._is_sound(data) else self._misplaced(data)
        self._before = data[-1:]
        self.n_marked += len(places)
        ends = [*places, len(data)]
        starts = [0, *places]
        return MARK.encode().join(data[start:end] for start, end in zip(starts, ends, strict=True))

    def _is_sound(self, data: bytes) -> bool:
        """Whether every quote opens or closes a field or stands beside another; then the state moves on.

        Quotes of sound text open and close in turn, those of a pair within a field, too. Pieces where this fails are
        followed quote by quote.
        """
        if self._is_open_ended or data.endswith(self._quote):
            return False
        text = np.frombuffer(self._before + data, np.uint8)
        places = np.flatnonzero(text[1:] == self._quote[0]) + 1
        opening, closing = places[int(self._is_inside) :: 2], places[1 - int(self._is_inside) :: 2]
        if not (self._is_end[text[opening - 1]].all() and self._is_end[text[closing + 1]].all()):
            return False
        self._is_inside ^= bool(len(places) % 2)
        return True

    def _misplaced(self, data: bytes) -> list[int]:
        """Where something stands behind a closing quote."""
        found: list[int] = []
        start = self._resume(data, found)
        place = data.find(self._quote, start)
        while place >= 0:
            behind = place + 1
            if not self._is_inside:
                before = data[place - 1 : place] if place else self._before
                self._is_inside = before in self._ends
            elif behind == len(data):
                self._is_open_ended = True
                break
            elif data[behind : behind + 1] == self._quote:
                behind += 1
            else:
                self._close(data, behind, found)
            place = data.find(self._quote, behind)
        return found

    def _resume(self, data: bytes, found: list[int]) -> int:
        """Settle a quote that ended the last piece; where to go on."""
        if not self._is_open_ended:
            return 0
        self._is_open_ended = False
        if data.startswith(self._quote):
            return 1
        self._close(data, 0, found)
        return 0

    def _close(self, data: bytes, behind: int, found: list[int]) -> None:
        self._is_inside = False
        if data[behind : behind + 1] not in self._ends:
            found.append(behind)


def has_mark(frame: pl.DataFrame) -> pl.Series:
    """Whether a row of text columns holds a mark."""
    return frame.select(pl.any_horizontal(pl.all().str.contains(MARK, literal=True)).alias("has_mark")).to_series()
