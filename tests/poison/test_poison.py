"""A small draw of the poisoned inputs through each door; `make poison` offers a hundred thousand."""

from pathlib import Path

import pytest

from replenish.errors import NotApplicable
from tests.poison.run import SHARES, poisoning

N_INPUTS = {"file": 600, "http": 3_000, "kafka": 300, "cdc": 600}


@pytest.mark.parametrize("door", SHARES)
def test_no_poison_crashes_a_door_or_is_taken_for_something_else(door: str, tmp_path: Path) -> None:
    try:
        tally = poisoning(door)(tmp_path, N_INPUTS[door], 20)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    assert tally.wrong == []
    assert tally.dead > 50
    assert tally.grown_mb < 100
