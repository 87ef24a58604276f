"""Hypothesis strategies of plans and of streams with ties, late and repeated events, and labels."""

from hypothesis import strategies as st

from features.columns import MISSING, Cell, Kind
from features.plan import Aggregate, Comparison
from tests.oracle_histories import (
    Event,
    Rows,
    Slot,
    Where,
    label,
    make_entity,
    make_rows,
    transaction,
)

CUSTOMER, SHARED_TERMINAL, LOCAL_CARD = 0, 1, 2
_KEYS = (Cell.CUSTOMER_ID, Cell.CARD_ID, Cell.TERMINAL_ID)
_VALUES = (Cell.AMOUNT, Cell.CHANNEL)
ENTITIES = (
    make_entity("customer", Cell.CUSTOMER_ID, False, *_KEYS[1:], *_VALUES),
    make_entity("terminal", Cell.TERMINAL_ID, True, *_KEYS, *_VALUES),
    make_entity("card", Cell.CARD_ID, False, *_KEYS, *_VALUES),
)


@st.composite
def _wheres(draw: st.DrawFn, labels: bool) -> Where:
    cells = [*_VALUES, Cell.LABEL] if labels else list(_VALUES)
    term = st.tuples(
        st.sampled_from([int(c) for c in cells]),
        st.sampled_from([int(c) for c in Comparison]),
        st.sampled_from([-1, 0, 1, 2, 3, int(MISSING)]),
    )
    clause = st.one_of(term, st.lists(term, min_size=1, max_size=3).map(tuple))
    return tuple(draw(st.lists(clause, max_size=3)))


@st.composite
def _slots(draw: st.DrawFn, labels: bool) -> Slot:
    aggregate = draw(st.sampled_from(list(Aggregate)))
    values = [int(c) for c in _VALUES] + ([int(Cell.LABEL)] if labels else [])
    if aggregate in (Aggregate.COUNT, Aggregate.STREAK, Aggregate.STREAK_AGE):
        values = [-1]
    elif aggregate == Aggregate.SINCE:
        values.append(-1)
    parameters = {
        Aggregate.QUANTILE: [0, 250_000, 333_333, 500_000, 999_999, 1_000_000],
        Aggregate.EWMA: [1, 7, 1_000],
    }
    return Slot(
        draw(st.integers(0, len(ENTITIES) - 1)),
        aggregate,
        draw(st.sampled_from(values)),
        draw(st.sampled_from([0, 1, 5, 17, 1 << 62])),
        draw(st.sampled_from([0, 0, 1, 6])),
        draw(_wheres(labels)),
        draw(st.booleans()),
        draw(st.sampled_from(parameters.get(aggregate, [0]))),
        draw(st.sampled_from(_VALUES)) if aggregate == Aggregate.TOP else -1,
        draw(_wheres(labels)) if aggregate in (Aggregate.STREAK, Aggregate.STREAK_AGE) else (),
    )


def plans(labels: bool = True) -> st.SearchStrategy[list[Slot]]:
    """Slots over ENTITIES; without `labels` none of them reads labels."""
    return st.lists(_slots(labels), max_size=10)


@st.composite
def _rows(draw: st.DrawFn) -> tuple[Kind, int, Event]:
    partition, event = draw(st.integers(0, 2)), draw(st.integers(0, 25))
    maybe = st.sampled_from([MISSING, 0, 1])
    if draw(st.integers(0, 4)) == 0:
        return label(partition, event, draw(st.integers(0, 1)), draw(st.integers(1, 2)))
    fields = {
        "customer_id": draw(maybe),
        "card_id": draw(maybe),
        "terminal_id": draw(maybe),
        "amount": draw(st.sampled_from([MISSING, -2, 0, 1, 3, 10**12])),
        "channel": draw(st.sampled_from([MISSING, 0, 1, 2])),
    }
    return transaction(partition, draw(st.integers(0, 30)), event, **fields)


def streams() -> st.SearchStrategy[Rows]:
    """Batches of up to 60 rows: few keys, times and events, so that everything collides."""
    return st.lists(_rows(), max_size=60).map(make_rows)
