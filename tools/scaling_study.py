#!/usr/bin/env python3
"""A scaling study: models x ranks x batch sizes x seeds, planned, run here or as job arrays, resumed, and shown on one page.

    tools/scaling_study.py plan   GRID.toml --out runs/study      # hours and memory of every cell; cells that do not fit
    tools/scaling_study.py run    GRID.toml --out runs/study      # here, one cell after another; again: what is missing
    tools/scaling_study.py submit GRID.toml --out runs/study --sbatch "--gpus-per-node 8 --time 4:00:00"
    tools/scaling_study.py report GRID.toml --out runs/study      # of what is there: page.html, figures/*.png

GRID.toml (docs/scaling.md):

    data = "out/icontags.h5"
    configs = ["configs/quickstart.ini"]
    options = { "train.epochs" = 2 }                # of vixen train, for all cells

    [[model]]
    name = "3 layers"
    path = "out/models/all-MiniLM-L6-v2"
    options = { "model.layers" = 3 }

    [grid]
    ranks = [1, 2]
    batch = [256]
    seeds = [0, 1]

A cell is a run of `vixen train` in OUT/runs/NAME: stopped or killed, it goes on when the study does. One that fails is recorded and
stops no other; the next `run` tries it again. `submit` makes an array of slurm/array.sbatch for every number of ranks and leaves
out what is done.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vixen_tools import VERSION
from vixen_tools.errors import UserError, run_tool
from vixen_tools.files import publish, read_json, work_folder, write_text
from vixen_tools.machine import describe_machine
from vixen_tools.outputs import claim, claim_collection, claim_folder, write_marker
from vixen_tools.program import ROOT, default_binary, failure, mpi_environment, run_vixen
from vixen_tools.progress import waiting
from vixen_tools.result_lines import ResultLines
from vixen_tools.scaling_grid import Cell, Grid, read_grid
from vixen_tools.scaling_runs import Measured, is_done, read_run

TOOL = "scaling_study.py"
STOPPED_ON_REQUEST = 75


class Study:
    def __init__(self, options: argparse.Namespace, grid: Grid):
        self.options, self.grid = options, grid
        self.binary: Path = options.binary or default_binary()
        models = {cell.model.path for cell in grid.cells}
        named: dict[str, Iterable[str | Path]] = {"GRID": [grid.path], "data": [grid.data], "configs": grid.configs}
        named["path of a [[model]]"] = models
        inputs = {name: [Path(path) for path in paths] for name, paths in named.items()}
        self.out = claim_collection(options.out, inputs)
        self.out.mkdir(parents=True, exist_ok=True)
        self.runs = self.out / "runs"
        self.results = ResultLines(self.out / "results.jsonl", TOOL)
        self._planned: dict[tuple[str, int, int], dict[str, Any] | str] = {}
        self._plan_keys: set[str] | None = None

    def plan_words(self, cell: Cell) -> list[str]:
        """Options of a cell that `vixen plan` knows: it refuses what only a run reads."""
        if self._plan_keys is None:
            self._plan_keys = set(re.findall(r"^  (--[a-z_.]+) ", run_vixen(self.binary, "plan", "--help").stdout, re.MULTILINE))
        words = self.grid.words(cell)
        pairs = zip(words[::2], words[1::2], strict=True)
        return [word for key, value in pairs if key == "--config" or key in self._plan_keys for word in (key, value)]

    def plan(self, cell: Cell) -> dict[str, Any] | str:
        """What `vixen plan` says of a cell; a line where it does not fit."""
        key = (cell.model.name, cell.ranks, cell.batch)
        if key not in self._planned:
            with work_folder(self.out / "plan") as work:
                command = [str(self.binary), "plan", *self.plan_words(cell), "--plan.world_size", str(cell.ranks)]
                command += ["--plan.gpu", self.options.device, "--out", str(work / "plan.json")]
                done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
                if done.returncode == 0:
                    self._planned[key] = read_json(work / "plan.json")
                elif done.returncode == 2 and ("budget" in done.stderr or "free memory" in done.stderr):
                    self._planned[key] = str(failure(["plan"], 2, done.stderr)).partition("exit code 2: ")[2]
                else:
                    raise failure(command, done.returncode, done.stderr)
        return self._planned[key]

    def run_folder(self, cell: Cell) -> Path:
        return self.runs / cell.name

    def fitting(self) -> list[Cell]:
        return [cell for cell in self.grid.cells if not isinstance(self.plan(cell), str)]

    def print_plan(self) -> None:
        hours = 0.0
        print(f"{'cell':<40} {'GB a rank':>10} {'s a step':>9} {'hours':>7} {'rank hours':>11}")
        for cell in self.grid.cells:
            found = self.plan(cell)
            if isinstance(found, str):
                print(f"{cell.name:<40} does not fit: {found}")
                continue
            memory, times = found["memory"]["peak_bytes"] / 1e9, found["time"]
            done = " (done)" if is_done(self.run_folder(cell)) else ""
            hours += 0.0 if done else times["hours"] * cell.ranks
            own = times["hours"]
            print(f"{cell.name:<40} {memory:>10.2f} {times['step_seconds']:>9.3g} {own:>7.2f} {own * cell.ranks:>11.2f}{done}")
        print(f"to be run: {hours:.2f} rank hours, as planned")

    def run(self) -> int:
        """Trains what is missing, here. Returns how many cells failed."""
        failed = 0
        for cell in self.fitting():
            folder = self.run_folder(cell)
            if is_done(folder):
                continue
            command = [str(self.binary), "train", *self.grid.words(cell), "--train.seed", str(cell.seed), "--run.dir", str(folder)]
            if cell.ranks > 1:
                command = ["mpirun", "-n", str(cell.ranks), "--oversubscribe", *command]
            self.runs.mkdir(exist_ok=True)
            begin = time.monotonic()
            with waiting(cell.name):
                done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=mpi_environment())
            if done.returncode == STOPPED_ON_REQUEST:
                raise UserError(f"{cell.name}: stopped after saving: the same command goes on")
            why = "" if done.returncode == 0 else str(failure(["vixen train"], done.returncode, done.stderr))
            failed += bool(why)
            line = {"cell": cell.name, "seconds": round(time.monotonic() - begin, 1), "failed": why}
            self.results.add({**line, "machine": describe_machine(0)})
            took = f"{line['seconds']:.0f} s"
            print(f"{cell.name}: {why or took}", flush=True)
        return failed

    def submit(self) -> None:
        """An array a number of ranks, of the cells that are not done."""
        missing = [cell for cell in self.fitting() if not is_done(self.run_folder(cell))]
        if not missing:
            print("all cells are done: tools/scaling_study.py report shows them")
        for ranks in sorted({cell.ranks for cell in missing}):
            cells = [cell for cell in missing if cell.ranks == ranks]
            listed = self.out / f"cells-{ranks}.txt"
            lines = [shlex.join([cell.name, *self.grid.words(cell), "--train.seed", str(cell.seed)]) for cell in cells]
            text = f"# made by {TOOL} {VERSION}\n" + "".join(f"{line}\n" for line in lines)
            if listed.exists() and not listed.read_text(encoding="utf-8").startswith("# made by scaling_study.py"):
                raise UserError(f"{listed}: exists and was not made by vixen: remove it")
            write_text(listed, text, edited=listed.exists())
            words = ["sbatch", f"--array=1-{len(cells)}", *self.layout(ranks), *shlex.split(self.options.sbatch)]
            words += [str(ROOT / "slurm/array.sbatch"), str(listed), str(self.runs)]
            if self.options.dry_run:
                print(shlex.join(words))
                continue
            done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
            if done.returncode != 0:
                raise failure(words, done.returncode, done.stderr)
            print(f"{ranks} rank{'s' if ranks > 1 else ''}, {len(cells)} cells: {done.stdout.strip()}")

    def layout(self, ranks: int) -> list[str]:
        """Nodes and tasks of so many ranks."""
        a_node = min(ranks, self.options.ranks_per_node)
        if ranks % a_node:
            raise UserError(f"--ranks-per-node {self.options.ranks_per_node}: {ranks} ranks do not fill nodes of that many")
        return [f"--nodes={ranks // a_node}", f"--ntasks-per-node={a_node}"]

    def measured(self) -> list[Measured]:
        runs = []
        for cell in self.grid.cells:
            found = self.plan(cell)
            if not isinstance(found, str) and is_done(self.run_folder(cell)):
                runs.append(read_run(self.run_folder(cell), cell, found))
        return runs

    def report(self) -> None:
        from vixen_tools.scaling_page import ScalingPage, rates_of  # matplotlib takes a moment

        runs = self.measured()
        if not runs:
            raise UserError(f"{self.runs}: no finished run of this grid: tools/scaling_study.py run, or submit")
        done = {run.cell.name for run in runs}
        failed = {line["cell"]: line["failed"] for line in self.results.lines if line["failed"] and line["cell"] not in done}
        failed |= {cell.name: f"does not fit: {found}" for cell in self.grid.cells if isinstance(found := self.plan(cell), str)}
        title = self.options.title or f"Scaling study {self.grid.path.stem}"
        machine = self.options.machine or "; ".join(
            sorted({machine_text(line["machine"]) for line in self.results.lines if "machine" in line})
        )
        page = ScalingPage(title, runs, failed, machine, self.options.predict, self.options.metric)
        figures = claim_folder(self.out / "figures", {})
        html = claim(self.out / "page.html", {})
        with work_folder(figures) as work:
            made = work / "figures"
            made.mkdir()
            page.write_figures(made)
            write_marker(made, TOOL, "figures")
            text = page.html(made)
            publish(made, figures)
        write_text(html, text)
        if self.options.rates:
            bench = read_json(self.options.rates)
            if not isinstance(bench, dict) or not isinstance(bench.get("rates"), dict):
                raise UserError(f"--rates {self.options.rates}: found no rates, expected what `vixen bench --out FILE` writes")
            rates = {**bench["rates"], **rates_of(page.fit, runs)}
            write_text(
                claim(self.out / "rates.json", {"--rates": self.options.rates}),
                json.dumps({"created_by": f"{TOOL} {VERSION}", "rates": rates}, indent=1) + "\n",
            )
        widths = [max(len(row[column]) for row in page.table()) for column in range(len(page.table()[0]))]
        for row in page.table():
            print(
                "  ".join(
                    text.rjust(width) if column else text.ljust(width) for column, (text, width) in enumerate(zip(row, widths, strict=True))
                )
            )
        print("\n".join(page.sentences()))
        print(f"{html}: {len(runs)} of {len(self.grid.cells)} cells")


def machine_text(machine: dict[str, Any]) -> str:
    best = next((name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd") if name in machine["instructions"]), "")
    return f"{machine['cpu']}, {machine['cores']} cores{f' ({best})' if best else ''}, {machine['memory_gb']} GB"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("plan", "run", "submit", "report"))
    parser.add_argument("grid", type=Path, metavar="GRID.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--device", default="cpu", help="what plans are for: cpu, h100, h200, a100-80, a100-40 (default: cpu)")
    parser.add_argument("--sbatch", default="", help="submit: options of sbatch, in one word")
    parser.add_argument("--ranks-per-node", type=int, default=8, help="submit: most ranks of a node (default 8)")
    parser.add_argument("--dry-run", action="store_true", help="submit: print the commands alone")
    parser.add_argument("--predict", type=int, nargs="*", default=[4, 8, 16], help="report: ranks that were not run (default: 4 8 16)")
    parser.add_argument("--metric", default="P@1", help="report: the accuracy that is shown over time and size (default P@1)")
    parser.add_argument("--rates", type=Path, help="report: a file of `vixen bench --out`; OUT/rates.json is that with what was fitted")
    parser.add_argument("--title", default="", help="report: heading of the page")
    parser.add_argument("--machine", default="", help="report: what it ran on, where that is not in OUT/results.jsonl")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    study = Study(options, read_grid(options.grid))
    if options.action == "plan":
        study.print_plan()
    elif options.action == "run":
        return 1 if study.run() else 0
    elif options.action == "submit":
        study.submit()
    else:
        study.report()
    return 0


if __name__ == "__main__":
    run_tool(main)
