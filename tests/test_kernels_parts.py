"""How kernels are called: never a part of one from Python, and always with arrays as they are."""

from typing import NamedTuple

import numpy as np
import pytest

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from features.columns import Cell
from features.histories import FeatureEngine
from features.kernels import book
from features.kernels.arena import capacity_for, later_than
from features.kernels.layout import Table
from features.kernels.occurrences import last_of
from features.plan import Aggregate
from tests.oracle_histories import Store, apply, fetch, make_entity, make_plan, make_rows
from tests.oracle_histories import transaction as payment

EVER_MS = 1 << 62
MIB = 1 << 20


def test_a_kernel_is_called_from_python() -> None:
    assert capacity_for(9) == 16


def test_a_part_refuses_to_be_called_from_python() -> None:
    """It has no code of its own: without the refusal the process would die."""
    times = np.array([1, 3], dtype=np.int64)
    for _ in range(2):
        with pytest.raises(TypeError):
            later_than(times, 0, 2, 1)
        with pytest.raises(TypeError):
            last_of(times, 0, 2)


def rewritten(engine: FeatureEngine) -> list[list[int]]:
    return book.write_book(engine._layout, engine._form, engine._scratch, engine._state).tolist()


def test_the_book_says_where_the_arrays_are_after_each_of_them_moved() -> None:
    amount = int(Cell.AMOUNT)
    people = (make_entity("customer", Cell.CUSTOMER_ID, False, Cell.AMOUNT),)
    kinds = (Aggregate.MAX, Aggregate.DISTINCT)
    plan = make_plan(people, [(0, kind, amount, EVER_MS, 0, (), True) for kind in kinds])
    engine, stored = FeatureEngine(plan, [0], run_from_count=2), Store()
    tables_moved = set()
    for batch in range(24):
        before = {name: table.shape for name, table in engine._state._asdict().items()}
        if batch == 20:
            engine.memory_bytes_max = 2 * MIB
        events = range(500 * batch, 500 * (batch + 1))
        rows = make_rows(
            payment(0, event, event, customer_id=event % 9_000 if event % 3 else 1, amount=event)
            for event in events
        )
        engine.make_room(len(events))
        assert engine._book.tolist() == rewritten(engine)
        fetch(engine, stored, rows)
        assert engine._book.tolist() == rewritten(engine)
        engine.update(*rows)
        assert engine._book.tolist() == rewritten(engine)
        apply(stored, engine.changes())
        engine.confirmed(engine.generation)
        after = engine._state._asdict()
        tables_moved |= {name for name in after if after[name].shape != before[name]}
    assert tables_moved == {"lookup", "histories", "partials", "dirty", "handed", "arena", "pool"}
    assert engine.memory.evicted_count > 0


def test_a_book_refuses_an_array_that_is_not_what_its_field_says() -> None:
    plan = make_plan((make_entity("customer", Cell.CUSTOMER_ID, False),), [])
    engine = FeatureEngine(plan, [0])
    layout, form, scratch, state = engine._layout, engine._form, engine._scratch, engine._state
    with pytest.raises(ValueError, match=r"State\.pool: expected 1 dimensions of int64, got 2"):
        book.write_book(layout, form, scratch, state._replace(pool=np.zeros((2, 2), np.int64)))
    with pytest.raises(ValueError, match=r"State\.free: .* got 2 of float64"):
        book.write_book(layout, form, scratch, state._replace(free=np.zeros((2, 2))))
    with pytest.raises(ValueError, match=r"State\.histories: .*; in one piece"):
        book.write_book(
            layout, form, scratch, state._replace(histories=np.zeros((4, 4), np.int64)[:, ::2])
        )


def test_a_field_says_how_many_dimensions_it_has() -> None:
    class Sound(NamedTuple):
        rows: Table
        count: int

    class Vague(NamedTuple):
        rows: np.ndarray

    assert list(book.fields_of(Sound)) == [("rows", np.dtype(np.int64), 2), ("count", None, 0)]
    with pytest.raises(TypeError, match=r"Vague\.rows: expected int, Table"):
        list(book.fields_of(Vague))
