"""Silver against brute force: what was known at any instant, in any order of arrival and any size of steps."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.contracts.dataset import (
    CancellationRule,
    Dataset,
    Feed,
    FileFormat,
    KnowledgeRule,
    RowTest,
)
from replenish.contracts.reader import read_contracts
from replenish.digests import table_digest
from replenish.errors import AuditFailed, ContractError
from replenish.history.silver import update_silver
from replenish.stores.lake import DeltaLake, TableCommit

SALES = read_contracts()["sales"]
START = datetime(2024, 1, 30, tzinfo=UTC)
RULE = CancellationRule(RowTest("op", equals="C"), ("customer_id", "sku_id"), window_days=3)


class MemoryLake(DeltaLake):
    """The lake's promises without a disk, for properties that need hundreds of histories."""

    def __init__(self) -> None:
        self.root = Path("nowhere")
        self.tables: dict[str, pl.DataFrame] = {}
        self.offsets: dict[tuple[str, str], int] = {}

    def has(self, table):
        return table in self.tables

    def version(self, table):
        return 0 if self.has(table) else None

    def app_version(self, table, app_id):
        return self.offsets.get((table, app_id))

    def state(self, table):
        return TableCommit(table, 0, self.tables[table].height)

    def schema(self, table):
        return dict(self.tables[table].schema)

    def scan(self, table, *, version=None):
        return self.tables[table].lazy()

    def append(self, table, frame, *, partition_by=(), app=None, app_from=None):
        return self._keep(table, pl.concat([self.tables[table], frame]) if self.has(table) else frame, app)

    def replace_partitions(self, table, frame, *, column, values, app=None, app_from=None):
        assert frame[column].is_in(list(values)).all()
        kept = self.tables[table].filter(~pl.col(column).is_in(list(values)))
        return self._keep(table, pl.concat([kept, frame]), app)

    def _keep(self, table, rows, app):
        self.tables[table] = rows
        if app is not None:
            self.offsets[table, app[0]] = app[1]
        return self.state(table)


def data_set(*rules: CancellationRule | None) -> Dataset:
    feeds = tuple(
        Feed(f"f{nr}", "sales", (), FileFormat(), "UTC", {}, KnowledgeRule("arrival"), cancellation=rule)
        for nr, rule in enumerate(rules)
    )
    return Dataset("d", "UTC", time(6), "daily", None, feeds)


def sale(seq, row=0, *, key=1, day=0, known=0, units=1, op="I", customer="c", revenue=None, is_correction=False):
    """A bronze row; `day` and `known` are days after START."""
    sold_at = START + timedelta(days=day)
    known_at = START + timedelta(days=known)
    return {
        "location_id": "L",
        "sold_at": sold_at,
        "sale_id": f"{key}",
        "sku_id": "A" if op != "D" else None,
        "units": units if op != "D" else None,
        "revenue_cents": (units * 10 + 1 if revenue is None else revenue) if op != "D" else None,
        "unit_price_cents": None,
        "customer_id": customer if op != "D" else None,
        "event_time": sold_at,
        "event_date": sold_at.date(),
        "knowledge_time": known_at,
        "knowledge_date": known_at.date(),
        "is_retraction": op == "D",
        "is_cancellation": op == "C",
        "is_correction": is_correction,
        "journal_seq": seq,
        "row_nr": row,
        "feed_id": "f0",
        "delivery_id": f"{seq}",
        "contract_version": "1.0.0",
        "unmapped": None,
    }


def frame(rows) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SALES.bronze_schema)


def fed(lake: DeltaLake, rows) -> None:
    lake.append("bronze/sales", frame(rows), partition_by=["knowledge_date"])


def known_units(silver: pl.DataFrame, as_of: datetime) -> dict[str, tuple[int, int]]:
    """Net units and cents per sale as known at an instant, zeros left out."""
    totals = (
        silver.filter(pl.col("knowledge_time") <= as_of, pl.col("posting_kind") != "return")
        .group_by("sale_id", "event_date")
        .agg((pl.col(name) * pl.col("posting_sign")).sum() for name in ("units", "revenue_cents"))
    )
    return {f"{row[0]}@{row[1]}": row[2:] for row in totals.iter_rows() if row[2:] != (0, 0)}


def expected_units(rows, as_of: datetime) -> dict[str, tuple[int, int]]:
    """The same by brute force, without cancellations: the last record of each key wins."""
    last = {}
    for row in sorted(rows, key=lambda r: (r["knowledge_time"], r["journal_seq"], r["row_nr"])):
        if row["knowledge_time"] <= as_of and not row["is_cancellation"]:
            last[row["sale_id"], row["event_date"]] = row
    return {
        f"{key}@{day}": (row["units"], row["revenue_cents"])
        for (key, day), row in last.items()
        if not row["is_retraction"] and (row["units"], row["revenue_cents"]) != (0, 0)
    }


def net_of_cancellations(rows, as_of: datetime) -> dict[str, int]:
    """Net units per sale with cancellations, by brute force: every record in knowledge order, every sale looked at."""
    live: dict[tuple, dict] = {}
    taken: dict[tuple, list[list]] = defaultdict(list)
    known = [row for row in rows if row["knowledge_time"] <= as_of]
    for row in sorted(known, key=lambda r: _play_order(r)):
        key = (row["sale_id"], row["sold_at"])
        for parts in taken.values():
            parts[:] = [part for part in parts if part[0] != key]
        if row["is_cancellation"]:
            rest = row["units"]
            for other in sorted(live, key=lambda k: (k[1], k[0]), reverse=True):
                found = live[other]
                is_candidate = (
                    row["customer_id"] is not None
                    and found["customer_id"] == row["customer_id"]
                    and row["sold_at"] - timedelta(days=RULE.window_days) <= other[1] <= row["sold_at"]
                )
                left = found["units"] - sum(part[1] for part in taken[other])
                if is_candidate and min(rest, left) > 0:
                    taken[other].append([key, min(rest, left)])
                    rest -= min(rest, left)
        elif row["is_retraction"]:
            live.pop(key, None)
            taken.pop(key, None)
        else:
            has_moved = key in live and live[key]["customer_id"] != row["customer_id"]
            live[key] = row
            parts = [] if has_moved else taken[key]
            taken[key], left = [], row["units"]
            for by, units in parts:
                if min(units, left) > 0:
                    taken[key].append([by, min(units, left)])
                    left -= min(units, left)
    totals = {key: row["units"] - sum(part[1] for part in taken[key]) for key, row in live.items()}
    return {f"{key[0]}@{key[1].date()}": total for key, total in totals.items() if total}


def _play_order(row):
    arrival = (row["journal_seq"], row["row_nr"])
    if int(row["sale_id"]) > 100:
        return (row["knowledge_time"], 1, row["sold_at"], row["sale_id"], *arrival)
    return (row["knowledge_time"], 0, *arrival)


@st.composite
def histories(draw, ops="ID", n_customers=1):
    """Batches of bronze rows as ingest would accept them: corrections are marked; knowledge comes in any order."""
    seen: set = set()
    batches = []
    for seq in range(1, draw(st.integers(1, 4)) + 1):
        rows = []
        for row_nr in range(draw(st.integers(1, 6))):
            op = draw(st.sampled_from(ops))
            key, day = draw(st.integers(1, 3)), draw(st.integers(0, 4))
            if op in "CX":
                # Sales have keys up to 100, cancellations above; X retracts a cancellation.
                key, op = key + 100, "C" if op == "C" else "D"
            customer = draw(st.sampled_from(["c", "d", None][:n_customers]))
            known = draw(st.integers(0, 6))
            rows.append(
                sale(
                    seq, row_nr, key=key, day=day, known=known, units=draw(st.integers(0, 5)), op=op,
                    customer=customer, is_correction=(key, day) in seen,
                )
            )  # fmt: skip
            seen.add((key, day))
        batches.append(rows)
    return batches


def silver_after(batches, dataset: Dataset, *, at_once: bool = False) -> pl.DataFrame:
    lake = MemoryLake()
    for rows in batches:
        fed(lake, rows)
        if not at_once:
            update_silver(SALES, dataset, lake)
    update_silver(SALES, dataset, lake)
    return lake.read("silver/sales")


INSTANTS = [START + timedelta(days=day) for day in range(-1, 8)]


@settings(max_examples=25, deadline=None)
@given(histories())
def test_silver_sums_equal_brute_force_at_every_instant(batches):
    silver = silver_after(batches, data_set(None))
    rows = [row for batch in batches for row in batch]
    for as_of in INSTANTS:
        assert known_units(silver, as_of) == expected_units(rows, as_of)


@settings(max_examples=25, deadline=None)
@given(histories(ops="IICDX", n_customers=3))
def test_steps_of_any_size_give_the_same_silver(batches):
    dataset = data_set(RULE)
    key = [*SALES.fact_key, "knowledge_time", "version_nr", "posting_kind", "posting_sign"]
    stepwise = silver_after(batches, dataset)
    at_once = silver_after(batches, dataset, at_once=True)
    assert table_digest(stepwise, key) == table_digest(at_once, key)


@settings(max_examples=30, deadline=None)
@given(histories(ops="IIICCDX", n_customers=3))
def test_net_units_after_cancellations_equal_brute_force(batches):
    silver = silver_after(batches, data_set(RULE))
    rows = [row for batch in batches for row in batch]
    for as_of in INSTANTS:
        net = {key: units for key, (units, _) in known_units(silver, as_of).items() if units}
        assert net == net_of_cancellations(rows, as_of)
        assert all(units > 0 for units in net.values())


def test_a_late_arriving_older_record_gives_the_ledger_of_timely_arrival(tmp_path):
    first, second = sale(1, known=1, units=4), sale(2, known=3, units=6, is_correction=True)
    timely = silver_after([[first], [second]], data_set(None))
    late = silver_after(
        [[second | {"journal_seq": 1, "is_correction": False}], [first | {"journal_seq": 2, "is_correction": True}]],
        data_set(None),
    )
    assert table_digest(timely, ["knowledge_time", "version_nr"]) == table_digest(
        late, ["knowledge_time", "version_nr"]
    )


def test_a_retraction_known_before_its_fact_arrives_still_takes_it_back(tmp_path):
    silver = silver_after([[sale(1, known=2, op="D")], [sale(2, known=1, units=3, is_correction=True)]], data_set(None))
    assert sorted(silver["posting_kind"]) == ["reversal", "version"]


def test_a_second_update_commits_nothing(tmp_path):
    lake = DeltaLake(tmp_path)
    fed(lake, [sale(1)])
    version = update_silver(SALES, data_set(None), lake).commit.version
    again = update_silver(SALES, data_set(None), lake)
    assert (again.commit.version, again.new_versions) == (version, 0)


def test_an_empty_silver_table_exists_without_any_bronze(tmp_path):
    lake = DeltaLake(tmp_path)
    assert update_silver(SALES, data_set(), lake).commit.n_rows == 0
    assert lake.schema("silver/sales") == SALES.silver_schema | {"event_month": pl.Int32()}


def test_a_failed_audit_leaves_silver_as_it_was(tmp_path):
    def refuse(rows: pl.DataFrame) -> None:
        raise AuditFailed("no")

    lake = DeltaLake(tmp_path)
    fed(lake, [sale(1)])
    with pytest.raises(AuditFailed):
        update_silver(SALES, data_set(None), lake, refuse)
    assert lake.row_count("silver/sales") == 0


def test_timely_corrections_rewrite_no_month_and_late_ones_only_their_own(tmp_path):
    lake = DeltaLake(tmp_path)
    fed(lake, [sale(1, 0, day=0, known=1), sale(1, 1, day=5, known=6, key=2)])
    update_silver(SALES, data_set(None), lake)
    fed(lake, [sale(2, known=7, units=9, is_correction=True)])
    assert update_silver(SALES, data_set(None), lake).rewritten_months == 0
    fed(lake, [sale(3, known=5, units=7, is_correction=True)])
    assert update_silver(SALES, data_set(None), lake).rewritten_months == 1


def test_a_cancellation_is_posted_on_the_sale_s_own_day_and_counted(tmp_path):
    lake = DeltaLake(tmp_path)
    fed(
        lake, [sale(1, 0, key=1, units=4, revenue=41), sale(1, 1, key=101, day=2, known=2, units=3, op="C", revenue=30)]
    )
    update = update_silver(SALES, data_set(RULE), lake)
    (posting,) = lake.read("silver/sales", filters=[("posting_kind", "==", "cancellation")]).to_dicts()
    assert (posting["event_date"], posting["units"], posting["revenue_cents"]) == (date(2024, 1, 30), 3, 30)
    assert posting["knowledge_time"] == START + timedelta(days=2)
    assert (update.cancellations, update.cancellations_matched, update.cancellations_exact) == (1, 1, 0)


def test_what_a_cancellation_cannot_match_is_a_return(tmp_path):
    lake = DeltaLake(tmp_path)
    rows = [
        sale(1, 0, key=1, units=2),
        sale(1, 1, key=101, day=1, known=1, units=5, op="C"),
        sale(1, 2, key=102, day=1, known=1, units=1, op="C", customer=None),
    ]
    fed(lake, rows)
    update = update_silver(SALES, data_set(RULE), lake)
    returns = lake.read("silver/sales", filters=[("posting_kind", "==", "return")])
    assert sorted(returns["units"]) == [1, 3]
    assert (update.cancellations_partly, update.cancellations_unmatched) == (1, 1)


def test_a_cancellation_that_moved_to_another_group_is_not_posted_twice():
    batches = [
        [sale(1, 0, key=1, units=1), sale(1, 1, key=101, day=2, known=2, units=1, op="C")],
        [sale(2, 0, key=101, day=2, known=3, units=2, op="C", customer="d", is_correction=True)],
        # Known early, so the first group is looked at again; the second is not, though it shares the cancellation.
        [sale(3, 0, key=2, day=1, known=1, units=1)],
    ]
    returns = silver_after(batches, data_set(RULE)).filter(pl.col("posting_kind") == "return")
    assert returns["units"].to_list() == [2]


def test_a_sale_corrected_to_a_cancellation_takes_back_another_sale_and_not_itself():
    batches = [
        [sale(1, 0, key=1, units=9), sale(1, 1, key=2, day=1, known=1, units=5)],
        [sale(2, 0, key=2, day=1, known=2, units=5, op="C", is_correction=True)],
    ]
    net = known_units(silver_after(batches, data_set(RULE)), START + timedelta(days=5))
    assert {key: units for key, (units, _) in net.items()} == {f"1@{START.date()}": 4}


def test_a_cancellation_corrected_to_a_sale_gives_back_what_it_took():
    batches = [
        [sale(1, 0, key=1, units=9), sale(1, 1, key=2, day=1, known=1, units=5, op="C")],
        [sale(2, 0, key=2, day=1, known=2, units=5, is_correction=True)],
    ]
    net = known_units(silver_after(batches, data_set(RULE)), START + timedelta(days=5))
    assert sorted(units for units, _ in net.values()) == [5, 9]


def test_two_rules_for_one_stream_are_refused(tmp_path):
    other = CancellationRule(RULE.when, ("sku_id",))
    with pytest.raises(ContractError):
        fed(lake := DeltaLake(tmp_path), [sale(1)])
        update_silver(SALES, data_set(RULE, other), lake)
