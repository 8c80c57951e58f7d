"""The HTML page of tools/report.py: one self-contained document, readable in light and dark, without scripts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

from . import VERSION
from .mined_html import STYLE as MINED_STYLE
from .mined_html import section as mined_section
from .mined_statistics import MinedStatistics
from .outputs import GENERATOR

STYLE = """
:root { color-scheme: light dark; --ink: #1c2026; --soft: #5d6673; --line: #dfe3e8; --page: #fbfbfa; --card: #fff;
  --right: #14733c; --right-back: #e2f3e8; --wrong: #6b7280; --wrong-back: #eef0f3; --missed: #8a5a00; --accent: #2757c4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #9aa3af; --line: #333a44; --page: #15181c; --card: #1d2127;
  --right: #7fd6a0; --right-back: #17382a; --wrong: #a7afba; --wrong-back: #2a3038; --missed: #e0b45c; --accent: #8fb0ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 12px; }
p { margin: 4px 0; } .soft { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; font-size: 13px; }
td.best { font-weight: 700; } tr.ours td { background: var(--right-back); }
td.words, th.words { text-align: left; white-space: normal; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(310px, 100%), 1fr)); gap: 12px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px; display: flex; gap: 12px; }
.card img { width: 64px; height: 64px; flex: none; background: #fff; border-radius: 6px; border: 1px solid var(--line); }
.card h3 { margin: 0 0 6px; font-size: 15px; overflow-wrap: anywhere; }
.tag { display: inline-block; border-radius: 4px; padding: 0 6px; margin: 0 4px 4px 0; font-size: 13px; }
.right { color: var(--right); background: var(--right-back); } .wrong { color: var(--wrong); background: var(--wrong-back); }
.missed { color: var(--missed); font-size: 12px; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg .axis { stroke: var(--line); }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 1.6; stroke-linejoin: round; }
footer { margin-top: 40px; }
"""
SETTINGS = (
    ("method", "train.method"),
    ("layers", "model.layers"),
    ("compute", "model.compute"),
    ("epochs", "train.epochs"),
    ("batch", "train.batch_size"),
    ("learning rate", "train.lr"),
    ("free vectors", "prototype.free_vectors"),
    ("pictures", "data.images"),
    ("seed", "train.seed"),
    ("device", "device"),
)


@dataclass
class Page:
    """What the page shows. rows, examples: as tools/report.py has them; best: largest value of each column."""

    title: str
    rows: list
    columns: tuple[str, ...]
    best: dict[str, float]
    log: list[dict[str, float]]
    settings: dict[str, str]
    examples: list
    depth: int
    seed: int
    mined: MinedStatistics | None = None


def render(page: Page) -> str:
    parts = [f"<h1>{escape(page.title)}</h1>", summary(page), "<h2>Metrics</h2>", table(page)]
    if len(page.log) >= 2:
        parts += ["<h2>Loss</h2>", loss_curve(page.log)]
    if page.examples:
        parts += ["<h2>Test queries</h2>", gallery(page)]
    if page.mined:
        parts.append(mined_section(page.mined, page.seed))
    style = STYLE + MINED_STYLE if page.mined else STYLE
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{GENERATOR} {VERSION}">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{escape(page.title)}</title><style>{style}</style></head>\n<body><main>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )


def summary(page: Page) -> str:
    shown = [(name, page.settings[key]) for name, key in SETTINGS if key in page.settings]
    metrics = page.rows[-1].metrics
    facts = [f"{int(metrics[key]):,} {name}" for key, name in (("queries", "test queries"), ("labels", "labels")) if key in metrics]
    text = ", ".join(facts)
    settings = ", ".join(f"{escape(name)} {escape(value)}" for name, value in shown)
    return f'<p>{escape(text)}</p><p class="soft">{settings}</p>'


def table(page: Page) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in page.columns)
    body = []
    for row in page.rows:
        cells = []
        for column in page.columns:
            value = row.metrics.get(column)
            mark = ' class="best"' if value is not None and value == page.best[column] else ""
            cells.append(f"<td{mark}>{'' if value is None else f'{value:.2f}'}</td>")
        ours = ' class="ours"' if row is page.rows[-1] else ""
        body.append(f"<tr{ours}><td>{escape(row.name)}</td>{''.join(cells)}</tr>")
    notes = "".join(f'<p class="soft">{escape(row.name)}: {escape(row.note)}.</p>' for row in page.rows if row.note)
    return (
        f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(body)}</table></div>'
        f'<p class="soft">Percent. P: precision, R: recall; PSP: propensity-scored precision, which counts rare labels more.</p>{notes}'
    )


def nice_step(span: float, ticks: int) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides `span` into about `ticks` parts."""
    raw = max(span, 1e-12) / ticks
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)


def loss_curve(log: list[dict[str, float]]) -> str:
    """Training loss over steps as an SVG, 1000 x 300 units."""
    width, height, left, bottom, top, right = 1000, 300, 60, 40, 16, 20
    steps = [line["step"] for line in log]
    losses = [line["loss"] for line in log]
    low, high = min(0.0, min(losses)), max(losses)
    high = high if high > low else low + 1.0
    x_span = max(steps[-1] - steps[0], 1)

    def x(step: float) -> float:
        return left + (step - steps[0]) / x_span * (width - left - right)

    def y(loss: float) -> float:
        return height - bottom - (loss - low) / (high - low) * (height - bottom - top)

    marks = []
    step = nice_step(high - low, 5)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        level = number * step
        marks.append(
            f'<line class="axis" x1="{left}" x2="{width - right}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>'
            f'<text x="{left - 8}" y="{y(level) + 4:.1f}" text-anchor="end">{level:g}</text>'
        )
    step = nice_step(x_span, 8)
    for number in range(math.ceil(steps[0] / step), math.floor(steps[-1] / step) + 1):
        marks.append(f'<text x="{x(number * step):.1f}" y="{height - bottom + 20}" text-anchor="middle">{number * step:g}</text>')
    points = " ".join(f"{x(s):.1f},{y(value):.1f}" for s, value in zip(steps, losses, strict=True))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="training loss by step">{"".join(marks)}'
        f'<polyline class="curve" points="{points}"/><text x="{width - right}" y="{height - 4}" text-anchor="end">step</text></svg>'
    )


def gallery(page: Page) -> str:
    right = sum(is_right for example in page.examples for _, is_right in example.predicted[:1])
    cards = "".join(card(example) for example in page.examples)
    return (
        f'<p class="soft">{len(page.examples)} queries drawn at random (seed {page.seed}), with the first {page.depth} labels predicted. '
        f'<span class="tag right">✓ right</span><span class="tag wrong">not among the true labels</span>'
        f'The first label is right for {right} of them.</p><div class="grid">{cards}</div>'
    )


def card(example: Any) -> str:
    picture = f'<img src="{example.picture}" alt="">' if example.picture else ""
    tags = "".join(
        f'<span class="tag {"right" if is_right else "wrong"}">{"✓ " if is_right else ""}{escape(label)}</span>'
        for label, is_right in example.predicted
    )
    shown = example.missed[:12]
    more = f" and {len(example.missed) - len(shown)} more" if len(example.missed) > len(shown) else ""
    missed = f'<div class="missed">also true: {escape(", ".join(shown))}{more}</div>' if shown else ""
    return f'<div class="card">{picture}<div><h3>{escape(example.text)}</h3>{tags}{missed}</div></div>'
