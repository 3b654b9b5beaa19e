"""A contract as msgspec structs: single events are checked by them in C, one struct for upserts and one for deletes.

Stricter than the row checks of files where JSON has types: a number is a JSON number (a whole one may read `5.0`), a
flag is `true` or `false`, a time is RFC 3339 with an offset. A key `knowledge_time` may say when the fact became known.
An empty text counts as absent, as in files.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from replenish.contracts.model import Column, Contract
from replenish.errors import EventFault

KNOWLEDGE_TIME = "knowledge_time"
MAX_WHOLE_NUMBER = 10**12
"""As for cells of files: sums have to fit 64 bits."""
FIRST_TIME = datetime(1900, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(2200, 1, 1, tzinfo=UTC)
MAX_CLOCK_SKEW = timedelta(minutes=5)
PLANNED_TIMES = ("valid_from",)
"""Event times that say from when something holds: they may lie ahead, as planned prices do."""

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool}
_UNREADABLE = {
    "integer": ("not_a_number", "an integer"),
    "number": ("not_a_number", "a number"),
    "timestamp": ("bad_time", "a timestamp"),
    "date": ("bad_time", "a date"),
    "boolean": ("not_a_flag", "a boolean"),
    "string": ("not_text", "a string"),
}


@dataclass(frozen=True, eq=False)
class EventStruct:
    """The compiled shape of one contract's events, for one kind of operation; one object per contract and kind."""

    contract: Contract
    columns: tuple[Column, ...]
    """What an event of this kind is read for: all columns, or for a delete those that name the fact."""
    struct: type[msgspec.Struct]
    times: tuple[str, ...]
    """Fields that are instants; each has to lie in our days."""
    present: tuple[str, ...]
    """Fields among them that must not lie ahead of the clock."""

    def read(self, value: dict[str, Any], now: datetime, body: bytes | None = None) -> msgspec.Struct:
        """The event's fields, typed; what the contract does not know is left aside.

        Args:
            value: The event.
            now: Arrival.
            body: The JSON that `value` was read from, where a number may have lost digits on the way.

        Raises:
            EventFault: The first rule that is broken, in the order of the contract's columns.
        """
        try:
            event = msgspec.convert(value, self.struct)
        except msgspec.ValidationError:
            event = self._read_slowly(value, body)
        latest = now + MAX_CLOCK_SKEW
        for name in self.times:
            instant = getattr(event, name)
            if instant is not None and not FIRST_TIME <= instant <= latest:
                self._check_time(name, instant, latest)
        return event

    def _check_time(self, name: str, instant: datetime, latest: datetime) -> None:
        if not FIRST_TIME <= instant <= LAST_TIME:
            raise EventFault("bad_time", f"{name} lies between 1900 and 2200", field=name)
        if instant > latest and name in self.present:
            raise EventFault("clock_skew", f"{name} lies at most 5 minutes ahead", field=name)

    def _read_slowly(self, value: dict[str, Any], body: bytes | None) -> msgspec.Struct:
        """The same, a column at a time: says what is wrong, and takes `5.0` for the whole number it is."""
        mended = dict(value)
        for column in self.columns:
            given = value.get(column.name)
            if given is None or (given == "" and column.logical_type == "string"):
                mended.pop(column.name, None)
                if column.is_required:
                    raise EventFault("missing_required", f"{column.name} is required", field=column.name)
                continue
            if column.logical_type == "integer" and isinstance(given, float) and _is_whole(given, column.name, body):
                mended[column.name] = int(given)
            _check_value(mended[column.name], column)
        known = mended.get(KNOWLEDGE_TIME)
        if known is not None and KNOWLEDGE_TIME not in self.contract.names:
            _check_value(known, _KNOWLEDGE_COLUMN)
        return msgspec.convert(mended, self.struct)


_KNOWLEDGE_COLUMN = Column(KNOWLEDGE_TIME, "timestamp", "When it became known.")


@lru_cache(maxsize=256)
def event_struct(contract: Contract, *, is_delete: bool = False) -> EventStruct:
    """The struct of a contract's events; a delete names its fact, and whatever else it carries is not read."""
    columns = contract.columns
    if is_delete:
        columns = tuple(c for c in columns if c.name in contract.fact_key or c.name == contract.event_time)
        # A delete often knows the key alone; the time of the fact then is known from the fact.
        columns = tuple(c if c.name in contract.fact_key else _optional(c) for c in columns)
    has_own = KNOWLEDGE_TIME in {c.name for c in columns}
    read = columns if has_own else (*columns, _KNOWLEDGE_COLUMN)
    fields: list[Any] = [(c.name, _annotated(c)) for c in read if c.is_required]
    fields += [(c.name, _annotated(c) | None, None) for c in read if not c.is_required]
    struct = msgspec.defstruct(f"{contract.stream.title()}Event", fields, gc=False, kw_only=True)
    may_lie_ahead = contract.is_reference or contract.event_time in PLANNED_TIMES
    return EventStruct(
        contract=contract,
        columns=columns,
        struct=struct,
        times=tuple(c.name for c in read if c.logical_type == "timestamp"),
        present=(KNOWLEDGE_TIME,) if may_lie_ahead else (KNOWLEDGE_TIME, contract.event_time),
    )


def _is_whole(given: float, name: str, body: bytes | None) -> bool:
    """Whether the number is whole as it was written, too: a float takes 4.9999999999999999999 for 5."""
    if not given.is_integer() or body is None:
        return given.is_integer()
    try:
        return Decimal(bytes(_raw_fields(body)[name]).decode()) == int(given)
    except InvalidOperation:
        return False


def _optional(column: Column) -> Column:
    return Column(column.name, column.logical_type, column.description)


def _annotated(column: Column) -> Any:
    """The msgspec type of a present value, with the column's rules."""
    kind = column.logical_type
    if kind == "timestamp":
        return Annotated[datetime, Meta(tz=True)]
    if kind == "date":
        return date
    if kind == "integer":
        lowest, highest = _whole_bounds(column)
        return Annotated[int, Meta(ge=lowest, le=highest)]
    if kind == "number":
        return Annotated[float, Meta(ge=column.minimum, le=column.maximum)]
    if kind == "string":
        if column.allowed:
            return Literal[_allowed_texts(column)]
        # An optional empty text is null: it has no length, and no pattern to match.
        pattern = None if column.pattern is None else whole_pattern(column.pattern)
        return Annotated[str, Meta(min_length=1, pattern=pattern)]
    return _TYPES[kind]


def _whole_bounds(column: Column) -> tuple[int, int]:
    lowest = -MAX_WHOLE_NUMBER if column.minimum is None else math.ceil(column.minimum)
    highest = MAX_WHOLE_NUMBER if column.maximum is None else math.floor(column.maximum)
    return max(lowest, -MAX_WHOLE_NUMBER), min(highest, MAX_WHOLE_NUMBER)


def whole_pattern(pattern: str) -> str:
    """A contract's pattern as one to search for that only matches a whole text."""
    # \Z: Python's $ also matches before a line end at the end of the text, that of the row checks does not.
    return rf"^(?:{pattern})\Z"


def _allowed_texts(column: Column) -> tuple[str, ...]:
    if column.pattern is None:
        return column.allowed
    return tuple(text for text in column.allowed if re.search(whole_pattern(column.pattern), text))


def _check_value(value: Any, column: Column) -> None:
    """Which rule of its column a present value breaks, if any.

    msgspec says what is wrong in words; they map to the reasons of the row checks:
    `Expected X, got Y` and unreadable times: `not_a_number`, `bad_time`, `not_a_flag`, `not_text` by the column's type;
    `timezone component`: `naive_time`; `matching regex`: `pattern_mismatch`; `Invalid enum value`: `not_allowed`;
    `>=` and `<=`: `below_minimum` and `above_maximum`, or `out_of_range` where the contract sets no bound.
    """
    name = column.name
    try:
        msgspec.convert(value, _annotated(column))
    except msgspec.ValidationError as error:
        text = str(error)
    else:
        return
    reason, kind = _UNREADABLE[column.logical_type]
    if "timezone component" in text:
        raise EventFault("naive_time", f"{name} has an offset from UTC", field=name)
    if "matching regex" in text:
        raise EventFault("pattern_mismatch", f"{name} matches {column.pattern}", field=name)
    if text.startswith("Invalid enum value"):
        raise EventFault("not_allowed", f"{name} is one of {', '.join(column.allowed)}", field=name)
    if text.startswith(("Expected `int` ", "Expected `float` ")):
        if "` >= " in text and column.minimum is not None and value < column.minimum:
            raise EventFault("below_minimum", f"{name} >= {column.minimum:g}", field=name)
        if "` <= " in text and column.maximum is not None and value > column.maximum:
            raise EventFault("above_maximum", f"{name} <= {column.maximum:g}", field=name)
        raise EventFault("out_of_range", f"{name} is at most {MAX_WHOLE_NUMBER:.0e}", field=name)
    raise EventFault(reason, f"{name} is {kind}", field=name)
