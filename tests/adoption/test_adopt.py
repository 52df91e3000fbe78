"""Adoption from end to end on a tiny bundle: what the new bundle holds, and everything that may go wrong on the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metacross import AdaptiveTagger
from metacross.adoption import labels
from metacross.adoption.adopt import adopt, default_out
from metacross.adoption.work import Work
from metacross.algorithm import episode_losses
from metacross.bundle import Bundle, load_bundle
from metacross.corpora.sentence import MachineLabels
from metacross.encoder.rows import pack, trunk_states
from metacross.encoder.windows import PieceEncoder, tag_ids
from metacross.errors import UserError
from metacross.events import Event, Note, Preparation, StepsDone, ignore
from tests.helpers.adoption import SETTINGS, other_theta, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


def theta(bundle: Bundle) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in bundle.model.theta()])


def test_the_new_bundle_has_adopted(tiny_bundle: Path, adopted_bundle: Path) -> None:
    old, new = load_bundle(tiny_bundle), load_bundle(adopted_bundle)
    (record,) = new.adopted
    assert (record.language, record.file, record.sentences) == ("de", "de.txt", 10)
    assert (record.distilled, record.teachers) == (5, (old.digest,))
    assert new.sentences[: len(old.sentences)] == old.sentences
    machine = new.sentences[len(old.sentences) :]
    assert len(machine) == record.kept > 0
    for sentence in machine:
        assert sentence.machine is not None
        assert sentence.machine.language == "de"
        assert 0 < sentence.machine.confidence <= 1
        assert sentence.place.partition(":")[0].endswith("/de.txt")
    assert not torch.equal(theta(new), theta(old))
    assert new.metrics == {"dev_f1": None, "before_adoption": old.metrics}
    assert "| de | de.txt | 10 |" in (adopted_bundle / "README.md").read_text()
    assert json.loads((adopted_bundle / "adopted.json").read_text()) == [{**record.to_json(), "teachers": [old.digest]}]
    assert not list(adopted_bundle.parent.glob(".*")), "nothing unfinished is left"
    assert load_bundle(tiny_bundle).adopted == ()


def test_machine_labelled_sentences_are_found_and_shown(adopted_bundle: Path) -> None:
    tagger = AdaptiveTagger.from_pretrained(adopted_bundle, device="cpu")
    machine = [sentence for sentence in tagger.bundle.sentences if sentence.machine]
    (tagged,) = tagger.tag_sentences([replace(machine[0], machine=None)], neighbours=3, explain=True)
    assert any(support.confidence is None for support in tagged.support), "people's sentences are found too"
    support = next(support for support in tagged.support if support.text == machine[0].text)
    assert machine[0].machine is not None
    assert support.similarity == pytest.approx(1, abs=1e-5)
    assert support.language == "de"
    assert support.confidence == machine[0].machine.confidence
    assert support.uncertain == tuple(machine[0].spans[word] for word in machine[0].machine.uncertain)
    (entity, *_) = tagger(machine[0].text, neighbours=3, explain=True)
    told = [found for found in entity["support"] if "confidence" in found]
    assert {found["language"] for found in told} == {"de"}
    assert all("uncertain" in found for found in told)


def test_uncertain_words_have_no_influence(tiny_bundle: Path) -> None:
    """Whatever tag an uncertain word has, the gradient of the support loss is the same."""
    bundle = load_bundle(tiny_bundle)
    sentence = replace(bundle.sentences[0], machine=MachineLabels("de", 0.5, (0, 2)))
    tags = list(sentence.tags or ())
    wrong = replace(sentence, tags=("B-LOC", tags[1], "B-LOC", *tags[3:]))
    certain = replace(wrong, machine=None)
    pieces = PieceEncoder(bundle.tokenizer, max_pieces=bundle.config.model.max_pieces)
    tag_index = {tag: i for i, tag in enumerate(bundle.tags)}
    gradients = []
    for support in (sentence, wrong, certain):
        (window,) = pieces.windows([support])
        (state,), _ = trunk_states(bundle.model, [window], batch_pieces=64)
        rows = pack([[(state, tag_ids(window, support, tag_index))]])
        bundle.model.zero_grad()
        torch.autograd.backward(episode_losses(bundle.model.logits(rows), rows, max_weight=0).sum())
        gradients.append(torch.cat([p.grad.flatten() for p in bundle.model.theta() if p.grad is not None]))
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2])


def test_without_distillation_theta_stays_and_all_text_may_be_support(
    tiny_bundle: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adopted"
    (record,) = adopt(
        tiny_bundle, {"de": str(text)}, out=out, distilled=False, overrides=["adopt.confidence=0"], device="cpu"
    )
    assert record.distilled == 0
    assert torch.equal(theta(load_bundle(out)), theta(load_bundle(tiny_bundle)))


def test_adopting_again_replaces_a_language_and_keeps_the_others(adopted_bundle: Path, tmp_path: Path) -> None:
    spanish, german = tmp_path / "es.txt", tmp_path / "new.txt"
    spanish.write_text("Maria Lopez lives in Madrid. Ines Vidal met Otto Klein.")
    german.write_text("Eva Roth lives in Leiden.")
    both = tmp_path / "both"
    settings = ["adopt.confidence=0"]
    adopt(adopted_bundle, {"es": str(spanish)}, out=both, distilled=False, overrides=settings, device="cpu")
    assert [record.language for record in load_bundle(both).adopted] == ["de", "es"]
    adopt(both, {"de": str(german)}, out=both, distilled=False, overrides=settings, device="cpu")
    bundle = load_bundle(both)
    assert [(record.language, record.sentences) for record in bundle.adopted] == [("es", 2), ("de", 1)]
    assert bundle.metrics["before_adoption"] == load_bundle(adopted_bundle).metrics["before_adoption"]
    texts = [sentence.text for sentence in bundle.sentences if sentence.machine and sentence.machine.language == "de"]
    assert texts in ([], ["Eva Roth lives in Leiden."])
    tagger = AdaptiveTagger.from_pretrained(both, device="cpu")  # the index fits the sentences
    for sentence in tagger.bundle.sentences:
        (tagged,) = tagger.tag_sentences([replace(sentence, machine=None)], neighbours=1, explain=True)
        assert tagged.support[0].similarity == pytest.approx(1, abs=1e-4)


def test_a_failure_leaves_what_was_there(
    tiny_bundle: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(tiny_bundle, tmp_path / "adopted")
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr("metacross.bundle.write_manifest", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        adopt(tiny_bundle, {"de": str(text)}, out=out, overrides=SETTINGS, device="cpu")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".adopted.adopting", "adopted"]


def test_an_interrupted_adoption_goes_on_to_the_same_bundle(
    tiny_bundle: Path, adopted_bundle: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "PART", 4)
    out = tmp_path / "adopted"
    events: list[Event] = []

    def interrupt(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepsDone | Preparation) and len(events) in (2, 7):
            raise KeyboardInterrupt

    while not out.exists():
        try:
            adopt(tiny_bundle, {"de": str(text)}, out=out, overrides=SETTINGS, device="cpu", show=interrupt)
        except KeyboardInterrupt:
            continue
    assert [e.done for e in events if isinstance(e, Preparation) and e.what == "labelling de"] == [4, 8, 10]
    old, new = load_bundle(adopted_bundle), load_bundle(out)
    assert [replace(s, place="") for s in new.sentences] == [replace(s, place="") for s in old.sentences]
    torch.testing.assert_close(theta(new), theta(old), rtol=0, atol=1e-5)  # labelled in other batches


def test_work_of_other_texts_or_settings_is_thrown_away(tmp_path: Path) -> None:
    def one() -> dict[str, torch.Tensor]:
        return {"x": torch.ones(1)}

    Work(tmp_path / "out", {"share": 0.5, "teachers": ("a",)}).kept("part", one)
    assert Work(tmp_path / "out", {"share": 0.5, "teachers": ("a",)}).has("part")
    assert not Work(tmp_path / "out", {"share": 0.0, "teachers": ("a",)}).has("part")


def test_a_language_that_would_be_lost_is_named(
    tiny_bundle: Path, adopted_bundle: Path, text: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(adopted_bundle, tmp_path / "adopted")
    notes: list[Event] = []
    adopt(tiny_bundle, {"nl": str(text)}, out=out, distilled=False, device="cpu", show=notes.append)
    assert any(isinstance(note, Note) and f"{out} had adopted de" in note.text for note in notes)


def test_what_is_no_bundle_is_not_replaced(tiny_bundle: Path, text: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.tex"):
        with pytest.raises(UserError, match="is no bundle and will not be replaced"):
            adopt(tiny_bundle, {"de": str(text)}, out=out, device="cpu", show=ignore)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_a_teacher_of_other_tags_is_refused(tiny_bundle: Path, text: Path, tmp_path: Path) -> None:
    other = other_theta(tiny_bundle, tmp_path / "other", tags=("O", "B-ORG", "I-ORG", "B-PER", "I-PER"))
    for teachers in ([other], [tiny_bundle, other]):
        with pytest.raises(UserError, match="its tags are O, B-ORG"):
            adopt(tiny_bundle, {"de": str(text)}, out=tmp_path / "out", teachers=teachers, device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_setting_of_the_training_cannot_be_changed(tiny_bundle: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.seed=1 but this bundle was trained with"):
        adopt(tiny_bundle, {"de": str(text)}, out=tmp_path / "out", overrides=["train.seed=1"])


def test_one_sentence_is_enough(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "de.txt"
    path.write_text("Anna Berg lives in Oslo.")
    (record,) = adopt(tiny_bundle, {"de": str(path)}, out=tmp_path / "out", overrides=SETTINGS, device="cpu")
    assert (record.sentences, record.distilled) == (1, 0)


def test_the_new_bundle_stands_beside_the_old_one(tmp_path: Path) -> None:
    assert default_out(f"{tmp_path}/bundle") == tmp_path / "adopted"
    with pytest.raises(UserError, match="say where the new bundle is to be, with --out DIR"):
        default_out("s3://bucket/runs/first/bundle")
