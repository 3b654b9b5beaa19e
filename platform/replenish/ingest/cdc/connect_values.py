"""Values of Kafka Connect's JSON as a source would write them: times, dates and decimals by the schema beside them.

Without a schema nothing tells a day number from a quantity: then values stay as they are, and the feed's rules
(`days_since`, `formats`) say how to read them.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from replenish.errors import EventFault

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 a local time without zone is what such a column holds
_DAY = date(1970, 1, 1)
_MAX_SCALE = 100
"""No database keeps more digits behind the point; more would only cost memory."""


def readable_row(row: dict[str, Any], schema: object, side: str) -> dict[str, Any]:
    """The row's values by the envelope schema's field `side`; unchanged where there is no schema.

    Raises:
        EventFault: `bad_envelope`: a value is not what its schema says.
    """
    types = _field_types(schema, side)
    if not types:
        return row
    return {name: _readable(name, value, types.get(name)) for name, value in row.items()}


def _field_types(schema: object, side: str) -> dict[str, dict[str, Any]]:
    """Column name to its schema, of the fields of `before` or `after`."""
    for field in _fields(schema):
        if field.get("field") == side:
            return {str(column.get("field")): column for column in _fields(field)}
    return {}


def _fields(schema: object) -> list[dict[str, Any]]:
    fields = schema.get("fields") if isinstance(schema, dict) else None
    return [field for field in fields if isinstance(field, dict)] if isinstance(fields, list) else []


def _readable(name: str, value: Any, schema: dict[str, Any] | None) -> Any:
    if value is None or schema is None:
        return value
    read = _READERS.get(str(schema.get("name")))
    if read is None:
        return value
    try:
        return read(value, schema)
    except (ValueError, TypeError, KeyError, OverflowError, Base64Error, ArithmeticError):
        raise EventFault("bad_envelope", f"the value is a {schema['name']}", field=name) from None


def _local(value: Any, unit: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    micros = {"ms": value * 1000, "us": value, "ns": value // 1000}[unit]
    return (_EPOCH + timedelta(microseconds=micros)).isoformat()


def _day(value: Any, schema: dict[str, Any]) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return (_DAY + timedelta(days=value)).isoformat()


def _decimal(value: Any, schema: dict[str, Any]) -> str:
    if isinstance(value, dict):
        return _unscaled(value["value"], int(value["scale"]))
    return _unscaled(value, int(schema["parameters"]["scale"]))


def _unscaled(text: str, scale: int) -> str:
    if not 0 <= scale <= _MAX_SCALE or len(text) > _MAX_SCALE * 4:
        raise ValueError(scale)
    number = int.from_bytes(b64decode(text, validate=True), "big", signed=True)
    digits = tuple(int(digit) for digit in str(abs(number)))
    # From its digits: arithmetic would round to the precision of the context.
    return f"{Decimal((int(number < 0), digits, -scale)):f}"


_READERS: dict[str, Callable[[Any, dict[str, Any]], str]] = {
    "io.debezium.time.Timestamp": lambda value, _: _local(value, "ms"),
    "io.debezium.time.MicroTimestamp": lambda value, _: _local(value, "us"),
    "io.debezium.time.NanoTimestamp": lambda value, _: _local(value, "ns"),
    "org.apache.kafka.connect.data.Timestamp": lambda value, _: _local(value, "ms"),
    "io.debezium.time.Date": _day,
    "org.apache.kafka.connect.data.Date": _day,
    "org.apache.kafka.connect.data.Decimal": _decimal,
    "io.debezium.data.VariableScaleDecimal": _decimal,
}
