"""The demo's screen: lines of styled text, cut to fit, with a frame around them.

Drawn by hand, since it shares a core with the engine: a frame takes about 1 ms, where a layout of
rich takes 10 to 30.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from rich.text import Text

from features.records import Alert, Offer
from millrace.board import Board

Piece = tuple[str, str]  # text and style
Line = list[Piece]

DIM, BOLD, GOOD, BORDER = "dim", "bold", "bold green", "cyan"
ACTION_STYLES = {
    "decline": "bold white on red",
    "hold": "bold red",
    "review": "yellow",
    "step_up": "cyan",
}
ANSWER_STYLES = {"accepted": GOOD, "converted": GOOD, "rejected": "red"}
ALERTS_SHARE = 0.6  # of the lines that alerts and offers have together
WIDTH_MIN, HEIGHT_MIN = 40, 14
GAP = "   "


@dataclass(frozen=True, slots=True)
class Pulse:
    """How the run itself goes: `progress` in 0..1, latencies of decisions in milliseconds."""

    progress: float
    throughput_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float

    @property
    def latency_text(self) -> str:
        """The percentiles in one line."""
        return f"p50 {self.p50_ms:.1f}  p99 {self.p99_ms:.1f}  p99.9 {self.p999_ms:.1f} ms"


def event_time(ts_ms: int) -> str:
    """Return an event time as `2026-01-02 03:04` (UTC)."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def money(amount_minor: int, currency: str = "EUR", decimals: int = 2) -> str:
    """Return an amount of a currency with two decimal places, such as `1,234.50 EUR`."""
    return f"{amount_minor / 100:,.{decimals}f} {currency}"


def screen_lines(board: Board, pulse: Pulse, width: int, height: int) -> list[Line]:
    """Return the whole screen: at most `height` lines, each of exactly `width` cells."""
    width, height = max(width, WIDTH_MIN), max(height, HEIGHT_MIN)
    inner = width - 4
    header = [_header_line(row, inner) for row in _header_rows(board, pulse, inner)]
    header.append(_bar(pulse.progress, inner))
    free = height - len(header) - 4  # four rules: top, above alerts, above offers, bottom
    alerts_count = round(free * ALERTS_SHARE)
    alerts = [_alert_line(alert, inner) for alert in reversed(board.newest_alerts)]
    offers = [
        _offer_line(offer, board.made[offer.action_id].newest, inner)
        for offer in reversed(board.newest_offers)
    ]
    made_count = sum(board.offers_made.values())
    return [
        _rule("╭", f"Millrace {event_time(board.event_ms)} UTC" if board.event_ms else "Millrace",
              "╮", width),
        *_boxed(header, len(header), inner),
        _rule("├", f"alerts ({board.alert_count:,})", "┤", width),
        *_boxed(alerts, alerts_count, inner),
        _rule("├", f"offers ({made_count:,}, {board.control_count:,} more held back as control)",
              "┤", width),
        *_boxed(offers, free - alerts_count, inner),
        _rule("╰", "", "╯", width),
    ]  # fmt: skip


def _header_rows(board: Board, pulse: Pulse, inner: int) -> list[list[Piece]]:
    """Put whole facts into as many rows as they need; padded, so that they keep their places."""
    caught = board.caught.value_minor
    total = caught + board.missed.value_minor
    answers = f"accepted {board.outcomes['accepted']:,}, rejected {board.outcomes['rejected']:,}"
    facts = [
        (f"{board.record_count:,} records", "", 17),
        (f"{pulse.throughput_per_s:,.0f} a second", GOOD, 14),
        (f"latency {pulse.latency_text}", BOLD, 44),
        (f"fraud stopped {caught / 100:,.0f} of {money(total, decimals=0)}", BOLD, 38),
        (f"false alarms {board.false_alarms.count:,}", "", 16),
        (f"offers {answers}", "", 34),
        (f"model {board.model_versions or 'untrained'}", "", 16),
    ]
    rows: list[list[Piece]] = [[]]
    used = 0
    for text, style, place in facts:
        size = max(len(text), place)
        if used and used + len(GAP) + size > inner:
            rows.append([])
            used = 0
        used += size + (len(GAP) if used else 0)
        rows[-1].append((text.ljust(size), style))
    return rows


def _header_line(facts: Sequence[Piece], inner: int) -> Line:
    line: Line = []
    for fact in facts:
        line += [(GAP, ""), fact] if line else [fact]
    return _cut(line, inner)


def _bar(progress: float, inner: int) -> Line:
    done = round(min(max(progress, 0.0), 1.0) * inner)
    return [("━" * done, GOOD), ("━" * (inner - done), DIM)]


def _alert_line(alert: Alert, inner: int) -> Line:
    why = "; ".join(reason.text for reason in alert.reasons)
    return _cut(
        [
            (event_time(alert.ts_ms)[5:], DIM),
            ("  ", ""),
            (f"{alert.action:8}", ACTION_STYLES.get(alert.action, "")),
            (f"  {alert.score:.3f}  ", ""),
            (f"{money(alert.amount_minor, alert.currency):>14}", BOLD),
            (f"  {why}", ""),
        ],
        inner,
    )


def _offer_line(offer: Offer, answer: str, inner: int) -> Line:
    details = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in offer.parameters.items())
    return _cut(
        [
            (event_time(offer.ts_ms)[5:], DIM),
            (f"  {offer.offer.replace('_', ' '):15}", BOLD),
            (f"  {offer.channel:8}  ", ""),
            (f"{answer:9}", ANSWER_STYLES.get(answer, DIM)),
            (f"  {'; '.join(part for part in (details, *offer.why) if part)}", ""),
        ],
        inner,
    )


def _boxed(lines: Sequence[Line], count: int, inner: int) -> list[Line]:
    """Return `count` lines within the frame: the first ones, or blank ones below them."""
    blank: Line = [(" " * inner, "")]
    shown = [*lines[:count], *[blank] * (count - len(lines))]
    return [[("│ ", BORDER), *line, (" │", BORDER)] for line in shown]


def _rule(left: str, title: str, right: str, width: int) -> Line:
    title = f" {title} " if title else ""
    rest = "─" * (width - 3 - len(title))
    return [(f"{left}─", BORDER), (title, BOLD), (f"{rest}{right}", BORDER)]


def _cut(line: Line, cell_count: int) -> Line:
    """Return the line with exactly that many cells: blanks behind it, or an ellipsis at its end."""
    cut: Line = []
    left = cell_count
    for text, style in line:
        if not text.isprintable():
            text = "".join(mark if mark.isprintable() else " " for mark in text)
        cells = cell_len(text)
        if cells > left:
            cut.append((set_cell_size(text, max(left - 1, 0)) + "…" * (left > 0), style))
            return cut
        cut.append((text, style))
        left -= cells
    return [*cut, (" " * left, "")]


class Screen:
    """Shows frames on a terminal; gives the terminal back as it was, whatever happens.

    Without a terminal that can show a frame it shows nothing, and `is_live` is false.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._styles: dict[str, Style] = {}
        self._size = (0, 0)
        able = console.is_terminal and not console.is_dumb_terminal
        self.is_live = able and not console.quiet and console.encoding.startswith("utf")

    def __enter__(self) -> "Screen":
        if self.is_live:
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_live:
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)

    def draw(self, board: Board, pulse: Pulse) -> None:
        """Replace what is on the screen."""
        size = self._console.size
        lines = screen_lines(board, pulse, *size)[: size.height]
        clear = "\x1b[2J" if size != self._size else ""  # the window's size has changed
        self._size = (size.width, size.height)
        text = "\n".join("".join(map(self._rendered, line)) for line in lines)
        self._console.file.write(f"{clear}\x1b[H{text}")
        self._console.file.flush()

    def _rendered(self, piece: Piece) -> str:
        text, name = piece
        if name not in self._styles:
            self._styles[name] = Style.parse(name or "none")
        colourless = self._console.no_color or self._console.color_system is None
        system = None if colourless else ColorSystem.STANDARD
        return self._styles[name].render(text, color_system=system)


def printable(lines: Sequence[Line]) -> Text:
    """Return a screen as text that rich can print anywhere."""
    return Text("\n").join(Text.assemble(*line) for line in lines)
