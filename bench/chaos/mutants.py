"""Workers with one guard taken out, to see that the rounds notice.

python -m bench.chaos.mutants NAME worker --policy DIR
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from millrace.cli import main
from streams import redis_scripts, redis_store
from streams.committer import Committer
from streams.redis_store import RedisStore
from streams.store import PartitionChange

GAP_S = 0.05


def _without(text: str, piece: str) -> str:
    if piece not in text:
        raise ValueError(f"expected in the script: {piece!r}")
    return text.replace(piece, "")


def unfenced() -> None:
    """Neither the epoch nor the chain of offsets is looked at: a zombie's write is taken."""
    text = _without(
        redis_scripts.COMMIT_LUA,
        "  if stored_epoch ~= epoch then return {'fenced', p, stored_epoch} end\n",
    )
    redis_store.COMMIT_LUA = _without(
        text, "if gap then\n  if done then return {'already'} end\n  return gap\nend\n"
    )


def offsets_first() -> None:
    """A checkpoint stores offsets, and state a moment later."""
    commit = RedisStore.commit

    def two_steps(self: RedisStore, changes: Sequence[PartitionChange]) -> None:
        commit(self, [change._replace(writes=[], deletes=[], shared=()) for change in changes])
        time.sleep(GAP_S)
        commit(self, [change._replace(offsets={}) for change in changes])

    RedisStore.commit = two_steps  # type: ignore[method-assign]


def state_first() -> None:
    """A checkpoint stores state, and offsets a moment later."""
    commit = RedisStore.commit

    def two_steps(self: RedisStore, changes: Sequence[PartitionChange]) -> None:
        commit(self, [change._replace(offsets={}) for change in changes])
        time.sleep(GAP_S)
        commit(self, [change._replace(writes=[], deletes=[], shared=()) for change in changes])

    RedisStore.commit = two_steps  # type: ignore[method-assign]


def unflushed() -> None:
    """A checkpoint does not wait until Kafka has acknowledged what was emitted before."""
    begin = Committer.begin

    def without_flush(self: Committer, changes: Any, **_: Any) -> None:
        begin(self, changes)

    Committer.begin = without_flush  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "unfenced": unfenced,
    "offsets-first": offsets_first,
    "state-first": state_first,
    "unflushed": unflushed,
}


if __name__ == "__main__":
    name = sys.argv.pop(1)
    MUTANTS[name]()
    main()
