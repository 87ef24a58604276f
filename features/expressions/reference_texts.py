"""What the reference page says between its tables; `{…}` are filled in by `reference`."""

INTRODUCTION = """\
# The expression language

*This page is made from the compiler's own tables: `python -m millrace expressions > \
docs/expressions.md`. Every example on it is compiled and evaluated by the tests.*

Rules, model inputs, triggers, eligibility and values are expressions in Python's syntax. A
feature is declared by being used; what is used twice is computed once. A wrong expression is
refused when the policy is read, with file, line, column, what was expected, what was there
instead and the nearest known name.

The value of an expression is a number, money, a duration or a condition; or it is undefined,
where a field that it needs is absent, a window is empty or an operation has no result (a division
by 0). Undefined values pass through arithmetic. A comparison with one is false, `!=` included,
and `not` of it is true; `coalesce` and `is_missing` deal with them.
"""

CURRENT = """\
The record that is being decided. Amounts are in major units of the policy's currency (`amount >
500` means 500.00), converted by its dated rates; underneath they are integers. An absent field is
undefined.
"""

ENTITIES = """\
A policy declares its entities: a name, the `key` field that tells them apart, and a `scope`.
`local` belongs to the customer's partition, `shared` is seen from many. `keep` names fields that
the history remembers for expressions that are still to be written. `customer` always has the key
`customer_id`: through its history labels reach the events of every entity. Keys may be
{key_fields}.

```yaml
entities:
  customer: {{key: customer_id, scope: local}}
  card: {{key: card_id, scope: local, keep: [amount, country]}}
  terminal: {{key: terminal_id, scope: shared}}
  device: {{key: device_id, scope: shared}}
history: {{reach: 90d, cap: 4096, repeats: 1d}}
```

`history` says how far back windows may reach, how many events of an entity are kept at most, and
within which time an event id that comes again is taken for the same event. A full history makes
room by a quarter of the cap; values over windows that held what was dropped say how far they may be
from the truth.
"""

AGGREGATES = """\
Written `entity.aggregate(…)`. A window of length *w* and delay *d* at an event of time *t* covers
the entity's events that arrived before it, and itself, with event time in (*t* − *w* − *d*, *t* −
*d*]. `window=None` means all that histories reach back. Events in a window stand in the order of
their time, those of one time in the order of a hash of their id. Late events are put where they
belong.

Of an absent entity (a transaction without a card) every aggregate is undefined. Over an empty
window `count`, `sum`, `distinct` and `streak` are 0, `seen` is false, all others are undefined.
An event whose field is absent is left out of aggregates of that field. Money keeps its unit;
`trend` is in units a day.
"""

CONDITIONS = """\
`where=`, and the condition of `rate`, `share`, `streak` and `streak_age`, speak of the event that
was stored, not of the current one: fields are compared with constants. It is the same logic as
everywhere: a comparison with an absent field is false, `not` of it true.

`label` is what is known of the event by now; the verdicts {verdicts} may stand alone.
"""

KINDS = """\
Each kind of record has histories of its own, named by `of=`. An entity has those of the kinds
whose records carry its key. The current event is part of them only where it is of that kind: an
interaction may be, an outcome, a label or a contact never is. `seen` and `zscore` compare with
the current transaction's field of the same name, `top` with that or, for an id, with another id.
"""

NAMED_VALUES = """\
```yaml
let:
{lets}
lists:
{lists}
```

In an expression a name is the value itself. Inside an aggregate it is the value *kept* with each
transaction: computed once, when that event arrived, from what was known then. So windows run over
derived values. Only names that an aggregate reads are kept, and from then on: events that came
earlier lack them, and a changed definition is another value. A named value may use fields,
aggregates and other names, not `profile.` and `model.`, and none may depend on itself. In
aggregates it belongs to transactions.
"""

PROFILE = """\
The newest profile of the customer. `model.<name>` is the score of a declared model, a probability
from 0 to 1, for rules and offers: `model.fraud > 0.5`.
"""

LIMITS = """\
## Limits

- An expression has at most {characters_max} characters and {depth_max} levels of nesting; a
  function takes at most {argument_count_max} values.
- A window and its delay together reach back at most as far as histories do (`history.reach`).
- A condition on stored events has at most {term_count_max} comparisons once it is written as `(…
  or …) and (… or …)`. Ors of long ands grow: three of three terms each become 27 clauses.
- Histories keep up to `history.cap` events of an entity; all values over them are exact. Events
  that had to be dropped are folded into tiles, spans of time of at most a fifteenth of the window
  and its delay. A window that reaches beyond the cap has the likeliest value, and a bound of how
  far the truth may be from it:
  - `count`, `sum`, `mean`, `std`, `min`, `max` and `rate` are never further off than the bound,
    whatever events were dropped. It is 0, and the value exact, where no tile is cut: always where
    all that was dropped lies inside the window.
  - `distinct` is as certain while no tile met more than 31 different values. Beyond that it is an
    estimate from the smallest of their hashes, and the bound four standard deviations of it:
    about one value in 16,000 is further off, if estimates are distributed normally.
  - `last`, `since` and `seen` are exact where an event that is still kept answers them.
  - The bound is infinite, and nothing known, for all other aggregates; for conditions on a label
    that may still come; where an event came so late that its window reaches beyond all tiles; and
    where a window reaches back to events that were dropped before a policy asked for the value.
- An event that is sent again after it was dropped stays within the bound. With another time than
  at first it can't be told from a new one.
- Values are float64. Sums of money are exact integers before they are scaled, and a mean divides
  such a sum once, by the count and the scale together: it is the float64 next to the truth.
- Of equally frequent values `top` takes the one used most recently. Events of one time have the
  order of a hash of their id, which does not depend on how they arrived.
- A kept number is rounded to 0.000001, half to even; beyond ±{kept_max} it is absent. Durations
  are kept in milliseconds, conditions as they are.
- A constant that is compared with a field by `==` or `!=` must be a value that the field can
  have: an amount of 0.005 is refused where the currency has cents.
- `hour()`, `weekday()` and `day_of_month()` are in UTC.
"""

TYPES = (
    ("a number", "64-bit floating point", "mcc + 1.5"),
    ("money", "an amount in major units; money over money is a number", "amount * 2"),
    ("text", "an id or a word: compared, never computed with", 'country == "DE"'),
    (
        "a duration",
        "milliseconds; written with ms, s, m, h, d or w. Durations add, scale and divide",
        'card.since() / "1h"',
    ),
    ("a condition", "true or false", "True"),
)

OPERATORS = (
    ("+", "The sum.", "amount + balance"),
    ("-", "The difference, or the value with the other sign.", "-balance - 1"),
    ("*", "The product.", "0.01 * amount"),
    ("/", "The quotient; undefined for a divisor of 0.", "amount / balance"),
    ("%", "The remainder, with the divisor's sign, as in Python.", "amount % 100"),
    ("**", "The power; undefined where there is no real one.", "amount ** 0.5"),
    ("==", "Equal; texts are equal letter by letter.", "amount == 100"),
    ("!=", "Known and different.", 'currency != "EUR"'),
    ("<", "Less.", "amount < balance"),
    ("<=", "At most. Comparisons chain.", "10 <= amount <= 20"),
    (">", "More.", "amount > 500"),
    (">=", "At least.", "amount >= 500"),
    ("in", "One of several constants, or of a list.", "mcc in [5411, 5499]"),
    ("not in", "Known, and none of them.", 'channel not in ["pos", "atm"]'),
    ("and", "Both hold.", "amount > 500 and mcc == 6011"),
    ("or", "One holds at least.", "amount > 500 or is_missing(mcc)"),
    ("not", "It does not hold.", 'not (country == "DE")'),
    ("x if c else y", "x where c holds, else y.", "amount if amount < 100 else 100"),
)

ENTITY_OPTIONS = (
    ("key", "the field whose values are the entities", 'card.count("1h")'),
    ("scope", "`local`, or `shared` by customers of many partitions",
     'device.distinct(customer_id, "24h")'),
    ("keep", "fields to remember although nothing asks for them so far",
     'card.max(amount, "30d", where=country != "DE")'),
)  # fmt: skip

CONDITION_FORMS = (
    ("field op constant", "`==`, `!=`, `<`, `<=`, `>`, `>=`, also in chains",
     'card.count("1d", where=0 < amount <= 5)'),
    ("field in [..]", "one of several constants, or of a list; `not in`: known and none of them",
     'customer.count("30d", where=merchant_id in lists.watched)'),
    ("is_missing(field)", "the event lacks the field",
     'customer.share(is_missing(country), "30d")'),
    ("label == verdict", "what is known of the event; the verdict may stand alone",
     'customer.max(amount, "90d", where=label == genuine)'),
    ("name", "a named condition, as it was then", 'card.count("7d", where=high)'),
    ("name op constant", "a named value, as it was then", 'card.count("7d", where=ratio < 3)'),
    ("and, or, not", "any logic of these",
     'customer.count("30d", where=not (fraud or mcc == 6011) and amount > 10)'),
)  # fmt: skip

NAME_USES = (
    ("name", "the value for the current record", "ratio > 5 and not high"),
    ("aggregate(name, …)", "the kept values of earlier transactions, and this one's",
     'customer.max(ratio, "14d")'),
    ("where=name", "as a condition on stored events", 'customer.count("14d", where=high)'),
    ("in lists.name", "one of the list's texts", "merchant_id in lists.watched"),
    ("not in lists.name", "known, and none of them", "country not in lists.near"),
)  # fmt: skip

# Conditions that show a field beside a value that it can have; others are made from its type.
FIELD_CONDITIONS = {
    "ts_ms": "ts_ms >= 1700000000000",
    "event_id": 'event_id != "E1"',
    "country": 'country == "DE"',
    "currency": 'currency == "EUR"',
    "mcc": "mcc == 5411",
    "lat": "lat > 48.1",
    "lon": "lon > 11.5",
    "metric": 'metric == "stock"',
    "value": "value < 0.5",
    "offer": 'offer == "loan"',
    "profile.risk_preference": "profile.risk_preference >= 1",
    "profile.age_years": "profile.age_years >= 18",
    "profile.tenure_days": "profile.tenure_days > 365",
    "profile.products_count": "profile.products_count == 0",
    "profile.consents_count": "profile.consents_count > 0",
    "profile.assets": "profile.assets >= 1000",
}
