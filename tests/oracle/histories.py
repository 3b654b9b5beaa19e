"""Random histories of what sources said, with everything that makes known-at-the-time hard.

Late, corrected, retracted and retold facts, deliveries that come twice, event times that move, facts that move to
another entity, facts that are partly cancelled, facts known before they happen, records that arrive out of order, ties
of every kind, gaps, nulls, zeros and negative values, instants within a microsecond of a cut-off, and days on which
clocks change.

One set of drawing functions serves two sources of choices: `Seeded` draws thousands of histories fast, `strategy` lets
hypothesis draw and shrink them. Plain Python; frames are made in `frames`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests.oracle.known_at import DENOMINATORS, FACT_KINDS, WINDOWED, Feature, cutoff_instant

T = TypeVar("T")
Entity = tuple[str, str]
"""(sku_id, location_id)."""

MICROSECOND = timedelta(microseconds=1)
SPANS = (4, 10, 36)
"""Days around a clock change in which event times lie, crowded to sparse; knowledge and as-of reach further."""
CLOCK_CHANGES = (
    # Zone, date in the middle of a history, and the cut-off that is skipped or occurs twice on it.
    ("UTC", date(2025, 2, 10), time(12)),
    ("Europe/Berlin", date(2025, 3, 30), time(2, 30)),
    ("Europe/Berlin", date(2025, 10, 26), time(2, 30)),
    ("America/New_York", date(2025, 3, 9), time(2)),
    ("America/New_York", date(2025, 11, 2), time(1, 59)),
    ("Asia/Tokyo", date(2024, 2, 29), time(0)),
    ("Asia/Kolkata", date(2025, 1, 1), time(5, 30)),
    ("Australia/Lord_Howe", date(2025, 4, 6), time(1, 45)),
    ("Australia/Lord_Howe", date(2025, 10, 5), time(2, 15)),
    ("Africa/Cairo", date(2025, 4, 25), time(0)),
)
"""Zones without changes, with gaps and overlaps of an hour, of half an hour (Lord Howe), and at midnight (Cairo)."""
SHAPES = ("named", "roaming", "timed")
"""named: facts have an id within their entity. roaming: an id alone, so that a correction may name another entity.
timed: entity and event time are the fact key, as counts and prices have it."""


@dataclass(frozen=True)
class Setting:
    """What histories of one batch share."""

    zone: str
    feed_zone: str
    """Zone of event dates; where it is not `zone`, the dates of an event differ."""
    cutoff: time
    centre: date
    shape: str
    n_days: int = SPANS[0]
    kinds: tuple[str, ...] = FACT_KINDS
    """Posting kinds that the source takes; ledgers hold others too."""
    n_entity: int = 2
    """Columns of the entity: the article at a location (2), or the article at all of them (1)."""

    @property
    def first_day(self) -> date:
        return self.centre - timedelta(days=self.n_days // 2)

    def event_date(self, instant: datetime) -> date:
        return instant.astimezone(ZoneInfo(self.feed_zone)).date()


@dataclass(frozen=True)
class Statement:
    """One delivered record of a fact. Of a retraction only the fact counts."""

    fact: tuple[Any, ...]
    key: Entity
    event_time: datetime
    event_date: date
    knowledge_time: datetime
    arrival: int
    is_retraction: bool
    values: dict[str, Any]

    @property
    def content(self) -> tuple[object, ...]:
        return (self.key, self.event_time, *sorted(self.values.items()))


@dataclass(frozen=True)
class Cancellation:
    """Units taken back from a version of a fact, on its date, while that version stands; or a return by itself."""

    kind: str
    """`cancellation` or `return`."""
    fact: tuple[Any, ...]
    version_nr: int
    key: Entity
    event_time: datetime
    event_date: date
    knowledge_time: datetime
    taken_back: datetime | None
    """When it stopped counting: its sale was corrected or retracted, or the cancellation itself was."""
    values: dict[str, Any]

    def stands_at(self, as_of: datetime) -> bool:
        return self.knowledge_time <= as_of and (self.taken_back is None or as_of < self.taken_back)


@dataclass(frozen=True)
class History:
    """Statements, and the spine rows (entity, as_of) that are asked about; any order, repeats allowed."""

    statements: tuple[Statement, ...]
    spine: tuple[tuple[Entity, datetime], ...]
    cancellations: tuple[Cancellation, ...] = ()


class Chooser(Protocol):
    """A source of choices; small numbers are the simple ones."""

    def whole(self, low: int, high: int) -> int: ...


class Seeded:
    """Choices of a pseudo-random generator."""

    def __init__(self, seed: int) -> None:
        self._uniform = random.Random(seed).random

    def whole(self, low: int, high: int) -> int:
        return low + int(self._uniform() * (high - low + 1))


class Drawn:
    """Choices of hypothesis, which shrinks each one."""

    def __init__(self, draw: Callable[[st.SearchStrategy[int]], int]) -> None:
        self._draw = draw

    def whole(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))


def pick(chooser: Chooser, options: Sequence[T]) -> T:
    return options[chooser.whole(0, len(options) - 1)]


KINDS = (
    FACT_KINDS,
    (*FACT_KINDS, "cancellation"),
    (*FACT_KINDS, "cancellation"),
    (*FACT_KINDS, "cancellation", "return"),
    (*FACT_KINDS, "return"),
)


def draw_setting(chooser: Chooser) -> Setting:
    zone, centre, changing = pick(chooser, CLOCK_CHANGES)
    cutoff = pick(chooser, (time(6), time(0), time(23, 45), changing, changing, changing))
    feed_zone = pick(chooser, (zone, zone, "America/Los_Angeles", "Asia/Tokyo"))
    kinds = pick(chooser, KINDS)
    shape, n_days = pick(chooser, SHAPES), pick(chooser, SPANS)
    return Setting(zone, feed_zone, cutoff, centre, shape, n_days, kinds, pick(chooser, (2, 2, 1)))


MIXED_CENTS = (100, 1_000_001, 0, None, -1_000_000)
EVEN_CENTS = (1_000_000, 1_000_001, 999_999)
"""Large values that hardly differ: a deviation computed from means of squares in floating point loses its digits."""
LARGE_CENTS = (3_000_000_000, 0, 50_000_001, None, -400_000_000_000)
"""More than 32 bits hold; their squares are more than 64 bits hold."""


HUGE_CENTS = (2**52 + 1, 3, None, -(2**51), 1_000_001)
"""A damaged amount: a total above 2**50 among others that are sound."""


@dataclass
class _Pen:
    """A history being written: the instants used so far, so that later ones can tie with them."""

    chooser: Chooser
    setting: Setting
    number: int
    cents: tuple[int | None, ...]
    used: list[datetime] = field(default_factory=list)
    arrival: int = 0

    def instant(self, first: int, last: int) -> datetime:
        """An instant in days `first..last` of the setting; often one of those that rules turn on."""
        kind = self.chooser.whole(0, 9)
        if kind >= 8 and self.used:
            return pick(self.chooser, self.used)
        day = self.setting.first_day + timedelta(days=self.chooser.whole(first, last))
        if kind <= 3:
            found = datetime.combine(day, time(), UTC) + timedelta(hours=self.chooser.whole(0, 23))
        elif kind <= 5:
            found = cutoff_instant(day, self.setting.zone, self.setting.cutoff)
        else:
            found = cutoff_instant(day, self.setting.feed_zone, time())
        if kind > 3:
            found += pick(self.chooser, (0, 1, -1)) * MICROSECOND
        self.used.append(found)
        return found

    def entity(self) -> Entity:
        first, second, third, _ = entities(self.number)
        return pick(self.chooser, (first, first, first, second, second, third))

    def values(self) -> dict[str, Any]:
        units = pick(self.chooser, (1, 2, 3, 0, None, -1, -2, 12))
        channel = pick(self.chooser, ("shop", "web", "web", None))
        return {
            "units": units,
            "cents": pick(self.chooser, self.cents),
            "channel": channel,
            "is_promotion": pick(self.chooser, (False, True)),
        }

    def fact(self, entity: Entity, event_time: datetime, name: str) -> tuple[Any, ...]:
        """The key of a fact in the setting's shape."""
        name = f"{self.number}-{name}"
        shapes = {"named": (*entity, name), "roaming": (name,), "timed": (*entity, event_time)}
        return shapes[self.setting.shape]

    def state(
        self, fact: tuple[Any, ...], known: datetime, what: tuple[Entity, datetime, dict[str, Any]], is_out: bool
    ) -> Statement:
        entity, event_time, values = what
        self.arrival += 1
        event_date = self.setting.event_date(event_time)
        return Statement(fact, entity, event_time, event_date, known, self.arrival, is_out, values)


def entities(number: int) -> tuple[Entity, ...]:
    """Three that have facts and one that never occurs; they share parts of their keys."""
    a, b, c = (f"{name}{number}" for name in "abc")
    return ((a, "x"), (b, "x"), (a, "y"), (c, "x"))


def draw_history(chooser: Chooser, setting: Setting, number: int = 0) -> History:
    """A history; `number` keeps its entities and facts apart from those of others in one batch."""
    pen = _Pen(chooser, setting, number, pick(chooser, (MIXED_CENTS, EVEN_CENTS, LARGE_CENTS, HUGE_CENTS)))
    n_facts = chooser.whole(0, pick(chooser, (6, 20, 40)))
    statements = [said for nr in range(n_facts) for said in _fact(pen, nr)]
    cancellations = tuple(_cancellations(pen, statements))
    return History(tuple(statements), tuple(_spine(pen, statements)), cancellations)


def _fact(pen: _Pen, nr: int) -> list[Statement]:
    """All statements of one fact, in order of arrival."""
    chooser, shape = pen.chooser, pen.setting.shape
    entity, event_time = pen.entity(), pen.instant(0, pen.setting.n_days)
    known = _first_known(pen, event_time)
    fact = pen.fact(entity, event_time, str(nr % 20))
    what = (entity, event_time, pen.values())
    # A source may begin with a retraction of what it never told.
    told = [pen.state(fact, known, what, is_out=chooser.whole(0, 19) == 19)]
    for _ in range(pick(chooser, (0, 0, 0, 1, 1, 2, 3, 4))):
        known += _pause(chooser)
        change = chooser.whole(0, 9)
        if change <= 2:
            what = (what[0], what[1], pen.values())
        elif change <= 4 and shape != "timed":
            what = (what[0], pen.instant(0, pen.setting.n_days), what[2])
        elif change == 5 and shape == "roaming":
            what = (pen.entity(), what[1], what[2])
        told.append(pen.state(fact, known, what, is_out=change >= 8))
    return told


def _first_known(pen: _Pen, event_time: datetime) -> datetime:
    kind = pen.chooser.whole(0, 9)
    if kind <= 4:
        return event_time + timedelta(minutes=pen.chooser.whole(0, 600))
    if kind <= 7:
        return event_time + timedelta(days=pen.chooser.whole(0, 12), hours=3)
    if kind == 8:
        return event_time - timedelta(days=pen.chooser.whole(0, 20))
    return pen.instant(0, pen.setting.n_days)


def _pause(chooser: Chooser) -> timedelta:
    """Until the next record of a fact; none, and back in time for one that arrives out of order."""
    days = pick(chooser, (1, 0, 0, 2, 7, -1))
    return timedelta(days=days, hours=0 if days == 0 else chooser.whole(0, 12))


def _cancellations(pen: _Pen, statements: Sequence[Statement]) -> Iterator[Cancellation]:
    """Of some versions a part is cancelled while they stand; some returns find no sale, nor a day with one."""
    postings = postings_of(statements)
    ends = {(p["fact"], p["version_nr"]): p["knowledge_time"] for p in postings if p["posting_kind"] == "reversal"}
    for nr, sale in enumerate(postings):
        if sale["posting_kind"] == "reversal" or pen.chooser.whole(0, 5) < 5:
            continue
        kind = pick(pen.chooser, ("cancellation", "cancellation", "return"))
        sold = (sale["fact"], sale["version_nr"], sale["key"], sale["event_time"], sale["event_date"])
        known = sale["knowledge_time"] + timedelta(hours=pen.chooser.whole(0, 60))
        # A return finds no sale, so it stands whatever becomes of one.
        end = ends.get((sale["fact"], sale["version_nr"])) if kind == "cancellation" else None
        if end is not None and end <= known:
            continue
        if kind == "return" and pen.chooser.whole(0, 1):
            event_time = pen.instant(0, pen.setting.n_days)
            fact = pen.fact(sale["key"], event_time, f"r{nr}")
            sold = (fact, 1, sale["key"], event_time, pen.setting.event_date(event_time))
        if pen.chooser.whole(0, 3) == 3:
            retracted = known + timedelta(hours=pen.chooser.whole(0, 60))
            end = retracted if end is None else min(end, retracted)
        # Amounts differ from the sale's, and may stand where the sale says none.
        amounts = {"units": pick(pen.chooser, (1, 2, None)), "cents": pick(pen.chooser, (100, 1, None))}
        yield Cancellation(kind, *sold, knowledge_time=known, taken_back=end, values={**sale["values"], **amounts})


def _spine(pen: _Pen, statements: Sequence[Statement]) -> list[tuple[Entity, datetime]]:
    chooser = pen.chooser
    rows: list[tuple[Entity, datetime]] = []
    for _ in range(chooser.whole(1, 12)):
        entity = pick(chooser, entities(pen.number)) if chooser.whole(0, 9) == 9 else pen.entity()
        kind = chooser.whole(0, 9)
        if kind <= 3 or not statements:
            day, shift = pen.setting.centre, pick(chooser, (0, -1, 1_800_000_000, -1_800_000_000))
            if kind != 3:
                day, shift = pen.setting.first_day + timedelta(days=chooser.whole(0, pen.setting.n_days + 4)), 0
            as_of = cutoff_instant(day, pen.setting.zone, pen.setting.cutoff) + shift * MICROSECOND
        elif kind <= 5:
            as_of = pick(chooser, statements).knowledge_time + pick(chooser, (0, -1, 1)) * MICROSECOND
        elif kind <= 7:
            days = pick(chooser, TIMES_TO_LIVE[1:])
            as_of = pick(chooser, statements).event_time + timedelta(days=days or 0)
            as_of += pick(chooser, (0, -1, 1)) * MICROSECOND
        elif kind == 8 and rows:
            entity, as_of = pick(chooser, rows)
        else:
            as_of = pen.instant(0, pen.setting.n_days + 4)
        rows.append((entity, as_of))
    return rows


WINDOWS = (1, 2, 3, 7, 28)
OFFSETS = (0, 0, 1, 3, 7)
LAGS = (1, 2, 7, 14)
TIMES_TO_LIVE = (None, 1, 2, 3, 14)
WHERES: tuple[tuple[str, str | int | bool] | None, ...] = (
    *(None,) * 5,
    ("channel", "web"),
    ("channel", "shop"),
    ("is_promotion", True),
    # A sale and what is taken back of it differ in these: a total without facts.
    ("units", 1),
    ("cents", 100),
)


def draw_features(chooser: Chooser, n_each: int = 3) -> tuple[Feature, ...]:
    """Features of every aggregation with drawn parameters, and `n_each` ratios of two of them."""
    drawn: list[Feature] = []

    def where() -> tuple[str, str | int | bool] | None:
        return pick(chooser, WHERES)

    def value() -> str:
        return pick(chooser, ("units", "units", "cents", "cents", "is_promotion"))

    for nr in range(n_each):
        for kind in WINDOWED:
            measured = pick(chooser, (None, "units", "cents", "channel")) if kind == "count" else value()
            denominator = pick(chooser, DENOMINATORS) if kind in ("mean", "std") else "calendar"
            days, offset = pick(chooser, WINDOWS), pick(chooser, OFFSETS)
            drawn.append(Feature(f"{kind}_{nr}", kind, measured, days, offset, denominator=denominator, where=where()))
        denominator = pick(chooser, DENOMINATORS[:2])
        lag_days = pick(chooser, LAGS)
        drawn.append(Feature(f"lag_{nr}", "lag", value(), lag_days=lag_days, denominator=denominator, where=where()))
        drawn.append(Feature(f"days_since_{nr}", "days_since", value(), where=where()))
        drawn.append(Feature(f"days_since_first_{nr}", "days_since_first", value(), where=where()))
        column = pick(chooser, ("units", "cents", "channel", "is_promotion"))
        alive = pick(chooser, TIMES_TO_LIVE)
        drawn.append(Feature(f"last_{nr}", "last", column, time_to_live_days=alive, where=where()))
    numbers = [f.name for f in drawn if f.aggregation != "last" or f.value in ("units", "cents")]
    for nr in range(n_each):
        above, below = pick(chooser, numbers), pick(chooser, numbers)
        drawn.append(Feature(f"ratio_{nr}", "ratio", numerator=above, denominator_feature=below))
        numbers.append(f"ratio_{nr}")
    return tuple(drawn)


@st.composite
def cases(draw: Callable[..., Any], shape: str | None = None) -> tuple[Setting, tuple[Feature, ...], History]:
    """Hypothesis strategy: a setting, one of each kind of feature, and one history."""
    chooser = Drawn(draw)
    setting = draw_setting(chooser)
    if shape is not None:
        setting = replace(setting, shape=shape)
    return setting, draw_features(chooser, n_each=1), draw_history(chooser, setting)


def postings_of(statements: Sequence[Statement]) -> list[dict[str, Any]]:
    """Versions and reversals, by the rule of silver.

    Records of a fact in order of knowledge, then arrival. One that says what the one before it says brings nothing. Any
    other takes the version before it back, at its own knowledge time; unless it is a retraction, it adds a version.
    """
    postings = []
    for fact in dict.fromkeys(s.fact for s in statements):
        records = sorted((s for s in statements if s.fact == fact), key=lambda s: (s.knowledge_time, s.arrival))
        live: Statement | None = None
        version_nr = 0
        for record in records:
            if live is not None and not record.is_retraction and record.content == live.content:
                continue
            if live is not None:
                postings.append(_posting(live, "reversal", -1, version_nr, record.knowledge_time))
            live = None if record.is_retraction else record
            if live is not None:
                version_nr += 1
                postings.append(_posting(live, "version", 1, version_nr, record.knowledge_time))
    return postings


def ledger_of(history: History) -> list[dict[str, Any]]:
    """All postings of a history: versions and reversals, cancellations and returns, and what takes those back."""
    postings = postings_of(history.statements)
    for cancelled in history.cancellations:
        names = ("key", "fact", "event_date", "event_time", "version_nr", "values")
        row = {name: getattr(cancelled, name) for name in names} | {"posting_kind": cancelled.kind}
        postings.append(row | {"posting_sign": -1, "knowledge_time": cancelled.knowledge_time})
        if cancelled.taken_back is not None:
            postings.append(row | {"posting_sign": 1, "knowledge_time": cancelled.taken_back})
    return postings


def _posting(said: Statement, kind: str, sign: int, version_nr: int, known: datetime) -> dict[str, Any]:
    return {
        "key": said.key,
        "fact": said.fact,
        "event_date": said.event_date,
        "event_time": said.event_time,
        "knowledge_time": known,
        "posting_sign": sign,
        "posting_kind": kind,
        "version_nr": version_nr,
        "values": said.values,
    }
