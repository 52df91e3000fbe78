"""What the likeliest valid tags and the probabilities of entities cost, next to the likeliest tag of each word.

    python -m benchmarks.decoding

Random tag probabilities of sentences as long as real ones (on average 22 words), no model. The ways take turns; what is
taken is the processor time of this process. Ratios are taken within a turn; medians with quartiles are printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Annotated, Any

import numpy as np
import typer

from metacross.tagging.tag_sequences import TagChains, TaggedWords


def random_sentences(count: int, tags: int) -> list[TaggedWords]:
    """Sentences with tag probabilities that are mostly sure."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.0, 0.5, size=count), 1, 120).astype(int)
    return [TaggedWords(rng.dirichlet(np.full(tags, 0.1), size=n).astype(np.float32), [False] * n) for n in lengths]


def word_by_word(sentences: Sequence[TaggedWords], tags: Sequence[str]) -> list[list[str]]:
    """The likeliest tag of each word, valid or not."""
    return [[tags[i] for i in words.probabilities_WC.argmax(1).tolist()] for words in sentences]


def main(
    sentences: Annotated[int, typer.Option(min=1, help="decoded together")] = 1000,
    types: Annotated[int, typer.Option(min=1, help="entity types")] = 4,
    turns: Annotated[int, typer.Option(min=3)] = 15,
) -> None:
    """Prints milliseconds and ratios."""
    tags = ["O", *(f"{letter}-{number}" for number in range(types) for letter in "BI")]
    drawn = random_sentences(sentences, len(tags))
    ways: dict[str, Callable[[], Any]] = {
        "word by word": lambda: word_by_word(drawn, tags),
        "valid sequence": lambda: TagChains(drawn, tags).best_tags(),
        "with probabilities": lambda: TagChains(drawn, tags).segments(),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            began = time.process_time()
            way()
            seconds[name].append(time.process_time() - began)
    print(f"{sentences} sentences, {sum(len(words.shared) for words in drawn)} words, {len(tags)} tags")
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(taken, seconds["word by word"], strict=True)]
        low, _, high = quantiles(ratios, n=4)
        times = f"{median(ratios):.1f} [{low:.1f}-{high:.1f}]"
        print(f"{name:20} {1000 * median(taken):6.1f} ms, times word by word {times}")


if __name__ == "__main__":
    typer.run(main)
