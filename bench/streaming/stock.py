"""The same work as an idiomatic stock Faust agent: one event at a time, windows in Redis.

    python -m bench.streaming.stock worker -l warn

What Faust's and Redis' own documentation would have one write: a `faust.Record` decoded from JSON,
one pipeline of sorted sets an event (ZADD, ZREMRANGEBYSCORE, ZRANGE with the window's members), a
River pipeline for the score, `topic.send` for an alert. Reads MILLRACE_BENCH_{KAFKA,REDIS,TOPIC,
GROUP,COUNT,WARM_COUNT,OUT}; ends by itself after COUNT events, with its figures as JSON in the file
OUT. The clock starts after the first WARM_COUNT events: connections, imports.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import faust
import redis.asyncio

from online_models import catalog

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
COUNT = int(os.environ.get("MILLRACE_BENCH_COUNT", "0"))
PREFIX = os.environ.get("MILLRACE_BENCH_GROUP", "stock")
INPUTS = (
    "log_amount", "amount_ratio", "customer_count_1h", "customer_count_1d", "customer_count_30d",
    "customer_sum_7d", "card_count_10m", "terminal_count_1h",
)  # fmt: skip
WARM_COUNT = int(os.environ.get("MILLRACE_BENCH_WARM_COUNT", "1000"))


class Payment(faust.Record, serializer="json"):
    """A card payment, the fields that the rules and the model read."""

    event_id: str
    ts_ms: int
    customer_id: str
    amount_minor: int
    card_id: str
    merchant_id: str
    terminal_id: str


app = faust.App(
    PREFIX,
    broker="kafka://" + os.environ.get("MILLRACE_BENCH_KAFKA", "127.0.0.1:9092"),
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    web_enabled=False,
)
source = app.topic(os.environ.get("MILLRACE_BENCH_TOPIC", "events"), value_type=Payment)
alerts = app.topic(f"{PREFIX}-alerts", value_serializer="json")
store = redis.asyncio.Redis.from_url(os.environ.get("MILLRACE_BENCH_REDIS", "redis://"))
model = catalog.build("scaled_logistic", INPUTS)
progress: dict[str, Any] = {"alerts": [], "event_ids": [], "began_ns": 0, "began_cpu_ns": 0}


def _key(*parts: str) -> str:
    return ":".join((PREFIX, *parts))


async def windows(payment: Payment) -> tuple[list[tuple[int, int]], list[tuple[int, int]], Any]:
    """Write the payment; return the customer's and the card's (ts_ms, amount), and the rest."""
    now_ms = payment.ts_ms
    member = f"{now_ms}:{payment.amount_minor}:{payment.event_id}"
    customer = _key("customer", payment.customer_id)
    card, terminal = _key("card", payment.card_id), _key("terminal", payment.terminal_id)
    merchants = _key("merchants", payment.customer_id)
    async with store.pipeline(transaction=False) as pipe:
        pipe.zadd(customer, {member: now_ms})
        pipe.zremrangebyscore(customer, "-inf", now_ms - 30 * DAY_MS)
        pipe.zrange(customer, 0, -1)
        pipe.zadd(card, {member: now_ms})
        pipe.zremrangebyscore(card, "-inf", now_ms - 600_000)
        pipe.zrange(card, 0, -1)
        pipe.zadd(terminal, {f"{payment.card_id}:{payment.event_id}": now_ms})
        pipe.zremrangebyscore(terminal, "-inf", now_ms - HOUR_MS)
        pipe.zrange(terminal, 0, -1)
        pipe.hget(merchants, payment.merchant_id)
        pipe.hset(merchants, payment.merchant_id, str(now_ms))
        found = await pipe.execute()
    return _parsed(found[2]), _parsed(found[5]), (found[8], found[9])


def _parsed(members: list[bytes]) -> list[tuple[int, int]]:
    rows = [member.split(b":", 2) for member in members]
    return [(int(ts_ms), int(amount)) for ts_ms, amount, _ in rows]


def decide(payment: Payment, found: Any) -> tuple[list[str], float]:
    """Return the rules that fire and the model's score."""
    customer, card, (at_terminal, last_seen) = found
    now_ms, amount = payment.ts_ms, payment.amount_minor
    earlier = [a for ts_ms, a in customer if ts_ms < now_ms] or [a for _, a in customer[:-1]]
    mean = sum(earlier) / len(earlier) if earlier else math.nan
    features = {
        "log_amount": math.log1p(amount / 100),
        "amount_ratio": min(amount / mean, 20.0) if earlier and mean else 0.0,
        "customer_count_1h": float(sum(ts_ms > now_ms - HOUR_MS for ts_ms, _ in customer)),
        "customer_count_1d": float(sum(ts_ms > now_ms - DAY_MS for ts_ms, _ in customer)),
        "customer_count_30d": float(len(customer)),
        "customer_sum_7d": sum(a for ts_ms, a in customer if ts_ms > now_ms - 7 * DAY_MS) / 100,
        "card_count_10m": float(len(card)),
        "terminal_count_1h": float(len(at_terminal)),
    }
    score = model.predict_proba_one(features)[True]
    rules = []
    if len(card) >= 3 and max(a for _, a in card) <= 2_000:
        rules.append("card_testing")
    seen = last_seen is not None and int(last_seen) > now_ms - 30 * DAY_MS
    if len(earlier) >= 5 and amount > 5 * mean and not seen:
        rules.append("unusual_amount")
    if len({member.split(b":", 1)[0] for member in at_terminal}) >= 12:
        rules.append("busy_terminal")
    return rules, score


@app.agent(source)
async def payments(stream: Any) -> None:
    """Decide one payment at a time."""
    async for payment in stream:
        rules, score = decide(payment, await windows(payment))
        if rules:
            await alerts.send(
                key=payment.customer_id,
                value={"event_id": payment.event_id, "rules": rules, "score": score},
            )
            progress["alerts"].append([payment.event_id, rules])
        progress["event_ids"].append(payment.event_id)
        if len(progress["event_ids"]) == WARM_COUNT:
            progress["began_ns"] = time.perf_counter_ns()
            progress["began_cpu_ns"] = time.process_time_ns()
        if len(progress["event_ids"]) == COUNT:
            _finish()


def _finish() -> None:
    facts = {
        "event_count": COUNT - WARM_COUNT,
        "whole_count": COUNT,
        "wall_s": (time.perf_counter_ns() - progress["began_ns"]) / 1e9,
        "cpu_s": (time.process_time_ns() - progress["began_cpu_ns"]) / 1e9,
        "alerts": progress["alerts"],
        "event_ids": progress["event_ids"],
    }
    Path(os.environ["MILLRACE_BENCH_OUT"]).write_text(json.dumps(facts), encoding="utf-8")
    os._exit(0)


if __name__ == "__main__":
    app.main()
