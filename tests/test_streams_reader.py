"""Reading features from the store: what an engine would say of the next event, without one."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec
import pytest

from actions.policy import Policy
from features.errors import MillraceError
from features.expressions import ExpressionText, compile_plan
from features.hashing import IdHasher
from features.histories import HistoryError
from features.records import INPUT_RECORDS, Label, Transaction
from features.status import Status
from replay.backfill import Backfill
from replay.expression_files import ExpressionSet
from replay.simulator import Simulator, SimulatorSettings
from replay.source_record import SourceRecord
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.history_names import HISTORY_PREFIX
from streams.reader import EntityReading, FeatureReader, UnknownEntityError
from streams.redis_store import RedisStore
from streams.sinks import MemorySink
from streams.store import MemoryStore, Store

KEY = b"0123456789abcdef"
PARTITION_COUNT = 3
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
KEYS = {"customer": "customer_id", "card": "card_id", "terminal": "terminal_id",
        "merchant": "merchant_id"}  # fmt: skip
# Without the current event an engine's value at an event is what can be read just before it.
NOT_CURRENT = [
    'count("1d", including_current=False)',
    'sum(amount, "7d", including_current=False)',
    'mean(amount, "7d", where=direction == "out", including_current=False)',
    'std(amount, "7d", including_current=False)',
    'max(amount, "1d", including_current=False)',
    'distinct(channel, "7d", including_current=False)',
    'last(amount, "7d")',
    'since("7d")',
    'count("7d", where=label == fraud, including_current=False)',
    'count("2d", delay="1d")',
]
CURRENT = [
    'count("1d")',
    'sum(amount, "7d")',
    'max(amount, "1d")',
    'count("7d", where=label == fraud)',
]
POLICY = """\
name: read
currency: EUR
entities:
  customer: {key: customer_id, scope: local}
  card: {key: card_id, scope: local}
  terminal: {key: terminal_id, scope: shared}
  merchant: {key: merchant_id, scope: shared}
history: {reach: 30d, cap: CAP}
rules:
"""
RULE = "  - {id: rID, risk: any, when: 'TEXT', action: review, reason: any}\n"
EXTRA = [
    'customer.count("1d") >= 2 and hour() < 25',
    'customer.seen(channel, "7d")',
    "amount > 1",
    'customer.count("1d") > terminal.count("1d")',
    "speed_kmh(customer) > 900",
]


def texts_of(entity: str) -> list[str]:
    return [f"{entity}.{call}" for call in (*NOT_CURRENT, *CURRENT)]


def policy_of(cap: int = 4096) -> Policy:
    texts = [f"not is_missing({text})" for entity in KEYS for text in texts_of(entity)] + EXTRA
    rules = [RULE.replace("ID", str(i)).replace("TEXT", text) for i, text in enumerate(texts)]
    return Policy.parse({"p.yaml": POLICY.replace("CAP", str(cap)) + "".join(rules)})


@pytest.fixture(scope="module")
def records() -> list[SourceRecord]:
    """Eight simulated days of 40 customers, with frauds and their labels."""
    settings = SimulatorSettings(customer_count=40, day_count=8, seed=5, fraud_rate=0.05)
    return [
        SourceRecord(record.topic, record.key, 0, record.value)
        for chunk in Simulator(settings).chunks()
        for record in chunk
    ]


def submit(runtime: EmbeddedRuntime, records: Sequence[SourceRecord]) -> None:
    if records:
        topics, keys, _, values = zip(*records, strict=True)
        runtime.submit(topics, keys, values)


def runtime_of(store: Store, policy: Policy) -> EmbeddedRuntime:
    settings = EmbeddedSettings(PARTITION_COUNT, 64, checkpoint_ms=10**9, id_key=KEY)
    return EmbeddedRuntime(policy, store, MemorySink(), settings)


def record_of(record: SourceRecord) -> Any:
    return msgspec.json.decode(record.value, type=INPUT_RECORDS[record.topic])


@pytest.fixture
def store(redis_url: str, redis_prefix: str) -> Iterator[RedisStore]:
    with closing(RedisStore(redis_url, redis_prefix)) as opened:
        yield opened


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@pytest.mark.redis
def test_a_reading_is_what_the_engine_says_of_the_next_event(
    records: list[SourceRecord], store: RedisStore
) -> None:
    policy = policy_of()
    moments = [i for i, record in enumerate(records) if record.topic == "transactions"][50::97]
    names = {text: ExpressionText(text, "x", 1, 1)
             for entity in KEYS for text in map(f"{entity}.{{}}".format, NOT_CURRENT)}  # fmt: skip
    engine = Backfill(ExpressionSet(policy, names), KEY)
    runtime, done, met = runtime_of(store, policy), 0, 0
    for moment in moments:
        submit(runtime, records[done:moment])
        runtime.checkpoint()
        engine.take(records[done:moment])
        said = dict(
            zip(engine.names, engine.take([records[moment]]).rows.values[:, 0], strict=True)
        )
        reader = FeatureReader(policy, store, id_key=KEY)
        transaction = record_of(records[moment])
        for entity, field in KEYS.items():
            entity_id = getattr(transaction, field)
            if entity_id is None:
                continue
            try:
                reading = reader.read(entity, entity_id, transaction.ts_ms)
            except UnknownEntityError:
                assert said[f'{entity}.count("1d", including_current=False)'] == 0.0
                continue
            for text in (name for name in names if name.startswith(entity + ".")):
                assert same(reading.values[text].value, said[text]), text
                met += reading.values[text].value > 0.0
        submit(runtime, [records[moment]])
        done = moment + 1
    assert met > 200


class Known:
    """All events of a stream as plain records, with the labels that came."""

    def __init__(self, records: Sequence[SourceRecord]) -> None:
        found = [record_of(record) for record in records]
        self.events = [record for record in found if isinstance(record, Transaction)]
        self.frauds = {r.event_id for r in found if isinstance(r, Label) and r.verdict == "fraud"}

    def of(self, entity: str, entity_id: str) -> list[Transaction]:
        return [event for event in self.events if getattr(event, KEYS[entity]) == entity_id]


def expected(known: Known, events: list[Transaction], at_ms: int) -> dict[str, float]:
    day = [event for event in events if at_ms - DAY_MS < event.ts_ms <= at_ms]
    week = [event for event in events if at_ms - 7 * DAY_MS < event.ts_ms <= at_ms]
    return {
        'count("1d")': float(len(day)),
        'sum(amount, "7d")': sum(event.amount_minor for event in week) / 100,
        'max(amount, "1d")': max((e.amount_minor / 100 for e in day), default=math.nan),
        'count("7d", where=label == fraud)': float(
            len([event for event in week if event.event_id in known.frauds])
        ),
    }


@pytest.mark.redis
def test_all_events_count_at_the_newest_one_and_at_any_other_time(
    records: list[SourceRecord], store: RedisStore
) -> None:
    policy = policy_of()
    runtime = runtime_of(store, policy)
    submit(runtime, records)
    runtime.close()
    known, reader = Known(records), FeatureReader(policy, store, id_key=KEY)
    for entity, field in KEYS.items():
        ids = sorted({getattr(event, field) for event in known.events} - {None})[::5]
        assert len(ids) > 3
        for entity_id in ids:
            events = known.of(entity, entity_id)
            newest_ms = max(event.ts_ms for event in events)
            for at_ms in (None, newest_ms - DAY_MS, newest_ms + HOUR_MS, newest_ms + 400 * DAY_MS):
                reading = reader.read(entity, entity_id, at_ms)
                assert reading.at_ms == (newest_ms if at_ms is None else at_ms)
                for call, value in expected(known, events, reading.at_ms).items():
                    found = reading.values[f"{entity}.{call}"]
                    assert same(found.value, value), (entity_id, at_ms, call)
                    assert found.status is (Status.ABSENT if math.isnan(value) else Status.EXACT)


def memory_reading(records: Sequence[SourceRecord], cap: int) -> tuple[FeatureReader, Known]:
    store, policy = MemoryStore(), policy_of(cap)
    runtime = runtime_of(store, policy)
    submit(runtime, records)
    runtime.close()
    return FeatureReader(policy, store, id_key=KEY), Known(records)


def busiest(known: Known) -> str:
    ids = [event.customer_id for event in known.events]
    return max(sorted(set(ids)), key=ids.count)


def test_a_truncated_history_says_so_and_a_full_one_loses_nothing(
    records: list[SourceRecord],
) -> None:
    """The probe of a reading needs room of its own: it must not push an event out."""
    reader, known = memory_reading(records, cap=4096)
    customer = busiest(known)
    event_count = len(known.of("customer", customer))
    exact = reader.read("customer", customer).values['customer.sum(amount, "7d")']
    assert exact.status is Status.EXACT
    full, _ = memory_reading(records, cap=event_count)
    assert full.read("customer", customer).values['customer.sum(amount, "7d")'] == exact
    short, _ = memory_reading(records, cap=event_count // 2)
    found = short.read("customer", customer).values
    bounded = found['customer.sum(amount, "7d")']
    assert 0.0 <= bounded.bound < math.inf
    assert abs(bounded.value - exact.value) <= bounded.bound


def test_expressions_that_need_a_record_are_left_out(records: list[SourceRecord]) -> None:
    reader, known = memory_reading(records, cap=4096)
    reading = reader.read("customer", busiest(known))
    first = len(KEYS) * (len(NOT_CURRENT) + len(CURRENT))
    shown = {int(name.removeprefix("rule:r")) for name in reading.outputs if "rule:" in name}
    of_customer = set(range(len(NOT_CURRENT) + len(CURRENT)))
    assert shown == of_customer | {first}  # of EXTRA only the one that needs the time alone
    assert reading.outputs[f"rule:r{first}"].value == 1.0
    seen = reading.values['customer.seen(channel, "7d")']
    assert (math.isnan(seen.value), seen.status) == (True, Status.ABSENT)


def test_places_are_in_degrees(records: list[SourceRecord]) -> None:
    reader, known = memory_reading(records, cap=4096)
    placed = [event for event in known.events if event.lat is not None and event.lon is not None]
    reading = reader.read("customer", placed[-1].customer_id)
    (lat,) = (v for name, v in reading.values.items() if name.startswith("customer.last(lat,"))
    assert lat.value == pytest.approx(placed[-1].lat, abs=1e-6)


def test_whoever_is_unknown_is_named(records: list[SourceRecord]) -> None:
    reader, known = memory_reading(records[:200], cap=4096)
    with pytest.raises(MillraceError, match="got `custmer`; did you mean `customer`"):
        reader.read("custmer", "C-1")
    with pytest.raises(UnknownEntityError, match="customer nobody: nothing is stored under"):
        reader.read("customer", "nobody")
    other_key = FeatureReader(policy_of(), MemoryStore())
    with pytest.raises(UnknownEntityError, match="MILLRACE_ID_KEY"):
        other_key.read("customer", known.events[0].customer_id)


def test_a_local_entity_of_two_partitions_has_two_histories() -> None:
    """One card, used by customers of different partitions: nobody says which one is meant."""
    store, policy = MemoryStore(), policy_of()
    runtime = runtime_of(store, policy)
    base = {
        "kind": "transaction", "account_id": "A", "card_id": "K", "type": "purchase",
        "amount_minor": 100, "currency": "EUR", "direction": "out", "channel": "pos",
    }  # fmt: skip
    rows = [
        {**base, "event_id": f"e{i}", "ts_ms": 1_700_000_000_000 + i, "customer_id": f"C{i % 8}"}
        for i in range(40)
    ]
    values = [msgspec.json.encode(row) for row in rows]
    runtime.submit(["transactions"] * 40, [str(row["customer_id"]) for row in rows], values)
    runtime.close()
    reader = FeatureReader(policy, store, id_key=KEY)
    with pytest.raises(MillraceError, match="choose one of 0, 1, 2"):
        reader.read("card", "K")
    counts = [
        reader.read("card", "K", partition=partition).values['card.count("1d")'].value
        for partition in range(PARTITION_COUNT)
    ]
    assert sum(counts) == 40.0
    assert min(counts) > 0.0


class Foreign(MemoryStore):
    """A store whose histories are something else."""

    def load(self, keys: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        is_history = [name.startswith(HISTORY_PREFIX) for _, name in keys]
        return [b"no history" if of_history else None for of_history in is_history]


def test_a_value_that_is_no_history_is_an_error() -> None:
    with pytest.raises(HistoryError, match="header, got 10 bytes"):
        FeatureReader(policy_of(), Foreign(), partitions=[0]).read("customer", "C")


def test_nothing_is_written_and_no_partition_acquired(records: list[SourceRecord]) -> None:
    store, policy = MemoryStore(), policy_of()
    runtime = runtime_of(store, policy)
    submit(runtime, records[:300])
    runtime.checkpoint()
    before = {p: list(store.scan(str(p))) for p in range(PARTITION_COUNT)}
    reading: EntityReading = FeatureReader(policy, store, id_key=KEY).read(
        "customer", Known(records[:300]).events[0].customer_id
    )
    assert reading.values
    assert {p: list(store.scan(str(p))) for p in range(PARTITION_COUNT)} == before
    submit(runtime, records[300:600])
    runtime.close()  # a new epoch would have fenced it off


def test_the_texts_of_this_test_are_canonical() -> None:
    declarations = policy_of().declarations(IdHasher(KEY).one)
    for text in map("customer.{}".format, (*NOT_CURRENT[:9], *CURRENT)):
        plan = compile_plan({"x": ExpressionText(text, "x", 1, 1)}, declarations)
        assert plan.slot_texts == (text,)
