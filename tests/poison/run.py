"""`python -m tests.poison.run --inputs 100000`: poisoned inputs over all doors; ends with 1 if anything was wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.poison.cdc_door import poison_cdc_door
from tests.poison.file_door import poison_file_door
from tests.poison.http_door import poison_http_door
from tests.poison.judge import Tally
from tests.poison.kafka_door import poison_kafka_door

Poisoning = Callable[[Path, int, int], Tally]
DOORS: dict[str, tuple[Poisoning, float]] = {
    "file": (poison_file_door, 0.30),
    "http": (poison_http_door, 0.50),
    "kafka": (poison_kafka_door, 0.10),
    "cdc": (poison_cdc_door, 0.10),
}
"""Each door with its share of the inputs."""
MAX_GROWTH_MB = 100.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--door", choices=sorted(DOORS), action="append")
    asked = parser.parse_args()
    n_wrong = 0
    for name in asked.door or DOORS:
        poison, share = DOORS[name]
        n_inputs = asked.inputs if asked.door else round(asked.inputs * share)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            tally = poison(Path(folder), n_inputs, asked.seed)
        if tally.grown_mb > MAX_GROWTH_MB:
            tally.blame(f"memory grew by {tally.grown_mb:.0f} MB")
        n_wrong += len(tally.wrong)
        print(
            f"{name}: {tally.inputs} poisoned inputs, seed {asked.seed}, {time.monotonic() - started:.0f} s\n"
            f"  offered {tally.offered} = accepted {tally.accepted} + dead {tally.dead} + duplicate {tally.duplicate}; "
            f"refused as a whole {tally.refused}; memory +{tally.grown_mb:.0f} MB\n"
            f"  reasons: {', '.join(f'{reason} {n}' for reason, n in tally.reasons.most_common())}",
            *(f"\n  WRONG: {text}" for text in tally.wrong),
            sep="",
            flush=True,
        )
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
