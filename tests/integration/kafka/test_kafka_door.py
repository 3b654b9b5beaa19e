"""The Kafka door against librdkafka's mock cluster: exactly once into the journal, whatever Kafka does."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from kafka_world import TOPIC, KafkaWorld, RunningFollower, sale
from mock_cluster import MockCluster

from replenish.errors import ContractError
from replenish.ingest.kafka.follower import consumer_settings
from replenish.ingest.kafka.topic_lag import topic_lag

N = 400
FROM_THE_START = {"group.id": "offsets-reset"}
"""A group without offsets reads what is kept from its start, as after a reset."""


@pytest.fixture
def world(tmp_path: Path, cluster: MockCluster) -> KafkaWorld:
    return KafkaWorld(tmp_path / "root", cluster.brokers)


def test_every_message_once_in_partition_order_and_offsets_behind_the_ack(world: KafkaWorld, cluster: MockCluster):
    cluster.send(TOPIC, [sale(nr) for nr in range(N)])
    with RunningFollower(world).until_caught_up() as running:
        seen = running.follower.seen
        assert (seen.offered, seen.accepted, seen.dead, seen.duplicate) == (N, N, 0, 0)
        assert set(seen.lag.values()) == {0}
        assert len(seen.lag) == MockCluster.N_PARTITIONS
    assert cluster.committed("replenish", TOPIC) == [N // 4] * 4
    ids = [int(name[1:]) for name in world.ids()]
    assert sorted(ids) == list(range(N))
    for partition in range(4):
        mine = [nr for nr in ids if nr % 4 == partition]
        assert mine == sorted(mine)


def test_a_reset_of_offsets_doubles_nothing(world: KafkaWorld, cluster: MockCluster):
    cluster.send(TOPIC, [sale(nr) for nr in range(N)])
    with RunningFollower(world).until_caught_up():
        pass
    with RunningFollower(world, **FROM_THE_START).until_caught_up() as running:
        assert running.follower.seen.duplicate == N
    assert world.counts() == {"upsert": N}


def test_a_poison_message_is_one_letter_and_its_partition_moves_on(world: KafkaWorld, cluster: MockCluster):
    poison = [b"{", b'{"a": "\xff"}', b"", sale(900, units=-1), sale(901, units="NaN"), b"[" * 5000]
    messages = [m for bad, nr in zip(poison, range(len(poison)), strict=True) for m in (sale(nr), bad)]
    cluster.send(TOPIC, [*messages, None], partition=2)
    with RunningFollower(world).until_caught_up() as running:
        seen = running.follower.seen
        assert (seen.offered, seen.accepted, seen.dead) == (13, 6, 7)
        letters = running.journal.dead_letters()
    assert [letter.reason for letter in letters] == [
        "not_json", "wrong_encoding", "not_json", "below_minimum", "not_a_number", "not_json", "bad_envelope",
    ]  # fmt: skip
    assert cluster.committed("replenish", TOPIC)[2] == 13
    with RunningFollower(world, **FROM_THE_START).until_caught_up() as running:
        assert running.follower.seen.duplicate == 13
        assert len(running.journal.dead_letters()) == 7


def test_ids_in_headers_are_the_delivery(world: KafkaWorld, cluster: MockCluster):
    headers = [[("id", b"a")], [("id", b"a")], [("ce_id", b"a")], [("id", b"b")]]
    cluster.send(TOPIC, [sale(1), sale(1), sale(2), sale(3)], headers=headers, partition=0)
    with RunningFollower(world).until_caught_up() as running:
        seen = running.follower.seen
        assert (seen.accepted, seen.duplicate, seen.dead) == (2, 1, 1)
        assert running.journal.dead_letters()[0].reason == "id_conflict"


def test_cloud_events_binary_and_structured(tmp_path: Path, cluster: MockCluster):
    world = KafkaWorld(tmp_path / "root", cluster.brokers, format="cloudevents")
    binary = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"pos"),
        ("ce_type", b"replenish.event.upsert"),
    ]
    structured = {
        "specversion": "1.0",
        "id": "2",
        "source": "pos",
        "type": "replenish.event.upsert",
        "subject": "sales",
    }
    whole = json.dumps(structured | {"data": json.loads(sale(2))}).encode()
    wrong = json.dumps(structured | {"id": "3", "specversion": "2.0", "data": {}}).encode()
    json_type = [("content-type", b"application/cloudevents+json; charset=utf-8")]
    cluster.send(TOPIC, [sale(1), whole, whole, wrong], headers=[binary, json_type, json_type, json_type], partition=0)
    with RunningFollower(world).until_caught_up() as running:
        assert [(r.source, r.id) for r in running.journal.records(type="replenish.event.upsert")] == [
            ("pos", "1"),
            ("pos", "2"),
        ]
        assert [letter.reason for letter in running.journal.dead_letters()] == ["unsupported_version"]
        assert running.follower.seen.duplicate == 1


def test_an_older_live_version_is_read_by_its_name(world: KafkaWorld, cluster: MockCluster):
    headers = [[("dataschema", b"sales@1.0.0")], [("dataschema", b"https://x/sales@9.0.0")], [("dataschema", b"other")]]
    cluster.send(TOPIC, [sale(1), sale(2), sale(3)], headers=headers, partition=0)
    with RunningFollower(world).until_caught_up() as running:
        assert [letter.reason for letter in running.journal.dead_letters()] == ["unsupported_version"]
        assert running.follower.seen.accepted == 2


@pytest.mark.slow
@pytest.mark.parametrize("place", ["kafka.polled", "kafka.journalled", "kafka.committed"])
def test_killed_anywhere_loses_and_doubles_nothing(world: KafkaWorld, cluster: MockCluster, place: str):
    cluster.send(TOPIC, [sale(nr) for nr in range(N)])
    killed = world.follow_once(REPLENISH_FAILPOINT=f"{place}:kill:1")
    assert killed.returncode == -9, killed.stderr
    again = world.follow_once()
    assert again.returncode == 0, again.stderr
    assert world.counts() == {"upsert": N}
    assert cluster.committed("replenish", TOPIC) == [N // 4] * 4


def test_two_consumers_share_the_topic_and_nothing_is_lost_at_the_hand_over(world: KafkaWorld, cluster: MockCluster):
    cluster.send(TOPIC, [sale(nr) for nr in range(N)])
    first, second = RunningFollower(world), RunningFollower(world)
    threads = [threading.Thread(target=_keep_stepping, args=(each,)) for each in (first, second)]
    threads[0].start()
    threads[1].start()
    cluster.send(TOPIC, [sale(nr) for nr in range(N, 2 * N)])
    while first.journal.last_seq() < 2 * N:
        time.sleep(0.05)
    # The first leaves in the middle; what it had goes to the second.
    first.stopped.set()
    threads[0].join()
    first.close()
    cluster.send(TOPIC, [sale(nr) for nr in range(2 * N, 3 * N)])
    while second.journal.last_seq() < 3 * N:
        time.sleep(0.05)
    second.stopped.set()
    threads[1].join()
    second.close()
    assert world.counts() == {"upsert": 3 * N}
    assert cluster.committed("replenish", TOPIC) == [3 * N // 4] * 4


def test_brokers_that_go_away_stop_nothing_but_the_reading(world: KafkaWorld, cluster: MockCluster):
    cluster.send(TOPIC, [sale(nr) for nr in range(8)])
    with RunningFollower(world).until_caught_up() as running:
        cluster.stop()
        for _ in range(100):
            running.follower.step()
            if not running.follower.seen.is_connected:
                break
        assert not running.follower.seen.is_connected
        assert running.follower.seen.accepted == 8
    gone = world.follow_once()
    assert gone.returncode == 2
    assert "no Kafka broker answers" in gone.stderr


def test_options_cannot_take_the_offsets_out_of_our_hands(world: KafkaWorld):
    world.settings.options["enable.auto.commit"] = "true"
    with pytest.raises(ContractError, match=r"enable\.auto\.commit"):
        consumer_settings(world.settings, {})
    world.settings.options.clear()
    world.settings.options["sasl.password_variable"] = "TILL_PASSWORD"
    assert consumer_settings(world.settings, {"TILL_PASSWORD": "s"})["sasl.password"] == "s"
    with pytest.raises(ContractError, match="TILL_PASSWORD"):
        consumer_settings(world.settings, {})


def _keep_stepping(running: RunningFollower) -> None:
    while not running.stopped.is_set():
        running.follower.step()


def test_the_lag_is_asked_of_the_brokers_while_nobody_follows(world: KafkaWorld, cluster: MockCluster):
    options = consumer_settings(world.settings, {})
    cluster.send(TOPIC, [sale(nr) for nr in range(40)])
    assert sum(topic_lag(world.settings, options).values()) == 40
    with RunningFollower(world).until_caught_up():
        pass
    cluster.send(TOPIC, [sale(nr) for nr in range(40, 50)])
    assert sum(topic_lag(world.settings, options).values()) == 10
    assert cluster.committed("replenish", TOPIC) == [10] * 4
