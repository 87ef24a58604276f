"""Settings from the environment: what is read, what is refused and in which words."""

import dataclasses
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.hashing import DEFAULT_KEY
from millrace.identity import id_key
from streams.settings import (
    SettingError,
    Settings,
    environment_of,
    kafka_options,
    page,
    rows,
    variable,
)

ROOT = Path(__file__).parent.parent


def refusal(**environment: str) -> str:
    with pytest.raises(SettingError) as caught:
        Settings.from_environment(environment)
    return str(caught.value)


def test_nothing_set_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({"MILLRACE_KAFKA": "", "PATH": "/bin"}) == Settings()
    assert Settings().id_key == DEFAULT_KEY


def test_every_kind_of_value_is_read() -> None:
    found = Settings.from_environment(
        {
            "MILLRACE_KAFKA": "a:1, b:2",
            "MILLRACE_INPUTS": "kinds",
            "MILLRACE_PARTITIONS": "12",
            "MILLRACE_DECISIONS": "Yes",
            "MILLRACE_TRANSACTIONAL": "0",
            "MILLRACE_ID_KEY": "00112233445566778899aabbccddeeff",
            "MILLRACE_MEMORY_MAX": "900",
        }
    )
    assert found == Settings(
        kafka="a:1, b:2",
        inputs="kinds",
        partitions_count=12,
        decisions=True,
        id_key=bytes.fromhex("00112233445566778899aabbccddeeff"),
        memory_mib_max=900,
    )
    assert kafka_options(found)["bootstrap_servers"] == ["a:1", "b:2"]


def test_a_child_gets_the_same_settings() -> None:
    settings = Settings(
        kafka="a:1",
        decisions=True,
        partitions_count=3,
        id_key=b"sixteen letters!",
        redis="redis://u:p@h",
    )
    assert Settings.from_environment(environment_of(settings)) == settings
    assert environment_of(Settings()) == {}


def test_wrong_values_are_named_with_what_was_expected() -> None:
    assert refusal(MILLRACE_PARTITIONS="0") == (
        "MILLRACE_PARTITIONS: expected a whole number of 1 or more, got '0'"
    )
    assert "a whole number of 1000 or more, got 'soon'" in refusal(
        MILLRACE_SESSION_TIMEOUT_MS="soon"
    )
    assert refusal(MILLRACE_INPUTS="kind") == (
        "MILLRACE_INPUTS: expected one of one, kinds, got 'kind'; did you mean `kinds`?"
    )
    assert refusal(MILLRACE_DECISIONS="maybe") == (
        "MILLRACE_DECISIONS: expected yes or no, got 'maybe'"
    )
    assert "expected SASL_PLAINTEXT or SASL_SSL" in refusal(MILLRACE_KAFKA_USER="ada")
    assert "letters, digits, dots" in refusal(MILLRACE_TOPIC_PREFIX="a b")


def test_a_misspelt_name_is_refused_and_strangers_are_not() -> None:
    assert refusal(MILLRACE_KAKFA="x:1") == (
        "MILLRACE_KAKFA: expected the name of a setting, got another; "
        "did you mean `MILLRACE_KAFKA`?"
    )
    strangers = {
        "MILLRACE_DATA": "/data",
        "MILLRACE_KAFKA_SCRIPT": "/k",
        "MILLRACE_KAFKA_SERVICE_HOST": "10.0.0.1",  # as Kubernetes sets them
        "MILLRACE_KAFKA_PORT": "tcp://10.0.0.1:9092",
        "MILLRACE_REDIS_PORT_6379_TCP": "tcp://10.0.0.2:6379",
        "MILLRACE_X": "1",
    }
    assert Settings.from_environment(strangers) == Settings()


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret\n", encoding="utf-8")
    found = Settings.from_environment(
        {
            "MILLRACE_KAFKA_SECURITY": "SASL_PLAINTEXT",
            "MILLRACE_KAFKA_USER": "ada",
            "MILLRACE_KAFKA_PASSWORD_FILE": str(file),
        }
    )
    assert found.kafka_password == "s3cret"
    assert "s3cret" not in repr(found)
    assert kafka_options(found)["sasl_plain_password"] == "s3cret"
    assert f"{tmp_path}/no: No such file" in refusal(MILLRACE_ID_KEY_FILE=f"{tmp_path}/no")
    assert "MILLRACE_KAFKA_FILE" in refusal(MILLRACE_KAFKA_FILE=str(file)), "no secret"


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=40))
def test_a_key_of_the_wrong_length_is_not_shown(text: str) -> None:
    if len(text) == 16 or (len(text) == 32 and all(c in "0123456789abcdefABCDEF" for c in text)):
        assert len(Settings.from_environment({"MILLRACE_ID_KEY": text}).id_key) == 16
    else:
        assert refusal(MILLRACE_ID_KEY=text) == (
            "MILLRACE_ID_KEY: expected 16 bytes of text or 32 hexadecimal digits, "
            f"got {len(text)} bytes"
        )


def test_the_commands_key_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_ID_KEY", "sixteen letters!")
    assert id_key() == b"sixteen letters!"


def test_tls_files_are_read_or_named(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    settings = Settings(
        kafka_security="SSL",
        kafka_ca=str(certificate),
        kafka_certificate=str(certificate),
        kafka_key=str(key),
    )
    assert kafka_options(settings)["ssl_context"].get_ca_certs()[0]["subject"] == (
        (("commonName", "localhost"),),
    )
    with pytest.raises(SettingError, match=r"^MILLRACE_KAFKA_KEY: .*none\.pem: No such file"):
        kafka_options(dataclasses.replace(settings, kafka_key=str(tmp_path / "none.pem")))
    with pytest.raises(SettingError, match="that belong together"):
        kafka_options(dataclasses.replace(settings, kafka_certificate=str(key)))


def test_the_page_has_every_setting_and_is_current() -> None:
    committed = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert committed == page(), "python -m millrace settings > docs/settings.md"
    names = [variable(field) for field in dataclasses.fields(Settings)]
    assert [row.variable for row in rows()] == names
    assert len(set(names)) == len(names)
    assert all(row.doc.endswith(".") for row in rows())
