"""A customer's state: its bytes, which profile counts, complaints, profile columns."""

import msgspec
import numpy as np
import pytest
from actions_scene import DAY_MS, NOON_MS
from hypothesis import given
from hypothesis import strategies as st

from actions.customers import (
    PROFILE_FIELDS,
    Contact,
    CustomerState,
    PendingOutcome,
    Tally,
    profile_column,
)
from features.errors import RecordError
from features.expressions.catalogue import PROFILE_FIELDS as KNOWN_FIELDS
from features.records import Interaction, Profile

ids = st.text(min_size=1, max_size=8)
times = st.integers(0, 2**50)
states = st.builds(
    CustomerState,
    profile=st.none()
    | st.builds(
        lambda t: Profile(customer_id="-", ts_ms=NOON_MS + t), times.map(lambda t: t % 10**9)
    ),
    contacts=st.lists(st.builds(Contact, times, ids, ids, ids), max_size=4),
    rejected_ms=st.dictionaries(ids, times, max_size=3),
    accepted_ms=st.dictionaries(ids, times, max_size=3),
    tallies=st.dictionaries(ids, st.builds(Tally, times, times), max_size=3),
    pending=st.dictionaries(ids, st.builds(PendingOutcome, times, ids), max_size=3),
    alert_until_ms=times,
    complaints=st.lists(ids, max_size=3),
)


@given(states)
def test_state_survives_its_bytes(state: CustomerState) -> None:
    again = CustomerState.decode(state.encode())
    assert again == state
    assert again.encode() == state.encode()


@pytest.mark.parametrize("value", [b"", b"\xc0", b"\x93\x01", msgspec.msgpack.encode([2, None])])
def test_foreign_bytes_are_refused(value: bytes) -> None:
    with pytest.raises(RecordError, match="customer state"):
        CustomerState.decode(value)


def test_bytes_of_a_state_with_fewer_fields_still_decode() -> None:
    older = msgspec.msgpack.encode([1, None, []])
    assert CustomerState.decode(older) == CustomerState()


def test_fresh_states_share_nothing() -> None:
    CustomerState().complaints.append("x")
    assert CustomerState().complaints == []


def test_the_newest_profile_counts_and_its_person_is_not_stored() -> None:
    state = CustomerState()
    assert state.take_profile(Profile(customer_id="Erika", ts_ms=NOON_MS, assets_minor=2))
    assert not state.take_profile(Profile(customer_id="Erika", ts_ms=NOON_MS - 1))
    assert state.take_profile(Profile(customer_id="Erika", ts_ms=NOON_MS, assets_minor=3))
    assert state.profile is not None
    assert state.profile.assets_minor == 3
    assert b"Erika" not in state.encode()


def complaint(kind: str, event_id: str, text: str | None = None) -> Interaction:
    return msgspec.convert(
        {"kind": "interaction", "event_id": event_id, "ts_ms": NOON_MS, "customer_id": "c",
         "type": f"complaint_{kind}", "channel": "phone", "text": text},
        Interaction,
    )  # fmt: skip


def test_complaints_open_and_close() -> None:
    state = CustomerState()
    assert not state.take_interaction(complaint("closed", "e0"))
    assert all(state.take_interaction(complaint("opened", f"e{i}")) for i in (1, 2, 3))
    assert not state.take_interaction(complaint("opened", "e2"))
    assert state.take_interaction(complaint("closed", "e4", text="e2"))
    assert state.complaints == ["e1", "e3"]
    assert state.take_interaction(complaint("closed", "e5"))
    assert state.complaints == ["e3"]


def test_profile_columns_at_event_time() -> None:
    customer = Profile(
        customer_id="c",
        ts_ms=NOON_MS,
        products=("giro", "card"),
        assets_minor=123_456,
        risk_preference="medium",
        consents=("marketing:sms",),
        birth_year=1980,
        customer_since_ms=NOON_MS - 10 * DAY_MS,
        corporate=True,
    )
    bare = Profile(customer_id="d", ts_ms=NOON_MS)
    known: list[CustomerState | None] = [
        CustomerState(profile=customer), CustomerState(profile=bare), CustomerState(), None,
    ]  # fmt: skip
    times_ms = np.full(4, NOON_MS, dtype=np.int64)
    wanted: dict[str, list[float]] = {
        "assets": [123_456, 0],
        "products_count": [2, 0],
        "age_years": [44, np.nan],  # NOON_MS is in 2024
        "tenure_days": [10, np.nan],
        "corporate": [1, 0],
        "risk_preference": [1, 0],
        "consents_count": [1, 0],
    }
    assert tuple(wanted) == PROFILE_FIELDS
    for name, values in wanted.items():
        column = profile_column(name, known, times_ms)
        np.testing.assert_array_equal(column, [*values, np.nan, np.nan])


def test_profile_fields_are_those_of_the_expressions() -> None:
    assert set(PROFILE_FIELDS) == set(KNOWN_FIELDS)
