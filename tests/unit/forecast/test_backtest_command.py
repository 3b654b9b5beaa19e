from datetime import timedelta

from typer.testing import CliRunner

from replenish.cli.main import app
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from tests.unit.forecast.conftest import ORIGIN, demand_increments


def test_the_backtest_command_builds_the_features_it_lacks(tmp_path):
    layout = RootLayout(tmp_path)
    write_dataset(read_dataset(PLATFORM_FOLDER / "feeds" / "retailer.yaml"), layout.dataset_file)
    DeltaLake(layout.lake).overwrite("gold/fct_demand", demand_increments(n_skus=3))
    day = (ORIGIN - timedelta(days=1)).isoformat()
    command = ["forecast", "backtest", "--profile", "demo", "--origin", day, "--root", str(tmp_path)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert all(name in done.output for name in ("lightgbm", "moving_average", "seasonal_naive", "pinball"))
    # A look at another profile stores no backtest.
    assert not DeltaLake(layout.lake).has("forecasts/backtest")
