"""Training without Ray: the base is plain fine-tuning, resuming is exact, and a refactor must not move the loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from metacross.errors import RunError, UserError
from metacross.training import checkpoint
from metacross.training.learner import Learner
from metacross.training.loop import run
from metacross.training.team import Team
from tests.helpers.tiny_bundle import tiny_config, write_corpus, write_inputs

GOLDEN = Path(__file__).parents[1] / "files" / "golden" / "ten_steps.json"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("learner"))


def learner(place: Path, *overrides: str) -> Learner:
    return Learner.from_config(tiny_config(place, "train.steps=10", "train.plain_steps=0", *overrides), device=CPU)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("metacross", ()),
        ("two sgd steps", ("inner.step=sgd", "inner.lr=0.05", "inner.steps=2")),
        ("second order", ("inner.second_order=true",)),
        ("base", ("train.method=base",)),
        ("plain steps first", ("train.plain_steps=5",)),
    ],
)
def test_ten_steps_go_as_they_always_went(place: Path, name: str, overrides: tuple[str, ...]) -> None:
    """Losses of ten seeded meta-steps. To accept a change on purpose, delete the name from the file and run once."""
    one = learner(place, *overrides)
    losses = [one.step().loss for _ in range(10)]
    golden = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    if name not in golden:
        GOLDEN.write_text(json.dumps({**golden, name: losses}, indent=1) + "\n", encoding="utf-8")
        pytest.fail(f"wrote the losses of {name!r} to {GOLDEN}; look at them and run again")
    assert losses == pytest.approx(golden[name], rel=2e-3)
    assert losses[-1] < losses[0]


def test_base_is_plain_fine_tuning(place: Path) -> None:
    """The gradient of method base is that of the mean cross-entropy over all words of the batch."""
    one = learner(place, "train.method=base", "train.clip_norm=1e9", "train.warmup=0")
    batch = one.episodes.meta_batch(0)
    model = one.model
    losses = []
    for episode in batch:
        window = one.source.windows[episode.query]
        piece_ids = torch.tensor([window.piece_ids])
        logits = model.classifier(input_ids=piece_ids, attention_mask=torch.ones_like(piece_ids)).logits[0]
        tags = one.source.tag_ids(episode.query)
        losses.append(functional.cross_entropy(logits[tags >= 0], tags[tags >= 0], reduction="none"))
    expected_loss = torch.cat(losses).mean()
    expected = torch.autograd.grad(expected_loss, model.theta())
    assert one.step().loss == pytest.approx(float(expected_loss.detach()), rel=1e-5)
    for p, grad in zip(model.theta(), expected, strict=True):
        assert p.grad is not None
        assert torch.allclose(p.grad, grad, rtol=1e-3, atol=1e-6)


def test_later_pieces_add_a_term_of_their_own_to_the_query_loss(place: Path, tmp_path: Path) -> None:
    """With weight 2 the loss of a step is the paper's plus twice the mean over later pieces, by theta of that step."""
    corpus = tmp_path / "train.conll"
    text = (place / "train.conll").read_text(encoding="utf-8")
    corpus.write_text(text.replace("Anna", "ANNA").replace("Berlin", "BERLIN"), encoding="utf-8")  # cut into letters
    settings = (f"data.source={corpus}", "train.method=base", "loss.max_weight=0")
    without, one = learner(place, *settings), learner(place, *settings, "loss.later_weight=2")
    batch = one.episodes.meta_batch(0)
    windows = [one.source.windows[e.query] for e in batch]
    words = [len(w.scored_pieces()) for w in windows]
    expected = without.step().loss
    for window, weight in zip(windows, words, strict=True):
        sentence = one.source.sentences[window.sentence]
        inside = [
            (piece, "O" if tag == "O" else "I-" + tag[2:])
            for tag, first, end in zip(
                sentence.tags or (), window.first_pieces, [*window.first_pieces[1:], len(window) - 1], strict=True
            )
            for piece in range(first + 1, end)
        ]
        if not inside:
            continue
        piece_ids = torch.tensor([window.piece_ids])
        logits = one.model.classifier(input_ids=piece_ids, attention_mask=torch.ones_like(piece_ids)).logits[0]
        at, tags = zip(*inside, strict=True)
        loss = functional.cross_entropy(logits[list(at)], torch.tensor([one.source.tag_index[tag] for tag in tags]))
        expected += 2 * float(loss) * weight / sum(words)
    assert one.step().loss == pytest.approx(expected, rel=1e-5)


def test_sentences_without_entities_are_queries_but_need_not_be_support(place: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "train.conll"
    text = (place / "train.conll").read_text(encoding="utf-8")
    corpus.write_text(text + "\n".join(f"{word} O" for word in ["Nothing", "happened", "last", "week", "."]) + "\n" * 2)
    found = {}
    for which in ("all", "with_entities"):
        one = learner(place, f"data.source={corpus}", f"retrieval.candidates={which}", "episodes.support_size=12")
        episodes = [episode for step in range(16) for episode in one.episodes.meta_batch(step)]
        assert {episode.query for episode in episodes} == set(range(25))
        found[which] = {i for episode in episodes for i in episode.support}
    assert 24 in found["all"]
    assert 24 not in found["with_entities"]
    assert found["with_entities"] <= set(range(24))


@pytest.mark.parametrize("overrides", [(), ("train.batch_pieces=64",), ("train.trunk_cache_mb=0",)])
def test_memory_settings_do_not_change_the_result(place: Path, overrides: tuple[str, ...]) -> None:
    expected, other = learner(place), learner(place, *overrides)
    for _ in range(3):
        assert other.step().loss == pytest.approx(expected.step().loss, rel=1e-4)


def test_a_step_counts_the_pieces_it_ran_on(place: Path) -> None:
    one = learner(place, "train.plain_steps=1")
    for with_support in (False, True):
        batch = one.episodes.meta_batch(one.progress.step)
        windows = [e.query for e in batch] + [i for e in batch for i in e.support if with_support]
        assert one.step().pieces == sum(len(one.source.windows[i]) for i in windows)


def test_a_resumed_run_ends_with_the_same_bits(place: Path, tmp_path: Path) -> None:
    settings = ("train.eval_every=4", "train.checkpoint_every=3")
    whole = run(learner(place, *settings), tmp_path / "whole")
    stops = iter([False] * 5 + [True])
    first = run(learner(place, *settings), tmp_path / "cut", should_stop=lambda: next(stops))
    assert first.stopped
    assert 0 < first.progress.step < 10
    second = run(learner(place, *settings), tmp_path / "cut")
    assert second.progress.history == whole.progress.history
    one, other = (load_file(checkpoint.paths(tmp_path / name)[-1] / "state.safetensors") for name in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_there_was(place: Path, tmp_path: Path) -> None:
    one = learner(place, "train.checkpoint_every=2", "train.eval_every=2")
    steps = iter(range(100))

    def spoil() -> bool:
        if next(steps) == 3:
            with torch.no_grad():
                one.model.theta()[0].fill_(float("nan"))
        return False

    with pytest.raises(RunError, match=r"step 4: the loss or its gradient is not finite.*train\.conll:\d+"):
        run(one, tmp_path, should_stop=spoil)
    (kept,) = checkpoint.paths(tmp_path)
    assert all(torch.isfinite(t).all() for t in load_file(kept / "state.safetensors").values())


def test_each_worker_does_its_share(place: Path) -> None:
    """Two workers' gradients, summed, are the gradient of one worker."""
    alone = learner(place)
    alone.step()
    parts: list[torch.Tensor] = []
    for rank in (0, 1):
        one = Learner.from_config(
            tiny_config(place, "train.steps=10", "train.plain_steps=0"),
            device=CPU,
            team=Team(rank, 2, all_reduce=lambda f: parts.append(f.clone())),
        )
        one.step()
    expected = torch.cat([p.grad.flatten() for p in alone.model.theta() if p.grad is not None])
    total = (parts[0] + parts[1])[:-2]
    total *= min(1.0, alone.config.train.clip_norm / float(total.norm()))
    assert float((total - expected).norm() / expected.norm()) < 1e-5


def test_target_languages_choose_where_there_are_development_sets(place: Path, tmp_path: Path) -> None:
    few = write_corpus(tmp_path / "few.conll", first=3, sentences=5)
    overrides = ("train.steps=3", "train.eval_every=1", "train.lr=1e-2")
    both = learner(place, f"data.target_dev={{es: {place / 'dev.conll'}, de: {few}}}", *overrides)
    found = run(both, tmp_path / "both")
    # The same run, measured on the one file and on the other.
    histories = [found.progress.history]
    for name in ("dev.conll", "few.conll"):
        file = few if name == "few.conll" else place / name
        histories.append(
            run(learner(place, f"data.source_dev={file}", *overrides), tmp_path / f"run-{name}").progress.history
        )
    for measured, first, second in zip(*histories, strict=True):
        for how in ("plain", "adapted"):
            f1 = getattr(first, how)
            assert getattr(measured, how) == pytest.approx(f1)
            assert getattr(measured, f"target_{how}") == pytest.approx((f1 + getattr(second, how)) / 2)
    scores = [measured.target_adapted for measured in found.progress.history]
    assert len(set(scores)) > 1
    assert found.progress.best == max(score for score in scores if score is not None)
    metrics = json.loads((tmp_path / "both" / "bundle" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["dev_f1"] == found.progress.best


def test_more_neighbours_than_sentences(place: Path) -> None:
    with pytest.raises(UserError, match=r"episodes\.support_size|support_size=500"):
        learner(place, "episodes.support_size=500")
