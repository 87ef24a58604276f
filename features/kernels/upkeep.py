"""The running state of a history as a whole: begun, out of date, dropped from, given back."""

from features.kernels import extremes, occurrences
from features.kernels.jit import part
from features.kernels.layout import (
    INVALID,
    INVALID_MS,
    EntityField,
    FamilyField,
    FamilyState,
    HistoryField,
    Method,
    RunField,
    Table,
)
from features.kernels.pool import give, take


@part
def begin(
    entities: Table, histories: Table, pool: Table, pool_free: Table, control: Table, entity: int,
    history: int,
) -> None:  # fmt: skip
    """Give a history a running state that is out of date."""
    words = entities[entity, EntityField.STATE_WORDS]
    block = take(pool, pool_free, control, words)
    for at in range(block, block + words):
        pool[at] = 0
    pool[block + RunField.TIME_MS] = INVALID_MS
    histories[history, HistoryField.RUNNING] = block


@part
def end(
    entities: Table, families: Table, histories: Table, pool: Table, pool_free: Table, entity: int,
    history: int,
) -> None:  # fmt: skip
    """Give back all memory of a history's running state."""
    block = histories[history, HistoryField.RUNNING]
    if block < 0:
        return
    for family in range(
        entities[entity, EntityField.FAMILY_FROM], entities[entity, EntityField.FAMILY_TO]
    ):
        words = block + families[family, FamilyField.STATE]
        method = families[family, FamilyField.METHOD]
        if method == Method.SUMS:
            extremes.release(pool, pool_free, words + FamilyState.EXTREMES)
            extremes.release(pool, pool_free, words + FamilyState.EXTREMES + extremes.QUEUE_WORDS)
        elif method == Method.DISTINCT or method == Method.SEEN:
            occurrences.release(pool, pool_free, words + FamilyState.TABLE)
    give(pool, pool_free, block, entities[entity, EntityField.STATE_WORDS])
    histories[history, HistoryField.RUNNING] = -1


@part
def invalidate(histories: Table, pool: Table, history: int) -> None:
    """Say that the running state no longer fits the events."""
    block = histories[history, HistoryField.RUNNING]
    if block >= 0:
        pool[block + RunField.TIME_MS] = INVALID_MS


@part
def invalidate_families(
    entities: Table, families: Table, pool: Table, entity: int, block: int
) -> None:
    """Say that no family's state fits the events."""
    for family in range(
        entities[entity, EntityField.FAMILY_FROM], entities[entity, EntityField.FAMILY_TO]
    ):
        if families[family, FamilyField.STATE] >= 0:
            pool[block + families[family, FamilyField.STATE] + FamilyState.ENTERED] = INVALID


@part
def invalidate_labels(
    entities: Table, families: Table, histories: Table, pool: Table, entity: int, history: int
) -> None:
    """Say that families that read labels no longer fit the events."""
    block = histories[history, HistoryField.RUNNING]
    if block < 0:
        return
    for family in range(
        entities[entity, EntityField.FAMILY_FROM], entities[entity, EntityField.FAMILY_TO]
    ):
        if families[family, FamilyField.READS_LABEL] and families[family, FamilyField.STATE] >= 0:
            words = block + families[family, FamilyField.STATE]
            pool[words + FamilyState.ENTERED] = INVALID


@part
def drop_oldest(entities: Table, histories: Table, pool: Table, entity: int, history: int,
                dropped: int) -> None:  # fmt: skip
    """Note that the oldest events are gone: what is running stays where no window held them."""
    histories[history, HistoryField.BASE] += dropped
    block = histories[history, HistoryField.RUNNING]
    first, last = entities[entity, EntityField.BOUND_FROM], entities[entity, EntityField.BOUND_TO]
    if block >= 0 and last > first:
        widest = block + RunField.BOUNDS + 2 * (last - first - 1)
        if pool[widest] < histories[history, HistoryField.BASE]:
            pool[block + RunField.TIME_MS] = INVALID_MS
