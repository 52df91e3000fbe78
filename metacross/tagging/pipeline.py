"""The tagger without adaptation as a pipeline of transformers, for users who do not have metacross.

    pipeline("metacross", model="a bundle", aggregation_strategy="simple", trust_remote_code=True)

It finds the entities of `AdaptiveTagger` with `adapt=False`: sentences and words are the same, a word's tag is read on
its first piece, and tags and scores of a sentence come from the same code. Only a sentence that is too long for one
window is cut elsewhere.

`metacross.bundle` copies this file into every bundle, with the modules that it imports from metacross. These may import
nothing that transformers does not bring along.
"""

# transformers declares the types of a pipeline's methods only in part.
# mypy: disable-error-code="override, no-untyped-call"

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.pipelines.token_classification import AggregationStrategy, TokenClassificationPipeline

from metacross.corpora.characters import can_be_seen
from metacross.corpora.words import split_sentences, split_words
from metacross.tagging.tag_sequences import Segment, TagChains, TaggedWords

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class _Word(NamedTuple):
    """A word of a sentence.

    Attributes:
        start: where it begins in the sentence.
        end: where it ends.
        piece: the sentence's piece on which its tag is read.
        is_shared: whether that piece belongs to the word before it, whose entity it then continues.
    """

    start: int
    end: int
    piece: int
    is_shared: bool


class WordPipeline(TokenClassificationPipeline):
    """Reads a word's tag on its first piece, whichever of simple, first, average and max is the strategy.

    A text may have many sentences of any length; `stride` is not needed. Without a strategy (none), and for words that
    the caller has split (is_split_into_words), this is transformers' own pipeline.
    """

    model: Any
    tokenizer: Any

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess, forward, postprocess = super()._sanitize_parameters(**parameters)
        if "aggregation_strategy" in postprocess:
            preprocess["by_words"] = postprocess["aggregation_strategy"] != AggregationStrategy.NONE
        return preprocess, forward, postprocess

    def preprocess(self, sentence: Any, by_words: bool = False, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The model's inputs for each window of a text, with the words that are tagged there."""
        if not by_words or parameters["is_split_into_words"]:
            yield from super().preprocess(sentence, **parameters)
            return
        # transformers expects at least one window, of a text without sentences, too.
        sentences = split_sentences(sentence) or [(0, 0)]
        windows = [window for start, end in sentences for window in self._windows(sentence[start:end], start)]
        for number, window in enumerate(windows):
            yield {**window, "sentence": sentence, "is_last": number == len(windows) - 1}

    def _windows(self, sentence: str, offset: int) -> Iterator[dict[str, Any]]:
        """Cuts a sentence that begins at `offset` in its text into windows, which overlap by half."""
        spans = split_words(sentence)
        encoded = self.tokenizer(
            _readable(sentence, spans), add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        words = _words(spans, encoded["offset_mapping"], encoded.tokens())
        # If a text contains "</s>", it must not end the sentence.
        special, unknown = set(self.tokenizer.all_special_ids), self.tokenizer.unk_token_id
        pieces = [unknown if piece in special else piece for piece in encoded["input_ids"]]
        begin, end = self.tokenizer("")["input_ids"]
        capacity: int = self.model.config.max_pieces - 2
        overlap = capacity // 2
        step = capacity - overlap
        last = max(0, len(pieces) - overlap - 1) // step  # the number of the last window

        def tagged_in(word: _Word) -> int:
            """The window that tags a word. Of an overlap, the window before tags the first half, the next the other."""
            return min(max(0, word.piece - overlap // 2) // step, last)

        by_window = itertools.groupby(words, key=tagged_in) if words else [(0, iter(()))]
        for number, tagged in by_window:
            first = number * step
            ids_1T = torch.tensor([[begin, *pieces[first : first + capacity], end]])
            yield {
                "input_ids": ids_1T,
                "attention_mask": torch.ones_like(ids_1T),
                "special_tokens_mask": torch.zeros_like(ids_1T),
                "words": [(offset, word._replace(piece=1 + word.piece - first)) for word in tagged],
            }

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        words = model_inputs.pop("words", None)
        return {**super()._forward(model_inputs), "words": words}

    def postprocess(
        self,
        all_outputs: Sequence[dict[str, Any]],
        aggregation_strategy: AggregationStrategy = AggregationStrategy.NONE,
        ignore_labels: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """The entities of a text, from the outputs for all of its windows."""
        if all_outputs[0]["words"] is None:
            entities: list[dict[str, Any]] = super().postprocess(all_outputs, aggregation_strategy, ignore_labels)
            return entities
        text = all_outputs[0]["sentence"]
        found = []
        for words, segment in self._segments(all_outputs):
            seen = [place for place in words[segment.start : segment.end] if can_be_seen(text[slice(*place)])]
            if seen and segment.type not in (["O"] if ignore_labels is None else ignore_labels):
                start, end = seen[0][0], seen[-1][1]
                keys = {"entity_group": segment.type, "score": segment.probability}
                found.append({**keys, "word": text[start:end], "start": start, "end": end})
        return found

    def _segments(self, all_outputs: Sequence[dict[str, Any]]) -> Iterator[tuple[Sequence[tuple[int, int]], Segment]]:
        """The segments of all sentences, each with the places (start, end) of its sentence's words in the text."""
        sentences: dict[int, list[tuple[tuple[int, int], bool, Any]]] = {}  # by offset: place, is_shared, probabilities
        for output in all_outputs:
            probabilities_TC = output["logits"][0].float().softmax(-1).numpy()
            for offset, (start, end, piece, is_shared) in output["words"]:
                word = ((offset + start, offset + end), is_shared, probabilities_TC[piece])
                sentences.setdefault(offset, []).append(word)
        columns = [tuple(zip(*words, strict=True)) for words in sentences.values()]
        chains = TagChains(
            [TaggedWords(np.stack(probabilities), shared) for _, shared, probabilities in columns],
            [self.model.config.id2label[i] for i in range(len(self.model.config.id2label))],
        )
        found = chains.segments(temperature=self.model.config.score_temperature)
        for (places, *_), segments in zip(columns, found, strict=True):
            yield from ((places, segment) for segment in segments)


def _readable(sentence: str, spans: Sequence[tuple[int, int]]) -> str:
    """The sentence as the tokenizer gets it: only spaces between words, and no half of a surrogate pair by itself.

    It is as long as before, so that offsets stay.
    """
    characters = [" "] * len(sentence)
    for start, end in spans:
        characters[start:end] = sentence[start:end]
    return _LONE_SURROGATE.sub("\ufffd", "".join(characters))


def _words(spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]], tokens: Sequence[str]) -> list[_Word]:
    """Finds the pieces on which words are tagged.

    A word without a piece shares the last one of the word before it, as most characters of Chinese do. Words that the
    tokenizer drops at a sentence's beginning are left out.

    Args:
        spans: the words' (start, end) in a sentence.
        offsets: the pieces' (start, end) in it.
        tokens: the pieces.
    """
    own: list[list[int]] = [[] for _ in spans]  # each word's pieces
    w = 0
    for piece, (start, end) in enumerate(offsets):
        while w < len(spans) - 1 and spans[w][1] <= start:
            w += 1
        own[w].append(piece)
        while w < len(spans) - 1 and spans[w + 1][0] < end:  # a piece may reach into further words
            w += 1
    words = []
    last: int | None = None  # piece of the words so far
    for (start, end), pieces in zip(spans, own, strict=True):
        if pieces:
            # SentencePiece's mark of a word's beginning may be a piece by itself; the tag is on the next one then.
            is_marker = len(pieces) > 1 and tokens[pieces[0]] == "▁"
            words.append(_Word(start, end, pieces[1 if is_marker else 0], is_shared=False))
            last = pieces[-1]
        elif last is not None:
            words.append(_Word(start, end, last, is_shared=True))
    return words
