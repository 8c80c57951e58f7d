"""Small multiples as one SVG file: a grid of panels with lines and points over seconds, readable on light and dark pages."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape

from . import VERSION
from .outputs import SVG_GENERATOR
from .report_html import nice_step

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 330, 230, 40, 12, 28, 34
LEGEND_ROW, LEGEND_WIDTH = 20, 250
COLOURS = ("#2757c4", "#c2410c", "#14733c", "#8a5a00", "#7c3aed", "#0e7490", "#be185d", "#64748b", "#4d7c0f")
STYLE = """text { font: 12px system-ui, sans-serif; fill: #5d6673; } .title { font-weight: 600; fill: #1c2026; }
.axis { stroke: #dfe3e8; } .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
@media (prefers-color-scheme: dark) { text { fill: #9aa3af; } .title { fill: #e7e9ec; } .axis { stroke: #333a44; } }"""


@dataclass
class Panel:
    """points: (seconds, value) by the series' name; 0 seconds stands at the left edge."""

    title: str
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def render_plot(panels: list[list[Panel]], label: str) -> str:
    """The panels row by row. Seconds are on a logarithmic axis from the least that is not 0; every row of a legend names series."""
    names = list(dict.fromkeys(name for row in panels for panel in row for name in panel.points))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    columns = max(map(len, panels))
    width, in_row = columns * WIDTH, max(1, columns * WIDTH // LEGEND_WIDTH)
    legend_height = LEGEND_ROW * math.ceil(len(names) / in_row) + 10
    height = len(panels) * HEIGHT + legend_height
    parts = [_panel(panel, colours, j * WIDTH, i * HEIGHT) for i, row in enumerate(panels) for j, panel in enumerate(row)]
    for i, name in enumerate(names):
        x, y = 10 + i % in_row * LEGEND_WIDTH, len(panels) * HEIGHT + LEGEND_ROW * (i // in_row) + 14
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colours[name]}"/><text x="{x + 10}" y="{y}">{escape(name)}</text>')
    return (
        f'{SVG_GENERATOR} {VERSION}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}"><style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, colours: dict[str, str], left: int, top: int) -> str:
    points = [point for series in panel.points.values() for point in series]
    timed = [seconds for seconds, _ in points if seconds > 0]
    low_x, high_x = (min(timed), max(timed)) if timed else (1.0, 10.0)
    low_x, high_x = math.log(low_x / 1.3), math.log(high_x * 1.1)
    values = [value for _, value in points] or [0.0, 1.0]
    span = max(max(values) - min(values), 1.0)
    low, high = max(0.0, min(values) - 0.08 * span), max(values) + 0.08 * span

    def x(seconds: float) -> float:
        place = 0.0 if seconds <= 0 else (math.log(seconds) - low_x) / (high_x - low_x)
        return left + LEFT + place * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return top + HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text class="title" x="{left + LEFT}" y="{top + 16}">{escape(panel.title)}</text>']
    step = nice_step(high - low, 4)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        level = y(number * step)
        parts.append(
            f'<line class="axis" x1="{left + LEFT}" x2="{left + WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}"/>'
            f'<text x="{left + LEFT - 5}" y="{level + 4:.1f}" text-anchor="end">{number * step:g}</text>'
        )
    bottom = top + HEIGHT - BOTTOM + 16
    for seconds in (0, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600):
        if seconds == 0 or low_x <= math.log(seconds) <= high_x:
            parts.append(f'<text x="{x(seconds):.1f}" y="{bottom}" text-anchor="middle">{seconds}{" s" if seconds == 0 else ""}</text>')
    for name, series in panel.points.items():
        places = sorted((x(seconds), y(value)) for seconds, value in series)
        if len(places) > 1:
            line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
            parts.append(f'<polyline class="line" stroke="{colours[name]}" points="{line}"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colours[name]}"/>' for a, b in places]
    return "".join(parts)
