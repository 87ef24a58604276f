"""One record to Kafka, by commands that order something."""

from contextlib import closing

from features.errors import MillraceError
from streams.kafka_access import check_access
from streams.settings import Settings, kafka_python_options
from streams.topics import MODEL_MAX_BYTES


def send(settings: Settings, topic: str, key: str, value: bytes) -> str:
    """Put a record on a topic, return the topic's name; MillraceError where Kafka is away."""
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    check_access(settings)
    name = settings.topic_prefix + topic
    try:
        options = kafka_python_options(settings)
        with closing(
            KafkaProducer(acks="all", max_request_size=MODEL_MAX_BYTES, **options)
        ) as producer:
            sent = producer.send(name, key=key.encode(), value=value)
            sent.get(timeout=settings.kafka_timeout_ms / 1000)
    except (KafkaError, OSError) as error:
        message = f"Kafka at {settings.kafka} did not take the record for {name}: {error}"
        raise MillraceError(message) from error
    return name
