"""What a machine labelled is marked by sentence: which words are certain, and how sure it was of the entities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metacross.adoption.marking import certain_sentences
from metacross.adoption.teacher import LabelledSentence
from metacross.corpora.sentence import MachineLabels, sentence_from_words


def labelled(tags: list[str], confidence: list[float]) -> LabelledSentence:
    sentence = sentence_from_words([f"w{i}" for i in range(len(tags))], tags)
    return LabelledSentence(sentence, torch.empty(len(tags), 3), torch.tensor(confidence, dtype=torch.float64))


def marks(tags: list[str], confidence: list[float], bound: float) -> MachineLabels | None:
    found = certain_sentences("de", [labelled(tags, confidence)], bound)
    return found[0].machine if found else None


def test_an_entity_is_trusted_as_a_whole() -> None:
    tags = ["B-PER", "I-PER", "O", "B-LOC", "O"]
    assert marks(tags, [0.9, 0.75, 0.7, 0.5, 0.8], 0.8) == MachineLabels(
        "de", pytest.approx(2.15 / 3, abs=1e-4), (2, 3)
    )
    assert marks(tags, [0.9, 0.65, 0.9, 0.9, 0.9], 0.8) == MachineLabels(
        "de", pytest.approx(2.45 / 3, abs=1e-4), (0, 1)
    )


def test_sentences_without_entities_stay_and_those_without_a_certain_word_do_not() -> None:
    assert marks(["O", "O"], [0.9, 0.7], 0.8) == MachineLabels("de", 0.8, (1,))
    assert marks(["O", "B-LOC"], [0.7, 0.7], 0.8) is None
    assert certain_sentences("de", [], 0.8) == []


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_a_literal_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tags: list[str] = []
    while len(tags) < 40:
        tags += [["O"], ["B-PER"], ["B-LOC", "I-LOC", "I-LOC"]][rng.integers(3)]
    confidence = rng.random(len(tags)).tolist()
    found = marks(tags, confidence, 0.5)
    assert found is not None
    for w, tag in enumerate(tags):
        entity = [w]
        if tag != "O":
            start = max(v for v in range(w + 1) if tags[v].startswith("B"))
            entity = [start]
            while entity[-1] + 1 < len(tags) and tags[entity[-1] + 1].startswith("I"):
                entity.append(entity[-1] + 1)
        assert (w in found.uncertain) == (sum(confidence[v] for v in entity) / len(entity) < 0.5)
