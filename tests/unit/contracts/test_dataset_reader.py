"""Feed files: short ones work, wrong ones say where, and the right one is found for a folder."""

from dataclasses import replace
from datetime import date, time
from pathlib import Path

import pytest

from replenish.contracts.dataset import ColumnRule, FileFormat, KnowledgeRule
from replenish.contracts.dataset_reader import (
    FEED_FOLDER,
    feed_for_file,
    find_dataset,
    read_dataset,
    with_assumptions,
)
from replenish.contracts.dataset_writer import write_dataset
from replenish.errors import ContractError

MINIMAL = """\
stream: sales
files: till-*.csv
columns:
  location_id: {value: MAIN}
  sold_at: time
  sale_id: receipt
  sku_id: article
  units: qty
"""


def _file(tmp_path: Path, text: str, name: str = "shop.feed.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_minimal_file_is_a_data_set_of_one_feed_with_sane_defaults(tmp_path: Path) -> None:
    dataset = read_dataset(_file(tmp_path, MINIMAL))
    assert (dataset.dataset_id, dataset.zone, dataset.cutoff, dataset.profile) == ("shop", "UTC", time(6), "demo")
    assert dataset.origin is None
    (feed,) = dataset.feeds
    assert (feed.feed_id, feed.stream, feed.files, feed.zone) == ("shop.sales", "sales", ("till-*.csv",), "UTC")
    assert feed.format == FileFormat()
    assert feed.knowledge == KnowledgeRule("arrival")
    assert feed.columns["units"] == ColumnRule(column="qty")
    assert feed.columns["location_id"] == ColumnRule(value="MAIN")
    assert dataset.feeds_of("sales") == (feed,)
    assert dataset.feeds_of("prices") == ()


@pytest.mark.parametrize("path", sorted(FEED_FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_known_feed_file_is_sound_and_its_resolved_copy_means_the_same(path: Path, tmp_path: Path) -> None:
    dataset = read_dataset(path)
    assert dataset.dataset_id == path.stem
    assert read_dataset(write_dataset(dataset, tmp_path / "root" / "dataset.yaml")) == dataset


def test_a_resolved_copy_keeps_the_id_that_came_from_the_file_name(tmp_path: Path) -> None:
    dataset = read_dataset(_file(tmp_path, MINIMAL))
    copy = read_dataset(write_dataset(dataset, tmp_path / "dataset.yaml"))
    assert copy == dataset
    assert copy.dataset_id == "shop"


def test_a_resolved_copy_carries_assumptions_and_origin(tmp_path: Path) -> None:
    dataset = replace(
        read_dataset(_file(tmp_path, MINIMAL)), origin=date(2025, 2, 4), assumptions={"lead_time_days": 9}
    )
    assert read_dataset(write_dataset(dataset, tmp_path / "dataset.yaml")) == dataset


def test_the_retailer_feed_reads_what_the_plan_says() -> None:
    retailer = read_dataset(FEED_FOLDER / "retailer.yaml")
    assert (retailer.zone, retailer.cutoff, retailer.origin) == ("Europe/Berlin", time(6), date(2025, 2, 4))
    sales = retailer.feeds_of("sales")[0]
    assert sales.columns["sale_id"].template == "{receipt}-{line}"
    assert sales.columns["revenue_cents"] == ColumnRule(column="amount", factor=100)
    assert sales.retraction is not None
    assert (sales.retraction.column, sales.retraction.equals) == ("op", "D")
    assert len(retailer.feeds) == 8


def test_a_column_name_with_a_number_sign_is_no_comment() -> None:
    orders = read_dataset(FEED_FOLDER / "scms.yaml").feeds_of("purchase_orders")[0]
    assert orders.columns["po_id"].column == "PO / SO #"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stream: sales", "stream: sale", r"stream: must be one of .*did you mean 'sales'"),
        ("stream: sales", "streem: sales", r"stream: is missing"),
        ("files:", "file:", r"files: is missing"),
        ("  units: qty\n", "", r"columns\.units: required by contract sales \(Units sold\.\) and not mapped"),
        ("  units: qty", "  unitz: qty", r"columns\.unitz: contract sales has no such column; it has location_id"),
        ("sold_at: time", "sold_at: {colunm: time}", r"columns\.sold_at\.colunm: unknown key \(did you mean 'column'"),
        ("sold_at: time", "sold_at: {column: time, value: x}", r"exactly one of .*; has column, value"),
        ("sold_at: time", "sold_at: {}", r"exactly one of .*; has none"),
        ("sold_at: time", "sold_at: 5", r"columns\.sold_at: must be a mapping"),
        ("sold_at: time", "sold_at: {value: x, formats: ['%d']}", r"sold_at\.formats: belongs to a rule with `column`"),
        (
            "sold_at: time",
            "sold_at: {column: time, batch: [a]}",
            r"sold_at\.batch: belongs to a rule with `content_of`",
        ),
        ("sold_at: time", "sold_at: {column: time, days_since: soon}", r"sold_at\.days_since: must read YYYY-MM-DD"),
        ("units: qty", "units: {column: qty, transform: [abs]}", r"units\.transform: must be of strip, upper"),
        ("units: qty", "units: {column: qty, factor: many}", r"units\.factor: must be a number"),
        ("columns:", "zone: Mars/Base\ncolumns:", r"zone: is not an IANA time zone: 'Mars/Base'"),
        ("columns:", "cutoff: six\ncolumns:", r"cutoff: must read HH:MM"),
        ("columns:", "origin: 2025-13-01\ncolumns:", r"origin: must read YYYY-MM-DD"),
        ("columns:", "profile: weakly\ncolumns:", r"profile: must be one of demo, .*did you mean 'weekly'"),
        ("columns:", "profil: weekly\ncolumns:", r"profil: unknown key \(did you mean 'profile'\?\)"),
        ("columns:", "options: {forcast: {}}\ncolumns:", r"options\.forcast: unknown key \(did you mean 'forecast'"),
        (
            "columns:",
            "assumptions: {lead_time: 7}\ncolumns:",
            r"assumptions\.lead_time: unknown key \(did you mean 'lead",
        ),
        ("columns:", "assumptions: {lead_time_days: -7}\ncolumns:", r"lead_time_days: must not be negative"),
        ("columns:", "assumptions: {lead_time_days: soon}\ncolumns:", r"lead_time_days: must be a whole number"),
        ("columns:", "feed_id: My Feed\ncolumns:", r"feed_id: must be lower case"),
        ("columns:", "format: {type: xlsx}\ncolumns:", r"format\.type: must be one of csv, parquet, jsonl"),
        ("columns:", "format: {separator: ';;'}\ncolumns:", r"format\.separator: separator is one character"),
        ("columns:", "format: {decimal: ',', thousands: ','}\ncolumns:", r"format\.thousands: must differ"),
        ("columns:", "knowledge: {source: column}\ncolumns:", r"knowledge\.column: belongs to `source: column`"),
        ("columns:", "knowledge: {source: delay, delay_hours: -1}\ncolumns:", r"delay_hours: must not be negative"),
        ("columns:", "knowledge: {source: arrival, delay_hours: 2}\ncolumns:", r"delay_hours: belongs to"),
        ("columns:", "retraction: {column: op}\ncolumns:", r"retraction: tests nothing"),
        ("columns:", "retraction: {column: op, matches: '(?=a)b'}\ncolumns:", r"retraction\.matches: is not a regular"),
        ("columns:", "retraction: {column: op, matches: '('}\ncolumns:", r"retraction\.matches: is not a regular"),
        (
            "columns:",
            "exclude: [{reason: No!, when: {column: a, equals: b}}]\ncolumns:",
            r"exclude\[0\]\.reason: must be",
        ),
        ("columns:", "exclude: [{reason: test}]\ncolumns:", r"exclude\[0\]\.when: is missing"),
        (
            "columns:",
            "cancellation: {when: {column: a, equals: b}, match_columns: [sku]}\ncolumns:",
            r"match_columns: the contract has no column 'sku'",
        ),
    ],
)
def test_a_malformed_feed_names_file_field_and_rule(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    path = _file(tmp_path, MINIMAL.replace(old, new, 1))
    with pytest.raises(ContractError, match=message) as caught:
        read_dataset(path)
    assert str(path) in str(caught.value)


def test_only_sales_can_be_cancelled(tmp_path: Path) -> None:
    text = """\
stream: prices
files: p.csv
columns: {sku_id: a, location_id: b, valid_from: c, unit_price_cents: d, is_promotion: e}
cancellation: {when: {column: x, equals: y}, match_columns: [sku_id]}
"""
    with pytest.raises(ContractError, match="only sales can be cancelled"):
        read_dataset(_file(tmp_path, text))


def test_two_feeds_cannot_share_an_id(tmp_path: Path) -> None:
    feed = "  - " + MINIMAL.replace("\n", "\n    ").rstrip() + "\n"
    with pytest.raises(ContractError, match=r"feeds\[1\]\.feed_id: 'shop.sales' is given twice"):
        read_dataset(_file(tmp_path, f"feeds:\n{feed}{feed}"))


def test_the_named_feed_file_wins(tmp_path: Path) -> None:
    _file(tmp_path, MINIMAL, "dataset.yaml")
    named = _file(tmp_path, MINIMAL, "elsewhere.yaml")
    assert find_dataset(tmp_path, named) == named


def test_a_feed_file_beside_the_data_wins_over_known_ones(tmp_path: Path) -> None:
    (tmp_path / "series.parquet").touch()
    own = _file(tmp_path, MINIMAL)
    assert find_dataset(tmp_path) == own
    assert find_dataset(tmp_path / "series.parquet") == own


def test_a_known_data_set_is_found_by_its_file_names(tmp_path: Path) -> None:
    (tmp_path / "online_retail_ii.parquet").touch()
    assert find_dataset(tmp_path).name == "online_retail_ii.yaml"
    assert find_dataset(tmp_path / "online_retail_ii.parquet").name == "online_retail_ii.yaml"


def test_the_known_data_set_with_most_matching_feeds_is_taken(tmp_path: Path) -> None:
    for name in ("series.parquet", "sales_daily_store_dept.parquet", "products.csv"):
        (tmp_path / name).touch()
    assert find_dataset(tmp_path).name == "m5.yaml"


def test_a_feed_file_of_another_name_is_not_passed_over_for_one_of_ours(tmp_path: Path) -> None:
    (tmp_path / "sales-1.csv").write_text("x", encoding="utf-8")
    (tmp_path / "docker.yaml").write_text("services: {}", encoding="utf-8")
    assert find_dataset(tmp_path).name == "retailer.yaml"
    (tmp_path / "till.yaml").write_text("dataset_id: till\nfeeds: []\n", encoding="utf-8")
    with pytest.raises(ContractError, match=r"till\.yaml: looks like a feed file; call it <name>\.feed\.yaml"):
        find_dataset(tmp_path)
    with pytest.raises(ContractError, match="looks like a feed file"):
        find_dataset(tmp_path / "sales-1.csv")


def test_data_that_nothing_fits_says_what_to_do_next(tmp_path: Path) -> None:
    (tmp_path / "unheard-of.xyz").touch()
    with pytest.raises(ContractError, match=r"write one beside the data as <name>\.feed\.yaml or name it as FEED="):
        find_dataset(tmp_path)


def test_several_feed_files_beside_the_data_ask_for_a_name(tmp_path: Path) -> None:
    _file(tmp_path, MINIMAL, "a.feed.yaml")
    _file(tmp_path, MINIMAL, "b.feed.yaml")
    with pytest.raises(ContractError, match="several feed files fit"):
        find_dataset(tmp_path)


@pytest.mark.parametrize(("data", "feed"), [("nowhere", None), (".", "nowhere.yaml")])
def test_missing_data_and_missing_feed_files_are_named(tmp_path: Path, data: str, feed: str | None) -> None:
    with pytest.raises(ContractError, match="nowhere"):
        find_dataset(tmp_path / data, None if feed is None else tmp_path / feed)


def test_one_file_can_serve_several_feeds() -> None:
    scms = read_dataset(FEED_FOLDER / "scms.yaml")
    feeds = feed_for_file(scms, "SCMS_Delivery_History_Dataset.raw.csv.gz")
    assert [feed.stream for feed in feeds] == ["purchase_orders", "receipts", "suppliers", "products", "locations"]
    assert feed_for_file(scms, "scms_delivery_history.parquet") == ()


def test_assumptions_are_laid_over_those_of_the_data_set(tmp_path: Path) -> None:
    dataset = read_dataset(_file(tmp_path, MINIMAL + "assumptions: {lead_time_days: 7, on_hand_units: 0}\n"))
    assumed = with_assumptions(dataset, _file(tmp_path, "lead_time_days: 10\n", "assume.yaml"))
    assert assumed.assumptions == {"lead_time_days": 10, "on_hand_units": 0}
    assert dataset.assumptions["lead_time_days"] == 7


def test_a_misspelt_assumption_does_not_pass_for_one_that_was_made(tmp_path: Path) -> None:
    dataset = read_dataset(_file(tmp_path, MINIMAL))
    with pytest.raises(ContractError, match=r"assume\.yaml: on_hand: unknown key \(did you mean 'on_hand_units'"):
        with_assumptions(dataset, _file(tmp_path, "on_hand: 5\n", "assume.yaml"))


def test_options_are_kept_by_stage(tmp_path: Path) -> None:
    dataset = read_dataset(_file(tmp_path, MINIMAL + "options: {outcomes: {days: 30}}\n"))
    assert dataset.options == {"outcomes": {"days": 30}}
    assert read_dataset(write_dataset(dataset, tmp_path / "dataset.yaml")) == dataset


EVENTS = MINIMAL.replace(
    "files: till-*.csv\n", "door: events\nknowledge: {source: column, column: at, else_arrival: true}\n"
)


def test_a_feed_may_take_single_events_and_no_files(tmp_path: Path) -> None:
    dataset = read_dataset(_file(tmp_path, EVENTS))
    (feed,) = dataset.feeds
    assert (feed.door, feed.files, feed.knowledge.else_arrival) == ("events", (), True)
    assert feed_for_file(dataset, "till-1.csv") == ()
    assert read_dataset(write_dataset(dataset, tmp_path / "dataset.yaml")) == dataset


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("door: events", "door: events\nfiles: x", "files: belongs to `door: files`"),
        ("door: events", "door: events\nformat: {type: jsonl}", "format: belongs to `door: files`"),
        ("door: events", "door: http", "door: must be one of files, events"),
        ("sale_id: receipt", "sale_id: {content_of: '*'}", r"columns\.sale_id: content_of numbers the rows of a file"),
        ("source: column, column: at", "source: arrival", "else_arrival: belongs to"),
    ],
)
def test_a_feed_of_events_names_its_mistakes(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in EVENTS
    with pytest.raises(ContractError, match=message):
        read_dataset(_file(tmp_path, EVENTS.replace(old, new)))
