"""A contract's runbook is there, and has a part about its stream."""

import re

import pytest

from replenish.contracts.model import Contract
from replenish.contracts.reader import PLATFORM_FOLDER, read_contracts


@pytest.mark.parametrize("contract", read_contracts().values(), ids=lambda contract: contract.stream)
def test_the_runbook_of_a_contract_exists_and_has_its_heading(contract: Contract) -> None:
    file, _, heading = contract.runbook.partition("#")
    text = (PLATFORM_FOLDER.parent / file).read_text(encoding="utf-8")
    assert re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE), f"{file} has no heading {heading}"
