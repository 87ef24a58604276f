"""Settings of everything that talks to Kafka and Redis, from environment variables.

`Settings` is the one table: a field is a variable (`redis_timeout_ms` is MILLRACE_REDIS_TIMEOUT_MS)
with its default, its bounds and a sentence for docs/settings.md, which is made from it.
"""

import dataclasses
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from features.errors import MillraceError, nearest_name
from features.hashing import DEFAULT_KEY, ID_KEY_BYTES

PREFIX = "MILLRACE_"
FILE_SUFFIX = "_FILE"
# Read elsewhere, so they are no misspelling of a setting.
OTHER_VARIABLES = frozenset({"MILLRACE_DATA", "MILLRACE_KAFKA_SCRIPT"})
# A Kubernetes service whose name begins with `millrace` puts these into every pod.
_OF_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\w+)?)$")
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class SettingError(MillraceError):
    """A setting with a value that it can't have, or a variable that no setting has."""

    def __init__(self, variable: str, expected: str, got: str) -> None:
        self.variable = variable
        super().__init__(f"{variable}: expected {expected}, got {got}")


def _setting(
    default: Any,
    doc: str,
    *,
    least: int | None = None,
    secret: bool = False,
    variable: str | None = None,
) -> Any:
    facts = {"doc": doc, "least": least, "secret": secret, "variable": variable}
    return dataclasses.field(default=default, repr=not secret, metadata=facts)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where Kafka and Redis are, and how a worker runs. `from_environment` reads them."""

    kafka: str = _setting("localhost:9092", "Brokers to begin with: `host:port`, with commas.")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _setting(
        "PLAINTEXT", "How brokers are spoken to."
    )
    kafka_ca: str = _setting(
        "", "File with the certificates (PEM) that the brokers' are checked by; else the system's."
    )
    kafka_certificate: str = _setting("", "File with our certificate (PEM), where brokers ask.")
    kafka_key: str = _setting("", "File with the key (PEM) of our certificate.")
    kafka_key_password: str = _setting("", "Password of that key.", secret=True)
    kafka_sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _setting(
        "SCRAM-SHA-512", "With SASL: how we prove who we are."
    )
    kafka_user: str = _setting("", "With SASL: our name.")
    kafka_password: str = _setting("", "With SASL: our password.", secret=True)
    kafka_timeout_ms: int = _setting(
        15_000, "How long commands wait for a first broker that answers.", least=1
    )
    topic_prefix: str = _setting(
        "", "Stands before the name of every topic, so that several engines share a cluster."
    )
    inputs: Literal["one", "kinds"] = _setting(
        "one",
        "`one`: the topic `events` carries every kind of record, in a total order for each "
        "partition; `kinds`: a topic for each kind, in the order in which they arrive.",
    )
    partitions_count: int = _setting(
        4, "Partitions of the topics with a customer's key.", least=1, variable="PARTITIONS"
    )
    replication_count: int = _setting(
        1, "Copies of each partition in the cluster.", least=1, variable="REPLICATION"
    )
    group: str = _setting("millrace", "The consumer group of the workers.")
    instance: str = _setting(
        "",
        "A name in the group that this worker keeps when it is started again, and that no other "
        "has: its partitions then wait for it, up to the session's time-out, and come back at "
        "once. Empty: whoever is there takes over.",
    )
    redis: str = _setting(
        "redis://localhost:6379/0",
        "Where state is kept: `redis://USER:PASSWORD@HOST:6379/0`, `rediss://` for TLS, "
        "`redis+cluster://HOST,HOST` (or `rediss+cluster://`), "
        "`redis+sentinel://HOST:26379,HOST/SERVICE/0`, `unix://PATH`.",
        secret=True,
    )
    redis_prefix: str = _setting("millrace", "Stands before every key.")
    redis_ca: str = _setting(
        "", "File with the certificates (PEM) that the server's is checked by; else the system's."
    )
    redis_certificate: str = _setting("", "File with our certificate (PEM), where Redis asks.")
    redis_key: str = _setting("", "File with the key (PEM) of our certificate.")
    redis_timeout_ms: int = _setting(
        5_000, "How long to wait for a connection, and for each answer.", least=1
    )
    store_patience_ms: int = _setting(
        30_000, "How long a Redis that is away is waited for before giving up.", least=0
    )
    id_key: bytes = _setting(
        DEFAULT_KEY,
        "The secret under which ids of people are hashed before anything about them is stored: 16 "
        "bytes of text or 32 hexadecimal digits. The default is for development; all that use one "
        "Redis need the same.",
        secret=True,
    )
    batch_max_count: int = _setting(512, "Most records that are decided at once.", least=1)
    checkpoint_ms: int = _setting(100, "How often state and offsets are stored.", least=1)
    shared_refresh_ms: int = _setting(
        500, "How often it is read what other workers know of shared entities.", least=1
    )
    shared_staleness_ms_max: int = _setting(
        2_000, "From what age on that makes a value stale.", least=1
    )
    memory_mib_max: int = _setting(
        0, "MiB that the process may take; what is idle then waits in Redis. 0: no bound.",
        least=0, variable="MEMORY_MAX",
    )  # fmt: skip
    decisions: bool = _setting(False, "Write every decision to the topic `decisions`.")
    transactional: bool = _setting(
        False, "Write the output in transactions of Kafka, for `read_committed` consumers."
    )
    wait_for_models: bool = _setting(
        False,
        "A partition waits where a model's next version is due until it is out, so that a run can "
        "be compared with an embedded one. For replays.",
    )
    lost_records: Literal["refuse", "skip"] = _setting(
        "refuse",
        "Where Kafka deleted records that are not decided yet: `refuse` ends the worker, `skip` "
        "goes on with those that are left, with an error in the log.",
    )
    listen: str = _setting("127.0.0.1:6066", "`host:port` of metrics and health.")
    session_timeout_ms: int = _setting(
        10_000, "After this long without a sign of life a worker's partitions move.", least=1_000
    )
    stall_ms: int = _setting(
        60_000, "A worker that decides nothing for so long while records wait ends itself.", least=1
    )

    def __post_init__(self) -> None:
        if not self.kafka_security.startswith("SASL") and (self.kafka_user or self.kafka_password):
            expected = "SASL_PLAINTEXT or SASL_SSL, since there is a user or a password"
            raise SettingError("MILLRACE_KAFKA_SECURITY", expected, self.kafka_security)
        if not re.fullmatch(r"[A-Za-z0-9._-]*", self.topic_prefix):
            expected = "letters, digits, dots, dashes and underscores, as in a topic's name"
            raise SettingError("MILLRACE_TOPIC_PREFIX", expected, repr(self.topic_prefix))
        if not re.fullmatch(r"[^{}\s]+", self.redis_prefix):
            expected = "text without braces and blanks"
            raise SettingError("MILLRACE_REDIS_PREFIX", expected, repr(self.redis_prefix))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the variables; raise SettingError. Variables that are empty count as not set."""
        given = os.environ if environment is None else environment
        variables = {variable(field): field for field in dataclasses.fields(cls)}
        _check_names(given, variables)
        values: dict[str, Any] = {}
        kinds = get_type_hints(cls)
        for name, field in variables.items():
            text = _text(given, name, field.metadata["secret"])
            if text:
                values[field.name] = _parse(name, field, kinds[field.name], text)
        return cls(**values)


def variable(field: "dataclasses.Field[Any]") -> str:
    """Return the name of a setting's environment variable."""
    return PREFIX + (field.metadata["variable"] or field.name.upper())


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables that give a child process these settings, secrets included."""
    found = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value == field.default:
            continue
        if isinstance(value, bool):
            text = "yes" if value else "no"
        else:
            text = value.hex() if isinstance(value, bytes) else str(value)
        found[variable(field)] = text
    return found


def _check_names(given: Mapping[str, str], known: Mapping[str, Any]) -> None:
    """Refuse a variable that is close to a setting's name; others may belong to somebody else."""
    secrets = {name + FILE_SUFFIX for name, field in known.items() if field.metadata["secret"]}
    for name in given:
        if not name.startswith(PREFIX) or name in known or name in secrets:
            continue
        if name in OTHER_VARIABLES or _OF_KUBERNETES.search(name):
            continue
        nearest = nearest_name(name.removeprefix(PREFIX), [k.removeprefix(PREFIX) for k in known])
        if nearest is not None:
            got = f"another; did you mean `{PREFIX}{nearest}`?"
            raise SettingError(name, "the name of a setting", got)


def _text(given: Mapping[str, str], name: str, secret: bool) -> str:
    """Return a variable's text; that of a secret may stand in a file that NAME_FILE names."""
    file = given.get(name + FILE_SUFFIX, "") if secret else ""
    if not file:
        return given.get(name, "")
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text"
        expected, got = "a file that can be read", f"{file}: {reason}"
        raise SettingError(name + FILE_SUFFIX, expected, got) from error


def _parse(name: str, field: "dataclasses.Field[Any]", kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        if text in get_args(kind):
            return text
        nearest = nearest_name(text, get_args(kind))
        hint = f"; did you mean `{nearest}`?" if nearest else ""
        raise SettingError(name, f"one of {', '.join(get_args(kind))}", f"{text!r}{hint}")
    if kind is bool:
        if text.lower() in _YES + _NO:
            return text.lower() in _YES
        raise SettingError(name, "yes or no", repr(text))
    if kind is int:
        least = field.metadata["least"]
        if re.fullmatch(r"\d{1,12}", text) and int(text) >= least:
            return int(text)
        raise SettingError(name, f"a whole number of {least} or more", repr(text))
    return parse_id_key(name, text) if kind is bytes else text


def parse_id_key(name: str, text: str) -> bytes:
    """Return the key: 16 bytes of text, or 32 hexadecimal digits. An error does not show it."""
    key = text.encode()
    if len(key) == 2 * ID_KEY_BYTES and re.fullmatch(r"[0-9A-Fa-f]+", text):
        return bytes.fromhex(text)
    if len(key) != ID_KEY_BYTES:
        expected = f"{ID_KEY_BYTES} bytes of text or {2 * ID_KEY_BYTES} hexadecimal digits"
        raise SettingError(name, expected, f"{len(key)} bytes")
    return key


def kafka_options(settings: Settings) -> dict[str, Any]:
    """Return what clients of kafka-python and of aiokafka take to reach the brokers."""
    options: dict[str, Any] = {
        "bootstrap_servers": [item.strip() for item in settings.kafka.split(",")],
        "security_protocol": settings.kafka_security,
    }
    if settings.kafka_security.endswith("SSL"):
        options["ssl_context"] = _kafka_context(settings)
    if settings.kafka_security.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.kafka_sasl,
            "sasl_plain_username": settings.kafka_user,
            "sasl_plain_password": settings.kafka_password,
        }
    return options


def kafka_python_options(settings: Settings) -> dict[str, Any]:
    """Return what a client of kafka-python takes, with how long it looks for a first broker."""
    return kafka_options(settings) | {"bootstrap_timeout_ms": settings.kafka_timeout_ms}


def _kafka_context(settings: Settings) -> ssl.SSLContext:
    certificate, key = settings.kafka_certificate, settings.kafka_key
    check_files("MILLRACE_KAFKA", ca=settings.kafka_ca, certificate=certificate, key=key)
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca or None)
        if certificate:
            context.load_cert_chain(certificate, key or None, settings.kafka_key_password or None)
    except ssl.SSLError as error:
        expected = "certificates and a key (PEM) that belong together: _CA, _CERTIFICATE, _KEY"
        raise SettingError("MILLRACE_KAFKA_*", expected, str(error)) from error
    return context


def check_files(variable_prefix: str, **files: str) -> None:
    """Raise SettingError for a file that can't be read; an empty name is none."""
    for name, file in files.items():
        try:
            if file:
                Path(file).open("rb").close()
        except OSError as error:
            at_fault = f"{variable_prefix}_{name.upper()}"
            got = f"{file}: {error.strerror}"
            raise SettingError(at_fault, "a file that can be read", got) from error


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting as the page of settings shows it."""

    variable: str
    default: str
    doc: str
    is_secret: bool


def rows() -> list[SettingRow]:
    """Return all settings in their order."""
    found = []
    for field in dataclasses.fields(Settings):
        default = field.default
        if isinstance(default, bool):
            shown = "yes" if default else "no"
        elif isinstance(default, bytes):
            shown = "one for development"
        else:
            shown = str(default)
        doc = field.metadata["doc"]
        kind = get_type_hints(Settings)[field.name]
        if get_origin(kind) is Literal and "`" not in doc:
            doc += f" One of {', '.join(f'`{word}`' for word in get_args(kind))}."
        found.append(SettingRow(variable(field), shown, doc, bool(field.metadata["secret"])))
    return found


PAGE_HEAD = """\
# Settings

Environment variables, read by `millrace worker`, `millrace topics create` and wherever else a
command meets Kafka or Redis. This page is made from `streams/settings.py` by `millrace settings`.

A variable that is empty counts as not set. A secret (marked \\*) may also stand in a file: set
`NAME_FILE` to its path instead of `NAME` to the secret.

| variable | default | what it is |
|---|---|---|
"""


def page() -> str:
    """Return docs/settings.md."""
    lines = []
    for row in rows():
        star = "\\*" if row.is_secret else ""
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.variable}`{star} | {default} | {row.doc} |\n")
    return PAGE_HEAD + "".join(lines)
