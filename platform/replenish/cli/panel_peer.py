"""mlforecast's side of the panel benchmark, a program of its own: nothing of the platform is imported here.

Its fastest documented path: series in order, one thread a processor, no rows dropped, no checks of the frame.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl


def mlforecast_features(path: Path, lags: list[int], windows: list[int], n_threads: int, n_samples: int) -> None:
    """Compute the features once, print wall and processor seconds and peak memory as JSON, keep some series' values."""
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import RollingMax, RollingMean, RollingMin, RollingStd

    frame = pl.read_parquet(path, columns=["series", "event_date", "units"]).select(
        unique_id="series", ds="event_date", y=pl.col("units").cast(pl.Float32)
    )
    kinds = (RollingMean, RollingStd, RollingMin, RollingMax)
    forecast = MLForecast(
        models=[],
        freq="1d",
        lags=lags,
        lag_transforms={1: [kind(days) for days in windows for kind in kinds]},
        num_threads=n_threads,
    )
    wall, cpu = time.perf_counter(), time.process_time()
    found = forecast.preprocess(frame, static_features=[], dropna=False, validate_data=False)
    figures = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "peak_mb": _peak_mb()}
    names = {f"lag{days}": f"lag_{days}" for days in lags} | {
        f"rolling_{kind}_lag1_window_size{days}": f"{kind}_{days}"
        for days in windows
        for kind in ("mean", "std", "min", "max")
    }
    n_series = found["unique_id"].n_unique()
    sampled = np.linspace(0, n_series - 1, min(n_samples, n_series)).astype(np.int64)
    values = {own: found[theirs].to_numpy().reshape(n_series, -1)[sampled] for theirs, own in names.items()}
    np.savez(path.with_name("sample-mlforecast.npz"), **values)  # type: ignore[arg-type]
    print(json.dumps(figures))


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    numbers = [[int(number) for number in word.split(",")] for word in sys.argv[2:]]
    mlforecast_features(Path(sys.argv[1]), numbers[0], numbers[1], numbers[2][0], numbers[3][0])
