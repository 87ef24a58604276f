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
    if settings.kafka_security != "PLAINTEXT":
        asyncio.run(_check(settings))


async def _check(settings: Settings) -> None:
    options = kafka_options(settings)
    refusal: KafkaAccessError | None = None
    for server in options.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        try:
            connection = await asyncio.wait_for(
                create_conn(
                    host.strip("[]"), int(port), request_timeout_ms=ANSWER_MAX_MS, **options
                ),
                2 * ANSWER_MAX_MS / 1000,
            )
        except (KafkaError, OSError, TimeoutError) as error:  # an SSLError is an OSError
            why = _why(error, settings)
            if why:
                refusal = refusal or KafkaAccessError(f"Kafka at {server}: {why}")
        else:
            connection.close()
            return
    if refusal is not None:
        raise refusal


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
