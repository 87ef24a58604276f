"""Whether Kafka lets us in: what refuses us has to be said at once, not waited for.

Clients take a broker that refuses a certificate or a password for one that is away, and look for
another one until they give up, or for ever. So it is asked once, before they begin.
"""

import asyncio
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from features.errors import MillraceError
from streams.settings import Settings, kafka_options

ANSWER_MAX_MS = 5_000
ANSWER_MAX_S = ANSWER_MAX_MS / 1000
_PASSWORD = (AuthenticationFailedError, SaslAuthenticationFailed)
_MECHANISM = (
    UnsupportedSaslMechanismError, IllegalSaslStateError, AuthenticationMethodNotSupported,
)  # fmt: skip


class KafkaAccessError(MillraceError):
    """Kafka answers, and does not let us in."""


def check_access(settings: Settings) -> None:
    """Raise KafkaAccessError where brokers answer, and none of them lets us in.

    One that is away is no refusal: whoever needs it waits for it. Not to be called on an event
    loop.
    """
    asyncio.run(_check(settings))


async def _check(settings: Settings) -> None:
    options = kafka_options(settings)
    refusal: KafkaAccessError | None = None
    for server in options.pop("bootstrap_servers"):
        try:
            connection = await asyncio.wait_for(
                create_conn(*_place(server), request_timeout_ms=ANSWER_MAX_MS, **options),
                2 * ANSWER_MAX_S,
            )
        except (KafkaError, OSError, TimeoutError) as error:  # an SSLError is an OSError
            why = _why(error, settings) or await _why_silent(error, server, settings)
            if why:
                refusal = refusal or KafkaAccessError(f"Kafka at {server}: {why}")
        else:
            connection.close()
            return
    if refusal is not None:
        raise refusal


def _place(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


async def _why_silent(error: Exception, server: str, settings: Settings) -> str:
    """Return why a broker hangs up on us without a word: its port may want TLS."""
    is_plain = settings.kafka_security in {"PLAINTEXT", "SASL_PLAINTEXT"}
    if isinstance(error, ConnectionRefusedError) or not is_plain:
        return ""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(*_place(server), ssl=anybody), ANSWER_MAX_S
        )
    except (OSError, TimeoutError):
        return ""
    writer.close()
    return (
        f"its port speaks TLS, and MILLRACE_KAFKA_SECURITY is {settings.kafka_security}: expected "
        "SSL or SASL_SSL"
    )


def _why(error: Exception, settings: Settings) -> str:
    """Return in words why we are refused, "" where we are not."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"expected a certificate that we trust, got {error.verify_message}: MILLRACE_KAFKA_CA "
            "names the file with the certificates that it is checked by"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"TLS failed ({error.reason or error}): MILLRACE_KAFKA_SECURITY says how its port is "
            "spoken to, MILLRACE_KAFKA_CERTIFICATE who we are"
        )
    if isinstance(error, _PASSWORD):
        return (
            f"the user `{settings.kafka_user}` or the password is refused "
            f"({settings.kafka_sasl}): see MILLRACE_KAFKA_USER and MILLRACE_KAFKA_PASSWORD"
        )
    if isinstance(error, _MECHANISM):
        return f"it does not take MILLRACE_KAFKA_SASL={settings.kafka_sasl}"
    return ""
