#!/usr/bin/env python3
"""Makes configs/DATASET_BACKBONE.ini, one a row of the paper's tables, from the small overlays in configs/overlays.

    tools/make_configs.py                               write them
    tools/make_configs.py --check                       exit code 1 when one is not what this would write
    tools/make_configs.py --plan-table docs/reproduce.md   put memory and hours of each, by `vixen plan`, into the page's table

A row is schedules/{encoder,decoder}.ini, then backbones/B.ini, then datasets/D.ini, then datasets/D.{encoder,decoder}.ini where there
is one; later values win. Every overlay is an INI file that the program reads as well. Its first line is its name; a backbone's
name is that of its folder in configs/models, which holds the architecture's numbers without weights.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from vixen_tools.errors import UserError, reading, run_tool
from vixen_tools.files import LineReader, read_json, write_text
from vixen_tools.outputs import claim_edit
from vixen_tools.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
OVERLAYS = CONFIGS / "overlays"
ENCODERS = ("bert", "distilbert")
# The sections of a made file, in the order of `vixen --help`.
SECTIONS = ("data", "model", "lora", "template", "train", "prototype", "cluster", "plan", "run")
MADE_BY = "Made by tools/make_configs.py"
TABLE_BEGIN, TABLE_END = "<!-- tools/make_configs.py --plan-table: begin -->", "<!-- end -->"
TABLE_HEAD = ["data set", "backbone", "text only", "with pictures", "configuration", "GB", "host GB", "activations", "hours"]


@dataclass
class Overlay:
    """An INI file: its comment lines at the top (the first is its name), and section -> key -> value."""

    comments: list[str] = field(default_factory=list)
    sections: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.comments[0]


def read_overlay(path: Path) -> Overlay:
    overlay, section = Overlay(), None
    for number, line in LineReader(path):
        line = line.strip()
        if line.startswith("#") and not overlay.sections:
            overlay.comments.append(line.lstrip("# "))
        elif heading := re.fullmatch(r"\[(\w+)\]", line):
            section = overlay.sections.setdefault(heading.group(1), {})
        elif assignment := re.fullmatch(r"(\w+)\s*=\s*(.*)", line):
            if section is None:
                raise UserError(f"{path}:{number}: found {assignment.group(1)}, expected a [section] first")
            section[assignment.group(1)] = assignment.group(2)
        elif line and not line.startswith("#"):
            raise UserError(f'{path}:{number}: found "{line}", expected key = value')
    if not overlay.comments:
        raise UserError(f"{path}: found no comment at the top, expected the name of the row there")
    return overlay


@dataclass
class Row:
    """One data set and backbone."""

    dataset: str
    backbone: str
    layers: list[Overlay]  # schedule, backbone, data set, and what the data set changes for this kind of backbone
    kind: str  # encoder | decoder

    @property
    def file(self) -> Path:
        return CONFIGS / f"{self.dataset}_{self.backbone}.ini"

    @property
    def model(self) -> Path:
        return CONFIGS / "models" / self.layers[1].name / "config.json"

    def text(self) -> str:
        schedule, backbone, dataset = self.layers[:3]
        merged: dict[str, dict[str, str]] = {}
        for overlay in self.layers:
            for section, values in overlay.sections.items():
                merged.setdefault(section, {}).update(values)
        if unknown := set(merged) - set(SECTIONS):
            raise UserError(f"{self.file.name}: section [{min(unknown)}] of an overlay has no place in tools/make_configs.py")
        lines = [
            f"# {dataset.name}, {backbone.name}. {MADE_BY} from configs/overlays: change those.",
            *(f"# {comment}" for comment in [*dataset.comments[1:], *schedule.comments, *backbone.comments[1:]]),
            f"# Give data.path, model.path (a {backbone.name} folder; "
            f"for vixen plan configs/models/{backbone.name}/config.json will do) and run.dir.",
        ]
        for section in SECTIONS:
            if section in merged:
                lines += [""] if section != "data" else []
                lines += [f"[{section}]", *(f"{key} = {value}" for key, value in merged[section].items())]
        return "\n".join(lines) + "\n"


def kind_of(model: Path) -> str:
    if not model.is_file():
        raise UserError(f"{model}: is not there; expected the architecture's numbers for the overlay that names it")
    with reading(model, "a model's config.json"):
        return "encoder" if read_json(model)["model_type"] in ENCODERS else "decoder"


def all_rows() -> list[Row]:
    datasets = sorted(path for path in (OVERLAYS / "datasets").glob("*.ini") if not re.search(r"\.(en|de)coder$", path.stem))
    backbones = sorted((OVERLAYS / "backbones").glob("*.ini"))
    schedules = {kind: read_overlay(OVERLAYS / f"schedules/{kind}.ini") for kind in ("encoder", "decoder")}
    rows = []
    for dataset in datasets:
        for backbone in backbones:
            row = Row(dataset.stem, backbone.stem, [Overlay(), read_overlay(backbone), read_overlay(dataset)], "")
            row.kind = kind_of(row.model)
            row.layers[0] = schedules[row.kind]
            own = dataset.with_name(f"{dataset.stem}.{row.kind}.ini")
            if own.exists():
                row.layers.append(read_overlay(own))
            rows.append(row)
    return rows


def stale_files(rows: list[Row]) -> list[str]:
    """What is not as it would be written, and made files whose overlays are gone."""
    found = [row.file.name for row in rows if not row.file.is_file() or row.file.read_text(encoding="utf-8") != row.text()]
    made = {row.file for row in rows}
    left = [path.name for path in CONFIGS.glob("*.ini") if path not in made and MADE_BY in path.read_text(encoding="utf-8")]
    return sorted(found + left)


def published() -> dict[tuple[str, str], tuple[str, str]]:
    """(data set, backbone) -> the paper's figures without and with pictures."""
    lines = (OVERLAYS / "published.tsv").read_text(encoding="utf-8").splitlines()[1:]
    with reading(OVERLAYS / "published.tsv", "a table of four columns"):
        return {(dataset, backbone): (text, pictures) for dataset, backbone, text, pictures in (line.split("\t") for line in lines)}


def default_binary() -> Path:
    for path in sorted((ROOT / "build").glob("*/src/vixen")):
        return path
    raise UserError("build/*/src/vixen: is not there; run launch/setup first, or give --binary")


def plan_of(binary: Path, row: Row) -> dict:
    """What `vixen plan` says about a row on one H100 of 80 GB."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "plan.json"
        command = [str(binary), "plan", "--config", str(row.file), "--model.path", str(row.model), "--plan.gpu", "h100", "--out", str(out)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise UserError(f"vixen plan of {row.file.name} ended with code {result.returncode}: {result.stderr.strip()}")
        return json.loads(out.read_text())


def plan_cells(plan: dict) -> list[str]:
    """GB of the GPU and of host memory, how the budget is kept, and hours, for the table."""
    chunks, recomputed = plan["choice"]["chunks"], plan["choice"]["recompute_layers"]
    ways = [f"{chunks} chunks"] * (chunks > 1) + [f"{recomputed} of {plan['layers']} layers recomputed"] * (recomputed > 0)
    device, host = (plan["memory"][key] / 1e9 for key in ("peak_bytes", "host_bytes"))
    hours = plan["time"]["hours"]
    return [
        f"{device:.0f}",
        f"{host:.2g}" if host > 0 else "",
        ", ".join(ways) or "all kept",
        f"{hours:.0f}" if hours >= 100 else f"{hours:.2g}",
    ]


def around_table(page: Path) -> tuple[str, str]:
    """The page's text up to its table and from the table's end on."""
    with reading(page, "a page of text"):
        text = page.read_text(encoding="utf-8")
    begin, end = text.find(TABLE_BEGIN), text.find(TABLE_END, text.find(TABLE_BEGIN))
    if begin < 0 or end < 0:
        raise UserError(f"{page}: found no table to replace, expected the lines {TABLE_BEGIN} and {TABLE_END}")
    return text[: begin + len(TABLE_BEGIN)], text[end:]


def write_plan_table(page: Path, binary: Path, rows: list[Row]) -> None:
    page = claim_edit(page, {"configs/overlays": OVERLAYS}, "--plan-table", 0)
    around_table(page)  # a page without one is known before the plans are made
    plans = []
    with ThreadPoolExecutor(2) as pool, Progress(page.name, len(rows), "plans") as progress:
        for plan in pool.map(lambda row: plan_of(binary, row), rows):
            plans.append(plan)
            progress.add()
    paper = published()
    lines = ["| " + " | ".join(TABLE_HEAD) + " |", "|" + "---|" * len(TABLE_HEAD)]
    for row, plan in zip(rows, plans, strict=True):
        figures = paper.get((row.dataset, row.backbone), ("", ""))
        cells = [row.layers[2].name, row.layers[1].name, *figures, f"`{row.file.name}`", *plan_cells(plan)]
        lines.append("| " + " | ".join(cells) + " |")
    before, after = around_table(page)  # read only now: the plans took a minute in which the page may have been edited
    write_text(page, before + "\n" + "\n".join(lines) + "\n" + after, edited=True)
    print(f"{page}: {len(rows)} rows", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a file is stale")
    parser.add_argument("--plan-table", type=Path, metavar="PAGE.md", help="replace the table of this page")
    parser.add_argument("--binary", type=Path, help="the vixen to plan with (default: build/*/src/vixen)")
    options = parser.parse_args()
    rows = all_rows()
    if options.check:
        stale = stale_files(rows)
        for name in stale:
            print(f"configs/{name}: not what tools/make_configs.py makes", file=sys.stderr)
        sys.exit(1 if stale else 0)
    if options.plan_table:
        write_plan_table(options.plan_table, options.binary or default_binary(), rows)
        return
    for row in rows:
        if row.file.exists() and MADE_BY not in row.file.read_text(encoding="utf-8"):
            raise UserError(f"{row.file}: exists and was not made by this tool: move it away, or rename its overlays")
    for row in rows:
        write_text(row.file, row.text(), edited=True)
    print(f"{CONFIGS}: {len(rows)} files", file=sys.stderr)


if __name__ == "__main__":
    run_tool(main)
