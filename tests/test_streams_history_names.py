"""The names under which histories are stored, one by one and together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.histories import EntityKey
from streams.history_names import history_name, history_names, history_owner

ENTITIES = ("customer", "card", "terminal")
KEYS = st.integers(-(2**63), 2**63 - 1)


def test_a_name_is_the_entity_and_the_key_as_unsigned_hexadecimal() -> None:
    # -1 is 2**64 - 1 without a sign.
    assert history_name("card", -1) == b"history:card:ffffffffffffffff"
    assert history_name("customer", 255) == b"history:customer:00000000000000ff"
    assert history_owner(3, b"history:card:fffffffffffffffe") == EntityKey(3, "card", -2)


@given(owners=st.lists(st.tuples(st.integers(0, len(ENTITIES) - 1), KEYS)))
def test_names_together_are_those_one_by_one(owners: list[tuple[int, int]]) -> None:
    numbers = np.array([number for number, _ in owners], dtype=np.int64)
    keys = np.array([key for _, key in owners], dtype=np.int64)
    expected = [history_name(ENTITIES[number], key) for number, key in owners]
    assert history_names(ENTITIES, numbers, keys) == expected
