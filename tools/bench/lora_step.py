#!/usr/bin/env python3
"""Seconds and memory of one LoRA training step: vixen against transformers + PEFT, on the same model, data, batch, precision and threads.

    tools/bench/lora_step.py --model MODEL --data DATA.h5 --layers 6 --batch-size 512 --out bench.json [-- OPTIONS OF vixen train]

PEFT's side is padded as the ViXML authors' code pads (peft_step.py), with eager attention, with gradient checkpointing as they have it
and without. Both sides compute the whole PRIME step: queries and labels, prototypes, loss, gradients, AdamW of adapters, prototype
network, picture projection and free vectors. Each runs in a process of its own, one after the other; the first step warms up.
Memory is the resident set: before the first step, and the most during the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from vixen_tools import VERSION  # noqa: E402
from vixen_tools.arguments import whole  # noqa: E402
from vixen_tools.errors import UserError, run_tool  # noqa: E402
from vixen_tools.files import write_text  # noqa: E402
from vixen_tools.outputs import claim  # noqa: E402
from vixen_tools.process_memory import memory_of, reset_peak  # noqa: E402
from vixen_tools.progress import waiting  # noqa: E402

COLUMNS = ["", "precision", "s/step", "queries/s", "times vixen", "positions", "GB before", "GB peak", "GB growth", "growth, times vixen"]
POLL_SECONDS, STOPPED = 0.005, 75


def lines_of(path: Path) -> list[dict]:
    """Of a metrics.jsonl that is being written the whole lines about steps."""
    text = path.read_text() if path.exists() else ""
    return [line for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines()) if "loss" in line]


def environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "1"}


def vixen_command(options: argparse.Namespace, precision: str, run: Path) -> list[str]:
    settings = {
        "data.path": options.data,
        "model.path": options.model,
        "model.layers": options.layers,
        "model.compute": precision,
        "run.dir": run,
        "run.log_every_steps": 1,
        "lora.rank": options.rank,
        "lora.alpha": options.rank,
        "train.batch_size": options.batch_size,
        "train.epochs": 100,
        "train.lr": 5e-5,
        "train.clip_norm": 1,
        "prototype.free_vectors": options.free_vectors,
        "prototype.init": "mean",
        "threads": options.threads,
    }
    return [str(options.binary), "train", *(word for key, value in settings.items() for word in (f"--{key}", str(value))), *options.vixen]


def measure_vixen(options: argparse.Namespace, precision: str) -> dict:
    """One step and a checkpoint in a first process, which also makes the first passes over queries and labels that PEFT's side has none of.
    A second process goes on from there until enough steps are logged: its memory is that of steps alone."""
    with tempfile.TemporaryDirectory() as folder:
        run, errors = Path(folder) / "run", Path(folder) / "stderr"
        log, command = run / "metrics.jsonl", vixen_command(options, precision, run)
        with open(errors, "w") as stderr:
            first = subprocess.Popen(
                [*command, "--run.stop_after_steps", "1"], stdout=subprocess.DEVNULL, stderr=stderr, env=environment(options.threads)
            )
            while first.poll() is None and not lines_of(log):
                time.sleep(POLL_SECONDS)
            whole = memory_of(first.pid).peak_bytes if first.poll() is None else 0
            if first.wait() != STOPPED:
                raise ended("vixen", first.returncode, errors.read_text())
            log.unlink()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment(options.threads))
        try:
            while not log.exists():  # opened right before the first step
                require_running(process, errors)
            before = reset_peak(process.pid)
            while len(lines := lines_of(log)) <= options.steps:
                require_running(process, errors)
            memory = memory_of(process.pid)
        finally:
            process.kill()  # TERM would make it save first
            process.wait()
    lines = lines[: options.steps + 1]
    return {
        "seconds": [line["seconds"]["step"] for line in lines[1:]],
        "losses": [line["loss"] for line in lines],
        "before_bytes": before,
        "peak_bytes": memory.peak_bytes,
        "first_passes_peak_bytes": whole,
        "positions": round(statistics.mean(line["tokens_per_s"] * line["seconds"]["step"] for line in lines)),
    }


def ended(command: str, code: int, errors: str) -> UserError:
    """What a process said last of why it ended."""
    lines = [line for line in errors.splitlines() if line.strip()]
    return UserError(f"{command}: ended with exit code {code}: {lines[-1] if lines else 'without a word'}")


def require_running(process: subprocess.Popen, errors: Path) -> None:
    if process.poll() is not None:
        raise ended("vixen", process.returncode, errors.read_text())
    time.sleep(POLL_SECONDS)


def measure_peft(options: argparse.Namespace, precision: str, checkpointing: bool) -> dict:
    command = [sys.executable, str(Path(__file__).with_name("peft_step.py")), "--precision", precision]
    for name in ("model", "data", "layers", "rank", "batch_size", "free_vectors", "steps", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    result = subprocess.run(
        [*command, *["--checkpointing"] * checkpointing], capture_output=True, text=True, env=environment(options.threads)
    )
    if result.returncode != 0:
        raise ended(" ".join(command), result.returncode, result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def row_of(report: dict, vixen: dict | None, batch_size: int) -> list[str]:
    seconds, growth = statistics.median(report["seconds"]), report["peak_bytes"] - report["before_bytes"]
    times = lambda value, reference: f"{value / reference:.2f}" if vixen else ""  # noqa: E731
    return [
        report["name"],
        report["precision"],
        f"{seconds:.2f}",
        f"{batch_size / seconds:.0f}",
        times(seconds, statistics.median(vixen["seconds"]) if vixen else 1),
        f"{report['positions']:,}",
        f"{report['before_bytes'] / 1e9:.2f}",
        f"{report['peak_bytes'] / 1e9:.2f}",
        f"{growth / 1e9:.2f}",
        times(growth, vixen["peak_bytes"] - vixen["before_bytes"] if vixen else 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder of a decoder")
    parser.add_argument("--data", type=Path, required=True, help="data set prepared with its tokenizer")
    parser.add_argument("--binary", type=Path, default=next(iter(sorted((ROOT / "build").glob("*/src/vixen"))), None))
    parser.add_argument("--layers", type=whole(0), default=6, help="first layers only; 0: all")
    parser.add_argument("--batch-size", type=whole(1), default=512)
    parser.add_argument("--rank", type=whole(0), default=64, help="of the adapters, and their alpha")
    parser.add_argument("--free-vectors", type=whole(1), default=16384)
    parser.add_argument("--steps", type=whole(1), default=3, help="measured, behind one that warms up")
    parser.add_argument("--threads", type=whole(1), default=2)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument(
        "--systems", nargs="+", choices=("vixen", "peft", "peft-checkpointing"), default=["vixen", "peft-checkpointing", "peft"]
    )
    parser.add_argument("--out", type=Path, help="the figures as JSON")
    parser.add_argument("vixen", nargs="*", metavar="-- OPTIONS", help="options of vixen train, behind --")
    options = parser.parse_args()
    if "vixen" in options.systems and options.binary is None:
        parser.error("build/*/src/vixen is not there: run launch/setup first, or give --binary")

    out = claim(options.out, {"--data": options.data, "--model": options.model}) if options.out else None
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    reports, remarks = [], []
    for precision in options.precisions:
        vixen = None
        for system in options.systems:
            with waiting(f"{system}, {precision}"):
                found = measure_vixen(options, precision) if system == "vixen" else measure_peft(options, precision, system != "peft")
            report = {
                "name": {"peft": "PEFT", "peft-checkpointing": "PEFT, checkpointing"}.get(system, system),
                "precision": precision,
                **found,
            }
            vixen = report if system == "vixen" else vixen
            reports.append(report)
            print("| " + " | ".join(row_of(report, vixen, options.batch_size)) + " |", flush=True)
            if system == "vixen":
                remarks.append(
                    f"vixen {precision}: first passes over all queries and labels, in a process of their own, "
                    f"{report['first_passes_peak_bytes'] / 1e9:.2f} GB at most"
                )
    print("".join(f"\n{remark}" for remark in remarks))
    if out:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items() if key != "out"}
        record = {"created_by": f"lora_step.py {VERSION}", "settings": settings, "results": reports}
        write_text(out, json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    run_tool(main)
