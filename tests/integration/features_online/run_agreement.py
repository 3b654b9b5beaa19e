"""Journal to online twin against journal to silver, dbt, offline evaluator: a million values, a twin killed daily.

    .venv/bin/python -m tests.integration.features_online.run_agreement --days 75

The retailer's files hold 5 % late, 1 % corrected and 1 % retracted lines, and every day brings corrections, retractions
and new sales as single events. A twin process starts with the clock of the day, takes in what is new, answers for every
key over HTTP, and is killed, at times in the middle of its start. In the end gold is built and every answer is compared
with the offline evaluator's; nothing but equality counts.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from replenish.features.definitions.reader import read_feature_sets
from replenish.features.offline.evaluator import evaluate
from replenish.outcomes.retailer_plan import RecordShares, RetailerPlan
from tests.integration.features_online.online_world import OnlineWorld, spine_of
from tests.integration.features_online.twin_process import TwinProcess, twin_serving

SETS = read_feature_sets()
Answers = dict[tuple[str, str, str, datetime], dict[str, Any]]
"""By set, the two parts of the key, and `as_of`."""


def collect(world: OnlineWorld, n_days: int, seed: int) -> tuple[Answers, int, int]:
    """Answers of every day, how often a process was killed, and how often it had begun from a snapshot."""
    chooser, answers = random.Random(seed), Answers()
    n_kills = n_resumed = 0
    for nr, cutoff in enumerate(world.cutoffs(n_days)):
        yesterday = cutoff.date() - timedelta(days=1)
        world.change_some_sales(seed + nr, 12, cutoff - timedelta(hours=2), told_earlier=0.0, until=yesterday)
        world.settle(cutoff - timedelta(hours=1))
        now = cutoff + timedelta(hours=chooser.randint(1, 20))
        if nr % 3 == 0:
            # Killed while it starts, takes in the log or writes its first snapshot.
            twin = TwinProcess(world.layout.root, now, "--snapshot-seconds", "1", "--snapshot-records", "1")
            time.sleep(chooser.uniform(0, 1.0))
            twin.kill()
            n_kills += 1
        with twin_serving(world.layout.root, now, "--snapshot-seconds", "1", "--snapshot-records", "1") as twin:
            n_resumed += any(".snapshot" in line for line in twin.told)
            for name in SETS:
                for key in world.keys()[:-1]:
                    status, body = twin.get(f"/features/{name}/{','.join(key)}")
                    if status == 404:
                        # Nothing was said of it in this set's streams.
                        continue
                    assert status == 200, body
                    answers[name, *key, datetime.fromisoformat(body["as_of"])] = body["values"]
            twin.kill()
            n_kills += 1
    return answers, n_kills, n_resumed


def differences(world: OnlineWorld, answers: Answers) -> tuple[int, list[object]]:
    """Values compared, and those that are not the offline evaluator's on gold."""
    n_values, wrong = 0, list[object]()
    dataset = world.deployment.dataset
    for name, feature_set in SETS.items():
        asked = [key for key in answers if key[0] == name]
        instants = sorted({key[3] for key in asked})
        spine = spine_of(world.keys(), instants)
        rows = evaluate(feature_set, spine, world.gold_ledgers(feature_set), dataset.zone, dataset.cutoff)
        expected = {(row["sku_id"], row["location_id"], row["as_of"]): row for row in rows.iter_rows(named=True)}
        for key in asked:
            for feature, value in answers[key].items():
                n_values += 1
                ours = expected[key[1:]][feature]
                if value != ours or type(value) is not type(ours):
                    wrong.append([key[:3], key[3].isoformat(), feature, value, ours])
    return n_values, wrong


def main() -> int:
    """Run it and print what came out; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=75)
    parser.add_argument("--skus", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    shares = RecordShares(late=0.05, corrected=0.01, retracted=0.01)
    days = 150 + given.days
    plan = RetailerPlan(given.seed, given.skus, 5, days, date(2024, 1, 1), n_extra_days=0, shares=shares)
    with tempfile.TemporaryDirectory() as folder:
        world = OnlineWorld(Path(folder) / "root", plan)
        world.take_files()
        answers, n_kills, n_resumed = collect(world, given.days, given.seed)
        world.build_lake()
        n_values, wrong = differences(world, answers)
    told = {"days": given.days, "keys": given.skus * 5, "kills": n_kills, "resumed": n_resumed, "values": n_values}
    print(json.dumps(told | {"vectors": len(answers), "different": len(wrong), "first": wrong[:5]}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
