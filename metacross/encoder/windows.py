"""From sentences to word pieces and back.

The complete text of a sentence is cut into pieces, and pieces are matched to words by their offsets; so corpora and raw
text are treated alike. A word is tagged on its first piece. A sentence longer than `max_pieces` becomes several
overlapping windows; every word is scored once, in the window where it has most context.

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
from metacross.sequences import groups

IGNORED = -100  # tag id of pieces that carry no tag; torch's losses leave it out by default
LONE_SURROGATES = {code: "\ufffd" for code in range(0xD800, 0xE000)}  # for str.translate
CHUNK = 512  # sentences that are given to the tokenizer at once


@dataclass(frozen=True)
class Window:
    """A stretch of a sentence that fits into the encoder.

    Attributes:
        sentence: index of its sentence in the list that was cut into windows.
        piece_ids: its word pieces, with the special pieces at both ends.
        first_pieces: for each of its words the index in `piece_ids` of the word's first piece; two words of unspaced
            raw text may share a piece.
        start: index of its first word in the sentence.
        scored: the words (start, end), counted in the sentence, whose tags are read from this window; every word of
            the sentence is scored in exactly one window.
    """

    sentence: int
    piece_ids: tuple[int, ...]
    first_pieces: tuple[int, ...]
    start: int
    scored: tuple[int, int]

    def __len__(self) -> int:
        return len(self.piece_ids)

    def scored_pieces(self) -> tuple[int, ...]:
        """The first pieces of the scored words."""
        return self.first_pieces[self.scored[0] - self.start : self.scored[1] - self.start]


class PieceEncoder:
    """Cuts sentences into windows of word pieces.

    Args:
        tokenizer: a fast tokenizer, since offsets are needed.
        max_pieces: the most word pieces of a window, special ones included.

    Raises:
        UserError: the tokenizer is not a fast one or has no special pieces, or `max_pieces` is too small.
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
        # SentencePiece's mark of a word's beginning, which may be a piece by itself.
        self.marker = tokenizer.backend_tokenizer.token_to_id("▁")
        if max_pieces < 4:
            raise UserError(f"model.max_pieces={max_pieces}: at least 4 are needed")
        self.capacity = max_pieces - 2

    def windows(self, sentences: Sequence[Sentence]) -> list[Window]:
        """The windows of all sentences, in order; a sentence without words has none."""
        texts = [_readable(sentence) for sentence in sentences]
        windows: list[Window] = []
        for chunk in groups(range(len(sentences)), size=lambda i: 1, most=CHUNK):
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
        """Each word's pieces. A word without any shares the piece before it; that happens in unspaced raw text only.

        Args:
            text: the sentence's text, as the tokenizer got it.
            sentence: the sentence.
            ids: its pieces.
            offsets: their (start, end) in the text.
        """
        words: list[list[int]] = [[] for _ in sentence.spans]
        w = 0  # the piece's first word
        for piece_id, (start, end) in zip(ids, offsets, strict=True):
            while w < len(words) - 1 and sentence.spans[w][1] <= start:
                w += 1
            last = w  # the piece's last word
            while last < len(words) - 1 and sentence.spans[last + 1][0] < end:
                last += 1
            if last > w and sentence.presplit:
                self._split_piece(text, sentence.spans, w, last, (start, end), words)
            else:
                # If a text contains "</s>", it must not end the sentence.
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
        """Cuts a piece that covers several given words at the words' borders; appends the parts to `words`."""
        for w in range(first, last + 1):
            part = text[max(spans[w][0], piece[0]) : min(spans[w][1], piece[1])]
            if part:
                normalizer = self.tokenizer.backend_tokenizer.normalizer
                clean = normalizer.normalize_str(part) if normalizer is not None else part
                words[w] += [token.id for token in self.model.tokenize(clean)] or [self.unknown]

    def _cut(self, sentence: int, words: list[list[int]]) -> Iterator[Window]:
        """Cuts a sentence, given as its words' pieces, into windows."""
        words = [word[: self.capacity] for word in words]
        offsets = [0, *itertools.accumulate(len(word) for word in words)]  # pieces before each word
        stretches = self._stretches(words, offsets)
        borders = _borders(words, offsets, stretches)
        for (start, end), scored in zip(stretches, itertools.pairwise(borders), strict=True):
            piece_ids = tuple(itertools.chain((self.begin,), *words[start:end], (self.end,)))
            first_pieces = []
            for w in range(start, end):
                first = 1 + offsets[w] - offsets[start]
                if not words[w]:
                    first -= 1  # the last piece of the word before
                elif len(words[w]) > 1 and words[w][0] == self.marker:
                    first += 1
                first_pieces.append(first)
            yield Window(sentence, piece_ids, tuple(first_pieces), start, scored)

    def _stretches(self, words: Sequence[Sequence[int]], offsets: Sequence[int]) -> list[tuple[int, int]]:
        """The words (start, end) of each window; neighbouring windows overlap by about half."""
        stretches: list[tuple[int, int]] = []
        start = 0
        while True:
            end = start
            while end < len(words) and offsets[end + 1] - offsets[start] <= self.capacity:
                end += 1
            stretches.append((start, end))
            if end == len(words):
                return stretches
            # The next window starts half a window further on, at a word with a piece of its own.
            half = offsets[start] + self.capacity // 2
            start += 1
            while start < end and (not words[start] or offsets[start] < half):
                start += 1
            while not words[start]:
                start -= 1

    def later_tag_ids(self, window: Window, sentence: Sentence, tag_index: Mapping[str, int]) -> Tensor:
        """The tag ids (T,) of the pieces of scored words that `tag_ids` leaves out.

        A piece after a word's first one continues the word's entity (I-), or is O outside of entities. A marker before
        the first piece is O, since the entity begins behind it. All other pieces are IGNORED.

        Args:
            window: the window.
            sentence: the sentence that it belongs to; it has tags.
            tag_index: tag -> tag id; has an I- tag for every B- tag.
        """
        ids_T = torch.full((len(window),), IGNORED, dtype=torch.long)
        tags = sentence.tags or ()
        ends = [*window.first_pieces[1:], len(window) - 1]
        for word in range(*window.scored):
            tag = tags[word]
            first, end = window.first_pieces[word - window.start], ends[word - window.start]
            ids_T[first + 1 : end] = tag_index["O" if tag == "O" else "I-" + tag[2:]]
        # After the loop, because a marker stands between the last piece of the word before and the first of its own.
        for piece in window.first_pieces:
            if window.piece_ids[piece - 1] == self.marker:
                ids_T[piece - 1] = tag_index["O"]
        return ids_T

    def masked(self, window: Window, words: Sequence[int]) -> Window:
        """The window with all pieces of some of its words (counted in the sentence) replaced by the mask piece.

        Raises:
            UserError: the tokenizer has no mask piece.
        """
        if self.mask is None:
            raise UserError("this encoder's tokenizer has no mask piece: set loss.mask_ratio=0")
        piece_ids = list(window.piece_ids)
        ends = [*window.first_pieces[1:], len(piece_ids) - 1]
        for word in words:
            i = word - window.start
            piece_ids[window.first_pieces[i] : ends[i]] = [self.mask] * (ends[i] - window.first_pieces[i])
        return replace(window, piece_ids=tuple(piece_ids))


def _readable(sentence: Sentence) -> str:
    """A sentence's text for the tokenizer, with one stand-in per code point, so that offsets stay.

    The tokenizer's strings cannot hold lone surrogates. Between words it gets spaces only: of controls and marks of
    direction there, which belong to no word, it would make pieces, and the next word would be tagged on them.
    """
    text = sentence.text.translate(LONE_SURROGATES)
    if text.isprintable():  # then only spaces are between words
        return text
    parts: list[str] = []
    done = 0
    for start, end in [*sentence.spans, (len(text), len(text))]:
        parts += [" " * (start - done), text[start:end]]
        done = end
    return "".join(parts)


def _borders(words: Sequence[Sequence[int]], offsets: Sequence[int], stretches: Sequence[tuple[int, int]]) -> list[int]:
    """The words at which scoring passes from one window to the next, with 0 first and the number of words last.

    A border is as near as possible to the middle of two windows' overlap, at a word with a piece of its own.
    """
    borders = [0]
    for (_, end), (start, _) in itertools.pairwise(stretches):
        middle = (offsets[start] + offsets[end]) / 2
        border = min(range(start, end + 1), key=lambda w: abs(offsets[w] - middle))
        while border > start and not (border < len(words) and words[border]):
            border -= 1
        borders.append(border)
    return [*borders, len(words)]


def tag_ids(window: Window, sentence: Sentence, tag_index: Mapping[str, int]) -> Tensor:
    """The window's tag ids (T,): a scored word's on its first piece, IGNORED on all others and for uncertain words.

    Args:
        window: the window.
        sentence: the sentence that it belongs to.
        tag_index: tag -> tag id.
    """
    ids_T = torch.full((len(window),), IGNORED, dtype=torch.long)
    if sentence.tags is None:
        return ids_T
    uncertain = sentence.uncertain
    for word, piece in zip(range(*window.scored), window.scored_pieces(), strict=True):
        if word not in uncertain:
            ids_T[piece] = tag_index[sentence.tags[word]]
    return ids_T


def _first_id(*ids: int | None) -> int:
    for piece_id in ids:
        if piece_id is not None:
            return int(piece_id)
    raise UserError("the tokenizer has no special pieces for a sentence's ends")
