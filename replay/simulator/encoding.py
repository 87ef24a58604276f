"""From rows to records on the wire."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.records import ENCODER, Interaction, Label, Outcome, Transaction
from replay.simulator.geography import CITY_COUNTRY, COUNTRIES
from replay.simulator.interactions import METRICS, TEXTS
from replay.simulator.labels import FRAUD_LABEL
from replay.simulator.merchants import CATEGORIES
from replay.simulator.population import customer_id
from replay.simulator.profiles import ProfileWriter
from replay.simulator.rows import (
    PAYEE_PREFIXES,
    PAYEE_SHIFT,
    SIGN,
    PayeeKind,
    Rows,
    Via,
    What,
)
from replay.simulator.scene import Scene
from replay.source_record import SourceRecord

WHAT: dict[int, Any] = {int(what): what.name.lower() for what in What}
VIA: tuple[Any, ...] = tuple(via.name.lower() for via in Via)
DIRECTION: tuple[Any, ...] = tuple("in" if sign > 0 else "out" for sign in SIGN.tolist())
NUMBER_MASK = (1 << PAYEE_SHIFT) - 1


def payee_id(code: int) -> str:
    """The id of a payee; an account number is that of the customer whose account it is."""
    kind, number = code >> PAYEE_SHIFT, code & NUMBER_MASK
    if kind == PayeeKind.ACCOUNT:
        number += 1
    return f"{PAYEE_PREFIXES[kind]}{number:08d}"


def ip_text(code: int) -> str:
    """An IPv4 address from its 32 bits."""
    return f"{code >> 24}.{code >> 16 & 255}.{code >> 8 & 255}.{code & 255}"


def event_id(what: int, number: int) -> str:
    """The id of the `number`-th transaction or interaction of a run."""
    return f"TX{number:010d}" if what < What.LOGIN else f"IN{number:010d}"


class Encoder:
    """Builds records from rows; keeps the ids of customers and places, made once."""

    def __init__(self, scene: Scene) -> None:
        merchants = scene.merchants
        self._currency = scene.settings.currency
        self._profiles = ProfileWriter(scene)
        self._customers = [customer_id(k) for k in range(scene.settings.customer_count)]
        self._merchants = [f"ME{k:07d}" for k in range(len(merchants.category))]
        self._mcc = [CATEGORIES[k].mcc for k in merchants.category.tolist()]
        self._merchant_country = [COUNTRIES[k] for k in merchants.country.tolist()]
        self._terminals = [f"TE{k:07d}" for k in range(len(merchants.terminal_lat))]
        self._lat: list[float] = merchants.terminal_lat.tolist()
        self._lon: list[float] = merchants.terminal_lon.tolist()
        self._terminal_country = _terminal_countries(scene)

    def customer(self, number: int) -> str:
        """The id of customer `number`."""
        return self._customers[number]

    def transactions(self, rows: Rows) -> list[SourceRecord]:
        """Records of rows that are all transactions."""
        encode, customers, currency = ENCODER.encode, self._customers, self._currency
        merchants, terminals = self._merchants, self._terminals
        lat, lon = self._lat, self._lon
        records: list[SourceRecord] = []
        for (
            ts_ms, amount, balance, payee, device, ip, number, customer, merchant, terminal,
            what, via, card, generation,
        ) in _columns(
            rows, "ts_ms", "amount_minor", "balance_minor", "payee", "device", "ip", "number",
            "customer", "merchant", "terminal", "what", "via", "card", "card_generation",
        ):  # fmt: skip
            here = terminal >= 0
            shop = merchant >= 0
            country = self._terminal_country[terminal] if here else None
            if shop and not here:
                country = self._merchant_country[merchant]
            key = customers[customer]
            value = encode(Transaction(
                event_id=f"TX{number:010d}", ts_ms=ts_ms, customer_id=key,
                account_id=f"AC{customer + 1:08d}", type=WHAT[what], amount_minor=amount,
                currency=currency, direction=DIRECTION[what], channel=VIA[via],
                card_id=f"CA{customer + 1:08d}{card}{generation:02d}" if card >= 0 else None,
                merchant_id=merchants[merchant] if shop else None,
                mcc=self._mcc[merchant] if shop else None,
                terminal_id=terminals[terminal] if here else None,
                payee_id=payee_id(payee) if payee >= 0 else None, country=country,
                lat=lat[terminal] if here else None, lon=lon[terminal] if here else None,
                device_id=f"DV{device:08d}" if device >= 0 else None,
                ip=ip_text(ip) if ip >= 0 else None, balance_minor=balance,
            ))  # fmt: skip
            records.append(SourceRecord("transactions", key, ts_ms, value))
        return records

    def interactions(self, rows: Rows) -> list[SourceRecord]:
        """Records of rows that are all interactions."""
        encode, customers = ENCODER.encode, self._customers
        records: list[SourceRecord] = []
        for ts_ms, device, number, customer, what, via, metric, text, number_value in _columns(
            rows, "ts_ms", "device", "number", "customer", "what", "via", "metric", "text", "value"
        ):
            key = customers[customer]
            value = encode(Interaction(
                event_id=f"IN{number:010d}", ts_ms=ts_ms, customer_id=key, type=WHAT[what],
                channel=VIA[via], device_id=f"DV{device:08d}" if device >= 0 else None,
                metric=METRICS[metric] if metric >= 0 else None,
                value=number_value if number_value == number_value else None,
                text=TEXTS[text] if text >= 0 else None,
            ))  # fmt: skip
            records.append(SourceRecord("interactions", key, ts_ms, value))
        return records

    def profiles(self, rows: Rows) -> list[SourceRecord]:
        """Records of rows that are all profiles."""
        profile, customers = self._profiles.profile, self._customers
        return [
            SourceRecord(
                "profiles", customers[customer], ts_ms,
                ENCODER.encode(profile(customer, ts_ms, amount_minor)),
            )
            for customer, ts_ms, amount_minor in _columns(
                rows, "customer", "ts_ms", "amount_minor"
            )
        ]  # fmt: skip


def labels_of(rows: Rows, encoder: Encoder) -> list[Label]:
    """The verdicts on rows that will get one."""
    return [
        Label(
            event_id=event_id(what, number), ts_ms=ts_ms, customer_id=encoder.customer(customer),
            verdict="fraud" if label == FRAUD_LABEL else "legitimate",
            source=_source(label, via),
        )
        for what, number, ts_ms, customer, label, via in _columns(
            rows, "what", "number", "label_ts_ms", "customer", "label", "via"
        )
    ]  # fmt: skip


def encoded(topic: str, records: Iterable[Label | Outcome]) -> list[SourceRecord]:
    """Labels or outcomes as source records of `topic`."""
    return [
        SourceRecord(topic, record.customer_id, record.ts_ms, ENCODER.encode(record))
        for record in records
    ]


def _source(label: int, via: int) -> str:
    if label != FRAUD_LABEL:
        return "analyst"
    return "chargeback" if via in (Via.POS, Via.ONLINE) else "customer_report"


def _terminal_countries(scene: Scene) -> list[str]:
    country: NDArray[np.int16] = CITY_COUNTRY[scene.merchants.terminal_city]
    return [COUNTRIES[k] for k in country.tolist()]


def _columns(rows: Rows, *names: str) -> Iterable[tuple[Any, ...]]:
    return zip(*(rows[name].tolist() for name in names), strict=True)
