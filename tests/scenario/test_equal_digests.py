"""The same files give the same tables, model, decisions and orders: again, and on any thread count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def digests_of_a_fresh_process(root: Path, threads: int) -> dict[str, str]:
    environment = {**os.environ, "POLARS_MAX_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.scenario.loop_digests", str(root), str(threads)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_runs_on_one_and_two_threads_have_equal_digests(tmp_path: Path) -> None:
    one = digests_of_a_fresh_process(tmp_path / "one", threads=1)
    assert len(set(one.values())) == len(one), "every table has a digest of its own"
    assert digests_of_a_fresh_process(tmp_path / "two", threads=2) == one
