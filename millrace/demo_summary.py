"""What the demo tells when it is over: a panel for people, plain values for machines."""

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table

from millrace.board import Board
from millrace.live import Pulse, money

NEXT_STEPS = (
    "millrace simulate --customers 2000 --days 30 --seed 7 --out sim",
    "millrace replay sim --out run   (then open run/report.html)",
    "the policy that decided: actions/policies/bank",
)


def summary_view(board: Board, pulse: Pulse, wall_s: float, heading: str) -> Panel:
    """Return the closing panel."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = {
        "events": f"{board.record_count:,} in {wall_s:.1f} s, {pulse.throughput_per_s:,.0f} a "
        f"second; {board.decided_count:,} of them decided, {board.dead_letter_count:,} refused",
        "decision latency": f"{pulse.latency_text}, from arrival to emission",
        "fraud caught": _fraud_text(board),
        "false alarms": _false_alarm_text(board),
        "model": f"{board.model_versions or 'untrained'}, "
        f"learned from {board.learned_count:,} matured examples",
        "offers": _offers_text(board),
        "uplift": _uplift_text(board),
    }
    for name, text in rows.items():
        table.add_row(name, text)
    steps = Table(box=None, show_header=False, pad_edge=False)
    steps.add_column(style="bold", no_wrap=True)
    steps.add_column(overflow="fold")
    for number, step in enumerate(NEXT_STEPS):
        steps.add_row("where to look next" if number == 0 else "", step)
    scenarios = ("", _scenarios(board)) if board.by_scenario else ()
    parts = (table, *scenarios, "", steps)
    return Panel(Group(*parts), title=heading, title_align="left", border_style="cyan")


def _fraud_text(board: Board) -> str:
    caught, missed = board.caught, board.missed
    count, value_minor = caught.count + missed.count, caught.value_minor + missed.value_minor
    if not count:
        return "no fraud so far"
    return (
        f"{caught.count:,} of {count:,}, {money(caught.value_minor)} of {money(value_minor)} "
        f"({_percent(caught.value_minor, value_minor)} of the value)"
    )


def _false_alarm_text(board: Board) -> str:
    share = _percent(board.false_alarms.count, board.decided_count)
    return f"{board.false_alarms.count:,}, {share} of all transactions"


def _offers_text(board: Board) -> str:
    made_count = sum(board.offers_made.values())
    if not made_count + board.control_count:
        return "none made"
    outcomes = board.outcomes
    return (
        f"{made_count:,} made, {outcomes['accepted']:,} accepted, "
        f"{outcomes['rejected']:,} rejected, {board.control_count:,} held back as control"
    )


def _uplift_text(board: Board) -> str:
    uplift = board.uplift()
    if uplift is None:
        return "not measurable yet: too few offers have had six days for an answer"
    return (
        f"{uplift.measured * 100:+.1f} % ± {uplift.margin * 100:.1f} measured, "
        f"{uplift.true * 100:+.1f} % true: of {uplift.treated_count:,} contacted customers "
        f"{uplift.treated_rate:.1%} bought, of {uplift.control_count:,} held back "
        f"{uplift.control_rate:.1%}"
    )


def _scenarios(board: Board) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("fraud by scenario")
    for name in ("caught", "missed", "value caught", "value missed"):
        table.add_column(name, justify="right", no_wrap=True)
    by_value = sorted(board.by_scenario.items(), key=lambda item: -item[1].caught.value_minor)
    for name, scored in by_value:
        table.add_row(
            name.replace("_", " "),
            f"{scored.caught.count:,}",
            f"{scored.missed.count:,}",
            money(scored.caught.value_minor),
            money(scored.missed.value_minor),
        )
    return table


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0.0%"


def summary_dict(board: Board) -> dict[str, Any]:
    """Return the board's part of the summary for machines; money in minor units."""
    uplift = board.uplift()
    return {
        "alerts": board.alert_count,
        "fraud_stopped": asdict(board.caught),
        "fraud_missed": asdict(board.missed),
        "false_alarms": asdict(board.false_alarms),
        "by_scenario": {
            name: asdict(board.by_scenario[name]) for name in sorted(board.by_scenario)
        },
        "offers_made": dict(board.offers_made),
        "offers_held_back": board.control_count,
        "outcomes": dict(board.outcomes),
        "uplift": None if uplift is None else asdict(uplift) | {"measured": uplift.measured},
        "model_versions": board.model_versions,
        "examples_learned": board.learned_count,
        "emissions_sha256": board.emissions_sha256(),
    }
