"""From sentences to word pieces and back.

A sentence's text is cut into pieces as a whole, and pieces are matched to words by their offsets: so a corpus and raw
text share one path. A word is tagged on its first piece. Sentences longer than `max_pieces` become overlapping
windows; every word is scored once, in the window where it has most context.

Shapes: T word pieces, W words, C tags.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from metacross.corpora.sentence import Sentence
from metacross.errors import UserError

pass

LONE_SURROGATES = {code: "\ufffd" for code in range(0xD800, 0xE000)}


@dataclass(frozen=True)
class Window:
    """A stretch of a sentence that fits into the encoder.

    Attributes:
        sentence: index of its sentence in the list that was encoded.
        piece_ids: with the special pieces at both ends.
        first_pieces: where each of its words' first piece stands in `piece_ids`; two words of unspaced raw text may
            share a piece.
        start: index of its first word in the sentence.
        scored: the words (start, end), counted in the sentence, whose tags are read from here; all words of the
            sentence are scored in exactly one window.
    """

    sentence: int
    piece_ids: tuple[int, ...]
    first_pieces: tuple[int, ...]
    start: int
    scored: tuple[int, int]

    def __len__(self) -> int:
        return len(self.piece_ids)

    def scored_pieces(self) -> tuple[int, ...]:
        """First pieces of the scored words."""
        return self.first_pieces[self.scored[0] - self.start : self.scored[1] - self.start]


class PieceEncoder:
    """Cuts sentences into windows of word pieces.

    Args:
        tokenizer: a fast tokenizer (offsets are needed).
        max_pieces: pieces of a window, special ones included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_pieces: int) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                f"{type(tokenizer).__name__} is not a fast tokenizer: it gives no offsets. Use one with tokenizer.json"
            )
        self.tokenizer = tokenizer
        self.model = tokenizer.backend_tokenizer.model
        self.begin = _first_id(tokenizer.cls_token_id, tokenizer.bos_token_id)
        self.end = _first_id(tokenizer.sep_token_id, tokenizer.eos_token_id)
        self.unknown = _first_id(tokenizer.unk_token_id, tokenizer.pad_token_id)
        self.mask = tokenizer.mask_token_id
        self.special = frozenset(tokenizer.all_special_ids)
        self.marker = tokenizer.get_vocab().get("▁")  # SentencePiece's mark of a word's beginning, alone
        if max_pieces < 4:
            raise UserError(f"model.max_pieces={max_pieces}: at least 4 are needed")
        self.capacity = max_pieces - 2

    def windows(self, sentences: Sequence[Sentence]) -> list[Window]:
        """The windows of all sentences, in order; a sentence without words has none."""
        # Rust strings hold no lone surrogates; one stand-in per code point keeps the offsets.
        texts = [s.text.translate(LONE_SURROGATES) for s in sentences]
        windows: list[Window] = []
        for chunk in _chunks(range(len(sentences)), 512):
            encoded = self.tokenizer(
                [texts[i] for i in chunk],
                add_special_tokens=False,
                return_offsets_mapping=True,
                verbose=False,
            )
            for i, ids, offsets in zip(chunk, encoded["input_ids"], encoded["offset_mapping"], strict=True):
                if sentences[i].words:
                    pieces = self._word_pieces(texts[i], sentences[i], ids, offsets)
                    windows += self._cut(i, pieces)
        return windows

    def _word_pieces(
        self, text: str, sentence: Sentence, ids: Sequence[int], offsets: Sequence[tuple[int, int]]
    ) -> list[list[int]]:
        """Each word's pieces. A word with none shares the piece before it (only in unspaced raw text)."""
        words: list[list[int]] = [[] for _ in sentence.spans]
        w = 0
        for piece_id, (start, end) in zip(ids, offsets, strict=True):
            while w < len(words) - 1 and sentence.spans[w][1] <= start:
                w += 1
            last = w
            while last < len(words) - 1 and sentence.spans[last + 1][0] < end:
                last += 1
            if last > w and sentence.presplit:
                self._split_piece(text, sentence.spans, w, last, (start, end), words)
            else:
                # "</s>" written out in a text must not end the sentence.
                words[w].append(self.unknown if piece_id in self.special else piece_id)
            if last > w:
                w = last
        for i, word in enumerate(words):
            if not word and (i == 0 or sentence.presplit or text[slice(*sentence.spans[i])].isspace()):
                word.append(self.unknown)  # characters that the tokenizer drops
        return words

    def _split_piece(
        self,
        text: str,
        spans: Sequence[tuple[int, int]],
        first: int,
        last: int,
        piece: tuple[int, int],
        words: list[list[int]],
    ) -> None:
        """Cuts a piece that runs over several given words, at the words' borders."""
        for w in range(first, last + 1):
            part = text[max(spans[w][0], piece[0]) : min(spans[w][1], piece[1])]
            if part:
                tokens = self.tokenizer.backend_tokenizer.normalizer
                clean = tokens.normalize_str(part) if tokens is not None else part
                words[w] += [token.id for token in self.model.tokenize(clean)] or [self.unknown]

    def _cut(self, sentence: int, words: list[list[int]]) -> Iterator[Window]:
        words = [word[: self.capacity] for word in words]
        offsets = [0, *itertools.accumulate(len(word) for word in words)]
        bounds: list[tuple[int, int]] = []
        start = 0
        while True:
            end = start
            while end < len(words) and offsets[end + 1] - offsets[start] <= self.capacity:
                end += 1
            bounds.append((start, end))
            if end == len(words):
                break
            # The next window starts half a window on, at a word with a piece of its own.
            start += 1
            while start < end and (not words[start] or offsets[start] - offsets[bounds[-1][0]] < self.capacity // 2):
                start += 1
            while not words[start]:
                start -= 1
        borders = [0]
        for (_, end), (start, _) in itertools.pairwise(bounds):
            middle = (offsets[start] + offsets[end]) / 2
            border = min(range(start, end + 1), key=lambda w: abs(offsets[w] - middle))
            while border > start and not (border < len(words) and words[border]):
                border -= 1
            borders.append(border)
        borders.append(len(words))
        for i, (start, end) in enumerate(bounds):
            flat = tuple(itertools.chain((self.begin,), *words[start:end], (self.end,)))
            first_pieces = []
            for w in range(start, end):
                own = 1 + offsets[w] - offsets[start]
                if not words[w]:
                    own -= 1  # the last piece of the word before
                elif len(words[w]) > 1 and words[w][0] == self.marker:
                    own += 1
                first_pieces.append(own)
            yield Window(sentence, flat, tuple(first_pieces), start, (borders[i], borders[i + 1]))

    def masked(self, window: Window, words: Sequence[int]) -> Window:
        """The window with all pieces of some of its words (counted in the sentence) replaced by the mask."""
        if self.mask is None:
            raise UserError("this encoder's tokenizer has no mask piece: set loss.mask_ratio=0")
        piece_ids = list(window.piece_ids)
        ends = [*window.first_pieces[1:], len(piece_ids) - 1]
        for word in words:
            i = word - window.start
            piece_ids[window.first_pieces[i] : ends[i]] = [self.mask] * (ends[i] - window.first_pieces[i])
        return replace(window, piece_ids=tuple(piece_ids))


def tag_ids(window: Window, sentence: Sentence, tag_index: Mapping[str, int]) -> Tensor:
    """The window's tag ids (T,): a scored word's on its first piece, IGNORED elsewhere."""
    ids_T = torch.full((len(window),), IGNORED, dtype=torch.long)
    if sentence.tags is None:
        return ids_T
    for word, piece in zip(range(*window.scored), window.scored_pieces(), strict=True):
        ids_T[piece] = tag_index[sentence.tags[word]]
    return ids_T


def _first_id(*ids: int | None) -> int:
    for piece_id in ids:
        if piece_id is not None:
            return int(piece_id)
    raise UserError("the tokenizer has no special pieces for a sentence's ends")


def _chunks(indices: range, size: int) -> Iterator[range]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


IGNORED = -100
