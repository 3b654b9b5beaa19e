"""The drift study on a few worlds; `replenish bench drift` runs all twenty."""

from __future__ import annotations

import pytest

from replenish.cli.bench_drift import drift_study


@pytest.mark.slow
def test_a_shift_of_a_category_asks_for_one_training_and_quiet_days_for_none() -> None:
    figures = drift_study(seeds=(1, 2, 3))
    assert figures["shifted_exactly_one_request_within_3_days"] == 3
    assert figures["unshifted_requests"] == 0
