"""Follows the log on a thread: postings into the twins, snapshots in between, and the promise that time goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from replenish.cli.deployment import Deployment
from replenish.cli.twin_feed import LedgerFeed, batch_for
from replenish.cli.twin_records import TwinRecords
from replenish.errors import ContractError
from replenish.features.definitions.model import FeatureSet
from replenish.features.online.feature_twin import FeatureTwin
from replenish.features.online.snapshot_file import SnapshotWriter, restore_twin
from replenish.features.online.twin_plan import KeptHistory
from replenish.stores.journal_reader import JournalReader

POLL_SECONDS = 0.002
SLACK = timedelta(seconds=60)
"""Questions may be so much older than the newest instant that a key was not asked for."""
FORCED_BYTES = 2**22
"""Of a snapshot, forced to disk at a time."""
KEYS_BETWEEN_RECORDS = 20
"""States that a snapshot writes before the log is looked at again: about two milliseconds."""
_STAND_EVERY_SECONDS = 1.0
_CHECKPOINT_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class SnapshotPace:
    """A snapshot begins after so many seconds with news, or so many records, whichever comes first."""

    seconds: float = 300.0
    records: int = 50_000


class TwinFollower:
    """The twins of a deployment, kept up with its log.

    Args:
        deployment: Whose log is followed.
        feature_sets: One twin each.
        limits: What is kept of history that no window bounds.
        clock: The instant.
        pace: Of snapshots.
        folder: Where records and snapshots lie; the deployment's own by default.
    """

    def __init__(
        self,
        deployment: Deployment,
        feature_sets: Sequence[FeatureSet],
        limits: KeptHistory,
        clock: Callable[[], datetime],
        pace: SnapshotPace,
        folder: Path | None = None,
    ) -> None:
        self.root = deployment.layout.root
        self._clock, self._pace, self._folder = clock, pace, folder or deployment.layout.twin
        self._reader = JournalReader(deployment.layout.journal)
        # Where there is no log, nothing is made.
        self._reader.last_seq()
        self._records = TwinRecords(self._folder / "records.sqlite")
        place = self._checked_place()
        self.notes: list[str] = []
        """What was found when the twins were opened, in words."""
        self.twins: Mapping[str, FeatureTwin] = {
            feature_set.name: self._opened(feature_set, deployment, limits, place) for feature_set in feature_sets
        }
        streams = sorted({source.stream for feature_set in feature_sets for source in feature_set.sources})
        self._feed = LedgerFeed(
            self._reader, deployment.layout, deployment.contracts, deployment.dataset, streams, self._records
        )
        self.seq = min([place, *(twin.seq for twin in self.twins.values())])
        """Records up to this place are taken in by every twin."""
        self._singly_through = max(twin.states_through for twin in self.twins.values())
        self.n_postings = 0
        self.n_snapshots = 0
        """Snapshots that were begun, of all sets together."""
        self.failure: Exception | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._writers: list[SnapshotWriter] = []
        # Whatever waits for the disk: questions and the log do not wait for it.
        self._disk = ThreadPoolExecutor(1, "twin-disk")
        self._on_disk: Future[None] = self._disk.submit(self._records.checkpoint)
        self._last_checkpoint = time.monotonic()
        self._last_snapshot, self._snapshot_seq = time.monotonic(), self.seq
        self._n_since_snapshot, self._last_stand = 0, 0.0

    def log_seq(self) -> int:
        """The last record of the log that bears accepted rows."""
        return self._reader.last_parts_seq()

    def take_in(self, *, most_steps: int | None = None) -> int:
        """Take in records that the twins have not, up to the head of the log as it is now; how many.

        Records of one stream that wait are taken in together: such a step costs little more than one record.
        """
        try:
            return self._take_in(most_steps)
        except Exception as error:
            # A key may have half a record: no snapshot is written of it.
            self.failure = error
            raise

    def _take_in(self, most_steps: int | None) -> int:
        n_records = 0
        for n_steps, step in enumerate(self._feed.steps(self.seq, singly_through=self._singly_through), 1):
            for twin in self.twins.values():
                self.n_postings += twin.apply(batch_for(twin.feature_set, step))
            self.seq = step.seq
            n_records += step.n_records
            if n_steps == most_steps or self._stop.is_set():
                break
        self._n_since_snapshot += n_records
        return n_records

    def start(self, on_failure: Callable[[], None]) -> None:
        """Follow from now on, on a thread of its own; `on_failure` is called once it cannot go on."""
        # What was taken in until now may be much: nobody waits for the disk yet.
        self._on_disk.result()
        self._records.make_durable()

        def follow() -> None:
            try:
                while not self._stop.is_set():
                    self._turn()
            except Exception as error:
                self.failure = error
                on_failure()

        self._thread = threading.Thread(target=follow, name="twin-follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following; where nothing failed, write what came since the last snapshot. Give the files back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        try:
            if self.failure is None:
                self.write_snapshots()
        finally:
            self._disk.shutdown()
            self._records.close()
            self._reader.close()

    def write_snapshots(self) -> None:
        """Write snapshots now, whole, where there is news; only where no thread follows."""
        self._on_disk.result()
        if self.seq > self._snapshot_seq or not self._has_snapshots():
            self._begin_snapshots()
        while self._writers:
            self._on_disk.result()
            self._step_snapshot(keys=1_000)
        self._on_disk.result()

    def _turn(self) -> None:
        now = time.monotonic()
        if now - self._last_stand >= _STAND_EVERY_SECONDS:
            self._last_stand = now
            for twin in self.twins.values():
                twin.stand_at(self._clock() - SLACK)
        if self.log_seq() > self.seq:
            self.take_in(most_steps=1)
        elif not self._writers or not self._on_disk.done():
            self._stop.wait(POLL_SECONDS)
        if self._on_disk.done():
            self._on_disk.result()
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        """What is due beside the log, now that nothing waits for the disk."""
        if self._writers:
            self._step_snapshot(KEYS_BETWEEN_RECORDS)
        elif self._is_snapshot_due(now):
            self._begin_snapshots()
        elif now - self._last_checkpoint >= _CHECKPOINT_EVERY_SECONDS:
            self._last_checkpoint = now
            self._on_disk = self._disk.submit(self._records.checkpoint)

    def _is_snapshot_due(self, now: float) -> bool:
        if self.seq == self._snapshot_seq:
            return False
        return now - self._last_snapshot >= self._pace.seconds or self._n_since_snapshot >= self._pace.records

    def _begin_snapshots(self) -> None:
        # A snapshot says that it needs no record before its place: until these are on disk, none of it is written.
        self._on_disk = self._disk.submit(self._records.checkpoint)
        self._writers = [SnapshotWriter(twin, self._folder / name) for name, twin in self.twins.items()]
        self.n_snapshots += 1
        self._last_snapshot, self._snapshot_seq, self._n_since_snapshot = time.monotonic(), self.seq, 0

    def _step_snapshot(self, keys: int) -> None:
        writer = self._writers[0]
        if not writer.step(keys):
            self._on_disk = self._disk.submit(self._writers.pop(0).place)
        elif writer.n_unforced > FORCED_BYTES:
            self._on_disk = self._disk.submit(writer.force)

    def _has_snapshots(self) -> bool:
        return all(any((self._folder / name).glob("*.snapshot")) for name in self.twins)

    def _opened(self, feature_set: FeatureSet, deployment: Deployment, limits: KeptHistory, place: int) -> FeatureTwin:
        dataset, folder = deployment.dataset, self._folder / feature_set.name
        stands_at = self._clock() - SLACK
        twin, found = restore_twin(
            feature_set, dataset.zone, dataset.cutoff, folder, stands_at, limits, at_most_seq=place
        )
        self.notes += [f"{feature_set.name}: {words}" for words in found.passed_over]
        begun = "new, from the start of the log" if found.path is None else f"from {found.path.name}"
        self.notes.append(f"{feature_set.name}: {begun}, {len(twin):,} keys")
        return twin

    def _checked_place(self) -> int:
        """How far the records are; 0, and no records, where they are of another log."""
        seq, chain = self._records.place
        if seq and (self._reader.chain_at(seq) or b"").hex() != chain:
            self._records.clear()
            return 0
        return seq


def chosen_sets(names: Sequence[str], feature_sets: Mapping[str, FeatureSet]) -> list[FeatureSet]:
    """The sets of these names, all without any; ContractError where one is unknown."""
    unknown = [name for name in names if name not in feature_sets]
    if unknown:
        raise ContractError(f"no feature set {unknown[0]!r}; known: {', '.join(feature_sets)}")
    return [feature_set for name, feature_set in feature_sets.items() if not names or name in names]
