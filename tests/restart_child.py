"""An engine in a process of its own, to be killed: plays a file of records from its start.

Usage: python restart_child.py RECORDS REDIS_URL PREFIX DIRECTORY. It prints `resumed N`, N being
the number of checkpoints so far, then the number of records it has handed over, again and again.
"""

import sys
from contextlib import closing
from pathlib import Path

import msgspec

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.policy_files import read_policy
from streams.redis_store import RedisStore
from streams.sinks import JsonLinesSink

PARTITION_COUNT = 3
SUBMIT_COUNT = 100  # records handed over at once
SETTINGS = EmbeddedSettings(PARTITION_COUNT, batch_max_count=32, checkpoint_ms=5)
Records = list[tuple[str, str, bytes]]  # topic, key, value


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    file, url, prefix, directory = sys.argv[1:]
    records = msgspec.msgpack.decode(Path(file).read_bytes(), type=Records)
    sink = JsonLinesSink(Path(directory), include=("training",), resume=True)
    with closing(RedisStore(url, prefix)) as store, closing(sink):
        runtime = EmbeddedRuntime(read_policy(), store, sink, SETTINGS)
        say(f"resumed {runtime.checkpoint_count}")
        for start in range(0, len(records), SUBMIT_COUNT):
            topics, keys, values = zip(*records[start : start + SUBMIT_COUNT], strict=True)
            runtime.submit(topics, keys, values)
            say(str(start + len(values)))
        runtime.close()


if __name__ == "__main__":
    main()
