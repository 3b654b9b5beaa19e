"""The policy file: read strictly, digested by content."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from replenish.control.policy import POLICY_FILE, parse_policy, read_policy
from replenish.errors import ContractError

LOADED: dict[str, Any] = yaml.safe_load(POLICY_FILE.read_text(encoding="utf-8"))


def changed(path: str, value: object) -> dict[str, Any]:
    loaded = copy.deepcopy(LOADED)
    *parents, last = path.split(".")
    place = loaded
    for parent in parents:
        place = place[parent]
    place[last] = value
    return loaded


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("auto.max_order_cents", float("nan")),
        ("auto.max_order_cents", "100000"),
        ("auto.max_order_cents", True),
        ("auto.max_order_cents", -1),
        ("plausibility.max_multiple_of_usual", float("nan")),
        ("plausibility.max_multiple_of_usual", float("inf")),
        ("objective.kind", "service_level"),
        ("objective.target", 0.9),
        ("objective.default_ratio", 1.5),
        ("late_feeds.sales.fail", "allow"),
        ("circumstances.horizon_too_short", None),
        ("circumstances.new_thing", "auto"),
        ("surprise", 1),
        ("auto.surprise", 1),
        ("late_feeds.sales.surprise", "auto"),
        ("auto", []),
        ("version", 1),
    ],
)
def test_what_is_not_understood_is_refused(path: str, value: object) -> None:
    with pytest.raises(ContractError):
        parse_policy(changed(path, value), "test.yaml")


@pytest.mark.parametrize("path", ["auto", "objective.default_ratio", "late_feeds.sales.never", "orders.max_open_days"])
def test_a_missing_field_is_refused_by_name(path: str) -> None:
    loaded = copy.deepcopy(LOADED)
    *parents, last = path.split(".")
    place = loaded
    for parent in parents:
        place = place[parent]
    del place[last]
    with pytest.raises(ContractError, match=last):
        parse_policy(loaded, "test.yaml")


def test_a_service_level_objective_needs_its_target() -> None:
    with pytest.raises(ContractError):
        parse_policy(changed("objective.kind", "fill_rate"), "test.yaml")
    loaded = changed("objective.kind", "fill_rate")
    loaded["objective"]["target"] = 0.98
    assert parse_policy(loaded, "test.yaml").objective.target == 0.98


def test_the_digest_follows_the_content_and_nothing_else() -> None:
    policy = read_policy()
    assert parse_policy(copy.deepcopy(LOADED), "elsewhere.yaml").policy_digest == policy.policy_digest
    assert parse_policy(changed("auto.max_order_cents", 1), "x").policy_digest != policy.policy_digest
