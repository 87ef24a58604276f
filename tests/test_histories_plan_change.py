"""A policy that changes over stored histories: exact at once where the cells had been kept."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import MISSING, Cell, LabelCode
from features.histories import EntityKey, FeatureEngine, Features
from features.kernels.opcodes import Opcode
from features.plan import Aggregate, Comparison, Entity, KeptValue, Plan, Program, SlotField
from tests.oracle_blobs import HEAD_BYTES, LEAD, read_blob
from tests.oracle_histories import (
    NO_WHERE,
    Rows,
    Slot,
    Store,
    apply,
    fetch,
    label,
    make_entity,
    make_plan,
    make_rows,
    part,
    transaction,
)
from tests.strategies_histories import ENTITIES, plans, streams

AMOUNT, LABEL = int(Cell.AMOUNT), int(Cell.LABEL)
ALL = [0, 1, 2]
EVER_MS = 1 << 62
FIRST_KEPT = len(Cell)
OWNER = EntityKey(0, "customer", 5)


def cells_read(slots: list[Slot], entity: int) -> set[int]:
    """Return the cells that an entity must keep for these slots, and the customer for all."""
    found = set()
    for slot in (Slot(*each) for each in slots):
        if slot.entity == entity:
            for clause in (*slot.where, *slot.run):
                found |= {clause[0]} if isinstance(clause[0], int) else {c for c, *_ in clause}
            found |= {slot.value} - {-1}
    return found


@st.composite
def older_entities(draw: st.DrawFn, slots: list[Slot]) -> tuple[Entity, ...]:
    """Entities that keep what `slots` read, and only some of what they could keep besides."""
    entities = []
    for number, entity in enumerate(ENTITIES):
        needed = {*LEAD, *cells_read(slots, number)}
        if number == 0:  # labels find the other entities through what the customer keeps
            needed |= {
                other.key for i, other in enumerate(ENTITIES) if LABEL in cells_read(slots, i)
            }
        rest = [cell for cell in entity.kept if cell not in needed]
        chosen = draw(st.sets(st.sampled_from(rest))) if rest else set()
        cells = [Cell(cell) for cell in entity.kept if cell in needed | chosen and cell not in LEAD]
        entities.append(make_entity(entity.name, Cell(entity.key), entity.shared, *cells))
    return tuple(entities)


def take(engine: FeatureEngine, store: Store, rows: Rows) -> Features:
    fetch(engine, store, rows)
    features = engine.update(*rows)
    apply(store, engine.changes())
    return features


def is_known_before(older: Plan, plan: Plan, slot: int) -> bool:
    """Say whether the older plan kept, and labelled, all that a slot of the newer one reads."""
    row = plan.slots[slot]
    entity = int(row[SlotField.ENTITY])
    terms = plan.terms[row[SlotField.TERM_FROM] : row[SlotField.TERM_TO], 0]
    read = {int(row[SlotField.VALUE]), *terms.tolist()} - {-1}
    labelled = entity == 0 or any(
        LABEL
        in {int(other[SlotField.VALUE])}
        | set(older.terms[other[SlotField.TERM_FROM] : other[SlotField.TERM_TO], 0].tolist())
        for other in older.slots
        if other[SlotField.ENTITY] == entity
    )
    return read <= set(older.entities[entity].kept) and (labelled or LABEL not in read)


@settings(max_examples=150, deadline=None)
@given(plans(), plans(), streams(), st.integers(0, 60), st.data())
def test_a_new_expression_is_exact_at_once_or_says_that_it_is_not(
    old_slots: list[Slot], slots: list[Slot], rows: Rows, moment: int, data: st.DataObject
) -> None:
    moment = min(moment, len(rows[0]))
    before, after = part(rows, 0, moment), part(rows, moment, len(rows[0]))
    plan = make_plan(ENTITIES, slots)
    older = make_plan(data.draw(older_entities(old_slots)), old_slots)
    always, store = FeatureEngine(plan, ALL, assume_fresh=True), Store()
    always.update(*before)
    expected = always.update(*after)
    take(FeatureEngine(older, ALL), store, before)
    restarted = FeatureEngine(plan, ALL)
    middle = data.draw(st.integers(0, len(after[0])))
    pieces = [take(restarted, store, part(after, 0, middle))]
    restarted = FeatureEngine(plan, ALL)  # and once more: what is lacking was stored too
    pieces.append(take(restarted, store, part(after, middle, len(after[0]))))
    values = np.concatenate([piece.values for piece in pieces], axis=1)
    errors = np.concatenate([piece.errors for piece in pieces], axis=1)
    exact = errors == 0
    assert values[exact].tobytes() == expected.values[exact].tobytes()
    for slot in range(len(slots)):
        if is_known_before(older, plan, slot):
            assert errors[slot].tobytes() == expected.errors[slot].tobytes()


def keeping(*cells: int) -> tuple[Entity, ...]:
    return (make_entity("customer", Cell.CUSTOMER_ID, False, *cells),)


def paying(*times: int) -> Rows:
    return make_rows(transaction(0, t, t, customer_id=5, amount=10, mcc=7) for t in times)


def test_only_windows_that_reach_an_event_without_the_cell_are_inexact() -> None:
    slots: list[Slot] = [
        (0, Aggregate.SUM, AMOUNT, 20, 0, NO_WHERE, True),
        (0, Aggregate.COUNT, -1, 20, 0, ((int(Cell.MCC), int(Comparison.EQ), 7),), True),
        (0, Aggregate.COUNT, -1, 20, 5, ((int(Cell.MCC), int(Comparison.EQ), 7),), True),
        (0, Aggregate.COUNT, -1, EVER_MS, 0, NO_WHERE, True),
    ]
    store = Store()
    take(FeatureEngine(make_plan(keeping(AMOUNT), []), [0]), store, paying(10, 20))
    engine = FeatureEngine(make_plan(keeping(AMOUNT, Cell.MCC), slots), [0])
    features = take(engine, store, paying(30, 39, 40, 44, 45))
    assert features.values[1].tolist() == [1, 2, 3, 4, 5]
    inf = np.inf
    assert features.errors.tolist() == [
        [0, 0, 0, 0, 0],
        [inf, inf, 0, 0, 0],  # 20 is in the window up to, and not at, 40
        [inf, inf, inf, inf, 0],
        [0, 0, 0, 0, 0],
    ]
    assert read_blob(store[OWNER]).lacking == {3}


def test_dropping_the_events_that_lack_a_cell_ends_the_matter() -> None:
    slots: list[Slot] = [(0, Aggregate.MAX, int(Cell.MCC), EVER_MS, 0, NO_WHERE, True)]
    store = Store()
    take(FeatureEngine(make_plan(keeping(), [], event_cap=8), [0]), store, paying(1, 2))
    plan = make_plan(keeping(Cell.MCC), slots, event_cap=8)
    engine = FeatureEngine(plan, [0])
    take(engine, store, paying(*range(3, 9)))
    assert read_blob(store[OWNER]).lacking == {3}
    take(engine, store, paying(9))  # the cap: the oldest quarter goes
    found = read_blob(store[OWNER])
    assert (found.floor_ts, found.lacking, found.lacking_ts) == (2, set(), np.iinfo(np.int64).min)


def test_labels_that_never_reached_a_history_are_lacking_in_it() -> None:
    where = ((LABEL, int(Comparison.EQ), int(LabelCode.FRAUD)),)
    counting: Slot = (1, Aggregate.COUNT, -1, 10, 0, where, False)
    store = Store()
    fields = {"customer_id": 5, "terminal_id": 8}
    first = make_rows([transaction(0, 1, 1, **fields), label(0, 1, 5, LabelCode.FRAUD)])
    take(FeatureEngine(make_plan(ENTITIES, []), ALL), store, first)
    engine = FeatureEngine(make_plan(ENTITIES, [counting]), ALL)
    rest = make_rows([transaction(0, t, t, **fields) for t in (2, 10, 11)])
    assert take(engine, store, rest).errors.tolist() == [[np.inf, np.inf, 0]]
    terminal = store[EntityKey(0, "terminal", 8)]
    assert read_blob(terminal).labelled
    assert read_blob(terminal).lacking == {LEAD.index(Cell.LABEL)}


def with_values(slots: list[Slot], *fingerprints: int) -> Plan:
    """Return a plan whose customer keeps the amount and named values."""
    values = tuple(
        KeptValue(f"v{i}", FIRST_KEPT + i, 1, fingerprint)
        for i, fingerprint in enumerate(fingerprints)
    )
    entity = make_entity("customer", Cell.CUSTOMER_ID, False, AMOUNT, *(v.cell for v in values))
    rows = [(Opcode.CONST, 0, 0, 0), *((Opcode.STORE, i, 0, 0) for i in range(len(values)))]
    unknown = Program(
        np.array(rows, np.int64), np.array([math.nan]), np.zeros(0, np.int64), 1,
        {value.name: i for i, value in enumerate(values)},
    )  # fmt: skip
    return make_plan((entity,), slots, values=values, stages=(unknown,))


def stored_values(*fingerprints: int) -> bytes:
    """Return a blob with two events, whose kept values are their fingerprint plus the time."""
    plan = with_values([], *fingerprints)
    engine = FeatureEngine(plan, [0])
    engine.update(*paying(1, 2))
    (change,) = engine.changes()
    blob = bytearray(change.value)
    row_bytes = (len(blob) - HEAD_BYTES - 8 * len(fingerprints)) // 2
    for event in (0, 1):
        end = len(blob) - (1 - event) * row_bytes
        for i, fingerprint in enumerate(reversed(fingerprints), 1):
            blob[end - 8 * i : end - 8 * i + 8] = (fingerprint + event + 1).to_bytes(8, "little")
    return bytes(blob)


@pytest.mark.parametrize("fingerprints", [(900, 700), (700, 900), (900, 500, 700)])
def test_a_kept_value_is_found_by_its_fingerprint(fingerprints: tuple[int, ...]) -> None:
    slots: list[Slot] = [
        (0, Aggregate.SUM, FIRST_KEPT, EVER_MS, 0, NO_WHERE, False, 0, -1, (), 1),
        (0, Aggregate.SUM, FIRST_KEPT + 1, EVER_MS, 0, NO_WHERE, False, 0, -1, (), 1),
    ]
    plan = with_values(slots, 700, 800)  # 700 was kept before, 800 was not
    engine = FeatureEngine(plan, [0])
    engine.load([(OWNER, stored_values(*fingerprints))])
    features = engine.update(*paying(3))
    assert features.values[0, 0] == 701 + 702
    assert features.errors[:, 0].tolist() == [0, np.inf]
    (change,) = engine.changes()
    written = read_blob(bytes(change.value))
    assert change.offset == 0
    assert written.fingerprints == [700, 800]
    assert [row[-2:] for row in written.rows[:2]] == [[701, MISSING], [702, MISSING]]
    assert (written.lacking, written.lacking_ts) == ({5}, 2)


def test_the_same_values_in_the_same_order_are_appended_to() -> None:
    plan = with_values([], 700, 900)
    engine = FeatureEngine(plan, [0])
    blob = stored_values(700, 900)
    engine.load([(OWNER, blob)])
    engine.update(*paying(3))
    (change,) = engine.changes()
    assert change.offset == len(blob)
