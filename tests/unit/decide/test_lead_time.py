"""The lead time that a decision shows: the closest group, and no delivery counted twice."""

from __future__ import annotations

import polars as pl

from replenish.decide.lead_time import group_lead_times, lead_time_of

ROWS = pl.DataFrame(
    [("V1", None, 3, 8), ("V1", None, 9, 2), ("V1", "S1", 3, 8), ("V2", None, 5, 1)],
    schema=["supplier_id", "location_id", "lead_time_days", "n_lines"],
    orient="row",
)


def test_lines_of_a_location_are_part_of_its_supplier_and_not_added_to_it() -> None:
    groups = group_lead_times(ROWS)
    assert groups["V1", None].counts == ((3, 8), (9, 2))
    assert groups[None, None].counts == ((3, 8), (5, 1), (9, 2))


def test_a_supplier_s_own_location_comes_first_and_all_suppliers_last() -> None:
    groups = group_lead_times(ROWS)
    days = [lead_time_of(groups, supplier, place) for supplier, place in (("V1", "S1"), ("V1", "S2"), ("V9", "S1"))]
    assert [found.n_lines if found else None for found in days] == [8, 10, 11]
    assert lead_time_of({}, "V1", "S1") is None
