"""Poisoned events and requests against the real `replenish serve` process."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

from replenish.ingest.reasons import REASONS
from replenish.stores.layout import RootLayout
from tests.poison.facts import Fact, sound_fact
from tests.poison.json_poison import dumped, poisoned_json
from tests.poison.judge import Tally, resident_mb
from tests.poison.root import judge_settled, prepare_root

ROWS, BAD = 20, 5
ENVELOPE = {"specversion": "1.0", "source": "poison", "type": "replenish.event.upsert", "subject": "sales"}
CLOUD_EVENT = "application/cloudevents+json"


@contextmanager
def serving(root: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(address, process) of a server on this root."""
    environment = {**os.environ, "REPLENISH_ROOT": str(root)}
    command = [str(Path(sys.executable).with_name("replenish")), "serve", "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        if found is None:
            process.kill()
            raise AssertionError(process.communicate()[1])
        yield found[0], process
    finally:
        process.terminate()
        process.wait(30)


QUOTED = ['",', '","', '"', "\\"]
"""Ends of ids that an answer has to write as they are."""


@dataclass
class _Sender:
    client: httpx.Client
    rng: Random
    tally: Tally
    acceptable: dict[str, Fact] = field(default_factory=dict)
    next_fact: int = 0

    def fact(self) -> Fact:
        self.next_fact += 1
        return sound_fact(self.next_fact, self.rng)

    def poison(self) -> tuple[str, bytes]:
        fact = self.fact()
        kind, body, as_fact = poisoned_json(self.rng, fact)
        if as_fact is not None:
            self.acceptable[fact.sale_id] = as_fact
        self.tally.inputs += 1
        return kind, body

    def sound(self) -> bytes:
        fact = self.fact()
        self.acceptable[fact.sale_id] = fact
        return dumped(fact.as_fields())

    def wrap(self, body: bytes) -> bytes:
        quoted = self.rng.choice(QUOTED) if self.rng.random() < 0.03 else ""
        head = json.dumps({"id": f"e{self.rng.getrandbits(64):x}{quoted}", **ENVELOPE}).encode()
        return head[:-1] + b', "data": ' + body + b"}"

    def post(self, path: str, content: bytes, headers: dict[str, str], what: str) -> None:
        answer = self.client.post(path, content=content, headers=headers)
        self.tally.statuses[answer.status_code] += 1
        if answer.status_code >= 500:
            self.tally.blame(f"{what}: answered {answer.status_code} {answer.text[:200]}")
        elif answer.headers["content-type"].startswith("application/json"):
            verdict = answer.json()
            self.tally.count(verdict["accepted"], verdict["dead"], verdict["duplicate"], verdict["offered"], what)
            for row in verdict["verdicts"]:
                if row["outcome"] in ("dead", "conflict") and row.get("reason") not in REASONS:
                    self.tally.blame(f"{what}: unknown reason {row}")
        else:
            self.tally.refused += 1

    def send_rows(self) -> None:
        bodies = [self.sound() for _ in range(ROWS - BAD)] + [self.poison()[1] for _ in range(BAD)]
        rows = [self.wrap(body) for body in bodies if b"\n" not in body and len(body) < 300_000]
        self.rng.shuffle(rows)
        if self.rng.random() < 0.8:
            self.post("/events/sales", b"\n".join(rows), {"content-type": "application/x-ndjson"}, "rows")
        else:
            content = b"[" + b",".join(rows) + b"]"
            self.post("/events", content, {"content-type": "application/cloudevents-batch+json"}, "a batch")

    def send_one(self) -> None:
        kind, body = self.poison()
        if self.rng.random() < 0.5:
            self.post("/events", self.wrap(body), {"content-type": CLOUD_EVENT}, kind)
        else:
            headers = {f"ce-{name}": value for name, value in ENVELOPE.items()}
            headers |= {"ce-id": f"b{self.rng.getrandbits(64):x}", "content-type": "application/json"}
            self.post("/events", body, headers, f"binary mode, {kind}")

    def send_odd_request(self) -> None:
        rng, event = self.rng, self.wrap(self.sound())
        self.tally.inputs += 1
        odd: list[tuple[bytes, dict[str, str]]] = [
            (event, {"content-type": rng.choice(["text/plain", "application/xml", "", "application/json; charset=x"])}),
            (gzip.compress(event)[: rng.randint(1, 40)], {"content-type": CLOUD_EVENT, "content-encoding": "gzip"}),
            (rng.randbytes(300), {"content-type": CLOUD_EVENT, "content-encoding": rng.choice(["gzip", "br", "zstd"])}),
            (event.replace(b"1.0", b"9.9"), {"content-type": CLOUD_EVENT}),
            (event.replace(b'"id"', b'"Id"'), {"content-type": CLOUD_EVENT}),
            (event.replace(b'"id": "', b'"id": "\\u0000'), {"content-type": CLOUD_EVENT}),
            (event.replace(b'"id": "', b'"id": "' + b"x" * 10_000), {"content-type": CLOUD_EVENT}),
            (event.replace(b'"source"', b'"id": "twice", "source"'), {"content-type": CLOUD_EVENT}),
            (event.replace(b"upsert", b"explode"), {"content-type": CLOUD_EVENT}),
            (event.replace(b'"sales"', b'"nosuch"'), {"content-type": CLOUD_EVENT}),
            (b"", {"content-type": CLOUD_EVENT}),
            (rng.randbytes(200), {"content-type": "application/x-ndjson"}),
            (b"[" * rng.choice([100, 100_000]), {"content-type": "application/cloudevents-batch+json"}),
            (b"\n" * 5_000, {"content-type": "application/x-ndjson"}),
        ]  # fmt: skip
        if rng.random() < 0.03:
            odd = [self.dear_request()]
        content, headers = rng.choice(odd)
        self.post(rng.choice(["/events", "/events/sales"]), content, headers, "an odd request")

    def dear_request(self) -> tuple[bytes, dict[str, str]]:
        """Cheap to send; what it costs to read is what the door has to bound."""
        rng, lines, packed = self.rng, {"content-type": "application/x-ndjson"}, {"content-encoding": "gzip"}
        kind = rng.randrange(4)
        if kind == 0:
            return gzip.compress(b" " * (60 << 20)), {"content-type": CLOUD_EVENT, **packed}
        if kind == 1:
            return gzip.compress(b"\n" * (20 << 20) + rng.randbytes(250_000)), {**lines, **packed}
        if kind == 2:
            many = b'{"tags": [' + b"[]," * 1_000_000 + b"[]]}"
            return self.wrap(many) + b"\n", lines
        others = b"".join(b', "%x-%d": 1' % (rng.getrandbits(32), nr) for nr in range(20_000))
        return self.wrap(self.sound()[:-1] + others + b"}") + b"\nx" * 7 + b"\n", lines


def poison_http_door(folder: Path, n_inputs: int, seed: int) -> Tally:
    """Send until `n_inputs` poisoned events or requests were offered; then read what was accepted."""
    layout, tally = RootLayout(folder / "http"), Tally("http")
    prepare_root(layout)
    warm_mb = 0.0
    with serving(layout.root) as (address, process), httpx.Client(base_url=address, timeout=60) as client:
        sender = _Sender(client, Random(seed), tally)
        while tally.inputs < n_inputs:
            draw = sender.rng.random()
            if draw < 0.55:
                sender.send_rows()
            elif draw < 0.9:
                sender.send_one()
            else:
                sender.send_odd_request()
            if not warm_mb and tally.inputs > min(n_inputs, 20_000) // 4:
                warm_mb = resident_mb(process.pid)
        tally.grown_mb = resident_mb(process.pid) - warm_mb
        if process.poll() is not None:
            tally.blame("the server ended")
    judge_settled(layout, sender.acceptable, tally)
    return tally
