#!/usr/bin/env python3
"""Exact top-k: `vixen search` against FAISS's IndexFlatIP on the same rows, the same threads, in the same run.

    bench_search.py                                   # 14,349 random unit queries over 107,437 x 384, k = 100
    bench_search.py --corpus L.h5 --queries Q.h5      # /embeddings of files that `vixen embed` wrote

    bench_search.py --methods faiss_hnsw faiss_ivf_pq # and what approximate indexes trade: recall, seconds, memory

Both sides are timed for the search alone, with the index in memory, by turns; the best of --repeats counts. Ids are compared place
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
import tempfile
import time
from typing import TYPE_CHECKING, Any

from vixen_tools import VERSION
from vixen_tools.arguments import whole
from vixen_tools.errors import UserError, run_tool
from vixen_tools.files import write_text
from vixen_tools.hdf5_file import open_hdf5, read_dataset
from vixen_tools.outputs import claim
from vixen_tools.progress import waiting

if TYPE_CHECKING:
    import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "build" / "src" / "vixen"), help="the vixen program")
    parser.add_argument("--corpus", type=pathlib.Path, help="HDF5 file with /embeddings (default: random unit rows)")
    parser.add_argument("--queries", type=pathlib.Path, help="HDF5 file with /embeddings")
    parser.add_argument("--rows", type=whole(1), default=107437, help="random rows of the corpus")
    parser.add_argument("--query-rows", type=whole(1), default=14349, help="random queries")
    parser.add_argument("--columns", type=whole(1), default=384)
    parser.add_argument("--k", type=whole(1), default=100)
    parser.add_argument("--threads", type=whole(1), default=2)
    parser.add_argument("--repeats", type=whole(1), default=3)
    parser.add_argument("--prefilter", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD", help="other values of search.method to measure")
    parser.add_argument("--require-faster", action="store_true", help="exit with 1 when FAISS is faster")
    parser.add_argument("--json", type=pathlib.Path, help="write the report here too")
    return parser.parse_args()


def unit(rows: np.ndarray) -> np.ndarray:
    import numpy as np

    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.where(norms == 0, 1, norms)).astype(np.float32)


def load(path: pathlib.Path) -> np.ndarray:
    with open_hdf5(path) as file:
        return unit(read_dataset(file, "embeddings", "f", 2).astype("float32"))


def save(path: pathlib.Path, rows: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("embeddings", data=rows)


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
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(options.threads)})
    if done.returncode != 0:
        raise UserError(f"{' '.join(command)}: ended with exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    report = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    with open_hdf5(out) as file:
        return report, read_dataset(file, "indices", "i", 2), read_dataset(file, "scores", "f", 2)


def compare(corpus: np.ndarray, queries: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> tuple[int, int, list[int]]:
    """(rows that agree in every place, rows that differ by ties of float32 sums only, rows that are wrong)."""
    import numpy as np

    differing = np.flatnonzero((ours != theirs).any(axis=1))
    ties = 0
    wrong = []
    for row in differing:

        def exact(ids: np.ndarray, row: np.intp = row) -> np.ndarray:
            return corpus[ids].astype(np.float64) @ queries[row].astype(np.float64)

        # Ours must be the better list in float64, place by place; and FAISS's as good within its rounding.
        mine, other = exact(ours[row]), exact(theirs[row])
        scale = max(1e-30, float(np.abs(mine).max()))
        if (np.diff(mine) <= 1e-7 * scale).all() and np.abs(mine - other).max() <= 4e-6 * scale:
            ties += 1
        else:
            wrong.append(int(row))
    return len(ours) - len(differing), ties, wrong


def main() -> int:
    options = arguments()
    if bool(options.corpus) != bool(options.queries):
        raise UserError("--corpus and --queries belong together")
    out = claim(options.json, {"--corpus": options.corpus, "--queries": options.queries}, "--json") if options.json else None
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import faiss
    import numpy as np

    faiss.omp_set_num_threads(options.threads)
    if options.corpus:
        corpus, queries = load(options.corpus), load(options.queries)
        if corpus.ndim != 2 or queries.shape[1:] != corpus.shape[1:]:
            raise UserError(
                f"{options.queries}: /embeddings is {queries.shape}, expected rows as wide as {options.corpus} ({corpus.shape})"
            )
    else:
        generator = np.random.default_rng(0)
        corpus = unit(generator.standard_normal((options.rows, options.columns), dtype=np.float32))
        queries = unit(generator.standard_normal((options.query_rows, options.columns), dtype=np.float32))
    index = faiss.IndexFlatIP(corpus.shape[1])
    index.add(corpus)
    faiss_seconds, vixen_seconds = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        save(folder / "corpus.h5", corpus)
        save(folder / "queries.h5", queries)
        for repeat in range(options.repeats):
            start = time.perf_counter()
            with waiting(f"run {repeat + 1}: FAISS"):
                _, theirs = index.search(queries, options.k)
            faiss_seconds.append(time.perf_counter() - start)
            with waiting(f"run {repeat + 1}: vixen"):
                exact, ours, _ = run_vixen(options, folder)
            seconds = exact["search_seconds"]
            vixen_seconds.append(seconds)
            print(f"run {repeat + 1}: FAISS {faiss_seconds[-1]:.3f} s, vixen {seconds:.3f} s", flush=True)
        others = {method: run_vixen(options, folder, method)[0] for method in options.methods}
    same, ties, wrong = compare(corpus, queries, ours, theirs)
    best_faiss, best_vixen = min(faiss_seconds), min(vixen_seconds)
    work = 2e-9 * len(queries) * corpus.shape[0] * corpus.shape[1]
    report = {
        "created_by": f"bench_search.py {VERSION}",
        "queries": len(queries),
        "rows": corpus.shape[0],
        "columns": corpus.shape[1],
        "k": options.k,
        "threads": options.threads,
        "faiss": faiss.__version__,
        "prefilter": options.prefilter,
        "faiss_seconds": faiss_seconds,
        "vixen_seconds": vixen_seconds,
        "ratio": best_faiss / best_vixen,
        "same_rows": same,
        "tie_rows": ties,
        "wrong_rows": len(wrong),
        "methods": others,
    }
    print(f"\n{len(queries):,} queries x {corpus.shape[0]:,} x {corpus.shape[1]}, k {options.k}, {options.threads} threads")
    print(f"  FAISS {faiss.__version__} IndexFlatIP  {best_faiss:8.3f} s  {work / best_faiss:8.1f} GFLOP/s")
    print(
        f"  vixen search ({options.prefilter:4})       {best_vixen:8.3f} s  {work / best_vixen:8.1f} GFLOP/s   "
        f"{best_faiss / best_vixen:.2f} x as fast"
    )
    print(f"  ids: {same:,} rows the same, {ties} differ in ties of FAISS's float32 sums, {len(wrong)} wrong {wrong[:5] if wrong else ''}")
    if others:
        print(f"\n  {'method':14} {'recall':>8} {'search s':>9} {'ms/query':>9} {'build s':>8} {'MB':>8}")
        for method, one in {"exact": exact, **others}.items():
            recall = f"{100 * one['recall']:.2f}%" if "recall" in one else "100%"
            print(
                f"  {method:14} {recall:>8} {one['search_seconds']:9.3f} {1e3 * one['search_seconds'] / len(queries):9.3f} "
                f"{one['build_seconds']:8.1f} {one['index_bytes'] / 1e6:8.1f}"
            )
    print(json.dumps(report))
    if out:
        write_text(out, json.dumps(report, indent=1) + "\n")
    return 1 if wrong or (options.require_faster and best_vixen > best_faiss) else 0


if __name__ == "__main__":
    run_tool(main)
