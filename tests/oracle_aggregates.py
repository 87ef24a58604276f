"""What aggregates and conditions mean, by definition and with exact fractions."""

import math
from fractions import Fraction

from features.columns import MISSING
from features.plan import Aggregate, Comparison

Event = dict[int, int]


def ewma(values: list[int], ages_ms: list[int], half_life_ms: int) -> float:
    weights = [Fraction(0.5 ** (age_ms / half_life_ms)) for age_ms in ages_ms]
    if not values:
        return math.nan
    return float(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))


def trend(values: list[int], ages_ms: list[int]) -> float:
    """Return the slope of the least-squares line, its times in days, with exact fractions."""
    if len(set(ages_ms)) < 2:
        return math.nan
    days = [Fraction(-age_ms, 86_400_000) for age_ms in ages_ms]
    mean_day, mean = Fraction(sum(days), len(days)), Fraction(sum(values), len(values))
    covariance = sum((d - mean_day) * (v - mean) for d, v in zip(days, values, strict=True))
    return float(covariance / sum((d - mean_day) ** 2 for d in days))


def quantile(values: list[int], share: int) -> float:
    """Return the point `share` millionths along the line through the sorted values."""
    if not values:
        return math.nan
    ranked, at = sorted(values), Fraction((len(values) - 1) * share, 1_000_000)
    below, above = ranked[math.floor(at)], ranked[math.ceil(at)]
    return float(below + (above - below) * (at - math.floor(at)))


def top(values: list[int], wanted: int) -> float:
    if not values or wanted == MISSING:
        return math.nan
    most = max(values.count(value) for value in values)
    newest = next(value for value in reversed(values) if values.count(value) == most)
    return float(newest == wanted)


def meets(event: Event, terms: list[list[int]]) -> bool:
    """Say whether every clause has a term that holds of the event."""
    clauses: list[list[bool]] = [[]]
    for cell, compare, constant, ends in terms:
        clauses[-1].append(_holds(event[cell], compare, constant))
        if ends:
            clauses.append([])
    return all(any(clause) for clause in clauses[:-1])


def _holds(value: int, compare: int, constant: int) -> bool:
    if constant == MISSING and compare == Comparison.EQ:
        return value == MISSING
    if value == MISSING:
        return False
    return {
        Comparison.EQ: value == constant,
        Comparison.NE: value != constant,
        Comparison.LT: value < constant,
        Comparison.LE: value <= constant,
        Comparison.GT: value > constant,
        Comparison.GE: value >= constant,
    }[Comparison(compare)]


def aggregate(kind: Aggregate, values: list[int], current: int, scale: int = 1) -> float:
    """Return an aggregate by its definition, with exact fractions; MEAN and STD over `scale`."""
    if kind == Aggregate.COUNT:
        return float(len(values))
    if kind == Aggregate.SEEN:
        return float(current != MISSING and current in values)
    if kind == Aggregate.DISTINCT:
        return float(len(set(values)))
    if kind == Aggregate.SUM:
        return float(sum(values))
    if not values:
        return math.nan
    if kind == Aggregate.MEAN:
        return float(Fraction(sum(values), len(values) * scale))
    if kind == Aggregate.STD:
        mean = Fraction(sum(values), len(values))
        return math.sqrt(sum((v - mean) ** 2 for v in values) / len(values)) / scale
    pick = {
        Aggregate.MIN: min(values),
        Aggregate.MAX: max(values),
        Aggregate.FIRST: values[0],
        Aggregate.LAST: values[-1],
    }
    return float(pick[kind])
