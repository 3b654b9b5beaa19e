"""ING-3, ING-4: the same facts through file, HTTP, CDC and Kafka doors give equal silver tables.

10,000 facts in `make test`; `make doors` takes 100,000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg
import pytest

from replenish.cli.deployment import open_deployment
from replenish.cli.postgres_server import running_postgres
from replenish.digests import table_digest
from replenish.errors import NotApplicable
from replenish.history.bronze import append_bronze
from replenish.history.silver import update_silver
from replenish.ingest.door import ingest_folder
from replenish.ingest.settle import settle_events
from tests.integration.kafka.mock_cluster import MockCluster
from tests.scenario.door_facts import Delivery, deliveries

N_FACTS = int(os.environ.get("REPLENISH_DOOR_FACTS", "10000"))
ROWS_PER_REQUEST = 1000
N_CONNECTIONS = 4
MESSAGES_AT_A_TIME = 25_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROGRAM = "from replenish.cli.entry import start; start()"
FIELDS = ("location_id", "sold_at", "sale_id", "sku_id", "units", "revenue_cents", "customer_id")
COLUMNS = "{" + ", ".join(f"{name}: {name}" for name in FIELDS) + "}"
DATASET = f"""
dataset_id: four_doors
zone: UTC
feeds:
  - feed_id: till.sales
    stream: sales
    files: ["*.jsonl"]
    format: {{type: jsonl}}
    columns: {COLUMNS}
    knowledge: {{source: column, column: knowledge_time}}
    ignore_columns: [id]
  - feed_id: erp.sales
    stream: sales
    door: events
    columns: {COLUMNS}
    knowledge: {{source: column, column: knowledge_time}}
    ignore_columns: [nr, __table, __commit_time]
"""
TABLE = """
create table sales (
    nr integer not null, location_id text not null, sold_at timestamptz not null, sale_id text not null,
    sku_id text not null, units integer not null, revenue_cents integer, customer_id text,
    knowledge_time timestamptz not null, primary key (location_id, sold_at, sale_id, nr)
);
create publication replenish_erp for table sales;
"""
ROW_TYPES = "location_id text, sold_at timestamptz, sale_id text, sku_id text, units int, revenue_cents int"


@pytest.fixture
def make_root(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, doors: dict[str, object] | None = None) -> Path:
        root = tmp_path / name
        (root / "drop").mkdir(parents=True)
        (root / "dataset.yaml").write_text(DATASET)
        if doors is not None:
            (root / "doors.yaml").write_text(json.dumps(doors))
        return root

    return make


def silver_digest(root: Path) -> str:
    """Offer dropped files, settle events, and bring bronze and silver up to date; the digest of silver."""
    deployment = open_deployment(root)
    journal, layout, dataset = deployment.journal, deployment.layout, deployment.dataset
    contract = deployment.contracts["sales"]
    for report in (
        ingest_folder(layout.drop, dataset, deployment.contracts, journal, layout, now=NOW),
        settle_events(dataset, deployment.contracts, journal, layout, now=NOW),
    ):
        assert report.total("offered") == sum(report.total(n) for n in ("accepted", "dead", "duplicate"))
        assert report.total("dead") == 0, journal.dead_letters(limit=3)
    append_bronze("sales", contract, journal, layout, deployment.lake)
    update_silver(contract, dataset, deployment.lake)
    journal.verify_chain()
    journal.close()
    silver = deployment.lake.read("silver/sales")
    assert silver.height > N_FACTS
    return table_digest(silver, contract.fact_key)


def command(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`replenish` in a process of its own, to its end."""
    env = os.environ | {"REPLENISH_ROOT": str(root)} | environment
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def through_files(root: Path, offered: list[Delivery]) -> None:
    size = -(-len(offered) // 10)
    for nr in range(10):
        rows = offered[nr * size : (nr + 1) * size]
        (root / "drop" / f"{nr}.jsonl").write_bytes(b"\n".join(row.body() for row in rows) + b"\n")


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The address of `replenish serve`, until the block ends; then it stops as it is asked to."""
    env = os.environ | {"REPLENISH_ROOT": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", "--port", "0"], env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def through_http(root: Path, offered: list[Delivery]) -> None:
    lines = [json.dumps({"id": row.id, "source": "pos", "data": row.fields}).encode() for row in offered]
    bodies = [b"\n".join(lines[i : i + ROWS_PER_REQUEST]) for i in range(0, len(lines), ROWS_PER_REQUEST)]
    with serving(root) as address, httpx.Client(base_url=address, timeout=120) as client:

        def post(body: bytes) -> int:
            while True:
                headers = {"content-type": "application/x-ndjson"}
                answer = client.post("/events/sales", content=body, headers=headers)
                if answer.status_code != 429:
                    return answer.status_code
                time.sleep(float(answer.headers.get("retry-after", 1)))

        with ThreadPoolExecutor(N_CONNECTIONS) as senders:
            assert Counter(code // 100 for code in senders.map(post, bodies)) == {2: len(bodies)}


def through_cdc(root: Path, offered: list[Delivery], dsn: str) -> None:
    insert = (
        "insert into sales select (e ->> 'nr')::int, r.* from jsonb_array_elements(%s::jsonb) e, "
        f"jsonb_to_record(e) as r({ROW_TYPES}, customer_id text, knowledge_time timestamptz)"
    )
    half = len(offered) // 2
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE)
        for part in (range(half), range(half, len(offered))):
            # The first half is in the snapshot, the second in the change stream.
            for start in range(part.start, part.stop, 2000):
                rows = [offered[nr].fields | {"nr": nr} for nr in range(start, min(start + 2000, part.stop))]
                connection.execute(insert, (json.dumps(rows),))
            command(root, "follow", "postgres", "erp", "--once", ERP_DSN=dsn)


def through_kafka(root: Path, offered: list[Delivery], cluster: MockCluster) -> None:
    # The mock keeps the newest 5 MB of a partition: it is read before it forgets.
    for start in range(0, len(offered), MESSAGES_AT_A_TIME):
        part = offered[start : start + MESSAGES_AT_A_TIME]
        headers = [[("id", row.id.encode())] for row in part]
        keys = [str(row.fields["location_id"]).encode() for row in part]
        cluster.send("sales", [row.body() for row in part], keys=keys, headers=headers)
        command(root, "follow", "kafka", "till", "--once")


@pytest.mark.slow
def test_every_door_gives_the_same_silver(make_root: Callable[..., Path]) -> None:
    took: dict[str, float] = {}
    digests: dict[str, str] = {}

    def take(name: str, root: Path, send: Callable[[Path, list[Delivery]], None], seed: int) -> None:
        offered = deliveries(N_FACTS, seed)
        began = time.perf_counter()
        send(root, offered)
        digests[name] = silver_digest(root)
        took[name] = round(time.perf_counter() - began, 1)

    take("file", make_root("file"), through_files, 1)
    take("http", make_root("http"), through_http, 2)
    cluster = MockCluster()
    # After a member left, the mock waits for others nearly as long as a session lasts.
    options = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}
    door = {"name": "till", "brokers": cluster.brokers, "topics": ["sales"], "feed": "events.sales", "options": options}
    take("kafka", make_root("kafka", {"kafka": [door]}), lambda r, o: through_kafka(r, o, cluster), 3)
    cluster.stop()
    follow = {"name": "erp", "dsn_variable": "ERP_DSN", "slot": "replenish_erp", "publication": "replenish_erp"}
    doors = {"postgres": [follow | {"tables": {"public.sales": "erp.sales"}}]}
    try:
        with running_postgres() as dsn:
            take("cdc", make_root("cdc", doors), lambda r, o: through_cdc(r, o, dsn), 4)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    print(f"{N_FACTS} facts, seconds by door: {took}")
    assert len(set(digests.values())) == 1, digests
