"""What matrix products in int8 would save of an answer. Answers do not use them; docs/benchmarks.md says why.

    python -m benchmarks.int8 BUNDLE --data nl=europeana/nl/train.txt

The first table has all products of a forward through ten layers, by the number of word pieces. The second has plain
answers from text to entities, in batches of 1 and 32, with products made in these ways:

    metacross            as they are
    int8                 a scale for each output of a weight, found once, and for each row of an input, found in every
                         product, so that no answer depends on what else is in its batch
    int8, inputs given   the same without the time that finding scales and rounding take. Its answers mean nothing: it
                         takes the first inputs of a shape for all. No implementation with the same products is faster
    no products          nor is any faster than this one, whose products cost nothing

All ways take turns, with one thread; ratios are of processor time within a turn, medians with quartiles.

oneDNN makes the products. ONEDNN_MAX_CPU_ISA lets it forget what the CPU has, to measure like one that has less:
AVX512_CORE_VNNI (with --precision fp32, since such CPUs are not fast in bf16) or AVX512_CORE_BF16.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.machine import machine
from benchmarks.plain import LONGEST, OURS, SIZES, Way, compare, tagger_way
from benchmarks.ratios import ratio
from metacross.corpora.reader import read_corpus
from metacross.encoder import fused
from metacross.encoder.device import product_dtype

LAYERS = 10
PRODUCTS = ((384, 1152), (384, 384), (384, 1536), (1536, 384))  # inputs and outputs, of the embedded encoder's layers
PIECES = (32, 64, 256, 992)
TURNS = 12

Weight = Callable[[Tensor], Tensor]  # an input (P, I) -> the product (P, O)
MakeWeight = Callable[[Tensor, Tensor | None], Weight]  # from the weight (O, I) and its bias (O,)


class Int8Weight:
    """A weight (O, I) in int8 with its bias (O,), made in place of `fused._Weight`."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        self._scale_O = weight_OI.float().abs().amax(1).clamp_min(1e-20) / 127
        rounded_OI = (weight_OI.float() / self._scale_O.unsqueeze(1)).round().to(torch.int8)
        self._packed_OI = torch.ops.onednn.qlinear_prepack(rounded_OI, None)
        self._zero_O = torch.zeros(len(weight_OI), dtype=torch.long)
        self._bias_O = weight_OI.new_zeros(len(weight_OI)) if bias_O is None else bias_O

    def __call__(self, x_PI: Tensor) -> Tensor:
        """The product (P, O)."""
        rounded_PI, scale_P1 = rounded(x_PI)
        y_PO = self.product(rounded_PI, 1.0, x_PI.dtype)
        return torch.addcmul(self._bias_O, y_PO, scale_P1, out=y_PO)

    def product(self, rounded_PI: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """The product (P, O) of an input with one scale, without the bias."""
        y_PO: Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded_PI, scale, 128, self._packed_OI, self._scale_O, self._zero_O, None, 1.0, 0, dtype, "none", [], ""
        )
        return y_PO


def rounded(x_PI: Tensor) -> tuple[Tensor, Tensor]:
    """An input as whole numbers from 1 to 255, of which 128 stands for 0, and the scale (P, 1) of its rows.

    They have no sign because oneDNN, where there is no AMX, takes thousands of times as long for those that have.
    """
    exact_PI = x_PI.float()
    largest_P1 = torch.maximum(exact_PI.amax(1, keepdim=True), exact_PI.amin(1, keepdim=True).neg_())
    scale_P1 = (largest_P1.clamp_min_(1e-20) / 127).to(x_PI.dtype)
    signed_PI = (exact_PI * (1 / scale_P1.float())).round_().to(torch.int8)  # at most 127.3 before
    return signed_PI.bitwise_xor_(-128).view(torch.uint8), scale_P1


class GivenInputs(Int8Weight):
    """The same, with the inputs at hand in int8: the first of each shape."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        super().__init__(weight_OI, bias_O)
        self._given: dict[torch.Size, tuple[Tensor, float]] = {}

    def __call__(self, x_PI: Tensor) -> Tensor:
        """Some product (P, O)."""
        if x_PI.shape not in self._given:
            rounded_PI, scale_P1 = rounded(x_PI)
            self._given[x_PI.shape] = rounded_PI, scale_P1.mean().item()
        return self.product(*self._given[x_PI.shape], x_PI.dtype)


class NoProduct:
    """In place of a product, its bias."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        self._bias_O = weight_OI.new_zeros(len(weight_OI)) if bias_O is None else bias_O

    def __call__(self, x_PI: Tensor) -> Tensor:
        """The bias for every piece (P, O)."""
        return self._bias_O.expand(len(x_PI), -1).contiguous()


class TorchDynamic:
    """Torch's own product for dynamic quantisation: one scale for the complete input, so batches change answers."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        scale_O, zero_O = weight_OI.float().abs().amax(1) / 127, torch.zeros(len(weight_OI), dtype=torch.long)
        quantised_OI = torch.quantize_per_channel(weight_OI.float(), scale_O, zero_O, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(quantised_OI, None if bias_O is None else bias_O.float())

    def __call__(self, x_PI: Tensor) -> Tensor:
        """The product (P, O); inputs and outputs are in fp32."""
        y_PO: Tensor = torch.ops.quantized.linear_dynamic(x_PI.float(), self._packed, False)
        return y_PO


WAYS: dict[str, MakeWeight] = {OURS: fused._Weight, "int8": Int8Weight, "int8, inputs given": GivenInputs}


def products_table(dtype: torch.dtype) -> Table:
    """The milliseconds of all products of a forward, with random weights."""
    kinds = WAYS | {"torch's dynamic quantisation": TorchDynamic}
    random: Any = torch.Generator().manual_seed(0)
    layers = [[torch.randn(o, i, generator=random).to(dtype) / i**0.5 for i, o in PRODUCTS] for _ in range(LAYERS)]
    weights = {
        name: [[make(w_OI, w_OI[:, 0].contiguous()) for w_OI in layer] for layer in layers]
        for name, make in kinds.items()
    }
    table = Table("pieces", *kinds, title=f"products, {str(dtype).removeprefix('torch.')}: ms, and times of metacross")
    for pieces in PIECES:
        inputs = {i: torch.randn(pieces, i, generator=random).to(dtype) for i, _ in PRODUCTS}
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for turn in range(-2, TURNS):
            for name, own in weights.items():
                began = time.process_time()
                for layer in own:
                    for (i, _), weight in zip(PRODUCTS, layer, strict=True):
                        weight(inputs[i])
                if turn >= 0:  # before, kernels are made
                    seconds[name].append(time.process_time() - began)
        table.add_row(
            str(pieces), *(f"{1000 * median(own):.1f}  {ratio(own, seconds[OURS])}" for own in seconds.values())
        )
    return table


def way_with(make: MakeWeight, bundle: Path, precision: str, text: str) -> Way:
    """Metacross without adaptation, with its products made in another way."""
    with patch.object(fused, "_Weight", make):
        way = tagger_way(bundle, precision)
        way([text], 1)  # weights are laid out by the first answer
    return way


def main(
    bundle: Annotated[Path, typer.Argument(help="of a training run")],
    data: Annotated[str, typer.Option(help="LANGUAGE=FILE, a corpus whose sentences are tagged")],
    bursts: Annotated[int, typer.Option(min=3, help="of each way")] = 7,
    sentences: Annotated[int, typer.Option(min=32, help="of a burst")] = 32,
    precision: Annotated[str, typer.Option(help="of all that is not int8: auto, fp32 or bf16")] = "auto",
) -> None:
    """Prints both tables."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.backends.quantized.engine = "onednn"
    print("; ".join(f"{key} {value}" for key, value in machine(threads=1).items()), file=sys.stderr)
    console = Console(width=160)
    console.print(products_table(product_dtype(precision, torch.device("cpu")) or torch.float32))
    language, _, path = data.partition("=")
    texts = [s.text for s in read_corpus(path, language=language).sentences if len(s.text) <= LONGEST]
    texts = texts[:: max(1, len(texts) // sentences)][:sentences]
    _, exact = tagger_way(bundle, "fp32")(texts, 32)
    ways = {name: way_with(make, bundle, precision, texts[0]) for name, make in WAYS.items()}
    ways["no products"] = way_with(NoProduct, bundle, precision, texts[0])
    for size in SIZES:
        console.print(compare(ways, texts, size, bursts, exact, lists=False))


if __name__ == "__main__":
    typer.run(main)
