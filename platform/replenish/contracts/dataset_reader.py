"""Reads feed files, and finds the one that fits some data. What one feed of a file says, `feed_reader` reads.

One file is one data set. It either lists its `feeds`, or is itself the single feed:

    stream: sales
    files: till-*.csv
    columns:
      location_id: {value: MAIN}
      sold_at: time
      sale_id: receipt
      sku_id: article
      units: qty

A column given as plain text is a copy of that source column; everything left out has the default of
`contracts.dataset`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, time
from fnmatch import fnmatchcase
from pathlib import Path

from replenish.contracts.dataset import ASSUMABLE_INPUTS, STAGE_OPTIONS, Dataset, Feed
from replenish.contracts.document import YamlNode, read_yaml
from replenish.contracts.feed_reader import read_feed, read_identifier, read_zone
from replenish.contracts.model import Contract
from replenish.contracts.profile import PROFILE_FOLDER
from replenish.contracts.reader import PLATFORM_FOLDER, read_contracts
from replenish.errors import ContractError

FEED_FOLDER = PLATFORM_FOLDER / "feeds"
DEFAULT_ZONE = "UTC"
DEFAULT_CUTOFF = time(6, 0)
DEFAULT_PROFILE = "demo"


def read_dataset(path: Path, contracts: Mapping[str, Contract] | None = None) -> Dataset:
    """The data set a feed file describes; `contracts` are the platform's own where not given.

    Raises:
        ContractError: Names file, field and rule: an unknown key, stream or contract column, a required column without
            a rule, a rule that contradicts itself.
    """
    top = read_yaml(path)
    known = read_contracts() if contracts is None else contracts
    dataset_id = read_identifier(top, "dataset_id", re.sub(r"[^a-z0-9_]+", "_", path.name.split(".")[0].lower()))
    zone = read_zone(top, DEFAULT_ZONE)
    # A file without a list of feeds is itself its only feed.
    nodes = top.children("feeds") if top.has("feeds") else (top,)
    feeds = tuple(read_feed(node, dataset_id, zone, known) for node in nodes)
    for i, feed in enumerate(feeds):
        if feed.feed_id in {other.feed_id for other in feeds[:i]}:
            raise top.error(f"feeds[{i}].feed_id", f"{feed.feed_id!r} is given twice")
    dataset = Dataset(
        dataset_id=dataset_id,
        zone=zone,
        cutoff=_time_of_day(top, "cutoff", DEFAULT_CUTOFF),
        profile=top.choice("profile", sorted(path.stem for path in PROFILE_FOLDER.glob("*.yaml")), DEFAULT_PROFILE),
        origin=_date(top, "origin"),
        feeds=feeds,
        options=_options(top),
        assumptions=_assumptions(top.child("assumptions")) if top.has("assumptions") else {},
    )
    top.finish()
    return dataset


def find_dataset(data: Path, feed: Path | None = None, folder: Path = FEED_FOLDER) -> Path:
    """The feed file for a data folder or file: the named one, else one beside the data, else a known one.

    Beside the data: `dataset.yaml`, then the only `*.feed.yaml`. Known: the file in `folder` most of whose feeds have
    a matching file in the data.

    Raises:
        ContractError: Nothing fits, several files fit equally well, or one beside the data is called otherwise.
    """
    if feed is not None:
        if not feed.is_file():
            raise ContractError(f"{feed}: no such feed file", file=str(feed))
        return feed
    if not data.exists():
        raise ContractError(f"{data}: no such data folder or file", file=str(data))
    beside = data if data.is_dir() else data.parent
    own = [beside / "dataset.yaml"] if (beside / "dataset.yaml").is_file() else sorted(beside.glob("*.feed.yaml"))
    names = [p.name for p in data.iterdir() if p.is_file()] if data.is_dir() else [data.name]
    if not own and (misnamed := [path for path in sorted(beside.glob("*.yaml")) if _looks_like_a_feed_file(path)]):
        # One of ours may happen to fit; nobody who wrote a feed file of their own means that.
        raise ContractError(
            f"{misnamed[0]}: looks like a feed file; call it <name>.feed.yaml or name it as FEED=",
            file=str(misnamed[0]),
        )
    fits = own or _best_fits(names, folder)
    if len(fits) > 1:
        raise ContractError(f"{data}: several feed files fit: {', '.join(str(p) for p in fits)}; name one as FEED=")
    if not fits:
        raise ContractError(
            f"{data}: no feed file fits these files; write one beside the data as <name>.feed.yaml or name it as FEED="
        )
    return fits[0]


def _looks_like_a_feed_file(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return any(line.startswith("dataset_id:") for line in text.splitlines())


def feed_for_file(dataset: Dataset, name: str) -> tuple[Feed, ...]:
    """The feeds whose globs match a file name, in file order; several may read the same file."""
    return tuple(feed for feed in dataset.feeds if matches_feed(feed, name))


def matches_feed(feed: Feed, name: str) -> bool:
    """Whether one of the feed's globs matches the file name (case counts)."""
    return any(fnmatchcase(name, glob) for glob in feed.files)


def with_assumptions(dataset: Dataset, path: Path) -> Dataset:
    """The data set with the assumed inputs of a YAML mapping laid over its own.

    Raises:
        ContractError: An input that cannot be assumed, or a value that is no whole number >= 0.
    """
    return replace(dataset, assumptions={**dataset.assumptions, **_assumptions(read_yaml(path))})


def _best_fits(names: list[str], folder: Path) -> list[Path]:
    shares: dict[Path, float] = {}
    contracts = read_contracts()
    for path in sorted(folder.glob("*.yaml")):
        feeds = [feed for feed in read_dataset(path, contracts).feeds if feed.door == "files"]
        if not feeds:
            continue
        share = sum(any(matches_feed(feed, name) for name in names) for feed in feeds) / len(feeds)
        if share > 0:
            shares[path] = share
    return [path for path, share in shares.items() if share == max(shares.values())]


def _time_of_day(node: YamlNode, key: str, default: time) -> time:
    try:
        return time.fromisoformat(node.text(key, default.isoformat()))
    except ValueError as error:
        raise node.error(key, "must read HH:MM") from error


def _date(node: YamlNode, key: str) -> date | None:
    text = node.optional_text(key)
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise node.error(key, "must read YYYY-MM-DD") from error


def _options(top: YamlNode) -> dict[str, object]:
    """Settings by stage; what a stage understands is the stage's own to check."""
    if not top.has("options"):
        return {}
    node = top.child("options")
    options: dict[str, object] = {stage: node.child(stage).value for stage in STAGE_OPTIONS if node.has(stage)}
    node.declare(STAGE_OPTIONS)
    node.finish()
    return options


def _assumptions(node: YamlNode) -> dict[str, object]:
    """A misspelt assumption must not pass for one that was made."""
    assumed: dict[str, object] = {name: node.integer(name) for name in ASSUMABLE_INPUTS if name in node.keys}
    for name in assumed:
        if node.integer(name) < 0:
            raise node.error(name, "must not be negative")
    node.declare(ASSUMABLE_INPUTS)
    node.finish()
    return assumed
