"""Figures of evaluation: against counts by hand, and the rules for types that only one side knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metacross import AdaptiveTagger
from metacross.corpora.reader import Corpus, read_corpus
from metacross.errors import UserError
from metacross.tagging.evaluation import evaluate, mean
from metacross.tagging.scoring import scores

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:seqeval")


@pytest.fixture(scope="module")
def tagger(tiny_bundle: Path) -> AdaptiveTagger:
    return AdaptiveTagger.from_pretrained(tiny_bundle, device="cpu")


@pytest.fixture
def dev(tiny_folder: Path) -> Corpus:
    return read_corpus(tiny_folder / "dev.conll")


def write(path: Path, text: str) -> Path:
    path.write_text(text.replace("|", "\n") + "\n", encoding="utf-8")
    return path


def test_scores_by_hand() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O", "B-PER", "O"]]
    found = [["B-PER", "I-PER", "O", "O"], ["B-LOC", "O", "B-PER", "I-PER"]]
    result = scores(gold, found)  # right: one PER, one LOC; wrong: one PER; missed: one LOC and one PER
    assert result["precision"] == pytest.approx(200 / 3)
    assert result["recall"] == pytest.approx(50)
    assert result["f1"] == pytest.approx(400 / 7)
    assert result["per_type"]["LOC"] == {
        "precision": 100.0,
        "recall": 50.0,
        "f1": pytest.approx(200 / 3),
        "entities": 2,
    }
    assert result["per_type"]["PER"]["f1"] == pytest.approx(50)
    assert scores([["O"]], [["O"]])["f1"] == 0


def test_what_evaluate_returns(tagger: AdaptiveTagger, dev: Corpus) -> None:
    done: list[tuple[str, int]] = []
    results = evaluate(tagger, {"en": dev, "xx": dev}, tick=lambda *progress: done.append(progress))
    assert list(results) == ["en", "xx"]
    assert results["en"] == results["xx"]
    assert sorted(done) == [("en", 12), ("xx", 12)]
    result = results["en"]
    gold = [sentence.tags or () for sentence in dev.sentences]
    for part, adapt in (("plain", False), ("adapted", True)):
        found = [tagged.tags for tagged in tagger.tag_sentences(dev.sentences, adapt=adapt)]
        assert result[part] == scores(gold, found)
    assert result["sentences"] == 12
    assert result["oddities"] == []
    for key in ("precision", "recall", "f1"):
        assert result["difference"][key] == pytest.approx(result["adapted"][key] - result["plain"][key])
        assert mean(results)["adapted"][key] == pytest.approx(result["adapted"][key])
    assert 0 < result["plain"]["f1"] < 100, "an average over nothing would hide mistakes"


def test_the_training_runs_own_figures_come_out_again(tagger: AdaptiveTagger, dev: Corpus) -> None:
    measured = tagger.bundle.metrics["history"][-1]
    result = evaluate(tagger, {"en": dev})["en"]
    assert result["plain"]["f1"] == pytest.approx(measured["plain"], abs=1e-6)
    assert result["adapted"]["f1"] == pytest.approx(measured["adapted"], abs=1e-6)


def test_settings_reach_the_tagger(tagger: AdaptiveTagger, dev: Corpus) -> None:
    still = evaluate(tagger, {"en": dev}, inner_lr=0.0)["en"]
    assert still["plain"] == still["adapted"]
    with pytest.raises(UserError, match="support_size=99 but the index holds 24"):
        evaluate(tagger, {"en": dev}, neighbours=99)


def test_limit_spreads_over_the_corpus(tagger: AdaptiveTagger, dev: Corpus, tmp_path: Path) -> None:
    assert evaluate(tagger, {"en": dev}, limit=5)["en"]["sentences"] == 5
    assert evaluate(tagger, {"en": dev}, limit=500)["en"]["sentences"] == 12
    late = read_corpus(write(tmp_path / "late", "a O||b O||c O||Oslo B-LOC|"))
    with pytest.raises(UserError, match="none of the 2 sentences chosen out of 4 has an entity"):
        evaluate(tagger, {"en": late}, limit=2)
    with pytest.raises(UserError, match="limit=0"):
        evaluate(tagger, {"en": dev}, limit=0)


def test_a_corpus_without_entities_is_refused(tagger: AdaptiveTagger, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing: found 1 sentence, but no entities: every tag is O"):
        evaluate(tagger, {"en": read_corpus(write(tmp_path / "nothing", "Oslo O|is O|big O|"))})


def advice(message: str) -> list[str]:
    """The override that a message offers in quotes."""
    return [next(part for part in message.split("'") if part.startswith("data.tag_map="))]


def test_an_unknown_type_is_refused_with_advice_that_works(tiny_bundle: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "more.conll", "Oslo B-LOC|won O||the O|Cup B-EVENT|and O|Euro B-OTH|")
    overrides: list[str] = ["data.tag_map={NOT: O}"]
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, overrides=overrides)
    with pytest.raises(UserError) as caught:
        evaluate(tagger, {"en": read_corpus(path)})
    message = str(caught.value)
    assert "more.conll:4: entity type EVENT, OTH, which the tagger does not know; it knows LOC, PER" in message
    assert advice(message) == ["data.tag_map={NOT: O, EVENT: O, OTH: O}"]

    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, overrides=advice(message))
    corpus = read_corpus(path, tag_map=tagger.config.data.tag_map)
    assert evaluate(tagger, {"en": corpus})["en"]["adapted"]["per_type"]["LOC"]["entities"] == 1


def test_a_type_the_corpus_never_has_is_told_with_advice_that_works(
    tagger: AdaptiveTagger, tiny_bundle: Path, dev: Corpus, tmp_path: Path
) -> None:
    lines = [
        f"{w} {t if t.endswith('PER') else 'O'}"
        for s in dev.sentences
        for w, t in zip([*s.words, ""], [*(s.tags or ()), ""], strict=True)
    ]
    path = write(tmp_path / "people.conll", "|".join(line if line.split()[1:] else "" for line in lines))
    before = evaluate(tagger, {"en": read_corpus(path)})["en"]
    (oddity,) = before["oddities"]
    assert "people.conll has no LOC" in oddity
    assert before["adapted"]["per_type"]["LOC"]["entities"] == 0, "places found count as wrong"

    mapped = AdaptiveTagger.from_pretrained(tiny_bundle, overrides=advice(oddity))
    corpus = read_corpus(path, tag_map=mapped.config.data.tag_map)
    after = evaluate(mapped, {"en": corpus})["en"]
    assert after["oddities"] == []
    assert "LOC" not in after["adapted"]["per_type"]
    assert after["adapted"]["per_type"]["PER"] == before["adapted"]["per_type"]["PER"]
    assert after["adapted"]["precision"] > before["adapted"]["precision"]


def test_types_found_are_renamed_like_those_of_the_corpus(tiny_bundle: Path, dev: Corpus, tiny_folder: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(tiny_bundle, overrides=["data.tag_map={PER: PERSON}"])
    renamed = read_corpus(tiny_folder / "dev.conll", tag_map=tagger.config.data.tag_map)
    result = evaluate(tagger, {"en": renamed})["en"]
    expected = evaluate(AdaptiveTagger.from_pretrained(tiny_bundle), {"en": dev})["en"]
    assert result["adapted"]["f1"] == expected["adapted"]["f1"]
    assert result["adapted"]["per_type"]["PERSON"] == expected["adapted"]["per_type"]["PER"]


def test_the_map_a_tagger_was_trained_with_is_not_applied_again(
    tiny_bundle: Path, dev: Corpus, tmp_path: Path, tagger: AdaptiveTagger
) -> None:
    """Trained with {HUMAN: PER, PER: LOC}, a PER that is found is a HUMAN already and must not become a LOC."""
    settings: Any = tagger.config.data.model_copy(update={"tag_map": {"HUMAN": "PER", "PER": "LOC"}})
    config = tagger.config.model_copy(update={"data": settings})
    from dataclasses import replace

    trained = AdaptiveTagger(replace(tagger.bundle, config=config), device=tagger.device)
    assert evaluate(trained, {"en": dev})["en"]["plain"] == evaluate(tagger, {"en": dev})["en"]["plain"]
