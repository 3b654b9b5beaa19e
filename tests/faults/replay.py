"""Run one trial again, and keep its root: `python -m tests.faults.replay KIND DOOR PLACE ACTION NTH SEED`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.faults.child_system import Arm
from tests.faults.trials import run_trial


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("kind", "door", "place", "action"):
        parser.add_argument(name)
    parser.add_argument("nth", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--mutant")
    asked = parser.parse_args()
    head, _, instant = asked.place.partition("=")
    if head == "instant":
        arm = Arm(None, asked.action, asked.nth, None if instant == "None" else float(instant))
    else:
        arm = Arm(asked.place, asked.action, asked.nth)
    folder = Path(tempfile.mkdtemp(prefix="replenish-replay-")) / "trial"
    result = run_trial(asked.kind, asked.door, arm, asked.seed, folder, mutant=asked.mutant)
    print(json.dumps(result.as_json(), indent=1))
    print(f"artefacts: {folder}" if folder.exists() else "nothing was found")
    return 1 if result.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
