"""Terms of the feature query: the few shapes of sqlglot's tree it is made of, each of one meaning in all engines.

Names and texts enter as identifiers and literals of the tree, never as text, so sqlglot quotes them for the engine that
the tree is written for. Instants are whole microseconds and dates whole days since 1970-01-01 UTC: integers compare,
add and sort alike everywhere, while timestamps follow an engine's session zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlglot import exp

SqlTerm = exp.Expr
"""A node of a query's tree."""

DAY_MICROSECONDS = 86_400_000_000
_EPOCH = "1970-01-01"
_SHIFT_DAYS = 4_000_000
"""Makes every date of four-digit years positive before a division: engines round negative ones differently."""


def sql_column(name: str, table: str | None = None) -> SqlTerm:
    """A column, of one of several tables where `table` is named."""
    return exp.column(exp.to_identifier(name, quoted=True), table=exp.to_identifier(table, quoted=True))


def sql_columns(names: Iterable[str], table: str | None = None) -> list[SqlTerm]:
    """Several columns of one table."""
    return [sql_column(name, table) for name in names]


def sql_table(name: str, alias: str | None = None) -> exp.Table:
    """A table, view or earlier step."""
    alias_of = None if alias is None else exp.TableAlias(this=exp.to_identifier(alias, quoted=True))
    return exp.Table(this=exp.to_identifier(name, quoted=True), alias=alias_of)


def named(term: SqlTerm, name: str) -> SqlTerm:
    """A term under a name in a select list."""
    return exp.alias_(term, exp.to_identifier(name, quoted=True))


def sql_literal(value: str | int | bool | None) -> SqlTerm:
    """A constant."""
    if value is None:
        return exp.Null()
    if isinstance(value, bool):
        return exp.true() if value else exp.false()
    if isinstance(value, int):
        number = exp.Literal.number(abs(value))
        return exp.Neg(this=number) if value < 0 else number
    return exp.Literal.string(value)


def as_integer(term: SqlTerm) -> SqlTerm:
    """A term in 64 bits; an error of the engine where it does not fit."""
    return exp.cast(term, "BIGINT")


def as_wide(term: SqlTerm) -> SqlTerm:
    """A term with 38 digits, for squares and their sums."""
    return exp.cast(term, "DECIMAL(38, 0)")


def as_number(term: SqlTerm) -> SqlTerm:
    """A term as float64."""
    return exp.cast(term, "DOUBLE")


def microseconds(term: SqlTerm) -> SqlTerm:
    """A timestamp as microseconds since 1970-01-01 UTC."""
    return as_integer(exp.UnixMicros(this=term))


def day_number(term: SqlTerm) -> SqlTerm:
    """A date as days since 1970-01-01."""
    epoch = exp.cast(exp.Literal.string(_EPOCH), "DATE")
    return as_integer(exp.DateDiff(this=exp.cast(term, "DATE"), expression=epoch, unit=exp.var("DAY")))


def day_of_instant(instant: SqlTerm) -> SqlTerm:
    """The UTC day of an instant; both as integers."""
    shifted = plus(instant, sql_literal(_SHIFT_DAYS * DAY_MICROSECONDS))
    return minus(whole_part(shifted, DAY_MICROSECONDS), sql_literal(_SHIFT_DAYS))


def block_of_day(day: SqlTerm, width: int) -> SqlTerm:
    """Number of the block of `width` days that a day lies in."""
    return whole_part(plus(day, sql_literal(_SHIFT_DAYS)), width)


def whole_part(term: SqlTerm, divisor: int) -> SqlTerm:
    """Whole number of times that `divisor` fits into a term >= 0."""
    return as_integer(exp.IntDiv(this=exp.paren(term), expression=sql_literal(divisor)))


def plus(left: SqlTerm, right: SqlTerm) -> SqlTerm:
    """Left + right."""
    return exp.Add(this=left, expression=exp.paren(right))


def minus(left: SqlTerm, right: SqlTerm) -> SqlTerm:
    """Left - right."""
    return exp.Sub(this=left, expression=exp.paren(right))


def times(left: SqlTerm, right: SqlTerm) -> SqlTerm:
    """Left * right."""
    return exp.Mul(this=exp.paren(left), expression=exp.paren(right))


def over(numerator: SqlTerm, denominator: SqlTerm) -> SqlTerm:
    """Quotient of two terms as float64; null where either is null or the denominator is 0."""
    below = exp.Nullif(this=as_number(denominator), expression=as_number(sql_literal(0)))
    return exp.Div(this=as_number(numerator), expression=below)


def null_safe_equal(left: SqlTerm, right: SqlTerm) -> SqlTerm:
    """Equality in which two nulls are equal; engines hash it like a plain one."""
    return exp.NullSafeEQ(this=left, expression=right)


def same_columns(names: Iterable[str], left: str, right: str) -> list[SqlTerm]:
    """Conditions that two tables agree in some columns."""
    return [null_safe_equal(sql_column(name, left), sql_column(name, right)) for name in names]


def is_null(term: SqlTerm) -> SqlTerm:
    """Whether a term is null."""
    return exp.Is(this=term, expression=exp.Null())


def is_between(term: SqlTerm, low: SqlTerm, high: SqlTerm) -> SqlTerm:
    """Low <= term <= high."""
    return exp.Between(this=term, low=low, high=high)


def when(condition: SqlTerm, value: SqlTerm, otherwise: SqlTerm | None = None) -> SqlTerm:
    """`value` where the condition holds, else `otherwise` (null)."""
    return exp.case().when(condition, value).else_(exp.Null() if otherwise is None else otherwise)


def or_zero(term: SqlTerm) -> SqlTerm:
    """A term, 0 where it is null."""
    return exp.Coalesce(this=term, expressions=[sql_literal(0)])


def later_of(left: SqlTerm, right: SqlTerm) -> SqlTerm:
    """The greater of two terms; the other one where one is null."""
    return exp.Coalesce(this=when(exp.GT(this=left, expression=right), left, right), expressions=[left.copy()])


def earlier_of(left: SqlTerm, right: SqlTerm) -> SqlTerm:
    """The smaller of two terms; the other one where one is null."""
    return exp.Coalesce(this=when(exp.LT(this=left, expression=right), left, right), expressions=[left.copy()])


def in_order(terms: Iterable[SqlTerm]) -> exp.Order:
    """Ascending by several terms, nulls first: where engines differ unless told."""
    return exp.Order(expressions=[exp.Ordered(this=term, desc=False, nulls_first=True) for term in terms])


def windowed(
    function: SqlTerm, by: Sequence[SqlTerm], order: Sequence[SqlTerm] = (), *, running: bool = False
) -> SqlTerm:
    """A window function over the rows of one `by`; `running`: over those up to the row itself."""
    spec = exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW")
    return exp.Window(
        this=function,
        partition_by=[term.copy() for term in by],
        order=in_order(term.copy() for term in order) if order else None,
        spec=spec if running else None,
    )


def all_of(conditions: Iterable[SqlTerm]) -> SqlTerm:
    """All conditions hold; true where there is none."""
    return exp.and_(exp.true(), *conditions)


class QuerySteps:
    """Named steps of a query in the order in which each may read those before it."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, exp.Query]] = []

    def add(self, name: str, query: exp.Query) -> str:
        """Add a step; its name, to select from."""
        self._steps.append((name, query))
        return name

    def before(self, query: exp.Select) -> exp.Select:
        """`query` with all steps before it."""
        for name, step in self._steps:
            query = query.with_(exp.to_identifier(name, quoted=True), as_=step, copy=False)
        return query
