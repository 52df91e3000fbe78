"""A bundle's development data, read and tagged again when its weights were changed without a training run."""

from __future__ import annotations

from collections.abc import Sequence

from metacross.bundle import Bundle
from metacross.corpora.from_config import read_dev
from metacross.corpora.sentence import Sentence
from metacross.events import Note, Preparation, Show
from metacross.tagging.calibration import LabelledChains
from metacross.tagging.tagger import AdaptiveTagger


def read_dev_sentences(bundle: Bundle, show: Show) -> list[list[Sentence]]:
    """The development sentences that chose a bundle's weights: the target languages', or else the source's.

    Args:
        bundle: its configuration names the files, by paths as they were given to the training.
        show: gets a `Note` about everything that was odd.

    Raises:
        UserError: a file cannot be read, or does not go together with the bundle.
    """
    config = bundle.config
    files = config.data.target_dev or {config.data.source_language: config.data.source_dev}
    return [
        read_dev(config, file, language, bundle.tags, lambda oddity: show(Note(oddity)))
        for language, file in files.items()
    ]


def tag_dev(
    tagger: AdaptiveTagger, dev: Sequence[Sequence[Sentence]], *, adapt: bool, show: Show
) -> list[LabelledChains]:
    """Tags the development sentences of each language, for `fit_temperature` and for scores.

    Args:
        tagger: of the bundle as it is now.
        dev: what `read_dev_sentences` returned.
        adapt: by weights adapted to each sentence; otherwise by theta.
        show: gets a `Preparation` event for each language.
    """
    done, total = 0, sum(map(len, dev))
    labelled = []
    for sentences in dev:
        show(Preparation("tagging development data", done, total))
        gold = [list(sentence.tags or ()) for sentence in sentences]
        labelled.append(LabelledChains(tagger.chains(sentences, adapt=adapt), gold))
        done += len(sentences)
    show(Preparation("tagging development data", done, total))
    return labelled
