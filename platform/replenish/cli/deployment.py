"""Opening a deployment from the command line: which root, data set and stores. The CLI's only clock is here."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from filecmp import cmp
from functools import cached_property
from pathlib import Path

from replenish.contracts.dataset import Dataset
from replenish.contracts.dataset_reader import find_dataset, read_dataset, with_assumptions
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.model import Contract
from replenish.contracts.reader import PLATFORM_FOLDER, read_contracts
from replenish.contracts.versions import live_contract_versions
from replenish.errors import ContractError
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout

CHECKOUT = PLATFORM_FOLDER.parent
ASSUMPTIONS_FILE = "assumptions.yaml"


@dataclass(frozen=True)
class Deployment:
    """One root with its data set, contracts and stores, opened."""

    layout: RootLayout
    dataset: Dataset
    contracts: dict[str, Contract]
    lake: DeltaLake

    @cached_property
    def versions(self) -> dict[str, dict[str, Contract]]:
        """The live versions of each contract, by stream and number."""
        return live_contract_versions()

    @property
    def journal(self) -> Journal:
        """The journal; opened when asked for, so that reading tables takes no lock."""
        return Journal(self.layout.journal)


def now_utc() -> datetime:
    """The instant, in UTC; arrival times of files come from here."""
    return datetime.now(UTC)


def default_root() -> Path:
    """`REPLENISH_ROOT`, or `var/demo` of the checkout."""
    return Path(os.environ.get("REPLENISH_ROOT") or CHECKOUT / "var" / "demo")


def root_for(data: Path | None, feed: Path | None) -> Path:
    """The root that `data` is kept in: `var/<dataset_id>`, the demo's without data; `REPLENISH_ROOT` wins."""
    if data is None or os.environ.get("REPLENISH_ROOT"):
        return default_root()
    return CHECKOUT / "var" / read_dataset(find_dataset(data, feed)).dataset_id


def prepare_deployment(root: Path, data: Path, *, feed: Path | None, assume: Path | None) -> RootLayout:
    """Lay out a root for `data`: its data set file and its files in the drop folder (linked where the disk allows).

    Raises:
        ContractError: No feed file fits the data (the message says how to name one), or the assumptions are malformed.
    """
    layout = RootLayout(root)
    source = find_dataset(data, feed)
    layout.drop.mkdir(parents=True, exist_ok=True)
    dataset = read_dataset(source)
    if assume is not None:
        # Read first: what is misspelt is said now and not by the next command.
        with_assumptions(dataset, assume)
    write_dataset(dataset, layout.dataset_file)
    if assume is not None:
        shutil.copyfile(assume, root / ASSUMPTIONS_FILE)
    for path in sorted(data.iterdir()) if data.is_dir() else [data]:
        if path.is_file() and path.resolve() != source.resolve():
            _offer(path, layout.drop / path.name)
    return layout


def _offer(path: Path, target: Path) -> None:
    # Equal size alone is not enough: a digit that was corrected leaves it as it is.
    if target.exists() and (target.samefile(path) or cmp(path, target, shallow=False)):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def open_deployment(root: Path) -> Deployment:
    """The deployment kept under `root`.

    Raises:
        ContractError: Nothing was set up there yet.
    """
    layout = RootLayout(root)
    if not layout.dataset_file.is_file():
        raise ContractError("no data set here yet: run `make demo`, or `replenish run --data <folder>`", root=root)
    dataset = read_dataset(layout.dataset_file)
    assumptions = root / ASSUMPTIONS_FILE
    if assumptions.is_file():
        dataset = with_assumptions(dataset, assumptions)
    return Deployment(layout, dataset, read_contracts(), DeltaLake(layout.lake))
