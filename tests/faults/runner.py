"""Runs the product in a fresh process for one phase of a trial: `python -m tests.faults.runner PLAN.json`.

Only what the steps need is imported, so that a restart costs tenths of a second. The plan names root, world, oracle
file and steps; the environment arms the failpoint. Mutants and clocks are put in place before the product is imported.
"""

from __future__ import annotations

import atexit
import json
import sys
from collections import Counter
from pathlib import Path

from replenish.stores import failpoints


def count_passes(path: Path) -> None:
    """Write how often each failpoint was passed when the process ends; must run before the product is imported."""
    passes: Counter[str] = Counter()
    passed = failpoints.failpoint

    def counting(name: str) -> None:
        passes[name] += 1
        passed(name)

    failpoints.failpoint = counting
    atexit.register(lambda: path.write_text(json.dumps(passes)))


def main(plan_path: Path) -> None:
    plan = json.loads(plan_path.read_text())
    if plan.get("count_passes"):
        count_passes(Path(plan["count_passes"]))
    if plan.get("mutant"):
        from tests.faults import mutants

        mutants.MUTANTS[plan["mutant"]].install()
    from tests.faults import steps

    # A kill at a random instant counts from here: dying among imports shows little.
    Path(f"{plan_path}.ready").touch()
    steps.run_plan(plan)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
