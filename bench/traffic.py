"""Seeded input for benchmarks: records on the wire, and cells that keep histories as they are."""

from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from features.codes import code_of
from features.columns import Cell, Cells, Kind, LabelCode, empty_cells
from features.decode import MICRO
from features.hashing import IdHasher
from features.raw import RawRecord
from streams.partitioner import partitions_of

HASHER = IdHasher()
START_MS = 1_751_328_000_000  # 2025-07-01T00:00Z
PARTITION_COUNT = 4
COUNTRIES = ("DE", "FR", "NL", "AT", "IT")
SHARES = (0.6, 0.2, 0.2)  # card in a shop, card online, transfer


def wire_transactions(count: int, seed: int = 1) -> list[RawRecord]:
    """Return card purchases as a bank would send them, about 340 bytes each."""
    rng = np.random.default_rng(seed)
    people = rng.integers(5_000, size=count).tolist()
    places = rng.integers(2_000, size=count).tolist()
    amounts = rng.integers(100, 20_000, size=count).tolist()
    keys = [f"CU{person:08d}" for person in people]
    partitions = partitions_of(keys, PARTITION_COUNT).tolist()
    return [
        RawRecord(partitions[i], "transactions", i, orjson.dumps({
            "event_id": f"TX{i:010d}",
            "ts_ms": START_MS + 250 * i,
            "customer_id": keys[i],
            "account_id": f"AC{people[i]:08d}",
            "type": "purchase",
            "amount_minor": amounts[i],
            "currency": "EUR",
            "direction": "out",
            "channel": "pos",
            "card_id": f"CA{people[i]:08d}",
            "merchant_id": f"ME{places[i]:06d}",
            "mcc": 5411,
            "terminal_id": f"TE{places[i]:06d}",
            "country": COUNTRIES[places[i] % len(COUNTRIES)],
            "lat": 48.0 + places[i] / 1_000,
            "lon": 9.0 + places[i] / 1_000,
            "balance_minor": 250_000 - amounts[i],
        }))
        for i in range(count)
    ]  # fmt: skip


class Rows(NamedTuple):
    """What the feature engine takes: kinds (n,), cells (len(Cell), n), partitions (n,)."""

    kinds: NDArray[np.uint8]
    cells: Cells
    partitions: NDArray[np.uint16]


class CellTraffic:
    """Transactions without end, at a pace that leaves every customer `event_count` in `reach_ms`.

    So histories are as long after many rounds as at the start. Customers take turns at random;
    merchants and terminals are chosen by 1/rank^0.8: some are far busier than others.
    """

    def __init__(self, customer_count: int, event_count: int, reach_ms: int, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._step_ms = reach_ms / (customer_count * event_count)
        self._sent_count = 0
        self._customer_count = customer_count
        shop_count = max(customer_count * 2 // 5, 1)
        popularity = 1.0 / np.arange(1, shop_count + 1) ** 0.8
        self._shop_edges = np.cumsum(popularity / popularity.sum())[:-1]
        own = ("customer", "account", "card", "device", "ip", "payee")
        self._ids = {name: self._some_ids(customer_count) for name in own}
        self._ids |= {name: self._some_ids(shop_count) for name in ("merchant", "terminal")}
        self._countries = np.array([code_of(code) for code in COUNTRIES])
        words = ("purchase", "transfer_out", "out", "pos", "online", "app", "EUR")
        self._code = {word: code_of(word) for word in words}

    def rows(self, count: int) -> Rows:
        """Return the next `count` transactions."""
        rng, ids, code = self._rng, self._ids, self._code
        cells = empty_cells(count)
        person = rng.integers(self._customer_count, size=count)
        shop = np.searchsorted(self._shop_edges, rng.random(count))
        form = rng.choice(3, size=count, p=SHARES)
        times = START_MS + (self._sent_count + np.arange(count)) * self._step_ms
        self._sent_count += count
        cells[Cell.TS_MS] = times
        cells[Cell.EVENT_ID] = self._some_ids(count)
        cells[Cell.CUSTOMER_ID] = ids["customer"][person]
        cells[Cell.ACCOUNT_ID] = ids["account"][person]
        cells[Cell.TYPE] = np.where(form == 2, code["transfer_out"], code["purchase"])
        cells[Cell.DIRECTION] = code["out"]
        cells[Cell.CHANNEL] = np.choose(form, [code["pos"], code["online"], code["app"]])
        cells[Cell.CURRENCY] = code["EUR"]
        cells[Cell.AMOUNT] = np.exp(rng.normal(8.0, 1.0, count))
        cells[Cell.BALANCE] = rng.integers(0, 500_000, count)
        cells[Cell.LABEL] = LabelCode.UNKNOWN
        card, at_shop, remote = form < 2, form == 0, form > 0
        cells[Cell.CARD_ID, card] = ids["card"][person[card]]
        cells[Cell.MERCHANT_ID, card] = ids["merchant"][shop[card]]
        cells[Cell.COUNTRY, card] = self._countries[shop[card] % len(COUNTRIES)]
        cells[Cell.MCC, card] = 5_000 + shop[card] % 1_000
        cells[Cell.TERMINAL_ID, at_shop] = ids["terminal"][shop[at_shop]]
        cells[Cell.LAT, at_shop] = (48 + shop[at_shop] % 500 / 1_000) * MICRO
        cells[Cell.LON, at_shop] = (9 + shop[at_shop] % 700 / 1_000) * MICRO
        cells[Cell.DEVICE_ID, remote] = ids["device"][person[remote]]
        cells[Cell.IP, remote] = ids["ip"][person[remote]]
        transfer = form == 2
        payee = rng.integers(self._customer_count, size=int(transfer.sum()))
        cells[Cell.PAYEE_ID, transfer] = ids["payee"][payee]
        kinds = np.full(count, Kind.TRANSACTION, dtype=np.uint8)
        return Rows(kinds, cells, (person % PARTITION_COUNT).astype(np.uint16))

    def _some_ids(self, count: int) -> NDArray[np.int64]:
        return self._rng.integers(-(2**62), 2**62, size=count, dtype=np.int64)
