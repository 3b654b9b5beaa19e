"""The second region: ranges without gaps, one primary at a time, nothing acknowledged lost where it can be reached."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from replenish.errors import DamagedLog, Fenced, StoreError
from replenish.stores.archive import archive_file, archive_name
from replenish.stores.fence import set_up_fence
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EPOCH_STARTED, EVENTS_SETTLED, LETTER_DISCARDED
from replenish.stores.layout import RootLayout
from replenish.stores.segments import log_entries, log_records, seal
from replenish.stores.standby import open_standby, promote, read_standby, receive, ship
from replenish.stores.trim import trim
from tests.unit.stores.log_entries_for_tests import NOW, dead_event, event, file_record, letter, root, settle

LATER = NOW + timedelta(seconds=90)


@pytest.fixture
def primary(tmp_path: Path) -> tuple[RootLayout, Journal]:
    """A root with a file (archive and part), 30 events and a closed letter."""
    layout, journal = root(tmp_path / "here")
    offer_file(layout, journal, b"a,b\n1,2\n")
    journal.append_events([*(event(f"{n}") for n in range(30)), dead_event("y")], now=NOW)
    journal.append(file_record("d", LETTER_DISCARDED, nrs=[1], reason="test"))
    layout.dataset_file.write_text("dataset_id: x\n")
    return layout, journal


@pytest.fixture
def there(tmp_path: Path) -> RootLayout:
    return RootLayout(tmp_path / "there")


def offer_file(layout: RootLayout, journal: Journal, content: bytes) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    source = layout.root / "a.csv"
    source.write_bytes(content)
    archive_file(source, sha256, layout.archive)
    part = layout.accepted / "sales" / f"{sha256[:8]}.parquet"
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"rows")
    parts = [{"path": f"sales/{part.name}", "rows": 1}]
    journal.append(file_record(sha256, archive=archive_name(sha256), sha256=sha256, parts=parts), [letter(1)])


def files_of(layout: RootLayout) -> dict[Path, bytes]:
    paths = (path for folder in (layout.archive, layout.accepted) for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(layout.root): path.read_bytes() for path in paths}


def test_a_shipped_log_is_the_same_log_with_its_files(primary: tuple[RootLayout, Journal], there: RootLayout) -> None:
    here, journal = primary
    assert ship(here, there, now=NOW, max_records=10) == (1, 33, 2)
    copy = Journal(there.journal)
    assert list(log_entries(copy, there)) == list(log_entries(journal, here))
    assert [kept.status for kept in copy.dead_letters()] == ["discarded", "open"]
    assert copy.check() == []
    assert len(files_of(here)) == 2
    assert files_of(there) == files_of(here)
    assert there.dataset_file.read_text() == "dataset_id: x\n"
    assert ship(here, there, now=NOW) == (34, 33, 0)


def test_lag_is_told_in_records_and_seconds(primary: tuple[RootLayout, Journal], there: RootLayout) -> None:
    here, journal = primary
    ship(here, there, now=NOW)
    journal.append_events([event("late")], now=NOW)
    state = read_standby(there, here, now=LATER)
    assert (state.lag_events, state.lag_seconds, state.last_range, state.is_standby) == (1, 90.0, "1-33", True)
    ship(here, there, now=LATER)
    state = read_standby(there, here, now=LATER)
    assert (state.lag_events, state.lag_seconds, state.last_range, state.shipped_at) == (0, 0.0, "34-34", LATER)
    assert read_standby(there, None, now=LATER).lag_events is None


def test_a_standby_takes_nothing_of_its_own(primary: tuple[RootLayout, Journal], there: RootLayout) -> None:
    ship(primary[0], there, now=NOW)
    copy = Journal(there.journal)
    with pytest.raises(Fenced, match="standby"):
        copy.append_events([event("own")], now=NOW)
    with pytest.raises(Fenced, match="standby"):
        copy.append(file_record("own"))


def test_a_root_with_a_log_of_its_own_is_no_standby(primary: tuple[RootLayout, Journal], tmp_path: Path) -> None:
    other, journal = root(tmp_path / "other")
    journal.append(file_record("mine"))
    with pytest.raises(Fenced):
        ship(primary[0], other, now=NOW)
    with pytest.raises(StoreError):
        promote(other, None, now=NOW)
    assert journal.last_seq() == 1


def test_a_folder_without_a_log_is_left_as_it_is(primary: tuple[RootLayout, Journal], tmp_path: Path) -> None:
    nothing = RootLayout(tmp_path / "mistyped")
    with pytest.raises(StoreError, match="no log here"):
        promote(nothing, primary[0], now=NOW)
    with pytest.raises(StoreError, match="no log here"):
        ship(nothing, RootLayout(tmp_path / "there"), now=NOW)
    assert not nothing.root.exists()
    assert not (tmp_path / "there").exists()


def test_gaps_altered_records_and_other_logs_are_refused_whole(
    primary: tuple[RootLayout, Journal], there: RootLayout
) -> None:
    here, journal = primary
    entries = list(log_entries(journal, here))
    copy = open_standby(there)
    assert receive(copy, entries[:5], NOW) == 5
    first, second = entries[5], entries[6]
    altered = first._replace(row=first.row._replace(data=b"{}"))
    relinked = entries[-2]._replace(letters=())
    bare = first._replace(row=first.row._replace(data=None))
    for wrong in ([second], [second, first], [altered, second], [*entries[5:-2], relinked], [bare]):
        with pytest.raises(DamagedLog):
            receive(copy, wrong, NOW)
    other_log = entries[4]._replace(row=entries[4].row._replace(chain=bytes(32)))
    with pytest.raises(DamagedLog, match="another log"):
        receive(copy, [other_log, first], NOW)
    assert copy.last_seq() == 5
    # What overlaps is passed over: a range may be sent twice.
    assert receive(copy, entries[2:8], NOW) == 3
    assert receive(copy, entries, NOW) == len(entries) - 8
    assert copy.verify_chain() == len(entries)


def test_an_altered_or_missing_archive_file_is_not_taken(
    primary: tuple[RootLayout, Journal], there: RootLayout
) -> None:
    here, _ = primary
    path = next(path for path in here.archive.rglob("*") if path.is_file())
    path.write_bytes(b"other")
    with pytest.raises(DamagedLog):
        ship(here, there, now=NOW)
    path.unlink()
    with pytest.raises(DamagedLog):
        ship(here, there, now=NOW)
    assert Journal(there.journal).last_seq() == 0
    assert not [path for path in there.archive.rglob("*") if path.is_file()]


def test_a_file_that_a_killed_attempt_left_damaged_is_copied_again(
    primary: tuple[RootLayout, Journal], there: RootLayout
) -> None:
    here, _ = primary
    open_standby(there).close()
    path = next(path for path in here.archive.rglob("*") if path.is_file())
    target = there.archive / path.relative_to(here.archive)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"x" * path.stat().st_size)
    draft = target.with_name(f".{target.name}.1.draft")
    draft.write_bytes(b"x")
    ship(here, there, now=NOW)
    assert target.read_bytes() == path.read_bytes()
    assert not draft.exists()


def test_a_damaged_part_does_not_stop_the_log(primary: tuple[RootLayout, Journal], there: RootLayout) -> None:
    here, journal = primary
    sha256 = hashlib.sha256(b"rows").hexdigest()
    part = here.accepted / "sales" / "damaged.parquet"
    part.write_bytes(b"other")
    parts = [{"path": "sales/damaged.parquet", "rows": 1, "sha256": sha256}]
    journal.append(file_record("settled", EVENTS_SETTLED, parts=parts))
    assert ship(here, there, now=NOW).last_seq == journal.last_seq()
    assert not (there.accepted / "sales" / "damaged.parquet").exists()


def test_trimmed_bodies_are_shipped_from_their_segments(primary: tuple[RootLayout, Journal], there: RootLayout) -> None:
    here, journal = primary
    before = list(log_records(journal, here))
    settle(journal, 33)
    seal(journal, here, min_records=1, max_records=7)
    assert trim(journal, here, now=NOW + timedelta(days=60)) == 31
    ship(here, there, now=NOW, max_records=10)
    assert list(Journal(there.journal).records(up_to_seq=33)) == before


def test_promotion_takes_the_last_records_and_fences_the_old_primary(
    primary: tuple[RootLayout, Journal], there: RootLayout
) -> None:
    here, old = primary
    ship(here, there, now=NOW)
    old.append_events([event("last")], now=NOW)
    assert promote(there, here, now=LATER) == (2, 35, 1, True)
    for append in (
        lambda: old.append_events([event("z")], now=NOW),
        lambda: Journal(here.journal).append(file_record("z")),
    ):
        with pytest.raises(Fenced):
            append()
    with pytest.raises(Fenced):
        ship(here, there, now=LATER)
    new = Journal(there.journal)
    assert new.append_events([event("last"), event("new")], now=LATER) == [("duplicate", 34), ("accepted", 36)]
    started = new.records(type=EPOCH_STARTED)
    assert [(r.seq, r.epoch, r.data) for r in started] == [(35, 2, {"epoch": 2, "before": 1})]
    assert new.head().epoch == 2
    assert new.check() == []


def test_a_damaged_primary_does_not_keep_its_standby_from_being_promoted(
    primary: tuple[RootLayout, Journal], there: RootLayout
) -> None:
    here, journal = primary
    ship(here, there, now=NOW)
    journal.close()
    here.journal.write_bytes(b"no database" * 1000)
    with pytest.raises(DamagedLog, match="force"):
        promote(there, here, now=LATER)
    assert promote(there, here, now=LATER, is_forced=True).is_new
    assert Journal(there.journal).append_events([event("after")], now=LATER)[0].outcome == "accepted"


def test_a_root_is_not_its_own_standby(tmp_path: Path) -> None:
    layout, journal = root(tmp_path / "here")
    with pytest.raises(StoreError, match="own standby"):
        ship(layout, RootLayout(tmp_path / "there" / ".." / "here"), now=NOW)
    assert journal.append_events([event("1")], now=NOW)[0].outcome == "accepted"


def test_promoting_twice_is_once(primary: tuple[RootLayout, Journal], there: RootLayout) -> None:
    ship(primary[0], there, now=NOW)
    promote(there, primary[0], now=NOW)
    assert promote(there, primary[0], now=NOW) == (2, 34, 0, False)


def test_of_two_standbys_one_is_promoted_and_feeds_the_other(
    primary: tuple[RootLayout, Journal], there: RootLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("REPLENISH_FENCE", str(tmp_path / "shared" / "fence.json"))
    set_up_fence(tmp_path / "shared" / "fence.json")
    here, third = primary[0], RootLayout(tmp_path / "third")
    ship(here, there, now=NOW)
    ship(here, third, now=NOW)
    # The old primary cannot be reached: only the shared fence speaks to it.
    promote(there, None, now=NOW)
    with pytest.raises(Fenced):
        Journal(here.journal).append(file_record("split brain"))
    with pytest.raises(Fenced):
        promote(third, None, now=NOW)
    with pytest.raises(Fenced):
        ship(here, third, now=NOW)
    Journal(there.journal).append_events([event("new")], now=NOW)
    assert ship(there, third, now=NOW).last_seq == 35
    assert promote(third, there, now=NOW) == (3, 36, 0, True)
    with pytest.raises(Fenced):
        Journal(there.journal).append(file_record("split brain"))


def test_a_range_of_an_older_epoch_is_refused(
    primary: tuple[RootLayout, Journal], there: RootLayout, tmp_path: Path
) -> None:
    here, old = primary
    ship(here, there, now=NOW)
    promote(there, None, now=NOW)
    third = RootLayout(tmp_path / "third")
    ship(there, third, now=NOW)
    # Nobody could reach the old primary, which went on.
    old.append_events([event("a"), event("b")], now=NOW)
    with pytest.raises(DamagedLog):
        ship(here, third, now=NOW)
    assert Journal(third.journal).last_seq() == 34


CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from replenish.stores.layout import RootLayout
from replenish.stores.standby import promote, ship
here, there = RootLayout(Path(sys.argv[2])), RootLayout(Path(sys.argv[3]))
now = datetime(2025, 2, 4, 6, tzinfo=UTC)
print(ship(here, there, now=now, max_records=3) if sys.argv[1] == "ship" else promote(there, here, now=now))
"""


def run(what: str, here: RootLayout, there: RootLayout, failpoint: str = "") -> int:
    environment = {**os.environ, "REPLENISH_FAILPOINT": failpoint}
    arguments = [sys.executable, "-c", CHILD, what, str(here.root), str(there.root)]
    return subprocess.run(arguments, env=environment, capture_output=True, timeout=60).returncode


def test_shipping_that_is_killed_anywhere_goes_on_where_it_stopped(
    primary: tuple[RootLayout, Journal], there: RootLayout
) -> None:
    here, journal = primary
    chance = random.Random(3)
    for name in ("ship.sent", "ship.appended", "journal.rows_written", "journal.before_commit", "journal.after_commit"):
        at = f"{name}:kill:{chance.randint(1, 2)}"
        assert run("ship", here, there, at) == (0 if name == "journal.rows_written" else -signal.SIGKILL)
        offer_file(here, journal, name.encode())
        journal.append_events([event(f"{name}-{n}") for n in range(9)], now=NOW)
        assert Journal(there.journal).check() == []
    assert run("ship", here, there) == 0
    assert list(log_entries(Journal(there.journal), there)) == list(log_entries(journal, here))


@pytest.mark.parametrize("name", ["promote.fenced", "promote.started"])
def test_a_promotion_that_is_killed_is_finished_by_the_next(
    primary: tuple[RootLayout, Journal], there: RootLayout, name: str
) -> None:
    here, old = primary
    ship(here, there, now=NOW)
    assert run("promote", here, there, f"{name}:kill:1") == -signal.SIGKILL
    with pytest.raises(Fenced):
        old.append(file_record("z"))
    assert run("promote", here, there) == 0
    new = Journal(there.journal)
    assert [r.seq for r in new.records(type=EPOCH_STARTED)] == [34]
    assert new.append(file_record("z")) == 35
