"""A real broker with TLS and passwords: who is let in works, who is not is told at once."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion
from redis_servers import make_certificate
from reload_policies import FILES
from strategies_streams import HOUR_MS, START_MS, transaction
from worker_runs import Bank, Worker, wait_until

from features.records import ENCODER, Alert
from millrace.cli import main
from streams.kafka_access import KafkaAccessError, check_access
from streams.private_kafka import PrivateKafka, PrivateKafkaError
from streams.settings import Settings, variable

pytestmark = pytest.mark.kafka
USER, PASSWORD = "alice", 'pass "word" \\ 1'
PREFIX = "listener.name.secure."
AT_ONCE_S = 10.0
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@pytest.fixture(scope="module")
def settings(kafka: PrivateKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Return what a client needs for a broker of these tests alone."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = make_certificate(folder)
    pair = folder / "broker.pem"
    pair.write_text(key.read_text() + certificate.read_text())
    options = {
        PREFIX + "ssl.keystore.type": "PEM",
        PREFIX + "ssl.keystore.location": str(pair),
        PREFIX + "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        PREFIX + "scram-sha-512.sasl.jaas.config": SCRAM_LOGIN,
    }
    with PrivateKafka(options=options, secure=True) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.address)
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, PASSWORD)]
        )
        admin.close()
        yield Settings(
            kafka=broker.secure_address,
            kafka_security="SASL_SSL",
            kafka_ca=str(certificate),
            kafka_user=USER,
            kafka_password=PASSWORD,
        )


def wrong(settings: Settings, folder: Path) -> dict[str, tuple[Settings, str]]:
    """Return settings that the broker refuses, and what has to be said of each."""
    other, _ = make_certificate(folder)
    return {
        "password": (
            replace(settings, kafka_password="pass"),
            "the user `alice` or the password is refused (SCRAM-SHA-512)",
        ),
        "user": (replace(settings, kafka_user="bob"), "the user `bob` or the password is refused"),
        "mechanism": (
            replace(settings, kafka_sasl="PLAIN"),
            "it does not take MILLRACE_KAFKA_SASL=PLAIN",
        ),
        "authority": (
            replace(settings, kafka_ca=str(other)),
            "expected a certificate that we trust, got self-signed certificate",
        ),
        "plaintext": (
            Settings(kafka=settings.kafka),
            "its port speaks TLS, and MILLRACE_KAFKA_SECURITY is PLAINTEXT: expected SSL or",
        ),
    }


def environment(settings: Settings) -> dict[str, str]:
    return {
        variable(field): str(getattr(settings, field.name))
        for field in settings.__dataclass_fields__.values()
        if getattr(settings, field.name) != field.default
    }


@pytest.mark.parametrize("what", ["password", "user", "mechanism", "authority", "plaintext"])
def test_who_is_not_let_in_is_told_at_once(settings: Settings, tmp_path: Path, what: str) -> None:
    refused, message = wrong(settings, tmp_path)[what]
    began_s = time.monotonic()
    result = CliRunner().invoke(main, ["topics", "create"], env=environment(refused))
    assert time.monotonic() - began_s < AT_ONCE_S
    assert result.exit_code == 2
    assert f"Kafka at {settings.kafka}: {message}" in result.output


def test_one_broker_that_lets_us_in_is_enough_and_one_that_is_away_is_no_refusal(
    settings: Settings, tmp_path: Path
) -> None:
    check_access(settings)
    check_access(replace(settings, kafka=f"127.0.0.1:1,{settings.kafka}"))
    check_access(replace(settings, kafka="127.0.0.1:1"))
    refused, _ = wrong(settings, tmp_path)["password"]
    with pytest.raises(KafkaAccessError):
        check_access(replace(refused, kafka=f"127.0.0.1:1,{settings.kafka}"))


def test_a_broker_without_such_a_listener_says_so(kafka: PrivateKafka) -> None:
    with pytest.raises(PrivateKafkaError, match="has no secure listener"):
        _ = kafka.secure_address


def test_a_worker_decides_with_tls_and_a_password_and_ends_with_a_wrong_one(
    open_bank: Callable[..., Bank], settings: Settings, tmp_path: Path
) -> None:
    policy = tmp_path / "policy"
    policy.mkdir()
    for name, text in FILES.items():
        (policy / name).write_text(text)
    given = {
        name: getattr(settings, name)
        for name in ("kafka", "kafka_security", "kafka_ca", "kafka_user", "kafka_password")
    }
    bank = open_bank(policy, **given)
    bank.start_worker()
    payments = [transaction(n, START_MS + n * HOUR_MS, "ada", terminal_id="t1") for n in range(3)]
    bank.produce([("transactions", "ada", ENCODER.encode(record)) for record in payments])
    wait_until(bank.is_decided, "it decides")
    alerts = [msgspec.json.decode(line, type=Alert) for line in bank.lines()["alerts"]]
    assert [alert.event_id for alert in alerts] == ["e0", "e1", "e2"]

    refused = replace(bank.settings, kafka_password="pass")
    worker = Worker(refused, policy, tmp_path / "refused.log")
    bank.workers.append(worker)
    assert worker.ends() == 2
    assert "the user `alice` or the password is refused" in worker.log.read_text()
    assert PASSWORD not in worker.log.read_text()
