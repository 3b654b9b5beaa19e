"""The feeds that take single events: those a data set declares, and one per contract for contract-shaped events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from replenish.contracts.dataset import ColumnRule, Dataset, Feed, FileFormat, KnowledgeRule
from replenish.contracts.event_struct import KNOWLEDGE_TIME
from replenish.contracts.model import Contract

IDENTITY_PREFIX = "events."
"""`events.<stream>`: events whose fields are those of the contract."""


def event_feeds(dataset: Dataset, contracts: Mapping[str, Contract]) -> dict[str, Feed]:
    """By feed id; a declared feed that is called `events.<stream>` takes the place of the contract-shaped one."""
    identity = {IDENTITY_PREFIX + stream: identity_feed(contracts[stream], dataset.zone) for stream in contracts}
    return identity | {feed.feed_id: feed for feed in dataset.feeds if feed.door == "events"}


@lru_cache(maxsize=256)
def identity_feed(contract: Contract, zone: str) -> Feed:
    """The feed of contract-shaped events: every field is a column, `knowledge_time` is optional."""
    return Feed(
        feed_id=IDENTITY_PREFIX + contract.stream,
        stream=contract.stream,
        files=(),
        format=FileFormat(type="jsonl"),
        zone=zone,
        columns={name: ColumnRule(column=name) for name in contract.names},
        knowledge=KnowledgeRule("column", column=KNOWLEDGE_TIME, else_arrival=True),
        door="events",
    )


def is_identity_feed(feed: Feed, contract: Contract) -> bool:
    """Whether the feed's events are contract-shaped, so that structs of the contract read them."""
    return feed == identity_feed(contract, feed.zone)


def with_all_feeds_open(dataset: Dataset) -> Dataset:
    """The data set with every feed taking single events: rows of files come again one by one."""
    return replace(dataset, feeds=tuple(replace(feed, door="events") for feed in dataset.feeds))
