"""The log against its model, in any order of offers, settlings, updates and crashes."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.faults.journal_machine import LogMachine

N_EXAMPLES = int(os.environ.get("REPLENISH_MODEL_EXAMPLES", "8"))

TestLogMachine = pytest.mark.slow(LogMachine.TestCase)
TestLogMachine.settings = settings(
    max_examples=N_EXAMPLES,
    stateful_step_count=12,
    deadline=None,
    derandomize="REPLENISH_MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
