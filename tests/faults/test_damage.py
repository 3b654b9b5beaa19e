"""The damage matrix: every kind of damage is found, nothing is deleted, and what is made again equals what was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from replenish.cli.deployment import Deployment
from replenish.cli.doctor_visit import Depth, DoctorReport, DoctorTools, pay_visit, require_sound_journal
from replenish.cli.mend_lake import examine_lake
from replenish.cli.rebuild import rebuild_root
from replenish.cli.rebuild_tables import compare_with_the_log
from replenish.errors import DamagedLog
from replenish.stores.doctor.segment_files import manifest_of
from replenish.stores.journal_entry import EVENTS_SETTLED, FILE_ACCEPTED
from replenish.stores.segments import sealed_segments
from replenish.stores.trim import trim
from tests.faults.damaged_world import (
    JOURNAL_DAMAGES,
    LAKE_DAMAGES,
    NOW,
    a_data_file,
    build_world,
    digests,
    files_below,
    flip_bit,
    open_world,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A world whose files the doctor has seen once, found clean."""
    world = build_world(tmp_path_factory.mktemp("sound") / "root")
    assert examine_lake(world, with_digests=True) == []
    return world


@pytest.fixture
def world(sound: Deployment, tmp_path: Path) -> Deployment:
    root = tmp_path / "root"
    shutil.copytree(sound.layout.root, root)
    return open_world(root)


def no_gold() -> None:
    raise AssertionError("this world has no gold")


def visit(
    world: Deployment, *helpers: Path, repair: bool = True, depth: Depth = "full", now: datetime = NOW
) -> DoctorReport:
    tools = DoctorTools(no_gold, None, helpers)
    return pay_visit(world, tools, depth=depth, is_repairing=repair, now=now)


@pytest.mark.parametrize("table", ["bronze/sales", "silver/sales"])
@pytest.mark.parametrize("damage", LAKE_DAMAGES)
def test_a_damaged_table_is_found_and_made_whole(sound: Deployment, world: Deployment, table: str, damage: str) -> None:
    kind, inflict = LAKE_DAMAGES[damage]
    inflict(world.layout.lake / table)
    before = files_below(world.layout.root)
    assert kind in kinds(visit(world, repair=False), table)
    report = visit(world)
    assert (report.exit_code, report.needs_person) == (1, 0), report.treatments
    assert visit(world).exit_code == 0
    assert digests(world) == digests(sound)
    assert before <= files_below(world.layout.root)


def kinds(report: DoctorReport, subject: str) -> set[str]:
    return {t.finding.kind for t in report.treatments if t.finding.subject == subject}


@pytest.mark.parametrize("copy", ["segments", "standby"])
@pytest.mark.parametrize("damage", JOURNAL_DAMAGES)
def test_a_damaged_journal_is_restored_from_another_copy(
    sound: Deployment, world: Deployment, damage: str, copy: str
) -> None:
    kind, inflict = JOURNAL_DAMAGES[damage]
    if copy == "standby":
        shutil.rmtree(world.layout.segments)
    inflict(world.layout.root)
    before = files_below(world.layout.root)
    assert kinds(visit(world, repair=False), "journal") == {kind}
    report = visit(world, *([sound.layout.root] if copy == "standby" else []))
    assert report.needs_person == 0, report.treatments
    assert visit(world).exit_code == 0
    assert world.journal.head() == sound.journal.head()
    assert digests(world) == digests(sound)
    assert before <= files_below(world.layout.root)


def test_what_no_copy_holds_is_named_with_its_places(world: Deployment) -> None:
    shutil.rmtree(world.layout.segments)
    JOURNAL_DAMAGES["a record deleted"][1](world.layout.root)
    report = visit(world)
    assert report.exit_code == 2
    advice = report.treatments[0].advice
    assert "entries 2-2 could not be recovered" in advice
    assert "entries 3-38 are readable" in advice


def test_a_door_does_not_start_on_a_damaged_journal(world: Deployment) -> None:
    require_sound_journal(world.layout)
    JOURNAL_DAMAGES["journal cut off"][1](world.layout.root)
    with pytest.raises(DamagedLog, match="replenish doctor"):
        require_sound_journal(world.layout)


@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_an_archived_file_comes_back_from_the_drop_folder(world: Deployment, how: str) -> None:
    path = next(p for p in sorted(world.layout.archive.rglob("*")) if p.is_file())
    path.unlink() if how == "gone" else flip_bit(path)
    report = visit(world)
    assert (report.exit_code, kinds(report, "archive")) == (
        1,
        {"archive_missing" if how == "gone" else "archive_altered"},
    )
    assert visit(world).exit_code == 0


def test_an_archived_file_without_any_copy_needs_a_person(world: Deployment) -> None:
    for path in world.layout.drop.iterdir():
        path.unlink()
    next(p for p in sorted(world.layout.archive.rglob("*")) if p.is_file()).unlink()
    report = visit(world)
    assert report.exit_code == 2
    assert "ask the sender" in report.treatments[0].advice


def test_a_rebuild_gives_the_same_digests(sound: Deployment, world: Deployment) -> None:
    report = rebuild_root(world, is_from_raw=False, progress=lambda _: None)
    assert (report.differs, report.grown) == ((), ())
    assert report.digests == digests(sound)
    assert (report.quarantine / "lake" / "bronze" / "sales").is_dir()


@pytest.mark.parametrize("helper", ["journal", "standby"])
@pytest.mark.parametrize("how", ["gone", "flipped", "manifest torn"])
def test_a_damaged_segment_is_sealed_again_or_copied(
    sound: Deployment, world: Deployment, how: str, helper: str
) -> None:
    if helper == "standby":
        trim(world.journal, world.layout, now=NOW + timedelta(days=90))
        assert any(event.body is None for event in world.journal.event_bodies(0))
    path = sorted(world.layout.segments.glob("*.jsonl.gz"))[0]
    manifest = manifest_of(path)
    if how == "gone":
        path.unlink()
    elif how == "flipped":
        flip_bit(path)
    else:
        manifest.write_bytes(manifest.read_bytes()[:40])
    report = visit(world, *([sound.layout.root] if helper == "standby" else []))
    assert (report.exit_code, report.needs_person) == (1, 0), report.treatments
    assert visit(world).exit_code == 0
    assert [s.sha256 for s in sealed_segments(world.layout.segments)] == [
        s.sha256 for s in sealed_segments(sound.layout.segments)
    ]


def _a_part(world: Deployment, kind: str) -> Path:
    record = next(world.journal.records(type=kind))
    return world.layout.accepted / str(record.data["parts"][0]["path"])  # type: ignore[index]


@pytest.mark.parametrize("is_trimmed", [False, True])
@pytest.mark.parametrize("kind", [FILE_ACCEPTED, EVENTS_SETTLED])
@pytest.mark.parametrize("how", ["gone", "flipped", "empty"])
def test_a_damaged_part_is_made_again(
    sound: Deployment, world: Deployment, how: str, kind: str, is_trimmed: bool
) -> None:
    if is_trimmed:
        trim(world.journal, world.layout, now=NOW + timedelta(days=90))
    path = _a_part(world, kind)
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        flip_bit(path)
    report = visit(world)
    assert (report.exit_code, report.needs_person) == (1, 0), report.treatments
    assert visit(world).exit_code == 0
    assert rebuild_root(world, is_from_raw=False, progress=lambda _: None).digests == digests(sound)


def test_a_rebuild_from_raw_gives_the_same_digests(sound: Deployment, world: Deployment) -> None:
    report = rebuild_root(world, is_from_raw=True, progress=lambda _: None)
    assert report.digests == digests(sound)
    assert any((report.quarantine / "accepted").rglob("*.parquet"))
    assert visit(world).exit_code == 0


def test_a_rebuild_says_which_table_is_not_what_it_was(world: Deployment) -> None:
    rows = world.lake.read("silver/sales")
    world.lake.overwrite("silver/sales", rows.with_columns(units=rows["units"] + 1))
    assert rebuild_root(world, is_from_raw=False, progress=lambda _: None).differs == ("silver/sales",)


CHILD = """
import sys
from pathlib import Path
from replenish.cli.doctor_visit import DoctorTools, pay_visit
from replenish.cli.rebuild import rebuild_root
from replenish.cli.rebuild_tables import compare_with_the_log
from tests.faults.damaged_world import NOW, open_world
world = open_world(Path(sys.argv[1]))
if sys.argv[2] == "rebuild":
    rebuild_root(world, is_from_raw=True, progress=print)
else:
    pay_visit(world, DoctorTools(lambda: None), depth="full", is_repairing=True, now=NOW)
"""


@pytest.mark.parametrize(
    ("what", "failpoint"),
    [
        ("rebuild", "rebuild.dropped:kill:1"),
        ("rebuild", "rebuild.layer_done:kill:1"),
        ("rebuild", "rebuild.layer_done:kill:2"),
        ("rebuild", "lake.written:kill:2"),
        ("visit", "doctor.quarantined:kill:1"),
        ("visit", "doctor.quarantined:kill:3"),
        ("visit", "doctor.repaired:kill:1"),
    ],
)
def test_a_killed_rebuild_or_visit_is_taken_up_again(
    sound: Deployment, world: Deployment, what: str, failpoint: str
) -> None:
    if what == "visit":
        a_data_file(world.layout.lake / "bronze/sales").unlink()
        flip_bit(a_data_file(world.layout.lake / "silver/sales"))
        _a_part(world, EVENTS_SETTLED).unlink()
    command = [sys.executable, "-c", CHILD, str(world.layout.root), what]
    environment = {**os.environ, "REPLENISH_FAILPOINT": failpoint}
    killed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    if what == "rebuild":
        report = rebuild_root(world, is_from_raw=False, progress=lambda _: None)
        assert (report.differs, report.digests) == ((), digests(sound))
    else:
        assert visit(world, now=NOW + timedelta(hours=1)).needs_person == 0
    assert visit(world, now=NOW + timedelta(hours=2)).exit_code == 0
    assert digests(world) == digests(sound)


@pytest.mark.parametrize("table", ["bronze/sales", "silver/sales"])
def test_a_deep_look_finds_values_that_the_log_never_said(
    sound: Deployment, world: Deployment, tmp_path: Path, table: str
) -> None:
    rows = world.lake.read(table)
    world.lake.overwrite(table, rows.with_columns(units=rows["units"] + 1))
    assert visit(world).exit_code == 0, "nothing in the files is wrong"
    tools = DoctorTools(no_gold, lambda opened: compare_with_the_log(opened, tmp_path / "beside"))
    report = pay_visit(world, tools, depth="deep", is_repairing=True, now=NOW + timedelta(hours=1))
    kind = "content_differs" if table.startswith("bronze") else "ledger_differs"
    assert (report.exit_code, kinds(report, table)) == (1, {kind})
    assert digests(world) == digests(sound)


def test_a_table_that_only_a_person_can_make_again_is_said_until_it_is_there(world: Deployment) -> None:
    forecasts = pl.DataFrame({"units": [1, 2]})
    world.lake.append("forecasts/demand", forecasts)
    a_data_file(world.layout.lake / "forecasts/demand").unlink()
    first = visit(world)
    assert first.exit_code == 2
    assert "replenish run --origin" in first.treatments[0].advice
    again = visit(world, now=NOW + timedelta(hours=1))
    assert (again.exit_code, kinds(again, "forecasts/demand")) == (2, {"unreadable_table"})
    world.lake.append("forecasts/demand", forecasts)
    assert visit(world, now=NOW + timedelta(hours=2)).exit_code == 0


def test_a_visit_reports_in_json_and_deletes_nothing(world: Deployment) -> None:
    flip_bit(a_data_file(world.layout.lake / "silver/sales"))
    report = visit(world).as_json()
    (found,) = report["findings"]  # type: ignore[misc]
    assert (found["kind"], found["mended"]) == ("altered_file", True)
    assert json.loads((world.layout.reports / "doctor.json").read_text()) == report
    moves = [json.loads(line) for line in (Path(str(report["quarantine"])) / "moves.jsonl").read_text().splitlines()]
    assert moves[0]["from"] == "lake/silver/sales"
