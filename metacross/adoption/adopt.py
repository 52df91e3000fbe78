"""Adopting languages: a bundle, and text of other languages that nobody labelled -> a bundle that has adopted them.

Teachers label the text. Theta is trained on one part of it; of the other part the sentences whose labels can be trusted
stand beside the source sentences, as support.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metacross.adopted import AdoptedLanguage, read_adopted
from metacross.adoption.distillation import Distillation, GoldSentences, SoftSentences, distil
from metacross.adoption.labels import DividedText, label_and_divide
from metacross.adoption.teacher import Teachers, refuse_other_tags
from metacross.adoption.text import TargetText, read_texts
from metacross.adoption.work import Work
from metacross.bundle import Bundle, load_bundle, refuse_learned_keys, refuse_other_content, save_bundle
from metacross.config import FILE_NAME, Config, load_config
from metacross.corpora.sentence import Sentence
from metacross.encoder.device import autocast, named_device
from metacross.encoder.rows import trunk_states
from metacross.encoder.windows import PieceEncoder
from metacross.errors import UserError
from metacross.events import Note, Show, ignore
from metacross.retrieval.pools import may_be_support, useful_sentences
from metacross.retrieval.prepared import SourceDigest
from metacross.sequences import groups
from metacross.storage.addresses import is_address

CHECKPOINT_STEPS = 50  # of the training on machine-labelled sentences
GROUP_PIECES = 1 << 15  # word pieces of windows whose vectors are computed together


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
    files: Mapping[str, str],
    *,
    out: Path,
    teachers: Sequence[str | Path] = (),
    distilled: bool = True,
    overrides: Sequence[str] = (),
    device: str = "auto",
    show: Show = ignore,
) -> tuple[AdoptedLanguage, ...]:
    """Makes a bundle that has adopted languages. If an earlier call was interrupted, the same call goes on.

    A language that the bundle had adopted before is adopted anew: its sentences take the place of those before. The
    other languages that it had adopted stay.

    Args:
        bundle: what a training run left, or an earlier adoption.
        files: a file of text for each language, see `text.read_texts`.
        out: where the new bundle goes; a bundle that is there is replaced.
        teachers: bundles that label the text together; the bundle itself by default.
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
    texts = read_texts(files, max_words=config.data.max_words, show=show)
    _tell_losses(old, texts, out, show)
    share = config.adopt.share_distilled if distilled else 0.0
    teaching = Teachers.open(teachers or [old.path], device=device)
    refuse_other_tags(old.tags, teaching.taggers[0])
    digests = teaching.digests
    work = Work(out, _facts(old, digests, texts, config, share))
    divided = [_labelled(text, teaching, config, share, work, show) for text in texts]
    del teaching
    gc.collect()  # the teachers' weights
    old.model.to(named_device(device))
    old.sentence_encoder.to(named_device(device))
    pieces = PieceEncoder(old.tokenizer, max_pieces=config.model.max_pieces)
    _train(old, divided, pieces, config, work, show)
    languages = _save(old, divided, pieces, config, digests, out, show)
    work.remove()
    return languages


def _tell_losses(old: Bundle, texts: Sequence[TargetText], out: Path, show: Show) -> None:
    """Tells which languages the bundle at `out` has adopted that the new one will not have."""
    if not out.exists():
        return
    kept = {record.language for record in old.adopted} | {text.language for text in texts}
    if lost := sorted({record.language for record in read_adopted(out)} - kept):
        show(
            Note(
                f"{out} had adopted {', '.join(lost)}, and the bundle that takes its place will not. To keep them, "
                "interrupt this and adopt from that bundle."
            )
        )


def _facts(
    old: Bundle, teachers: Sequence[str], texts: Sequence[TargetText], config: Config, share: float
) -> dict[str, Any]:
    """What the intermediate results depend on."""
    return {
        "bundle": old.digest,
        "teachers": teachers,
        "texts": {text.language: str(SourceDigest(text.sentences)) for text in texts},
        "share": share,
        "config": config.to_yaml(),
    }


def _labelled(
    text: TargetText, teachers: Teachers, config: Config, share: float, work: Work, show: Show
) -> DividedText:
    return label_and_divide(
        text,
        teachers,
        share_distilled=share,
        seed=config.train.seed,
        neighbours=config.adopt.neighbours,
        quantile=config.adopt.quantile,
        work=work,
        show=show,
    )


def _train(
    old: Bundle, divided: Sequence[DividedText], pieces: PieceEncoder, config: Config, work: Work, show: Show
) -> None:
    """Trains the bundle's theta on the sentences that are for that, if there are any."""
    labelled = [one for part in divided for one in part.for_theta]
    if not labelled:
        return
    people = [sentence for sentence in old.sentences if sentence.machine is None]
    soft = SoftSentences(labelled, pieces)
    gold = GoldSentences(people, pieces, old.tags, config.loss.later_weight)
    distillation = Distillation(old.model, soft, gold, config)
    distil(distillation, work.folder, tags=old.tags, every=CHECKPOINT_STEPS, show=show)


def _save(
    old: Bundle,
    divided: Sequence[DividedText],
    pieces: PieceEncoder,
    config: Config,
    teachers: tuple[str, ...],
    out: Path,
    show: Show,
) -> tuple[AdoptedLanguage, ...]:
    """Writes the new bundle; returns the languages that it has adopted."""
    new = {part.text.language for part in divided}
    before = [s for s in old.sentences if s.machine is not None and s.machine.language not in new]
    labelled = [*before, *(sentence for part in divided for sentence in part.for_support)]
    machine = useful_sentences(labelled, pieces, config.retrieval.candidates)
    people = [sentence for sentence in old.sentences if sentence.machine is None]
    _index(old, people, machine, pieces, config)
    kept = Counter(sentence.machine.language for sentence in machine if sentence.machine)
    records = [
        AdoptedLanguage(
            language=part.text.language,
            file=Path(part.text.file).name,
            sentences=len(part.text.sentences),
            kept=kept[part.text.language],
            distilled=len(part.for_theta),
            teachers=teachers,
        )
        for part in divided
    ]
    for record in records:
        show(
            Note(
                f"{record.language}: of {record.sentences} sentences theta was trained on {record.distilled}, and "
                f"{record.kept} of the others may shape answers"
            )
        )
    languages = (*(record for record in old.adopted if record.language not in new), *records)
    save_bundle(
        out,
        config=config,
        tags=old.tags,
        model=old.model,
        sentence_encoder=old.sentence_encoder,
        tokenizer=old.tokenizer,
        sentences=[*people, *machine],
        index=old.index,
        # What training measured is true of the bundle as training left it.
        metrics={"dev_f1": None, "before_adoption": old.metrics.get("before_adoption", old.metrics)},
        adopted=languages,
        score_temperature=old.score_temperature,
    )
    return languages


def _index(
    old: Bundle, people: Sequence[Sentence], machine: Sequence[Sentence], pieces: PieceEncoder, config: Config
) -> None:
    """Puts the windows of machine-labelled sentences into the bundle's index, in place of those that were there.

    People's sentences stand before them, so their windows keep their numbers.
    """
    sentences = [*people, *machine]
    windows = pieces.windows(sentences)
    first = sum(window.sentence < len(people) for window in windows)
    if old.adopted:
        old.index.remove(np.arange(first, len(pieces.windows(old.sentences))))
    which = config.retrieval.candidates
    numbers = [
        i for i in range(first, len(windows)) if may_be_support(windows[i], sentences[windows[i].sentence], which)
    ]
    with autocast(config.train.precision, old.model.device):
        for group in groups(numbers, size=lambda i: len(windows[i]), most=GROUP_PIECES):
            _, vectors_BH = trunk_states(
                old.model,
                [windows[i] for i in group],
                batch_pieces=config.train.batch_pieces,
                sentence_encoder=old.sentence_encoder,
            )
            assert vectors_BH is not None
            old.index.add(vectors_BH.float().cpu().numpy(), np.array(group))
