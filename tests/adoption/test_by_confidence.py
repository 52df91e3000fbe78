"""A few sentences labelled by one tagger: plainly, and each judged by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from metacross import AdaptiveTagger
from metacross.adoption.by_confidence import label_by_confidence
from metacross.corpora.sentence import Sentence, sentence_from_text
from tests.helpers.adoption import TEXT

SENTENCES = [sentence_from_text(f"{text}.") for text in TEXT.replace("\n", " ").split(". ") if text]


@pytest.fixture(scope="module")
def tagger(tiny_bundle: Path) -> AdaptiveTagger:
    return AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")


def confidence(sentence: Sentence) -> float:
    assert sentence.machine is not None
    return sentence.machine.confidence


def test_labels_are_the_plain_answer(tagger: AdaptiveTagger) -> None:
    labelled = label_by_confidence(tagger, SENTENCES, language="de", bound=0)
    tags = dict(zip(SENTENCES, (s.tags for s in tagger.tag_sentences(SENTENCES, adapt=False)), strict=True))
    texts = {sentence.text: sentence for sentence in SENTENCES}
    assert labelled
    for sentence in labelled:
        assert sentence.tags == tags[texts[sentence.text]] and not sentence.presplit
        assert sentence.machine is not None and sentence.machine.language == "de"
        assert sentence.machine.uncertain == ()


def test_confidence_is_at_the_temperature_of_the_scores(tiny_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    first = SENTENCES[:1]
    (probabilities_WC,) = tagger.probabilities(first, adapt=False)
    tags = tagger.tag_sentences(first, adapt=False)[0].tags
    for temperature, powers_WC in ((1.0, probabilities_WC), (0.5, probabilities_WC**2)):
        tagger.bundle.score_temperature = temperature
        (labelled,) = label_by_confidence(tagger, first, language="de", bound=0)
        shares_WC = powers_WC / powers_WC.sum(1, keepdim=True)
        inside = [shares_WC[w, tagger.tags.index(tag)].item() for w, tag in enumerate(tags) if tag != "O"]
        assert confidence(labelled) == pytest.approx(sum(inside) / len(inside), abs=1e-4)


def test_who_comes_along_makes_no_difference(tagger: AdaptiveTagger) -> None:
    bound = sorted(map(confidence, label_by_confidence(tagger, SENTENCES, language="de", bound=0)))[3]
    together = label_by_confidence(tagger, SENTENCES, language="de", bound=bound)
    alone = [s for one in SENTENCES for s in label_by_confidence(tagger, [one], language="de", bound=bound)]
    assert [(s.text, s.tags, s.uncertain) for s in together] == [(s.text, s.tags, s.uncertain) for s in alone]
    assert any(s.uncertain for s in together)


def test_sentences_without_anything_certain_are_left_out(tagger: AdaptiveTagger) -> None:
    assert label_by_confidence(tagger, SENTENCES, language="de", bound=1) == []
    assert label_by_confidence(tagger, [], language="de", bound=0) == []
