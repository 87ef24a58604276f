"""One day of the simulation from its parts: planned at its start, complete and in order."""

import numpy as np

from replay.simulator.cashflow import cash_flow
from replay.simulator.days import Day
from replay.simulator.fraud import FraudPlanner
from replay.simulator.interactions import interactions
from replay.simulator.labels import CARD_SCENARIOS, FRAUD_LABEL, assign_labels, refunds
from replay.simulator.ledger import book
from replay.simulator.profiles import profile_events
from replay.simulator.rows import FIRST_INTERACTION, Rows, What, is_transaction
from replay.simulator.scene import Scene
from replay.simulator.settings import DAY_MS
from replay.simulator.spending import card_payments, online_purchases
from replay.simulator.travel import book_trips

CARD_GENERATION_MAX = 255


class DayPlanner:
    """Plans days in order. Keeps what later days need: rows planned ahead, cards to replace."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._fraud = FraudPlanner(scene)
        self._ahead: dict[int, list[Rows]] = {}
        self._replacements: dict[int, list[tuple[int, int, int]]] = {}
        self._transaction_count = 0
        self._interaction_count = 0

    def plan(self, day: Day) -> Rows:
        """All profiles, interactions and transactions of the day, in order and numbered."""
        scene = self._scene
        self._replace_cards(day)
        book_trips(scene, day)
        fresh = np.concatenate([
            card_payments(scene, day), online_purchases(scene, day), cash_flow(scene, day),
            interactions(scene, day),
        ])  # fmt: skip
        today = np.concatenate([*self._ahead.pop(day.number, []), self._keep_ahead(day, fresh)])
        frauds = self._fraud.plan(day, today)
        parts = [today, *(self._keep_ahead(day, rows) for rows in frauds)]
        parts.append(self._keep_ahead(day, profile_events(scene, day, today)))
        rows = _in_order(np.concatenate(parts))
        rows["amount_minor"] = np.maximum(rows["amount_minor"], is_transaction(rows))
        rows = book(scene, rows)
        slot = np.maximum(rows["card"], 0)
        rows["card_generation"] = scene.state.card_generation[rows["customer"], slot]
        assign_labels(scene, day, rows)
        self._keep_ahead(day, refunds(scene, day, rows))
        self._order_cards(rows)
        self._number(rows)
        return rows

    def _keep_ahead(self, day: Day, rows: Rows) -> Rows:
        """Put the rows of later days aside and return today's; none lies before today."""
        rows["ts_ms"] = np.maximum(rows["ts_ms"], day.start_ms)
        index = (rows["ts_ms"] - self._scene.settings.start_ms) // DAY_MS
        for later in np.unique(index[index > day.number]).tolist():
            if later < self._scene.settings.day_count:
                self._ahead.setdefault(later, []).append(rows[index == later])
        today: Rows = rows[index == day.number]
        return today

    def _order_cards(self, rows: Rows) -> None:
        """A card with a reported fraud is replaced on the day after the report."""
        misused = rows[np.isin(rows["scenario"], CARD_SCENARIOS) & (rows["label"] == FRAUD_LABEL)]
        days = (misused["label_ts_ms"] - self._scene.settings.start_ms) // DAY_MS + 1
        columns = (misused["customer"], misused["card"], misused["card_generation"])
        for index, *card in zip(
            days.tolist(), *(column.tolist() for column in columns), strict=True
        ):
            if index < self._scene.settings.day_count:
                self._replacements.setdefault(index, []).append(tuple(card))

    def _replace_cards(self, day: Day) -> None:
        generations = self._scene.state.card_generation
        for customer, slot, generation in self._replacements.pop(day.number, []):
            if generations[customer, slot] == generation < CARD_GENERATION_MAX:
                generations[customer, slot] += 1

    def _number(self, rows: Rows) -> None:
        transactions = is_transaction(rows)
        numbers = np.cumsum(transactions)
        others = np.cumsum((rows["what"] >= FIRST_INTERACTION) & (rows["what"] < What.PROFILE))
        rows["number"] = np.where(
            transactions, self._transaction_count + numbers, self._interaction_count + others
        )
        if len(rows):
            self._transaction_count += int(numbers[-1])
            self._interaction_count += int(others[-1])


def _in_order(rows: Rows) -> Rows:
    """By time, then profiles, interactions, transactions, then as they were planned."""
    return rows[np.lexsort((-(rows["what"] >> 4).astype(np.int8), rows["ts_ms"]))]
