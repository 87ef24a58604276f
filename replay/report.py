"""The report of a replay: one HTML file with everything inline, nothing to load from elsewhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from replay.encoding import FRAUD
from replay.evaluation_log import Evaluated
from replay.model_log import ModelLog
from replay.model_plots import calibration_plot, contestants_table, precision_over_time
from replay.plots import (
    caught_by_day,
    latency_curve,
    precision_recall_curve,
    records_over_time,
    roc_curve,
    score_distribution,
)
from replay.summary import EvaluationWindow, evaluated_rows

REPORT_FILE = "report.html"
_STYLE = """
:root { --ink: #1c2733; --muted: #5d6b7a; --line: #dde3ea; --panel: #ffffff; --page: #f4f6f8; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 0 0 12px; }
p.note { color: var(--muted); margin: 0 0 20px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.fact, section { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; }
.fact { padding: 12px 14px; } .fact b { display: block; font-size: 21px; }
.fact span { color: var(--muted); font-size: 13px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 16px;
        margin-top: 16px; }
section { padding: 16px 18px; overflow-x: auto; } section.wide { grid-column: 1 / -1; }
section svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: 13px; overflow-wrap: anywhere; }
.absent { color: var(--muted); }
"""


@dataclass(frozen=True, slots=True)
class ReportInput:
    """Everything that a report shows; `tallies` are those of `outputs.MessagesWriter`.

    `latency_ns` is an HdrHistogram of nanoseconds or None. `minor_per_major` turns amounts into
    major units of `currency`.
    """

    title: str
    summary: Mapping[str, Any]
    log: Evaluated
    window: EvaluationWindow
    tallies: Mapping[str, Mapping[tuple[str, ...], int]] = field(default_factory=dict)
    latency_ns: Any = None
    models: ModelLog | None = None
    currency: str = ""
    minor_per_major: int = 100


def write_report(directory: Path | str, given: ReportInput) -> Path:
    """Write report.html into a directory and return its path."""
    path = Path(directory) / REPORT_FILE
    path.write_text(render_report(given), encoding="utf-8")
    return path


def render_report(given: ReportInput) -> str:
    """Return the report as HTML."""
    title = escape(given.title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="note">{escape(_period(given))}</p>
<div class="facts">{_facts(given.summary)}</div>
<div class="grid">
{"".join(_sections(given))}
</div>
</main>
</body>
</html>
"""


def _period(given: ReportInput) -> str:
    ts_ms = given.log.ts_ms
    if len(ts_ms) == 0:
        return "No transaction was decided."
    return f"Event time {_moment(int(ts_ms.min()))} to {_moment(int(ts_ms.max()))} UTC"


def _moment(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _facts(summary: Mapping[str, Any]) -> str:
    records, latency, metrics = summary["records"], summary["latency_us"], summary["metrics"]
    shown = [
        ("records in", _count(records["in"])),
        ("decided", _count(records["decided"])),
        ("dead letters", _count(records["dead_lettered"])),
        ("alerts", _count(summary["alerts"])),
        ("offers", _count(summary["offers"])),
        ("tasks", _count(summary["tasks"])),
        ("records a second", _count(summary["throughput_per_s"])),
        ("wall time", f"{summary['wall_s']:,.1f} s"),
        ("memory peak", f"{summary['memory_peak_mib']:,.0f} MiB"),
        ("latency p50", _latency(latency["p50"])),
        ("latency p99", _latency(latency["p99"])),
        ("latency p99.9", _latency(latency["p999"])),
        ("AUC ROC", _metric(metrics["auc"])),
        ("average precision", _metric(metrics["average_precision"])),
        ("card precision@100", _metric(metrics["card_precision_at_100"])),
    ]
    return "".join(
        f'<div class="fact"><b>{escape(value)}</b><span>{name}</span></div>'
        for name, value in shown
    )


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _latency(value_us: float | None) -> str:
    if value_us is None:
        return "–"
    return f"{value_us:,.1f} µs" if value_us < 1_000 else f"{value_us / 1_000:,.2f} ms"


def _metric(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _sections(given: ReportInput) -> list[str]:
    log, summary = given.log, given.summary
    rows = evaluated_rows(log, given.window)
    fraud = log.truth[rows] == FRAUD
    score = log.score[rows]
    fraud, score = fraud[~np.isnan(score)], score[~np.isnan(score)]
    metrics = summary["metrics"]
    both = bool(fraud.any() and not fraud.all())
    no_labels = "No labelled transactions of both kinds in the evaluation window."
    caught = None
    if (log.truth == FRAUD).any():
        caught = caught_by_day(log, given.window, given.minor_per_major, given.currency)
    return [
        _section(
            "Decisions and alerts over time",
            records_over_time(log) if len(log.ts_ms) else None,
            "No transaction was decided.",
            wide=True,
        ),
        _section(
            "Scores by truth",
            score_distribution(log.score, log.truth) if np.isfinite(log.score).any() else None,
            "No scores.",
        ),
        _section(
            "Latency",
            latency_curve(given.latency_ns) if summary["latency_us"]["p50"] is not None else None,
            "Latency was not recorded.",
        ),
        _section("ROC", roc_curve(fraud, score, metrics["auc"]) if both else None, no_labels),
        _section(
            "Precision and recall",
            precision_recall_curve(fraud, score, metrics["average_precision"]) if both else None,
            no_labels,
        ),
        _section("Fraud by value", caught, "No labelled frauds.", wide=True),
        *_model_sections(given.models),
        _tally("Alerts", ("risk", "action"), given.tallies.get("alerts", {})),
        _tally("Offers", ("offer", "channel"), given.tallies.get("offers", {})),
        _tally("Tasks", ("task",), given.tallies.get("tasks", {})),
        _tally("Dead letters", ("path",), given.tallies.get("dead-letters", {})),
        _section("Off-policy value", _pairs(summary["off_policy"]), "No outcomes were given."),
        _section("Versions", _pairs(summary["versions"]), "None.", wide=True),
        _section("Hash of all decisions", f"<code>{escape(summary['decisions_sha256'])}</code>"),
    ]


def _model_sections(log: ModelLog | None) -> list[str]:
    """Return three sections for each model that was reported on."""
    sections = []
    for model, report in log.newest().items() if log is not None else ():
        what = f"Model {model}"
        sections += [
            _section(f"{what}: champion and challengers", contestants_table(report), wide=True),
            _section(f"{what}: precision over time", precision_over_time(log, model), wide=True)
            if log is not None
            else "",
            _section(f"{what}: calibration", calibration_plot(report)),
        ]
    return sections


def _section(title: str, body: str | None, absent: str = "", *, wide: bool = False) -> str:
    shown = body if body else f'<p class="absent">{escape(absent)}</p>'
    name = ' class="wide"' if wide else ""
    return f"<section{name}><h2>{escape(title)}</h2>{shown}</section>\n"


def _tally(title: str, heads: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> str:
    if not counts:
        return _section(title, None, "None.")
    head = "".join(f"<th>{name}</th>" for name in heads) + '<th class="number">count</th>'
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(part)}</td>" for part in parts)
        + f'<td class="number">{count:,}</td></tr>'
        for parts, count in ordered
    )
    return _section(title, f"<table><tr>{head}</tr>{body}</table>")


def _pairs(values: Mapping[str, Any] | None) -> str | None:
    if not values:
        return None
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(_shown(value))}</code></td></tr>"
        for name, value in values.items()
    )
    return f"<table>{rows}</table>"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
