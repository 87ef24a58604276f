"""Topics against a real broker: made once, left alone afterwards, differences told."""

import json
import uuid
from dataclasses import replace

import pytest
from click.testing import CliRunner, Result
from kafka import KafkaAdminClient

from features.records import INPUT_RECORDS, OUTPUT_RECORDS
from millrace.cli import main
from streams.deciding import CONTROL_TOPIC
from streams.private_kafka import PrivateKafka
from streams.settings import Settings
from streams.sinks import topic_family
from streams.topics import TopicsError, all_topics, create_topics, input_topics, output_topics

CHANNELS = ("app_push", "sms", "email", "phone", "branch")  # of DESIGN's channels, by hand
KEYED = ["events", "alerts", *(f"offers.{c}" for c in (*CHANNELS, "control")), "tasks", "decisions"]
SINGLE = ["training", "dead-letters", "policies", "lists", "models", "model-reports",
          "model-promotions", "model-refusals", "drift"]  # fmt: skip


@pytest.fixture
def settings(kafka: PrivateKafka) -> Settings:
    return Settings(kafka=kafka.address, topic_prefix=f"t-{uuid.uuid4().hex[:8]}.")


def partition_counts(settings: Settings) -> dict[str, int]:
    """Ask the broker how many partitions each topic of this prefix has."""
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        found = {t["name"]: len(t["partitions"]) for t in admin.describe_topics()}
    finally:
        admin.close()
    prefix = settings.topic_prefix
    return {n.removeprefix(prefix): c for n, c in found.items() if n.startswith(prefix)}


def invoke(settings: Settings, *arguments: str) -> Result:
    environment = {"MILLRACE_KAFKA": settings.kafka, "MILLRACE_TOPIC_PREFIX": settings.topic_prefix}
    return CliRunner().invoke(main, ["topics", "create", *arguments], env=environment)


@pytest.mark.kafka
def test_topics_are_made_once(settings: Settings) -> None:
    planned = create_topics(settings, dry_run=True)
    assert {state.state for state in planned} == {"would be created"}
    assert partition_counts(settings) == {}
    made = create_topics(settings)
    assert {state.state for state in made} == {"created"}
    assert [state.name for state in made] == [state.name for state in planned]
    assert partition_counts(settings) == dict.fromkeys(KEYED, 4) | dict.fromkeys(SINGLE, 1)
    again = create_topics(settings)
    assert {state.state for state in again} == {"exists"}
    assert all(not state.differences for state in again)


@pytest.mark.kafka
def test_what_is_there_otherwise_is_told_and_left(settings: Settings) -> None:
    prefix = settings.topic_prefix
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    admin.create_topics(
        {
            f"{prefix}events": {"num_partitions": 2, "replication_factor": 1,
                                "configs": {"retention.ms": "1000"}},
            f"{prefix}models": {"num_partitions": 1, "replication_factor": 1},
        }
    )  # fmt: skip
    admin.close()
    by_name = {state.name.removeprefix(prefix): state for state in create_topics(settings)}
    assert by_name["events"].state == "differs"
    assert by_name["events"].differences == [
        ("partitions", "4", "2"),
        ("retention.ms", "604800000", "1000"),
    ]
    assert by_name["models"].differences == [
        ("cleanup.policy", "compact", "delete"),
        ("max.message.bytes", "16777216", "1048588"),
    ]
    assert by_name["alerts"].state == "created"
    assert partition_counts(settings)["events"] == 2


@pytest.mark.kafka
def test_the_command(settings: Settings) -> None:
    dry = invoke(settings, "--dry-run", "--partitions", "3", "--json")
    assert dry.exit_code == 0, dry.output
    facts = {fact["name"]: fact for fact in json.loads(dry.stdout)}
    assert facts[f"{settings.topic_prefix}events"]["partition_count"] == 3
    assert partition_counts(settings) == {}
    made = invoke(settings, "--partitions", "3")
    assert made.exit_code == 0, made.output
    assert partition_counts(settings)["alerts"] == 3
    other = invoke(settings)
    assert other.exit_code == 1
    assert "differs: partitions: expected 4, got 3" in other.stdout
    refused = invoke(replace(settings, topic_prefix="r."), "--replication", "3")
    assert refused.exit_code == 2
    assert "can't be made: " in refused.stderr
    assert "replication factor" in refused.stderr.lower()


def test_a_kafka_that_is_not_there_is_named() -> None:
    with pytest.raises(TopicsError, match=r"Kafka at 127\.0\.0\.1:1 can't be reached"):
        create_topics(Settings(kafka="127.0.0.1:1", kafka_timeout_ms=500))


def test_every_record_has_its_topic() -> None:
    assert {topic.name for topic in input_topics("kinds")} == set(INPUT_RECORDS)
    families = {topic_family(topic.name) for topic in output_topics()}
    assert families == {*OUTPUT_RECORDS, "decisions"}
    assert CONTROL_TOPIC in {topic.name for topic in output_topics()}
    names = [topic.name for topic in all_topics("one")]
    assert len(set(names)) == len(names)


def test_copies_that_may_be_away_are_one() -> None:
    events = input_topics("one")[0]
    assert "min.insync.replicas" not in events.configuration(1)
    assert "min.insync.replicas" not in events.configuration(2)
    assert events.configuration(3)["min.insync.replicas"] == "2"
