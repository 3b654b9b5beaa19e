"""Group commit: whatever the threads do, the log is what a simple model says, and nobody is told before it is."""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import Future, wait
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.errors import DigestMismatch, Fenced, JournalOverloaded, StoreFull, WriterFailed
from replenish.stores.fence import Fence
from replenish.stores.group_commit import SWIFT_SECONDS, GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_DEAD, EventEntry, Receipt
from tests.unit.stores.log_entries_for_tests import NOW, dead_event, event


class HeldJournal(Journal):
    """A journal whose commits wait until `go` is set, and fail with `error` where one is given."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go, self.reached, self.error, self.sizes = threading.Event(), threading.Event(), None, []

    def append_events(self, entries, *, now):
        self.reached.set()
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        self.sizes.append(len(entries))
        return super().append_events(entries, now=now)


@pytest.fixture
def journal(tmp_path: Path) -> HeldJournal:
    return HeldJournal(tmp_path / "journal.sqlite")


OFFERS = st.lists(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([0, 0, 0, 1, "dead"])), min_size=1, max_size=6),
    min_size=1,
    max_size=12,
)


def entry_of(name: str, body: object) -> EventEntry:
    return dead_event(name) if body == "dead" else event(name, {"v": body})


@settings(max_examples=40, deadline=None)
@given(OFFERS, st.integers(1, 4), st.integers(1, 8))
def test_random_submitters_get_what_the_log_holds(offers, n_threads: int, group_size: int) -> None:
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.sqlite")
        group = GroupCommit(journal, lambda: NOW, max_group_events=group_size)
        answers: list[tuple[list[EventEntry], list[Receipt]]] = []

        def submit(mine: list[list[tuple[str, object]]]) -> None:
            for offer in mine:
                entries = [entry_of(*pair) for pair in offer]
                answers.append((entries, group.submit(entries).result(30)))

        threads = [threading.Thread(target=submit, args=(offers[n::n_threads],)) for n in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        group.close()
        told = [pair for entries, receipts in answers for pair in zip(entries, receipts, strict=True)]
        log = {record.seq: record for record in journal.records()}
        assert journal.verify_chain() == len(log) == len({(r.source, r.id) for r in log.values()})
        # Each place was given to exactly one offer as new; every repetition was sent to a place that says the same.
        news = [receipt.seq for _, receipt in told if receipt.outcome != "duplicate"]
        assert sorted(news) == sorted(log)
        for entry, receipt in told:
            record = log[receipt.seq]
            if record.type == entry.type and record.id == entry.id:
                assert record.type == EVENT_DEAD or record.data == {"v": int(entry.body[-2:-1])}
            else:
                assert (record.type, record.id.partition("#")[0]) == (EVENT_DEAD, entry.id)
        n_dead = sum(record.type == EVENT_DEAD for record in log.values())
        assert n_dead == len(journal.dead_letters())
        journal.close()


def test_who_waits_during_a_commit_shares_the_next_one(journal: HeldJournal) -> None:
    group = GroupCommit(journal, lambda: NOW, max_group_events=5)
    futures = [group.submit([event("first")])]
    assert journal.reached.wait(30)
    futures += [group.submit([event(f"{n}"), event(f"{n}+")]) for n in range(4)]
    assert not any(future.done() for future in futures)
    journal.go.set()
    wait(futures, 30)
    group.close()
    assert journal.sizes == [1, 6, 2]


def test_a_submission_larger_than_a_group_is_one_commit(journal: HeldJournal) -> None:
    journal.go.set()
    group = GroupCommit(journal, lambda: NOW)
    assert len(group.submit([event(f"{n}") for n in range(2_000)]).result(30)) == 2_000
    group.close()
    assert journal.sizes == [2_000]


def test_too_much_waiting_is_refused_at_once_and_taken_later(journal: HeldJournal) -> None:
    group = GroupCommit(journal, lambda: NOW, max_pending_events=3)
    first = group.submit([event("a"), event("b")])
    with pytest.raises(JournalOverloaded):
        group.submit([event("c"), event("d")])
    journal.go.set()
    first.result(30)
    group.close()
    assert journal.last_seq() == 2


def test_the_bound_in_bytes_holds_too(journal: HeldJournal) -> None:
    group = GroupCommit(journal, lambda: NOW, max_pending_bytes=1_000)
    group.submit([event("a", b"x" * 5_000)])
    with pytest.raises(JournalOverloaded):
        group.submit([event("b")])
    journal.go.set()
    group.close()


def test_close_writes_what_waits_and_refuses_what_comes(journal: HeldJournal) -> None:
    group = GroupCommit(journal, lambda: NOW)
    futures = [group.submit([event(f"{n}")]) for n in range(10)]
    journal.go.set()
    group.close()
    group.close()
    assert sorted(future.result(0)[0].seq for future in futures) == list(range(1, 11))
    with pytest.raises(WriterFailed):
        group.submit([event("late")])


def test_a_full_disk_fails_those_who_wait_and_no_one_later(journal: HeldJournal) -> None:
    journal.go.set()
    group = GroupCommit(journal, lambda: NOW)
    journal.connection.pragma("max_page_count", journal.connection.pragma("page_count"))
    with pytest.raises(StoreFull):
        group.submit([event(f"{n}", {"x": "y" * 2_000}) for n in range(50)]).result(30)
    journal.connection.pragma("max_page_count", 100_000)
    assert group.submit([event("a")]).result(30) == [Receipt("accepted", 1)]
    group.close()


def test_an_io_error_stops_the_writer_for_good(journal: HeldJournal) -> None:
    journal.go.set()
    group = GroupCommit(journal, lambda: NOW)
    journal.error = OSError(errno.EIO, "input/output error")
    with pytest.raises(WriterFailed):
        group.submit([event("a")]).result(30)
    journal.error = None
    with pytest.raises(WriterFailed):
        group.submit([event("b")])
    assert isinstance(group.failure, WriterFailed)
    group.close()
    assert journal.last_seq() == 0


def test_a_fence_stops_the_writer_for_good(tmp_path: Path, journal: HeldJournal) -> None:
    journal.go.set()
    group = GroupCommit(journal, lambda: NOW)
    Fence(tmp_path / "fence.json").raise_to(2, "another")
    with pytest.raises(Fenced):
        group.submit([event("a")]).result(30)
    with pytest.raises(WriterFailed):
        group.submit([event("b")])
    group.close()


def test_an_entry_that_cannot_be_written_fails_its_own_submission_only(journal: HeldJournal) -> None:
    group = GroupCommit(journal, lambda: NOW)
    futures: list[Future[list[Receipt]]] = [group.submit([event("first")])]
    assert journal.reached.wait(30)
    futures += [group.submit([event("good")]), group.submit([event("\ud800")]), group.submit([event("fine")])]
    journal.go.set()
    wait(futures, 30)
    group.close()
    assert [type(future.exception()) for future in futures] == [type(None), type(None), UnicodeEncodeError, type(None)]
    assert journal.verify_chain() == 3


def test_another_store_error_leaves_the_writer_working(journal: HeldJournal) -> None:
    journal.go.set()
    group = GroupCommit(journal, lambda: NOW)
    journal.error = DigestMismatch("for example")
    with pytest.raises(DigestMismatch):
        group.submit([event("a")]).result(30)
    journal.error = None
    assert group.submit([event("a")]).result(30)[0].outcome == "accepted"
    group.close()


def test_the_chain_verifies_at_any_moment_while_others_write(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    group = GroupCommit(journal, lambda: NOW)
    done = threading.Event()

    def submit() -> None:
        for n in range(60):
            group.submit([event(f"{n}-{k}") if k % 3 else dead_event(f"{n}-{k}") for k in range(30)]).result(30)
        done.set()

    thread = threading.Thread(target=submit)
    thread.start()
    counts = []
    while not done.is_set():
        counts.append(journal.open_reader().verify_chain())
    thread.join()
    group.close()
    assert counts == sorted(counts)
    assert journal.verify_chain() == 1_800


def test_a_lone_submission_is_written_by_its_submitter(journal: HeldJournal) -> None:
    journal.go.set()
    group = GroupCommit(journal, lambda: NOW)
    future = group.submit([event("a")], is_waking=False)
    assert not future.done()
    group.write_lone()
    assert future.result(0) == [Receipt("accepted", 1)]
    group.write_lone()
    assert group.pending_events == 0
    group.close()


def test_where_others_wait_too_they_share_a_commit_of_the_thread(journal: HeldJournal) -> None:
    group = GroupCommit(journal, lambda: NOW)
    futures = [group.submit([event(name)], is_waking=False) for name in "ab"]
    group.write_lone()
    group.write_lone()
    journal.go.set()
    wait(futures, 30)
    group.close()
    assert journal.sizes == [2]


def test_closing_waits_for_a_lone_writer_and_writes_what_it_puts_back(journal: HeldJournal) -> None:
    group = GroupCommit(journal, lambda: NOW)
    future = group.submit([event("a")], is_waking=False)
    lone = threading.Thread(target=group.write_lone)
    lone.start()
    assert journal.reached.wait(30)
    journal.error = JournalOverloaded("another process is writing")
    closing = threading.Thread(target=group.close)
    closing.start()
    closing.join(0.3)
    assert closing.is_alive()

    def no_more_trouble(entries, *, now):
        return Journal.append_events(journal, entries, now=now)

    journal.append_events = no_more_trouble  # type: ignore[method-assign]
    journal.go.set()
    closing.join(30)
    assert future.result(0) == [Receipt("accepted", 1)]
    lone.join(30)


def test_a_lone_submission_behind_another_process_is_left_to_the_thread(journal: HeldJournal) -> None:
    journal.go.set()
    group = GroupCommit(journal, lambda: NOW)
    other = Journal(journal.path)
    with other.transaction():
        future = group.submit([event("a")], is_waking=False)
        group.write_lone()
        assert not future.done() and group.pending_events == 1
    assert future.result(30) == [Receipt("accepted", 1)]
    group.close()
    other.close()


def test_behind_a_slow_disk_nobody_writes_in_the_submitters_thread(journal: HeldJournal) -> None:
    group = GroupCommit(journal, lambda: NOW)
    slow = group.submit([event("a")])
    assert journal.reached.wait(30)
    time.sleep(2 * SWIFT_SECONDS)
    journal.go.set()
    slow.result(30)
    journal.go.clear()
    future = group.submit([event("b")], is_waking=False)
    group.write_lone()
    assert not future.done()
    journal.go.set()
    assert future.result(30) == [Receipt("accepted", 2)]
    group.close()


def test_what_is_handed_over_and_never_written_is_written_by_the_end(journal: HeldJournal) -> None:
    journal.go.set()
    group = GroupCommit(journal, lambda: NOW)
    future = group.submit([event("a")], is_waking=False)
    group.close()
    assert future.result(0) == [Receipt("accepted", 1)]


def test_two_processes_that_write_all_the_time_both_get_their_turns(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journals = [Journal(path), Journal(path)]
    groups = [GroupCommit(each, lambda: NOW) for each in journals]
    slowest: list[float] = []

    def submit_on(nr: int) -> None:
        for i in range(150):
            started = time.monotonic()
            groups[nr].submit([event(f"{nr}/{i}")]).result(30)
            slowest.append(time.monotonic() - started)

    threads = [threading.Thread(target=submit_on, args=(nr,)) for nr in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for group, each in zip(groups, journals, strict=True):
        group.close()
        assert each.verify_chain() == 300
        each.close()
    assert max(slowest) < 5
