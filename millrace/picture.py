"""Terminal output as an SVG picture that looks the same everywhere.

Each word stands at its own place and frames are drawn as lines, so that neither a missing font nor
a viewer's idea of blanks moves anything; nothing is loaded from elsewhere.
"""

import re
from collections.abc import Iterator, Sequence
from html import escape
from io import StringIO

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME as THEME

CELL_PX, LINE_PX, FONT_PX = 8.4, 18.0, 14
MARGIN_PX, TITLE_PX = 16.0, 40.0
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
LIGHTS = ("#ff5f57", "#febc2e", "#28c840")
DIM_OPACITY = 0.55
# Where the lines of a frame's characters go from the middle of a cell: left, right, up, down.
ARMS = {
    "─": "lr", "│": "ud", "╭": "rd", "╮": "ld", "╰": "ru", "╯": "lu", "├": "rud", "┤": "lud",
    "━": "lr",
}  # fmt: skip
ENDS = {"l": (-0.5, 0.0), "r": (0.5, 0.0), "u": (0.0, -0.5), "d": (0.0, 0.5)}
HEAVY = "━"
# Words with single blanks between them, runs of one frame character, and runs of blanks.
_PARTS = re.compile(r" +|([─━])\1*|[│╭╮╰╯├┤]|[^ ─━│╭╮╰╯├┤]+(?: [^ ─━│╭╮╰╯├┤]+)*")


def svg_of(parts: Sequence[RenderableType], width: int, title: str) -> str:
    """Return a picture of `parts`, one below the other, on a terminal of `width` columns."""
    console = Console(
        width=width, file=StringIO(), force_terminal=True, color_system="standard", no_color=False
    )
    lines = [line for part in parts for line in console.render_lines(part, pad=False)]
    picture_px = (2 * MARGIN_PX + width * CELL_PX, TITLE_PX + MARGIN_PX + len(lines) * LINE_PX)
    shapes = [shape for row, line in enumerate(lines) for shape in _line_shapes(line, row)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {picture_px[0]:.0f} '
            f'{picture_px[1]:.0f}" font-family="{FONTS}" font-size="{FONT_PX}" '
            f'fill="{THEME.foreground_color.hex}">',
            f'<rect width="100%" height="100%" rx="8" fill="{THEME.background_color.hex}"/>',
            *(
                f'<circle cx="{20 + 20 * number}" cy="18" r="6" fill="{light}"/>'
                for number, light in enumerate(LIGHTS)
            ),
            f'<text x="50%" y="23" text-anchor="middle" font-weight="bold">{escape(title)}</text>',
            *shapes,
            "</svg>\n",
        ]
    )


def _line_shapes(line: Sequence[Segment], row: int) -> Iterator[str]:
    column = 0
    for segment in line:
        style = segment.style or Style.null()
        for part in _PARTS.finditer(segment.text):
            text = part.group()
            yield from _shapes(text, style, column, row)
            column += cell_len(text)


def _shapes(text: str, style: Style, column: int, row: int) -> Iterator[str]:
    x_px, y_px = MARGIN_PX + column * CELL_PX, TITLE_PX + row * LINE_PX
    length_px = cell_len(text) * CELL_PX
    if style.bgcolor is not None and not style.bgcolor.is_default:
        yield (
            f'<rect x="{x_px:.1f}" y="{y_px:.1f}" width="{length_px:.1f}" height="{LINE_PX}" '
            f'fill="{_hex(style.bgcolor)}"/>'
        )
    if text.isspace():
        return
    colour = style.color
    ink = THEME.foreground_color.hex if colour is None or colour.is_default else _hex(colour)
    faint = f' opacity="{DIM_OPACITY}"' if style.dim else ""
    if text[0] in ARMS:
        yield f'<path d="{_frame_path(text, x_px, y_px)}" stroke="{ink}"{faint} fill="none"' + (
            f' stroke-width="{3 if text[0] == HEAVY else 1.2}"/>'
        )
        return
    weight = ' font-weight="bold"' if style.bold else ""
    yield (
        f'<text x="{x_px:.1f}" y="{y_px + 13.5:.1f}" textLength="{length_px:.1f}" '
        f'lengthAdjust="spacingAndGlyphs" fill="{ink}"{weight}{faint}>{escape(text)}</text>'
    )


def _frame_path(text: str, x_px: float, y_px: float) -> str:
    """Return the path of one frame character, or of a run of horizontal ones."""
    y_px += LINE_PX / 2
    if "l" in ARMS[text[0]] and "r" in ARMS[text[0]]:
        return f"M{x_px:.1f},{y_px:.1f}h{len(text) * CELL_PX:.1f}"
    x_px += CELL_PX / 2
    return "".join(
        f"M{x_px:.1f},{y_px:.1f}l{ENDS[arm][0] * CELL_PX:.1f},{ENDS[arm][1] * LINE_PX:.1f}"
        for arm in ARMS[text[0]]
    )


def _hex(colour: Color) -> str:
    return colour.get_truecolor(THEME).hex
