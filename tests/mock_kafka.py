"""librdkafka's mock cluster: brokers in this process that fail on command.

It is inside the wheel of confluent-kafka and reached by ctypes (`rdkafka_mock.h`). It keeps 5 MiB
of a partition and knows no CreateTopics.
"""

import ctypes
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from types import TracebackType

import confluent_kafka

PRODUCER = 0  # of rd_kafka_type_t: a mock cluster hangs on a client of any type
ERROR_BYTES = 512


class Api(IntEnum):
    """Kinds of requests, as the protocol numbers them."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    INIT_PRODUCER_ID = 22


class Code(IntEnum):
    """Error codes of the protocol."""

    UNKNOWN_TOPIC_OR_PARTITION = 3
    NOT_LEADER = 6
    REQUEST_TIMED_OUT = 7
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    NOT_ENOUGH_REPLICAS = 19
    ILLEGAL_GENERATION = 22
    UNKNOWN_MEMBER = 25
    REBALANCE_IN_PROGRESS = 27
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30


def _library() -> ctypes.CDLL:
    (path,) = (Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob(
        "librdkafka-*"
    )
    library = ctypes.CDLL(str(path))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: Mapping[str, tuple[object, tuple[object, ...]]] = {
        "rd_kafka_conf_new": (pointer, ()),
        "rd_kafka_new": (pointer, (number, pointer, text, ctypes.c_size_t)),
        "rd_kafka_destroy": (None, (pointer,)),
        "rd_kafka_mock_cluster_new": (pointer, (pointer, number)),
        "rd_kafka_mock_cluster_destroy": (None, (pointer,)),
        "rd_kafka_mock_cluster_bootstraps": (text, (pointer,)),
        "rd_kafka_mock_topic_create": (number, (pointer, text, number, number)),
        "rd_kafka_mock_partition_set_leader": (number, (pointer, text, number, number)),
        "rd_kafka_mock_push_request_errors_array": (
            None, (pointer, ctypes.c_int16, ctypes.c_size_t, pointer)
        ),
        "rd_kafka_mock_clear_request_errors": (None, (pointer, ctypes.c_int16)),
        "rd_kafka_mock_broker_set_rtt": (number, (pointer, number, number)),
        "rd_kafka_mock_broker_set_down": (number, (pointer, number)),
        "rd_kafka_mock_broker_set_up": (number, (pointer, number)),
        "rd_kafka_mock_coordinator_set": (number, (pointer, text, text, number)),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, (pointer, number)),
    }  # fmt: skip
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class MockKafka:
    """Brokers 1 to `broker_count` of this process; use it as a context manager."""

    def __init__(self, broker_count: int = 3) -> None:
        self._library = _library()
        error = ctypes.create_string_buffer(ERROR_BYTES)
        self._client = self._library.rd_kafka_new(
            PRODUCER, self._library.rd_kafka_conf_new(), error, ERROR_BYTES
        )
        assert self._client, error.value
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, broker_count)
        assert self._cluster
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 100)
        self.address = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def __enter__(self) -> "MockKafka":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def _do(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, f"rd_kafka_mock_{name}")(self._cluster, *arguments)
        assert not code, f"{name}{arguments}: {code}"

    def make_topic(self, name: str, partition_count: int) -> None:
        self._do("topic_create", name.encode(), partition_count, 1)

    def fail(self, api: Api, *codes: Code) -> None:
        """Have the next requests of this kind fail, one with each code."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._do("push_request_errors_array", int(api), len(codes), ctypes.addressof(array))

    def slow_down(self, broker: int, rtt_ms: int) -> None:
        """Answer each request to this broker so much later."""
        self._do("broker_set_rtt", broker, rtt_ms)

    def take_down(self, broker: int) -> None:
        """Hang up on everybody, and take no connections."""
        self._do("broker_set_down", broker)

    def bring_up(self, broker: int) -> None:
        self._do("broker_set_up", broker)

    def move_leader(self, topic: str, partition: int, broker: int) -> None:
        self._do("partition_set_leader", topic.encode(), partition, broker)

    def move_coordinator(self, group: str, broker: int) -> None:
        self._do("coordinator_set", b"group", group.encode(), broker)

    def clear(self, api: Api) -> None:
        """Have the rest of what was to fail go well."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, int(api))
