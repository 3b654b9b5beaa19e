"""Vectors that were served, sampled and kept, so that a reconciliation can compute them again and compare.

    <folder>/<day of serving, UTC>.jsonl    one `ServedVector` a line, appended

A line says all that is needed to ask the offline evaluator the same: set, key, `as_of`, the place of the log up to
which postings counted, and which code and definitions answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from replenish.features.definitions.model import FeatureSet, feature_type
from replenish.features.online.postings import Plain, instant_of_us
from replenish.features.online.twin_plan import FeatureVector


class ServedVector(msgspec.Struct, frozen=True):
    """One answer as it was given."""

    feature_set: str
    version: str
    """Of the set."""
    feature_set_id: str
    code_digest: str
    """Of the code between the log and the answer."""
    key: tuple[str | int, ...]
    """In the order of the set's entity columns."""
    as_of: datetime
    seq: int
    """Place of the log: records up to here counted."""
    served_at: datetime
    values: dict[str, str | int | float | bool | None]
    """By feature; instants and days as ISO text."""
    versions: dict[str, str]
    """Of the package and of the contracts that the set reads, by name."""


class ServedLog:
    """Appends every nth answer of a set to the file of its day.

    Args:
        folder: Made where it is missing.
        every: 1 keeps all answers, 100 every hundredth, beginning with the first; 0 none.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder, every
        self._n_served = 0
        self._day: date | None = None
        self._file: BinaryIO | None = None
        self._encode = msgspec.json.Encoder().encode

    def is_wanted(self) -> bool:
        """Count an answer; whether it is one to keep."""
        if not self._every:
            return False
        self._n_served += 1
        return (self._n_served - 1) % self._every == 0

    def keep(self, served: ServedVector) -> None:
        """Append an answer; a line is whole in the file when this returns, but not forced to disk."""
        day = served.served_at.astimezone(UTC).date()
        if self._file is None or day != self._day:
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file, self._day = _opened(self._folder / f"{day.isoformat()}.jsonl"), day
        self._file.write(self._encode(served) + b"\n")

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_served(folder: Path, days: tuple[date, date] | None = None) -> Iterator[ServedVector]:
    """What was kept, oldest first; a last line that was cut off is left out.

    Args:
        folder: Of a set.
        days: First and last day of serving (UTC) whose files are read; None = all.
    """
    decoder = msgspec.json.Decoder(ServedVector)
    for path in sorted(folder.glob("*.jsonl")):
        if days is not None and not days[0] <= date.fromisoformat(path.stem) <= days[1]:
            continue
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and line.strip():
                    yield decoder.decode(line)


def told_values(feature_set: FeatureSet, vector: FeatureVector) -> Mapping[str, Plain]:
    """A vector by name of feature, instants and days as ISO text."""
    pairs = zip(feature_set.features, vector, strict=True)
    return {feature.name: _told(value, feature_type(feature_set, feature)) for feature, value in pairs}


def _told(value: Plain, type_name: str) -> Plain:
    if isinstance(value, int) and type_name == "timestamp":
        return instant_of_us(value).isoformat()
    if isinstance(value, int) and type_name == "date":
        return date.fromordinal(date(1970, 1, 1).toordinal() + value).isoformat()
    return value


def _opened(path: Path) -> BinaryIO:
    """The file to append to; a line that a killed process left half is cut off, so that it spoils no other."""
    file = path.open("ab", buffering=0)
    if file.tell():
        whole = path.read_bytes()
        file.truncate(whole.rfind(b"\n") + 1)
    return file
