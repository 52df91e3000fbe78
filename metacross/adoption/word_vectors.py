"""Vectors of words, and each word's nearest words of other sentences, by which labels are checked.

A word's vector is the mean of its pieces' states in the encoder's last three layers, as CoLaDa has it (Ma et al., ACL
2023).

Shapes: W words, K neighbours, H hidden size, B rows, T word pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metacross.corpora.sentence import Sentence
from metacross.encoder.device import autocast, padding_slack
from metacross.encoder.model import Rows, TagModel
from metacross.encoder.rows import budgeted, pack, trunk_states
from metacross.encoder.windows import PieceEncoder, Window
from metacross.retrieval.index import Ids, VectorIndex, Vectors
from metacross.sequences import spread

LAYERS = 3  # the last ones, whose states are averaged
COMPARED_WORDS = 1 << 16  # that words are compared with: those of sentences spread evenly over the text


class WordEncoder:
    """Makes vectors of words.

    Args:
        model: whose states are used.
        pieces: cuts sentences into its windows.
        batch_pieces: word pieces of one forward.
        precision: of matrix products, see `encoder.device.autocast`.
    """

    def __init__(self, model: TagModel, pieces: PieceEncoder, *, batch_pieces: int, precision: str) -> None:
        self._model, self._pieces = model, pieces
        self._batch_pieces, self._precision = batch_pieces, precision

    @torch.no_grad()
    def vectors(self, sentences: Sequence[Sentence]) -> Vectors:
        """Unit vectors (W, H) of all words of the sentences, in order."""
        windows = self._pieces.windows(sentences)
        lengths = [len(window) for window in windows]
        parts: list[Tensor] = [torch.empty(0)] * len(windows)
        with autocast(self._precision, self._model.device):
            states, _ = trunk_states(self._model, windows, batch_pieces=self._batch_pieces)
            order = sorted(range(len(windows)), key=lengths.__getitem__)
            for run in budgeted(lengths, order, self._batch_pieces, padding_slack(self._model.device)):
                rows = pack([[(states[i], torch.empty(lengths[i], dtype=torch.long))] for i in run])
                hidden_BTH = self._last_layers(rows)
                for row, i in enumerate(run):
                    parts[i] = _word_means(hidden_BTH[row], windows[i])
        return np.asarray(functional.normalize(torch.cat(parts), dim=1).numpy(), dtype=np.float32)

    def _last_layers(self, rows: Rows) -> Tensor:
        """The mean (B, T, H) of the last layers' states; where fewer layers adapt, the trunk's states count too."""
        states = [rows.hidden_BTH, *self._model.states(rows)]
        return torch.stack([state.float() for state in states[-LAYERS:]]).mean(0).cpu()


def _word_means(hidden_TH: Tensor, window: Window) -> Tensor:
    """The mean (W, H) of each scored word's pieces; a word without a piece of its own has that of the word before."""
    ends = [*window.first_pieces[1:], len(window) - 1]
    words = range(window.scored[0] - window.start, window.scored[1] - window.start)
    first = window.first_pieces
    return torch.stack([hidden_TH[first[w] : max(ends[w], first[w] + 1)].mean(0) for w in words])


class ComparedWords:
    """The words that others are compared with: those of sentences spread evenly over a text, so memory is bounded.

    Args:
        encoder: makes vectors.
        sentences: the complete text.
        k: neighbours that are wanted.

    Attributes:
        k: neighbours that every word gets: fewer than wanted where the text is small, even 0.
    """

    def __init__(self, encoder: WordEncoder, sentences: Sequence[Sentence], *, k: int) -> None:
        self._encoder, self._sentences = encoder, sentences
        lengths = [len(sentence.words) for sentence in sentences]
        chosen = spread(len(sentences), max(1, COMPARED_WORDS * len(sentences) // max(sum(lengths), 1)))
        first_word = np.concatenate([[0], np.cumsum(lengths)])
        self._owner = np.repeat(np.arange(len(sentences)), lengths)  # every word's sentence
        vectors = encoder.vectors([sentences[i] for i in chosen])
        numbers = np.concatenate([np.arange(first_word[i], first_word[i + 1]) for i in chosen])
        self._index = VectorIndex(vectors, numbers, use_gpu=False)
        self._longest = max(lengths[i] for i in chosen)
        self.k = max(0, min(k, len(numbers) - self._longest))

    def neighbours(self, numbers: Sequence[int]) -> Ids:
        """The nearest words (W, K) of each word of some sentences that stand in other sentences.

        Args:
            numbers: the sentences', in the text. Words are numbered through the text, too.
        """
        sentences = [self._sentences[i] for i in numbers]
        own_W = np.repeat(np.asarray(numbers, dtype=np.int64), [len(sentence.words) for sentence in sentences])
        if not self.k:
            return np.empty((len(own_W), 0), dtype=np.int64)
        # So many more that K are left without the words of the own sentence.
        _, found = self._index.search(self._encoder.vectors(sentences), self.k + self._longest)
        others_first = np.argsort(self._owner[found] == own_W[:, None], axis=1, kind="stable")
        return np.take_along_axis(found, others_first[:, : self.k], axis=1)
