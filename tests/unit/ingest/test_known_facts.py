"""Across files: what is a duplicate, a correction, a retraction."""

from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_shop import Shop, csv, feed_with, line

from replenish.contracts.dataset import ColumnRule, KnowledgeRule
from replenish.history.ledger import build_ledger


def _versions(shop: Shop) -> list[tuple[str, int, bool, bool]]:
    return shop.accepted().select("sale_id", "units", "is_correction", "is_retraction").rows()


def test_the_same_bytes_again_change_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    first = shop.offer(csv([line()]), "sales-1.csv")
    again = shop.offer(csv([line()]), "sales-copy.csv")
    assert (again.status, again.seq, again.offered) == ("known", first.seq, 1)
    assert len(list(shop.journal.records())) == 1


def test_a_fact_in_another_file_is_a_duplicate(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line("a"), line("b")]))
    verdict = shop.offer(csv([line("b"), line("c")]))
    assert (verdict.accepted, verdict.duplicate) == (1, 1)


def test_known_again_later_with_equal_content_is_a_duplicate(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line()]))
    assert shop.offer(csv([line(known="2025-01-12T00:00:00")])).duplicate == 1


def test_other_content_known_later_is_a_correction(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line(qty=2)]))
    verdict = shop.offer(csv([line(qty=3, known="2025-01-12T00:00:00")]))
    assert (verdict.accepted, verdict.corrections) == (1, 1)
    assert _versions(shop) == [("r1", 2, False, False), ("r1", 3, True, False)]


def test_going_back_to_earlier_content_is_a_correction_too(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for day, qty in ((11, 2), (12, 3), (13, 2)):
        shop.offer(csv([line(qty=qty, known=f"2025-01-{day}T00:00:00")]))
    assert [row[1] for row in _versions(shop)] == [2, 3, 2]


def test_a_late_copy_with_an_earlier_knowledge_time_says_that_it_was_known_earlier(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line(known="2025-01-12T00:00:00")]))
    verdict = shop.offer(csv([line(known="2025-01-11T00:00:00")]))
    assert (verdict.accepted, verdict.corrections) == (1, 1)
    (posting,) = build_ledger(shop.accepted(), shop.contract).iter_rows(named=True)
    assert str(posting["knowledge_time"]) == "2025-01-10 23:00:00+00:00"


def test_a_retraction_takes_a_known_fact_back_once(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line()]))
    first = shop.offer(csv([line(op="D", qty="", known="2025-01-12T00:00:00")]))
    again = shop.offer(csv([line(op="D", known="2025-01-13T00:00:00")]))
    assert (first.accepted, first.retractions) == (1, 1)
    assert (again.accepted, again.duplicate) == (0, 1)


def test_a_retracted_fact_may_come_back(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line()]))
    shop.offer(csv([line(op="D", known="2025-01-12T00:00:00")]))
    verdict = shop.offer(csv([line(known="2025-01-13T00:00:00")]))
    assert (verdict.accepted, verdict.corrections) == (1, 1)


def test_a_retraction_before_its_fact_was_known_is_dead(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(csv([line(known="2025-01-12T00:00:00")]))
    verdict = shop.offer(csv([line(op="D", known="2025-01-11T00:00:00")]))
    assert verdict.reasons == {"retraction_of_unknown": 1}


def test_a_file_that_tells_a_fact_and_takes_it_back_at_one_moment_is_refused_each_time(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for end in ("", "\n"):
        assert shop.offer(csv([line("r0", op="D"), line("r0"), line("r1"), line("r2")]) + end).reasons == {
            "key_conflict": 4
        }


def test_equal_lines_of_one_file_are_one_fact(tmp_path: Path) -> None:
    verdict = Shop(tmp_path).offer(csv([line(), line()]))
    assert (verdict.accepted, verdict.duplicate) == (1, 1)


def test_facts_of_other_months_and_days_are_found(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    # Half past midnight in Berlin is another UTC day, month and year.
    times = ["2024-12-31T23:30:00", "2025-01-01T00:30:00", "2025-02-01T00:30:00", "2025-01-15T12:00:00"]
    lines = [line(f"r{i}", time=t) for i, t in enumerate(times)]
    shop.offer(csv(lines))
    assert shop.offer(csv([*lines, line("new", time=times[1])])).duplicate == 4


def test_a_fact_is_found_in_a_part_of_several_days(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    tenth, eleventh = line("a"), line("b", time="2025-01-11T12:00:00")
    shop.offer(csv([tenth, eleventh]))
    assert shop.offer(csv([eleventh, line("c", time="2025-01-12T12:00:00")])).duplicate == 1


def test_a_source_without_keys_gets_ids_of_content_and_occurrence(tmp_path: Path) -> None:
    content = ColumnRule(content_of=("time", "article", "qty"), batch=("shop",))
    columns = feed_with().columns | {"sale_id": content, "location_id": ColumnRule(value="ONE")}
    shop = Shop(tmp_path, feed_with(columns=columns))
    # Twice in batch S1 are two sales; once more in S2 is the first of them again.
    verdict = shop.offer(csv([line(shop="S1"), line(shop="S1"), line(shop="S2"), line(shop="S2", article="B")]))
    assert (verdict.accepted, verdict.duplicate) == (3, 1)
    assert shop.accepted()["sale_id"].str.ends_with("-2").sum() == 1


def test_arrival_is_the_knowledge_time_where_the_feed_says_so(tmp_path: Path) -> None:
    shop = Shop(tmp_path, feed_with(knowledge=KnowledgeRule("arrival")))
    shop.offer(csv([line()]))
    assert str(shop.accepted()["knowledge_time"][0]) == "2025-02-04 05:00:00+00:00"
    assert str(shop.accepted()["knowledge_date"][0]) == "2025-02-04"


VERSION = st.builds(
    lambda key, qty, day, op: line(f"r{key}", qty=qty, known=f"2025-01-{10 + day}T00:00:00", op=op),
    key=st.integers(0, 3),
    qty=st.integers(0, 2),
    day=st.integers(0, 5),
    op=st.sampled_from("IIID"),
)
DIRTY = VERSION | st.sampled_from(["S1,x", line(qty="x"), line(article=""), line(price="-1")])
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(files=st.lists(st.lists(DIRTY, max_size=8), min_size=1, max_size=4))
def test_every_offered_row_is_accepted_dead_or_duplicate(tmp_path_factory, files: list[list[str]]) -> None:  # type: ignore[no-untyped-def]
    shop = Shop(tmp_path_factory.mktemp("shop"))
    for lines in files:
        verdict = shop.offer(csv(lines))
        assert verdict.offered == verdict.accepted + verdict.dead + verdict.duplicate == len(lines)
        assert sum(verdict.reasons.values()) == verdict.dead


@FEW
@given(lines=st.lists(DIRTY, max_size=12))
def test_the_same_rows_in_a_second_file_add_nothing(tmp_path_factory, lines: list[str]) -> None:  # type: ignore[no-untyped-def]
    shop = Shop(tmp_path_factory.mktemp("shop"))
    first = shop.offer(csv(lines))
    second = shop.offer(csv(lines) + "\n")
    assert second.status in ("known", first.status)
    assert second.status == "known" or second.accepted == 0


@FEW
@given(lines=st.lists(VERSION, min_size=2, max_size=14), data=st.data())
def test_one_file_or_two_give_the_same_facts(tmp_path_factory, lines: list[str], data: st.DataObject) -> None:  # type: ignore[no-untyped-def]
    # Version order is knowledge order: a file that arrives later knows later, and says one thing at a time.
    lines = sorted({(text.split(",")[2], text[-19:]): text for text in lines}.values(), key=lambda text: text[-19:])
    cut = data.draw(st.integers(0, len(lines)))
    whole, halves = Shop(tmp_path_factory.mktemp("whole")), Shop(tmp_path_factory.mktemp("halves"))
    for shop, parts in ((whole, [lines]), (halves, [lines[:cut], lines[cut:]])):
        shop.contract = shop.contract.__class__(**{**shop.contract.__dict__, "max_dead_share": 1.0})
        for part in parts:
            shop.offer(csv(part))
    facts = [
        shop.accepted().select(*shop.contract.names, "knowledge_time", "is_retraction", "is_correction")
        for shop in (whole, halves)
    ]
    order = ["sale_id", "knowledge_time"]
    assert facts[0].sort(order).equals(facts[1].sort(order))
    assert isinstance(facts[0], pl.DataFrame)
