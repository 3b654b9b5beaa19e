"""The cluster that the tests of this folder talk to, and their modules beside them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mock_cluster import MockCluster


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    running = MockCluster()
    yield running
    running.stop()
