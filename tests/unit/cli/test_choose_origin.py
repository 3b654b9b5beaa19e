"""Which origin a run takes when nobody says."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from replenish.cli import run
from replenish.cli.deployment import Deployment
from replenish.contracts.dataset import Dataset
from replenish.errors import ContractError
from replenish.stores.journal_entry import FILE_ACCEPTED, JournalRecord
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


def deployment(root: Path, newest: datetime) -> Deployment:
    layout = RootLayout(root)
    opened = Deployment(layout, Dataset("shop", "UTC", time(6), "demo", None, ()), {}, DeltaLake(layout.lake))
    data: dict[str, object] = {"parts": [], "knowledge_time_max": newest.isoformat()}
    opened.journal.append(JournalRecord("till", "1", FILE_ACCEPTED, "x.csv", newest, "sales@1.0.0", data))
    return opened


@pytest.mark.parametrize(
    ("newest", "origin"),
    [
        (NOW - timedelta(days=9), date(2025, 2, 21)),
        (NOW.replace(hour=5), date(2025, 3, 1)),
        # After today's cut-off: tomorrow's origin would see it, and cannot be run yet.
        (NOW - timedelta(hours=1), date(2025, 3, 1)),
    ],
)
def test_the_first_origin_that_sees_all_data_but_none_of_the_future(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest: datetime, origin: date
) -> None:
    monkeypatch.setattr(run, "run_with_progress", lambda *_, **__: None)
    monkeypatch.setattr(run, "now_utc", lambda: NOW)
    assert run.choose_origin(deployment(tmp_path, newest), None, Console(quiet=True)) == origin


def test_before_the_cutoff_the_newest_origin_is_yesterdays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early = NOW.replace(hour=5)
    monkeypatch.setattr(run, "run_with_progress", lambda *_, **__: None)
    monkeypatch.setattr(run, "now_utc", lambda: early)
    shop = deployment(tmp_path, early - timedelta(hours=1))
    assert run.choose_origin(shop, None, Console(quiet=True)) == date(2025, 2, 28)


def test_an_origin_whose_cutoff_lies_ahead_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "now_utc", lambda: NOW)
    shop = deployment(tmp_path, NOW)
    assert run.choose_origin(shop, date(2025, 3, 1), Console(quiet=True)) == date(2025, 3, 1)
    with pytest.raises(ContractError, match=r"cut-off of origin 2025-03-02 \(06:00 UTC\) lies ahead; .* 2025-03-01"):
        run.choose_origin(shop, date(2025, 3, 2), Console(quiet=True))
