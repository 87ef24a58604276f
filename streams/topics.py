"""The topics: their names, who may share a partition count, how long they keep what they hold.

One table for the worker, the AsyncAPI document and `millrace topics create`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from features.errors import MillraceError
from features.records import INPUT_RECORDS, ONE_TOPIC, ContactChannel
from streams.kafka_access import check_access
from streams.settings import Settings, kafka_python_options

DAY_MS = 86_400_000
CONTROL_GROUP = "control"  # offers that are decided and logged, and that no channel delivers
DECISIONS = "decisions"
MODELS = "models"
POLICIES = "policies"
LISTS = "lists"
TRAINING = "training"
DEAD_LETTERS = "dead-letters"
MODEL_MAX_BYTES = 16 << 20  # a forest's state is larger than Kafka's usual bound of a record
SETTLE_S, POLL_S = 10.0, 0.1
Role = Literal["input", "output", "control"]


class TopicsError(MillraceError):
    """The cluster can't be reached, or refuses to say or make what was asked for."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of Millrace; `name` is without the prefix of the settings.

    Topics with a customer's key have one number of partitions, so that a customer's records are
    in the partition of the same number everywhere. The others have one partition.
    """

    name: str
    role: Role
    doc: str
    keyed: bool = True
    compacted: bool = False
    retention_ms: int = 7 * DAY_MS
    max_bytes: int | None = None

    def partition_count(self, keyed_count: int) -> int:
        """Return how many partitions this topic has where keyed topics have `keyed_count`."""
        return keyed_count if self.keyed else 1

    def configuration(self, replication_count: int) -> dict[str, str]:
        """Return the topic's settings in Kafka's words."""
        if self.compacted:
            configuration = {"cleanup.policy": "compact"}
        else:
            configuration = {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}
        if self.max_bytes is not None:
            configuration["max.message.bytes"] = str(self.max_bytes)
        if replication_count > 2:  # one copy may be away, and what is acknowledged is still safe
            configuration["min.insync.replicas"] = str(replication_count - 1)
        return configuration


def input_topics(inputs: Literal["one", "kinds"]) -> list[Topic]:
    """Return the topics that records come by."""
    if inputs == "one":
        return [Topic(ONE_TOPIC, "input", "every kind of input record, in one order")]
    return [
        Topic(name, "input", (record.__doc__ or "").splitlines()[0])
        for name, record in INPUT_RECORDS.items()
    ]


def output_topics() -> list[Topic]:
    """Return the topics that the engine writes to."""
    channels = [*get_args(ContactChannel), CONTROL_GROUP]  # fmt: skip
    return [
        Topic("alerts", "output", "an alert for each risky event"),
        *(Topic(f"offers.{c}", "output", f"the offers that go by {c}") for c in channels),
        Topic("tasks", "output", "work for people"),
        Topic(DECISIONS, "output", "every decision, where that is asked for"),
        Topic(
            "model-reports",
            "output",
            "how good champion and challengers are",
            False,
            False,
            30 * DAY_MS,
        ),
        Topic(
            "model-promotions",
            "output",
            "which challenger became champion",
            False,
            False,
            30 * DAY_MS,
        ),
        Topic(
            "model-refusals",
            "output",
            "which contestant can't learn fraud so rare",
            False,
            False,
            30 * DAY_MS,
        ),
        Topic("drift", "output", "what is no longer as it was", False, False, 30 * DAY_MS),
        Topic(TRAINING, "output", "matured examples", False, False, 30 * DAY_MS),
        Topic(DEAD_LETTERS, "output", "records that were refused", False, False, 30 * DAY_MS),
    ]


def control_topics() -> list[Topic]:
    """Return the topics that steer the engine; every worker reads them whole."""
    return [
        Topic(POLICIES, "control", "whole policies; the newest decides", False, True,
              max_bytes=MODEL_MAX_BYTES),
        Topic(LISTS, "control", "what a policy's lists hold, by name", False, True,
              max_bytes=MODEL_MAX_BYTES),
        Topic(MODELS, "control", "versions of models", False, True, max_bytes=MODEL_MAX_BYTES),
    ]  # fmt: skip


def all_topics(inputs: Literal["one", "kinds"]) -> list[Topic]:
    """Return every topic of an engine whose records come in this way."""
    return [*input_topics(inputs), *output_topics(), *control_topics()]


@dataclass(frozen=True, slots=True)
class TopicState:
    """What became of a topic: made, there already, to be made, or there with other settings."""

    name: str  # as in Kafka, with the prefix
    state: Literal["created", "exists", "would be created", "differs"]
    partition_count: int
    differences: list[tuple[str, str, str]] = field(default_factory=list)  # what, expected, got


def create_topics(settings: Settings, *, dry_run: bool = False) -> list[TopicState]:
    """Make the topics that are missing; tell how those that are there differ, and change nothing.

    Raises TopicsError; KafkaAccessError where Kafka does not let us in.
    """
    wanted = {settings.topic_prefix + topic.name: topic for topic in all_topics(settings.inputs)}
    admin = _admin(settings)
    try:
        existing = set(admin.list_topics())
        missing = {name: topic for name, topic in wanted.items() if name not in existing}
        made = missing if dry_run else _create(admin, missing, settings)
        there = {name: topic for name, topic in wanted.items() if name not in made}
        differences = _differences(admin, there, settings)
    except KafkaError as error:
        raise TopicsError(f"Kafka at {settings.kafka}: {error}") from error
    finally:
        admin.close()
    states = []
    for name, topic in wanted.items():
        count = topic.partition_count(settings.partitions_count)
        if name in made:
            states.append(TopicState(name, "would be created" if dry_run else "created", count))
        else:
            found = differences[name]
            states.append(TopicState(name, "differs" if found else "exists", count, found))
    return states


def delete_topics(settings: Settings) -> None:
    """Delete all topics of the settings' prefix that are there; TopicsError where that fails."""
    names = {settings.topic_prefix + topic.name for topic in all_topics(settings.inputs)}
    admin = _admin(settings)
    try:
        found = sorted(names.intersection(admin.list_topics()))
        if found:
            admin.delete_topics(found)
    except KafkaError as error:
        raise TopicsError(f"Kafka at {settings.kafka}: {error}") from error
    finally:
        admin.close()


def _admin(settings: Settings) -> Any:
    check_access(settings)
    try:
        return KafkaAdminClient(**kafka_python_options(settings))
    except (KafkaError, ValueError, OSError) as error:
        raise TopicsError(f"Kafka at {settings.kafka} can't be reached: {error}") from error


def _create(admin: Any, topics: dict[str, Topic], settings: Settings) -> set[str]:
    """Ask for topics; return those that were made, the others somebody else has just made.

    TopicsError says why one of them can't be.
    """
    if not topics:
        return set()
    asked = {
        name: {
            "num_partitions": topic.partition_count(settings.partitions_count),
            "replication_factor": settings.replication_count,
            "configs": topic.configuration(settings.replication_count),
        }
        for name, topic in topics.items()
    }
    answer = admin.create_topics(asked, raise_errors=False)
    made = set()
    for found in answer["topics"]:
        if found["error_code"] == 0:
            made.add(found["name"])
        elif found["error_code"] != TopicAlreadyExistsError.errno:
            reason = found["error_message"] or f"error {found['error_code']}"
            raise TopicsError(f"topic {found['name']} can't be made: {reason}")
    _described(admin, sorted(made))
    return made


def _described(admin: Any, names: list[str]) -> dict[str, Any]:
    """Return what the brokers know of topics, waiting for those that were made just now."""
    for _ in range(int(SETTLE_S / POLL_S)):
        described = {found["name"]: found for found in admin.describe_topics(names)}
        if all(name in described and not described[name]["error_code"] for name in names):
            return described
        time.sleep(POLL_S)
    raise TopicsError(f"Kafka does not say where all of these topics are: {', '.join(names)}")


def _differences(
    admin: Any, topics: dict[str, Topic], settings: Settings
) -> dict[str, list[tuple[str, str, str]]]:
    """Return, for each topic that is there, (what, expected, got) of what is otherwise."""
    if not topics:
        return {}
    copies = settings.replication_count
    described = _described(admin, list(topics))
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, list(topic.configuration(copies)))
        for name, topic in topics.items()
    ]
    configured = admin.describe_configs(resources, config_filter="all")["topic"]
    found: dict[str, list[tuple[str, str, str]]] = {}
    for name, topic in topics.items():
        partitions: Sequence[Any] = described[name]["partitions"]
        got_copies = min((len(partition["replica_nodes"]) for partition in partitions), default=0)
        facts = [
            (
                "partitions",
                str(topic.partition_count(settings.partitions_count)),
                str(len(partitions)),
            ),
            ("replication", str(copies), str(got_copies)),
        ]
        facts += [
            (setting, expected, str(configured[name][setting]["value"]))
            for setting, expected in topic.configuration(copies).items()
        ]
        found[name] = [fact for fact in facts if fact[1] != fact[2]]
    return found
