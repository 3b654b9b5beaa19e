"""Features read gold, and gold only renames, casts and sums silver's postings: both say the same at every cut-off.

The lake is the built-in retailer's after dbt, whose sales also have units cancelled, returns without a sale and lines
without an amount.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.bitemporal import knowledge_date_expr, origin_instant_expr
from replenish.cli.deployment import Deployment
from replenish.cli.stages import build_gold_tables, run_to_silver, update_demand_features
from replenish.contracts.model import POLARS_TYPES
from replenish.contracts.profile import read_profile
from replenish.features.definitions.forecast_names import columns_said_twice
from replenish.features.definitions.model import COUNTED_KINDS, FeatureDefinition, FeatureSet, FeatureSource
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.offline.evaluator import evaluate
from replenish.features.offline.ledger_parts import declared_ledger
from tests.oracle.compare import is_same
from tests.oracle.known_at import Feature, known_values
from tests.scenario.worlds import NOW, small_retailer

pytestmark = pytest.mark.slow
INCREMENT_KEY = ("event_date", "knowledge_date")


@cache
def sets() -> dict[str, FeatureSet]:
    """The committed sets, read once."""
    return read_feature_sets()


def sources() -> list[tuple[str, FeatureSource]]:
    return [(name, source) for name, feature_set in sets().items() for source in feature_set.sources]


@dataclass(frozen=True)
class Ledgers:
    """A deployment with gold, and its sources as sets read them."""

    deployment: Deployment

    def of_gold(self, feature_set: FeatureSet) -> dict[str, pl.DataFrame]:
        return {source.name: self.deployment.lake.read(source.table) for source in feature_set.sources}

    def of_silver(self, feature_set: FeatureSet) -> dict[str, pl.DataFrame]:
        return {source.name: self.silver(source) for source in feature_set.sources}

    def silver(self, source: FeatureSource) -> pl.DataFrame:
        """The stream's postings, renamed and cast as the source says."""
        postings = self.deployment.lake.read(f"silver/{source.stream}")
        columns = {c.name: pl.col(c.from_column).cast(POLARS_TYPES[c.logical_type]) for c in source.columns}
        return postings.with_columns(**columns)

    def spine(self, feature_set: FeatureSet) -> pl.DataFrame:
        """Every series at the cut-off of every date on which something became known, and of some around them."""
        demand = self.deployment.lake.read("gold/fct_demand")
        first, last = demand.select(a=pl.col("event_date").min(), b=pl.col("knowledge_date").max()).row(0)
        days = pl.date_range(first - timedelta(days=2), last + timedelta(days=30), eager=True).alias("day").to_frame()
        dataset = self.deployment.dataset
        as_of = origin_instant_expr(pl.col("day"), dataset.zone, dataset.cutoff)
        series = demand.select(feature_set.entity).unique().sort(*feature_set.entity)
        return series.join(days.select(as_of=as_of), how="cross")


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Ledgers:
    root = tmp_path_factory.mktemp("gold")
    deployment = small_retailer(root / "world", n_days=60)
    run_to_silver(deployment, now=NOW)
    sales = deployment.lake.read("silver/sales")
    deployment.lake.overwrite("silver/sales", with_all_kinds(sales, deployment), partition_by=["event_month"])
    build_gold_tables(deployment.lake, root / "dbt")
    return Ledgers(deployment)


def with_all_kinds(sales: pl.DataFrame, deployment: Deployment) -> pl.DataFrame:
    """Silver sales with what the retailer never does: every fifth line names no amount, and of every sixth version some
    units are taken back two days later, for good or for a week; every ninth has a return on the day after.
    """
    number = pl.col("sale_id").rank("dense")
    sales = sales.with_columns(revenue_cents=pl.when(number % 5 != 0).then("revenue_cents"))
    versions = sales.filter(pl.col("posting_kind") == "version").sort("location_id", "event_time", "sale_id")
    versions = versions.with_row_index("nr")
    kept = sales.filter(pl.col("posting_kind") == "reversal").select("location_id", "event_time", "sale_id")
    standing = versions.join(kept, on=["location_id", "event_time", "sale_id"], how="anti")

    def taken(rows: pl.DataFrame, kind: str, days: int, sign: int) -> pl.DataFrame:
        known = pl.col("knowledge_time") + pl.duration(days=days)
        amounts = [pl.col("units").clip(upper_bound=1), pl.col("revenue_cents") // pl.col("units").clip(lower_bound=1)]
        return rows.with_columns(
            *amounts,
            knowledge_time=known,
            knowledge_date=knowledge_date_expr(known, deployment.dataset.zone, deployment.dataset.cutoff),
            posting_kind=pl.lit(kind),
            posting_sign=pl.lit(sign, dtype=sales.schema["posting_sign"]),
        )

    cancelled, returned = standing.filter(pl.col("nr") % 6 == 0), standing.filter(pl.col("nr") % 9 == 1)
    returned = returned.with_columns(
        pl.col("event_date").dt.offset_by("1d"), pl.col("event_time", "sold_at") + pl.duration(days=1)
    )
    more = [
        taken(cancelled, "cancellation", 2, -1),
        taken(cancelled.filter(pl.col("nr") % 12 == 0), "cancellation", 9, 1),
        taken(returned, "return", 3, -1),
    ]
    return pl.concat([sales, *[rows.select(sales.columns) for rows in more]])


@pytest.mark.parametrize(("name", "source"), sources(), ids=[f"{n}.{s.name}" for n, s in sources()])
def test_gold_renames_casts_and_sums_and_does_no_more(ledgers: Ledgers, name: str, source: FeatureSource) -> None:
    gold, silver = ledgers.deployment.lake.read(source.table), ledgers.silver(source)
    names = [column.name for column in source.columns]
    if source.is_increments:
        keys = [*sets()[name].entity, *INCREMENT_KEY]
        kind, sign = pl.col("posting_kind"), pl.col("posting_sign").cast(pl.Int64)
        taken = pl.when(kind.is_in(source.posting_kinds)).then(sign).otherwise(0)
        counted = pl.when(kind.is_in(COUNTED_KINDS)).then(sign).otherwise(0)
        sums = {each: (taken * pl.col(each)).sum() for each in names} | {str(source.lines): counted.sum()}
        silver = silver.group_by(keys).agg(**sums)
        says = pl.any_horizontal(pl.col(*sums) != 0)
        assert {"cancellation", "return", "reversal"} < set(ledgers.silver(source)["posting_kind"])
        silver, gold = silver.filter(says), gold.filter(says)
        columns = [*keys, *sums]
    else:
        clocks = ("event_time", "event_date", "knowledge_time")
        columns = [*sets()[name].entity, *clocks, *names, "version_nr", "posting_kind", "posting_sign"]
        gold = declared_ledger(gold, source).lazy().collect()
    assert gold.height > 10
    assert_frame_equal(gold.select(columns), silver.select(columns), check_row_order=False, check_dtypes=False)


def test_the_daily_set_says_the_same_of_gold_and_of_silver(ledgers: Ledgers) -> None:
    daily, dataset = sets()["demand_daily"], ledgers.deployment.dataset
    assert [source.name for source in daily.sources if source.is_increments] == ["sales"]
    spine = ledgers.spine(daily)
    of_gold = evaluate(daily, spine, ledgers.of_gold(daily), dataset.zone, dataset.cutoff)
    of_silver = evaluate(daily.on_postings(), spine, ledgers.of_silver(daily), dataset.zone, dataset.cutoff)
    assert spine.height > 1_000
    assert of_gold.equals(of_silver)
    # It would not, were any of the kinds, dates or counts another.
    for name in ("units_sum__7", "sale_lines__28", "units_sd__28", "revenue_cents_sum__28"):
        assert of_gold[name].n_unique() > 20, name


def test_gold_gives_what_the_oracle_says_of_silver(ledgers: Ledgers) -> None:
    daily, dataset = sets()["demand_daily"], ledgers.deployment.dataset
    spine = ledgers.spine(daily).sample(60, seed=4)
    answer = evaluate(daily, spine, ledgers.of_gold(daily), dataset.zone, dataset.cutoff)
    n_values = 0
    for source in daily.sources:
        postings = [_posting(row, daily, source) for row in ledgers.silver(source).iter_rows(named=True)]
        features = [_asked(feature) for feature in daily.features if feature.source == source.name]
        for row in answer.iter_rows(named=True):
            key = tuple(row[column] for column in daily.entity)
            own = [posting for posting in postings if posting["key"] == key]
            kinds = source.posting_kinds
            expected = known_values(features, own, key, row["as_of"], dataset.zone, dataset.cutoff, kinds)
            wrong = {name: (row[name], value) for name, value in expected.items() if not is_same(row[name], value)}
            assert not wrong, (key, row["as_of"], wrong)
            n_values += len(expected)
    assert n_values > 3_000


def test_the_forecast_reads_what_the_daily_set_says(ledgers: Ledgers) -> None:
    daily, deployment, profile = sets()["demand_daily"], ledgers.deployment, read_profile("demo")
    dataset = deployment.dataset
    update_demand_features(deployment.lake, dataset, profile)
    rows = deployment.lake.read("features/feat_demand").sort(*daily.entity, "origin_date")
    as_of = origin_instant_expr("origin_date", dataset.zone, dataset.cutoff)
    spine = rows.select(*daily.entity, as_of=as_of)
    said = evaluate(daily, spine, ledgers.of_gold(daily), dataset.zone, dataset.cutoff)
    n_compared = 0
    for column, name in columns_said_twice(daily, profile.feature_columns).items():
        n_compared += rows.height
        both = pl.DataFrame({"trained": rows[column], "said": said[name]})
        wrong = [row for row in both.iter_rows() if not is_same(*row)]
        assert not wrong, (column, len(wrong), wrong[:3])
    assert n_compared > 20_000


def _posting(row: dict[str, object], feature_set: FeatureSet, source: FeatureSource) -> dict[str, object]:
    names = ("event_date", "event_time", "knowledge_time", "posting_sign", "posting_kind", "version_nr")
    return {
        "key": tuple(row[name] for name in feature_set.entity),
        "fact": tuple(row[name] for name in source.fact_key),
        "values": {column.name: row[column.name] for column in source.columns},
        **{name: row[name] for name in names},
    }


def _asked(feature: FeatureDefinition) -> Feature:
    fields = ("name", "aggregation", "value", "window_days", "offset_days", "lag_days", "time_to_live_days")
    asked = Feature(**{name: getattr(feature, name) for name in fields})
    return replace(asked, denominator=feature.denominator or "calendar")
