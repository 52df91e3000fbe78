"""Entity precision, recall and F1 by seqeval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def scores(gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Precision, recall and F1 of entities, in percent, micro and per type.

    Args:
        gold: IOB2 tags of each sentence.
        found: as many IOB2 tags.
    """
    from seqeval.metrics import classification_report  # brings all of scikit-learn, a second that tagging can save

    if not any(tag != "O" for tags in (*gold, *found) for tag in tags):
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0, "per_type": {}}
    report = classification_report([list(t) for t in gold], [list(t) for t in found], output_dict=True, zero_division=0)

    def percent(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "precision": 100 * float(row["precision"]),
            "recall": 100 * float(row["recall"]),
            "f1": 100 * float(row["f1-score"]),
        }

    averages = {"micro avg", "macro avg", "weighted avg"}
    per_type = {
        kind: {**percent(row), "entities": int(row["support"])} for kind, row in report.items() if kind not in averages
    }
    return {**percent(report["micro avg"]), "per_type": per_type}
