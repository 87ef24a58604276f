"""The plots of a report, as SVG texts to be put into HTML."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from replay.encoding import FRAUD, LEGITIMATE
from replay.evaluation_log import Evaluated
from replay.summary import DAY_MS, EvaluationWindow

INK, MUTED, BLUE, ORANGE, GREY = "#1c2733", "#5d6b7a", "#2a6fb0", "#d8572a", "#9aa7b4"
CURVE_POINTS_MAX = 600
_WIDTHS_MS = (1_000, 60_000, 600_000, 3_600_000, 6 * 3_600_000, DAY_MS, 7 * DAY_MS)
_BINS_MAX = 400
_STYLE = {
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6ebf0",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: smaller, and it can be searched
    "svg.hashsalt": "millrace",  # the same plot is the same bytes
}


# Without it the picture names schemas by their addresses, and when it was made.
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def svg(draw: Callable[[Figure], None], width: float = 6.2, height: float = 3.4) -> str:
    """Return what `draw` puts on a figure of this size (inches), as SVG."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height))
        figure.subplots_adjust(
            left=0.75 / width, right=1 - 0.15 / width, bottom=0.55 / height, top=1 - 0.12 / height
        )
        FigureCanvasAgg(figure)
        draw(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=_NO_METADATA, transparent=True)
    whole = text.getvalue()
    return whole[whole.index("<svg") :]  # without the XML declaration and the document type


def records_over_time(log: Evaluated) -> str:
    """Return transactions and alerts per interval of event time."""
    first, last = int(log.ts_ms.min()), int(log.ts_ms.max())
    width_ms = next((w for w in _WIDTHS_MS if (last - first) / w <= _BINS_MAX), _WIDTHS_MS[-1])
    start = first // width_ms
    bins = log.ts_ms // width_ms - start
    count = int(bins.max()) + 1
    times = instants((np.arange(count) + start) * width_ms)

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        upper.plot(times, np.bincount(bins, minlength=count), color=BLUE, linewidth=1)
        upper.set_ylabel(f"decided per {_width_name(width_ms)}")
        alerts = np.bincount(bins[log.alerted], minlength=count)
        lower.plot(times, alerts, color=ORANGE, linewidth=1)
        lower.set_ylabel("alerted")
        for axes in (upper, lower):
            axes.set_ylim(bottom=0)
        date_axis(lower)

    return svg(draw, width=12, height=4)


def score_distribution(score: NDArray[np.float64], truth: NDArray[np.int8]) -> str:
    """Return histograms of the scores of frauds, legitimate and unlabelled transactions."""
    finite = np.isfinite(score)
    low, high = float(score[finite].min()), float(score[finite].max())
    edges = np.linspace(low, high if high > low else low + 1, 61)
    groups = [
        ("legitimate", finite & (truth == LEGITIMATE), BLUE),
        ("fraud", finite & (truth == FRAUD), ORANGE),
        ("unlabelled", finite & (truth < 0), GREY),
    ]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for name, rows, color in groups:
            if rows.any():
                counts, _ = np.histogram(score[rows], edges)
                label = f"{name} ({int(rows.sum()):,})"
                axes.stairs(counts, edges, color=color, fill=True, alpha=0.25)
                axes.stairs(counts, edges, color=color, label=label, linewidth=1.4)
        axes.set_yscale("log")
        axes.set_xlabel("score")
        axes.set_ylabel("transactions (log)")
        axes.legend()

    return svg(draw)


def roc_curve(fraud: NDArray[np.bool_], score: NDArray[np.float64], area: float | None) -> str:
    """Return the ROC curve; both classes must be there."""
    true_count, false_count = _cumulated(fraud, score)
    chosen = _thinned(len(true_count))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        x, y = false_count / false_count[-1], true_count / true_count[-1]
        axes.plot(x[chosen], y[chosen], color=BLUE, linewidth=1.8, label=_area("AUC", area))
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.legend(loc="lower right")

    return svg(draw)


def precision_recall_curve(
    fraud: NDArray[np.bool_], score: NDArray[np.float64], area: float | None
) -> str:
    """Return precision against recall; both classes must be there."""
    true_count, false_count = (counts[1:] for counts in _cumulated(fraud, score))
    chosen = _thinned(len(true_count))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        recall, precision = true_count / true_count[-1], true_count / (true_count + false_count)
        label = _area("average precision", area)
        axes.step(
            recall[chosen], precision[chosen], color=BLUE, linewidth=1.8, label=label, where="pre"
        )
        base = float(fraud.mean())
        axes.axhline(base, color=GREY, linewidth=1, linestyle=":", label=f"fraud rate {base:.4f}")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.legend()

    return svg(draw)


def caught_by_day(
    log: Evaluated, window: EvaluationWindow, minor_per_major: int, currency: str
) -> str:
    """Return the value of frauds that were alerted and that were missed, for each day (UTC)."""
    rows = log.truth == FRAUD
    if window.from_ms is not None:
        rows &= log.ts_ms >= window.from_ms
    if window.to_ms is not None:
        rows &= log.ts_ms < window.to_ms
    if not rows.any():
        return ""
    days = log.ts_ms[rows] // DAY_MS
    bins = days - days.min()
    value = log.amount[rows].astype(np.float64) / minor_per_major
    alerted = log.alerted[rows]
    count = int(bins.max()) + 1
    caught = np.bincount(bins[alerted], value[alerted], minlength=count)
    missed = np.bincount(bins[~alerted], value[~alerted], minlength=count)
    times = instants((np.arange(count) + days.min()) * DAY_MS)
    total = float(value.sum())
    share = caught.sum() / total if total > 0 else 0.0

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.bar(times, caught, width=0.8, color=BLUE, label=f"alerted ({share:.1%} of the value)")
        axes.bar(times, missed, width=0.8, bottom=caught, color=ORANGE, label="missed")
        axes.set_ylabel(f"fraud per day, {currency or 'major units'}")
        axes.legend()
        date_axis(axes)

    return svg(draw, width=12)


def latency_curve(latency_ns: Any) -> str:
    """Return latency against percentile, with the percentiles spread towards 100 %."""
    nines = np.linspace(0, 5, 101)  # 0: the minimum, 2: 99 %, 5: 99.999 %
    percentiles = 100 * (1 - 10.0**-nines)
    values_us = [latency_ns.get_value_at_percentile(float(p)) / 1_000 for p in percentiles]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(nines, values_us, color=BLUE, linewidth=1.8)
        axes.set_yscale("log")
        axes.set_xticks([0, 0.30103, 1, 2, 3, 4, 5])
        axes.set_xticklabels(["0", "50", "90", "99", "99.9", "99.99", "99.999"])
        axes.set_xlabel("percentile")
        axes.set_ylabel("latency, µs (log)")

    return svg(draw)


def _cumulated(
    fraud: NDArray[np.bool_], score: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return frauds and others at or above each threshold, from zero; equal scores are one."""
    order = np.argsort(-score, kind="stable")
    last_of_group = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    true_count = np.cumsum(fraud[order])[last_of_group]
    false_count = last_of_group + 1 - true_count
    return np.append(0, true_count), np.append(0, false_count)


def _thinned(count: int) -> NDArray[np.int64]:
    """Return at most CURVE_POINTS_MAX places, closer together at the beginning of a curve."""
    if count <= CURVE_POINTS_MAX:
        return np.arange(count)
    spread = np.geomspace(1, count, CURVE_POINTS_MAX // 2) - 1
    even = np.linspace(0, count - 1, CURVE_POINTS_MAX // 2)
    return np.unique(np.concatenate([spread, even]).astype(np.int64))


def instants(ts_ms: NDArray[np.int64]) -> Any:
    """Return epoch milliseconds as times that a date axis understands."""
    return ts_ms.astype("datetime64[ms]")


def date_axis(axes: Axes) -> None:
    """Label the x axis with short dates."""
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)


def _width_name(width_ms: int) -> str:
    names = dict(zip(_WIDTHS_MS, ("s", "min", "10 min", "h", "6 h", "day", "week"), strict=True))
    return names[width_ms]


def _area(name: str, area: float | None) -> str:
    return name if area is None else f"{name} {area:.3f}"
