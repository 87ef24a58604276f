"""All peers in the order of the table: one that is added here is run, checked and shown."""

from dataclasses import dataclass

from bench.peers.question import COLUMNS

_NO_MAX_NO_DISTINCT = tuple(c for c in COLUMNS if not c.startswith(("max_", "distinct_")))


@dataclass(frozen=True)
class Peer:
    """One row of the table.

    `answer` is the function `module:name` that takes events and returns answers. A peer that is
    slow is asked only about the events of every tenth customer. `holds_later_ties` says that its
    windows hold events of the same millisecond that come later.
    """

    key: str
    title: str
    answer: str
    package: str
    is_online: bool
    columns: tuple[str, ...] = COLUMNS
    is_slow: bool = False
    is_alone: bool = True  # held on one core; else it has a server, which may use another one
    holds_later_ties: bool = False

    @property
    def module(self) -> str:
        """Return the name of the module that asks this peer."""
        return self.answer.partition(":")[0]


REFERENCE = "millrace"
FLINK = "flink"
FLINK_VERSION = "2.3.0"
PEERS = (
    Peer(
        REFERENCE,
        "Millrace, cells in, batches of 512",
        "bench.peers.in_millrace:from_cells",
        "numba",
        is_online=True,
    ),
    Peer(
        "millrace-bytes",
        "Millrace, JSON bytes in, batches of 512",
        "bench.peers.in_millrace:from_bytes",
        "msgspec",
        is_online=True,
    ),
    Peer(
        "millrace-one",
        "Millrace, cells in, one event at a time",
        "bench.peers.in_millrace:one_by_one",
        "numba",
        is_online=True,
        is_slow=True,
    ),
    Peer(
        "river",
        "River `TimeRolling`",
        "bench.peers.in_river:answer",
        "river",
        is_online=True,
        columns=_NO_MAX_NO_DISTINCT,
        is_slow=True,
    ),
    Peer(
        "redis",
        "Redis sorted sets, redis-py",
        "bench.peers.in_redis:answer",
        "redis",
        is_online=True,
        is_slow=True,
        is_alone=False,
    ),
    Peer(
        FLINK,
        "Flink SQL `OVER`",
        "bench.peers.in_flink:answer",
        "apache-flink",
        is_online=True,
        is_alone=False,
        holds_later_ties=True,
    ),
    Peer(
        "pandas",
        "pandas `groupby().rolling()`",
        "bench.peers.in_pandas:answer",
        "pandas",
        is_online=False,
    ),
    Peer(
        "polars",
        "Polars `rolling(group_by=…)`",
        "bench.peers.in_polars:answer",
        "polars",
        is_online=False,
    ),
    Peer(
        "duckdb",
        "DuckDB `OVER (… RANGE …)`",
        "bench.peers.in_duckdb:answer",
        "duckdb",
        is_online=False,
    ),
)
BY_KEY = {peer.key: peer for peer in PEERS}
