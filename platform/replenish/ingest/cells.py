"""Source cells as typed values: text to numbers, flags and instants, exactly, a column at a time.

Every function takes a whole column and returns one of equal length; null where there was nothing or nothing readable.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import polars as pl

from replenish.contracts.dataset import FileFormat

DECIMAL = pl.Decimal(38, 6)
"""Six digits behind the point: a price in thousandths of a cent; 38 digits in all is what 128 bits hold."""
MAX_INTEGER = 10**12
MAX_FACTOR_OPERAND = Decimal(MAX_INTEGER)
"""Above this a product could leave 128 bits; no real quantity or price comes near it."""

_MAX_DIGITS = 12
_WITH_EXPONENT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]{1,9}")

_FLAGS = {
    "1": True, "true": True, "t": True, "yes": True, "y": True,
    "0": False, "false": False, "f": False, "no": False, "n": False,
}  # fmt: skip


def text_of(column: pl.Series, null_values: tuple[str, ...], transforms: tuple[str, ...] = ()) -> pl.Series:
    """The column as text; `null_values` become null before the transforms `strip`, `upper` and `lower`, in order."""
    text = column if column.dtype == pl.String() else column.cast(pl.String())
    if null_values:
        is_null_word = text.is_in(list(null_values))
        if is_null_word.any():
            text = _where(is_null_word, None, text)
    for transform in transforms:
        if transform == "strip":
            text = text.str.strip_chars()
        elif transform == "upper":
            text = text.str.to_uppercase()
        elif transform == "lower":
            text = text.str.to_lowercase()
    return text


def typed_text(column: pl.Series, transforms: tuple[str, ...]) -> pl.Series:
    """A column of another type as text; NaN, which stands for nothing in columns of floats, and infinities are null."""
    if column.dtype.is_float():
        column = column.set(~column.is_finite().fill_null(True), None)
    return text_of(column, (), transforms)


def decimals_of(column: pl.Series, file_format: FileFormat) -> pl.Series:
    """Numbers as exact decimals, `Decimal(38, 6)`; NaN, infinities and text that is no number are null."""
    if column.dtype != pl.String():
        if not column.dtype.is_numeric():
            # A flag, a date: that it could be counted does not make it a quantity.
            return pl.repeat(None, column.len(), dtype=DECIMAL, eager=True).alias(column.name)
        return column.cast(pl.Float64() if column.dtype.is_float() else column.dtype).cast(DECIMAL, strict=False)
    if not _is_plain(file_format):
        column = _plain_text(column, file_format)
    values = column.cast(DECIMAL, strict=False)
    return _retry(values, column, lambda text: _unsigned(text).cast(DECIMAL, strict=False))


def integers_of(column: pl.Series, file_format: FileFormat) -> pl.Series:
    """Whole numbers as Int64; `5.0` is whole, `5.5` and what lies beyond 10^12 are null: sums have to fit 64 bits."""
    if column.dtype.is_integer():
        values = column.cast(pl.Int64(), strict=False)
    elif column.dtype.is_numeric():
        # As it stands: behind six digits nothing would be left of the rest of 2.0000001.
        values = _whole(column)
    elif column.dtype != pl.String():
        values = column.clear(column.len()).cast(pl.Int64(), strict=False)
    elif not _is_plain(file_format):
        values = _whole_text(_plain_text(column, file_format), FileFormat())
    else:
        values = column.cast(pl.Int64(), strict=False)
        values = _retry(values, column, lambda text: _whole_text(text, file_format))
    lowest, highest = values.min(), values.max()
    if lowest is None or (lowest >= -MAX_INTEGER and highest <= MAX_INTEGER):  # type: ignore[operator]
        return values
    return values.set(~values.is_between(-MAX_INTEGER, MAX_INTEGER).fill_null(True), None)


def floats_of(column: pl.Series, file_format: FileFormat) -> pl.Series:
    """Numbers as Float64; NaN and infinities stay, for the contract to refuse."""
    if column.dtype != pl.String():
        number = column if column.dtype.is_numeric() else column.clear(column.len())
        return number.cast(pl.Float64(), strict=False)
    text = column if _is_plain(file_format) else _plain_text(column, file_format)
    return _retry(
        text.cast(pl.Float64(), strict=False), text, lambda t: t.str.strip_chars().cast(pl.Float64(), strict=False)
    )


def products_of(left: pl.Series, right: pl.Series | None, factor: float | None) -> pl.Series:
    """Decimals times decimals times a factor, exactly; null where an operand is, or lies beyond 10^12."""
    product = _bounded(left)
    if right is not None:
        product = (product * _bounded(right)).alias(left.name)
        product = _bounded(product)
    if factor is not None:
        product = product * Decimal(str(factor))
    return product


def rounded(values: pl.Series) -> pl.Series:
    """Decimals as Int64, rounded half to even; null where they do not fit."""
    return values.round(0, mode="half_to_even").cast(pl.Int64(), strict=False)


def flags_of(column: pl.Series) -> pl.Series:
    """Booleans of `1 0 true false t f yes no y n` in any case, or of the numbers 1 and 0."""
    if column.dtype == pl.Boolean():
        return column
    text = column
    if column.dtype != pl.String():
        # No flag is the half of one, nor a date.
        text = (integers_of(column, FileFormat()) if column.dtype.is_numeric() else column.clear(column.len())).cast(
            pl.String()
        )
    return text.str.strip_chars().str.to_lowercase().replace_strict(_FLAGS, default=None, return_dtype=pl.Boolean())


def _whole(values: pl.Series) -> pl.Series:
    return _where(values == values.round(0), values, None).cast(pl.Int64(), strict=False)


def _whole_text(text: pl.Series, file_format: FileFormat) -> pl.Series:
    """Whole numbers of texts; 2.0000001 and 1e-7 are none, though nothing is left of them behind six digits."""
    has_rest = text.str.contains(r"\.\d*[1-9]")
    has_power = text.str.contains("[eE]").fill_null(False)
    values = _whole(decimals_of(text.set((has_rest | has_power).fill_null(False), None), file_format))
    powers = has_power.arg_true()
    if powers.is_empty():
        return values
    exact = pl.Series([_exact_whole(given) for given in text.gather(powers).to_list()], dtype=pl.Int64())
    return values.scatter(powers, exact)


def _exact_whole(text: str) -> int | None:
    """The whole number that a text with an exponent is; a float would take 4.9999999999999999999e0 for 5."""
    try:
        number = Decimal(text) if _WITH_EXPONENT.fullmatch(text.strip()) else None
    except InvalidOperation:
        return None
    # Digits first: 1e999999999 as a whole number would fill the memory.
    if number is None or number.adjusted() > _MAX_DIGITS or number != number.to_integral_value():
        return None
    return int(number)


def _unsigned(text: pl.Series) -> pl.Series:
    """Without blanks around and a plus sign in front of a digit; +-5 is no number."""
    return text.str.strip_chars().str.replace(r"^\+([0-9.])", "$1")


def _bounded(values: pl.Series) -> pl.Series:
    return _where(values.abs() <= MAX_FACTOR_OPERAND, values, None)


def _is_plain(file_format: FileFormat) -> bool:
    return file_format.decimal == "." and file_format.thousands is None


def _plain_text(text: pl.Series, file_format: FileFormat) -> pl.Series:
    if file_format.thousands is not None:
        sign, point = re.escape(file_format.thousands), re.escape(file_format.decimal)
        # 12.50 where a point parts thousands is not 1250: such a cell is unreadable, never a hundred times too large.
        parted = text.str.contains(rf"^\s*[+-]?\d{{1,3}}({sign}\d{{2,3}})*{sign}\d{{3}}({point}\d*)?\s*$")
        odd = (text.str.contains(file_format.thousands, literal=True) & ~parted).fill_null(False)
        text = text.set(odd, "?").str.replace_all(file_format.thousands, "", literal=True)
    elif file_format.decimal != ".":
        # Without a declared thousands sign a point is no part of a number here.
        text = text.str.replace_all(".", "?", literal=True)
    return text.str.replace(file_format.decimal, ".", literal=True) if file_format.decimal != "." else text


def _retry(values: pl.Series, text: pl.Series, slower: object) -> pl.Series:
    """The slower reading for the few cells that the fast one could not read."""
    failed = (values.is_null() & text.is_not_null()).arg_true()
    if failed.is_empty():
        return values
    again: pl.Series = slower(text.gather(failed))  # type: ignore[operator]
    return values.scatter(failed, again)


def _where(condition: pl.Series, then: pl.Series | None, otherwise: pl.Series | None) -> pl.Series:
    name = (then if then is not None else otherwise).name  # type: ignore[union-attr]
    return pl.select(
        pl.when(condition)
        .then(pl.lit(None) if then is None else then)
        .otherwise(pl.lit(None) if otherwise is None else otherwise)
        .alias(name)
    ).to_series()
