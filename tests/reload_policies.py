"""A small policy with lists, variants of it, and the records that publish them."""

from strategies_streams import START_MS, Sent

from actions.policy import Policy
from features.records import ENCODER, ListChange, PolicyChange

ENTITIES = """
name: listed
currency: EUR
rates:
  USD: {1999-01-01: 0.9}
entities:
  customer: {key: customer_id, scope: local, keep: [amount, type, terminal_id]}
  terminal: {key: terminal_id, scope: shared, keep: [amount]}
history: {reach: 90d, cap: 64}
labels: {horizon: 2d, legitimate_sample: 1, pending_cap: 1000}
lists:
  watched: [t1]
  near: [FR]
"""
MODEL = """
models:
  - id: fraud
    pipeline: scaled_logistic
    publish_every: 1h
    inputs:
      log_amount: {value: log1p(amount), reason: the size}
      count_7d: {value: 'customer.count("7d")', reason: how often}
costs:
  model: fraud
  actions:
    allow: {friction: 0, prevented: 0}
    step_up: {friction: 1, prevented: 0.6}
    review: {friction: 3, prevented: 0.7}
    hold: {friction: 8, prevented: 0.9}
    decline: {friction: 20, prevented: 1}
  severity_from: {medium: 50, high: 500, critical: 5000}
"""
RULES = """
rules:
  - id: watched_terminal
    risk: watched
    action: review
    when: terminal_id in lists.watched
    reason: a watched terminal
"""
# Its condition on stored events reads a list: a change of that list changes what histories answer.
COUNTED = """
  - id: often_there
    risk: watched
    action: hold
    when: customer.count("30d", where=terminal_id in lists.watched) >= 2
    reason: >
      {customer.count("30d", where=terminal_id in lists.watched)} times at watched terminals
"""
LARGE = """
  - id: large
    risk: amount
    action: decline
    when: customer.sum(amount, "60d") >= 1000 and country in lists.near
    reason: 'more than a thousand, {customer.sum(amount, "60d"):money}'
"""
BUSY = """
  - id: busy_terminal
    risk: amount
    action: step_up
    when: terminal.count("7d") >= 3 and terminal.sum(amount, "7d") >= 100
    reason: '{terminal.count("7d")} payments at this terminal'
"""
# Histories of another kind of record, which the other variants do not keep.
LOGINS = """
  - id: many_logins
    risk: access
    action: step_up
    when: customer.count("30d", of=interaction) >= 2
    reason: '{customer.count("30d", of=interaction)} visits'
"""
FILES = {"policy.yaml": ENTITIES, "models.yaml": MODEL, "rules.yaml": RULES}
VARIANTS = {
    "plain": FILES,
    "counted": FILES | {"rules.yaml": RULES + COUNTED},
    "busy": FILES | {"rules.yaml": RULES + BUSY},
    "logins": FILES | {"rules.yaml": RULES + LOGINS},
    "large": FILES | {"rules.yaml": RULES + COUNTED + LARGE},
    "no model": {"policy.yaml": ENTITIES, "rules.yaml": RULES + LARGE},
    "challenged": FILES
    | {
        "models.yaml": MODEL.replace(
            "    inputs:", "    challengers: [{pipeline: scaled_logistic, id: twin}]\n    inputs:"
        )
    },
}


def policy(variant: str = "counted") -> Policy:
    """Return one of the variants."""
    return Policy.parse(VARIANTS[variant])


def published(files: dict[str, str], **given: str) -> Sent:
    """Return the record that publishes a policy."""
    return Sent("policies", "", ENCODER.encode(PolicyChange(ts_ms=START_MS, files=files, **given)))


def listed(name: str, *entries: str) -> Sent:
    """Return the record that publishes a list."""
    record = ListChange(ts_ms=START_MS, name=name, entries=entries)
    return Sent("lists", "", ENCODER.encode(record))


def withdrawn(name: str) -> Sent:
    """Return the record that gives a list back to the policy's files."""
    return Sent("lists", "", ENCODER.encode(ListChange(ts_ms=START_MS, name=name, entries=None)))
