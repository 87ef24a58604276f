"""The plots and the table of a report that compare champion and challengers."""

from html import escape

import numpy as np
from matplotlib.figure import Figure

from features.records import ModelReport
from replay.model_log import MEASURES, ModelLog
from replay.plots import BLUE, GREY, ORANGE, date_axis, instants, svg

_COLOURS = (BLUE, ORANGE, "#3a8f5c", "#8a5ab5", "#b8902f", GREY)
_HEADS = ("contestant", "pipeline", "AUC", "average precision", "recall at budget", "log loss",
          "calibration error")  # fmt: skip


def calibration_plot(report: ModelReport) -> str:
    """Return observed share of fraud against mean score, in bins of equal weight, as SVG."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        low = 1.0
        for contestant, colour in zip(report.contestants, _cycled(report), strict=True):
            bins = [(b.predicted, b.observed) for b in contestant.calibration if b.observed > 0]
            if bins:
                predicted, observed = zip(*bins, strict=True)
                low = min(low, *predicted, *observed)
                axes.plot(predicted, observed, "o-", color=colour, markersize=3, linewidth=1,
                          label=contestant.contestant)  # fmt: skip
        axes.plot([low, 1], [low, 1], color=GREY, linewidth=1, linestyle=":")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("mean score of a bin (log)")
        axes.set_ylabel("share of fraud (log)")
        axes.legend()

    return svg(draw)


def precision_over_time(log: ModelLog, model: str) -> str:
    """Return each contestant's average precision at every report, with what happened, as SVG."""
    reports = [report for report in log.reports if report.model == model]
    times = instants(np.array([report.ts_ms for report in reports], dtype=np.int64))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        names = [contestant.contestant for contestant in reports[-1].contestants]
        for name, colour in zip(names, _cycled(reports[-1]), strict=True):
            values = [
                next((c.average_precision for c in r.contestants if c.contestant == name), None)
                for r in reports
            ]
            known = np.array([np.nan if v is None else v for v in values])
            axes.plot(times, known, color=colour, linewidth=1.4, label=name)
        for moment in instants(
            np.array([d.ts_ms for d in log.drifts if d.model == model], dtype=np.int64)
        ):
            axes.axvline(moment, color=GREY, linewidth=0.8, linestyle=":")
        for moment in instants(
            np.array([p.ts_ms for p in log.promotions if p.model == model], dtype=np.int64)
        ):
            axes.axvline(moment, color=ORANGE, linewidth=1.2, linestyle="--")
        axes.set_ylabel("average precision")
        axes.set_ylim(0, 1)
        axes.legend()
        date_axis(axes)

    return svg(draw, width=12)


def contestants_table(report: ModelReport) -> str:
    """Return the measures of all contestants as an HTML table."""
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    rows = ""
    for contestant in report.contestants:
        name = contestant.contestant
        shown = [name + (" (champion)" if name == report.champion else ""), contestant.pipeline]
        values = [getattr(contestant, measure) for measure in MEASURES]
        shown += ["–" if value is None else f"{value:.4f}" for value in values]
        rows += "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in shown) + "</tr>"
    about = (
        f"Over the last {report.example_count:,} matured examples ({report.fraud_count:,} frauds), "
        f"by the scores given when deciding; {report.alerts_per_day:g} alerts a day."
    )
    return f"<p>{about}</p><table><tr>{heads}</tr>{rows}</table>"


def _cycled(report: ModelReport) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(len(report.contestants))]
