"""Ours and other ways to compute the same thing: the first-order meta-gradient with plain SGD inner steps.

Every implementation takes a meta-batch and returns the gradient of the mean query loss at each episode's theta',
one tensor per adapted parameter, in the order of the classifier's `named_parameters`. Each is written the way its
library wants it, padded as is natural to it, and works on its own copy of the model.

Shapes: E episodes, K support sentences, T word pieces, C tags.
"""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from transformers import PreTrainedModel

from benchmarks.inputs import BATCH_PIECES, Example, MetaBatch
from metacross.algorithm import InnerLoop, query_losses
from metacross.encoder.device import autocast
from metacross.encoder.model import TagModel
from metacross.encoder.rows import pack, trunk_states
from metacross.encoder.windows import IGNORED

CPU = torch.device("cpu")
Padded = tuple[Tensor, Tensor, Tensor]  # piece ids, attention mask, tag ids, (K, T) each


class Implementation(ABC):
    """One way to compute a meta-gradient.

    Args:
        classifier: is copied.
        frozen_layers: embeddings and this many layers stay as they are.
        inner: plain SGD, first order; its maximum term is in the query's loss too.

    Attributes:
        comparable: whether the result is the same meta-gradient as ours.
        one_shape: whether every meta-batch is padded to the same shape, so that one warm-up is enough.
    """

    name: str
    comparable = True
    one_shape = False

    def __init__(self, classifier: PreTrainedModel, *, frozen_layers: int, inner: InnerLoop) -> None:
        if inner.normalized or inner.second_order:
            raise ValueError("the implementations agree on plain first-order SGD steps only")
        self.inner = inner
        self.model: nn.Module = copy.deepcopy(classifier).train(False)
        freeze(self.model, frozen_layers)
        self.adapted = {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    @abstractmethod
    def meta_gradient(self, batch: MetaBatch, precision: str) -> list[Tensor]:
        """The meta-gradient of a batch in `fp32` or, by autocast, `bf16`."""

    def loss(self, inputs: Padded, precision: str) -> Tensor:
        """The model's loss on padded sentences, by the weights it has now.

        Autocast ends with the forward: it keeps bf16 copies of weights, which would be stale after a step.
        """
        piece_ids_KT, mask_KT, tag_ids_KT = inputs
        with autocast(precision, CPU):
            logits_KTC = self.model(input_ids=piece_ids_KT, attention_mask=mask_KT).logits
        return tagging_loss(logits_KTC, tag_ids_KT, self.inner.max_weight)


class Metacross(Implementation):
    """Ours: all episodes at once on low-rank fast weights; the trunk runs once per sentence, inside the step."""

    name = "metacross"

    def __init__(self, classifier: PreTrainedModel, *, frozen_layers: int, inner: InnerLoop) -> None:
        super().__init__(classifier, frozen_layers=frozen_layers, inner=inner)
        self.tagger = TagModel(self.model, frozen_layers=frozen_layers)  # type: ignore[arg-type]

    def meta_gradient(self, batch: MetaBatch, precision: str) -> list[Tensor]:  # noqa: D102
        for p in self.adapted.values():
            p.grad = None
        with autocast(precision, CPU):
            states = self.states(batch)
            support = pack([[(next(states), x.tag_ids_T) for x in row] for row in batch.support_EK])
            query = pack([[(next(states), x.tag_ids_T)] for x in batch.query_E])
            losses_E = query_losses(self.tagger, support, query, self.inner, max_weight=self.inner.max_weight)
        torch.autograd.backward(losses_E.mean())
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self.adapted.values()]

    def states(self, batch: MetaBatch) -> Iterator[Tensor]:
        """Trunk states of all sentences, support first."""
        windows = [x.window for row in batch.support_EK for x in row] + [x.window for x in batch.query_E]
        return iter(trunk_states(self.tagger, windows, batch_pieces=BATCH_PIECES)[0])


class KeptTrunk(Metacross):
    """Ours with the trunk's states kept from before, as training keeps those of unmasked sentences."""

    name = "metacross, trunk kept"

    def __init__(self, classifier: PreTrainedModel, *, frozen_layers: int, inner: InnerLoop) -> None:
        super().__init__(classifier, frozen_layers=frozen_layers, inner=inner)
        self.kept: dict[tuple[int, str], tuple[MetaBatch, list[Tensor]]] = {}

    def keep(self, batch: MetaBatch, precision: str) -> None:
        """Runs the trunk; not part of a step."""
        with autocast(precision, CPU):
            # The batch is held too, so that no other can get its id.
            self.kept[id(batch), precision] = batch, list(super().states(batch))

    def states(self, batch: MetaBatch) -> Iterator[Tensor]:
        """What `keep` left."""
        precision = "bf16" if torch.is_autocast_enabled("cpu") else "fp32"
        return iter(self.kept[id(batch), precision][1])


class CopiedWeights(Implementation):
    """SGD on the weights themselves, one episode at a time; theta is copied back after each (torch foreach ops)."""

    name = "copied weights"

    def meta_gradient(self, batch: MetaBatch, precision: str) -> list[Tensor]:  # noqa: D102
        weights = list(self.adapted.values())
        theta = [w.detach().clone() for w in weights]
        total = [torch.zeros_like(w) for w in theta]
        for support, query in zip(batch.support_EK, batch.query_E, strict=True):
            inputs = padded(support)
            for _ in range(self.inner.steps):
                grads = torch.autograd.grad(self.loss(inputs, precision), weights)
                with torch.no_grad():
                    torch._foreach_add_(weights, grads, alpha=-self.inner.lr)
            grads = torch.autograd.grad(self.loss(padded([query]), precision), weights)
            torch._foreach_add_(total, grads, alpha=1 / len(batch.query_E))
            with torch.no_grad():
                torch._foreach_copy_(weights, theta)
        return total


class FuncVmap(Implementation):
    """torch.func: `vmap` over episodes of a function that steps functional weights; each episode has a full copy.

    Attention is the eager one: torch's fused attention has no batching rule on the CPU and runs in a slow loop.
    """

    name = "torch.func vmap"

    def __init__(self, classifier: PreTrainedModel, *, frozen_layers: int, inner: InnerLoop) -> None:
        super().__init__(classifier, frozen_layers=frozen_layers, inner=inner)
        self.model.set_attn_implementation("eager")  # type: ignore[operator]

    def meta_gradient(self, batch: MetaBatch, precision: str) -> list[Tensor]:  # noqa: D102
        def loss(weights: dict[str, Tensor], inputs: Padded) -> Tensor:
            piece_ids_KT, mask_KT, tag_ids_KT = inputs
            # A mask of four dimensions is added to the scores as it is; making one looks at values, which vmap refuses.
            lowest = torch.finfo(wide).min
            mask_K11T = torch.zeros(mask_KT.shape, dtype=wide).masked_fill(mask_KT == 0, lowest)[:, None, None]
            arguments = {"input_ids": piece_ids_KT, "attention_mask": mask_K11T}
            logits_KTC = functional_call(self.model, weights, kwargs=arguments).logits
            return tagging_loss(logits_KTC, tag_ids_KT, self.inner.max_weight)

        def episode(support: Padded, query: Padded) -> dict[str, Tensor]:
            weights = theta
            for _ in range(self.inner.steps):
                grads = grad(loss)(weights, support)
                weights = {n: w - self.inner.lr * grads[n] for n, w in weights.items()}
            gradient: dict[str, Tensor] = grad(loss)(weights, query)
            return gradient

        theta = {n: p.detach() for n, p in self.adapted.items()}
        wide = next(iter(theta.values())).dtype
        longest = max(len(x) for row in batch.support_EK for x in row)
        supports = stacked([padded(row, longest) for row in batch.support_EK])
        longest = max(map(len, batch.query_E))
        queries = stacked([padded([x], longest) for x in batch.query_E])
        with autocast(precision, CPU):
            grads = vmap(episode, chunk_size=self._chunk(len(batch.query_E)))(supports, queries)
        return [g_E.mean(0) for g_E in grads.values()]

    def _chunk(self, episodes: int) -> int:
        """Episodes that fit into half of the free memory, at about six times theta each."""
        theta_bytes = sum(p.nbytes for p in self.adapted.values())
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return max(1, min(episodes, int(free // (12 * theta_bytes))))


class TorchOpt(Implementation):
    """TorchOpt's functional SGD, one episode at a time.

    Its MetaSGD always builds the graph of a second-order gradient; the functional optimizer need not.
    """

    name = "torchopt"

    def __init__(self, classifier: PreTrainedModel, *, frozen_layers: int, inner: InnerLoop) -> None:
        super().__init__(classifier, frozen_layers=frozen_layers, inner=inner)
        import torchopt

        self.torchopt = torchopt

    def meta_gradient(self, batch: MetaBatch, precision: str) -> list[Tensor]:  # noqa: D102
        theta = {n: p.detach() for n, p in self.adapted.items()}
        total = [torch.zeros_like(w) for w in theta.values()]
        sgd = self.torchopt.sgd(lr=self.inner.lr)
        for support, query in zip(batch.support_EK, batch.query_E, strict=True):
            inputs = padded(support)
            weights, state = theta, sgd.init(theta)
            for _ in range(self.inner.steps):
                grads = self._gradient(weights, inputs, precision)
                updates, state = sgd.update(grads, state, params=weights, inplace=True)
                weights = self.torchopt.apply_updates(weights, updates, inplace=False)
            grads = self._gradient(weights, padded([query]), precision)
            torch._foreach_add_(total, list(grads.values()), alpha=1 / len(batch.query_E))
        return total

    def _gradient(self, weights: dict[str, Tensor], inputs: Padded, precision: str) -> dict[str, Tensor]:
        leaves = {n: w.detach().requires_grad_() for n, w in weights.items()}
        piece_ids_KT, mask_KT, tag_ids_KT = inputs
        with autocast(precision, CPU):
            arguments = {"input_ids": piece_ids_KT, "attention_mask": mask_KT}
            logits_KTC = functional_call(self.model, leaves, kwargs=arguments).logits
        loss = tagging_loss(logits_KTC, tag_ids_KT, self.inner.max_weight)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


class Higher(Implementation):
    """higher's inner loop on a patched model, one episode at a time, without tracking of higher-order gradients."""

    name = "higher"

    def __init__(self, classifier: PreTrainedModel, *, frozen_layers: int, inner: InnerLoop) -> None:
        super().__init__(classifier, frozen_layers=frozen_layers, inner=inner)
        import higher

        self.higher = higher
        self.optimizer = torch.optim.SGD(self.adapted.values(), lr=inner.lr)

    def meta_gradient(self, batch: MetaBatch, precision: str) -> list[Tensor]:  # noqa: D102
        total = [torch.zeros_like(p) for p in self.adapted.values()]
        original = self.model
        for support, query in zip(batch.support_EK, batch.query_E, strict=True):
            inputs = padded(support)
            with self.higher.innerloop_ctx(
                original, self.optimizer, copy_initial_weights=False, track_higher_grads=False
            ) as (patched, optimizer):
                try:
                    self.model = patched
                    for _ in range(self.inner.steps):
                        optimizer.step(self.loss(inputs, precision))
                    weights = [p for p in patched.parameters() if p.requires_grad]
                    grads = torch.autograd.grad(self.loss(padded([query]), precision), weights)
                finally:
                    self.model = original
            torch._foreach_add_(total, grads, alpha=1 / len(batch.query_E))
        return total


def freeze(classifier: nn.Module, frozen_layers: int) -> None:
    """Embeddings and the lowest layers of a BERT tagger take no gradient (paper: 4 layers)."""
    frozen = ("bert.embeddings.", *(f"bert.encoder.layer.{i}." for i in range(frozen_layers)))
    for name, p in classifier.named_parameters():
        p.requires_grad_(not name.startswith(frozen))


def padded(examples: Sequence[Example], length: int = 0) -> Padded:
    """Sentences as rows of one length: `length`, or the longest's."""
    length = length or max(map(len, examples))
    piece_ids_KT = torch.zeros((len(examples), length), dtype=torch.long)
    mask_KT = torch.zeros_like(piece_ids_KT)
    tag_ids_KT = torch.full_like(piece_ids_KT, IGNORED)
    for row, x in enumerate(examples):
        piece_ids_KT[row, : len(x)] = x.piece_ids_T
        mask_KT[row, : len(x)] = 1
        tag_ids_KT[row, : len(x)] = x.tag_ids_T
    return piece_ids_KT, mask_KT, tag_ids_KT


def stacked(rows: Sequence[Padded]) -> Padded:
    """The same for E episodes, (E, K, T) each."""
    piece_ids, mask, tag_ids = zip(*rows, strict=True)
    return torch.stack(piece_ids), torch.stack(mask), torch.stack(tag_ids)


def tagging_loss(logits_KTC: Tensor, tag_ids_KT: Tensor, max_weight: float) -> Tensor:
    """Mean word cross-entropy of one episode's sentences + lambda * mean of each sentence's largest."""
    wide = torch.promote_types(logits_KTC.dtype, torch.float32)
    loss_KT = functional.cross_entropy(
        logits_KTC.to(wide).transpose(1, 2), tag_ids_KT, ignore_index=IGNORED, reduction="none"
    )
    return loss_KT.sum() / (tag_ids_KT != IGNORED).sum() + max_weight * loss_KT.amax(1).mean()


def relative_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """|found - expected| / |expected| over all parameters together."""
    difference = torch.stack([(f.double() - e.double()).norm() for f, e in zip(found, expected, strict=True)]).norm()
    return float(difference / torch.stack([e.double().norm() for e in expected]).norm())
