"""Meta-Cross: the algorithm of Wu et al. (AAAI 2020), on tensors. No Ray, no configuration, no files.

Shapes: E episodes, one row each; T word pieces of a row, several sentences side by side; C tags.

A sentence to be tagged is the query of an episode; its K nearest labelled source sentences are the support set.
`adapt` takes gradient steps from theta on the support set and returns fast weights theta'; `tag` uses them on the
query. Training minimises `query_losses`, which moves theta to where those steps help most.

Where this departs from the paper or from its released code (microsoft/vert-papers, Meta-Cross):
 1. The inner step is a true gradient step, or one of fixed length along the gradient (`normalized`). The released code
    calls a fresh BertAdam, whose first step is about 3.16 * lr * sign(gradient).
 2. theta is never written to: theta' lives in low-rank factors (fast_weights.py), for all episodes at once.
 3. The meta-gradient is the mean over the episodes of a meta-batch, where the released code has the sum.
 4. A word's first piece carries its tag; other pieces and special pieces are not in this loss. The released code
    trains on labels of their own for them. `later_weight` adds a term for a word's later pieces to the query loss of
    training, and to nothing else: metacross never reads their tags, but the pipeline of Hugging Face does.
 5. Masking hides all pieces of a word (training/episodes.py), not only its first piece.
 6. No dropout, in adaptation or training: the same request gets the same answer, and the result of training does not
    depend on how a meta-batch is spread over workers.
 7. Second-order MAML is implemented too (`second_order`); the paper uses the first-order gradient only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from metacross.encoder.model import Rows, TagModel, exact_backward
from metacross.encoder.packed import PackedLayers, PackedStep, take_packed_step
from metacross.encoder.windows import IGNORED
from metacross.fast_weights import FastWeights, take_step

THETA = FastWeights()


@dataclass(frozen=True)
class InnerLoop:
    """How an episode's fast weights are computed from theta.

    Attributes:
        steps: number of gradient steps.
        lr: alpha; with `normalized` the length of a step.
        normalized: whether a step has a fixed length in the direction of the gradient.
        max_weight: lambda on the support set.
        second_order: whether the meta-gradient differentiates through the steps.
    """

    steps: int
    lr: float
    normalized: bool
    max_weight: float
    second_order: bool = False


def episode_losses(logits_ETC: Tensor, rows: Rows, *, max_weight: float) -> Tensor:
    """Each episode's loss (E,): mean word cross-entropy + lambda * mean over sentences of the largest word loss.

    Paper, section "Enhanced meta-learning": L = L_mean + lambda * L_max. Losses are taken in at least fp32.
    """
    wide = torch.promote_types(logits_ETC.dtype, torch.float32)
    loss_ET = functional.cross_entropy(
        logits_ETC.to(wide).transpose(1, 2), rows.tag_ids_BT, ignore_index=IGNORED, reduction="none"
    )
    tagged_ET = rows.tag_ids_BT != IGNORED
    mean_E = loss_ET.sum(1) / tagged_ET.sum(1).clamp_min(1)
    if max_weight == 0:
        return mean_E
    largest_ES = torch.stack(
        [loss_ET.masked_fill(rows.segments_BT != s, 0).amax(1) for s in range(1, rows.sentences + 1)], dim=1
    )
    present_E = rows.segments_BT.amax(1).clamp_min(1)  # sentences are numbered 1, 2, ... in a row
    return mean_E + max_weight * largest_ES.sum(1) / present_E


def adapt(model: TagModel, support: Rows, inner: InnerLoop) -> FastWeights:
    """Theta' of every episode: `inner.steps` gradient steps from theta on its support set. theta stays as it is."""
    fast_weights = THETA
    for _ in range(inner.steps):
        with (
            torch.enable_grad(),
            exact_backward(inner.second_order),
            model.fast_layers.running(fast_weights, record=True) as recording,
        ):
            loss = episode_losses(model.logits(support), support, max_weight=inner.max_weight).sum()
        with exact_backward(inner.second_order):
            fast_weights = take_step(
                model.fast_layers,
                fast_weights,
                recording,
                loss,
                inner_lr=inner.lr,
                normalized=inner.normalized,
                second_order=inner.second_order,
            )
    return fast_weights


def query_losses(
    model: TagModel,
    support: Rows | None,
    query: Rows,
    inner: InnerLoop,
    *,
    max_weight: float,
    later_tag_ids_ET: Tensor | None = None,
    later_weight: float = 0.0,
) -> Tensor:
    """Each episode's query loss (E,) at its theta'; its backward leaves the meta-gradient in theta's `.grad`.

    First order: theta' is a constant shift of theta, so the gradient at theta' is the meta-gradient (FOMAML).
    Second order: the factors are still attached, so the same backward goes on through the inner steps.

    Args:
        model: theta.
        support: the support sets; without them the loss is that of theta.
        query: the queries.
        inner: how theta' is computed.
        max_weight: lambda.
        later_tag_ids_ET: tag ids of the pieces after a word's first one, see `PieceEncoder.later_tag_ids`.
        later_weight: weight of these pieces' own loss, of the same form, which is added to the paper's.
    """
    packed = None if inner.second_order else model.packed()
    if packed is not None:
        logits_ETC = _packed_logits(packed, support, query, inner)
    else:
        fast_weights = THETA if support is None else adapt(model, support, inner)
        with exact_backward(inner.second_order), model.fast_layers.running(fast_weights):
            logits_ETC = model.logits(query)
    losses_E = episode_losses(logits_ETC, query, max_weight=max_weight)
    if later_tag_ids_ET is None:
        return losses_E
    later = replace(query, tag_ids_BT=later_tag_ids_ET)
    return losses_E + later_weight * episode_losses(logits_ETC, later, max_weight=max_weight)


def _packed_logits(layers: PackedLayers, support: Rows | None, query: Rows, inner: InnerLoop) -> Tensor:
    """Tag scores (E, T, C) of the queries at theta', as `adapt` and `TagModel.logits` give them, without padding."""
    steps: list[PackedStep] = []
    with torch.autocast("cpu", enabled=False):
        for _ in range(inner.steps if support is not None else 0):
            assert support is not None
            with torch.enable_grad():
                logits_ETC, recording = layers.recorded_logits(support.hidden_BTH, support.segments_BT, steps)
                loss = episode_losses(logits_ETC, support, max_weight=inner.max_weight).sum()
            steps = take_packed_step(steps, recording, loss, inner_lr=inner.lr, normalized=inner.normalized)
        return layers.logits(query.hidden_BTH, query.segments_BT, steps)


@torch.no_grad()
def tag(model: TagModel, query: Rows, fast_weights: FastWeights = THETA) -> Tensor:
    """Tag probabilities (E, T, C) of the queries, each under its own fast weights."""
    return tag_with_states(model, [query], [fast_weights])[0][0]


@torch.no_grad()
def tag_with_states(
    model: TagModel, groups: Sequence[Rows], fast_weights: Sequence[FastWeights]
) -> list[tuple[Tensor, list[Tensor]]]:
    """Of several groups of queries tag probabilities (E, T, C), and the states (E, T, H) of each layer behind them.

    Args:
        model: theta.
        groups: the queries; those of a group are padded to the same length.
        fast_weights: of each group's queries; THETA: none.
    """
    out = []
    for states, weights in zip(model.states_of(groups, fast_weights), fast_weights, strict=True):
        with model.fast_layers.running(weights):
            out.append((model.head(states[-1]).float().softmax(2), states))
    return out
