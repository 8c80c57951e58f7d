#!/usr/bin/env python3
"""Exact top-k: `vixen search` against FAISS's IndexFlatIP on the same rows, the same threads, in the same run.

    bench_search.py                                   # 14,349 random unit queries over 107,437 x 384, k = 100
    bench_search.py --rows 1305265 --query-rows 10000 --clusters 20000 --dtype fp16 --cpu avx2
    bench_search.py --corpus L.h5 --queries Q.h5      # /embeddings of files that `vixen embed` wrote

    bench_search.py --methods faiss_hnsw faiss_ivf_pq # and what approximate indexes trade: recall, seconds, memory

Both sides run in processes of their own, by turns, and are timed for the search alone, with the index in memory; the best of --repeats
counts. A process' memory is the most that was resident, and how much more that is than before it read the rows. Ids are compared place
by place. Where FAISS orders two labels differently, their scores in float64 decide whether that is a tie of its float32
sums or an error of ours. Prints a table and one JSON line; exit code 1 when an id is wrong, or (--require-faster) when we
are slower. Needs faiss-cpu, h5py and numpy.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from vixen_tools import VERSION
from vixen_tools.arguments import whole
from vixen_tools.errors import UserError, run_tool
from vixen_tools.files import write_text
from vixen_tools.hdf5_file import open_hdf5, read_dataset, whole_dataset
from vixen_tools.outputs import claim
from vixen_tools.process_memory import memory_of
from vixen_tools.progress import Progress, waiting

if TYPE_CHECKING:
    import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK_ROWS = 65536  # read, made or compared at a time
# What holds the libraries of both sides to AVX2: PyTorch and vixen, oneDNN, MKL, OpenBLAS, FAISS.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "FAISS_SIMD_LEVEL": "AVX2",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "build" / "src" / "vixen"), help="the vixen program")
    parser.add_argument("--corpus", type=pathlib.Path, help="HDF5 file with /embeddings (default: random unit rows)")
    parser.add_argument("--queries", type=pathlib.Path, help="HDF5 file with /embeddings")
    parser.add_argument("--rows", type=whole(1), default=107437, help="random rows of the corpus")
    parser.add_argument("--query-rows", type=whole(1), default=14349, help="random queries")
    parser.add_argument("--columns", type=whole(1), default=384)
    parser.add_argument(
        "--clusters", type=whole(0), default=0, help="random rows lie about as many centres, and these about fewer; 0: anywhere"
    )
    parser.add_argument("--dtype", default="fp32", choices=["fp16", "fp32"], help="of the corpus' file")
    parser.add_argument("--cpu", default="any", choices=["any", "avx2"], help="the instructions that both sides may use")
    parser.add_argument("--k", type=whole(1), default=100)
    parser.add_argument("--threads", type=whole(1), default=2)
    parser.add_argument("--repeats", type=whole(1), default=3)
    parser.add_argument("--prefilter", default="auto", choices=["auto", "fp32", "bf16", "int8"])
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="other values of search.method to measure")
    parser.add_argument("--require-faster", action="store_true", help="exit with 1 when FAISS is faster")
    parser.add_argument("--json", type=pathlib.Path, help="write the report here too")
    parser.add_argument("--faiss-worker", type=pathlib.Path, help=argparse.SUPPRESS)  # the folder of a run: FAISS's side of it
    return parser.parse_args()


def unit(rows: np.ndarray) -> np.ndarray:
    """float32 rows divided by their lengths; rows of zeros stay so."""
    import numpy as np

    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return rows / np.where(norms == 0, 1, norms).astype(np.float32)[:, None]


def environment(options: argparse.Namespace) -> dict[str, str]:
    limits = AVX2 if options.cpu == "avx2" else {}
    return {**os.environ, **limits, "OMP_NUM_THREADS": str(options.threads), "OPENBLAS_NUM_THREADS": str(options.threads)}


def write_unit_rows(source: pathlib.Path, target: pathlib.Path, dtype: str) -> tuple[int, int]:
    """The rows of /embeddings of a file with unit length; returns their shape."""
    import h5py

    with open_hdf5(source) as file:
        rows = whole_dataset(file, "embeddings", "f", 2)
        with h5py.File(target, "w") as out:
            to = out.create_dataset("embeddings", rows.shape, dtype)
            for first in range(0, rows.shape[0], BLOCK_ROWS):
                to[first : first + BLOCK_ROWS] = unit(rows[first : first + BLOCK_ROWS].astype("float32"))
        return rows.shape


def write_random_rows(target: pathlib.Path, n: int, columns: int, clusters: int, seed: int, dtype: str) -> None:
    """Unit rows anywhere, or each the sum of a centre, one of its fewer centres' centres, and noise, all of unit length."""
    import h5py
    import numpy as np

    centres = np.random.default_rng(1)
    inner = unit(centres.standard_normal((max(1, clusters), columns), dtype=np.float32))
    outer = unit(centres.standard_normal((max(1, int(clusters**0.5)), columns), dtype=np.float32))
    generator = np.random.default_rng(seed)
    with h5py.File(target, "w") as file, Progress(f"make {target.stem}", n) as progress:
        to = file.create_dataset("embeddings", (n, columns), dtype)
        for first in range(0, n, BLOCK_ROWS):
            size = min(BLOCK_ROWS, n - first)
            rows = unit(generator.standard_normal((size, columns), dtype=np.float32))
            if clusters > 0:
                chosen = generator.integers(0, clusters, size)
                rows = unit(rows + inner[chosen] + outer[chosen % len(outer)])
            to[first : first + size] = rows
            progress.add(size)


def faiss_worker(folder: pathlib.Path, k: int, threads: int) -> int:
    """Searches by FAISS; writes ids and prints seconds, bytes before it read the rows, and at the most."""
    import faiss
    import h5py
    import numpy as np

    faiss.omp_set_num_threads(threads)
    before = memory_of("self").peak_bytes
    with h5py.File(folder / "corpus.h5") as corpus, h5py.File(folder / "queries.h5") as asked:
        rows = corpus["embeddings"]
        start = time.perf_counter()
        index = faiss.IndexFlatIP(rows.shape[1])
        index.codes.resize(rows.shape[0] * index.code_size)  # at once, where adding block by block would copy again and again
        stored = faiss.rev_swig_ptr(index.get_xb(), rows.shape[0] * rows.shape[1]).reshape(rows.shape)
        for first in range(0, rows.shape[0], BLOCK_ROWS):
            stored[first : first + BLOCK_ROWS] = rows[first : first + BLOCK_ROWS]
        index.ntotal = rows.shape[0]
        build = time.perf_counter() - start
        queries = asked["embeddings"][:].astype(np.float32)
    start = time.perf_counter()
    _, ids = index.search(queries, k)
    seconds = time.perf_counter() - start
    np.save(folder / "faiss.npy", ids)
    peak = memory_of("self").peak_bytes
    print(json.dumps({"search_seconds": seconds, "build_seconds": build, "bytes_before_reading": before, "peak_bytes": peak}))
    return 0


def run_faiss(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    words = ["--faiss-worker", str(folder), "--k", str(options.k), "--threads", str(options.threads)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, env=environment(options))
    if done.returncode != 0:
        raise UserError(f"FAISS: ended with exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_vixen(options: argparse.Namespace, folder: pathlib.Path, method: str = "exact") -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The report of the search, ids and scores."""
    out = folder / "found.h5"
    command = [
        options.binary,
        "search",
        "--search.corpus",
        str(folder / "corpus.h5"),
        "--search.queries",
        str(folder / "queries.h5"),
        "--search.k",
        str(options.k),
        "--search.prefilter",
        options.prefilter,
        "--search.method",
        method,
        "--search.cosine",
        "false",
        "--threads",
        str(options.threads),
        "--run.log_level",
        "debug",
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(options))
    if done.returncode != 0:
        raise UserError(f"{' '.join(command)}: ended with exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    report = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    with open_hdf5(out) as file:
        return report, read_dataset(file, "indices", "i", 2), read_dataset(file, "scores", "f", 2)


def compare(folder: pathlib.Path, ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int, list[int]]:
    """(rows that agree in every place, rows that differ by ties of float32 sums only, rows that are wrong)."""
    import h5py
    import numpy as np

    with h5py.File(folder / "corpus.h5") as corpus, h5py.File(folder / "queries.h5") as queries:
        return compare_rows(corpus["embeddings"], queries["embeddings"][:].astype(np.float64), ours, theirs)


def compare_rows(corpus: Any, queries: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int, list[int]]:
    import numpy as np

    differing = np.flatnonzero((ours != theirs).any(axis=1))
    ties = 0
    wrong = []
    for row in differing:

        def exact(ids: np.ndarray, row: np.intp = row) -> np.ndarray:
            order = np.argsort(ids)  # HDF5 reads rows in ascending order
            scores = np.empty(len(ids))
            scores[order] = corpus[ids[order]].astype(np.float64) @ queries[row]
            return scores

        # Ours must be the better list in float64, place by place; and FAISS's as good within its rounding.
        mine, other = exact(ours[row]), exact(theirs[row])
        scale = max(1e-30, float(np.abs(mine).max()))
        if (np.diff(mine) <= 1e-7 * scale).all() and np.abs(mine - other).max() <= 4e-6 * scale:
            ties += 1
        else:
            wrong.append(int(row))
    return len(ours) - len(differing), ties, wrong


def prepare(options: argparse.Namespace, folder: pathlib.Path) -> tuple[int, int, int]:
    """Both files of unit rows; returns the numbers of queries, rows and columns."""
    dtype = {"fp16": "float16", "fp32": "float32"}[options.dtype]
    if not options.corpus:
        write_random_rows(folder / "corpus.h5", options.rows, options.columns, options.clusters, 2, dtype)
        write_random_rows(folder / "queries.h5", options.query_rows, options.columns, options.clusters, 3, "float32")
        return options.query_rows, options.rows, options.columns
    rows = write_unit_rows(options.corpus, folder / "corpus.h5", dtype)
    queries = write_unit_rows(options.queries, folder / "queries.h5", "float32")
    if rows[1] != queries[1]:
        raise UserError(f"{options.queries}: /embeddings is {queries}, expected rows as wide as {options.corpus} ({rows})")
    return queries[0], *rows


def side(name: str, runs: list[dict[str, Any]], work: float, corpus_bytes: int) -> str:
    """A line of the table."""
    best = min(run["search_seconds"] for run in runs)
    before, peak = max(run["bytes_before_reading"] for run in runs), max(run["peak_bytes"] for run in runs)
    return (
        f"  {name:28} {best:8.3f} s  {work / best:8.1f} GFLOP/s   {peak / 1e9:6.2f} GB, {before / 1e9:.2f} before reading, "
        f"{(peak - before) / 1e9:.2f} more: {(peak - before) / corpus_bytes:.2f} x the corpus' file"
    )


def main() -> int:
    options = arguments()
    if options.faiss_worker:
        return faiss_worker(options.faiss_worker, options.k, options.threads)
    if bool(options.corpus) != bool(options.queries):
        raise UserError("--corpus and --queries belong together")
    out = claim(options.json, {"--corpus": options.corpus, "--queries": options.queries}, "--json") if options.json else None
    import faiss
    import numpy as np

    theirs_runs, our_runs = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        n_queries, n_rows, n_columns = prepare(options, folder)
        for repeat in range(options.repeats):
            with waiting(f"run {repeat + 1}: FAISS"):
                theirs_runs.append(run_faiss(options, folder))
            with waiting(f"run {repeat + 1}: vixen"):
                exact, ours, _ = run_vixen(options, folder)
            our_runs.append(exact)
            seconds = [runs[-1]["search_seconds"] for runs in (theirs_runs, our_runs)]
            print(f"run {repeat + 1}: FAISS {seconds[0]:.3f} s, vixen {seconds[1]:.3f} s", flush=True)
        others = {method: run_vixen(options, folder, method)[0] for method in options.methods}
        same, ties, wrong = compare(folder, ours, np.load(folder / "faiss.npy"))
    best_faiss, best_vixen = (min(run["search_seconds"] for run in runs) for runs in (theirs_runs, our_runs))
    work = 2e-9 * n_queries * n_rows * n_columns
    corpus_bytes = n_rows * n_columns * {"fp16": 2, "fp32": 4}[options.dtype]
    report = {
        "created_by": f"bench_search.py {VERSION}",
        "queries": n_queries,
        "rows": n_rows,
        "columns": n_columns,
        "dtype": options.dtype,
        "corpus_bytes": corpus_bytes,
        "clusters": options.clusters,
        "k": options.k,
        "threads": options.threads,
        "cpu": options.cpu,
        "faiss": faiss.__version__,
        "prefilter": options.prefilter,
        "faiss_runs": theirs_runs,
        "vixen_runs": our_runs,
        "ratio": best_faiss / best_vixen,
        "same_rows": same,
        "tie_rows": ties,
        "wrong_rows": len(wrong),
        "methods": others,
    }
    held = "held to AVX2" if options.cpu == "avx2" else "any instructions"
    print(f"\n{n_queries:,} queries x {n_rows:,} x {n_columns} {options.dtype}, k {options.k}, {options.threads} threads, {held}")
    print(side(f"FAISS {faiss.__version__} IndexFlatIP", theirs_runs, work, corpus_bytes))
    print(side(f"vixen search ({options.prefilter})", our_runs, work, corpus_bytes))
    print(f"  {best_faiss / best_vixen:.2f} x as fast; {our_runs[-1]['index']}")
    print(f"  ids: {same:,} rows the same, {ties} differ in ties of FAISS's float32 sums, {len(wrong)} wrong {wrong[:5] if wrong else ''}")
    if others:
        print(f"\n  {'method':14} {'recall':>8} {'search s':>9} {'ms/query':>9} {'build s':>8} {'MB':>8}")
        for method, one in {"exact": exact, **others}.items():
            recall = f"{100 * one['recall']:.2f}%" if "recall" in one else "100%"
            print(
                f"  {method:14} {recall:>8} {one['search_seconds']:9.3f} {1e3 * one['search_seconds'] / n_queries:9.3f} "
                f"{one['build_seconds']:8.1f} {one['index_bytes'] / 1e6:8.1f}"
            )
    print(json.dumps(report))
    if out:
        write_text(out, json.dumps(report, indent=1) + "\n")
    return 1 if wrong or (options.require_faster and best_vixen > best_faiss) else 0


if __name__ == "__main__":
    run_tool(main)
