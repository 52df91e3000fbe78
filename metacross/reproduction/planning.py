"""From a suite to its plan: `make_plan`. No cell is run here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from metacross.config import Config, dotted
from metacross.ray_training.directory import CHANGEABLE
from metacross.reproduction.cells import Adoption, Average, Cell, Evaluation, Sample, Training
from metacross.reproduction.plan import Figure, Plan
from metacross.reproduction.suite import DECIDED, Method, Suite, adoption_config, method_config
from metacross.storage.files import sha256
from metacross.sweeps.space import changed_config
from metacross.wording import counted

# Settings that do not decide what a training cell's result is, or whose files count by their content.
NOT_IN_DIGEST = {*CHANGEABLE, *DECIDED, "train.storage_path", "retrieval.prepared"} - {"train.seed"}
# Settings of adoption that decide what becomes of labelled sentences; all but the first decide it for text, too.
OF_EXAMPLES = ("adopt.example_steps", "adopt.lr", "adopt.source_share")


def make_plan(suite: Suite, base: Config) -> Plan:
    """The plan of a suite. Cells are ordered by seed, so that a complete comparison with one seed comes first.

    Methods that need the bundles of all seeds come after the others.

    Args:
        suite: as `load_suite` returns it.
        base: the configuration that its settings are put over.
    """
    plan = Plan()
    planner = _Planner(suite, base, plan)
    for needs_all_seeds in (False, True):
        for seed in suite.seeds:
            for name in suite.compared:
                if _needs_all_seeds(suite.methods[name]) == needs_all_seeds:
                    for language in suite.targets:
                        planner.measure(name, seed, language)
    for seed in suite.seeds:
        for language in suite.targets:
            for k in suite.neighbours:
                planner.measure(suite.main, seed, language, neighbours=k)
            for lr in suite.inner_lr:
                planner.measure(suite.main, seed, language, inner_lr=lr)
    for name, method in suite.methods.items():
        for language, sample, seed in _samples(suite, method):
            planner.measure(name, seed, language, sample=sample)
    return plan


def _samples(suite: Suite, method: Method) -> Iterator[tuple[str, Sample, int]]:
    """A method's samples of labelled target sentences, each with its language and the seed that it is used with."""
    if method.shots is None or suite.shots is None:
        return
    for size in suite.shots.sizes:
        if method.shots == "half" and size == 1:
            continue
        for draw in range(suite.shots.draws):
            for language, files in suite.targets.items():
                sample = Sample(language, str(files.shots), size, draw, "all")
                yield language, sample, suite.seeds[draw % len(suite.seeds)]


def _needs_all_seeds(method: Method) -> bool:
    """Whether bundles of all seeds are averaged, or label the text that the method adopts."""
    return method.average or (method.adoption is not None and method.adoption.teachers == "seeds")


class _Uses(NamedTuple):
    """What becomes of a sample.

    Attributes:
        trained: it is trained on with the source, from the start.
        adopted: a trained bundle adopts it.
        indexed: it may be support.
    """

    trained: Sample | None = None
    adopted: Sample | None = None
    indexed: Sample | None = None


class _Planner:
    """Adds cells and figures to a plan.

    Args:
        suite: the suite.
        base: the configuration that its settings are put over.
        plan: is filled.
    """

    def __init__(self, suite: Suite, base: Config, plan: Plan) -> None:
        self._suite, self._plan = suite, plan
        self._configs = {name: method_config(suite, name, base) for name in suite.methods}
        self._adopted_with = {name: _adopt_settings(adoption_config(suite, name, base)) for name in suite.methods}
        self._seeded: dict[tuple[str, int], Config] = {}
        self._digests = {file: _digest(file) for file in [*suite.source_files, suite.source.dev]}

    def measure(
        self,
        name: str,
        seed: int,
        language: str,
        *,
        neighbours: int | None = None,
        inner_lr: float | None = None,
        sample: Sample | None = None,
    ) -> None:
        """Adds a figure, with the cell that has it and all that this cell needs."""
        method, config = self._suite.methods[name], self._configs[name]
        uses = _uses(method, sample)
        bundle = self._bundle(name, seed, uses)
        test = self._suite.targets[language].test
        way = "adapted" if method.tagging == "plain" else method.tagging
        job = Evaluation(
            bundle=bundle,
            language=language,
            test=test,
            sentences=self._suite.sentences,
            way=way,
            neighbours=neighbours or method.neighbours or config.episodes.support_size,
            inner_lr=next(lr for lr in (inner_lr, method.inner_lr, config.inner.lr) if lr is not None),
            word_neighbours=method.word_neighbours,
            o_bias=method.o_bias or 0.0,
            # The seed counts in the bundle already, except where the tagging draws.
            seed=seed if way in ("random_support", "shuffled_labels") else 0,
            sample=uses.indexed,
        )
        varied = "".join([f", K {neighbours}" * bool(neighbours), f", inner_lr {inner_lr}" * bool(inner_lr)])
        whose = f"seed {seed}" if job.seed else _whose(method, seed)
        label = f"measure {name}, {whose}, {language}{varied}{_sample_label(sample)}"
        self._plan.figures.append(
            Figure(
                method=name,
                seed=seed,
                language=language,
                neighbours=neighbours,
                inner_lr=inner_lr,
                size=sample.size if sample else 0,
                draw=sample.draw if sample else 0,
                plain=method.tagging == "plain",
                cell=self._plan.add(Cell(label, job, _evaluation_inputs(job))),
            )
        )

    def _bundle(self, name: str, seed: int, uses: _Uses) -> str:
        """The name of the cell that has a method's bundle."""
        method = self._suite.methods[name]
        bundle = self._average(name) if method.average else self._train(name, seed, uses.trained)
        if method.adoption is None and uses.adopted is None:
            return bundle
        return self._adopt(name, seed, bundle, uses.adopted)

    def _average(self, name: str) -> str:
        """The cell that has the average of the bundles of all seeds; of a single seed, that of its training."""
        bundles = tuple(self._train(name, seed, None) for seed in self._suite.seeds)
        if len(bundles) == 1:
            return bundles[0]
        return self._plan.add(Cell(f"average {name}, all seeds", Average(bundles), {"bundles": list(bundles)}))

    def _adopt(self, name: str, seed: int, bundle: str, sample: Sample | None) -> str:
        """The cell in which a bundle adopts the method's texts, or a sample, or both."""
        method = self._suite.methods[name]
        texts = self._suite.texts if method.adoption else {}
        settings = {
            key: value
            for key, value in self._adopted_with[name].items()
            if (sample and key in OF_EXAMPLES) or (texts and key != OF_EXAMPLES[0])
        }
        teachers = self._teachers(name, bundle, sample)
        job = Adoption(
            bundle, teachers, texts, bool(method.adoption and method.adoption.distillation), settings, sample
        )
        inputs = {
            "bundle": bundle,
            "teachers": list(teachers),
            "texts": {language: _digest(file) for language, file in texts.items()},
            "distillation": job.distillation,
            "settings": settings,
        }
        if sample:
            inputs["sample"] = _sample_inputs(sample)
        return self._plan.add(Cell(f"adopt {name}, {_whose(method, seed)}{_sample_label(sample)}", job, inputs))

    def _teachers(self, name: str, bundle: str, sample: Sample | None) -> tuple[str, ...]:
        """The cells whose bundles label the method's texts; none: the bundle itself, once it is trained on a sample."""
        adoption = self._suite.methods[name].adoption
        if adoption is not None and adoption.teachers == "seeds":
            return tuple(self._train(name, seed, None) for seed in self._suite.seeds)
        return () if sample else (bundle,)

    def _train(self, name: str, seed: int, sample: Sample | None) -> str:
        method = self._suite.methods[name]
        start = self._train(method.start, seed, None) if method.start else ""
        config = self._trained_with(name, seed)
        share = self._suite.shots.share if sample and self._suite.shots else 0.0
        inputs = {
            "settings": {
                key: value
                for key, value in dotted(config).items()
                if key not in NOT_IN_DIGEST and not key.startswith(("adopt.", "serve."))
            },
            "source": [self._digests[file] for file in self._suite.source_files],
            "dev": self._digests[self._suite.source.dev],
            "language": self._suite.source.language,
            "start": start,
            "sample": _sample_inputs(sample),
            "share": share,
        }
        label = f"train {name}, seed {seed}{_sample_label(sample)}"
        return self._plan.add(Cell(label, Training(config, sample, share, start), inputs))

    def _trained_with(self, name: str, seed: int) -> Config:
        """The configuration that a method trains with, with this seed."""
        if (name, seed) not in self._seeded:
            files = {
                "data.source": self._suite.source_files,
                "data.source_dev": self._suite.source.dev,
                "data.source_language": self._suite.source.language,
                "train.seed": seed,
            }
            self._seeded[name, seed] = changed_config(
                self._configs[name], files, place=self._suite.name, source="suite"
            )
        return self._seeded[name, seed]


def _uses(method: Method, sample: Sample | None) -> _Uses:
    if sample is None:
        return _Uses()
    match method.shots:
        case "joint":
            return _Uses(trained=sample)
        case "adopted":
            return _Uses(adopted=sample)
        case "half":
            return _Uses(trained=replace(sample, part="first"), indexed=replace(sample, part="second"))
        case _:
            return _Uses(indexed=sample)


def _adopt_settings(config: Config) -> dict[str, Any]:
    """The section `adopt` of a configuration, by dotted name."""
    return {key: value for key, value in dotted(config).items() if key.startswith("adopt.")}


def _whose(method: Method, seed: int) -> str:
    """The seed of a method's bundle, for labels."""
    return "all seeds" if method.average else f"seed {seed}"


def _evaluation_inputs(job: Evaluation) -> dict[str, Any]:
    """All that decides the result of an evaluation."""
    inputs = {
        "bundle": job.bundle,
        "language": job.language,
        "test": _digest(job.test),
        "sentences": job.sentences,
        "way": job.way,
        "neighbours": job.neighbours,
        "inner_lr": job.inner_lr,
        "o_bias": job.o_bias,
        "seed": job.seed,
        "sample": _sample_inputs(job.sample),
    }
    # A cell of before this was a setting has the same result as one that leaves it to the configuration.
    return inputs if job.word_neighbours is None else {**inputs, "word_neighbours": job.word_neighbours}


def _sample_inputs(sample: Sample | None) -> dict[str, Any]:
    if sample is None:
        return {}
    # Earlier versions drew among the sentences with an entity alone.
    chosen = {"size": sample.size, "draw": sample.draw, "part": sample.part, "from": "all sentences"}
    return {"file": _digest(sample.file), **chosen}


def _sample_label(sample: Sample | None) -> str:
    if sample is None:
        return ""
    part = "" if sample.part == "all" else f" ({sample.part} half)"
    return f", {counted(sample.size, 'sentences')} of {sample.language}{part}, draw {sample.draw + 1}"


@cache
def _sha256(file: str, changed: float) -> str:
    return sha256(Path(file))


def _digest(file: str) -> str:
    """A file's digest; one that has not changed since it was read is not read again."""
    return _sha256(file, Path(file).stat().st_mtime)[:16]
