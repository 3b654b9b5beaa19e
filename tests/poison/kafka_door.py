"""Poisoned messages through Kafka's protocol (librdkafka's mock cluster, over TCP) and the real follower."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from random import Random

from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_DEAD, EVENT_UPSERT
from replenish.stores.layout import RootLayout
from tests.integration.kafka.mock_cluster import MockCluster
from tests.poison.facts import Fact, sound_fact
from tests.poison.json_poison import dumped, poisoned_json
from tests.poison.judge import Tally, run_watched
from tests.poison.root import judge_settled, prepare_root

FORMATS = ("json", "cloudevents", "debezium")
SHARE_BAD = 0.25
Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def poison_kafka_door(folder: Path, n_inputs: int, seed: int) -> Tally:
    """A topic for each format, read to its end by `replenish follow kafka`; poison, sound messages in between."""
    rng, tally = Random(seed), Tally("kafka")
    cluster = MockCluster()
    try:
        # A short topic first: what the followers of longer ones take more than that one's, has grown.
        short = n_inputs // 10
        peaks = [_one_topic(RootLayout(folder / "short"), cluster, "json", "short", rng, tally, short)]
        for nr, form in enumerate(FORMATS, 1):
            until = short + (n_inputs - short) * nr // len(FORMATS)
            peaks.append(_one_topic(RootLayout(folder / form), cluster, form, form, rng, tally, until))
        tally.grown_mb = max(peaks) - peaks[0]
    finally:
        cluster.stop()
    return tally


def _one_topic(
    layout: RootLayout, cluster: MockCluster, form: str, topic: str, rng: Random, tally: Tally, until: int
) -> float:
    """Fill a topic, follow it to its end, judge what was accepted; the greatest memory of the follower, in MB."""
    prepare_root(layout)
    door = {
        "name": "till",
        "brokers": cluster.brokers,
        "topics": [topic],
        "group": topic,
        "feed": "events.sales",
        "format": form,
    }
    layout.doors_file.write_text(json.dumps({"kafka": [door]}))
    acceptable: dict[str, Fact] = {}
    messages: list[Message] = []
    nr = 1_000_000 * FORMATS.index(form)
    while tally.inputs < until:
        nr += 1
        fact = sound_fact(nr, rng)
        body, as_fact = dumped(fact.as_fields()), fact
        if rng.random() < SHARE_BAD:
            tally.inputs += 1
            _, body, maybe = poisoned_json(rng, fact)
            if len(body) > 900_000:
                continue
            as_fact = maybe  # type: ignore[assignment]
        if as_fact is not None:
            acceptable[fact.sale_id] = as_fact
        messages.append(_odd_message(rng, body, nr) if rng.random() < 0.02 else _wrapped(form, body, nr))
    values, keys, headers = zip(*messages, strict=True)
    cluster.send(topic, values, keys=keys, headers=headers)
    command = [str(Path(sys.executable).with_name("replenish")), "follow", "kafka", "till", "--once"]
    code, output, errors, peak_mb = run_watched(command, {"REPLENISH_ROOT": str(layout.root)})
    if code:
        tally.blame(f"follow kafka ended with {code}: {errors[-500:]}")
    told = re.search(r"offered (\d+), accepted (\d+), dead (\d+), duplicate (\d+)", output)
    offered, accepted, dead, duplicate = (int(n) for n in told.groups()) if told else (0, 0, 0, 0)
    tally.count(accepted, dead, duplicate, offered, form)
    journal = Journal(layout.journal)
    kinds = [record.type for record in journal.records()]
    journal.close()
    if (kinds.count(EVENT_UPSERT), kinds.count(EVENT_DEAD)) != (accepted, dead):
        tally.blame(f"{form}: told {accepted} accepted and {dead} dead, the log has {len(kinds)} records")
    # A message that says nothing (Debezium's tombstone) is none offered; the mock keeps 5 MB of each partition.
    if not len(messages) * 0.98 <= offered <= len(messages):
        tally.blame(f"{form}: {len(messages)} messages sent, {offered} offered")
    judge_settled(layout, acceptable, tally)
    return peak_mb


def _wrapped(form: str, body: bytes, nr: int) -> Message:
    if form == "json":
        return body, str(nr).encode(), [("id", f"m{nr}".encode())]
    if form == "cloudevents":
        named = {"specversion": "1.0", "id": f"m{nr}", "source": "poison", "type": "replenish.event.upsert"}
        return body, None, [(f"ce_{name}", value.encode()) for name, value in named.items()]
    head = {"op": "c", "source": {"lsn": nr, "connector": "postgresql", "table": "sales"}, "ts_ms": 1, "before": None}
    return json.dumps(head).encode()[:-1] + b', "after": ' + body + b"}", str(nr).encode(), []


def _odd_message(rng: Random, body: bytes, nr: int) -> Message:
    return rng.choice([
        (None, f"k{nr}".encode(), []),
        (b"", f"k{nr}".encode(), []),
        (body, None, [("ce_id", b"\xff\xfe"), ("id", b"\x00")]),
        (body, None, [("ce_specversion", b"9"), ("id", b"x" * 5_000)]),
        (rng.randbytes(100), rng.randbytes(10), [("op", b"explode")]),
    ])  # fmt: skip
