"""A cache of support factors: adapting to support sentences that were used before needs no backward.

With one inner step from theta, no dropout and the mean word loss, what a support sentence adds to the gradient does not
depend on the query nor on the other support sentences, except for its weight:

    loss of a support set = sum_k share_k * (mean word loss of sentence k),    share_k = its words / all their words

So the set's gradient is sum_k share_k * g_k, with g_k the gradient of sentence k alone. Its factors are those of the
sentences side by side, each piece weighted with its sentence's share, and its length comes from the products of pairs:
|sum_k share_k g_k|^2 = sum_kl share_k share_l (g_k . g_l). Those products are numbers, and are cached too. All this
holds for one theta. The maximum term would need a weight of its own; with it, as with several inner steps, the tagger
calls `algorithm.adapt` instead.

Shapes: E episodes, N support pieces of a row, K support sentences of a row, n pieces of one sentence, I and O a layer's
inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from cachetools import LRUCache
from torch import Tensor

from metacross.algorithm import THETA, InnerLoop, episode_losses
from metacross.encoder.model import Rows, TagModel
from metacross.encoder.rows import forwards, pack
from metacross.encoder.windows import IGNORED
from metacross.fast_weights import FastWeights, inverse_length, piece_gradients
from metacross.tagging.factor_layout import FactorLayout, SentenceGradient, SideBySide

Fetch = Callable[[Sequence[Sequence[int]]], list[list[tuple[Tensor, Tensor]]]]


@dataclass
class CacheFigures:
    """What a cache has done so far; a support sentence counts once in a call, however many episodes it is in.

    Attributes:
        hits: sentences that were found in the cache.
        misses: sentences whose gradients had to be computed.
        evicted: sentences that were dropped to make room, or never cached for want of it.
        bytes: memory that the cache takes now.
    """

    hits: int = 0
    misses: int = 0
    evicted: int = 0
    bytes: int = 0


class FactorCache:
    """Support factors under one theta, cached; the least recently used are dropped first. Not thread-safe.

    Args:
        model: holds theta, which must not change as long as the cache is in use.
        support: returns trunk states and tag ids of rows of support windows, by number, as `rows.pack` takes them.
        budget_mb: memory for the cache between calls, in MiB; a call needs further memory for its own sentences.
        batch_pieces: word pieces of one forward.

    Attributes:
        figures: what the cache has done so far.
    """

    def __init__(self, model: TagModel, support: Fetch, *, budget_mb: int, batch_pieces: int) -> None:
        self.figures = CacheFigures()
        self._model, self._support, self._batch_pieces = model, support, batch_pieces
        self._cache: LRUCache[int, SentenceGradient] = LRUCache(budget_mb << 20, lambda gradient: gradient.nbytes)
        self._layout: FactorLayout | None = None

    def __len__(self) -> int:
        return len(self._cache)

    @staticmethod
    def serves(inner: InnerLoop) -> bool:
        """Whether this inner loop's step is a weighted sum of the sentences' own gradients."""
        return inner.steps == 1 and inner.max_weight == 0 and not inner.second_order

    def fast_weights(self, rows: Sequence[Sequence[int]], *, inner_lr: float, normalized: bool) -> FastWeights:
        """Theta' of every row's episode, as `algorithm.adapt` finds it with one step on the row's windows.

        Args:
            rows: each episode's support, as numbers of source windows.
            inner_lr: alpha; with `normalized` the length of a step.
            normalized: a step of fixed length.
        """
        return self.fast_weights_of([rows], inner_lr=inner_lr, normalized=normalized)[0]

    def fast_weights_of(
        self, groups: Sequence[Sequence[Sequence[int]]], *, inner_lr: float, normalized: bool
    ) -> list[FastWeights]:
        """The same for several groups of rows; a sentence that several of them need is computed once."""
        used = self._gradients(sorted({i for rows in groups for row in rows for i in row}))
        found = [self._of_group(rows, used, inner_lr=inner_lr, normalized=normalized) for rows in groups]
        self._keep(used)
        return found

    def _of_group(
        self, rows: Sequence[Sequence[int]], used: Mapping[int, SentenceGradient], *, inner_lr: float, normalized: bool
    ) -> FastWeights:
        layout = self._layout
        assert layout is not None  # the first gradient set it
        gradients = [[used[i] for i in row] for row in rows]
        shares = [_shares(row) for row in gradients]
        factors = SideBySide(gradients)
        norms_EP = torch.stack(
            [
                torch.stack([share * gradient.norms_P for share, gradient in zip(part, row, strict=True)]).sum(0)
                for part, row in zip(shares, gradients, strict=True)
            ]
        )
        step_E = norms_EP.new_full((len(rows),), -inner_lr)
        if normalized:
            dots = self._dots(rows, gradients)
            squared = [_squared_length(own, part) for own, part in zip(dots, shares, strict=True)]
            step_E = step_E * inverse_length(norms_EP.new_tensor(squared))
        step_EN = _by_piece(gradients, shares, factors.length).to(step_E) * step_E[:, None]
        return layout.fast_weights(factors, step_EN, norms_EP * step_E[:, None])

    def _gradients(self, wanted: Sequence[int]) -> dict[int, SentenceGradient]:
        """The sentences' gradients, by number: those from the cache, and the others, computed together."""
        gradients = {i: self._cache[i] for i in wanted if i in self._cache}
        missing = [i for i in wanted if i not in gradients]
        self.figures.hits += len(gradients)
        self.figures.misses += len(missing)
        support = [row[0] for row in self._support([[i] for i in missing])] if missing else []
        lengths = [len(hidden_TH) for hidden_TH, _ in support]
        order = sorted(range(len(missing)), key=lambda at: (lengths[at], at))
        for groups in forwards(self._model, lengths, order, self._batch_pieces):
            computed = self._computed([[support[at] for at in group] for group in groups])
            numbers = [missing[at] for group in groups for at in group]
            gradients |= dict(zip(numbers, computed, strict=True))
        return gradients

    def _keep(self, used: Mapping[int, SentenceGradient]) -> None:
        """Puts the gradients that a call used into the cache, and drops what no longer fits.

        Only at the end of a call, since gradients grow by the products of pairs; here they are measured again.
        """
        candidates = len(self._cache.keys() | used.keys())
        for number, gradient in used.items():
            self._cache.pop(number, None)
            with suppress(ValueError):  # larger than the whole cache
                self._cache[number] = gradient
        self.figures.evicted += candidates - len(self._cache)
        self.figures.bytes = int(self._cache.currsize)

    def _computed(self, groups: Sequence[Sequence[tuple[Tensor, Tensor]]]) -> list[SentenceGradient]:
        """The gradient of each sentence's own mean word loss at theta, by one forward and one backward."""
        layers = self._model.fast_layers
        packed = [pack([[sentence] for sentence in group]) for group in groups]
        with torch.enable_grad(), layers.running(THETA, record=True) as recording:
            logits = self._model.recorded_logits(packed)
            losses = [episode_losses(own, rows, max_weight=0) for own, rows in zip(logits, packed, strict=True)]
            loss = torch.cat(losses).sum()
        gradient = piece_gradients(layers, recording, loss)
        if self._layout is None:
            self._layout = FactorLayout(layers, gradient)
        # What pieces add to the norms' gradients, summed over each sentence's pieces.
        norms_EP = torch.cat([_sums(v, packed) for pair in gradient.norms.values() for v in pair if v is not None], 1)
        words = [count for rows in packed for count in (rows.tag_ids_BT != IGNORED).sum(1).tolist()]
        lengths = [len(hidden_TH) for hidden_TH, _ in chain.from_iterable(groups)]
        places = [slice(start, start + length) for start, length in zip(_starts(packed), lengths, strict=True)]
        kept = self._layout.by_sentence(gradient, places)
        return [
            SentenceGradient(length, count, factors, norms_P.clone())
            for length, count, factors, norms_P in zip(lengths, words, kept, norms_EP, strict=True)
        ]

    def _dots(
        self,
        rows: Sequence[Sequence[int]],
        gradients: Sequence[Sequence[SentenceGradient]],
    ) -> list[list[list[float]]]:
        """Products (K, K) of the gradients of each row's sentences. If one is not cached, all of its row are computed.

        Args:
            rows: the sentences' numbers.
            gradients: theirs.
        """
        assert self._layout is not None
        owners = [dict(zip(row, own, strict=True)) for row, own in zip(rows, gradients, strict=True)]
        unknown = [
            e for e, row in enumerate(rows) if any(max(a, b) not in owners[e][min(a, b)].dots for a in row for b in row)
        ]
        if unknown:
            found = self._layout.dots([gradients[e] for e in unknown])
            for e, dots_KK in zip(unknown, found, strict=True):
                for a, line in zip(rows[e], dots_KK, strict=False):  # behind the row's sentences there are zeros
                    for b, dot in zip(rows[e], line, strict=False):
                        if a <= b:
                            # A product that is cached stays: computed among others it may differ in its last bit.
                            owners[e][a].dots.setdefault(b, dot)
        return [
            [[owner[min(a, b)].dots[max(a, b)] for b in row] for a in row]
            for owner, row in zip(owners, rows, strict=True)
        ]


def _starts(groups: Sequence[Rows]) -> list[int]:
    """Where each row starts when the pieces of all groups stand one row after the other, padding included."""
    lengths = [rows.tag_ids_BT.shape[1] for rows in groups for _ in rows.tag_ids_BT]
    return list(accumulate(lengths, initial=0))[:-1]


def _sums(x_PO: Tensor, groups: Sequence[Rows]) -> Tensor:
    """Sums (E, O) over each row's pieces; padding adds nothing, since no loss depends on it."""
    sums, start = [], 0
    for rows in groups:
        end = start + rows.tag_ids_BT.numel()
        sums.append(x_PO[start:end].view(*rows.tag_ids_BT.shape, -1).sum(1))
        start = end
    return torch.cat(sums)


def _shares(row: Sequence[SentenceGradient]) -> list[float]:
    """Which part of a row's words is in each of its sentences."""
    total = max(sum(gradient.words for gradient in row), 1)
    return [gradient.words / total for gradient in row]


def _squared_length(dots: Sequence[Sequence[float]], shares: Sequence[float]) -> float:
    return sum(a * b * dot for a, line in zip(shares, dots, strict=True) for b, dot in zip(shares, line, strict=True))


def _by_piece(rows: Sequence[Sequence[SentenceGradient]], shares: Sequence[Sequence[float]], length: int) -> Tensor:
    """Each support piece's share (E, N), which is its sentence's; 0 on padding."""
    out_EN = torch.zeros(len(rows), length, dtype=torch.float64)
    for e, (row, part) in enumerate(zip(rows, shares, strict=True)):
        at = 0
        for gradient, share in zip(row, part, strict=True):
            out_EN[e, at : (at := at + gradient.pieces)] = share
    return out_EN
