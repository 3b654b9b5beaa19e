"""The rows of a state log after a change, from the rows before it: no more of a ledger is read than what changed.

The log says which version won at every instant. Versions that came win where they are greater. Where the winner was
taken back, what had stood second is in no log; but as long as something greater stands there, it does not matter. So a
winner that was taken back goes on as a *ghost*: where a ghost would still win, its entity is worked out from its
postings, everywhere else the answer is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from replenish.bitemporal import KNOWN_FROM
from replenish.features.state_logs.definition import StateLogDefinition
from replenish.range_maximum import NO_VALUE, range_maximum

SINCE = "_since"
"""Instant before which the log of an entity is as it was."""

_ENTITY, _START, _STOP, _GHOST, _RANK, _INSTANT = "_entity", "_start", "_stop", "_ghost", "_rank", "_instant"


@dataclass(frozen=True)
class ChangedLog:
    """The log from the first change of each entity on."""

    rows: pl.DataFrame
    """Columns of the log, of the entities that are certain."""
    uncertain: pl.DataFrame
    """Keys of the entities that have to be worked out from their postings."""


def log_after_change(definition: StateLogDefinition, stored: pl.DataFrame, came: pl.DataFrame) -> ChangedLog:
    """The log of the entities of `came`, from the first instant on at which it may differ.

    Args:
        definition: Whose log.
        stored: Rows of the log before, of each entity from the row on that holds when the first posting became known.
        came: Postings that were added; none was taken out.
    """
    key = list(definition.entity)
    lives = _ranked(definition, _lives(definition, stored, came))
    winners = _winners(lives)
    uncertain = winners.filter(pl.col(_GHOST)).select(_ENTITY).unique()
    keys = lives.select(*key, _ENTITY).unique(_ENTITY)
    same_entity = pl.col(_ENTITY).eq_missing(pl.col(_ENTITY).shift(1))
    before = pl.when(same_entity).then(pl.col(_RANK).shift(1))
    changes = winners.filter(pl.col(_RANK).ne_missing(before)).join(uncertain, on=_ENTITY, how="anti")
    says = lives.unique(_RANK).select(_RANK, *definition.version_columns)
    rows = (
        changes.join(keys, on=_ENTITY)
        .join(says, on=_RANK, how="left")
        .join(first_changes(definition, came), on=key, nulls_equal=True)
        .filter(pl.col(_INSTANT) >= pl.col(SINCE))
        .with_columns(pl.col(_RANK).is_not_null().alias("is_live"), pl.col(_INSTANT).alias(KNOWN_FROM))
        .select(definition.columns)
    )
    return ChangedLog(rows, keys.join(uncertain, on=_ENTITY, how="semi").select(key))


def first_changes(definition: StateLogDefinition, *postings: pl.DataFrame) -> pl.DataFrame:
    """By entity of the postings, when the first of them became known: `SINCE`. Nothing takes effect before."""
    key = list(definition.entity)
    known = pl.concat([frame.select(*key, "knowledge_time") for frame in postings])
    return known.group_by(key).agg(pl.col("knowledge_time").min().alias(SINCE))


def _lives(definition: StateLogDefinition, stored: pl.DataFrame, came: pl.DataFrame) -> pl.DataFrame:
    """Spans in which a version may win: what won before, cut where it was taken back, the ghosts, and what came."""
    key, identity = list(definition.entity), definition.identity
    taken_back = came.filter(pl.col("posting_kind") == "reversal").select(*identity, _cut="knowledge_time")
    columns = [*key, *definition.version_columns, _START, _STOP]
    next_row = pl.struct(key).eq_missing(pl.struct(key).shift(-1))
    won = (
        stored.sort(*key, KNOWN_FROM)
        .with_columns(
            pl.col(KNOWN_FROM).alias(_START), pl.when(next_row).then(pl.col(KNOWN_FROM).shift(-1)).alias(_STOP)
        )
        .filter("is_live")
        .join(taken_back, on=identity, how="left", nulls_equal=True)
    )
    real = won.with_columns(pl.min_horizontal(_STOP, "_cut").alias(_STOP)).select(*columns, pl.lit(False).alias(_GHOST))
    ghosts = won.filter(pl.col("_cut").is_not_null()).with_columns(pl.max_horizontal(_START, "_cut").alias(_START))
    new = (
        came.filter(pl.col("posting_kind") == "version")
        .join(taken_back, on=identity, how="left", nulls_equal=True)
        .with_columns(pl.max_horizontal("event_time", "knowledge_time").alias(_START), pl.col("_cut").alias(_STOP))
    )
    all_lives = pl.concat([
        real,
        ghosts.select(*columns, pl.lit(True).alias(_GHOST)),
        new.select(*columns, pl.lit(False).alias(_GHOST)),
    ])  # fmt: skip
    return all_lives.filter(pl.col(_STOP).is_null() | (pl.col(_STOP) > pl.col(_START)))


def _ranked(definition: StateLogDefinition, lives: pl.DataFrame) -> pl.DataFrame:
    """Lives with numbers of their entity and of their version, in the order that decides which one is the latest."""
    key = list(definition.entity)
    rest = [name for name in definition.fact_key if name not in key]
    order = list(dict.fromkeys([*key, "event_time", "knowledge_time", *rest, "version_nr"]))
    return lives.sort(order, maintain_order=True).with_columns(
        pl.struct(key).rle_id().cast(pl.Int64).alias(_ENTITY), pl.struct(order).rle_id().cast(pl.Int64).alias(_RANK)
    )


def _winners(lives: pl.DataFrame) -> pl.DataFrame:
    """By entity and instant at which a life begins or ends: the rank that wins from there on (null: none), and how."""
    edges = pl.concat([lives.select(_ENTITY, pl.col(name).alias(_INSTANT)) for name in (_START, _STOP)]).drop_nulls()
    instants = edges.unique().sort(_ENTITY, _INSTANT).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_nr"))
    ends = instants.group_by(_ENTITY).agg(_end=pl.col("_nr").max() + 1)
    placed = lives.select(_ENTITY, _START, _STOP, value=pl.col(_RANK) * 2 + pl.col(_GHOST).cast(pl.Int64))
    places = [
        placed.join(instants, how="left", left_on=[_ENTITY, name], right_on=[_ENTITY, _INSTANT], maintain_order="left")
        for name in (_START, _STOP)
    ]
    end = placed.join(ends, on=_ENTITY, how="left", maintain_order="left")["_end"]
    first, stop = places[0]["_nr"], places[1]["_nr"].fill_null(end)
    best = range_maximum(instants.height, first.to_numpy(), stop.to_numpy(), placed["value"].to_numpy())
    winner = pl.when(pl.col("_best") != NO_VALUE).then(pl.col("_best") // 2)
    return instants.with_columns(pl.Series("_best", best)).select(
        _ENTITY,
        _INSTANT,
        winner.alias(_RANK),
        ((pl.col("_best") != NO_VALUE) & (pl.col("_best") % 2 == 1)).alias(_GHOST),
    )
