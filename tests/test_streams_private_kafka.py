"""The private broker keeps its data through a kill, ends with its owner, says what goes wrong."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from streams import private_kafka
from streams.private_kafka import PrivateKafka, PrivateKafkaError, broker_count, kafka_script

pytestmark = pytest.mark.kafka
ROOT = Path(__file__).parent.parent
GIVE_UP_S = 20.0
POLL_S = 0.05


@pytest.fixture(autouse=True)
def can_run(kafka: PrivateKafka) -> None:
    """Skip these tests too where no broker can run."""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[PrivateKafka]:
    with PrivateKafka(tmp_path / "own") as broker:
        yield broker


def answers(port: int) -> bool:
    try:
        return broker_count(port) == 1
    except OSError:
        return False


def gone(port: int) -> bool:
    """Wait until nobody answers; False if somebody still does at the end."""
    pause = threading.Event()
    for _ in range(int(GIVE_UP_S / POLL_S)):
        if not answers(port):
            return True
        pause.wait(POLL_S)
    return False


def values_of(broker: PrivateKafka, topic: str, count: int) -> list[bytes]:
    """Read a topic of one partition from its beginning."""
    consumer = KafkaConsumer(bootstrap_servers=broker.address, consumer_timeout_ms=20_000)
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    values = [record.value for _, record in zip(range(count), consumer, strict=False)]
    consumer.close()
    return values


def produce(broker: PrivateKafka, topic: str, *values: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.address, acks="all")
    for value in values:
        producer.send(topic, value)
    producer.flush()
    producer.close()


def test_what_was_acknowledged_survives_a_kill_and_a_stop(own: PrivateKafka) -> None:
    address, first_pid = own.address, own.pid
    admin = KafkaAdminClient(bootstrap_servers=address)
    admin.create_topics([NewTopic(name="t", num_partitions=1, replication_factor=1)])
    admin.close()
    produce(own, "t", b"a", b"b")
    own.kill()
    assert not answers(own.port)
    with pytest.raises(PrivateKafkaError, match="is stopped"):
        _ = own.pid
    own.start()
    assert own.address == address
    assert own.pid != first_pid
    assert values_of(own, "t", 2) == [b"a", b"b"]
    produce(own, "t", b"c")
    own.stop()
    assert not answers(own.port)
    own.stop()
    own.start()
    assert values_of(own, "t", 3) == [b"a", b"b", b"c"]


def test_a_port_or_a_directory_in_use_is_refused(kafka: PrivateKafka, tmp_path: Path) -> None:
    with pytest.raises(PrivateKafkaError, match=rf"port {kafka.port} of 127.0.0.1 is taken"):
        PrivateKafka(tmp_path, port=kafka.port)


def test_what_the_broker_says_is_shown() -> None:
    with pytest.raises(PrivateKafkaError, match=r"Invalid value x .* num\.io\.threads"):
        PrivateKafka(options={"num.io.threads": "x"})


def test_a_broker_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "kafka"
    script.write_text("#!/bin/sh\necho it only sleeps\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setenv("MILLRACE_KAFKA_SCRIPT", str(script))
    with pytest.raises(PrivateKafkaError, match=r"within 0\.3 s; .*\nit only sleeps"):
        PrivateKafka(start_timeout_s=0.3)
    monkeypatch.setenv("MILLRACE_KAFKA_SCRIPT", str(tmp_path / "absent"))
    with pytest.raises(PrivateKafkaError, match="MILLRACE_KAFKA_SCRIPT"):
        kafka_script()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_killed_owner_takes_its_broker_down(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from streams.private_kafka import PrivateKafka\n"
        "broker = PrivateKafka(Path(sys.argv[1]))\n"
        "sys.stdout.write(f'{broker.port}\\n')\nsys.stdout.flush()\ntime.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert owner.stdout is not None
    port = int(owner.stdout.readline())
    assert answers(port)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    assert gone(port)


def run_script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(kafka_script()), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_starts_a_broker_that_stays(tmp_path: Path) -> None:
    place = ("--data-dir", str(tmp_path / "data"))
    started = run_script("start", "--port", "0", *place)
    try:
        assert started.returncode == 0, started.stderr
        port = int((tmp_path / "data" / "port").read_text())
        assert f"Kafka answers at 127.0.0.1:{port} (process " in started.stdout
        assert answers(port)
        assert run_script("status", *place).stdout == started.stdout
        again = run_script("start", *place)
        assert again.returncode == 1
        assert f"a broker runs on {tmp_path}/data already" in again.stderr
    finally:
        stopped = run_script("stop", *place)
    assert stopped.stdout.startswith("stopped (process ")
    assert not answers(port)
    assert run_script("status", *place).returncode == 3


def test_the_script_says_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("dirname", "cksum", "cut", "sed", "bash"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    bare = {"PATH": str(folder), "JAVA_HOME": "", "XDG_CACHE_HOME": str(tmp_path)}
    place = ("--data-dir", str(tmp_path / "data"))
    assert (
        "apt-get install openjdk-17-jre-headless maven"
        in run_script("start", *place, **bare).stderr
    )
    java = folder / "java"
    java.write_text("#!/bin/bash\necho '    java.specification.version = 11' >&2\n")
    java.chmod(0o755)
    assert "Java 17 or newer, got version 11" in run_script("start", *place, **bare).stderr
    java.write_text("#!/bin/bash\necho '    java.specification.version = 21' >&2\n")
    assert "needs Maven" in run_script("start", *place, **bare).stderr


def test_the_script_refuses_what_it_does_not_know() -> None:
    assert "expected start, stop, status, run or fetch, got begin" in run_script("begin").stderr
    assert "expected --port or --data-dir, got --prt" in run_script("start", "--prt", "1").stderr
    assert "expected 0 to 65535, got 70000" in run_script("start", "--port", "70000").stderr


def test_what_a_private_kafka_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert private_kafka.lacking() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reason = private_kafka.lacking()
    assert reason is not None
    assert "Java 17" in reason
    assert "Maven" in reason
    (tmp_path / "millrace" / "kafka-1").mkdir(parents=True)
    (tmp_path / "millrace" / "kafka-1" / "kafka_2.13-3.9.1.jar").touch()
    assert private_kafka.lacking() == (
        "a private Kafka needs Java 17 (Debian: openjdk-17-jre-headless)"
    )
