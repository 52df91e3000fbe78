"""The filter: which words' labels are too uncertain to learn from. Arrays in, arrays out.

After CoLaDa (Ma et al., ACL 2023): a label is trusted as far as similar words have the same type, judged within its
class, since one bound for all would remove the rarer and harder classes first.

Shapes: W words, K neighbours. Types are numbers; 0 is O.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

O_TYPE = 0
SLOPE = 6.0  # of the sigmoid, as in CoLaDa

Types = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def neighbour_shares(types_W: Types, neighbour_types_WK: Types) -> Floats:
    """The share (W,) of each word's neighbours that have its type; 1 for words without neighbours to disagree."""
    if not neighbour_types_WK.shape[1]:
        return np.ones(len(types_W))
    return np.asarray((neighbour_types_WK == types_W[:, None]).mean(1), dtype=np.float64)


def agreement(shares_W: Floats, types_W: Types) -> Floats:
    """How far neighbours agree with each word's type (W,), 0 to 1, judged within its class.

    Shares are divided by the greatest of the class, then go through a sigmoid that is 0.5 at the class's mean.
    """
    weights_W = np.empty(len(types_W))
    for kind in np.unique(types_W):
        of_kind = types_W == kind
        scaled = shares_W[of_kind] / max(shares_W[of_kind].max(), np.finfo(np.float64).tiny)
        weights_W[of_kind] = 1 / (1 + np.exp(-SLOPE * (scaled - scaled.mean())))
    return weights_W


def uncertain_words(
    *,
    types_W: Types,
    spans_W: Types,
    confidence_W: Floats,
    shares_W: Floats,
    capitals_W: Flags,
    quantile: float,
) -> Flags:
    """Which words' labels are too uncertain to learn from (W,).

    A word is trusted by its probability times the agreement of its neighbours, an entity by the mean of its words: it
    counts as a whole or not at all. Of every class the least trusted are uncertain. An O word with a capital letter
    is too, as it may be an entity that was missed.

    Args:
        types_W: each word's type.
        spans_W: the number of each word's entity, ascending; -1 for O.
        confidence_W: the probability of each word's tag.
        shares_W: the share of its neighbours that have its type, see `neighbour_shares`.
        capitals_W: whether it begins with a capital letter.
        quantile: share of each class, of entities or of O words, that is uncertain; ties are not.
    """
    trust_W = _of_entities(confidence_W * agreement(shares_W, types_W), spans_W)
    counted_W = (spans_W < 0) | (np.diff(spans_W, prepend=-1) != 0)  # an entity counts once in its class
    uncertain_W = capitals_W & (types_W == O_TYPE)
    for kind in np.unique(types_W):
        of_kind = types_W == kind
        bound = np.quantile(trust_W[of_kind & counted_W], quantile, method="lower")
        uncertain_W |= of_kind & (trust_W < bound)
    return np.asarray(uncertain_W)


def unconfident_words(*, spans_W: Types, confidence_W: Floats, capitals_W: Flags, bound: float) -> Flags:
    """Which words' labels are too uncertain to learn from (W,), each sentence judged by itself.

    A word is trusted by its probability alone, an entity by the mean of its words. Below a bound that is the same for
    all they are uncertain. So are O words with a capital letter, as in `uncertain_words`.

    Args:
        spans_W: the number of each word's entity, ascending; -1 for O.
        confidence_W: the probability of each word's tag.
        capitals_W: whether it begins with a capital letter.
        bound: the least probability that is trusted.
    """
    return np.asarray((_of_entities(confidence_W, spans_W) < bound) | (capitals_W & (spans_W < 0)))


def _of_entities(trust_W: Floats, spans_W: Types) -> Floats:
    """Trust (W,) in which every word of an entity has the mean of the entity's words."""
    inside_W = spans_W >= 0
    spans = spans_W[inside_W]
    means_W = trust_W.copy()
    means_W[inside_W] = (np.bincount(spans, trust_W[inside_W]) / np.maximum(np.bincount(spans), 1))[spans]
    return means_W
