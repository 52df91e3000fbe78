"""A few labelled sentences of a target language: what is learnt from them, and what becomes of them in the bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from metacross import AdaptiveTagger
from metacross.adoption.adopt import adopt
from metacross.adoption.examples import BundleSentences, read_examples
from metacross.bundle import Bundle, load_bundle
from metacross.corpora.sentence import Sentence
from metacross.errors import UserError
from metacross.events import Event, Note, StepsDone, ignore
from tests.helpers.adoption import SETTINGS, write_text

SETTINGS_FOR_FEW = ("adopt.example_steps=3", *SETTINGS)
ANNA = "Anna\tB-PER\nBerg\tI-PER\nlives\tO\nin\tO\nLima\tB-LOC\n.\tO\n"
NOTHING = "Nothing\tO\nhappened\tO\nagain\tO\n.\tO\n"
OTTO = "Otto\tB-PER\nKlein\tI-PER\nspoke\tO\n.\tO\n"


def write(path: Path, *sentences: str) -> Path:
    path.write_text("\n".join(sentences))
    return path


def theta(bundle: Bundle) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in bundle.model.theta()])


def adopt_examples(bundle: Path, out: Path, examples: Path, text: Path | None = None, **given: Any) -> list[str]:
    """Adopts; returns the notes."""
    events: list[Event] = []
    given = {"overrides": SETTINGS_FOR_FEW, "device": "cpu", "show": events.append, **given}
    adopt(bundle, {"de": str(text)} if text else {}, examples={"de": str(examples)}, out=out, **given)
    return [event.text for event in events if isinstance(event, Note)]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("examples") / "de.conll", ANNA, NOTHING, OTTO, ANNA)


@pytest.fixture(scope="module")
def with_examples(tiny_bundle: Path, examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adopted") / "bundle"
    notes = adopt_examples(tiny_bundle, out, examples)
    assert f"{examples}: 1 sentence left out for repeating an earlier one" in notes
    assert "de: 3 examples, 2 of them with an entity" in notes
    assert "training on examples: 3 sentences, 3 steps" in notes
    assert "de: theta was trained on 3 examples, which may shape answers" in notes
    assert any(note.startswith("scores are calibrated anew on the development data: temperature ") for note in notes)
    return out


def test_theta_learns_and_the_examples_stand_beside_the_source(tiny_bundle: Path, with_examples: Path) -> None:
    old, new = load_bundle(tiny_bundle), load_bundle(with_examples)
    assert not torch.equal(theta(new), theta(old))
    assert new.score_temperature != old.score_temperature
    assert new.sentences[: len(old.sentences)] == old.sentences
    added = new.sentences[len(old.sentences) :]
    assert [s.text for s in added] == ["Anna Berg lives in Lima .", "Nothing happened again .", "Otto Klein spoke ."]
    assert all(s.machine is None and s.example_of == "de" for s in added)
    (record,) = new.adopted
    assert (record.language, record.examples, record.sentences, record.teachers) == ("de", 3, 0, ())
    card = (with_examples / "README.md").read_text()
    assert f"learned from {len(old.sentences)} labelled" in card
    assert "| de |  | 0 | 0 | 0 |  | 3 |" in card
    assert not list(with_examples.parent.glob(".*")), "nothing unfinished is left"


def test_examples_are_found_and_shown_as_such(with_examples: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(with_examples, device="cpu")
    for sentence in tagger.bundle.sentences:
        if any(tag != "O" for tag in sentence.tags or ()):
            (tagged,) = tagger.tag_sentences([sentence], neighbours=1, explain=True)
            assert tagged.support[0].similarity == pytest.approx(1, abs=1e-4)
    (entity, *_) = tagger("Otto Klein spoke .", neighbours=1, explain=True)
    nearest, *voters = entity["support"]
    assert (nearest["text"], nearest["language"]) == ("Otto Klein spoke .", "de")
    assert "confidence" not in nearest
    assert voters[0]["text"] == "Otto Klein spoke .", "its words are the most similar ones, too"
    assert all(voter["language"] == "de" for voter in voters)


def test_examples_of_before_stay_and_new_labels_win(with_examples: Path, tmp_path: Path) -> None:
    corrected = OTTO.replace("Otto\tB-PER\nKlein\tI-PER", "Otto\tO\nKlein\tB-PER")
    more = write(tmp_path / "more.conll", corrected, OTTO.replace("Otto", "Eva"))
    out = tmp_path / "out"
    notes = adopt_examples(with_examples, out, more)
    assert "de: 2 examples, 2 of them with an entity; of 3 that the bundle had, 2 stay and 1 are replaced" in notes
    assert "training on examples: 4 sentences, 3 steps" in notes
    found = {s.text: s.tags for s in load_bundle(out).sentences if s.example_of == "de"}
    assert list(found) == [
        "Anna Berg lives in Lima .",
        "Nothing happened again .",
        "Otto Klein spoke .",
        "Eva Klein spoke .",
    ]
    assert found["Otto Klein spoke ."] == ("O", "B-PER", "O", "O")
    assert [record.examples for record in load_bundle(out).adopted] == [4]


def test_text_is_labelled_by_the_theta_that_examples_have_trained(
    tiny_bundle: Path, with_examples: Path, examples: Path, tmp_path: Path
) -> None:
    """One command for both is the same as one after the other, but for the step that fits the temperature."""
    text, both, after = write_text(tmp_path), tmp_path / "both", tmp_path / "after"
    adopt_examples(tiny_bundle, both, examples, text)
    adopt(with_examples, {"de": str(text)}, out=after, overrides=SETTINGS_FOR_FEW, device="cpu")
    one, other = load_bundle(both), load_bundle(after)
    assert torch.equal(theta(one), theta(other))
    assert one.sentences == other.sentences
    kinds = BundleSentences.of(one.sentences)
    assert [*kinds.source, *kinds.examples, *kinds.machine] == one.sentences
    assert len(kinds.examples) == 3
    assert len(kinds.machine) > 0
    for bundle, teacher in ((one, tiny_bundle), (other, with_examples)):
        (record,) = bundle.adopted
        assert (record.examples, record.sentences, record.kept) == (3, 10, len(kinds.machine))
        assert record.teachers == (load_bundle(teacher).digest,)


def test_labels_by_people_take_the_place_of_a_machines(adopted_bundle: Path, tmp_path: Path) -> None:
    old = load_bundle(adopted_bundle)
    machine = next(sentence for sentence in old.sentences if sentence.machine)
    lines = [f"{word}\t{tag}" for word, tag in zip(machine.words, ("B-PER", *["O"] * len(machine.words)), strict=False)]
    path = write(tmp_path / "de.conll", "\n".join(lines) + "\n")
    adopt_examples(adopted_bundle, tmp_path / "out", path)
    new = load_bundle(tmp_path / "out")
    adopted = [sentence for sentence in new.sentences if sentence.machine or sentence.example_of]
    assert [s.example_of for s in adopted if s.words == machine.words] == ["de"]
    (record,) = new.adopted
    assert (record.kept, record.examples) == (old.adopted[0].kept - 1, 1)
    with pytest.raises(UserError, match=r"all its sentences are among the examples of de"):
        adopt_examples(adopted_bundle, tmp_path / "none", path, path)


def test_an_interrupted_adoption_of_examples_ends_with_the_same_theta(
    tiny_bundle: Path, with_examples: Path, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metacross.adoption.adopt.CHECKPOINT_STEPS", 2)
    steps: list[int] = []

    def interrupt(event: Event) -> None:
        if isinstance(event, StepsDone):
            steps.append(event.step)
            if steps in ([1, 2, 3], [1, 2, 3, 3]):
                raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            adopt_examples(tiny_bundle, tmp_path / "out", examples, show=interrupt)
    adopt_examples(tiny_bundle, tmp_path / "out", examples, show=interrupt)
    assert steps == [1, 2, 3, 3, 3]
    one, other = load_bundle(tmp_path / "out"), load_bundle(with_examples)
    assert torch.equal(theta(one), theta(other))
    assert one.score_temperature == other.score_temperature


def test_one_example_is_enough(tiny_bundle: Path, tmp_path: Path) -> None:
    adopt_examples(tiny_bundle, tmp_path / "out", write(tmp_path / "de.conll", ANNA))
    assert [record.examples for record in load_bundle(tmp_path / "out").adopted] == [1]


def test_without_development_data_scores_stay_calibrated_as_before(
    tiny_bundle: Path, examples: Path, tmp_path: Path
) -> None:
    loaded = load_bundle(tiny_bundle)
    data = loaded.config.data.model_copy(update={"source_dev": "gone.conll"})
    replace(loaded, config=loaded.config.model_copy(update={"data": data})).save(tmp_path / "bundle")
    notes = adopt_examples(tmp_path / "bundle", tmp_path / "out", examples)
    assert any("scores stay calibrated as before" in note and "gone.conll" in note for note in notes)
    assert load_bundle(tmp_path / "out").score_temperature == loaded.score_temperature


def test_examples_that_would_be_lost_are_named(tiny_bundle: Path, with_examples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    load_bundle(with_examples).save(out)
    text = write_text(tmp_path)
    notes: list[Event] = []
    adopt(tiny_bundle, {"de": str(text)}, out=out, distilled=False, device="cpu", show=notes.append)
    assert any(isinstance(note, Note) and f"{out} had adopted examples of de, and" in note.text for note in notes)


def test_a_choice_of_sentences_with_entities_is_remarked_on(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    names = ("Anna", "Otto", "Maria", "Jan", "Eva", "Paul", "Ines", "Tom", "Lima", "Oslo")

    def notes(*sentences: str) -> list[str]:
        events: list[Event] = []
        path = write(tmp_path / "de.conll", *sentences)
        read_examples({"de": str(path)}, bundle.config.data, bundle.tags, events.append)
        return [event.text for event in events if isinstance(event, Note)]

    chosen = [OTTO.replace("Otto", name) for name in names]
    assert any("every sentence has an entity" in note for note in notes(*chosen))
    assert not notes(*chosen, NOTHING)
    assert not notes(*chosen[:3])


def test_words_of_raw_text_are_given_from_now_on(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    path = tmp_path / "de.jsonl"
    path.write_text(json.dumps({"text": "Anna lebt in Lima.", "label": [[0, 4, "PER"]]}))
    found = read_examples({"de": str(path)}, bundle.config.data, bundle.tags, ignore)
    assert [(s.presplit, s.example_of, isinstance(s, Sentence)) for s in found["de"]] == [(True, "de", True)]
