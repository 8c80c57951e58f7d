#!/usr/bin/env python3
"""Everything about a GPU that tests on machines without one cannot say, in ten minutes: right numbers, then rates.

    tests/gpu/run_all                        # on a card, from a checkout with a build (ninja -C build/cuda bundle_parts)
    vixen/run_all                            # the same of a bundle (tools/make_bundle.py)
    tests/gpu/run_all --device cpu           # the same list without a card: sizes that a CPU can do, and what it skips

Runs the steps of one table, each within its own time; a step that fails does not end the others. Writes DEVICE-DATE.json and .md
(docs/measurements/README.md says what is in them). The last line says how many steps passed, failed and were skipped. Exit code: 1 when one
failed, 2 when nothing could run. Needs the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IN_BUNDLE = (ROOT / "bundle.json").is_file()
KEPT_LINES = 30  # of a step that fails


class Failed(Exception):
    """What a step found wrong, in a line."""


class Skipped(Exception):
    """Why a step has nothing to do here."""


@dataclass(frozen=True)
class Model:
    """A model with random weights, of a real one's shape, and the batch that its step is timed at."""

    name: str
    kind: str  # of gpu_bench_inputs
    shape: tuple[int, ...]
    batch: int
    labels: int
    scaled: str = ""  # what is smaller than in the real one
    goal: str = ""
    options: tuple[str, ...] = ()


RECORDED = ("--train.graph_positions", "512")
ADAPTERS = ("--lora.rank", "256", "--lora.alpha", "256", "--lora.scale", "rslora", "--lora.modules", "q,k,v,o,gate,up,down")
#: width, layers, heads, (key-value heads,) feed-forward, vocabulary
MODELS = {
    "cuda": (
        Model("MiniLM-L3", "bert", (384, 3, 12, 1536, 30522), 2048, 8192, goal="60 steps/s"),
        Model("MiniLM-L3 at batch 256", "bert", (384, 3, 12, 1536, 30522), 256, 8192),
        Model("MiniLM-L3 at batch 256, recorded", "bert", (384, 3, 12, 1536, 30522), 256, 8192, options=RECORDED),
        Model("DistilBERT", "bert", (768, 6, 12, 3072, 30522), 2048, 8192, goal="0.08 s"),
        Model("Qwen2.5-0.5B", "qwen2", (896, 24, 14, 2, 4864, 151936), 2048, 8192, goal="0.50 s", options=ADAPTERS),
        Model("Qwen2.5-1.5B", "qwen2", (1536, 28, 12, 2, 8960, 151936), 2048, 8192, options=ADAPTERS),
        Model("Qwen2.5-3B", "qwen2", (2048, 36, 16, 2, 11008, 151936), 2048, 8192, goal="3.3 s", options=ADAPTERS),
    ),
    "cpu": (
        Model("MiniLM-L3", "bert", (384, 3, 12, 1536, 30522), 64, 256, "batch 64 of 2048"),
        Model("MiniLM-L3 at batch 256", "bert", (384, 3, 12, 1536, 30522), 16, 64, "batch 16 of 256"),
        Model("MiniLM-L3 at batch 256, recorded", "bert", (384, 3, 12, 1536, 30522), 16, 64, "batch 16 of 256", "", RECORDED),
        Model("DistilBERT", "bert", (768, 6, 12, 3072, 30522), 8, 32, "batch 8 of 2048"),
        Model(
            "Qwen2.5-0.5B",
            "qwen2",
            (896, 2, 14, 2, 4864, 8192),
            8,
            32,
            "batch 8 of 2048, 2 of 24 layers, 8,192 of 151,936 tokens",
            "",
            ADAPTERS,
        ),
        Model(
            "Qwen2.5-1.5B",
            "qwen2",
            (1536, 1, 12, 2, 8960, 8192),
            4,
            16,
            "batch 4 of 2048, 1 of 28 layers, 8,192 of 151,936 tokens",
            "",
            ADAPTERS,
        ),
        Model(
            "Qwen2.5-3B",
            "qwen2",
            (2048, 1, 16, 2, 11008, 8192),
            4,
            16,
            "batch 4 of 2048, 1 of 36 layers, 8,192 of 151,936 tokens",
            "",
            ADAPTERS,
        ),
    ),
}
SEARCH_ROWS = {"cuda": (131_072, 1_300_000), "cpu": (131_072, 393_216)}
CLUSTERED_LABELS = {"cuda": 131_072, "cpu": 4_096}
COLUMNS, QUERIES, K = 768, 2048, 100


@dataclass
class Result:
    step: str
    outcome: str  # passed, failed, skipped
    seconds: float = 0.0
    remark: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)  # the last lines of what failed


class Kit:
    """Where the programs are, and what the step at work may use of the time."""

    def __init__(self, device: str, work: Path):
        self.device = device
        self.work = work
        if IN_BUNDLE:
            self.vixen, self.tests = ROOT / "bin/vixen", ROOT / "bin"
            self.mpirun: str | None = str(ROOT / "bin/mpirun")
        else:
            build = next(
                (path for path in (ROOT / "build/cuda", ROOT / "build/cpu") if (path / "src/vixen").is_file()), ROOT / "build/cuda"
            )
            self.vixen, self.tests = build / "src/vixen", build / "tests"
            self.mpirun = shutil.which("mpirun")
        self.environment = {**self._mpi_environment(), **os.environ, "VIXEN_TEST_DEVICE": device}
        self.environment["VIXEN_GOLDENS"] = str(ROOT / "tests/parity/goldens")
        self.rates: dict[str, float] = {}
        self.ends_at = 0.0
        self.last_output: list[str] = []

    @staticmethod
    def _mpi_environment() -> dict[str, str]:
        lines = (ROOT / "launch/mpi.env").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def run(self, *command: object, allowed: Sequence[int] = (0,)) -> str:
        """What a command prints, both streams. Failed where it ends otherwise or takes longer than the step has."""
        words = [str(word) for word in command]
        self.last_output = [f"$ {' '.join(words)}"]
        # A group of its own: mpirun's children go with it.
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True
        ) as process:
            try:
                output = process.communicate(timeout=max(0.1, self.ends_at - time.monotonic()))[0]
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output = process.communicate()[0]
                self.last_output += text_of(output).splitlines()
                raise Failed("did not end within its time") from None
        text = text_of(output)
        self.last_output += text.splitlines()
        if process.returncode not in allowed:
            last = next((line for line in reversed(text.splitlines()) if line.strip()), "without a word")
            raise Failed(f"exit code {process.returncode}: {last[:200]}")
        return text

    def test_program(self, name: str) -> Path:
        path = self.tests / name
        if not path.is_file():
            raise Skipped(f"{name} is not built here")
        return path

    def json_of(self, *words: object) -> dict[str, Any]:
        """The report of a command of the program."""
        out = self.work / "report.json"
        out.unlink(missing_ok=True)
        self.run(self.vixen, *words, "--device", self.device, "--out", out)
        report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return report

    def needs_gpu(self, why: str) -> None:
        if self.device != "cuda":
            raise Skipped(f"no GPU: {why}")


def text_of(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", errors="replace").replace("\r", "\n")


def first_line(*command: str) -> str:
    """Of what a command prints; empty where it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def cpu_name() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^(?:model name|CPU part)\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def gpu_name() -> str:
    return first_line("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def gpu_count() -> int:
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines()) if done.returncode == 0 else 0


# ---- the steps: each returns a remark and its figures, or raises Failed or Skipped.

Outcome = tuple[str, dict[str, Any]]


def machine(kit: Kit) -> Outcome:
    figures: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "vixen": kit.run(kit.vixen, "--version").strip(),
        "from": "bundle" if IN_BUNDLE else "checkout",
    }
    query = "name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.mem,ecc.mode.current,mig.mode.current"
    if gpu := first_line("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"):
        figures["gpu"] = dict(zip(query.split(","), map(str.strip, gpu.split(",")), strict=False))
        figures["gpus"] = gpu_count()
    if kit.device == "cuda" and not figures.get("gpus"):
        raise Failed("nvidia-smi lists no GPU: give --device cpu, or mend the driver")
    return f"{figures['vixen']}; {figures.get('gpu', {}).get('name') or figures['cpu']}", figures


def doctor(kit: Kit) -> Outcome:
    out = kit.work / "doctor.json"
    kit.run(kit.vixen, "doctor", "--device", kit.device, "--doctor.dir", kit.work, "--out", out, allowed=(0, 1))
    report = json.loads(out.read_text(encoding="utf-8"))
    findings = [finding for part in report["parts"] for finding in part["findings"]]
    if report["wrong"]:
        wrong = [f"{finding['what']}: {finding['found']}" for finding in findings if finding["health"] == "WRONG"]
        raise Failed("; ".join(wrong)[:400] or f"{report['wrong']} wrong")
    return f"{len(findings)} findings, none wrong, {report['notes']} to note", {"notes": report["notes"], "findings": len(findings)}


def google_tests(kit: Kit, *command: object) -> Outcome:
    """A GoogleTest executable: passed with no test skipped but where all are."""
    text = kit.run(*command)
    passed = re.findall(r"^\[  PASSED  \] (\d+) test", text, re.MULTILINE)
    skipped = len(re.findall(r"^\[  SKIPPED \] \S+ \(", text, re.MULTILINE))
    if "[  SKIPPED ] no GPU" in text or (passed and int(passed[-1]) == 0):
        raise Skipped("no GPU is visible to the program")
    if not passed:
        raise Failed("no test has run")
    return f"{passed[-1]} tests" + (f", {skipped} skipped" if skipped else ""), {"tests": int(passed[-1])}


def kernels(kit: Kit) -> Outcome:
    kit.needs_gpu("the CUDA kernels run on the CPU in tests/emulated; the CPU's are held to their references by the doctor")
    return google_tests(kit, kit.test_program("gpu_kernel_table_test"))


def exact_search(kit: Kit) -> Outcome:
    kit.needs_gpu("it is the CPU's own answers that a GPU's are held to; tests/pretend holds the same code to them without one")
    return google_tests(kit, kit.test_program("gpu_search_test"))


def exact_clusters(kit: Kit) -> Outcome:
    kit.needs_gpu("it is the CPU's own leaves that a GPU's are held to; tests/pretend holds the same code to them without one")
    return google_tests(kit, kit.test_program("gpu_clusters_test"))


def tables(kit: Kit) -> Outcome:
    kit.needs_gpu("tables in host memory beside numerics on a GPU; tests/pretend does the same without one")
    return google_tests(kit, kit.test_program("gpu_sharded_table_test"))


def golden_steps(kit: Kit) -> Outcome:
    return google_tests(kit, kit.test_program("gpu_golden_steps_test"))


def waits(kit: Kit) -> Outcome:
    kit.needs_gpu("torch watches CUDA alone; tests/pretend counts waits without one")
    return google_tests(kit, kit.test_program("gpu_step_waits"))


def sanitized(tool: str) -> Callable[[Kit], Outcome]:
    def run(kit: Kit) -> Outcome:
        kit.needs_gpu("compute-sanitizer watches kernels of a GPU")
        sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if not Path(sanitizer).exists():
            raise Skipped("no compute-sanitizer here (it comes with the CUDA toolkit)")
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", kit.test_program("gpu_kernel_table_test")]
        return google_tests(kit, *command, "--gtest_filter=*EveryCudaKernel*")

    return run


def two_ranks(kit: Kit) -> Outcome:
    kit.needs_gpu("NCCL needs one; its communicator runs over stand-ins in tests/nccl_doubles")
    if kit.mpirun is None:
        raise Skipped("no mpirun here")
    if gpu_count() > 1:
        text = kit.run(kit.mpirun, "-n", 2, kit.vixen, "doctor", "--device", "cuda", "--doctor.dir", kit.work, allowed=(0, 1))
        if "WRONG" in text:
            raise Failed(next(line.strip() for line in text.splitlines() if "WRONG" in line))
    remark, figures = google_tests(kit, kit.mpirun, "-n", 2, "--oversubscribe", kit.test_program("gpu_two_ranks"))
    return f"{remark}, two ranks on one card (each with a host's name of its own, by sockets)", figures


def rates(kit: Kit) -> Outcome:
    report = kit.json_of("bench", "--model.compute", "bf16" if kit.device == "cuda" else "fp32")
    kit.rates = report["machine"]
    figures = {
        "machine": report["machine"],
        "kernels": report["kernels"],
        "collectives": report["collectives"],
        "objective": report["objective"],
    }
    return (
        f"products {kit.rates['gemm_bf16_flops'] / 1e12:.3g} TFLOP/s bf16, {kit.rates['gemm_fp32_flops'] / 1e12:.3g} fp32, "
        f"copy {kit.rates['copy_bytes_per_s'] / 1e9:.4g} GB/s; {len(report['kernels'])} kernels",
        figures,
    )


def make_inputs(kit: Kit, kind: str, name: str, *numbers: int) -> Path:
    path = kit.work / name
    kit.run(kit.test_program("gpu_bench_inputs"), kind, path, *numbers)
    return path


def timed_step(model: Model) -> Callable[[Kit], Outcome]:
    def run(kit: Kit) -> Outcome:
        folder = make_inputs(kit, model.kind, "model", *model.shape, 2 * model.batch, 64, model.labels)
        try:
            compute = "bf16" if kit.device == "cuda" else "fp32"
            words = ["--data.path", folder / "data.h5", "--model.path", folder / "model", "--model.compute", compute]
            words += ["--train.batch_size", model.batch, "--prototype.free_vectors", model.labels // 8, *model.options]
            training = kit.json_of("bench", *words)["training"]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        training |= {"batch": model.batch, "scaled": model.scaled, "goal": model.goal}
        scaled = f" ({model.scaled})" if model.scaled else ""
        goal = f", goal {model.goal}" if model.goal else ""
        return (
            f"{training['step_seconds']:.3g} s a step{scaled}{goal}, {100 * training['share_of_gemm']:.0f}% of the product rate",
            training,
        )

    return run


def search(rows: int, real_rows: int) -> Callable[[Kit], Outcome]:
    def run(kit: Kit) -> Outcome:
        corpus = make_inputs(kit, "matrix", "corpus.h5", rows, COLUMNS, 1)
        queries = make_inputs(kit, "matrix", "queries.h5", QUERIES, COLUMNS, 2)
        found = kit.work / "found.h5"
        try:
            words = ["--search.corpus", corpus, "--search.queries", queries, "--search.k", K, "--out", found, "--run.log_level", "debug"]
            text = kit.run(kit.vixen, "search", "--device", kit.device, *words)
        finally:
            for path in (corpus, queries, found):
                path.unlink(missing_ok=True)
        figures = next((json.loads(line) for line in reversed(text.splitlines()) if line.startswith('{"')), None)
        if figures is None:
            raise Failed("no line of figures")
        seconds = figures["search_seconds"]
        figures["scaled"] = "" if rows == real_rows else f"{rows:,} of {real_rows:,} rows"
        remark = f"{seconds:.3g} s" + (f" ({figures['scaled']})" if figures["scaled"] else "")
        rate = kit.rates.get("gemm_bf16_flops" if kit.device == "cuda" else "gemm_fp32_flops")
        if rate:
            figures["bare_product_seconds"] = 2.0 * rows * QUERIES * COLUMNS / rate
            kind = "bf16" if kit.device == "cuda" else "fp32"
            remark += f", {seconds / figures['bare_product_seconds']:.2f} times the bare {kind} product" + (
                ", goal 1.25" if kit.device == "cuda" else ""
            )
        return remark, figures

    return run


def two_means(kit: Kit) -> Outcome:
    labels = CLUSTERED_LABELS[kit.device]
    batch = 64
    folder = make_inputs(kit, "bert", "model", 384, 3, 12, 1536, 30522, 2 * batch, 16, labels)
    try:
        compute = "bf16" if kit.device == "cuda" else "fp32"
        words = ["--data.path", folder / "data.h5", "--model.path", folder / "model", "--model.compute", compute]
        words += ["--train.batch_size", batch, "--prototype.free_vectors", labels // 2]
        training = kit.json_of("bench", *words)["training"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = training["free_vectors_seconds"]
    scaled = "" if kit.device == "cuda" else f"{labels:,} of {CLUSTERED_LABELS['cuda']:,} labels"
    figures = {
        "seconds": seconds,
        "labels": labels,
        "width": 384,
        "clusters": labels // 2,
        "labels_pass_seconds": training["labels_pass_seconds"],
    }
    return f"{seconds:.3g} s for {labels // 2:,} clusters of {labels:,} x 384" + (f" ({scaled})" if scaled else ""), figures


@dataclass(frozen=True)
class Step:
    name: str
    limit: float  # seconds
    run: Callable[[Kit], Outcome]


def steps(device: str) -> list[Step]:
    """What is run, in this order: first what is right, then how fast."""
    big = SEARCH_ROWS["cuda"]
    table = [
        Step("machine", 60, machine),
        Step("doctor", 120, doctor),
        Step("kernels against references", 90, kernels),
        Step("golden steps in bf16", 90, golden_steps),
        Step("no wait in a step", 60, waits),
        Step("tables in host memory", 60, tables),
        Step("exact search to the bit", 60, exact_search),
        Step("clusters to the bit", 60, exact_clusters),
        Step("two ranks on one card", 90, two_ranks),
        Step("rates and kernels", 120, rates),
        *(Step(f"step of {model.name}", 150, timed_step(model)) for model in MODELS[device]),
        *(
            Step(f"search {real:,} x {COLUMNS}, {QUERIES:,} queries", 120, search(rows, real))
            for rows, real in zip(SEARCH_ROWS[device], big, strict=True)
        ),
        Step("2-means", 90, two_means),
        # Last: each takes as long as it is given.
        *(Step(f"compute-sanitizer {tool}", 90, sanitized(tool)) for tool in ("memcheck", "racecheck", "synccheck", "initcheck")),
    ]
    # A CPU has other work, and nobody waits for it.
    patience = 1 if device == "cuda" else 4
    return [Step(step.name, patience * step.limit, step.run) for step in table]


def run_steps(kit: Kit, table: Sequence[Step], seconds: float) -> list[Result]:
    """All of them, each within its limit and all within `seconds`; prints a line each."""
    end = time.monotonic() + seconds
    results = []
    for step in table:
        begin = time.monotonic()
        result = Result(step.name, "passed")
        kit.ends_at = min(begin + step.limit, end)
        kit.last_output = []
        try:
            if begin >= end:
                raise Skipped(f"the {seconds / 60:.0f} minutes are over")
            result.remark, result.figures = step.run(kit)
        except Skipped as reason:
            result.outcome, result.remark = "skipped", str(reason)
        except Failed as reason:
            result.outcome, result.remark, result.log = "failed", str(reason), kit.last_output[-KEPT_LINES:]
        except Exception as error:  # a step's own mistake must not cost the others' answers
            result.outcome, result.remark, result.log = "failed", f"{type(error).__name__}: {error}", kit.last_output[-KEPT_LINES:]
        result.seconds = round(time.monotonic() - begin, 1)
        results.append(result)
        print(f"{result.outcome:>7}  {result.step:<42} {result.seconds:7.1f} s  {result.remark}", flush=True)
        for line in result.log:
            print(f"         | {line}", flush=True)
    return results


def report_of(device: str, results: Sequence[Result], date: str) -> dict[str, Any]:
    return {
        "created_by": "vixen tests/gpu/run_all",
        "date": date,
        "device": device,
        "steps": [{key: value for key, value in vars(result).items() if value or key == "seconds"} for result in results],
    }


def markdown_of(name: str, device: str, results: Sequence[Result], date: str) -> str:
    def cell(text: object) -> str:
        return str(text).replace("|", "\\|").replace("\n", " ")

    lines = [f"# {name}, {date}", "", f"`tests/gpu/run_all --device {device}`. {summary(results)}.", ""]
    if device == "cpu":
        lines += [
            "A CPU in the place of a card: the list runs to its end, with sizes that a CPU can do. Its figures say nothing about a GPU.",
            "",
        ]
    lines += ["| step | | seconds | |", "|---|---|---|---|"]
    lines += [f"| {cell(result.step)} | {result.outcome} | {result.seconds:.1f} | {cell(result.remark)} |" for result in results]
    kernels_of: list[dict[str, Any]] = next((result.figures["kernels"] for result in results if "kernels" in result.figures), [])
    if kernels_of:
        lines += ["", "| kernel | us | GB/s | share of a copy's | reference, us |", "|---|---|---|---|---|"]
        for row in kernels_of:
            share, reference = 100 * row["share_of_copy"], row["reference_microseconds"]
            lines.append(f"| {row['name']} | {row['microseconds']:.0f} | {row['gb_per_s']:.1f} | {share:.0f}% | {reference:.0f} |")
    return "\n".join(lines) + "\n"


def summary(results: Sequence[Result]) -> str:
    counts = {outcome: sum(result.outcome == outcome for result in results) for outcome in ("passed", "failed", "skipped")}
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def file_name(name: str, date: str) -> str:
    """ "NVIDIA H100 80GB HBM3" -> "nvidia-h100-80gb-hbm3-2026-01-31"."""
    return f"{re.sub(r'[^a-z0-9.]+', '-', name.lower()).strip('-')}-{date}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="default: cuda")
    parser.add_argument("--out", type=Path, help="folder of the two files (default: docs/measurements, of a bundle the folder one is in)")
    parser.add_argument("--work", type=Path, help="where inputs are made: 8 GB for the largest model (default: TMPDIR)")
    parser.add_argument("--minutes", type=float, help="for all steps together (default: 10, on a CPU 40)")
    parser.add_argument("--steps", help="only steps whose name has one of these words, by commas")
    parser.add_argument("--list", action="store_true", help="print the steps and end")
    args = parser.parse_args()
    wanted = args.steps.split(",") if args.steps else [""]
    table = [step for step in steps(args.device) if any(word in step.name for word in wanted)]
    if not table:
        print(f"error: --steps {args.steps}: no step has such a name (--list prints them)", file=sys.stderr)
        return 2
    if args.list:
        print("\n".join(f"{step.name} ({step.limit:.0f} s)" for step in table))
        return 0
    out = args.out or (Path.cwd() if IN_BUNDLE else ROOT / "docs/measurements")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vixen-run-all-", dir=args.work) as work:
        kit = Kit(args.device, Path(work))
        if not kit.vixen.is_file():
            print(f"error: {kit.vixen}: not built (ninja -C {kit.vixen.parents[1]} bundle_parts)", file=sys.stderr)
            return 2
        results = run_steps(kit, table, 60 * (args.minutes or (10 if args.device == "cuda" else 40)))
    date = time.strftime("%Y-%m-%d", time.gmtime())
    name = (gpu_name() if args.device == "cuda" else "") or cpu_name()
    stem = file_name(name, date)
    (out / f"{stem}.json").write_text(json.dumps(report_of(args.device, results, date), indent=1) + "\n", encoding="utf-8")
    (out / f"{stem}.md").write_text(markdown_of(name, args.device, results, date), encoding="utf-8")
    print(out / f"{stem}.md")
    print(summary(results))
    return 1 if any(result.outcome == "failed" for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
