"""Adopting languages: a bundle, and a few labelled sentences or much text of other languages -> a bundle for them, too.

Theta is first trained on the labelled sentences, the examples. Then teachers label the text, the bundle itself as it is
by then if no others are given. Theta is trained on one part of it; the other part stands beside the source sentences,
as support, and its words vote, but for those whose labels cannot be trusted. So do the examples.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metacross.adopted import AdoptedLanguage
from metacross.adoption.examples import BundleSentences, read_examples, without_examples
from metacross.adoption.joint_training import GoldSentences, JointTraining, SoftSentences, train
from metacross.adoption.labels import DividedText, label_and_divide
from metacross.adoption.records import losses, new_records, outcome
from metacross.adoption.teacher import Teachers, refuse_other_tags
from metacross.adoption.text import TargetText, read_texts
from metacross.adoption.voting_words import voting_words
from metacross.adoption.work import Work
from metacross.bundle import Bundle, load_bundle, refuse_learned_keys, refuse_other_content
from metacross.config import Config
from metacross.config_loading import FILE_NAME, load_config
from metacross.corpora.sentence import Sentence
from metacross.encoder.device import autocast, named_device
from metacross.encoder.rows import trunk_states
from metacross.encoder.windows import PieceEncoder
from metacross.errors import UserError, first_line
from metacross.events import Note, Show, ignore
from metacross.retrieval.pools import ExamplePool, may_be_support
from metacross.retrieval.prepared import SourceDigest
from metacross.sequences import groups
from metacross.storage.addresses import is_address
from metacross.tagging.calibration import fit_temperature
from metacross.tagging.development import read_dev_sentences, tag_dev
from metacross.tagging.tagger import AdaptiveTagger
from metacross.tagging.window_tagger import GROUP_PIECES
from metacross.wording import counted

CHECKPOINT_STEPS = 50  # of a training


def default_out(bundle: str) -> Path:
    """Where the new bundle goes if nobody says so: `adopted` beside the bundle.

    Raises:
        UserError: the bundle is at an address, beside which nothing can be written here.
    """
    if is_address(bundle):
        raise UserError(f"{bundle} is an address: say where the new bundle is to be, with --out DIR")
    return Path(bundle).absolute().parent / "adopted"


def adopt(
    bundle: str | Path,
    texts: Mapping[str, str],
    *,
    examples: Mapping[str, str] | None = None,
    out: Path,
    teachers: Sequence[str | Path] = (),
    distilled: bool = True,
    overrides: Sequence[str] = (),
    device: str = "auto",
    show: Show = ignore,
) -> tuple[AdoptedLanguage, ...]:
    """Makes a bundle that has adopted languages. If an earlier call was interrupted, the same call goes on.

    Text of a language that the bundle had adopted before takes the place of the text before; examples stay beside new
    ones, see `adoption.examples`. The other languages that it had adopted stay.

    Args:
        bundle: what a training run left, or an earlier adoption.
        texts: a file of text for each language, see `text.read_texts`.
        examples: a file of labelled sentences for each language, see `examples.read_examples`.
        out: where the new bundle goes; a bundle that is there is replaced.
        teachers: bundles that label the text together; by default the bundle itself, once trained on the examples.
        distilled: train theta on a part of the text (`adopt.share_distilled`); otherwise all of it may be support.
        overrides: `key=value` settings in place of the bundle's; see `bundle.FREE_KEYS`.
        device: auto, cpu, cuda or cuda:N.
        show: gets events about how far the work has come, and notes.

    Returns:
        All languages that the new bundle has adopted.

    Raises:
        UserError: a file, a bundle, a teacher or a setting has to be changed first.
        RunError: the training failed.
    """
    refuse_other_content(out)
    old = load_bundle(bundle)
    config = load_config([old.path / FILE_NAME], overrides, alone=True)
    refuse_learned_keys(old.config, config)
    material = _read(old, config, texts, examples or {}, show)
    if lost := losses(out, old.adopted, given=material.given, texts=texts):
        show(Note(lost))
    share = config.adopt.share_distilled if distilled else 0.0
    dev = _dev_sentences(old, show) if material.given or (texts and share) else []
    old.model.to(named_device(device))
    old.sentence_encoder.to(named_device(device))
    teaching = Teachers.open(teachers, device=device) if teachers else Teachers([_plain_tagger(old)])
    refuse_other_tags(old.tags, teaching.taggers[0])
    digests = teaching.digests
    adoption = _Adoption(old, config, material, Work(out, _facts(old, digests, material, config, share)), show)
    adoption.train_on_examples()
    divided = [adoption.labelled(text, teaching, share) for text in material.texts]
    del teaching
    gc.collect()  # the teachers' weights
    adoption.distil(divided)
    adoption.calibrate(dev)
    languages = adoption.save(divided, digests, out)
    adoption.work.remove()
    return languages


class _Material(NamedTuple):
    """What a bundle adopts.

    Attributes:
        sentences: the bundle's, with the new examples.
        given: the languages that the new examples are of.
        texts: without sentences that are among the examples.
    """

    sentences: BundleSentences
    given: tuple[str, ...]
    texts: list[TargetText]


def _read(old: Bundle, config: Config, texts: Mapping[str, str], examples: Mapping[str, str], show: Show) -> _Material:
    new = read_examples(examples, config.data, old.tags, show)
    sentences = BundleSentences.of(old.sentences).with_examples(new, show)
    found = read_texts(texts, max_words=config.data.max_words, show=show, most=config.adopt.sentences)
    return _Material(sentences, tuple(new), [without_examples(text, sentences.examples, show) for text in found])


def _dev_sentences(old: Bundle, show: Show) -> list[list[Sentence]]:
    """The bundle's development sentences; none, with a note, where they cannot be read any more."""
    try:
        return read_dev_sentences(old, show)
    except UserError as error:
        show(
            Note(
                f"scores stay calibrated as before (temperature {old.score_temperature:.2f}) though the weights "
                f"change: the development data cannot be read ({first_line(error)})"
            )
        )
        return []


def _plain_tagger(bundle: Bundle) -> AdaptiveTagger:
    """A tagger by the bundle's theta as it is at each call; it has nothing to adapt to."""
    return AdaptiveTagger(bundle, device=bundle.model.device, pool=ExamplePool(bundle.sentence_encoder.size))


def _facts(old: Bundle, teachers: Sequence[str], material: _Material, config: Config, share: float) -> dict[str, Any]:
    """What the intermediate results depend on."""
    return {
        "bundle": old.digest,
        "teachers": teachers,
        "examples": {
            language: str(SourceDigest(s for s in material.sentences.examples if s.example_of == language))
            for language in material.given
        },
        "texts": {text.language: str(SourceDigest(text.sentences)) for text in material.texts},
        "share": share,
        "config": config.to_yaml(),
    }


@dataclass
class _Adoption:
    """An adoption under way.

    Attributes:
        bundle: as it was loaded; its theta is trained, and its index changed.
        config: what the new bundle will have.
        material: what is adopted.
        work: keeps intermediate results.
        show: gets events.
    """

    bundle: Bundle
    config: Config
    material: _Material
    work: Work
    show: Show
    _trained: bool = field(default=False, init=False)

    @cached_property
    def pieces(self) -> PieceEncoder:
        """Cuts sentences into the bundle's windows."""
        return PieceEncoder(self.bundle.tokenizer, max_pieces=self.config.model.max_pieces)

    def train_on_examples(self) -> None:
        """Trains theta on the examples of the languages that were given some, those from before included.

        The examples of other languages are among the source sentences here, so that theta does not forget them.
        """
        sentences, given = self.material.sentences, self.material.given
        chosen = [sentence for sentence in sentences.examples if sentence.example_of in given]
        if chosen:
            others = [sentence for sentence in sentences.examples if sentence.example_of not in given]
            steps = self.config.adopt.example_steps
            target, folder = self._gold(chosen), self.work.folder / "examples"
            self._train(target, [*sentences.source, *others], folder, steps=steps, name="training on examples")

    def labelled(self, text: TargetText, teachers: Teachers, share: float) -> DividedText:
        """A text labelled by teachers, of which theta is to be trained on a share."""
        return label_and_divide(
            text,
            teachers,
            share_distilled=share,
            seed=self.config.train.seed,
            bound=self.config.adopt.confidence,
            work=self.work,
            show=self.show,
        )

    def distil(self, divided: Sequence[DividedText]) -> None:
        """Trains theta on the machine-labelled sentences that are for that, if there are any."""
        labelled = [one for part in divided for one in part.for_theta]
        if labelled:
            sentences, steps = self.material.sentences, self.config.adopt.steps
            target, people = SoftSentences(labelled, self.pieces), [*sentences.source, *sentences.examples]
            self._train(target, people, self.work.folder, steps=steps, name="distillation")

    def calibrate(self, dev: Sequence[Sequence[Sentence]]) -> None:
        """Fits the temperature of scores anew if theta has changed and there is development data.

        Sentences are tagged plainly: the temperature is that of adapted answers, too (docs/decisions.md).
        """
        if not (self._trained and dev):
            return
        before = self.bundle.score_temperature
        now = fit_temperature(tag_dev(_plain_tagger(self.bundle), dev, adapt=False, show=self.show))
        self.bundle.score_temperature = now
        self.show(
            Note(f"scores are calibrated anew on the development data: temperature {now:.2f}, before {before:.2f}")
        )

    def save(self, divided: Sequence[DividedText], teachers: tuple[str, ...], out: Path) -> tuple[AdoptedLanguage, ...]:
        """Writes the new bundle; returns the languages that it has adopted."""
        source, examples, before = self.material.sentences
        new = {part.text.language for part in divided}
        machine = [s for s in before if s.machine and s.machine.language not in new]
        machine += [sentence for part in divided for sentence in part.for_support]
        sentences = [*source, *examples, *machine]
        _index(self.bundle, len(source), sentences, self.pieces, self.config)
        words = voting_words(self.bundle, len(source), sentences, self.pieces, self.config)
        languages = new_records(self.bundle.adopted, divided, teachers, examples, machine)
        for line in outcome(languages, given=self.material.given, texts=new):
            self.show(Note(line))
        metrics = self.bundle.metrics
        replace(
            self.bundle,
            config=self.config,
            sentences=sentences,
            # What training measured is true of the bundle as training left it.
            metrics={"dev_f1": None, "before_adoption": metrics.get("before_adoption", metrics)},
            adopted=languages,
            words=words,
        ).save(out)
        return languages

    def _gold(self, sentences: Sequence[Sentence]) -> GoldSentences:
        return GoldSentences(sentences, self.pieces, self.bundle.tags, self.config.loss.later_weight)

    def _train(
        self, target: GoldSentences | SoftSentences, source: Sequence[Sentence], folder: Path, *, steps: int, name: str
    ) -> None:
        """Trains theta on sentences of target languages and on those that people labelled in others."""
        self.show(Note(f"{name}: {counted(len(target.sentences), 'sentences')}, {counted(steps, 'steps')}"))
        training = JointTraining(self.bundle.model, target, self._gold(source), self.config, steps=steps, name=name)
        train(training, folder, tags=self.bundle.tags, every=CHECKPOINT_STEPS, show=self.show)
        self._trained = True


def _index(bundle: Bundle, first: int, sentences: Sequence[Sentence], pieces: PieceEncoder, config: Config) -> None:
    """Puts the windows of adopted sentences into the bundle's index, in place of those that were there.

    Source sentences stand before them, so their windows keep their numbers.

    Args:
        bundle: whose index is changed.
        first: how many source sentences there are.
        sentences: all that the bundle will have.
        pieces: cuts them into windows.
        config: which windows may be support, and how vectors are computed.
    """
    windows = pieces.windows(sentences)
    own = sum(window.sentence < first for window in windows)
    if bundle.adopted:
        bundle.index.remove(np.arange(own, len(pieces.windows(bundle.sentences))))
    which = config.retrieval.candidates
    numbers = [i for i in range(own, len(windows)) if may_be_support(windows[i], sentences[windows[i].sentence], which)]
    with autocast(config.train.precision, bundle.model.device):
        for group in groups(numbers, size=lambda i: len(windows[i]), most=GROUP_PIECES):
            _, vectors_BH = trunk_states(
                bundle.model,
                [windows[i] for i in group],
                batch_pieces=config.train.batch_pieces,
                sentence_encoder=bundle.sentence_encoder,
            )
            assert vectors_BH is not None
            bundle.index.add(vectors_BH.float().cpu().numpy(), np.array(group))
