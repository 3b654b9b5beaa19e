"""Where one deployment keeps its files. Everything lies under one root; nothing outside it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RootLayout:
    """Paths of one deployment under `root`."""

    root: Path

    @property
    def dataset_file(self) -> Path:
        """The data set this root runs: a resolved copy of its feed file."""
        return self.root / "dataset.yaml"

    @property
    def drop(self) -> Path:
        """Files offered by sources; read, never changed."""
        return self.root / "drop"

    @property
    def journal(self) -> Path:
        """The event log: one SQLite file."""
        return self.root / "journal.sqlite"

    @property
    def archive(self) -> Path:
        """Offered files as received, by content digest."""
        return self.root / "archive"

    @property
    def accepted(self) -> Path:
        """Accepted rows of each file as typed Parquet: `<stream>/<bucket>/<seq>-<n>.parquet`."""
        return self.root / "accepted"

    @property
    def segments(self) -> Path:
        """Sealed parts of the event log: `<first>-<last>.jsonl.gz`, each with a manifest."""
        return self.root / "segments"

    @property
    def locks(self) -> Path:
        """One lock file per purpose; who holds it is written inside."""
        return self.root / "locks"

    @property
    def fence(self) -> Path:
        """The epoch that may write, where no shared place is given (`REPLENISH_FENCE`)."""
        return self.root / "fence.json"

    @property
    def quarantine(self) -> Path:
        """Damaged files that were moved out of the way; nothing is deleted."""
        return self.root / "quarantine"

    @property
    def doors_file(self) -> Path:
        """Which sources may offer events, over which door."""
        return self.root / "doors.yaml"

    @property
    def lake(self) -> Path:
        """Delta tables, by layer."""
        return self.root / "lake"

    @property
    def catalog(self) -> Path:
        """Published Iceberg tables and their SQL catalog."""
        return self.root / "catalog"

    @property
    def registry(self) -> Path:
        """Models, with manifests and promotion history."""
        return self.root / "registry"

    @property
    def outbox(self) -> Path:
        """Executed orders, one JSON file each, until the outside takes them."""
        return self.root / "outbox"

    @property
    def twin(self) -> Path:
        """Records and snapshots of the online twins, and what they served; all but that can be made from the log."""
        return self.root / "twin"

    @property
    def reports(self) -> Path:
        """HTML reports for people."""
        return self.root / "reports"

    @property
    def metrics(self) -> Path:
        """What followers of databases and topics count, one file each, as a node exporter reads it."""
        return self.root / "metrics"

    @property
    def alerts(self) -> Path:
        """Delivered alerts, and which ones were."""
        return self.root / "alerts"

    @property
    def dagster_home(self) -> Path:
        """Dagster's own storage of this deployment."""
        return self.root / "dagster"
