"""The online benchmark in small: every event becomes visible, and every figure is there."""

from replenish.cli.bench_online import N_FEATURES, forty_features, run_online_bench


def test_every_event_becomes_visible_and_every_figure_is_there() -> None:
    figures = run_online_bench(n_keys=300, events_per_second=300, seconds=2.0, sales_per_key_day=0.1)
    assert figures["keys"] == 300
    assert figures["features"] == N_FEATURES
    assert int(str(figures["events"])) > 300
    for name in ("vector_ms_p99", "event_to_visible_ms_p99", "snapshot_mb"):
        assert float(str(figures[name])) > 0
    # A difference of resident memory: in a world this small the allocator may give back more than the states take.
    assert abs(float(str(figures["states_mb"]))) < 1000


def test_forty_features_are_of_every_kind_that_the_platforms_sets_use() -> None:
    kinds = {feature.aggregation for feature in forty_features().features}
    assert kinds >= {"lag", "sum", "mean", "std", "count", "count_nonzero", "min", "max", "days_since", "last", "ratio"}
