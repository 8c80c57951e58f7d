"""augment_grid.py: its formula against one written out query by query, and what it chooses against `vixen evaluate`."""

from __future__ import annotations

import json
import math

import h5py
import numpy as np
import pytest
from test_export import VIXEN, place, train, vixen  # noqa: F401  (fixtures)


def slow_ranking(one, labels, queries, truth, counts, filtered, top):
    """The definition, with dictionaries."""
    out = []
    for own_ids, own_scores, near, near_scores, dropped in zip(*labels, *queries, filtered, strict=True):
        kept = [(i, s) for i, s in zip(own_ids, own_scores, strict=True) if i not in dropped]
        own_ids, own_scores = [i for i, _ in kept], [s for _, s in kept]
        if one.weight == 0 and one.prior == 0:
            out.append((own_ids + [-1] * top)[:top])
            continue
        own_ids, own_scores = own_ids[: one.labels], own_scores[: one.labels]
        logits = [s / one.temperature + one.prior * math.log(max(counts[i], 1)) for i, s in zip(own_ids, own_scores, strict=True)]
        near = near[: one.queries] if one.weight > 0 else []
        logits += [s / one.temperature for s in near_scores[: len(near)]]
        p = [math.exp(value - max(logits)) for value in logits]
        p = [value / sum(p) for value in p]
        scores: dict[int, float] = {}
        for label, value in zip(own_ids, p, strict=False):
            scores[label] = scores.get(label, 0.0) + (1 - one.weight) * value
        for row, value in zip(near, p[len(own_ids) :], strict=True):
            for label in truth[row]:
                scores[label] = scores.get(label, 0.0) + one.weight * value
        best = sorted(scores.keys() - dropped, key=lambda label: (-np.float32(scores[label]), label))[:top]
        out.append(best + [-1] * (top - len(best)))
    return out


@pytest.mark.parametrize("most_filtered", [0, 2, 9])
@pytest.mark.parametrize("numbers", [(3, 2), (9, 5), (1, 1)])
def test_the_formula(numbers, most_filtered):
    """With lists that lose some of their labels: of those that are found, of those that neighbours vote for, all of them."""
    from vixen_tools.augmentation import Augmenter, Settings
    from vixen_tools.ranking_file import without_filtered

    generator = np.random.default_rng(0)
    n, n_labels, n_train = 12, 20, 15
    truth = [sorted(generator.choice(n_labels, 1 + i % 4, replace=False).tolist()) for i in range(n_train)]
    counts = np.bincount(np.concatenate(truth), minlength=n_labels)

    def lists(of: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([generator.permutation(of)[:k] for _ in range(n)]), -np.sort(-generator.random((n, k)).astype(np.float32), axis=1)

    labels, queries = lists(n_labels, 9), lists(n_train, 5)
    ragged = np.cumsum([0, *map(len, truth)]), np.concatenate(truth)
    settings = [Settings(w, numbers[0], numbers[1], t, prior) for w in (0.0, 0.1, 0.7, 1.0) for t in (0.05, 0.5) for prior in (0.0, 0.4)]
    dropped = [{*row[: i % (most_filtered + 1)].tolist(), i % n_labels} if most_filtered else set() for i, row in enumerate(labels[0])]
    filtered = np.cumsum([0, *map(len, dropped)]), np.array([label for row in dropped for label in sorted(row)], np.int64)
    kept = without_filtered(*labels, filtered, 9)
    assert ((kept[0] < 0) == np.isneginf(kept[1])).all() and (kept[0] < 0).any() == (most_filtered > 0)
    augmenter = Augmenter(kept, queries, ragged, counts, filtered)
    for one, found in zip(settings, augmenter.rankings(settings, 7), strict=True):
        expected = slow_ranking(one, [part.tolist() for part in labels], [part.tolist() for part in queries], truth, counts, dropped, 7)
        assert found.tolist() == expected, one


def test_the_grid():
    from vixen_tools.augmentation import Settings, grid

    groups = list(grid([0, 0.1], [100, 500], [20, 50], [0.05], [0, 0.3]))
    found = [one for group in groups for one in group]
    assert len(found) == len(set(found)) == 2 * (2 * 2 + 2)  # lambda 0 with one number of queries alone
    assert Settings(0, 100, 20, 0.05, 0.3) in found and Settings(0, 100, 50, 0.05, 0.3) not in found
    assert Settings(0.1, 500, 50, 0.05, 0).options()[:4] == ["--augment.lambda", "0.1", "--augment.labels", "500"]


@pytest.fixture
def held_out(tools, place, tmp_path):  # noqa: F811
    tools.run("split_dataset.py", "--data", place / "bert.h5", "--out", tmp_path / "held.h5", "--share", 0.3)
    return tmp_path / "held.h5"


GRID = ("--weight", 0, 0.2, 0.6, "--labels", 5, "--queries", 3, 6, "--temperature", 0.05, "--prior", 0, 0.5, "--threads", 1)


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
def test_a_backbone_as_it_is(tools, place, tmp_path, held_out, filtered):  # noqa: F811
    if filtered:
        with h5py.File(held_out, "r+") as file:
            offsets, labels = np.arange(held(held_out) + 1) * 2, len(file["label/tokens/offsets"]) - 1
            del file["test/filter/offsets"], file["test/filter/values"]
            file["test/filter/offsets"] = offsets
            file["test/filter/values"] = np.sort((np.arange(offsets[-1]) * 5 % labels).reshape(-1, 2), axis=1).astype(np.int32).ravel()
    command = ["augment_grid.py", "--binary", VIXEN, "--model", place / "models/bert", "--data", held_out, "--out", tmp_path / "grid.json"]
    said = tools.run(*command, "--metric", "P@1", "PSP@1", *GRID, "--", "--data.images", "false").stdout
    record = json.loads((tmp_path / "grid.json").read_text())
    assert len(record["settings"]) == 2 + 2 * 2 * 2
    best = max(cell["P@1"] + cell["PSP@1"] for cell in record["settings"])
    chosen = record["chosen"]["settings"]
    cell = next(cell for cell in record["settings"] if all(cell[key] == value for key, value in chosen.items()))
    assert cell["P@1"] + cell["PSP@1"] == best
    assert record["chosen"]["metrics"] == pytest.approx({name: cell[name] for name in record["chosen"]["metrics"]}, abs=1e-4)
    assert f"lambda = {chosen['augment.lambda']:g}\n" in said and "chosen by P@1 + PSP@1" in said
    tools.run(*command, *GRID)  # its own file may be written again


@pytest.mark.skipif(not VIXEN, reason="VIXEN_BINARY is not set")
def test_a_run_and_what_it_was_trained_on(tools, place, tmp_path, held_out, train):  # noqa: F811
    with h5py.File(place / "bert.h5") as file:
        assert "held_out" not in file.attrs
    common = ["augment_grid.py", "--binary", VIXEN, *GRID]
    error = tools.fails(*common, "--model", place / "models/bert", "--data", place / "bert.h5")
    assert "bert.h5: its test split is not known to be held out" in error
    run = train("bert")  # on all training queries
    error = tools.fails(*common, "--run", run.folder, "--data", held_out)
    assert "was trained on other queries" in error and "held-out ones maybe among them" in error
    assert "no finished model here" in tools.fails(*common, "--run", tmp_path, "--data", held_out)
    options = ["--train.epochs", 1, "--train.batch_size", 8, "--loss.negatives", 2, "--prototype.free_vectors", 2, "--threads", 1]
    vixen("train", "--data.path", held_out, "--model.path", place / "models/bert", "--run.dir", tmp_path / "honest", *options)
    said = tools.run(*common, "--run", tmp_path / "honest", "--data", held_out).stdout
    assert "differs" not in said and f"on {held(held_out)} held-out queries" in said


def held(path) -> int:
    with h5py.File(path) as file:
        return len(file["test/labels/offsets"]) - 1


def test_bad_temperatures_are_one_line(tools, tmp_path):
    assert "--temperature 0: expected numbers above 0" in tools.fails("augment_grid.py", "--model", "m", "--data", "d", "--temperature", 0)
