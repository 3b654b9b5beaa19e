"""The catalogue: every feature in words, every aggregation's awkward cases, and the page that is committed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from replenish.features.definitions.aggregation_words import AGGREGATION_WORDS
from replenish.features.definitions.catalogue import (
    CATALOGUE_FILE,
    catalogue_is_current,
    catalogue_text,
    feature_rows,
)
from replenish.features.definitions.model import AGGREGATIONS
from replenish.features.definitions.reader import read_feature_sets
from tests.unit.features.definitions.small_set import INCREMENTS, contracts, small_set


def test_every_aggregation_says_what_it_does_in_every_case() -> None:
    assert tuple(words.aggregation for words in AGGREGATION_WORDS) == AGGREGATIONS
    for words in AGGREGATION_WORDS:
        assert all((words.value, words.type, words.empty, words.nulls, words.denominator, words.ties)), words


def test_a_row_says_what_is_read_by_whom_and_how_strict(tmp_path: Path) -> None:
    rows = {row.name: row for row in feature_rows(small_set(tmp_path), contracts())}
    mean = rows["units_mean__28"]
    assert mean.reads == "mean of units where buyer = b1, 28 days, offset 2, observed"
    assert (mean.source, mean.owner, mean.classification) == ("gold/fct_demand", "sales_data", "personal")
    assert rows["units_lag_1"].reads == "lag of units, 1 days back, calendar"
    assert rows["price_now"].reads == "last of price, not older than 30 days"
    assert rows["unit_cents__7"].reads == "cents_sum__7 / units_sum__7"
    assert rows["unit_cents__7"].source == "gold/fct_demand"
    assert (rows["units_sum__7"].consumers, mean.consumers) == ("unit_cents__7", "none yet")


def test_consumers_of_a_set_are_consumers_of_its_features(tmp_path: Path) -> None:
    consumed = replace(small_set(tmp_path), consumers=("forecast",))
    assert feature_rows(consumed, contracts())[0].consumers == "unit_cents__7, forecast"


def test_the_page_names_every_feature_planned_column_and_target(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    text = catalogue_text([read], contracts())
    assert all(f"| `{name}` |" in text for name in read.feature_names)
    assert "| weekday | calendar | day | Weekday of the target day. |" in text
    assert "| demand | sales.units | t+0 to t+27 |" in text
    assert "cents (from revenue_cents)" in text


def test_the_page_says_which_sources_hold_increments(tmp_path: Path) -> None:
    text = catalogue_text([small_set(tmp_path, *INCREMENTS)], contracts())
    assert "| sales | version, reversal, cancellation: summed by day, lines their count |" in text
    assert "| sales | version, reversal, cancellation |" in catalogue_text([small_set(tmp_path)], contracts())


def test_a_bar_in_a_description_does_not_break_the_table(tmp_path: Path) -> None:
    assert "Units \\| week." in catalogue_text(
        [small_set(tmp_path, ("Units of a week.", "Units | week."))], contracts()
    )


def test_a_stale_or_missing_page_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "features.md"
    assert not catalogue_is_current("text", page)
    page.write_text("text", encoding="utf-8")
    assert catalogue_is_current("text", page)
    assert not catalogue_is_current("other", page)


def test_the_committed_page_is_current() -> None:
    text = catalogue_text(read_feature_sets().values(), contracts())
    assert catalogue_is_current(text, CATALOGUE_FILE), "`replenish features catalogue`"
