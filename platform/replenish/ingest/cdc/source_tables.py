"""Source tables bound to feeds: which columns a feed reads, which ones name a fact, and a row's JSON body."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from replenish.contracts.dataset import Dataset, Feed, KnowledgeRule
from replenish.contracts.doors import PostgresSettings
from replenish.contracts.model import Contract
from replenish.errors import ContractError
from replenish.ingest.cdc.pgoutput import Cell, Relation, Unchanged
from replenish.ingest.events.declared_events import DeclaredFeedJudge
from replenish.ingest.mapping import FeedMapping

COMMIT_TIME = "__commit_time"
RESERVED = ("__op", "__table", COMMIT_TIME, "__lsn")
"""What a body tells beside the source's columns: operation (I U D T, or S of a snapshot), `schema.table`, the commit's
time (ISO 8601, UTC) and its position in the source's log. `__table` is always there, the others where the feed reads
them."""

Row = Mapping[str, str | None]


class Told(NamedTuple):
    """The reserved fields of a row: the end of its body, closing brace included, and their values as in `RESERVED`."""

    suffix: bytes
    values: list[Cell]


class ValueNotSent(ValueError):
    """A row holds a large value that the source did not send."""


def _refuse(value: object) -> object:
    if isinstance(value, Unchanged):
        raise ValueNotSent
    raise TypeError(type(value))


_encode = msgspec.json.Encoder(enc_hook=_refuse).encode


@dataclass(frozen=True)
class BoundTable:
    """A source table and the feed that takes its rows."""

    table: str
    """`schema.table`."""
    feed: Feed
    dataschema: str
    """`<stream>@<contract version>`."""
    judge: DeclaredFeedJudge
    needed: tuple[str, ...]
    """Source columns that the feed reads."""
    reserved: frozenset[str]
    """Of `RESERVED`, what bodies tell."""
    key_columns: tuple[str, ...]
    """Source columns that make the contract's fact key: a change of one of them is a new fact."""
    is_commit_time_an_instant: bool
    """Whether the feed reads `__commit_time` as the time a row became known, and as nothing else."""

    @property
    def is_known_by_commit(self) -> bool:
        """Whether versions of a row within one transaction become known at the same instant: then only its last is."""
        return self.feed.knowledge.source != "column" or self.feed.knowledge.column in RESERVED

    @property
    def removal_column(self) -> str | None:
        """The source's own column that says when a row became known: of a removed row it holds the commit's time."""
        name = self.feed.knowledge.column
        return None if name is None or name in RESERVED or name in self.key_columns else name

    def removal_text(self, commit_time: datetime) -> str:
        """What that column holds."""
        formats = self.feed.knowledge.formats
        return commit_time.strftime(formats[0]) if formats else commit_time.isoformat()


def bind_tables(
    settings: PostgresSettings, dataset: Dataset, contracts: Mapping[str, Contract], now: datetime
) -> dict[str, BoundTable]:
    """The tables of `doors.yaml` with their feeds, by `schema.table`.

    Raises:
        ContractError: A table's feed is not declared in the data set.
    """
    feeds = {feed.feed_id: feed for feed in dataset.feeds}
    bound = {}
    for table, feed_id in settings.tables.items():
        feed = feeds.get(feed_id)
        if feed is None:
            raise ContractError(
                f"postgres {settings.name}: {table}: declare feed {feed_id!r} in the data set, with `door: events` and "
                "a rule per column: a table's columns are the source's, not the contract's",
                feed=feed_id,
            )
        contract = contracts[feed.stream]
        mapping = FeedMapping(feed, contract, dataset, now)
        judge = DeclaredFeedJudge(feed, contract, dataset)
        needed = tuple(name for name in mapping.source_columns() if name not in RESERVED)
        reserved = frozenset(mapping.source_columns()) & frozenset(RESERVED) | {"__table"}
        bound[table] = BoundTable(
            table, feed, f"{feed.stream}@{contract.version}", judge, needed, reserved, _key_columns(mapping),
            _reads_instant(mapping),
        )  # fmt: skip
    return bound


def _reads_instant(mapping: FeedMapping) -> bool:
    rule = mapping.feed.knowledge
    others = replace(mapping, feed=replace(mapping.feed, knowledge=KnowledgeRule("arrival"))).source_columns()
    return rule.column == COMMIT_TIME and not rule.formats and COMMIT_TIME not in others


def _key_columns(mapping: FeedMapping) -> tuple[str, ...]:
    """What the rules of the fact key read."""
    feed = mapping.feed
    rules = {name: rule for name, rule in feed.columns.items() if name in mapping.contract.fact_key}
    bare = replace(feed, columns=rules, knowledge=KnowledgeRule("arrival"), exclude=(), retraction=None)
    names = replace(mapping, feed=replace(bare, cancellation=None)).source_columns()
    return tuple(name for name in names if name not in RESERVED)


class TableShape:
    """A bound table as one relation message describes it: what is missing, and how its rows become bodies."""

    def __init__(self, bound: BoundTable, relation: Relation) -> None:
        self.bound, self.relation = bound, relation
        self.is_known_by_commit = bound.is_known_by_commit
        self._names = relation.columns
        self._instant_places = relation.instant_places
        self.identity = [nr for nr, name in enumerate(relation.columns) if name in relation.identity_columns]
        key = bound.key_columns
        self.missing = tuple(name for name in (*bound.needed, *key) if name not in relation.columns)
        self.unidentified = tuple(name for name in key if name not in relation.identity_columns)
        """Columns of the fact key that an update or delete does not tell the old value of."""
        known = (*relation.columns, *bound.reserved)
        self.read_columns = tuple(name for name in (*bound.needed, *sorted(bound.reserved)) if name in known)
        """What the feed reads of a row and of what is told beside it."""
        places = [relation.columns.index(name) for name in key if name in relation.columns]
        self.key_of: Callable[[Sequence[Cell]], Any] = _key_reader(places)

    def read(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells with every instant's offset in full: PostgreSQL writes +00, which not every reader takes."""
        read = cells if isinstance(cells, list) else list(cells)
        for place in self._instant_places:
            cell = read[place]
            if isinstance(cell, str) and cell[-3:] == "+00":
                read[place] = cell + ":00"
        return read

    def told(self, op: str, commit_time: str, lsn: str) -> Told:
        """The reserved fields of all rows of one operation in one transaction."""
        values = dict(zip(RESERVED, (op, self.bound.table, commit_time, lsn), strict=True))
        suffix = b"," + _encode({n: value for n, value in values.items() if n in self.bound.reserved})[1:]
        return Told(suffix, list(values.values()))

    def body(self, cells: Sequence[Cell], suffix: bytes) -> bytes:
        """The row as a JSON object of text and null, in the source's column order; texts are PostgreSQL's own.

        Raises:
            ValueNotSent: A cell is UNCHANGED.
        """
        return _encode(dict(zip(self._names, cells)))[:-1] + suffix  # noqa: B905 the decoder has counted them

    def delete_body(self, cells: Sequence[Cell], suffix: bytes, commit_time: datetime, *, is_key: bool) -> bytes:
        """The removed row, as far as it is told. It became known as gone with the commit, whatever the row says."""
        places = self.identity if is_key else range(len(self._names))
        row = {self._names[nr]: cells[nr] for nr in places}
        return removed_body(row, self.bound, commit_time)[:-1] + suffix

    def not_sent(self, cells: Sequence[Cell]) -> list[str]:
        """Names of the columns whose value the source did not send."""
        return [name for name, cell in zip(self._names, cells, strict=True) if isinstance(cell, Unchanged)]


def _key_reader(places: list[int]) -> Callable[[Sequence[Cell]], Any]:
    """The cells at these places as a tuple; of one place too."""
    if len(places) > 1:
        return itemgetter(*places)
    # Without key columns every row is the same fact.
    return lambda cells: tuple(cells[place] for place in places)


def removed_body(row: Mapping[str, object], bound: BoundTable, commit_time: datetime) -> bytes:
    """A removed row as a JSON object whose knowledge column, where it is the source's own, holds the commit's time."""
    told = dict(row)
    if bound.removal_column is not None:
        told[bound.removal_column] = bound.removal_text(commit_time)
    return _encode(told)


def key_digest(key: object) -> str:
    """Sixteen hex digits that stand for a row's key in an event id."""
    return sha256(_encode(key)).hexdigest()[:16]
