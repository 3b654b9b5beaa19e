"""The fence: the latest epoch among its places counts, and a place nobody can read stops everybody."""

from pathlib import Path

import pytest

from replenish.errors import Fenced
from replenish.stores.fence import Fence, fence_of, set_up_fence
from replenish.stores.journal import Journal
from tests.unit.stores.log_entries_for_tests import NOW, event, file_record


def test_no_fence_is_the_first_epoch(tmp_path: Path) -> None:
    Fence(tmp_path / "a", tmp_path / "b").check(1, "me")


def test_a_later_epoch_or_another_owner_of_the_same_stops_a_writer(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    fence = Fence(tmp_path / "a", tmp_path / "shared" / "b")
    Fence(tmp_path / "shared" / "b").raise_to(2, "me")
    fence.check(2, "me")
    fence.check(2)
    for epoch, owner in ((1, "me"), (2, "other")):
        with pytest.raises(Fenced):
            fence.check(epoch, owner)


def test_raising_again_changes_nothing_and_never_lowers(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "a")
    fence.raise_to(3, "me")
    fence.raise_to(3, "me")
    for epoch, owner in ((3, "other"), (2, "me")):
        with pytest.raises(Fenced):
            fence.raise_to(epoch, owner)
    assert fence.token == (3, "me")


def test_an_unreadable_fence_stops_everybody(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"epoch": ')
    with pytest.raises(Fenced, match="cannot be read"):
        Fence(tmp_path / "a").check(99)


def test_the_environment_names_a_shared_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLENISH_FENCE", str(tmp_path / "shared"))
    assert fence_of(tmp_path / "root").paths == (tmp_path / "root" / "fence.json", tmp_path / "shared")


def test_an_open_journal_stops_with_the_next_append_and_still_reads(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append_events([event("a")], now=NOW)
    Fence(tmp_path / "fence.json").raise_to(2, "another")
    for append in (lambda: journal.append_events([event("b")], now=NOW), lambda: journal.append(file_record("c"))):
        with pytest.raises(Fenced):
            append()
    assert [record.id for record in journal.records()] == ["a"]


def test_a_shared_place_that_is_not_there_lets_nobody_write(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "fence.json", tmp_path / "mount" / "fence.json")
    with pytest.raises(Fenced, match="cannot be reached"):
        fence.check(1)
    (tmp_path / "mount").mkdir()
    fence.check(1)


def test_an_empty_mount_is_no_place_where_nobody_was_promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "mount" / "fence.json"
    shared.parent.mkdir()
    monkeypatch.setenv("REPLENISH_FENCE", str(shared))
    with pytest.raises(Fenced, match="`replenish standby fence`"):
        fence_of(tmp_path).check(1)
    assert set_up_fence(shared)
    fence_of(tmp_path).check(1)
    Fence(shared).raise_to(2, "another")
    assert not set_up_fence(shared), "what is there stays"
    assert fence_of(tmp_path).epoch == 2


def test_who_was_fenced_once_stays_fenced_when_the_shared_place_goes(tmp_path: Path) -> None:
    shared = tmp_path / "mount" / "fence.json"
    shared.parent.mkdir()
    Fence(shared).raise_to(2, "other")
    with pytest.raises(Fenced):
        Fence(tmp_path / "fence.json", shared).check(1, "own")
    shared.unlink()
    with pytest.raises(Fenced):
        Fence(tmp_path / "fence.json", shared).check(1, "own")
