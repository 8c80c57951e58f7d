#!/usr/bin/env python3
"""Makes the goldens of metrics_test.cpp: real test matrices, pseudo-random predictions, metrics by napkinxc and scikit-learn.

    make_metric_goldens.py FOLDER [FOLDER ...]        # raw folders: {trn,tst,lbl}.json.gz, or tst_X_Y.txt.gz alone

writes goldens/metrics_<folder>.bin (the matrix, compact) and goldens/metrics_<folder>.json (the values) beside this script.
A folder with nothing but a test matrix takes its label frequencies from that matrix.

The predictions are a formula that the C++ test repeats: see `predictions`. Needs napkinxc and scikit-learn.
"""

import argparse
import gzip
import json
import pathlib
from importlib.metadata import version

import numpy as np
from napkinxc import metrics as nxc
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

WIDTH = 110  # length of a predicted list: 100 + the most filtered labels of a row
MAX_FILTER = 10
OFFICIAL_K = 15
BLANK_EVERY, BLANK_AT = 101, 7  # variant "blank": these rows lose their labels
MASK = (1 << 64) - 1


def mix(value):
    """splitmix64's finaliser of a counter."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def predictions(row, truth, n_labels):
    """A list of WIDTH distinct labels; about every fifth draw is one of the row's own. The list of every 50th row is cut short."""
    chosen: list[int] = []
    seen: set[int] = set()
    counter = 0
    while len(chosen) < (3 if row % 50 == 0 else WIDTH):
        draw = mix(row * 1000003 + counter)
        counter += 1
        label = truth[(draw >> 8) % len(truth)] if truth and draw & 255 < 51 else (draw >> 8) % n_labels
        if label not in seen:
            seen.add(label)
            chosen.append(label)
    return chosen


def filter_row(row, predicted, n_labels):
    """Up to MAX_FILTER labels: odd draws come from the first 20 predictions, even ones from everywhere."""
    count = mix(row * 7919 + 1) % (MAX_FILTER + 1)
    labels = set()
    for i in range(count):
        draw = mix((row * 7919 + 2 + i) ^ 0x5DEECE66D)
        labels.add(predicted[(draw >> 1) % min(20, len(predicted))] if draw & 1 else (draw >> 1) % n_labels)
    return sorted(labels)


def read_json_rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [sorted(set(json.loads(line)["target_ind"])) for line in lines]


def read_xy_rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        n_rows, n_columns = map(int, next(lines).split())
        rows = [sorted({int(pair.split(":")[0]) for pair in line.split()}) for line in lines]
    assert len(rows) == n_rows, f"{path}: {len(rows)} rows, header says {n_rows}"
    return rows, n_columns


def read_folder(folder):
    if (folder / "trn.json.gz").exists():
        with gzip.open(folder / "lbl.json.gz", "rt", encoding="utf-8") as lines:
            n_labels = sum(1 for _ in lines)
        train, test = read_json_rows(folder / "trn.json.gz"), read_json_rows(folder / "tst.json.gz")
    else:
        test, n_labels = read_xy_rows(folder / "tst_X_Y.txt.gz")
        train = test
    counts = np.bincount(np.concatenate([np.asarray(row, dtype=np.int64) for row in train]), minlength=n_labels)
    return test, n_labels, counts, len(train)


def write_matrix(path, test, n_labels, counts, n_train):
    """int64 header (rows, labels, training rows, bytes of an id), u16 row lengths, ids, u32 label counts."""
    id_type = np.uint16 if n_labels <= 65536 else np.uint32
    with open(path, "wb") as out:
        out.write(np.array([len(test), n_labels, n_train, np.dtype(id_type).itemsize], dtype="<i8").tobytes())
        out.write(np.array([len(row) for row in test], dtype="<u2").tobytes())
        out.write(np.concatenate([np.asarray(row, dtype=id_type) for row in test]).tobytes())
        out.write(counts.astype("<u4").tobytes())


def sklearn_values(truth, predicted):
    """nDCG@1..5 by ndcg_score on the few columns that matter, MAP by label_ranking_average_precision_score."""
    sums = np.zeros(5)
    average_precision = 0.0
    for t, p in zip(truth, predicted, strict=True):
        if not t:
            continue  # counts as 0
        # Columns: the predicted list, then what it misses and padding, below everything.
        columns = list(p) + sorted(set(t) - set(p))
        columns += [-1] * max(0, 6 - len(columns))
        relevant = np.isin(columns, t)[None, :].astype(float)
        scores = -np.arange(len(columns), dtype=float)[None, :]
        if len(p) >= 5:
            sums += [ndcg_score(relevant, scores, k=k, ignore_ties=True) for k in range(1, 6)]
        else:  # a short list: missing labels must not be found behind its end
            gains = relevant[0, : len(p)] / np.log2(np.arange(len(p)) + 2)
            ideal = np.cumsum(1 / np.log2(np.arange(min(5, len(t))) + 2))
            sums += [gains[:k].sum() / ideal[min(k, len(t)) - 1] for k in range(1, 6)]
        hits = relevant[:, : len(p)]
        if hits.any():
            average_precision += label_ranking_average_precision_score(hits, scores[:, : len(p)]) * hits.sum() / len(t)
    n = len(truth)
    return {**{f"nDCG@{k + 1}": 100 * sums[k] / n for k in range(5)}, "MAP": 100 * average_precision / n}


def napkin_values(truth, predicted, weights):
    values = {}
    named = {
        "P": nxc.precision_at_k(truth, predicted, k=5),
        "R": nxc.recall_at_k(truth, predicted, k=5),
        "nDCG": nxc.ndcg_at_k(truth, predicted, k=5),
        "PSP": nxc.psprecision_at_k(truth, predicted, weights, k=5),
        "PSnDCG": nxc.psndcg_at_k(truth, predicted, weights, k=5),
    }
    for name, at_k in named.items():
        values.update({f"{name}@{k + 1}": 100 * float(at_k[k]) for k in range(5)})
    deep = nxc.recall_at_k(truth, predicted, k=100)
    values["R@10"], values["R@100"] = 100 * float(deep[9]), 100 * float(deep[99])
    # napkinxc has no MRR: the reciprocal place of the first hit, 0 without one.
    first = [next((1 / (i + 1) for i, label in enumerate(p) if label in set(t)), 0.0) for t, p in zip(truth, predicted, strict=True)]
    values["MRR"] = 100 * float(np.mean(first))
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    out = pathlib.Path(__file__).parent / "goldens"
    out.mkdir(exist_ok=True)
    for folder in parser.parse_args().folders:
        test, n_labels, counts, n_train = read_folder(folder)
        write_matrix(out / f"metrics_{folder.name}.bin", test, n_labels, counts, n_train)
        a, b = (0.6, 2.6) if "amazon" in folder.name else (0.55, 1.5)
        weights = 1 + (np.log(n_train) - 1) * (b + 1) ** a * (counts + b) ** -a
        lists = [predictions(i, row, n_labels) for i, row in enumerate(test)]
        filters = [filter_row(i, p, n_labels) for i, p in enumerate(lists)]
        before = [[x for x in p if x not in f][:100] for p, f in zip(lists, filters, strict=True)]
        official = [[x for x in p[:OFFICIAL_K] if x not in f] for p, f in zip(lists, filters, strict=True)]
        cut = [p[:100] for p in lists]
        blank = [[] if i % BLANK_EVERY == BLANK_AT else row for i, row in enumerate(test)]
        variants = {"plain": (test, cut), "before": (test, before), "official": (test, official), "blank": (blank, cut)}
        made_by = ", ".join(f"{package} {version(package)}" for package in ("napkinxc", "scikit-learn"))
        values = {}
        for name, (truth, predicted) in variants.items():
            values[name] = {
                "napkinxc": napkin_values(truth, predicted, weights),
                "sklearn": sklearn_values(truth, predicted),
            }
        goldens = {"made_by": made_by, "a": a, "b": b, "variants": values}
        with open(out / f"metrics_{folder.name}.json", "w", encoding="utf-8") as file:
            json.dump(goldens, file, indent=1)
            file.write("\n")
        print(folder.name, values["plain"]["napkinxc"]["P@1"], values["plain"]["sklearn"]["MAP"])


if __name__ == "__main__":
    main()
