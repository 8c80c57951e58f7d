#!/usr/bin/env python3
"""Trains PECOS XR-Linear on TF-IDF of a data set's texts (word 1-grams and 2-grams, PIFA tree), and answers its test queries.

libpecos 1.2.8 wants numpy 1 and scipy before 1.14, so an environment of its own:

    python3 -m venv out/pecos
    out/pecos/bin/pip install 'numpy<2' 'scipy<1.14' scikit-learn h5py xxhash tqdm && out/pecos/bin/pip install --no-deps libpecos==1.2.8
    out/pecos/bin/python tools/bench/pecos_run.py --data out/icontags.h5 --out pecos.h5

Seconds are those from the texts to the trained model; imports, reading and the answers are not in them. Text alone. The last line of the
standard output is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import numpy as np  # noqa: E402

from vixen_tools import VERSION  # noqa: E402
from vixen_tools.arguments import whole  # noqa: E402
from vixen_tools.dataset_file import DatasetTexts  # noqa: E402
from vixen_tools.errors import UserError, run_tool  # noqa: E402
from vixen_tools.outputs import claim  # noqa: E402
from vixen_tools.progress import waiting  # noqa: E402
from vixen_tools.ranking_file import without_filtered, write_ranking  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data set of prepare_dataset.py")
    parser.add_argument("--out", type=Path, required=True, help="predictions to write (HDF5: /indices, /scores)")
    parser.add_argument("--beam", type=whole(1), default=20, help="nodes of the tree that are gone on with (default 20)")
    parser.add_argument("--threads", type=whole(1), default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=whole(0), default=0, help="of the tree")
    parser.add_argument("--k", type=whole(1), default=100, help="predictions a query (default 100)")
    options = parser.parse_args()
    out = claim(options.out, {"--data": options.data})
    texts = DatasetTexts(options.data)
    try:
        from pecos.xmc import Indexer, LabelEmbeddingFactory
        from pecos.xmc.xlinear.model import XLinearModel
    except (ImportError, AttributeError) as error:  # the second of a scipy that it does not know
        raise UserError(f"{sys.executable}: cannot load PECOS ({error}), expected an environment as --help makes it") from None
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

    begin = time.monotonic()
    with waiting("PECOS XR-Linear: training"):
        vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", dtype=np.float32)
        try:
            train = csr_matrix(vectorizer.fit_transform(texts.train))
        except ValueError as error:  # not one word in all texts
            raise UserError(f"{texts.path}: {error}, expected words in the texts") from None
        offsets, values = texts.train_labels
        truth = csr_matrix((np.ones(len(values), np.float32), values, offsets), (len(texts.train), len(texts.label)))
        train.sort_indices()
        tree = Indexer.gen(LabelEmbeddingFactory.create(truth, train, method="pifa"), seed=options.seed, threads=options.threads)
        model = XLinearModel.train(train, truth, C=tree, threads=options.threads)
    seconds = time.monotonic() - begin
    begin = time.monotonic()
    deeper = min(options.k + int(np.diff(texts.filter[0]).max(initial=0)), len(texts.label))
    with waiting("PECOS XR-Linear: answers"):
        tests = csr_matrix(vectorizer.transform(texts.test))
        tests.sort_indices()
        found = model.predict(tests, beam_size=options.beam, only_topk=deeper, threads=options.threads)
    indices, scores = np.full((len(texts.test), deeper), -1, np.int64), np.full((len(texts.test), deeper), -np.inf, np.float32)
    for row, (first, last) in enumerate(itertools.pairwise(found.indptr)):
        best = first + np.lexsort((found.indices[first:last], -found.data[first:last]))
        indices[row, : len(best)], scores[row, : len(best)] = found.indices[best], found.data[best]
    indices, scores = without_filtered(indices, scores, texts.filter, options.k)
    write_ranking(out, indices, scores, f"pecos_run.py {VERSION}")
    report = {"seconds": seconds, "answer_seconds": time.monotonic() - begin, "libpecos": version("libpecos")}
    print(json.dumps(report))


if __name__ == "__main__":
    run_tool(main)
