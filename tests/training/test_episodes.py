"""Meta-batches: a function of seed and step, every sentence once a pass, whole words masked, shares balanced."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from metacross.corpora.sentence import Sentence, sentence_from_words
from metacross.encoder.windows import Window
from metacross.training.episodes import POOL, EpisodeSource, shares


def corpus(n: int = 50) -> tuple[list[Window], list[Sentence]]:
    """Sentences of 1 to 12 words, each beginning with an entity of one or two words."""
    sentences, windows = [], []
    for i in range(n):
        words = [f"w{i}x{j}" for j in range(1 + i % 12)]
        tags = ["B-PER", "I-PER", *["O"] * 12][: len(words)]
        sentences.append(sentence_from_words(words, tags))
        pieces = tuple(range(len(words) + 2))
        windows.append(Window(i, pieces, tuple(range(1, len(words) + 1)), 0, (0, len(words))))
    return windows, sentences


def source(**changes: object) -> EpisodeSource:
    windows, sentences = corpus()
    neighbours = np.array([[(i + 1) % 50, (i + 2) % 50] for i in range(50)])
    settings = {"seed": 95, "meta_batch_size": 4, "mask_ratio": 0.5} | changes
    return EpisodeSource(windows, sentences, neighbours, **settings)  # type: ignore[arg-type]


def test_a_meta_batch_is_a_function_of_seed_and_step() -> None:
    one, other = source(), source()
    backwards = [other.meta_batch(step) for step in reversed(range(60))][::-1]
    assert [one.meta_batch(step) for step in range(60)] == backwards
    assert source(seed=96).meta_batch(0) != one.meta_batch(0)


def test_every_sentence_is_the_query_once_a_pass() -> None:
    episodes = source(meta_batch_size=5)
    pool = 50 * POOL // 5  # steps after which whole passes and whole pools end together
    queries = [e.query for step in range(pool) for e in episodes.meta_batch(step)]
    assert Counter(queries) == dict.fromkeys(range(50), POOL)


def test_support_is_the_neighbours() -> None:
    for episode in itertools.chain.from_iterable(source().meta_batch(step) for step in range(20)):
        assert episode.support == ((episode.query + 1) % 50, (episode.query + 2) % 50)


def test_masks_hide_entity_words_only_and_are_redrawn_every_pass() -> None:
    episodes = source()
    seen: dict[int, set[tuple[int, ...]]] = {}
    hidden = entities = 0
    for episode in itertools.chain.from_iterable(episodes.meta_batch(step) for step in range(400)):
        tags = episodes.sentences[episode.query].tags or ()
        assert all(tags[w] != "O" for w in episode.masked)
        hidden += len(episode.masked)
        entities += sum(tag != "O" for tag in tags)
        seen.setdefault(episode.query, set()).add(episode.masked)
    assert hidden / entities == pytest.approx(0.5, abs=0.05)
    assert all(len(masks) > 1 for masks in seen.values())
    assert all(not e.masked for e in source(mask_ratio=0.0).meta_batch(3))


def test_batches_hold_sentences_of_like_length() -> None:
    episodes = source(meta_batch_size=8)

    def spread(batch: list[int]) -> int:
        lengths = [
            len(episodes.windows[i]) + sum(len(episodes.windows[j]) for j in episodes.neighbours_MK[i]) for i in batch
        ]
        return max(lengths) - min(lengths)

    grouped = np.mean([spread([e.query for e in episodes.meta_batch(step)]) for step in range(POOL)])
    rng = np.random.default_rng(0)
    shuffled = np.mean([spread(list(rng.permutation(50)[:8])) for _ in range(POOL)])
    assert grouped < shuffled / 2


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_shares_are_whole_and_balanced(workers: int) -> None:
    episodes = source(meta_batch_size=32)
    batch = episodes.meta_batch(2)
    parts = shares(batch, episodes.windows, workers)
    assert sorted(i for part in parts for i in part) == list(range(32))
    load = [sum(len(episodes.windows[batch[i].query]) for i in part) for part in parts]
    assert max(load) <= 1.3 * min(load)
