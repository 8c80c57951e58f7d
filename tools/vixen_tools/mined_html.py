"""The section of tools/report.py about mined negatives: lines for a terminal, and HTML without scripts."""

from __future__ import annotations

from html import escape

from .mined_statistics import CLOSE, COSINE, NEAR, SAME, Candidate, MinedExample, MinedStatistics, percent

MOST_POSITIVES = 12

STYLE = """
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 2px 10px; align-items: center; font-size: 13px;
  font-variant-numeric: tabular-nums; }
.bars .bar { background: var(--accent); height: 10px; border-radius: 2px; min-width: 1px; }
.bars .other { background: var(--wrong); height: 4px; border-radius: 2px; min-width: 1px; margin-top: 1px; }
.bars .count { text-align: right; color: var(--soft); }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(310px, 100%), 1fr)); gap: 24px; }
.panels h3, .mined h3 { font-size: 15px; margin: 12px 0 6px; }
.card .pictures { display: flex; flex-direction: column; gap: 6px; flex: none; }
.card ul { list-style: none; margin: 6px 0 0; padding: 0; font-size: 13px; }
.card li { margin: 2px 0; overflow-wrap: anywhere; } .card .score { color: var(--soft); font-variant-numeric: tabular-nums; }
.flag { color: var(--missed); border: 1px solid currentColor; border-radius: 4px; padding: 0 4px; font-size: 12px; white-space: nowrap; }
"""


def meanings(statistics: MinedStatistics) -> dict[str, str]:
    limits = statistics.thresholds
    words = {
        SAME: "reads like a relevant label or the query",
        NEAR: f"likeness of its text with that of a relevant label at least {limits.near:g} (trigrams of the words)",
        CLOSE: f"scores above {limits.close:g} times the query's weakest relevant label",
        COSINE: f"cosine of its embedding with that of a relevant label at least {limits.cosine:g}",
    }
    return {flag: text for flag, text in words.items() if flag in statistics.flagged}


def of_each(statistics: MinedStatistics) -> float:
    return statistics.negatives / max(statistics.queries, 1)


def terminal_summary(statistics: MinedStatistics) -> str:
    lines = [
        f"mined negatives: {statistics.source}",
        f"  {statistics.queries:,} {statistics.split} queries, {of_each(statistics):.2f} negatives each, "
        f"{percent(statistics.without, statistics.queries):.1f}% without any",
    ]
    if statistics.dropped:
        total = sum(statistics.dropped.values())
        shares = ", ".join(f"{rule} {percent(count, total):.1f}%" for rule, count in statistics.dropped.items())
        lines.append(f"  {total / max(statistics.queries, 1):.2f} dropped of each, of these: {shares}")
    flags = ", ".join(f"{flag} {statistics.share(flag):.2f}%" for flag in statistics.flagged)
    lines.append(
        f"  of {statistics.sampled_negatives:,} negatives looked at: {flags}; "
        f"any of these {percent(statistics.any_flag, statistics.sampled_negatives):.2f}%"
    )
    commonest = statistics.deciles[-1]
    lines.append(
        f"  the tenth of the commonest labels: {commonest.negatives:.1f}% of the negatives, {commonest.pairs:.1f}% of training pairs"
    )
    return "\n".join(lines)


def section(statistics: MinedStatistics, seed: int) -> str:
    parts = ['<div class="mined"><h2>Mined negatives</h2>', _facts(statistics), _flags(statistics), '<div class="panels">']
    if statistics.dropped:
        parts.append(_bars("Dropped, by rule", list(statistics.dropped.items())))
    if statistics.ranks:
        parts.append(_bars("Place in what the search found", statistics.ranks))
    if statistics.gaps:
        parts.append(_bars("Score less that of the weakest relevant label", statistics.gaps))
    parts += [_deciles(statistics), "</div>", _pairs(statistics), _examples(statistics, seed), "</div>"]
    return "\n".join(part for part in parts if part)


def _facts(statistics: MinedStatistics) -> str:
    depth = f" of the {statistics.depth} labels that the search looked at" if statistics.depth else ""
    return (
        f"<p>{statistics.queries:,} {escape(statistics.split)} queries, {of_each(statistics):.2f} negatives each{depth}; "
        f"{percent(statistics.without, statistics.queries):.1f}% of the queries have none.</p>"
        f'<p class="soft">{escape(statistics.source)}</p>'
    )


def _flags(statistics: MinedStatistics) -> str:
    rows = "".join(
        f'<tr><td>{_flag(flag)}</td><td>{statistics.share(flag):.2f}%</td><td class="words">{escape(meaning)}</td></tr>'
        for flag, meaning in meanings(statistics).items()
    )
    return (
        f"<h3>Likely to be relevant and unlabelled</h3>"
        f'<div class="scroll"><table><tr><th></th><th>negatives</th><th></th></tr>{rows}'
        f"<tr><td>any of these</td><td>{percent(statistics.any_flag, statistics.sampled_negatives):.2f}%</td><td></td></tr></table></div>"
        f'<p class="soft">Of {statistics.sampled_negatives:,} negatives of {statistics.sampled_queries:,} queries drawn at random.</p>'
    )


def _bars(title: str, counts: list[tuple[str, int]]) -> str:
    total, most = sum(count for _, count in counts), max((count for _, count in counts), default=0)
    rows = "".join(
        f'<span>{escape(name)}</span><span class="bar" style="width:{percent(count, most):.1f}%"></span>'
        f'<span class="count">{percent(count, total):.1f}%</span>'
        for name, count in counts
    )
    return f'<div><h3>{escape(title)}</h3><div class="bars">{rows}</div></div>'


def _deciles(statistics: MinedStatistics) -> str:
    most = max((max(decile.pairs, decile.negatives) for decile in statistics.deciles), default=0)
    rows = []
    for decile in statistics.deciles:
        span = f"{decile.least:,}" if decile.least == decile.most else f"{decile.least:,} - {decile.most:,}"
        rows.append(
            f'<span>{span}</span><span><span class="bar" style="display:block;width:{percent(decile.negatives, most):.1f}%"></span>'
            f'<span class="other" style="display:block;width:{percent(decile.pairs, most):.1f}%"></span></span>'
            f'<span class="count">{decile.negatives:.1f}% ({decile.pairs:.1f}%)</span>'
        )
    return (
        f'<div><h3>By how often a label is trained</h3><div class="bars">{"".join(rows)}</div>'
        f'<p class="soft">Tenths of the labels by training queries: share of the negatives (thin bar: of training pairs).</p></div>'
    )


def _pairs(statistics: MinedStatistics) -> str:
    if not statistics.pairs:
        return ""
    rows = "".join(
        f'<tr><td class="words">{escape(positive)}</td><td class="words">{escape(negative)}</td>'
        f'<td class="words">{" ".join(map(_flag, flags))}</td><td>{count:,}</td></tr>'
        for positive, negative, flags, count in statistics.pairs
    )
    return (
        f'<h3>Commonest pairs</h3><div class="scroll"><table><tr><th>relevant label</th><th class="words">negative</th>'
        f"<th></th><th>times</th></tr>{rows}</table></div>"
    )


def _flag(flag: str) -> str:
    return f'<span class="flag">{escape(flag)}</span>'


def _examples(statistics: MinedStatistics, seed: int) -> str:
    if not statistics.examples:
        return ""
    cards = "".join(map(_card, statistics.examples))
    return (
        f'<h3>Examples</h3><p class="soft">{len(statistics.examples)} queries drawn at random (seed {seed}), half of them with a mark. '
        f'<span class="tag right">relevant</span>, then the negatives, hardest first, with their scores.</p>'
        f'<div class="grid">{cards}</div>'
    )


def _score(score: float | None) -> str:
    return "" if score is None else f' <span class="score">{score:.3f}</span>'


def _card(example: MinedExample) -> str:
    pictures = "".join(f'<img src="{picture}" alt="">' for picture in example.pictures)
    pictures = f'<div class="pictures">{pictures}</div>' if pictures else ""
    shown = example.positives[:MOST_POSITIVES]
    tags = "".join(f'<span class="tag right">{escape(text)}{_score(score)}</span>' for text, score in shown)
    if len(example.positives) > len(shown):
        tags += f'<span class="missed">and {len(example.positives) - len(shown)} more</span>'
    negatives = "".join(map(_negative, example.negatives)) or '<li class="soft">no negative is left</li>'
    return f'<div class="card">{pictures}<div><h3>{escape(example.text)}</h3>{tags}<ul>{negatives}</ul></div></div>'


def _negative(negative: Candidate) -> str:
    flags = "".join(
        f' <span class="flag">{escape(flag)}{": " + escape(like) if like else ""}</span>' for flag, like in negative.flags.items()
    )
    return f"<li>{escape(negative.text)}{_score(negative.score)}{flags}</li>"
