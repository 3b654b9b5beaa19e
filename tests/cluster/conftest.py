"""One Spark Connect server for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.spark_server import connect_server, why_not


@pytest.fixture(scope="session")
def spark_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spark") / "server.log"


@pytest.fixture(scope="session")
def spark_address(spark_log: Path) -> Iterator[str]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with connect_server(spark_log) as address:
        yield address
