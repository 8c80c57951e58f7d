"""A made data set of any size: every row is a function of the seed and its number, so that nothing is held and no block size matters.

Labels stand in topics of GROUP, and a topic has words. A query has a topic, drawn from a power law: its labels are mostly that topic's
(the popular ones first), a few of a topic beside it; its text recombines words of its topic, words that its labels alone have, and
common ones. So the label frequencies follow a power law, and texts say which labels are right.

n: rows of a block; L: labels; K: topics; V: words; I: width of a picture's embedding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

GROUP = 64  # labels of a topic
TOPIC_WORDS = 8
TOPIC_SLOPE, TOPIC_SHIFT = 0.7, 10.0  # queries of topic t go with (t + shift)^-slope
LABEL_SHIFT = 2.0  # the weight of a topic's label r is 1 / (r + shift)
NEIGHBOUR_WEIGHT = 0.05
MOST_FILLERS = 4
TABLE_ROWS = 512  # of the tables that pictures are sums of
# streams of random numbers
TOPIC, COUNT, KEY, NEIGHBOUR, TOPIC_WORD, LABEL_WORD, CHOICE, FILLER, FILLERS, PICTURE, FILTER = range(11)


@dataclass(frozen=True)
class Sizes:
    train: int
    test: int
    labels: int

    def rows(self, stem: str) -> int:
        return {"lbl": self.labels, "trn": self.train, "tst": self.test}[stem]


#: LF-AmazonTitles-1.3M
FULL = Sizes(train=2_248_619, test=970_237, labels=1_305_265)


class Draws:
    """Random numbers by (seed, stream, row, slot): SplitMix64's output function (Steele, Lea, Flood 2014) of a counter."""

    def __init__(self, seed: int):
        self._seed = seed

    def bits(self, stream: int, rows: np.ndarray, slots: int = 1) -> np.ndarray:
        """uint64 [n, slots] of rows int64 [n]."""
        key = _mixed(np.array([self._seed], np.uint64) * np.uint64(64) + np.uint64(stream))
        counters = rows.astype(np.uint64)[:, None] * np.uint64(slots) + np.arange(slots, dtype=np.uint64)
        return _mixed(_mixed(counters) ^ key)

    def uniform(self, stream: int, rows: np.ndarray, slots: int = 1) -> np.ndarray:
        """float64 [n, slots], strictly between 0 and 1."""
        return ((self.bits(stream, rows, slots) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def whole(self, stream: int, rows: np.ndarray, slots: int, below: int) -> np.ndarray:
        """int64 [n, slots] in [0, below)."""
        return (self.uniform(stream, rows, slots) * below).astype(np.int64)


def _mixed(values: np.ndarray) -> np.ndarray:
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def vocabulary_of(texts: Iterable[str]) -> list[str]:
    """The distinct words of the texts, the most frequent first."""
    counts = Counter(word for text in texts for word in text.split() if word.isprintable())
    return sorted(counts, key=lambda word: (-counts[word], word))


@dataclass
class Rows:
    """n rows of a side. words int64 [n, most], -1 behind the last; labels int64 [n, most], ascending, L behind the last (none: of labels);
    topics int64 [n]."""

    words: np.ndarray
    topics: np.ndarray
    labels: np.ndarray | None = None


class MadeSet:
    """Rows, pictures and filter pairs of a made set. Sides are told apart by their stems lbl, trn, tst."""

    def __init__(self, sizes: Sizes, seed: int, n_words: int, labels_per_query: float, image_width: int = 0):
        self.sizes = sizes
        self._draws, self._n_words, self._mean_labels = Draws(seed), n_words, labels_per_query
        self._topics = -(-sizes.labels // GROUP)
        # a label's place among the topics is its number times a unit of the ring: neighbours in number share no topic
        step = max(1, int(sizes.labels * 0.6180339887))
        while math.gcd(step, sizes.labels) != 1:
            step += 1
        self._step, self._back = step, pow(step, -1, sizes.labels)
        generator = np.random.Generator(np.random.Philox(key=seed))
        self._tables = generator.standard_normal((4, TABLE_ROWS if image_width else 0, image_width), np.float32)
        self._tables[2:] *= 0.5

    def rows(self, stem: str, first: int, count: int) -> Rows:
        if stem == "lbl":
            return self._label_rows(np.arange(first, first + count))
        # test queries are those behind the training queries
        return self._query_rows(np.arange(first, first + count) + (self.sizes.train if stem == "tst" else 0))

    def topics(self, stem: str, first: int, count: int) -> np.ndarray:
        """int64 [n], as in rows()."""
        numbers = np.arange(first, first + count)
        return self._label_topics(numbers) if stem == "lbl" else self._query_topics(numbers + (self.sizes.train if stem == "tst" else 0))

    def pictures(self, stem: str, topics: np.ndarray, first: int, images_per_row: int) -> np.ndarray:
        """float16 [n * images_per_row, I]: the row's topic in two tables, and noise out of two others."""
        topics = np.repeat(topics, images_per_row)
        numbers = first * images_per_row + np.arange(len(topics))
        numbers += images_per_row * {"lbl": 0, "trn": self.sizes.labels, "tst": self.sizes.labels + self.sizes.train}[stem]
        noise = self._draws.whole(PICTURE, numbers, 2, TABLE_ROWS)
        out = self._tables[0][topics % TABLE_ROWS]
        out += self._tables[1][topics // TABLE_ROWS % TABLE_ROWS]
        out += self._tables[2][noise[:, 0]]
        out += self._tables[3][noise[:, 1]]
        return out.astype(np.float16)

    def filter_pairs(self, first: int, rows: Rows) -> np.ndarray:
        """int64 [m, 2] (test row, label): for one row in twenty a label of its topic that is not among its labels."""
        assert rows.labels is not None
        numbers = first + np.arange(len(rows.topics))
        draws = self._draws.uniform(FILTER, numbers, 2)
        places = rows.topics * GROUP + (draws[:, 1] * GROUP).astype(np.int64)
        labels = self._label_at(np.minimum(places, self.sizes.labels - 1))
        keep = (draws[:, 0] < 0.05) & ~(rows.labels == labels[:, None]).any(axis=1)
        return np.stack([numbers, labels], axis=1)[keep]

    def _label_at(self, places: np.ndarray) -> np.ndarray:
        return places * self._step % self.sizes.labels

    def _label_topics(self, labels: np.ndarray) -> np.ndarray:
        return labels * self._back % self.sizes.labels // GROUP

    def _label_rows(self, labels: np.ndarray) -> Rows:
        topics = self._label_topics(labels)
        own = self._label_words(labels)
        words = np.concatenate([self._topic_words(topics, 2 * labels, 3), own, self._fillers(2 * labels)], axis=1)
        return Rows(words, topics)

    def _query_rows(self, queries: np.ndarray) -> Rows:
        topics = self._query_topics(queries)
        labels, best = self._query_labels(queries, topics)
        # one of the three words of each of its three foremost labels
        chosen = self._draws.whole(CHOICE, 2 * queries + 1, 11, 3)[:, 8:]
        own = np.stack([self._label_words(best[:, i])[np.arange(len(queries)), chosen[:, i]] for i in range(3)], axis=1)
        words = np.concatenate([self._topic_words(topics, 2 * queries + 1, 4), own, self._fillers(2 * queries + 1)], axis=1)
        return Rows(words, topics, labels)

    def _query_topics(self, queries: np.ndarray) -> np.ndarray:
        """By the inverse of the distribution function of (x + shift)^-slope on [0, K)."""
        power = 1 - TOPIC_SLOPE
        low, high = TOPIC_SHIFT**power, (self._topics + TOPIC_SHIFT) ** power
        x = (low + (high - low) * self._draws.uniform(TOPIC, queries)[:, 0]) ** (1 / power) - TOPIC_SHIFT
        return np.clip(x.astype(np.int64), 0, self._topics - 1)

    def _query_labels(self, queries: np.ndarray, topics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels as Rows has them, and the three drawn first, int64 [n, 3] (again the first where there are fewer).

        A geometric number of labels, drawn without replacement: the largest of log weight plus Gumbel noise (Vieira 2014).
        """
        n = len(queries)
        steps = 1 + self._draws.whole(NEIGHBOUR, topics, 1, max(self._topics - 1, 1))
        places = np.stack([topics[:, None], (topics[:, None] + steps) % self._topics], axis=1)[:, :, 0, None] * GROUP + np.arange(GROUP)
        places = places.reshape(n, 2 * GROUP)
        weights = 1 / (np.arange(GROUP) + LABEL_SHIFT)
        log_weights = np.log(np.concatenate([weights, NEIGHBOUR_WEIGHT * weights])).astype(np.float32)
        uniform = self._draws.uniform(KEY, queries, 2 * GROUP).astype(np.float32)
        with np.errstate(divide="ignore"):  # what float32 rounds to 0 or 1
            keys = log_weights - np.log(-np.log(uniform))
        missing = places >= self.sizes.labels
        if self._topics == 1:
            missing[:, GROUP:] = True
        keys[missing] = -np.inf
        order = np.argsort(-keys, axis=1, kind="stable")
        ordered = self._label_at(np.take_along_axis(places, order, axis=1))
        scale = 1 / math.log1p(1 / max(self._mean_labels - 1, 1e-9))
        counts = 1 + (-np.log(self._draws.uniform(COUNT, queries)[:, 0]) * scale).astype(np.int64)
        counts = np.minimum(counts, 2 * GROUP - missing.sum(axis=1))
        best = ordered[np.arange(n)[:, None], np.minimum(np.arange(3), counts[:, None] - 1)]
        ordered[np.arange(2 * GROUP) >= counts[:, None]] = self.sizes.labels
        return np.sort(ordered, axis=1)[:, : int(counts.max())], best

    def _topic_words(self, topics: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
        """`count` distinct ones of the topic's words; rows: the numbers that the choice is drawn by."""
        of_topic = self._draws.whole(TOPIC_WORD, topics, TOPIC_WORDS, self._n_words)
        order = np.argsort(self._draws.bits(CHOICE, rows, 11)[:, :TOPIC_WORDS], axis=1, kind="stable")
        return np.take_along_axis(of_topic, order[:, :count], axis=1)

    def _label_words(self, labels: np.ndarray) -> np.ndarray:
        return self._draws.whole(LABEL_WORD, labels, 3, self._n_words)

    def _fillers(self, rows: np.ndarray) -> np.ndarray:
        """0 to MOST_FILLERS words, rather frequent ones, -1 behind them."""
        words = (self._draws.uniform(FILLER, rows, MOST_FILLERS) ** 3 * self._n_words).astype(np.int64)
        words[np.arange(MOST_FILLERS) >= self._draws.whole(FILLERS, rows, 1, MOST_FILLERS + 1)] = -1
        return words
