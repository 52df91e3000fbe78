"""What is timed side by side must compute the same thing, and the figures beside it must be counted rightly."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from benchmarks.baselines import (
    CopiedWeights,
    FuncVmap,
    Higher,
    Implementation,
    KeptTrunk,
    Metacross,
    TorchOpt,
    relative_difference,
)
from benchmarks.comparison import compare
from benchmarks.flops import Sizes, counted, exact_flops
from benchmarks.http_client import HEALTH, HOST, Seen, entities_request, percentile, send
from benchmarks.http_report import CLIENTS, PARTS, WAYS, Block, Found, draw, latency_table, stage_table
from benchmarks.http_service import INSIDE, OUTSIDE, stages_ms
from benchmarks.inputs import RANDOM_TAGS, MetaBatch, corpus_batches, make_classifier, random_batches, random_example
from benchmarks.meta_step import main
from benchmarks.released_loop import BertAdam, ReleasedLoop
from benchmarks.scaling_model import (
    WORKERS,
    Gpu,
    Link,
    Task,
    all_reduce_seconds,
    fastest,
    imbalance,
    step_seconds,
    worthwhile,
)
from benchmarks.scaling_report import Step, rates, waiting
from benchmarks.serving import Copied, batches_of, untouched
from benchmarks.serving_http import main as serving_http
from metacross.algorithm import InnerLoop
from metacross.corpora.sentence import sentence_from_text
from metacross.encoder.windows import Window
from metacross.errors import UserError
from metacross.training.episodes import Episode

INNER = InnerLoop(steps=2, lr=0.1, normalized=False, max_weight=2.0)
LENGTHS = [((7, 12), 9), ((5, 5), 14), ((16, 3), 6)]  # of support sentences and query


def ragged_batch() -> MetaBatch:
    generator = torch.Generator().manual_seed(3)
    lengths = [length for support, query in LENGTHS for length in (*support, query)]
    drawn = iter([random_example(n, vocabulary=500, tags=len(RANDOM_TAGS), generator=generator) for n in lengths])
    triples = [(next(drawn), next(drawn), next(drawn)) for _ in LENGTHS]
    return MetaBatch(tuple(t[:2] for t in triples), tuple(t[2] for t in triples))


def build(
    kind: type[Implementation], *, dtype: torch.dtype = torch.float64, inner: InnerLoop = INNER
) -> Implementation:
    classifier, frozen_layers = make_classifier("tiny", RANDOM_TAGS, seed=0)
    return kind(classifier.to(dtype), frozen_layers=frozen_layers, inner=inner)


def gradient(
    kind: type[Implementation], *, dtype: torch.dtype = torch.float64, inner: InnerLoop = INNER
) -> list[Tensor]:
    implementation = build(kind, dtype=dtype, inner=inner)
    batch = ragged_batch()
    if isinstance(implementation, KeptTrunk):
        implementation.keep(batch, "fp32")
    return [g.clone() for g in implementation.meta_gradient(batch, "fp32")]


@pytest.mark.parametrize("kind", [KeptTrunk, CopiedWeights, FuncVmap, TorchOpt, Higher])
def test_same_meta_gradient_as_ours(kind: type[Implementation]) -> None:
    if kind in (TorchOpt, Higher):
        pytest.importorskip(kind.name)
    ours = gradient(Metacross)
    assert relative_difference(gradient(kind), ours) < 1e-9
    assert relative_difference(gradient(kind, inner=InnerLoop(0, 0.1, False, 2.0)), ours) > 0.1  # the steps matter


def test_single_and_half_precision() -> None:
    ours = gradient(Metacross)
    batch = ragged_batch()
    for kind in (Metacross, CopiedWeights, FuncVmap):
        implementation = build(kind, dtype=torch.float32)
        assert relative_difference(implementation.meta_gradient(batch, "fp32"), ours) < 1e-5
        half = relative_difference(implementation.meta_gradient(batch, "bf16"), ours)
        assert 1e-4 < half < 5e-2


@pytest.mark.parametrize("kind", [CopiedWeights, FuncVmap, ReleasedLoop, Metacross])
def test_theta_is_as_before(kind: type[Implementation]) -> None:
    implementation = build(kind)
    before = {n: p.detach().clone() for n, p in implementation.model.named_parameters()}
    implementation.meta_gradient(ragged_batch(), "fp32")
    for name, p in implementation.model.named_parameters():
        assert torch.equal(p, before[name]), name


def test_released_loop_without_steps_and_dropout_is_the_sum() -> None:
    still = InnerLoop(0, 0.1, False, 2.0)
    released = build(ReleasedLoop, inner=still)
    for module in released.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    released.model.config.attention_probs_dropout_prob = 0.0
    for layer in released.model.bert.encoder.layer:
        layer.attention.self.dropout.p = 0.0
    summed = released.meta_gradient(ragged_batch(), "fp32")
    assert relative_difference([g / len(LENGTHS) for g in summed], gradient(Metacross, inner=still)) < 1e-9


def test_first_step_of_bert_adam_has_a_fixed_size() -> None:
    p = nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
    p.grad = torch.tensor([3.0, -2.0, 50.0])
    BertAdam([p], lr=0.01, weight_decay=0.0).step()
    assert torch.allclose(p.detach() - 1, -0.01 * 0.1 / 0.001**0.5 * p.grad.sign(), rtol=0.01)
    assert p.grad.norm() <= 1.0001  # clipped tensor by tensor


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_floor_is_what_ours_does(steps: int) -> None:
    """Without padding, and one support sentence an episode, ours does exactly the floor's work.

    All but for the attention scores, which the fused backward computes a second time.
    """
    inner = InnerLoop(steps, 0.1, False, 2.0)
    batch = random_batches(1, episodes=3, support_size=1, pieces=16, vocabulary=500, seed=1)[0]
    ours = build(Metacross, dtype=torch.float32, inner=inner)
    sizes = Sizes.of(ours.model.config, 1)
    _, flops = counted(lambda: ours.meta_gradient(batch, "fp32"))
    again = 3 * (sizes.layers - sizes.frozen) * (steps + 1) * 2 * 16**2 * sizes.hidden
    assert flops - again == exact_flops(batch, sizes, steps=steps)
    kept = exact_flops(batch, sizes, steps=steps, trunk_kept=True)
    assert exact_flops(batch, sizes, steps=steps) - kept == 6 * 16 * (8 * 32**2 + 4 * 32 * 64 + 4 * 16 * 32)


@pytest.mark.parametrize("steps", [1, 2])
def test_floor_of_steps_on_the_upper_layers_alone(steps: int) -> None:
    batch = random_batches(1, episodes=3, support_size=1, pieces=16, vocabulary=500, seed=1)[0]
    ours = build(Metacross, dtype=torch.float32, inner=InnerLoop(steps, 0.1, False, 2.0))
    assert isinstance(ours, Metacross)
    ours.tagger.choose_inner_layers(1)
    sizes = Sizes(32, 64, layers=3, frozen=1, tags=len(RANDOM_TAGS), inner=1)
    _, flops = counted(lambda: ours.meta_gradient(batch, "fp32"))
    again = 3 * (2 + steps) * 2 * 16**2 * sizes.hidden
    assert flops - again == exact_flops(batch, sizes, steps=steps)


def test_what_cannot_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "higher", None)
    monkeypatch.setitem(sys.modules, "torchopt", None)

    def refuse(self: object, batch: MetaBatch, precision: str) -> list[Tensor]:
        raise RuntimeError("no batching rule")

    monkeypatch.setattr(FuncVmap, "meta_gradient", refuse)
    classifier, frozen_layers = make_classifier("tiny", RANDOM_TAGS, seed=0)
    result = compare(
        classifier,
        [ragged_batch()],
        frozen_layers=frozen_layers,
        inner=INNER,
        precisions=["fp32"],
        repeats=2,
        skip=[ReleasedLoop.name],
    )
    told = {t.name: t for t in result.timings}
    assert list(told) == [k.name for k in (Metacross, CopiedWeights, FuncVmap, TorchOpt, Higher)]
    assert told["higher"].error.startswith("not installed") and told["torchopt"].error.startswith("not installed")
    assert "no batching rule" in told[FuncVmap.name].error
    assert [len(t.seconds) for t in result.timings] == [2, 2, 0, 0, 0]


def run(*arguments: str) -> tuple[int, str]:
    import typer

    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, ["--encoder", "tiny", "--threads", str(torch.get_num_threads()), *arguments])
    return result.exit_code, result.output


def test_command(tmp_path: Path) -> None:
    small = ["--repeats", "2", "--episodes", "2", "--pieces", "9", "--dtype", "fp32", "--keep-trunk"]
    small += ["--skip", "released loop", "--json", str(tmp_path / "t.json"), "--plot", str(tmp_path / "deep" / "t")]
    code, output = run(*small)
    assert code == 0, output
    assert "floor fp32, trunk kept" in output and "released" not in output.split("First-order")[0]
    found = json.loads((tmp_path / "t.json").read_text())
    ours, kept, copied = found["timings"][:3]
    assert [t["name"] for t in (ours, kept, copied)] == ["metacross", "metacross, trunk kept", "copied weights"]
    assert ours["ratios"] == [1.0, 1.0] and copied["ratios"] == pytest.approx(
        [c / o for c, o in zip(copied["seconds"], ours["seconds"], strict=True)]
    )
    assert kept["difference"] == 0 and copied["difference"] < 1e-4 < found["effect"]
    assert kept["flops"] < ours["flops"]
    assert (tmp_path / "deep" / "t.png").stat().st_size > 0 and (tmp_path / "deep" / "t.svg").stat().st_size > 0


def test_wrong_arguments_name_the_choices() -> None:
    for wrong, told in (
        (["--skip", "copied"], "'copied weights'"),
        (["--dtype", "fp16"], "bf16"),
        (["--neighbours", "near"], "retrieval"),
        (["--repeats", "0"], "at least 1"),
    ):
        code, output = run(*wrong)
        assert code == 2 and told in output, output


def test_corpus_batches_have_true_lengths(samples: Path) -> None:
    def batches(sentences: int) -> tuple[list[MetaBatch], tuple[str, ...]]:
        return corpus_batches(
            samples / "en" / "train.conll",
            2,
            encoder="tiny",
            vocabulary=500,
            episodes=3,
            support_size=2,
            neighbours="random",
            sentences=sentences,
            seed=0,
        )

    found, tags = batches(40)
    assert [len(b.query_E) for b in found] == [3, 3] and tags[0] == "O"
    for batch in found:
        for support, query in zip(batch.support_EK, batch.query_E, strict=True):
            assert len({x.window.piece_ids for x in (*support, query)}) == 3  # a sentence is not its own support
            for x in (*support, query):
                tagged_T = x.tag_ids_T[x.tag_ids_T >= 0]
                assert 0 < len(tagged_T) <= len(x) - 2 and int(tagged_T.max()) < len(tags)
                assert int(x.piece_ids_T.max()) < 500
    assert len({len(q) for b in found for q in b.query_E}) > 1
    with pytest.raises(UserError, match="too few"):
        batches(2)


# --- over HTTP -------------------------------------------------------------------------------------------------------


def test_percentiles_by_hand() -> None:
    assert [percentile([4.0, 1.0, 3.0, 2.0, 5.0], p) for p in (25, 50, 95)] == pytest.approx([2.0, 3.0, 4.8])
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) != percentile([], 50)  # nan


def test_stages_of_a_block_add_up_to_its_time() -> None:
    before = {"encode": 1.0, "tag": 2.0, "answer": 4.0, "requests": 10}
    after = {"encode": 1.5, "search": 0.1, "tag": 2.2, "answer": 5.0, "requests": 14}
    found = stages_ms(before, after, seconds=1.4)
    assert found == pytest.approx({"encode": 125, "search": 25, "adapt": 0, "tag": 50, INSIDE: 50, OUTSIDE: 100})
    assert tuple(found) == PARTS and sum(found.values()) == pytest.approx(1000 * 1.4 / 4)
    assert all(ms != ms for ms in stages_ms(after, after, seconds=1.0).values())  # nobody was answered


@contextmanager
def server(answers: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Gives these answers in turn on kept connections, b"" by hanging up; tells its port and what it was asked."""
    asked: list[bytes] = []
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            head += await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].split(b"\r")[0] or 0)
            asked.append(head + await reader.readexactly(length))
            if not (answer := answers.pop(0)):
                break
            writer.write(answer)
        writer.close()

    async def run() -> None:
        nonlocal port
        listening = await asyncio.start_server(serve, HOST, 0)
        port = listening.sockets[0].getsockname()[1]
        ready.set()

    loop.create_task(run())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    ready.wait()
    yield port, asked
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nx: y\r\n\r\n".encode() + body


def test_clients_count_what_went_wrong_and_go_on() -> None:
    good = answer(b'{"adapted":true}')
    told = [good, answer(b'{"adapted":false}'), b"", answer(b"busy", "503 No"), b"HTTP/1.1 200 OK\r\n\r\n", good]
    request = entities_request("São Tomé", adapt=True)
    with server(told) as (port, asked):
        seen = send(port, [request] * 5 + [HEALTH], 1, b'"adapted":true')
    assert len(seen.latencies) == 2 and seen.seconds >= sum(seen.latencies)
    assert seen.errors == {"another answer": 1, "IncompleteReadError": 1, "status 503": 1, "ValueError": 1}
    assert asked == [request] * 5 + [HEALTH]
    assert json.loads(request.partition(b"\r\n\r\n")[2]) == {"text": "São Tomé", "adapt": True}


def test_requests_are_shared_by_the_clients() -> None:
    with server([answer(b"alive")] * 20) as (port, asked):
        seen = send(port, [HEALTH] * 20, 3, b"alive")
    assert len(seen.latencies) == len(asked) == 20 and not seen.errors


def test_report_over_http(tmp_path: Path) -> None:
    found = Found("default", in_process={way: [200.0, 50.0] for way in WAYS})
    for repeat in range(2):
        for clients in CLIENTS:
            for way, adapted in WAYS.items():
                ms = (10, 20)[repeat] * (3 if adapted else 2)
                seen = Seen(ms / 1000, 0.0, [ms / 1000], {"status 503": 1} if repeat else {})
                found.blocks.append(Block(repeat, clients, way, seen, dict.fromkeys(PARTS, ms / 6), 1, 0))
    assert found.ratios(8, lambda s: s.ms(50)) == pytest.approx([1.5, 1.5])
    assert found.ratios(8, lambda s: s.rate) == pytest.approx([2 / 3, 2 / 3])
    assert found.of_in_process(64, "plain") == pytest.approx([1 / 4, 1 / 2])
    assert found.part_ms(8, "adapted", "tag") == pytest.approx(7.5)
    failed = [Found("none", in_process=found.in_process), found]
    failed[0].blocks = [
        Block(b.repeat, b.clients, b.way, Seen(1.0, 0.0, [], {"OSError": 2}), b.stages, 0, 0) for b in found.blocks
    ]
    assert latency_table(failed).row_count == stage_table(failed).row_count == 2 * len(CLIENTS) * len(WAYS)
    assert list(latency_table(failed).columns[-1].cells)[::6] == ["4", "1"]
    assert [path.stat().st_size > 0 for path in draw([found], tmp_path / "s", "t")] == [True, True]


def test_serving_over_http_refuses_what_is_not_there(tiny_bundle: Path, tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(serving_http)
    for arguments, told in (
        ([str(tmp_path / "no"), "--data", "pt=x"], "metacross train"),
        ([str(tiny_bundle), "--data", f"pt={tmp_path}/no.iob2"], "no such file"),
        ([str(tiny_bundle), "--data", "no.iob2"], "LANGUAGE=FILE"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2 and told in result.output, result.output


def test_batches_repeat_for_a_seed(samples: Path) -> None:
    files = [f"en={samples / 'en' / 'dev.conll'}"]
    assert batches_of(files, 3, 2, seed=1) == batches_of(files, 3, 2, seed=1) != batches_of(files, 3, 2, seed=2)


# --- scaling ---------------------------------------------------------------------------------------------------------

LINK = Link("slow", 1e6, 0.0, 256, "")


def task(**changes: Any) -> Task:
    whole = {"name": "t", "episodes": 4, "flops": 8.0, "gradient_bytes": 2e6, "imbalance": dict.fromkeys(WORKERS, 1.0)}
    return Task(**{**whole, **changes})


def test_copied_weights_answer_as_ours_do(tiny_bundle: Path) -> None:
    """What answers are timed against computes the same, and leaves theta as it was."""
    tagger = untouched(tiny_bundle, [])
    copied, sentence = Copied(tagger), sentence_from_text("Anna Berg left Oslo for Lima last week.")
    before = [p.clone() for p in copied.theta]
    found_WC = torch.cat(copied.probabilities(sentence))
    torch.testing.assert_close(found_WC, tagger.probabilities([sentence])[0], rtol=0, atol=1e-5)
    assert all(torch.equal(p, q) for p, q in zip(copied.theta, before, strict=True))


def test_ring_all_reduce_by_hand() -> None:
    assert all_reduce_seconds(8e6, 1, LINK) == 0
    assert all_reduce_seconds(8e6, 4, LINK) == pytest.approx(12.0)  # 2 * 3/4 of 8 s
    assert all_reduce_seconds(0, 4, Link("far", 1e6, 0.5, 4, "")) == pytest.approx(3.0)  # 6 hops


def test_step_by_hand() -> None:
    gpu = Gpu(flops_per_second=1.0, fixed_seconds=0.5)
    assert step_seconds(task(), gpu, 1, LINK) == pytest.approx(8.5)
    assert step_seconds(task(), gpu, 2, LINK) == pytest.approx(4 + 2 + 0.5)
    assert step_seconds(task(overlapped=True), gpu, 2, LINK) == pytest.approx(4 + 0.5)
    assert step_seconds(task(imbalance={2: 1.5}), gpu, 2, LINK) == pytest.approx(6 + 2 + 0.5)
    assert [worthwhile(task(), gpu, LINK), fastest(task(), gpu, LINK)] == [2, 256]


def test_rates_and_waiting_by_hand() -> None:
    steps = [Step(0, 1, 0, 0, 3.0, 0.0, 1.0), Step(0, 2, 0, 0, 1.0, 0.75, 0.25), Step(0, 2, 1, 0, 1.5, 0.25, 0.25)]
    assert rates(steps, [40], 1) == [10.0]
    assert rates(steps, [40], 2) == [20.0]
    assert waiting(steps) == (0.25, 0.25)


def test_more_workers_than_episodes_idle() -> None:
    windows = [Window(i, (1,) * n, (), 0, (0, 0)) for i, n in enumerate((4, 4, 4, 8))]
    batch = [Episode(i, (), ()) for i in range(4)]
    assert [imbalance([batch], windows, n) for n in (1, 2, 4, 8)] == pytest.approx([1, 1.2, 1.6, 3.2])
