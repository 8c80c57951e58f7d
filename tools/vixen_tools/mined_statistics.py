"""What lists of mined negatives look like: which are likely to be unlabelled positives, from where, of how common labels.

N: queries; L: labels; k: negatives of a query at most; D: width of the embeddings.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import UserError
from .hdf5_file import open_hdf5, read_attribute, whole_dataset
from .labelled_texts import LabelledTexts
from .metrics import DECILES, deciles_of
from .mined_lists import MinedBlock, MinedLists, check_block
from .progress import Progress
from .text_similarity import normal, similarity
from .unit_embeddings import Embeddings

SAME, NEAR, CLOSE, COSINE = "same text", "near text", "close score", "close embedding"
RANK_LIMITS = (5, 10, 20, 50, 100, 200, 500)
GAP_LIMITS = (-0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2)
MOST_PAIRS = 20
STEP_ROWS = 4096  # queries whose embeddings are looked at together
SCORE_TOLERANCE = 0.02  # between a score in the file and the product of fp16 or bf16 rows


@dataclass
class Thresholds:
    """near: likeness of texts (vixen_tools/text_similarity.py); close: factor of the weakest relevant label's score; cosine: with a
    relevant label."""

    near: float
    close: float
    cosine: float


@dataclass
class Candidate:
    label: int
    text: str
    score: float | None
    flags: dict[str, str]  # flag -> what it is like


@dataclass
class MinedExample:
    row: int
    text: str
    positives: list[tuple[str, float | None]]  # text and score
    negatives: list[Candidate]
    pictures: list[str] = field(default_factory=list)  # data URIs


@dataclass
class Decile:
    """Labels of similar training frequency: their number, least and most training queries, percent of relevant pairs and negatives."""

    labels: int
    least: int
    most: int
    pairs: float
    negatives: float


@dataclass
class MinedStatistics:
    """Counts over all queries, then over the sampled ones. flagged: negatives with a flag; one that could not be looked for is missing."""

    source: str
    split: str
    queries: int
    negatives: int
    without: int  # queries without a negative
    depth: int | None
    dropped: dict[str, int]
    ranks: list[tuple[str, int]]
    deciles: list[Decile]
    thresholds: Thresholds
    sampled_queries: int
    sampled_negatives: int
    flagged: dict[str, int]
    any_flag: int
    gaps: list[tuple[str, int]]
    pairs: list[tuple[str, str, tuple[str, ...], int]]  # relevant label, negative, flags, how often
    examples: list[MinedExample]

    def share(self, flag: str) -> float:
        return percent(self.flagged[flag], self.sampled_negatives)


def percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


def find_split(lists: MinedLists, path: Path, file: h5py.File, asked: str) -> str:
    """The split whose queries the lists belong to: by content where both files say it, else `asked`. UserError: of another data set."""
    contents = {split: read_attribute(file, f"content_{split}", str) for split in ("train", "test")}
    labels, split = read_attribute(file, "content_label", str), asked
    if lists.corpus_is_another:
        raise UserError(f"{lists.path}: holds labels of another corpus (mine.corpus), expected those of {path}")
    if lists.labels_content and labels and lists.labels_content != labels:
        raise UserError(f"{lists.path}: was mined among other labels (content {lists.labels_content}) than those of {path} ({labels})")
    if lists.queries_content and all(contents.values()):
        found = [name for name, content in contents.items() if content == lists.queries_content]
        if not found:
            raise UserError(f"{lists.path}: was mined for other queries (content {lists.queries_content}) than those of {path}")
        split = found[0]
    rows = len(whole_dataset(file, f"{split}/labels/offsets", "i", 1)) - 1
    if rows != lists.rows:
        raise UserError(f"{lists.path}: holds lists of {lists.rows} queries, {path} has {rows} {split} queries")
    return split


def binned(values: np.ndarray, limits: tuple) -> np.ndarray:
    """Counts of values at most each limit and above the one before; the last bin is open."""
    return np.bincount(np.searchsorted(limits, values, side="left"), minlength=len(limits) + 1)


def rank_names(limits: tuple[int, ...]) -> list[str]:
    return [f"{low + 1} - {high}" for low, high in zip((0, *limits), limits, strict=False)] + [f"above {limits[-1]}"]


def gap_names(limits: tuple[float, ...]) -> list[str]:
    words = [f"{limit:+.1f}" if limit else "0" for limit in limits]
    return [f"to {words[0]}", *(f"{low} to {high}" for low, high in itertools.pairwise(words)), f"above {words[-1]}"]


class _Survey:
    """Sums over the blocks."""

    def __init__(self, lists: MinedLists, texts: LabelledTexts, embeddings: Embeddings | None, limits: Thresholds, sample: np.ndarray):
        self.lists, self.texts, self.embeddings, self.limits = lists, texts, embeddings, limits
        self._sampled = np.zeros(lists.rows, bool)
        self._sampled[sample] = True
        self.negatives = self.without = 0
        self.ranks, self.gaps = np.zeros(len(RANK_LIMITS) + 1, np.int64), np.zeros(len(GAP_LIMITS) + 1, np.int64)
        self.dropped = np.zeros(len(lists.rules), np.int64)
        self.per_label = np.zeros(texts.n_labels, np.int64)
        self.has_ranks = self.has_dropped = False
        self.flagged: Counter[str] = Counter(dict.fromkeys((SAME, NEAR, *((CLOSE, COSINE) if embeddings else ())), 0))
        self.any_flag = self.sampled_negatives = 0
        self.pairs: Counter[tuple[str, str]] = Counter()  # relevant label and negative
        self.pair_flags: dict[tuple[str, str], set[str]] = {}
        self.flagged_rows: list[int] = []

    def add(self, block: MinedBlock) -> None:
        check_block(self.lists, block, self.texts.n_labels)
        there = block.negatives >= 0
        self.negatives += int(there.sum())
        self.without += int((~there.any(axis=1)).sum())
        self.per_label += np.bincount(block.negatives[there], minlength=self.texts.n_labels)
        if block.ranks is not None:
            self.ranks += binned(block.ranks[there], RANK_LIMITS)
            self.has_ranks = True
        if block.dropped is not None:
            self.dropped += block.dropped.sum(axis=0, dtype=np.int64)
            self.has_dropped = True
        for first in range(0, len(there), STEP_ROWS):
            last = min(first + STEP_ROWS, len(there))
            chosen = np.flatnonzero(self._sampled[block.first + first : block.first + last])
            if not len(chosen):
                continue
            queries = self.embeddings.queries(block.first + first, block.first + last) if self.embeddings else None
            for place in chosen.tolist():
                self._look_at(block, first + place, None if queries is None else queries[place])

    def _look_at(self, block: MinedBlock, place: int, query: np.ndarray | None) -> None:
        row = block.first + place
        example, gaps = examine(self, row, block, place, query)
        self.sampled_negatives += len(example.negatives)
        for negative in example.negatives:
            self.flagged.update(negative.flags.keys())
            for pair in {(like, negative.text) for like in negative.flags.values() if like}:
                self.pairs[pair] += 1
                self.pair_flags.setdefault(pair, set()).update(flag for flag, like in negative.flags.items() if like == pair[0])
            self.any_flag += bool(negative.flags)
        if gaps is not None:
            self.gaps += binned(gaps, GAP_LIMITS)
        if any(negative.flags for negative in example.negatives):
            self.flagged_rows.append(row)


def limit_of(weakest: float, factor: float) -> float:
    """The score that is the factor times the weakest relevant label's; below zero it moves down by the same share, as `relative_margin`."""
    return weakest - (1 - factor) * abs(weakest)


def examine(survey: _Survey, row: int, block: MinedBlock, place: int, query: np.ndarray | None) -> tuple[MinedExample, np.ndarray | None]:
    """One query with its negatives and what each is like; scores less the weakest relevant label's where embeddings are at hand.

    query: its unit embedding [D], None without embeddings.
    """
    texts, limits = survey.texts, survey.limits
    text = texts.query(row)
    relevant = texts.relevant(row)
    ids = block.negatives[place]
    ids = ids[ids >= 0]
    scores = None if block.scores is None else block.scores[place, : len(ids)]
    known = {label: texts.label(label) for label in [*relevant.tolist(), *ids.tolist()]}
    same = {normal(known[label]) for label in relevant.tolist()} | {normal(text)}
    candidates = []
    for i, label in enumerate(ids.tolist()):
        flags: dict[str, str] = {}
        if normal(known[label]) in same:
            flags[SAME] = known[label]
        elif len(relevant):
            likeness, like = max((similarity(known[label], known[other]), known[other]) for other in relevant.tolist())
            if likeness >= limits.near:
                flags[NEAR] = like
        candidates.append(Candidate(label, known[label], None if scores is None else float(scores[i]), flags))
    positives: list[tuple[str, float | None]] = [(known[label], None) for label in relevant.tolist()]
    gaps = None
    if query is not None and survey.embeddings is not None and len(relevant):
        rows = survey.embeddings.labels(np.concatenate([relevant, ids]).astype(np.int64))
        own = rows @ query
        true, found = own[: len(relevant)], own[len(relevant) :]
        if scores is not None and len(ids) and np.abs(scores - found).max() > SCORE_TOLERANCE:
            worst = int(np.abs(scores - found).argmax())
            raise UserError(
                f"{survey.lists.path}: query {row} and label {ids[worst]} have the score {scores[worst]:.3f} here, {found[worst]:.3f} by "
                f"{survey.embeddings.queries_path} and {survey.embeddings.labels_path}: they are not the embeddings that were searched"
            )
        weakest = float(true.min())
        limit = limit_of(weakest, limits.close)
        nearest = np.argmax(rows[len(relevant) :] @ rows[: len(relevant)].T, axis=1)
        for i, candidate in enumerate(candidates):
            candidate.score = float(found[i]) if candidate.score is None else candidate.score
            if found[i] > limit:
                candidate.flags[CLOSE] = ""
            if float(rows[len(relevant) + i] @ rows[nearest[i]]) >= limits.cosine:
                candidate.flags[COSINE] = known[int(relevant[nearest[i]])]
        positives = [(known[label], float(score)) for label, score in zip(relevant.tolist(), true, strict=True)]
        gaps = found - weakest
    return MinedExample(row, text, positives, candidates), gaps


@dataclass
class Survey:
    """What is looked at: sample queries at random, of them examples to show, half with a flag."""

    sample: int
    examples: int
    seed: int


def survey_lists(
    lists: MinedLists, data: Path, split: str, limits: Thresholds, survey: Survey, embeddings: tuple[Path, Path] | None
) -> MinedStatistics:
    """Reads the lists once, block by block, and the shown queries once more. Texts and embeddings are compared for the sampled queries."""
    generator = np.random.default_rng(survey.seed)
    with open_hdf5(data) as file:
        split = find_split(lists, data, file, split)
        texts = LabelledTexts(data, file, split)
        if lists.n_labels not in (None, texts.n_labels):
            raise UserError(f"{lists.path}: was mined among {lists.n_labels} labels, {data} has {texts.n_labels}")
        sample = generator.choice(lists.rows, size=min(survey.sample, lists.rows), replace=False)
        rows = Embeddings(*embeddings, lists.rows, texts.n_labels) if embeddings else None
        sums = _Survey(lists, texts, rows, limits, sample)
        with Progress(f"{lists.path.name}: looked at", lists.rows, "queries") as progress:
            for block in lists.blocks():
                sums.add(block)
                progress.add(len(block.negatives))
        chosen = _choose(generator, sums.flagged_rows, sample, survey.examples)
        examples = _examples(sums, chosen)
        pairs = np.bincount(deciles_of(texts.counts), weights=texts.counts, minlength=DECILES)
        of_label = deciles_of(texts.counts)
        mined = np.bincount(of_label, weights=sums.per_label, minlength=DECILES)
        dropped = {rule: int(count) for rule, count in zip(lists.rules, sums.dropped, strict=True)} if sums.has_dropped else lists.dropped
    return MinedStatistics(
        source=f"{lists.path} ({lists.made_by})" if lists.made_by else str(lists.path),
        split=split,
        queries=lists.rows,
        negatives=sums.negatives,
        without=sums.without,
        depth=lists.depth,
        dropped=dropped or {},
        ranks=list(zip(rank_names(RANK_LIMITS), sums.ranks.tolist(), strict=True)) if sums.has_ranks else [],
        deciles=[
            Decile(
                int((of_label == decile).sum()),
                int(texts.counts[of_label == decile].min()),
                int(texts.counts[of_label == decile].max()),
                percent(pairs[decile], pairs.sum()),
                percent(mined[decile], mined.sum()),
            )
            for decile in np.unique(of_label).tolist()
        ],
        thresholds=limits,
        sampled_queries=len(sample),
        sampled_negatives=sums.sampled_negatives,
        flagged=dict(sums.flagged),
        any_flag=sums.any_flag,
        gaps=list(zip(gap_names(GAP_LIMITS), sums.gaps.tolist(), strict=True)) if rows else [],
        pairs=[
            (*pair, tuple(flag for flag in sums.flagged if flag in sums.pair_flags[pair]), count)
            for pair, count in sorted(sums.pairs.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
        ],
        examples=examples,
    )


def _choose(generator: np.random.Generator, flagged: list[int], sample: np.ndarray, count: int) -> list[int]:
    """Rows to show: half of them with a flag as far as there are any, then any others of the sample."""
    first = generator.permutation(np.array(flagged, np.int64))[: (count + 1) // 2].tolist()
    others = [row for row in generator.permutation(sample).tolist() if row not in set(first)]
    return [*first, *others[: count - len(first)]]


def _examples(survey: _Survey, rows: list[int]) -> list[MinedExample]:
    """The rows in the order given."""
    found: dict[int, MinedExample] = {}
    wanted: Any = np.array(sorted(rows), np.int64)
    for block in survey.lists.blocks() if rows else ():
        inside = wanted[(wanted >= block.first) & (wanted < block.first + len(block.negatives))]
        for row in inside.tolist():
            query = survey.embeddings.queries(row, row + 1)[0] if survey.embeddings else None
            found[row] = examine(survey, row, block, row - block.first, query)[0]
    return [found[row] for row in rows]
