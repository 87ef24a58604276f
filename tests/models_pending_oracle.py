"""Pending labels the slow and obvious way: one record at a time, a list searched end to end."""

from dataclasses import dataclass, field

HORIZON_MS = 20
SEED = 42
MASK = 2**64 - 1


def splitmix(x):
    """SplitMix64's output function, from the paper, on Python's integers."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def in_sample(event, sample, seed=SEED):
    return (splitmix((event & MASK) ^ splitmix(seed)) >> 11) / 2**53 < sample


def values_of(step):
    return [float(step), step / 3]


def scores_of(values):
    return [values[0] / 2]


@dataclass
class Oracle:
    """What waits in one partition, as a list of dicts."""

    sample: float
    cap: int
    rows: list = field(default_factory=list)
    clock: int = -(10**9)
    dropped: int = 0
    unmatched: int = 0
    repeated: int = 0

    def example(self, row):
        fraud = row["verdict"] == "fraud"
        if not fraud and not in_sample(row["event"], self.sample):
            return []
        weight = 1.0 if fraud else 1 / self.sample
        matured, values = row["ts"] + HORIZON_MS, row["values"]
        return [(row["event"], row["ts"], matured, fraud, weight, values, scores_of(values))]

    def transaction(self, event, ts, values):
        number = len(self.rows)
        known = [
            row
            for row in self.rows[max(0, number - self.cap + 1) :]
            if row["event"] == event
            and row["state"] != "repeat"
            and row["ts"] + HORIZON_MS >= self.clock
        ]
        state = "repeat" if known else "waits"
        self.repeated += bool(known)
        self.rows.append(
            {"event": event, "ts": ts, "values": values, "state": state, "verdict": "silence"}
        )
        if number >= self.cap and self.rows[number - self.cap]["state"] == "waits":
            self.rows[number - self.cap]["state"] = "dropped"
            self.dropped += 1
        return self.tick(ts)

    def tick(self, now):
        self.clock = max(self.clock, now)
        due = [
            row
            for row in self.rows
            if row["state"] == "waits" and row["ts"] + HORIZON_MS < self.clock
        ]
        out = []
        for row in sorted(due, key=lambda row: row["ts"]):
            row["state"] = "matured"
            out += self.example(row)
        return out

    def label(self, event, verdict, now):
        out = self.tick(now)
        waiting = [row for row in self.rows if row["event"] == event and row["state"] == "waits"]
        for row in waiting:
            row["verdict"] = verdict
        self.unmatched += not waiting
        return out


def oracle_run(stream, sample, cap):
    oracle, out = Oracle(sample, cap), []
    for step, (kind, event, ts) in enumerate(stream):
        if kind == "transaction":
            out += oracle.transaction(event, ts, values_of(step))
        elif kind == "tick":
            out += oracle.tick(ts)
        else:
            out += oracle.label(event, kind, ts)
    return out, (oracle.dropped, oracle.unmatched, oracle.repeated)
