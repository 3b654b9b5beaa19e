"""How far a group is behind its topics, asked of the brokers: also while nobody follows them."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from replenish.contracts.doors import KafkaSettings
from replenish.errors import SourceFault

ANSWER_SECONDS = 5.0


def topic_lag(settings: KafkaSettings, options: Mapping[str, object]) -> dict[tuple[str, int], int]:
    """(topic, partition) to the messages behind the group's committed offset; of an unread one, all that is kept.

    It joins no group and moves no offset.

    Args:
        options: Of the client library, from `consumer_settings`.

    Raises:
        SourceFault: The brokers do not answer, or a topic is not there.
    """
    consumer = Consumer(dict(options))
    try:
        places = [place for topic in settings.topics for place in _partitions(consumer, topic)]
        lag = {}
        for place in consumer.committed(places, timeout=ANSWER_SECONDS):
            low, high = consumer.get_watermark_offsets(place, timeout=ANSWER_SECONDS)
            # Below the low mark are messages that retention removed: they are no longer waited for.
            lag[place.topic, place.partition] = max(0, high - max(low, place.offset))
        return lag
    except KafkaException as error:
        raise SourceFault("the brokers do not say how far the group is", may_pass=True, door=settings.name) from error
    finally:
        consumer.close()


def _partitions(consumer: Consumer, topic: str) -> list[TopicPartition]:
    known = consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
    if known.error is not None:
        raise KafkaException(known.error)
    return [TopicPartition(topic, partition) for partition in known.partitions]
