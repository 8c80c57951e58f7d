#!/usr/bin/env python3
"""Trains a backbone with sentence-transformers' MultipleNegativesRankingLoss for some seconds, and answers a data set's test queries.

The library's model and loss in a plain PyTorch loop (its trainer needs the package datasets): AdamW, gradients clipped at 1 as its trainer
does, the learning rate rises over the first tenth of the seconds and falls linearly to 0 at their end, batches of (query, relevant label)
pairs in which no query and no label stands twice. Seconds count from the first batch: imports, loading and the answers are not in them.
Text alone. The last line of the standard output is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import numpy as np  # noqa: E402

from vixen_tools import VERSION  # noqa: E402
from vixen_tools.arguments import finite, whole  # noqa: E402
from vixen_tools.dataset_file import DatasetTexts  # noqa: E402
from vixen_tools.errors import UserError, run_tool  # noqa: E402
from vixen_tools.outputs import claim  # noqa: E402
from vixen_tools.progress import Progress  # noqa: E402
from vixen_tools.ranking_file import top_k, write_ranking  # noqa: E402

WARMUP, CLIP_NORM, WEIGHT_DECAY, BLOCK = 0.1, 1.0, 0.01, 512


def batches(texts: DatasetTexts, size: int, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """Queries and labels of whole batches without end. A pair whose query or label is in the batch already waits for the next one; what
    makes no whole batch at the end of an epoch is left out, as by the library's NoDuplicatesBatchSampler."""
    offsets, values = texts.train_labels
    rows = np.repeat(np.arange(len(texts.train)), np.diff(offsets))
    generator = np.random.default_rng(seed)
    while True:
        waiting = generator.permutation(len(values)).tolist()
        made = 0
        while True:
            queries: dict[int, None] = {}
            labels: dict[int, None] = {}
            skipped: list[int] = []
            taken = 0
            for pair in waiting:
                if len(queries) == size:
                    break
                taken += 1
                query, label = int(rows[pair]), int(values[pair])
                if query in queries or label in labels:
                    skipped.append(pair)
                else:
                    queries[query], labels[label] = None, None
            if len(queries) < size:
                break
            waiting = skipped + waiting[taken:]
            made += 1
            yield list(queries), list(labels)
        if not made:
            raise UserError(f"{texts.path}: has not {size} pairs without a query or label in common: give a smaller --batch-size")


def factor(share: float) -> float:
    """Of the learning rate, when this share of the seconds is over."""
    return min(share / WARMUP, (1 - share) / (1 - WARMUP))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data set of prepare_dataset.py")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder of the backbone")
    parser.add_argument("--out", type=Path, required=True, help="predictions to write (HDF5: /indices, /scores)")
    parser.add_argument("--seconds", type=finite, required=True, help="of training")
    parser.add_argument("--lr", type=finite, default=5e-5, help="peak learning rate (default 5e-5, the trainer's)")
    parser.add_argument("--batch-size", type=whole(2), default=512, help="pairs (default 512)")
    parser.add_argument("--threads", type=whole(1), default=2)
    parser.add_argument("--compute", choices=("fp32", "bf16"), default="fp32", help="precision of products (autocast)")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--k", type=whole(1), default=100, help="predictions a query (default 100)")
    options = parser.parse_args()
    out = claim(options.out, {"--data": options.data, "--model": options.model})
    texts = DatasetTexts(options.data)
    if options.seconds <= 0:
        raise UserError(f"--seconds {options.seconds:g}: expected more than 0")
    import sentence_transformers
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = SentenceTransformer(str(options.model), device="cpu")
    model.max_seq_length = texts.max_length or model.max_seq_length
    loss = MultipleNegativesRankingLoss(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=WEIGHT_DECAY)
    model.train()
    steps, last, longest = 0, float("nan"), 0.0
    source = batches(texts, options.batch_size, options.seed)
    begin = time.monotonic()
    with Progress("sentence-transformers", unit="steps") as progress:
        while (elapsed := time.monotonic() - begin) + longest < options.seconds:
            queries, labels = next(source)
            for group in optimiser.param_groups:
                group["lr"] = options.lr * factor(elapsed / options.seconds)
            features = [model.preprocess([side[i] for i in rows]) for side, rows in ((texts.train, queries), (texts.label, labels))]
            with torch.autocast("cpu", torch.bfloat16, enabled=options.compute == "bf16"):
                value = loss(features, torch.zeros(len(queries)))
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimiser.step()
            optimiser.zero_grad()
            last, steps = float(value.detach()), steps + 1
            longest = max(longest, time.monotonic() - begin - elapsed)
            progress.add(1, min(1.0, (time.monotonic() - begin) / options.seconds))
    seconds = time.monotonic() - begin
    model.eval()
    begin = time.monotonic()
    k = min(options.k, len(texts.label))
    indices, scores = np.empty((len(texts.test), k), np.int64), np.empty((len(texts.test), k), np.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=options.compute == "bf16"):
        rows = model.encode(texts.label, batch_size=BLOCK, normalize_embeddings=True, show_progress_bar=False).astype(np.float32)
        tests = model.encode(texts.test, batch_size=BLOCK, normalize_embeddings=True, show_progress_bar=False).astype(np.float32)
    offsets, values = texts.filter
    with Progress("answers", len(tests), "queries") as progress:
        for first in range(0, len(tests), BLOCK):
            block = tests[first : first + BLOCK] @ rows.T
            for i in range(len(block)):
                block[i, values[offsets[first + i] : offsets[first + i + 1]]] = -np.inf
            indices[first : first + BLOCK], scores[first : first + BLOCK] = top_k(block, k)
            progress.add(len(block))
    indices[np.isneginf(scores)] = -1
    write_ranking(out, indices, scores, f"sentence_transformers_run.py {VERSION}")
    report = {
        "seconds": seconds,
        "answer_seconds": time.monotonic() - begin,
        "steps": steps,
        "loss": last,
        "sentence_transformers": sentence_transformers.__version__,
        "torch": torch.__version__,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    run_tool(main)
