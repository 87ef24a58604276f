"""`millrace worker`: settings, store and log around the worker."""

import logging
import sys
from contextlib import closing

from actions.policy import Policy
from streams.redis_store import RedisStore
from streams.settings import Settings
from streams.worker.application import StalledError, run_worker
from streams.worker.health import EXIT_STALLED


def work(policy: Policy, settings: Settings, log_level: str) -> None:
    """Run a worker until it is told to end."""
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in ("aiokafka", "faust", "mode", "kafka"):
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
    with closing(RedisStore.from_settings(settings)) as store:
        try:
            run_worker(policy, store, settings)
        except StalledError as error:
            logging.getLogger(__name__).critical("%s", error)
            sys.exit(EXIT_STALLED)
