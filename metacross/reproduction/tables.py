"""The figures of a report, as one JSON value: from counted entities to means, deviations, intervals and signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metacross.reproduction.bootstrap import differences, interval
from metacross.reproduction.cells import Adoption, Evaluation, Training, is_done, seconds_of
from metacross.reproduction.plan import Comparison
from metacross.reproduction.results import Array, Counts, Measured, f1, measured
from metacross.reproduction.suite import CONTROLS

MEAN = "mean"  # the column of the mean over languages
ADOPTED, OTHERS = "mean of adopted", "mean of others"  # over the languages with text, and over those without
OWN_PLAIN = "its own plain tags"  # what a method's gain from the step is measured from
SECONDS = "seconds"  # that training on labelled target sentences took
BINS = 5  # of sentences, by their neighbours' similarity


@dataclass(frozen=True)
class Results:
    """All that was measured in a comparison without labelled target sentences, by method and language."""

    comparison: Comparison

    @cached_property
    def by_method(self) -> dict[str, dict[str, Measured]]:
        """Methods of which every language was measured."""
        suite = self.comparison.suite
        found = {name: self.of(name) for name in suite.compared}
        return {name: part for name, part in found.items() if part.keys() == suite.targets.keys()}

    @cached_property
    def means(self) -> dict[str, list[str]]:
        """The languages of each mean: of all; where some languages alone are adopted, also of these, and of the others.

        Others show whether adoption harms languages that it was not meant for.
        """
        suite = self.comparison.suite
        means = {MEAN: list(suite.targets)}
        others = [language for language in suite.targets if language not in suite.texts]
        if others and suite.adopting:
            means |= {ADOPTED: list(suite.texts), OTHERS: others}
        return means

    @cached_property
    def adapting(self) -> list[str]:
        """The methods that take the step, but for controls and other ways of taking it."""
        return [name for name in self.by_method if self.comparison.suite.methods[name].tagging == "adapted"]

    @cached_property
    def averaged(self) -> list[str]:
        """The methods whose bundle is the average of all seeds'."""
        return [name for name in self.by_method if self.comparison.suite.methods[name].average]

    @cached_property
    def best_controls(self) -> dict[str, str]:
        """For each method that takes the step, the control on the same bundles with the highest mean F1, if any."""
        methods = self.comparison.suite.methods
        controls = {
            name: mean(float(part.counts.f1_S.mean()) for part in by_language.values())
            for name, by_language in self.by_method.items()
            if methods[name].tagging in CONTROLS
        }
        best = {}
        for name in self.adapting:
            fitting = [control for control in controls if self._bundles(control) == self._bundles(name)]
            if fitting:
                best[name] = max(fitting, key=lambda control: controls[control])
        return best

    def _bundles(self, method: str) -> dict[int, str]:
        """The cell of a method's bundle, by seed."""
        plan = self.comparison.plan
        jobs = ((one.seed, plan.cells[one.cell].job) for one in plan.figures if one.method == method)
        return {seed: job.bundle for seed, job in jobs if isinstance(job, Evaluation)}

    def of(self, method: str, **varied: Any) -> dict[str, Measured]:
        """What is there of a method by language; arguments as for `results.measured`."""
        plan, out = self.comparison.plan, self.comparison.out
        found = {one: measured(plan, out, method, one, **varied) for one in self.comparison.suite.targets}
        return {language: part for language, part in found.items() if part is not None}


def figures(results: Results) -> dict[str, Any]:
    """All figures of the report."""
    comparison, suite = results.comparison, results.comparison.suite
    by_method, averaged = results.by_method, results.averaged
    f1, precision, recall = (
        {name: scores(part, measure, results.means, deviation=name not in averaged) for name, part in by_method.items()}
        for measure in ("f1_S", "precision_S", "recall_S")
    )
    return {
        "suite": suite.name,
        "baseline": suite.baseline,
        "main": suite.main,
        "seeds": suite.seeds,
        "languages": list(suite.targets),
        "means": results.means,
        "averaged": averaged,
        "adopted": {name: list(suite.texts) for name in suite.adopting},
        "sentences": {lang: len(part.counts.gold_N) for m in list(by_method.values())[:1] for lang, part in m.items()},
        "paper": suite.paper,
        "f1": f1,
        "precision": precision,
        "recall": recall,
        "plain_f1": {
            name: scores(_plain(by_method[name]), "f1_S", results.means, deviation=name not in averaged)
            for name in results.adapting
        },
        "best_controls": results.best_controls,
        "gains": _gains(results),
        "changed": {name: _changed(part) for name, part in by_method.items() if suite.methods[name].tagging != "plain"},
        "cost": {name: _cost(part, suite.methods[name].tagging) for name, part in by_method.items()},
        "neighbours": _varied(results, "neighbours", suite.neighbours),
        "inner_lr": _varied(results, "inner_lr", suite.inner_lr),
        "similarity": {one: by_similarity(part.distinct) for one, part in by_method.get(suite.main, {}).items()},
        "shots": _shots(results),
        "failed": dict(comparison.failed),
        "cells": {"all": len(comparison.plan.cells), "figures": len(comparison.plan.figures)},
    }


def scores(
    by_language: Mapping[str, Measured], measure: str, means: Mapping[str, Sequence[str]], *, deviation: bool = True
) -> dict[str, Any]:
    """A measure's mean, deviation and values by seed, for every language and for means over languages.

    Args:
        by_language: what was measured of a method.
        measure: `f1_S`, `precision_S` or `recall_S`.
        means: the languages of each mean.
        deviation: False for averaged weights: one bundle has the same value for every seed, and no deviation.
    """
    by_seed = {
        language: dict(zip(part.seeds, getattr(part.counts, measure).tolist(), strict=True))
        for language, part in by_language.items()
    }
    common = _common_seeds(by_language.values())
    over = {name: {seed: mean(by_seed[one][seed] for one in some) for seed in common} for name, some in means.items()}
    columns = {column: spread(values) for column, values in (by_seed | over).items()}
    return columns if deviation else {column: {**values, "sd": None} for column, values in columns.items()}


def spread(by_seed: Mapping[int, float]) -> dict[str, Any]:
    """Mean and standard deviation (0 for a single value) of values by seed, and the values."""
    values = list(by_seed.values())
    return {
        "mean": mean(values) if values else None,
        "sd": stdev(values) if len(values) > 1 else 0.0,
        "by_seed": {str(seed): value for seed, value in by_seed.items()},
    }


def gain(
    one: Mapping[str, Counts],
    other: Mapping[str, Counts],
    seeds: Sequence[int],
    means: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """What one method has over another in F1, by language and in means over some: mean, interval, value of each seed.

    Args:
        one: its counts by language, with these seeds.
        other: the other method's.
        seeds: see above.
        means: the languages of each mean.
    """
    resampled_RL = differences(list(one.values()), [other[language] for language in one])
    points_SL = np.stack([one[language].f1_S - other[language].f1_S for language in one], axis=1)
    number = {language: i for i, language in enumerate(one)}
    out = {}
    for column, some in ({language: [language] for language in one} | dict(means)).items():
        numbers = [number[language] for language in some]
        points_S = points_SL[:, numbers].mean(1)
        out[column] = {
            "mean": float(points_S.mean()),
            "interval": interval(resampled_RL[:, numbers].mean(1)),
            "by_seed": {str(seed): float(point) for seed, point in zip(seeds, points_S, strict=True)},
        }
    return out


def won_and_lost(plain: Counts, counts: Counts) -> tuple[int, int]:
    """Sentences with fewer errors than plainly tagged, and with more, over all seeds."""
    change_SN = counts.errors_SN - plain.errors_SN
    return int((change_SN < 0).sum()), int((change_SN > 0).sum())


def _gains(results: Results) -> list[dict[str, Any]]:
    """The gains of all methods over the baseline, and of those that take the step over the best control and plain."""
    baseline, by_method = results.comparison.suite.baseline, results.by_method
    pairs = [(name, baseline, by_method[baseline]) for name in by_method if name != baseline and baseline in by_method]
    pairs += [(name, control, by_method[control]) for name, control in results.best_controls.items()]
    pairs += [(name, OWN_PLAIN, _plain(by_method[name])) for name in results.adapting]
    rows = []
    for name, over, measured_over in pairs:
        seeds = _common_seeds([*by_method[name].values(), *measured_over.values()])
        if seeds:
            one, other = _with_seeds(by_method[name], seeds), _with_seeds(measured_over, seeds)
            rows.append({"method": name, "over": over, "languages": gain(one, other, seeds, results.means)})
    return rows


def _plain(by_language: Mapping[str, Measured]) -> dict[str, Measured]:
    """The same bundles, tagged plainly."""
    return {language: replace(part, counts=part.plain) for language, part in by_language.items()}


def _changed(by_language: Mapping[str, Measured]) -> dict[str, Any]:
    """The share of sentences that are tagged otherwise than plainly, in percent, and how many are better and worse."""
    out = {}
    for language, every in by_language.items():
        part = every.distinct
        won, lost = won_and_lost(part.plain, part.counts)
        out[language] = {"share": 100 * float(part.changed_SN.mean()), "won": won, "lost": lost}
    return out


def _cost(by_language: Mapping[str, Measured], tagging: str) -> dict[str, float | None]:
    """Single sentences a second, and memory in MiB: means over languages and seeds."""
    costs = [cost for part in by_language.values() for cost in part.costs]
    which = "plain" if tagging == "plain" else "tagged"
    paces = [cost["requests_per_second"][which] for cost in costs if cost["requests_per_second"]]
    return {
        "requests_per_second": mean(paces) if paces else None,
        "memory_mb": mean(cost["memory_mb"] for cost in costs),
    }


def _varied(results: Results, key: str, values: Sequence[float]) -> dict[str, Any]:
    """F1 of the main method for each value of a setting."""
    suite = results.comparison.suite
    found = {value: results.of(suite.main, **{key: value}) for value in values}
    complete = {value: part for value, part in found.items() if part.keys() == suite.targets.keys()}
    return {str(value): scores(part, "f1_S", results.means) for value, part in complete.items()}


def by_similarity(part: Measured) -> list[dict[str, float]]:
    """What adaptation gains in a language, for sentences in equal parts by their neighbours' similarity; all seeds."""
    similarity = part.similarity_SN.ravel()
    gold = np.broadcast_to(part.counts.gold_N, part.similarity_SN.shape).ravel()
    known = np.flatnonzero(~np.isnan(similarity))
    order = known[np.argsort(similarity[known], kind="stable")]
    rows = []
    for chosen in np.array_split(order, BINS):
        if len(chosen):
            plain, tagged = (_f1_of_some(counts, gold, chosen) for counts in (part.plain, part.counts))
            similar = float(similarity[chosen].mean())
            rows.append({"similarity": similar, "plain": plain, "adapted": tagged, "gain": tagged - plain})
    return rows


def _f1_of_some(counts: Counts, gold: Array, chosen: NDArray[np.int64]) -> float:
    """F1 of some sentences, by their numbers when all seeds' sentences are in one row."""
    found, correct = counts.found_SN.ravel()[chosen], counts.correct_SN.ravel()[chosen]
    return float(f1(gold[chosen].sum(), found.sum(), correct.sum()))


def _shots(results: Results) -> dict[str, Any]:
    """F1 of each method with labelled target sentences: by size and language, mean and deviation over draws.

    Beside them stand the seconds that a sample's training took, the mean over languages and draws; None without one.
    """
    suite = results.comparison.suite
    if suite.shots is None:
        return {}
    out: dict[str, Any] = {}
    for name, method in suite.methods.items():
        for size in suite.shots.sizes if method.shots else ():
            draws = [results.of(name, size=size, draw=draw) for draw in range(suite.shots.draws)]
            draws = [found for found in draws if found.keys() == suite.targets.keys()]
            if draws:
                f1_by_draw = [{one: float(part.counts.f1_S.mean()) for one, part in found.items()} for found in draws]
                out.setdefault(name, {})[str(size)] = {
                    **{one: spread(dict(enumerate(row[one] for row in f1_by_draw))) for one in suite.targets},
                    MEAN: spread(dict(enumerate(mean(row.values()) for row in f1_by_draw))),
                    SECONDS: _training_seconds(results, [part for found in draws for part in found.values()]),
                }
    return out


def _training_seconds(results: Results, measured_with_samples: Sequence[Measured]) -> float | None:
    """The mean time of the cells that trained on samples; None where none did, or its cell is gone."""
    plan, out = results.comparison.plan, results.comparison.out
    seconds = []
    for name in (cell for part in measured_with_samples for cell in part.cells):
        measuring = plan.cells[name].job
        bundle = measuring.bundle if isinstance(measuring, Evaluation) else ""
        match plan.cells[bundle].job:
            case Training(sample=sample) | Adoption(sample=sample) if sample and is_done(out, bundle):
                seconds.append(seconds_of(out, bundle))
    return mean(seconds) if seconds else None


def _common_seeds(parts: Any) -> list[int]:
    """The seeds that all of them have, in order."""
    every = [part.seeds for part in parts]
    return [seed for seed in every[0] if all(seed in seeds for seeds in every)] if every else []


def _with_seeds(by_language: Mapping[str, Measured], seeds: Sequence[int]) -> dict[str, Counts]:
    """The counts with these seeds alone, in this order."""
    out = {}
    for language, part in by_language.items():
        out[language] = part.counts.of_seeds([part.seeds.index(seed) for seed in seeds])
    return out
