"""The model card of a bundle: its README.md, in the form that Hugging Face's pages show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from metacross.adopted import AdoptedLanguage, card_section
from metacross.config import Config
from metacross.corpora.schemes import types_of

# The bundle's own pipeline. Its task is not called token-classification, because transformers would then refuse that
# task, too, to users who do not trust the bundle's code.
PIPELINE_TASK = "metacross"

# How the aggregation strategies of transformers' pipeline read tags, with tokenizers of both kinds.
WITH_MARKS = """`first` reads a word's first piece, too, but takes the parts of a word with a hyphen or an
apostrophe for words, and tags each. `simple`, `average` and `max` read all pieces of a word. Where the later pieces
disagree with the first, an entity is cut or has another type."""
WITHOUT_MARKS = """`first`, `average` and `max` are only for text in which spaces separate all words and
punctuation marks: this tokenizer does not mark later pieces, so they take everything between two spaces for one word
(`Quito.` with its full stop, or a complete Chinese sentence). `simple` reads all pieces. Where the later pieces of a
word disagree with its first, an entity is cut or has another type."""


def marks_later_pieces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the pieces after a word's first one carry a mark (##), as WordPiece has it.

    Only then does the pipeline of transformers know which pieces make a word; it asks the same attribute.
    """
    return bool(getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None))


def model_card(
    config: Config,
    tags: Sequence[str],
    sentences: int,
    metrics: Mapping[str, Any],
    adopted: Sequence[AdoptedLanguage],
    *,
    marks_later_pieces: bool,
    score_temperature: float,
) -> str:
    """The bundle's README.md.

    Args:
        config: the configuration of the training.
        tags: the tag set.
        sentences: number of source sentences.
        metrics: measurements of the training.
        adopted: the languages that were adopted.
        marks_later_pieces: of the tokenizer; decides which aggregation strategy of the pipeline is recommended.
        score_temperature: of the entities' scores; 1 where none was fitted.
    """
    types = ", ".join(types_of(tags))
    measured = "\n".join(
        f"| {key} | {value} |" for key, value in metrics.items() if isinstance(value, (int, float, str))
    )
    return f"""---
language: {config.data.source_language}
pipeline_tag: token-classification
library_name: metacross
---

# Cross-lingual named-entity tagger

Method `{config.train.method}` over encoder `{config.model.encoder}`, learned from {sentences} labelled
`{config.data.source_language}` sentences. Entity types: {types}.
{card_section(adopted)}
With adaptation (the nearest labelled sentences shape the weights for every request):

    from metacross import AdaptiveTagger
    tagger = AdaptiveTagger.from_pretrained("this directory")

{_without_adaptation(config, marks_later_pieces)}

{_about_scores(score_temperature)}

| measured in training | |
|---|---|
{measured}

The source sentences are part of this directory; their licence applies to them. `ray_config.yaml` holds every setting.
"""


def _about_scores(score_temperature: float) -> str:
    """The part of the model card about scores."""
    if score_temperature == 1:
        calibration = "It is not calibrated (`score_temperature: 1.0` in `config.json`)."
    else:
        calibration = f"""It was calibrated
(`score_temperature: {score_temperature:.3f}` in `config.json`) on the development data that chose these weights: of the
entities found there with a score of 0.8, about 80 % are right. In other languages and other text it is less exact."""
    return f"An entity's score is the probability that exactly this entity is there, from 0 to 1. {calibration}"


def _without_adaptation(config: Config, marks_later_pieces: bool) -> str:
    """The part of the model card about transformers: the bundle's own pipeline, and where transformers' own differs."""
    weight = config.loss.later_weight
    trained = f"Training had a term for later pieces (`loss.later_weight: {weight}`), which makes this rarer."
    untrained = "Training had no term for later pieces (`loss.later_weight: 0`), so this is frequent."
    return f"""Without adaptation, by transformers alone:

    from transformers import pipeline
    tagger = pipeline("{PIPELINE_TASK}", model="this directory", aggregation_strategy="simple", trust_remote_code=True)

This runs `pipeline.py` of this directory. It takes texts of any length, and finds what `AdaptiveTagger` finds with
`adapt=False`, with each of the strategies `simple`, `first`, `average` and `max`: a word's tag is read on its first
piece. Entities may differ in sentences of more than {config.model.max_pieces - 2} word pieces, which it cuts into
windows at other places.
With `none`, and for lists of words (`is_split_into_words`), it does what transformers' own pipeline does:

    tagger = pipeline("token-classification", model="this directory",
                      aggregation_strategy="{"first" if marks_later_pieces else "simple"}")

That one runs no code of this directory, and its entities differ in some places.
{WITH_MARKS if marks_later_pieces else WITHOUT_MARKS}
{trained if weight else untrained}

Its scores are the mean probability over what it read, and not calibrated. Give it one sentence at a time; it cuts off
what is longer than the encoder's longest input."""
