"""The same files give the same tables, model, decisions and orders: again, and on any thread count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def digests_of_a_fresh_process(root: Path, threads: int, *more: str) -> dict[str, str]:
    environment = {**os.environ, "POLARS_MAX_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.scenario.loop_digests", str(root), str(threads), *more],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_threads_and_faulty_files_leave_every_digest_as_it_was(tmp_path: Path) -> None:
    one = digests_of_a_fresh_process(tmp_path / "one", threads=1)
    assert len(set(one.values())) == len(one), "every table has a digest of its own"
    assert digests_of_a_fresh_process(tmp_path / "two", threads=2) == one
    faulty = digests_of_a_fresh_process(tmp_path / "faulty", 2, "faulty")
    assert faulty == one, "faulty files move neither gold nor forecasts nor decisions nor orders"
