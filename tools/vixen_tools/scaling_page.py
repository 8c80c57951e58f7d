"""Figures and page of a scaling study."""

from __future__ import annotations

import base64
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from . import VERSION
from .outputs import GENERATOR
from .report_html import STYLE
from .scaling_fit import PowerLaw, StepModel, StepSample, fit_power_law, fit_steps, interval
from .scaling_runs import Measured

COLUMNS = ("P@1", "P@5", "PSP@1", "R@100")
COMMUNICATION = ("all-gather of embeddings", "reduce-scatter of their gradients", "all-reduce of gradients")
COLOURS = plt.rcParams["axes.prop_cycle"].by_key()["color"]
Draw = Callable[[Any], None]


def step_sample(run: Measured) -> StepSample:
    times, device = run.plan["time"], run.plan["device"]
    moved = sum(times["step"].get(part, 0.0) for part in COMMUNICATION) * device["all_reduce_bytes_per_s"]
    flops = times["flops_per_step"] + times["repeated_flops_per_step"]
    return StepSample(run.cell.model.name, run.cell.ranks, run.step_seconds, flops, moved)


def grouped(runs: Iterable[Measured], key: Callable[[Measured], Any]) -> dict[Any, list[Measured]]:
    groups: dict[Any, list[Measured]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return dict(groups)


def mean_of(runs: Sequence[Measured], value: Callable[[Measured], float]) -> float:
    return statistics.fmean(value(run) for run in runs)


def spread_text(values: Sequence[float], digits: int = 2) -> str:
    """ "1.23 ±0.04": mean and standard deviation."""
    text = f"{statistics.fmean(values):.{digits}f}"
    return text + (f" ±{statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def efficiencies(runs: Sequence[Measured], weak: bool) -> dict[str, list[tuple[int, float]]]:
    """Of every model (and batch; weak: batch of a rank) (ranks, share of ideal throughput), where one rank was measured."""
    found: dict[str, list[tuple[int, float]]] = {}
    of_cell = grouped(runs, lambda run: (run.cell.model.name, run.cell.batch, run.cell.ranks))
    for (model, batch, ranks), group in sorted(of_cell.items()):
        if weak and batch % ranks:
            continue
        own = batch // ranks if weak else batch
        alone = of_cell.get((model, own, 1))
        if alone is None:
            continue
        rate = mean_of(group, lambda run: run.queries_per_s) / (ranks * mean_of(alone, lambda run: run.queries_per_s))
        found.setdefault(f"{model}, {own}{' a rank' if weak else ''}", []).append((ranks, rate))
    return {name: points for name, points in found.items() if len(points) > 1}


def draw_efficiency(points: dict[str, list[tuple[int, float]]], title: str) -> Draw:
    def draw(axes: Any) -> None:
        for name, line in points.items():
            axes.plot([ranks for ranks, _ in line], [100 * share for _, share in line], marker="o", label=name)
        axes.axhline(100, color="grey", linewidth=1, linestyle=":")
        axes.set(title=title, xlabel="ranks", ylabel="% of ideal", ylim=(0, None))
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({ranks for line in points.values() for ranks, _ in line}))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.legend(fontsize=8)

    return draw


def draw_time_to_accuracy(runs: Sequence[Measured], metric: str) -> Draw:
    def draw(axes: Any) -> None:
        for colour, (name, group) in zip(
            COLOURS * 9, grouped(runs, lambda run: (run.cell.model.name, run.cell.ranks)).items(), strict=False
        ):
            for number, run in enumerate(group):
                line = [(when, found[metric]) for when, found in run.evaluations if metric in found]
                label = f"{name[0]}, {name[1]} rank{'s' if name[1] > 1 else ''}" if number == 0 else None
                axes.plot(*zip(*line, strict=True), marker="o", markersize=4, color=colour, label=label)
        axes.set(title=f"{metric} by seconds of training", xlabel="s", ylabel=metric)
        axes.legend(fontsize=8)

    return draw


def draw_throughput(runs: Sequence[Measured]) -> Draw:
    def draw(axes: Any) -> None:
        for (model, batch), group in grouped(runs, lambda run: (run.cell.model.name, run.cell.batch)).items():
            by_ranks = sorted(grouped(group, lambda run: run.cell.ranks).items())
            rates = [mean_of(same, lambda run: run.queries_per_s) for _, same in by_ranks]
            axes.plot([ranks for ranks, _ in by_ranks], rates, marker="o", label=f"{model}, batch {batch}")
        axes.set(title="Throughput", xlabel="ranks", ylabel="queries/s", ylim=(0, None))
        axes.set_xticks(sorted({run.cell.ranks for run in runs}))
        axes.legend(fontsize=8)

    return draw


def draw_memory(runs: Sequence[Measured]) -> Draw:
    def draw(axes: Any) -> None:
        planned = [run.plan["memory"]["peak_bytes"] / 1e9 for run in runs]
        measured = [run.memory_bytes / 1e9 for run in runs]
        axes.scatter(planned, measured, s=18)
        top = 1.08 * max(planned + measured)
        axes.plot([0, top], [0, top], color="grey", linewidth=1, linestyle=":")
        axes.set(title="Memory of a rank, GB", xlabel="planned", ylabel="measured", xlim=(0, top), ylim=(0, top))

    return draw


def short(value: float) -> str:
    return f"{value / 1e6:.3g}M" if value >= 1e6 else f"{value:.3g}"


def plain_below_a_decade(axis: Any, values: Sequence[float]) -> None:
    """Some plain numbers on a logarithmic axis where powers of ten would be none or overlap."""
    if max(values) < 10 * min(values):
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.set_minor_formatter(NullFormatter())


def draw_law(x: Sequence[float], y: Sequence[float], law: PowerLaw | str, title: str, x_label: str, y_label: str) -> Draw:
    def draw(axes: Any) -> None:
        axes.scatter(x, y, s=18)
        if isinstance(law, PowerLaw):
            ends = [min(x), max(x)]
            label = f"x^{law.exponent:.3f} ({law.low:.3f} to {law.high:.3f})"
            axes.plot(ends, [law.scale * value**law.exponent for value in ends], linewidth=1, label=label)
            axes.legend(fontsize=8)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        if min(x) > 0 and min(y) > 0:
            axes.set_xscale("log")
            axes.set_yscale("log")
            for axis, values in ((axes.xaxis, x), (axes.yaxis, y)):
                plain_below_a_decade(axis, values)

    return draw


class ScalingPage:
    """Of finished runs: a table, figures, fits and what the fits predict of `predict` ranks."""

    def __init__(self, title: str, runs: Sequence[Measured], failed: dict[str, str], machine: str, predict: Sequence[int], metric: str):
        self.title, self.runs, self.failed, self.machine, self.metric = title, runs, failed, machine, metric
        self.fit = fit_steps([step_sample(run) for run in runs])
        self.predictions = self._predict(predict)
        self.figures = self._figures()

    def _predict(self, ranks: Sequence[int]) -> list[tuple[str, int, int, float, float, float]]:
        """(model, batch, ranks, seconds a step, low, high) of ranks that were not run."""
        if isinstance(self.fit, str):
            return []
        model, resampled = self.fit
        rows = []
        for (name, batch), group in grouped(self.runs, lambda run: (run.cell.model.name, run.cell.batch)).items():
            base = min(group, key=lambda run: run.cell.ranks)
            own, most = step_sample(base), max(group, key=lambda run: run.cell.ranks)
            sent = step_sample(most)
            for count in ranks:
                if count in {run.cell.ranks for run in group} or batch < count:
                    continue
                flops = own.flops * own.ranks / count
                share = (count - 1) / count  # of a ring
                moved = sent.bytes / ((sent.ranks - 1) / sent.ranks) * share if sent.ranks > 1 else 0.0
                drawn = [one.seconds(name, count, flops, moved) for one in resampled]
                rows.append((name, batch, count, model.seconds(name, count, flops, moved), *interval(drawn)))
        return rows

    def _figures(self) -> dict[str, Draw]:
        runs, metric = self.runs, self.metric
        figures = {"time-to-accuracy": draw_time_to_accuracy(runs, metric), "throughput": draw_throughput(runs)}
        for name, weak in (("strong", False), ("weak", True)):
            if points := efficiencies(runs, weak):
                figures[f"{name}-scaling"] = draw_efficiency(points, f"{name.capitalize()} scaling")
        figures["memory"] = draw_memory(runs)
        parameters = [float(run.plan["trained_elements"]) for run in runs]
        hours = [run.rank_hours for run in runs]
        error = [max(1e-9, 100 - run.metrics[metric]) for run in runs]
        self.laws = {"parameters": fit_power_law(parameters, error), "rank hours": fit_power_law(hours, error)}
        y_label = f"100 - {metric}"
        figures["error-by-parameters"] = draw_law(
            parameters, error, self.laws["parameters"], "Error by trained parameters", "parameters", y_label
        )
        figures["error-by-hours"] = draw_law(hours, error, self.laws["rank hours"], "Error by rank hours", "ranks x hours", y_label)
        return figures

    def write_figures(self, folder: Path) -> None:
        for name, draw in self.figures.items():
            figure, axes = plt.subplots(figsize=(5.4, 3.6), dpi=110)
            draw(axes)
            axes.grid(alpha=0.25)
            figure.tight_layout()
            figure.savefig(folder / f"{name}.png", metadata={"Software": f"vixen scaling_study.py {VERSION}"})
            plt.close(figure)

    def table(self) -> list[list[str]]:
        """Rows of text, the head first: means over seeds and, behind ±, standard deviations."""
        head = ["model", "ranks", "batch", "seeds", "s a step", "queries/s", "s", "GB (planned)", *COLUMNS]
        rows = [head]
        key = lambda run: (run.cell.model.name, run.cell.batch, run.cell.ranks)  # noqa: E731
        for (model, batch, ranks), group in grouped(self.runs, key).items():
            row = [model, str(ranks), str(batch), str(len(group)), f"{mean_of(group, lambda run: run.step_seconds):.3g}"]
            row += [f"{mean_of(group, lambda run: run.queries_per_s):.0f}", spread_text([run.seconds for run in group], 0)]
            held, planned = max(run.memory_bytes for run in group), group[0].plan["memory"]["peak_bytes"]
            row.append(f"{held / 1e9:.2f} ({planned / 1e9:.2f})")
            row += [spread_text([run.metrics[column] for run in group]) for column in COLUMNS]
            rows.append(row)
        return rows

    def sentences(self) -> list[str]:
        """What the fits say, in words."""
        lines = []
        if isinstance(self.fit, str):
            lines.append(f"Step times by FLOPs, messages and bytes: {self.fit}.")
        else:
            model, resampled = self.fit
            rates = ", ".join(f"{name} {rate / 1e9:.1f} GFLOP/s" for name, rate in model.rates.items())
            links = "no time goes by bytes" if math.isinf(model.bandwidth) else f"{model.bandwidth / 1e9:.2f} GB/s"
            low, high = interval([1e3 * one.latency for one in resampled])
            wait = f"{1e3 * model.latency:.2f} ms ({low:.2f} to {high:.2f})"
            lines.append(f"Step times: {rates} a rank; {wait} a doubling of ranks; {links} between them.")
        for name, law in self.laws.items():
            if isinstance(law, PowerLaw):
                lines.append(
                    f"100 - {self.metric} goes as {name} to the {law.exponent:.3f} (90% interval {law.low:.3f} to {law.high:.3f})."
                )
            else:
                lines.append(f"100 - {self.metric} by {name}: {law}.")
        return lines

    def html(self, figures: Path) -> str:
        def cells(tag: str, row: Sequence[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in row) + "</tr>"

        def table(rows: Sequence[Sequence[str]]) -> str:
            body = cells("th", rows[0]) + "".join(cells("td", row) for row in rows[1:])
            return f'<div class="scroll" style="font-size:.8rem"><table style="font-size:inherit">{body}</table></div>'

        pictures = "".join(
            f'<img alt="{name}" style="width:100%;background:#fff;border-radius:8px" '
            f'src="data:image/png;base64,{base64.b64encode((figures / f"{name}.png").read_bytes()).decode()}">'
            for name in self.figures
        )
        parts = [f"<h1>{escape(self.title)}</h1>", f'<p class="soft">{escape(self.machine)}</p>', table(self.table())]
        parts += [f"<p>{escape(line)}</p>" for line in self.sentences()]
        if self.predictions:
            head = ["model", "batch", "ranks", "s a step", "90% interval", "queries/s"]
            rows = [
                [name, str(batch), str(ranks), f"{seconds:.3g}", f"{low:.3g} to {high:.3g}", f"{batch / seconds:.0f}"]
                for name, batch, ranks, seconds, low, high in self.predictions
            ]
            parts += ["<h2>Predicted</h2>", table([head, *rows])]
        if self.failed:
            parts += ["<h2>Failed</h2>", table([["cell", "why"], *([name, why] for name, why in self.failed.items())])]
        parts += [
            "<h2>Figures</h2>",
            f'<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:12px">{pictures}</div>',
        ]
        parts.append(f'<footer class="soft">scaling_study.py {VERSION}. Means over seeds; behind ± standard deviations.</footer>')
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{GENERATOR} scaling_study.py {VERSION}">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head>"
            f"<body><main>{''.join(parts)}</main></body></html>\n"
        )


def rates_of(fit: tuple[StepModel, list[StepModel]] | str, runs: Sequence[Measured]) -> dict[str, float]:
    """What a fit knows of the rates that `vixen plan --plan.rates` reads; empty where nothing was fitted."""
    if isinstance(fit, str):
        return {}
    model = fit[0]
    peak, memory = (runs[0].plan["device"][key] for key in ("peak_flops_per_s", "memory_bytes_per_s"))
    shares = []
    for run in runs:
        times = run.plan["time"]
        flops = times["flops_per_step"] + times["repeated_flops_per_step"]
        # As the plan has it: products, and what is read and written between them.
        products = flops / model.rates[run.cell.model.name] - times["traffic_bytes_per_step"] / memory
        shares.append(min(1.0, flops / peak / products) if products > 0 else 1.0)
    precision = "bf16" if runs[0].compute == "bf16" else "fp32"
    rates = {f"products_share_{precision}": statistics.fmean(shares)}
    if math.isfinite(model.bandwidth):
        rates["all_reduce_bytes_per_s"] = model.bandwidth
    return rates
