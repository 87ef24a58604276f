"""The secret under which ids of people are hashed before anything about them is stored."""

from streams.settings import Settings


def id_key() -> bytes:
    """Return the key of the environment (MILLRACE_ID_KEY), or the one for development.

    Raises MillraceError, which does not show the key.
    """
    return Settings.from_environment().id_key
