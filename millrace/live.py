"""The demo's terminal view and its closing summary, drawn with rich."""

from collections.abc import Mapping
from datetime import UTC, datetime

from hdrh.histogram import HdrHistogram
from rich import box
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from features.records import Alert, Offer
from millrace.board import SHOWN_ALERTS_COUNT, SHOWN_OFFERS_COUNT, Board

ACTION_STYLES = {
    "decline": "bold white on red",
    "hold": "bold red",
    "review": "yellow",
    "step_up": "cyan",
}


def event_time(ts_ms: int) -> str:
    """Return an event time as `2026-01-02 03:04` (UTC)."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def money(amount_minor: int, currency: str = "EUR") -> str:
    """Return an amount of a currency with two decimals, such as `1,234.50 EUR`."""
    return f"{amount_minor / 100:,.2f} {currency}"


def latency_text(histogram: HdrHistogram) -> str:
    """Return p50, p99 and p99.9 in milliseconds."""
    values = [histogram.get_value_at_percentile(p) / 1e6 for p in (50, 99, 99.9)]
    return "p50 {:.2f}  p99 {:.2f}  p99.9 {:.2f} ms".format(*values)


def live_view(
    board: Board, progress: float, throughput_per_s: float, latency_ns: HdrHistogram
) -> Layout:
    """Return the whole screen; `progress` lies in 0..1."""
    layout = Layout()
    layout.split_column(
        Layout(_header(board, progress, throughput_per_s, latency_ns), size=5),
        Layout(_alerts(board), size=SHOWN_ALERTS_COUNT + 4),
        Layout(_offers(board), size=SHOWN_OFFERS_COUNT + 4),
    )
    return layout


def _header(
    board: Board, progress: float, throughput_per_s: float, latency_ns: HdrHistogram
) -> Panel:
    when = event_time(board.event_ms) if board.event_ms else "starting"
    line = Text.assemble(
        (f"{when} UTC", "bold"),
        f"   {board.record_count:,} records   ",
        (f"{throughput_per_s:,.0f} a second", "bold green"),
        f"   decision latency {latency_text(latency_ns)}",
    )
    caught = board.caught.value_minor
    total = caught + board.missed.value_minor
    second = Text.assemble(
        "fraud stopped ",
        (f"{money(caught)} of {money(total)}", "bold"),
        f"   false alarms {board.false_alarms.count:,}",
        f"   offers {sum(board.offers_made.values()):,}, accepted {board.outcomes['accepted']:,}",
        f"   model {board.model_versions or 'untrained'} ({board.learned_count:,} examples)",
    )
    bar = ProgressBar(total=1.0, completed=progress)
    return Panel(Group(line, second, bar), title="Millrace", title_align="left", box=box.ROUNDED)


def _alerts(board: Board) -> Panel:
    table = Table(box=None, expand=True, pad_edge=False)
    for name in ("event time", "action", "score", "amount", "why"):
        table.add_column(name, no_wrap=True, ratio=1 if name == "why" else None)
    for alert in reversed(board.newest_alerts):
        table.add_row(*_alert_row(alert))
    return Panel(table, title=f"alerts ({board.alert_count:,})", title_align="left")


def _alert_row(alert: Alert) -> tuple[RenderableType, ...]:
    return (
        event_time(alert.ts_ms),
        Text(alert.action, ACTION_STYLES.get(alert.action, "")),
        f"{alert.score:.3f}",
        money(alert.amount_minor, alert.currency),
        "; ".join(reason.text for reason in alert.reasons),
    )


def _offers(board: Board) -> Panel:
    table = Table(box=None, expand=True, pad_edge=False)
    for name in ("event time", "offer", "channel", "propensity", "why"):
        table.add_column(name, no_wrap=True, ratio=1 if name == "why" else None)
    for offer in reversed(board.newest_offers):
        table.add_row(*_offer_row(offer))
    title = f"offers ({sum(board.offers_made.values()):,}, {board.control_count:,} held as control)"
    return Panel(table, title=title, title_align="left")


def _offer_row(offer: Offer) -> tuple[RenderableType, ...]:
    return (
        event_time(offer.ts_ms),
        offer.offer,
        offer.channel,
        f"{offer.propensity:.2f}",
        "; ".join(offer.why),
    )


def summary_view(
    board: Board, wall_s: float, latency_ns: HdrHistogram, notes: Mapping[str, str]
) -> Panel:
    """Return the closing summary; `notes` are further lines, name to text."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    rows = {
        "records": f"{board.record_count:,} in {wall_s:.1f} s "
        f"({board.record_count / wall_s:,.0f} a second), {board.dead_letter_count} refused",
        "decision latency": latency_text(latency_ns),
        "fraud stopped": f"{board.caught.count:,} transactions, {money(board.caught.value_minor)}",
        "fraud missed": f"{board.missed.count:,} transactions, {money(board.missed.value_minor)}",
        "by scenario": ", ".join(
            f"{name.replace('_', ' ')} {caught} of {caught + missed}"
            for name, (caught, missed) in sorted(board.by_scenario.items())
        ),
        "false alarms": f"{board.false_alarms.count:,} of {board.decided_count:,} transactions",
        "offers": f"{sum(board.offers_made.values()):,} made, "
        f"{board.outcomes['accepted']:,} accepted, {board.outcomes['rejected']:,} rejected, "
        f"{board.control_count:,} customers held back as control",
        "model": f"{board.model_versions}, learned from {board.learned_count:,} matured examples",
        **notes,
    }
    for name, text in rows.items():
        table.add_row(name, text)
    return Panel(table, title="what happened", title_align="left")
