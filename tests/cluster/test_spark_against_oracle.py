"""The feature query on Spark, with two executor processes, against the oracle over random histories."""

from __future__ import annotations

import polars as pl
import pytest

from replenish.features.cluster.calendar_tables import CUTOFF_DAYS, ORIGIN_SPANS, calendar_tables
from replenish.features.cluster.feature_query import feature_query
from replenish.features.cluster.query_base import SPINE_VIEW, source_view
from replenish.features.cluster.spark_engine import spark_session
from replenish.features.definitions.model import FeatureSet
from tests.oracle.compare import Batch, batch_of, compare
from tests.oracle.evaluators import SOURCE, feature_set_of
from tests.oracle.increments import asked_of_increments, increments_of, set_of_increments
from tests.oracle.range_join import Question

HISTORIES = 300
SEEDS = (2_001, 2_002)
PLACE = "spine_place"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def on_spark(address: str, feature_set: FeatureSet, question: Question, ledger: pl.DataFrame) -> pl.DataFrame:
    """The spine with its features, computed on Spark from uploaded tables."""
    spine = question.spine.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(PLACE))
    instants = spine["as_of"].to_physical()
    oldest, newest = int(instants.min()), int(instants.max())  # type: ignore[arg-type]
    calendar = calendar_tables(oldest, newest, question.zone, question.cutoff)
    tables = {SPINE_VIEW: spine, ORIGIN_SPANS: calendar.spans, CUTOFF_DAYS: calendar.days, source_view(SOURCE): ledger}
    with spark_session(address) as session:
        for name, table in tables.items():
            arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
            session.createDataFrame(arrow).createOrReplaceTempView(name)
        answer = session.sql(feature_query(feature_set, calendar).sql("spark")).toArrow()
    frame = pl.DataFrame(pl.from_arrow(answer)).sort(PLACE)
    return pl.concat([question.spine, frame.select(feature_set.feature_names)], how="horizontal")


def hold(address: str, batch: Batch, *, by_increments: bool) -> int:
    def evaluator(question: Question) -> pl.DataFrame:
        if by_increments:
            ledger = increments_of(question.ledger, question.kinds)
            return on_spark(address, set_of_increments(question), question, ledger)
        return on_spark(address, feature_set_of(question), question, question.ledger)

    done = compare(evaluator, [batch])
    assert done.mismatch is None, f"{done.n_wrong} of {done.n_values} values differ\n{done.mismatch}"
    return done.n_values


@pytest.mark.parametrize("seed", SEEDS)
def test_spark_says_what_the_oracle_says(spark_address: str, seed: int) -> None:
    n_values = hold(spark_address, batch_of(seed, HISTORIES), by_increments=False)
    print(f"\nSpark against the oracle, seed {seed}: {n_values} values of {HISTORIES} histories, 0 differences")


def test_spark_says_of_increments_what_the_oracle_says_of_postings(spark_address: str) -> None:
    n_values = hold(spark_address, asked_of_increments(batch_of(SEEDS[0] + 7, HISTORIES)), by_increments=True)
    print(f"\nSpark over increments against the oracle: {n_values} values of {HISTORIES} histories, 0 differences")
