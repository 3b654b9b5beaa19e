"""Follows Kafka topics: poll, judge, journal, and only then commit the offsets.

At least once by Kafka, exactly once by the journal: a message keeps its id on redelivery, so what was journalled before
a crash, a rebalance or a reset of offsets is a duplicate the next time. The position of the door is the group's offset
in Kafka and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import Protocol, cast

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from replenish.contracts.doors import KafkaSettings
from replenish.errors import ContractError, EventFault, JournalOverloaded, StoreError, StoreFull
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.kafka.messages import KafkaMessage, events_of_message, message_id
from replenish.stores.failpoints import failpoint
from replenish.stores.journal_entry import EventEntry, Receipt

MESSAGES_PER_BATCH = 1000
POLL_SECONDS = 0.2
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
ANSWER_SECONDS = 10.0
"""How long a broker has to answer before it counts as away."""

Partition = tuple[str, int]

_OURS = ("bootstrap.servers", "group.id", "enable.auto.commit", "enable.auto.offset.store", "enable.partition.eof")
_NOT_OWNED = frozenset({KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS})


class SubmitsEvents(Protocol):
    """What the follower needs of the journal's group commit."""

    def submit(self, entries: list[EventEntry]) -> Future[Sequence[Receipt]]:
        """Receipts once the entries are durable."""
        ...


@dataclass
class FollowedTopics:
    """What a follower has done so far; read it between steps."""

    offered: int = 0
    accepted: int = 0
    dead: int = 0
    duplicate: int = 0
    is_connected: bool = True
    """Whether the brokers answered lately."""
    lag: dict[Partition, int] = field(default_factory=dict)
    """Messages behind the end of each partition that is assigned to us."""

    def count(self, receipts: Sequence[Receipt]) -> None:
        """Take in what became of a batch: `offered = accepted + dead + duplicate`."""
        self.offered += len(receipts)
        for receipt in receipts:
            if receipt.outcome == "accepted":
                self.accepted += 1
            elif receipt.outcome == "duplicate":
                self.duplicate += 1
            else:
                self.dead += 1


def consumer_settings(settings: KafkaSettings, environment: Mapping[str, str]) -> dict[str, object]:
    """Settings of the client library. `<option>_variable: NAME` takes the option's value from the environment.

    Raises:
        ContractError: An option would let the library move offsets by itself, or a variable is not set.
    """
    options: dict[str, object] = {"auto.offset.reset": "earliest", "client.id": f"replenish-{settings.name}"}
    for name, value in settings.options.items():
        if name in _OURS:
            raise ContractError(f"doors.yaml: kafka {settings.name}: options.{name}: is set by the platform itself")
        if not name.endswith("_variable"):
            options[name] = value
        elif value in environment:
            options[name.removesuffix("_variable")] = environment[value]
        else:
            raise ContractError(f"doors.yaml: kafka {settings.name}: options.{name}: the variable {value} is not set")
    fixed = (settings.brokers, settings.group, False, False, True)
    return options | dict(zip(_OURS, fixed, strict=True))


class KafkaFollower:
    """One consumer of one door; call `step` in a loop from one thread, then `close`.

    Args:
        options: Of the client library, from `consumer_settings`.
        wait: Sleeps for seconds, or less when told to stop.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        options: Mapping[str, object],
        door: EventDoor,
        group: SubmitsEvents,
        wait: Callable[[float], object],
    ) -> None:
        self.seen = FollowedTopics()
        self._settings, self._door, self._group, self._wait = settings, door, group, wait
        self._journalled: dict[Partition, int] = {}
        """Next offset of each assigned partition behind what is journalled; not all of it is committed yet."""
        self._committed: dict[Partition, int] = {}
        self._committing: Thread | None = None
        self._at_end: set[Partition] = set()
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._consumer = Consumer({**options, "error_cb": self._on_error})
        self._consumer.subscribe(
            list(settings.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def step(self) -> int:
        """Take one batch through the journal and commit it; the number of messages taken.

        Raises:
            WriterFailed: The journal can no longer be written; the process has to end.
            StoreError: The client library gave up for good.
        """
        batch = self._poll()
        if batch:
            failpoint("kafka.polled")
            if self._journal(batch):
                failpoint("kafka.journalled")
                self._commit()
                failpoint("kafka.committed")
            else:
                batch = []
        self._measure()
        return len(batch)

    def is_caught_up(self) -> bool:
        """Whether every partition assigned to us was read to its end, and there is one."""
        assigned = self._assigned()
        return bool(assigned) and assigned <= self._at_end

    def check_brokers(self) -> None:
        """StoreError where no broker answers or a topic does not exist."""
        try:
            topics = self._consumer.list_topics(timeout=ANSWER_SECONDS).topics
        except KafkaException as error:
            raise StoreError("no Kafka broker answers", brokers=self._settings.brokers, cause=error) from error
        missing = [name for name in self._settings.topics if name not in topics or topics[name].error is not None]
        if missing:
            raise StoreError("the brokers have no such topic", topics=", ".join(missing))

    def close(self) -> None:
        """Leave the group; what is journalled is committed, the rest is read again by whoever comes next."""
        self._commit()
        if self._committing is None or not self._committing.is_alive():
            self._consumer.close()

    def _poll(self) -> list[KafkaMessage]:
        """The next messages of partitions that are (still) ours, in order."""
        polled = self._consumer.consume(MESSAGES_PER_BATCH, POLL_SECONDS)
        # A rebalance inside the call may have taken partitions away whose messages it returns all the same.
        assigned = self._assigned()
        batch = []
        for message in polled:
            place = (str(message.topic()), int(message.partition() or 0))
            error = message.error()
            if error is not None:
                self._on_message_error(error, place)
            elif place in assigned:
                self._at_end.discard(place)
                batch.append(_plain(message))
        if batch:
            self.seen.is_connected = True
        return batch

    def _journal(self, batch: list[KafkaMessage]) -> bool:
        """True once the whole batch is durable; False where it has to come again, after a wait."""
        try:
            receipts = self._group.submit(self._entries(batch)).result()
        except (StoreFull, JournalOverloaded):
            # Nothing of it is acknowledged: go back to where it began and let the store breathe.
            for place in {(m.topic, m.partition) for m in batch}:
                first = min(m.offset for m in batch if (m.topic, m.partition) == place)
                self._consumer.seek(TopicPartition(*place, first))
                self._at_end.discard(place)
            self._wait(self._wait_seconds)
            self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)
            return False
        self._wait_seconds = FIRST_WAIT_SECONDS
        self.seen.count(receipts)
        self._journalled.update({(m.topic, m.partition): m.offset + 1 for m in batch})
        return True

    def _entries(self, batch: list[KafkaMessage]) -> list[EventEntry]:
        """Entries in message order: judged events, and letters for messages that could not become one."""
        slots: list[OfferedEvent | EventEntry] = []
        for message in batch:
            slots += self._read(message)
        judged = iter(self._door.judge([slot for slot in slots if isinstance(slot, OfferedEvent)]))
        return [next(judged) if isinstance(slot, OfferedEvent) else slot for slot in slots]

    def _read(self, message: KafkaMessage) -> list[OfferedEvent] | list[EventEntry]:
        try:
            return events_of_message(message, self._settings)  # type: ignore[return-value]
        except EventFault as fault:
            reason, field_name, rule = fault.reason, fault.field, fault.rule
        except Exception as error:
            # Whatever a message does to a decoder: it is one letter, and the partition moves on.
            reason, field_name, rule = "poison", None, f"{type(error).__name__}: {error}"
        raw = message.value if message.value is not None else message.key or b""
        name, feed = self._settings.name, self._settings.feed
        return [self._door.dead(name, message_id(message), feed, raw, reason, field_name, rule, message.place)]

    def _commit(self) -> None:
        """Commit what is journalled and not yet committed; where that fails it is offered again, as duplicates.

        In a thread of its own, since the library waits without end for brokers that are away.
        """
        if self._committing is not None and self._committing.is_alive():
            return
        due = {place: offset for place, offset in self._journalled.items() if self._committed.get(place) != offset}
        if due:
            self._committing = Thread(target=self._commit_now, args=(due,), name="kafka-commit", daemon=True)
            self._committing.start()
            self._committing.join(ANSWER_SECONDS)

    def _commit_now(self, due: dict[Partition, int]) -> None:
        try:
            offsets = [TopicPartition(*place, offset) for place, offset in due.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)
            self._committed.update(due)
        except KafkaException as error:
            if error.args[0].code() not in _NOT_OWNED:
                self.seen.is_connected = False

    def _assigned(self) -> set[Partition]:
        return {(p.topic, p.partition) for p in self._consumer.assignment()}

    def _measure(self) -> None:
        lag = {}
        for partition in self._consumer.position(self._consumer.assignment()):
            low, high = self._consumer.get_watermark_offsets(partition, cached=True)
            place = (partition.topic, partition.partition)
            done = self._journalled.get(place, partition.offset)
            if high != OFFSET_INVALID and done is not None:
                # Before the first message a position has no number; then all that is kept lies before us.
                lag[place] = max(0, high - (done if done >= 0 else low))
        self.seen.lag = lag

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Called inside a poll, so no batch is under way: all that was taken is journalled. Hand over behind it."""
        self._commit()
        self._forget(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Another one has these partitions already: their offsets are no longer ours to commit."""
        self._forget(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._journalled.pop((partition.topic, partition.partition), None)
            self._committed.pop((partition.topic, partition.partition), None)
            self._at_end.discard((partition.topic, partition.partition))

    def _on_message_error(self, error: KafkaError, place: Partition) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            self.seen.is_connected = True
            self._at_end.add(place)
        else:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        """The library reconnects by itself, with growing pauses; only what it calls fatal ends the follower."""
        if error.fatal():
            raise StoreError("the Kafka client gave up", door=self._settings.name, cause=error.str())
        if error.code() not in _NOT_OWNED:
            self.seen.is_connected = False


def _plain(message: Message) -> KafkaMessage:
    pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    headers = tuple((name, value) for name, value in pairs)
    key, value = message.key(), message.value()
    return KafkaMessage(
        str(message.topic()),
        int(message.partition() or 0),
        int(message.offset() or 0),
        key.encode() if isinstance(key, str) else key,
        value.encode() if isinstance(value, str) else value,
        headers,
    )
