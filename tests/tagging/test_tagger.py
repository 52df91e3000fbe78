"""The adaptive tagger: answers, offsets, independence of batch mates, strange input, damaged bundles."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metacross import AdaptiveTagger
from metacross.algorithm import InnerLoop, adapt, tag
from metacross.bundle import Bundle, load_bundle, save_bundle
from metacross.config_loading import FILE_NAME, load_config
from metacross.corpora.characters import visible
from metacross.corpora.sentence import Sentence, entities, sentence_from_text, sentence_from_words
from metacross.corpora.words import split_sentences, split_words
from metacross.encoder import loading
from metacross.encoder.loading import load_classifier
from metacross.encoder.rows import pack, trunk_states
from metacross.errors import UserError
from metacross.retrieval.index import Vectors
from metacross.retrieval.pools import Candidate, Neighbour, Pool
from metacross.retrieval.source import Source
from metacross.tagging import tagger as tagger_module
from metacross.tagging import window_tagger
from metacross.tagging.adaptation import Adaptation, inner_loop, tag_windows
from metacross.tagging.decoding import shared_pieces
from metacross.training.learner import Learner
from tests.helpers.tiny_bundle import tiny_config, write_corpus

TEXT = "Anna Berg left Oslo. Jan Smit lives in Lima."
KEYS = ["entity_group", "score", "word", "start", "end"]


@pytest.fixture(scope="module")
def tagger(tiny_bundle: Path) -> AdaptiveTagger:
    return AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")


def check(text: str, found: list[dict[str, Any]]) -> None:
    """The entities are slices of the text, in order."""
    end = 0
    for entity in found:
        assert list(entity)[:5] == KEYS
        assert end <= entity["start"] < entity["end"] <= len(text)
        assert entity["word"] == text[entity["start"] : entity["end"]]
        assert visible(entity["word"]) == entity["word"] != ""
        assert 0 < entity["score"] <= 1
        end = entity["end"]


# --- answers ---------------------------------------------------------------------------------------------------------


def test_one_text_gives_a_list_and_several_a_list_of_lists(tagger: AdaptiveTagger) -> None:
    found = tagger(TEXT)
    check(TEXT, found)
    assert {entity["word"] for entity in found} >= {"Anna Berg", "Jan Smit"}
    assert tagger([TEXT, "", TEXT]) == [found, [], found]
    assert tagger([]) == []


def test_offsets_count_in_the_whole_text(tagger: AdaptiveTagger) -> None:
    text = "  😀 Anna Berg left Oslo.\n\n" + TEXT
    check(text, tagger(text))
    assert [e["word"] for e in tagger(text)][-len(tagger(TEXT)) :] == [e["word"] for e in tagger(TEXT)]


def test_given_words_keep_their_borders(tagger: AdaptiveTagger) -> None:
    sentence = sentence_from_words(["Anna", "Berg", "left", "Oslo", "."])
    (tagged,) = tagger.tag_sentences([sentence])
    assert len(tagged.tags) == 5
    assert tagged.adapted and tagged.windows == 1 and tagged.support == () and tagged.plain_tags is None
    for found, entity in zip(tagged.entities, entities(tagged.tags), strict=True):
        assert (found.label, found.text) == (entity.type, " ".join(sentence.words[entity.start : entity.end]))
        assert sentence.text[found.start : found.end] == found.text


def test_names_on_lines_of_their_own_are_entities_of_their_own(tagger: AdaptiveTagger) -> None:
    names = ["Anna Berg", "Otto Klein", "Maria Lopez"]
    assert [entity["word"] for entity in tagger("\n".join(names))] == names
    wrapped = "Nothing happened in Bergen , Berlin , Paris , Leiden , Lima , Oslo , and Anna\nBerg ."
    assert tagger(wrapped)[-1]["word"] == "Anna\nBerg"


def test_invisible_characters_around_names_change_nothing(tagger: AdaptiveTagger) -> None:
    text = "Anna Berg left Oslo . Jan Smit lives in Lima ."
    odd = "\ufeff\u202aAnna Berg\u202c\u200b left\xa0Oslo\xa0. \u2068Jan\xa0Smit\u2069 lives in \u200fLima\x00 ."
    found = tagger(odd)
    check(odd, found)
    assert [e["word"].replace("\xa0", " ") for e in found] == [e["word"] for e in tagger(text)]


def test_given_words_that_nobody_sees_end_no_entity(tagger: AdaptiveTagger) -> None:
    words = ["\xa0", "Anna", "\u200b", "Berg", " ", "\ufeff", "left", "Oslo", "\x00", "."]
    (tagged,) = tagger.tag_sentences([sentence_from_words(words)])
    assert len(tagged.tags) == len(words)
    assert all(visible(entity.text) == entity.text for entity in tagged.entities)
    marked = [(e.type, words[e.start], words[e.end - 1]) for e in entities(tagged.tags)]
    assert len(marked) == len(tagged.entities) and all(visible(first) and visible(last) for _, first, last in marked)


def test_adaptation_is_what_the_algorithm_says(tagger: AdaptiveTagger, tiny_bundle: Path) -> None:
    """Neighbours by brute force, one episode by hand; its answer is the tagger's."""
    sentence = sentence_from_words(["Eva", "Roth", "met", "Otto", "Klein", "in", "Lima", "."])
    bundle = load_bundle(tiny_bundle)
    pieces = tagger._pieces
    source = Source(bundle.sentences, bundle.tags, pieces=pieces, model=bundle.model, budget_mb=8, batch_pieces=64)
    _, vectors = trunk_states(bundle.model, source.windows, batch_pieces=64, sentence_encoder=bundle.sentence_encoder)
    windows = pieces.windows([sentence])
    states, looked_up = trunk_states(bundle.model, windows, batch_pieces=64, sentence_encoder=bundle.sentence_encoder)
    assert vectors is not None and looked_up is not None
    similarity = (vectors @ looked_up[0]).numpy()
    nearest = np.argsort(-similarity, kind="stable")[:2]

    support = pack(
        [[(trunk_states(bundle.model, [source.windows[i]], batch_pieces=64)[0][0], source.tag_ids(i)) for i in nearest]]
    )
    inner = bundle.config.inner
    fast_weights = adapt(bundle.model, support, InnerLoop(inner.steps, inner.lr, inner.step == "normalized", 0.0))
    by_hand = tag(bundle.model, pack([[(states[0], torch.zeros(len(windows[0]), dtype=torch.long))]]), fast_weights)
    expected_WC = by_hand[0, list(windows[0].scored_pieces())]

    torch.testing.assert_close(tagger.probabilities([sentence])[0], expected_WC, atol=1e-5, rtol=0)
    (tagged,) = tagger.tag_sentences([sentence], explain=True)
    np.testing.assert_allclose([s.similarity for s in tagged.support], similarity[nearest], atol=1e-5)
    assert [s.text for s in tagged.support] == [source.sentences[i].text for i in nearest]
    plain_WC = tagger.probabilities([sentence], adapt=False)[0]
    assert (plain_WC - expected_WC).abs().max() > 1e-3, "adaptation that changes nothing cannot be tested"


def test_explain_tells_support_and_what_was_found_before(tagger: AdaptiveTagger) -> None:
    sentences = [sentence_from_text("Anna Berg left Oslo."), sentence_from_text("Nothing happened in Paris.")]
    plain = tagger.tag_sentences(sentences, adapt=False)
    for tagged, before in zip(tagger.tag_sentences(sentences, explain=True, neighbours=3), plain, strict=True):
        assert (tagged.plain_tags, tagged.plain) == (before.tags, before.entities)
        assert not before.adapted and before.support == ()
        assert len(tagged.support) == 3
        assert [s.similarity for s in tagged.support] == sorted((s.similarity for s in tagged.support), reverse=True)
        for support in tagged.support:
            assert all(e.text in support.text for e in support.entities)
            assert support.place.partition(".conll:")[2].isdigit()
    found = tagger(TEXT, explain=True)
    assert [{key: entity[key] for key in KEYS} for entity in found] == tagger(TEXT)
    assert len(found[0]["support"]) == 2
    assert {"plain"} <= found[0].keys()


def test_examples_shape_answers_at_once_and_nothing_is_trained(tiny_bundle: Path) -> None:
    fresh = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    theta = [p.clone() for p in fresh.bundle.model.theta()]
    sentence = sentence_from_words(["Zoe", "Quist", "flew", "to", "Xanten", "."])
    before = fresh.probabilities([sentence])[0]
    example = replace(sentence, tags=("B-PER", "I-PER", "O", "O", "B-LOC", "O"), place="mine:1")
    empty = sentence_from_words(["Nothing", "flew", "."])
    numbers, voting = fresh.add_examples([example, replace(empty, tags=("O", "O", "O"))])
    assert (len(numbers), len(voting), len(fresh)) == (1, 1, 25), "one without entities is no support, but votes"

    (tagged,) = fresh.tag_sentences([sentence], explain=True)
    assert (tagged.support[0].place, tagged.support[0].text) == ("mine:1", sentence.text)
    assert tagged.support[0].similarity == pytest.approx(1, abs=1e-5)
    assert [e.label for e in tagged.support[0].entities] == ["PER", "LOC"]
    tags = [fresh.tags.index(tag) for tag in example.tags or ()]
    after = fresh.probabilities([sentence])[0]
    assert after[range(6), tags].log().mean() > before[range(6), tags].log().mean()
    torch.testing.assert_close(fresh.bundle.model.theta(), theta, rtol=0, atol=0)
    fresh.remove_examples([*numbers, *voting])
    assert len(fresh) == 24
    assert torch.equal(fresh.probabilities([sentence])[0], before)
    ((other,),) = fresh.add_examples([replace(example, tags=("B-LOC", "I-LOC", "O", "O", "B-PER", "O"))])
    assert other not in numbers, "what is kept under a number must stay true"
    assert (fresh.probabilities([sentence])[0] - after).abs().max() > 1e-3
    # The bundle on disk is what it was.
    assert torch.equal(AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu").probabilities([sentence])[0], before)


def test_examples_taken_in_together_are_those_taken_in_one_by_one(tiny_bundle: Path) -> None:
    names = ("Zoe Quist flew to Xanten .", "Max Roth met Eva Klein in Bern " * 20, "Ida sings .")
    examples = [sentence_from_words(text.split()) for text in names]
    examples = [replace(e, tags=("B-PER", *["O"] * (len(e.words) - 1))) for e in examples]
    together, single = (AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu") for _ in range(2))
    numbers = together.add_examples(examples)
    assert numbers == [single.add_examples([example])[0] for example in examples]
    assert len(numbers[1]) > 1
    assert together.example_count == 3, "of the long one only the window with an entity"
    text = "Max Roth flew to Xanten."
    (a,), (b,) = (tagger.tag_texts([text], explain=True) for tagger in (together, single))
    assert [s.text for s in a.support()] == [s.text for s in b.support()]
    assert [e.score for e in a.entities()] == pytest.approx([e.score for e in b.entities()], abs=1e-6)
    together.remove_examples(numbers[0])
    assert together.example_count == 2


@pytest.mark.parametrize(
    ("tags", "message"),
    [(None, "example 2: it has no tags"), (("B-CAT", "O"), "example 2: tag B-CAT is not one of O, B-LOC")],
)
def test_examples_that_teach_nothing_are_refused(
    tagger: AdaptiveTagger, tags: tuple[str, ...] | None, message: str
) -> None:
    good = replace(sentence_from_words(["Anna", "left"]), tags=("B-PER", "O"))
    with pytest.raises(UserError, match=message):
        tagger.add_examples([good, replace(good, tags=tags)])
    assert len(tagger) == 24
    assert tagger.add_examples([]) == []


def test_long_sentences_have_windows_with_neighbours_of_their_own(tagger: AdaptiveTagger) -> None:
    words = ("Anna Berg met Otto Klein in Madrid and " * 12).split()
    (tagged,) = tagger.tag_sentences([sentence_from_words(words)], explain=True)
    assert tagged.windows > 2
    assert len(tagged.tags) == len(words)
    assert [s.window for s in tagged.support] == [w for w in range(tagged.windows) for _ in range(2)]


def test_step_length_zero_is_no_adaptation(tagger: AdaptiveTagger) -> None:
    sentence = [sentence_from_text(TEXT)]
    plain = tagger.probabilities(sentence, adapt=False)[0]
    torch.testing.assert_close(tagger.probabilities(sentence, inner_lr=0.0)[0], plain, atol=1e-5, rtol=0)


def test_tagging_leaves_theta_alone(tagger: AdaptiveTagger) -> None:
    before = {name: value.clone() for name, value in tagger.bundle.model.state_dict().items()}
    tagger([TEXT] * 3, neighbours=4)
    assert all(torch.equal(before[name], value) for name, value in tagger.bundle.model.state_dict().items())
    assert all(parameter.grad is None for parameter in tagger.bundle.model.parameters())


WORDS = [
    "Anna",
    "Berg",
    "in",
    "Oslo",
    "left",
    "spoke",
    ".",
    "Xyz-12",
    "访问",
    "北京",
    "\x07",
    "\ud800",
    "é",
    "New York",
]
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=0, max_size=45).map(sentence_from_words)


@settings(max_examples=12)
@given(mates=st.lists(SENTENCES, min_size=1, max_size=5), adapted=st.booleans(), k=st.integers(1, 3))
def test_answers_do_not_depend_on_batch_mates(
    tagger: AdaptiveTagger, mates: list[Sentence], adapted: bool, k: int
) -> None:
    together = tagger.probabilities(mates, adapt=adapted, neighbours=k)
    for sentence, found_WC in zip(mates, together, strict=True):
        alone_WC = tagger.probabilities([sentence], adapt=adapted, neighbours=k)[0]
        assert found_WC.shape == (len(sentence.words), len(tagger.tags))
        torch.testing.assert_close(found_WC, alone_WC, atol=1e-5, rtol=0)


def test_every_sentence_of_a_batch_is_adapted_to_its_own_neighbours(tagger: AdaptiveTagger) -> None:
    sentences = [
        sentence_from_words(words.split())
        for words in (
            "Maria Lopez left Bergen for Berlin last week . " * 8,
            "In Madrid , Anna Berg met Jan Smit .",
            "Nothing happened in Paris .",
            "Eva Roth and Tom Hale spoke .",
            "Oslo",
        )
    ]
    supports = [tuple(s.text for s in t.support) for t in tagger.tag_sentences(sentences, explain=True)]
    assert len(set(supports)) >= 4, "with the same neighbours nothing could be mixed up"
    for sentence, found_WC in zip(sentences, tagger.probabilities(sentences), strict=True):
        torch.testing.assert_close(found_WC, tagger.probabilities([sentence])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "overrides", [(), ("inner.step=sgd", "inner.lr=2.0"), ("inner.steps=2",), ("inner.adapt_max_weight=1.5",)]
)
@pytest.mark.parametrize("k", [1, 3])
def test_kept_factors_change_no_answer(tiny_bundle: Path, overrides: tuple[str, ...], k: int) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu", overrides=overrides)
    sentences = [sentence_from_text(text) for text in ("Anna Berg left Oslo.", "In Lima, Eva Roth met Tom Hale.")]
    windows = tagger._pieces.windows(sentences)
    states, vectors_BH = trunk_states(
        tagger.bundle.model, windows, batch_pieces=512, sentence_encoder=tagger.bundle.sentence_encoder
    )
    assert vectors_BH is not None
    rows = tagger.bundle.index.search(vectors_BH.numpy(), k)[1].tolist()
    inner = inner_loop(tagger.config.inner, max_weight=tagger.config.inner.adapt_max_weight)
    adaptation = Adaptation(
        rows,
        [0] * len(rows),
        lambda groups: [adapt(tagger.bundle.model, pack(tagger._support.support(some)), inner) for some in groups],
    )
    expected = tag_windows(tagger.bundle.model, windows, states, batch_pieces=512, adaptation=adaptation)
    for _ in range(2):
        for expected_WC, found_WC in zip(expected, tagger.probabilities(sentences, neighbours=k), strict=True):
            torch.testing.assert_close(found_WC, expected_WC, atol=1e-5, rtol=0)
    kept = tagger.cache_figures
    assert (kept.hits > 0) == (kept.misses > 0) == (not any("steps" in o or "max_weight" in o for o in overrides))


@pytest.mark.parametrize("adapt", [False, True])
def test_weights_held_in_bf16_give_what_autocast_gives(tiny_bundle: Path, adapt: bool) -> None:
    overrides = ["train.precision=bf16", "train.batch_pieces=64"]
    held = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu", overrides=overrides)
    bundle = load_bundle(tiny_bundle, use_gpu=False)
    config = load_config([bundle.path / FILE_NAME], overrides, alone=True)
    bundle.model.fuse()  # as the other one is
    cast = AdaptiveTagger(bundle, device=torch.device("cpu"), config=config)
    kinds = [
        {p.dtype for p in tagger.bundle.model.fast_layers.layers["classifier"].parameters()} for tagger in (held, cast)
    ]
    assert kinds == [{torch.bfloat16}, {torch.float32}]
    sentences = [sentence_from_text(text) for text in ("Anna Berg left Oslo.", "In Lima, Eva Roth met Tom Hale.")]
    for found_WC, expected_WC in zip(
        held.probabilities(sentences, adapt=adapt), cast.probabilities(sentences, adapt=adapt), strict=True
    ):
        assert torch.equal(found_WC, expected_WC)


def test_examples_are_kept_beside_the_others(tiny_bundle: Path) -> None:
    overrides = ["serve.factor_cache_mb=0", "words.neighbours=0"]
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu", overrides=overrides)
    before = tagger.probabilities([sentence_from_text(TEXT)])[0]
    tagger.add_examples([replace(sentence_from_words(["Anna", "Berg", "left", "Oslo", "."]), tags=tuple("OOOOO"))])
    same = tagger.probabilities([sentence_from_text(TEXT)])[0]
    torch.testing.assert_close(same, before, atol=1e-5, rtol=0)  # without entities it is nobody's support
    assert tagger.cache_figures.bytes == 0


def test_words_of_examples_vote_on_similar_words(tiny_bundle: Path) -> None:
    others = ["words.most=1e6", "inner.lr=1e-9"]
    voting, silent = (
        AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu", overrides=[f"words.neighbours={n}", *others])
        for n in (8, 0)
    )
    sentence = sentence_from_words(["Zoe", "left", "."])
    before = voting.probabilities([sentence])[0]
    torch.testing.assert_close(before, silent.probabilities([sentence])[0], atol=1e-6, rtol=0)
    (numbers,) = voting.add_examples([replace(sentence, tags=("B-LOC", "O", "O"))])
    silent.add_examples([replace(sentence, tags=("B-LOC", "O", "O"))])
    torch.testing.assert_close(before, silent.probabilities([sentence])[0], atol=1e-6, rtol=0)
    after = voting.probabilities([sentence])[0]
    # The word itself has similarity 1 and counts exp((1 - 0.75) / 0.06) = 65 times the tagger's own opinion.
    assert voting.tags[int(after[0].argmax())] == "B-LOC"
    assert torch.allclose(after.sum(1), torch.ones(3))
    torch.testing.assert_close(voting.probabilities([sentence], adapt=False)[0], before, atol=1e-5, rtol=0)
    (tagged,) = voting.tag_sentences([sentence], explain=True)
    shown = [(s.text, s.start, s.end, s.number) for s in tagged.support if s.end < len(sentence.text)]
    assert shown == [(sentence.text, 0, 3, numbers[0])], "the sentence that decided is named"
    voting.remove_examples(numbers)
    assert torch.equal(voting.probabilities([sentence])[0], before)


def test_texts_of_one_batch_are_tagged_each_as_it_wants(tagger: AdaptiveTagger) -> None:
    words = sentence_from_words(["Eva", "Roth", "met", "Otto", "Klein", "in", "Lima", "."])
    items = [
        (TEXT, tagger.settings()),
        (words, tagger.settings(explain=True, neighbours=3)),
        (TEXT, tagger.settings(adapt=False)),
        ("", tagger.settings()),
        (TEXT, tagger.settings(inner_lr=0.5, explain=True)),
    ]
    together = tagger.tag_each(items)
    for item, found in zip(items, together, strict=True):
        (alone,) = tagger.tag_each([item])
        assert found.text == alone.text
        for one, other in zip(found.sentences, alone.sentences, strict=True):
            assert (one.tags, one.plain_tags, one.adapted) == (other.tags, other.plain_tags, other.adapted)
            assert [s.text for s in one.support] == [s.text for s in other.support]
            assert [e.score for e in one.entities] == pytest.approx([e.score for e in other.entities], abs=1e-4)
    assert len(together[1].sentences[0].support) == 3
    assert not together[2].sentences[0].adapted
    assert together[3].sentences == ()


class Distracted:
    """A pool as an IVF index makes one: of some searches little comes out, of others nothing."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.fewer = pool, [0, 1]

    def __len__(self) -> int:
        return len(self.pool)

    def search(self, vectors_BH: Vectors, k: int) -> list[list[Neighbour]]:
        return [row[:n] for row, n in zip(self.pool.search(vectors_BH, k), self.fewer, strict=True)]

    def candidates(self, numbers: Sequence[int]) -> list[Candidate]:
        return self.pool.candidates(numbers)

    def missing(self) -> tuple[int, ...]:
        return ()


def test_a_search_may_find_fewer_than_it_should(tiny_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")
    sentences = [sentence_from_text("Anna Berg left Oslo."), sentence_from_text("In Lima, Eva Roth met Tom Hale.")]
    plain, few = tagger.probabilities(sentences, adapt=False)[0], tagger.probabilities(sentences, neighbours=1)[1]
    tagger._support.source = Distracted(tagger._support.source)
    found = tagger.probabilities(sentences)
    torch.testing.assert_close(found[0], plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], few, atol=1e-5, rtol=0)
    tagged = tagger.tag_sentences(sentences, explain=True)
    assert [t.adapted for t in tagged] == [False, True]
    assert [len(t.support) for t in tagged] == [0, 1]


def test_threads_share_a_tagger(tagger: AdaptiveTagger) -> None:
    texts = [f"{name} left Oslo." for name in ("Anna Berg", "Eva Roth", "Tom Hale", "Jan Smit")] * 3
    alone = [tagger(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tagger, texts)) == alone


# --- strange input ---------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    text=st.text(st.characters(), max_size=60)
    | st.text(st.sampled_from("Aa .。\n\0\ud800\u0301北\u200d😀'"), max_size=60)
)
def test_any_text_can_be_tagged(tagger: AdaptiveTagger, text: str) -> None:
    check(text, tagger(text))


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t  ", "\ufeff", "\0", "\x1b[31m", "\ud800", "\udfff Anna\ud83d", "\u0301"]
)
def test_texts_with_next_to_nothing(tagger: AdaptiveTagger, text: str) -> None:
    check(text, tagger(text))
    check("Anna" + text + "Berg", tagger("Anna" + text + "Berg"))


@pytest.mark.parametrize("unit", ["Anna Berg left Oslo. ", "a", ".", "\0", " ", "\ud800", "e\u0301", "A."])
def test_a_text_of_100_000_characters(tagger: AdaptiveTagger, unit: str) -> None:
    text = (unit * (100_000 // len(unit) + 1))[:99_999] + "x"
    check(text, tagger(text, adapt=False))


def test_adapting_to_a_text_of_100_000_characters(tagger: AdaptiveTagger) -> None:
    text = "Anna " * 20_000
    check(text, tagger(text, neighbours=1))


@pytest.mark.parametrize("unit", [".", "?!", '."', "'s", "A. ", "! (", "1,", "a-", "a.", ".)", "。…", " \t", "\n \n"])
def test_splitting_takes_time_in_proportion_to_the_text(unit: str) -> None:
    text = unit * (100_000 // len(unit)) + "a"
    began = time.process_time()
    for start, end in split_sentences(text):
        split_words(text[start:end])
    assert time.process_time() - began < 10  # about 0.3; with quadratic time minutes


@pytest.mark.parametrize("letter", ["a", "北", ".", "\0", " ", "\ud800"])
def test_a_given_word_of_100_000_characters(tagger: AdaptiveTagger, letter: str) -> None:
    sentence = sentence_from_words(["Anna", letter * 100_000, "Berg"])
    (tagged,) = tagger.tag_sentences([sentence])
    assert len(tagged.tags) == 3
    assert all(sentence.text[e.start : e.end] for e in tagged.entities)


def test_memory_is_bounded_whatever_comes(tagger: AdaptiveTagger, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [TEXT * 30, *[TEXT] * 30]
    expected = tagger(texts)
    pieces: list[int] = []

    def counting(model: Any, windows: Any, **arguments: Any) -> Any:
        pieces.append(sum(map(len, windows)))
        return trunk_states(model, windows, **arguments)

    monkeypatch.setattr(window_tagger, "trunk_states", counting)
    monkeypatch.setattr(window_tagger, "GROUP_PIECES", 200)
    monkeypatch.setattr(tagger_module, "GROUP_SENTENCES", 16)
    found = tagger(texts)
    assert max(pieces) <= 200
    assert len(pieces) > 4
    assert [[e["word"] for e in one] for one in found] == [[e["word"] for e in one] for one in expected]


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("__call__", ["Anna", 3], r"expected a list of texts \(str\), found int at 1"),
        ("__call__", b"Anna", r"expected a text \(str\) or a list of texts, found bytes; decode them"),
        ("tag_texts", "Anna", "expected a list of texts, found str"),
        ("tag_sentences", ["Anna"], r"expected a list of sentences \(Sentence\), found str at 0"),
        ("add_examples", {"words": ["Anna"]}, r"expected a list of sentences \(Sentence\), found dict"),
    ],
)
def test_a_wrong_type_is_told_by_what_was_expected(
    tagger: AdaptiveTagger, method: str, given: object, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        getattr(tagger, method)(given)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neighbours": 10_000}, "support_size=10000 but the index holds 24 sentences"),
        ({"neighbours": 0}, "neighbours=0: at least 1"),
        ({"inner_lr": -1.0}, "inner_lr=-1.0"),
        ({"inner_lr": float("nan")}, "inner_lr=nan"),
    ],
)
def test_settings_that_make_no_sense(tagger: AdaptiveTagger, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tagger(TEXT, **arguments)


def test_overrides(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, overrides=["episodes.support_size=1", "inner.lr=0.05"])
    (tagged,) = tagger.tag_sentences([sentence_from_text("Anna spoke.")], explain=True)
    assert len(tagged.support) == 1
    with pytest.raises(UserError, match=r"retrieval.layer=2 but this bundle was trained with 3.*episodes.support_size"):
        AdaptiveTagger.from_pretrained(tiny_bundle, overrides=["retrieval.layer=2"])
    with pytest.raises(UserError, match=r"Unknown key inner.lrr .*Did you mean inner.lr"):
        AdaptiveTagger.from_pretrained(tiny_bundle, overrides=["inner.lrr=1"])
    # A bundle is whole by itself: the configuration file of the place it is used at is not looked at.
    (tmp_path / "ray_config.yaml").write_text("nonsense: true")
    monkeypatch.chdir(tmp_path)
    AdaptiveTagger.from_pretrained(tiny_bundle)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda"])
def test_devices_that_are_not_there(tiny_bundle: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match=r"device=|no GPU"):
        AdaptiveTagger.from_pretrained(tiny_bundle, device=device)


# --- bundles and encoders --------------------------------------------------------------------------------------------


@pytest.fixture
def copied_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def test_a_missing_or_changed_file_is_named(copied_bundle: Path) -> None:
    with (copied_bundle / "source.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(UserError, match=r"source\.jsonl: not as it was written"):
        AdaptiveTagger.from_pretrained(copied_bundle)
    (copied_bundle / "index.faiss").unlink()
    with pytest.raises(UserError, match=r"index\.faiss: missing from the bundle"):
        AdaptiveTagger.from_pretrained(copied_bundle)
    with pytest.raises(UserError, match="not a bundle"):
        AdaptiveTagger.from_pretrained(copied_bundle.parent)


def test_an_index_of_other_sentences_is_refused(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    with pytest.raises(UserError, match="index holds 24 vectors but the source sentences make 23 windows"):
        AdaptiveTagger(replace(bundle, sentences=bundle.sentences[1:]), device=torch.device("cpu"))


def _save(bundle: Bundle, path: Path) -> None:
    save_bundle(
        path,
        config=bundle.config,
        tags=bundle.tags,
        model=bundle.model,
        sentence_encoder=bundle.sentence_encoder,
        tokenizer=bundle.tokenizer,
        sentences=bundle.sentences,
        index=bundle.index,
        metrics=bundle.metrics,
    )


@pytest.fixture(params=["tmpfs", "limit"])
def full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory that takes in only 48 KiB (of a file, for `limit`)."""
    if request.param == "limit":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (48 << 10, before[1]))
        yield tmp_path
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_leaves_no_half_bundle(tiny_bundle: Path, full_disk: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    with pytest.raises(UserError, match="bundle: cannot be written"):
        _save(bundle, full_disk / "bundle")
    assert list(full_disk.iterdir()) == []


@pytest.mark.parametrize("offline", [False, True])
def test_an_encoder_that_no_hub_gives_is_refused_soon(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"model.encoder=nobody/nothing: .*model.encoder=embedded, or the path"):
        load_classifier("nobody/nothing", ("O", "B-X", "I-X"), seed=0)
    assert time.monotonic() - began < loading.TIMEOUT_SECONDS + 5


def test_the_embedded_encoder_tags_unspaced_text(tmp_path: Path, embedded_dir: Path) -> None:
    """Words without pieces of their own (every Chinese letter is a word) follow the word before them."""
    write_corpus(tmp_path / "train.conll", sentences=6)
    write_corpus(tmp_path / "dev.conll", sentences=2)
    config = tiny_config(
        tmp_path,
        f"model.encoder={embedded_dir}",
        "model.frozen_layers=10",
        "retrieval.layer=10",
        "episodes.meta_batch_size=4",
    )
    learner = Learner.from_config(config, device=torch.device("cpu"))
    for _ in range(2):
        learner.step()
    bundle = Bundle(
        path=tmp_path,
        config=config,
        tags=learner.tags,
        model=learner.model,
        sentence_encoder=learner.sentence_encoder,
        tokenizer=learner.tokenizer,
        sentences=list(learner.source.sentences),
        index=learner.index,
        metrics={},
        digest="",
    )
    tagger = AdaptiveTagger(bundle, device=torch.device("cpu"))
    text = "安格拉·默克尔昨天在北京访问了清华大学。Anna Berg lebt in München."
    sentence = sentence_from_text(text)
    (window,) = tagger._pieces.windows([sentence])
    shared = shared_pieces(window)
    assert sum(shared) > 5, "the encoder's pieces are longer than a letter"
    probabilities_WC = tagger.probabilities([sentence])[0]
    (tagged,) = tagger.tag_sentences([sentence])
    for word, joined in enumerate(shared):
        if joined:
            assert torch.equal(probabilities_WC[word], probabilities_WC[word - 1])
            assert tagged.tags[word][0] in "OI"
    check(text, tagger(text))
    odd = ["\0" * 1000, "\ud800" * 1000, "ก" * 1000, "a" * 100_000]
    for one, found in zip(odd, tagger(odd), strict=True):
        check(one, found)
