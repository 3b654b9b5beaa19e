"""Sound rows of one delivery judged against all earlier ones, a bucket at a time: what is accepted, what is not."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import cast

import polars as pl

from replenish.contracts.dataset import Dataset, Feed
from replenish.contracts.model import Contract
from replenish.contracts.version_rules import OlderVersion
from replenish.digests import json_digest, ordered_rows_digest
from replenish.errors import BrokenPromise
from replenish.ingest.accepted_parts import AcceptedPart, PartIndex, days_mask, rows_of_part, write_rows
from replenish.ingest.gate import DEAD_SCHEMA
from replenish.ingest.intake import Intake, sound_rows
from replenish.ingest.known_facts import judge_facts
from replenish.ingest.mapping import json_of
from replenish.ingest.reasons import KEY_CONFLICT, RETRACTION_OF_UNKNOWN

ALL_DAYS = -1
DIGESTS = 2
"""Parts whose digest is taken at a time, while the next bucket is judged."""
_JUDGEMENT = 2
"""Rises when equal rules make other parts: 2 keeps what brought nothing new."""
_RULES = {
    RETRACTION_OF_UNKNOWN: "a retraction names a fact that was known before it",
    KEY_CONFLICT: "one fact says one thing at one knowledge time",
}
_SPANNED = ("event_date", "knowledge_time")
_SPAN = [e for c in _SPANNED for e in (pl.col(c).min().alias(f"{c}_min"), pl.col(c).max().alias(f"{c}_max"))]
_SPAN_OF_SPANS = [e for c in _SPANNED for e in (pl.col(f"{c}_min").min(), pl.col(f"{c}_max").max())]
NO_SPAN: dict[str, datetime | None] = {f"{c}_{end}": None for c in _SPANNED for end in ("min", "max")}
"""The span of a delivery without accepted rows."""


class JudgedRows:
    """Sums over the buckets of one delivery while they are judged and written, a few in memory at a time.

    Args:
        contract: Of the stream.
        labels: Envelope columns that are the same in all rows (`feed_id`, for a file `delivery_id`). A row that has
            `contract_version` was judged by that one.
        part_name: Start of the names of its parts.
        accepted: Folder that earlier parts are read from.
        into: Folder that new parts are written to; None = `accepted`.
        sets_conflicts_aside: Rows that contradict an earlier one become dead letters; else they refuse the delivery.
    """

    def __init__(
        self,
        contract: Contract,
        labels: Mapping[str, str],
        part_name: str,
        accepted: Path,
        *,
        into: Path | None = None,
        sets_conflicts_aside: bool = False,
    ) -> None:
        self._contract = contract
        self._labels = dict(labels) | {"contract_version": contract.version}
        self._part_name = part_name
        self._accepted = accepted
        self._into = accepted if into is None else into
        self._sets_conflicts_aside = sets_conflicts_aside
        self._counts = dict.fromkeys(
            ("accepted", "duplicate", "corrections", "retractions", "cancellations", "revived"), 0
        )
        self._spans: list[pl.DataFrame] = []
        self._written: list[tuple[AcceptedPart, Future[str]]] = []
        self.parts: list[AcceptedPart] = []
        self.late_dead: list[pl.DataFrame] = []

    def judge(self, intake: Intake, index: PartIndex) -> None:
        """Judge every bucket of an intake; FileFault `key_conflict` unless conflicts are set aside."""
        with ThreadPoolExecutor(DIGESTS) as self._digests:
            for bucket in intake.sound.buckets():
                self._add(bucket, sound_rows(intake, bucket), index)
            self.parts = [replace(part, digest=digest.result()) for part, digest in self._written]

    def _add(self, bucket: str, rows: pl.DataFrame, index: PartIndex) -> None:
        """Judge the rows of one bucket and write the accepted ones."""
        contract = self._contract
        days = days_mask(rows) if contract.is_keyed_by_date else ALL_DAYS
        earlier = index.earlier_rows(contract, bucket, days, self._accepted, rows)
        since = cast(datetime, rows["knowledge_time"].min())
        kept = index.kept_rows(contract, bucket, days, since, self._accepted)
        facts = judge_facts(rows, earlier, contract, kept=kept, sets_conflicts_aside=self._sets_conflicts_aside)
        labels = [pl.lit(text).alias(name) for name, text in self._labels.items() if name not in rows.columns]
        accepted = facts.accepted.with_columns(labels)
        self._counts["accepted"] += accepted.height
        self._counts["duplicate"] += facts.n_duplicates
        for flag in ("correction", "retraction", "cancellation"):
            self._counts[f"{flag}s"] += int(accepted[f"is_{flag}"].sum())
        for reason, refused in (
            (RETRACTION_OF_UNKNOWN, facts.unknown_retractions),
            (KEY_CONFLICT, facts.conflicting),
        ):
            if refused.height:
                self.late_dead.append(_letters(refused, contract, reason))
        if facts.revived.height:
            self._counts["revived"] += facts.revived.height
            names = [name for name in contract.bronze_schema if name != "journal_seq"]
            accepted = pl.concat([accepted.select(names), facts.revived.select(names)])
        if accepted.height:
            self._write(accepted, bucket, index)
            self._spans.append(accepted.select(_SPAN))
        if facts.to_keep.height:
            self._write(facts.to_keep.with_columns(labels), bucket, index, are_kept=True)

    def _write(self, rows: pl.DataFrame, bucket: str, index: PartIndex, *, are_kept: bool = False) -> None:
        name = f"{self._part_name}-{len(self._written)}"
        kept = rows_of_part(rows, self._contract)
        digest = self._digests.submit(ordered_rows_digest, kept)
        part = write_rows(kept, self._contract, bucket, name, self._into, are_kept=are_kept)
        self._written.append((part, digest))
        if not are_kept:
            index.remember(part, kept, self._contract)
        if len(self._written) > DIGESTS:
            # No more rows in memory than those of the digests under way.
            self._written[-DIGESTS - 1][1].result()

    def letters(self, intake: Intake) -> pl.DataFrame:
        """All dead rows of the delivery (`gate.DEAD_SCHEMA`), by row number."""
        return pl.concat([intake.dead_rows(), *self.late_dead]).sort("row_nr", maintain_order=True)

    def as_json(self, intake: Intake, what: str) -> dict[str, object]:
        """The counts, parts and spans of the record; asserts that no row was lost. `what` names it in errors."""
        reasons = intake.reasons.copy()
        for frame in self.late_dead:
            reasons[frame["reason"][0]] += frame.height
        dead = sum(reasons.values())
        counts = self._counts | {"duplicate": self._counts["duplicate"] + intake.repeats.height}
        if intake.offered != counts["accepted"] + dead + counts["duplicate"]:
            raise BrokenPromise(
                "offered is not accepted + dead + duplicate", of=what, offered=intake.offered, dead=dead, **counts
            )
        span = pl.concat(self._spans).select(_SPAN_OF_SPANS).row(0, named=True) if self._spans else NO_SPAN
        return {
            "offered": intake.offered,
            "dead": dead,
            **counts,
            "reasons": dict(sorted(reasons.items())),
            "parts": [part.as_json() for part in self.parts],
            **{name: None if value is None else value.isoformat() for name, value in span.items()},
        }


def _letters(rows: pl.DataFrame, contract: Contract, reason: str) -> pl.DataFrame:
    texts = {"reason": reason, "field": None, "rule": _RULES[reason]}
    columns = [pl.lit(text, pl.String()).alias(name) for name, text in texts.items()]
    letters = rows.select("row_nr", *columns, json_of(rows.select(contract.names)).alias("raw"))
    return letters.select(*DEAD_SCHEMA)


def feed_rules(feed: Feed) -> dict[str, object]:
    """The feed as JSON values, for digests."""
    return {name: repr(value) for name, value in asdict(feed).items()}


def rules_digest(
    feed: Feed, contract: Contract, dataset: Dataset, older: Mapping[str, OlderVersion] | None = None
) -> str:
    """Of everything that a row is judged by; where it is another one now, parts made again may differ."""
    rules = [_JUDGEMENT, feed_rules(feed), repr(contract), dataset.zone, dataset.cutoff.isoformat()]
    return json_digest([*rules, *(repr(version) for _, version in sorted((older or {}).items()))])


def part_name_of(delivery: str, feed_id: str) -> str:
    """Start of the names of a delivery's parts: the same in every attempt, another one for every feed."""
    return f"{delivery}-{json_digest(feed_id)[:8]}"
