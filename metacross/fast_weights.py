"""Exact low-rank fast weights: all episodes of a batch run in one forward, each with its own weights, without copies.

Shapes: E episodes, T word pieces of a row, N support pieces, I and O a layer's inputs and outputs.

For a linear layer y = W x + b, one SGD step on a loss over N support pieces with layer inputs A (N, I) and
gradients at the layer's outputs G (N, O) gives dL/dW = G^T A and dL/db = sum_n G_n, so

    y' = W x + b - inner_lr * sum_n (x . A_n + 1) G_n

which needs two thin products with (A, G) and never the gradient itself. The bias is the `+ 1`: it is the weight
of an input that is always one. Later steps append factors. LayerNorm's scale and shift are vectors, so each episode
has its own. The result is not an approximation: it equals SGD on copied weights, and tests/test_oracle.py compares the
two.

The squared length of a step comes from Gram matrices of the factors alone (as in ghost clipping, Li et al. 2022):

    |dL/dW|^2 + |dL/db|^2 = sum_nm (A_n . A_m + 1) (G_n . G_m)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from metacross.errors import UserError

FOLLOWED = (nn.Linear, nn.LayerNorm)  # kinds of layers that fast weights can follow exactly


@dataclass
class Factors:
    """One inner step of one linear layer, for E episodes: its inputs, the gradients at its outputs, the step size.

    The step size is kept apart because it is cheaper to scale the scores (E, T, N) with it than the gradients.
    """

    inputs_ENI: Tensor
    grads_ENO: Tensor
    # Minus the inner learning rate, divided by the gradient's length if steps are normalized. It is (E, 1), or (E, N)
    # if each support piece has a weight of its own.
    step_EN: Tensor


@dataclass
class NormShift:
    """What the inner steps added to a LayerNorm's scale and shift, for E episodes."""

    scale_EO: Tensor
    shift_EO: Tensor | None


@dataclass
class FastWeights:
    """theta' - theta of E episodes: one pair of factors per step for each linear layer, a shift for each LayerNorm.

    It is a value: a step returns a new one, and theta is not changed. An empty one stands for theta itself.
    """

    linears: Mapping[str, tuple[Factors, ...]] = field(default_factory=dict)
    norms: Mapping[str, NormShift] = field(default_factory=dict)
    # The same factors once more, if there is one step: of all layers that share an input, their gradients side by side.
    joined: Mapping[tuple[str, ...], Factors] = field(default_factory=dict)


@dataclass
class Recording:
    """Inputs and outputs of every followed layer during one forward.

    Attributes:
        inputs: by layer.
        outputs: by layer, of layers that ran by themselves.
        joined: outputs side by side, of layers that ran as one product.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    joined: dict[tuple[str, ...], Tensor] = field(default_factory=dict)


@dataclass
class _Pass:
    """What the current forward does: apply fast weights, record, or both."""

    fast_weights: FastWeights
    recording: Recording | None
    # Query, key and value layers share their input, so they also share its scores with the factors of each step.
    scored: Tensor | None = None
    scores: dict[tuple[int, int, bool], Tensor] = field(default_factory=dict)


class FastLayers:
    """The adapted layers of a model, which can run with each episode's own weights and record their factors.

    All of them are followed, unless `follow` chooses some.

    Every parameter must belong to a linear layer or LayerNorm that is called once in a forward, on an input of
    shape (E, T, I).

    Args:
        modules: name -> module; together they hold exactly the adapted parameters.

    Raises:
        UserError: fast weights cannot follow these layers exactly; raised here or, by `running`, during the forward.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.layers = {
            f"{prefix}.{name}".rstrip("."): layer
            for prefix, module in modules.items()
            for name, layer in module.named_modules()
            if next(layer.parameters(recurse=False), None) is not None
        }
        refuse_unfollowed(self.layers)
        # A context variable, because threads that share a model must not see each other's fast weights.
        self._pass: ContextVar[_Pass | None] = ContextVar("metacross_pass", default=None)
        self._names = {layer: name for name, layer in self.layers.items()}  # of those that are followed
        for layer in self.layers.values():
            # A function, because a method would be copied with its object whenever a layer is.
            layer.register_forward_hook(lambda layer, args, output: self._hook(layer, args, output))

    def follow(self, modules: Sequence[str]) -> None:
        """Lets only the layers of some modules, by their names, have fast weights from now on."""
        self._names = {layer: name for name, layer in self.layers.items() if name.startswith(tuple(modules))}

    def followed(self) -> list[nn.Module]:
        """The layers that have fast weights."""
        return list(self._names)

    @contextmanager
    def running(self, fast_weights: FastWeights, *, record: bool = False) -> Iterator[Recording]:
        """Lets forwards inside the block use `fast_weights`; with `record`, yields their inputs and outputs."""
        recording = Recording()
        token = self._pass.set(_Pass(fast_weights, recording if record else None))
        try:
            yield recording
        finally:
            self._pass.reset(token)
        if record and len(recording.inputs) != len(self._names):
            missing = sorted(set(self._names.values()) - recording.inputs.keys())
            raise UserError(f"layers {missing[:3]} did not run in the forward; fast weights cannot follow this encoder")

    @property
    def recording(self) -> bool:
        """Whether the current forward is to be recorded."""
        now = self._pass.get()
        return now is not None and now.recording is not None

    def corrections(self, fast_weights: Sequence[FastWeights] | None = None) -> list[Correction] | None:
        """For a forward without the modules' own: what changes layers' outputs in each group of rows.

        None where the layers run by theta.

        Args:
            fast_weights: of each group; by default there is one group, with those of `running`.
        """
        if fast_weights is None:
            now = self._pass.get()
            fast_weights = [FastWeights() if now is None else now.fast_weights]
        if not any(weights.linears or weights.norms for weights in fast_weights):
            return None
        return [Correction(self._names, weights) for weights in fast_weights]

    def record(self, layers: Sequence[nn.Module], x_PI: Tensor, y_PO: Tensor) -> None:
        """For a forward without the modules' own: records the input that layers share, and their outputs side by side.

        Pieces (P) are those of all rows.
        """
        now = self._pass.get()
        assert now is not None and now.recording is not None
        names = tuple(self._names[layer] for layer in layers)
        now.recording.inputs |= dict.fromkeys(names, x_PI)
        if len(names) == 1:
            now.recording.outputs[names[0]] = y_PO
        else:
            now.recording.joined[names] = y_PO

    def _hook(self, layer: nn.Module, args: tuple[Tensor, ...], y_ETO: Tensor) -> Tensor:
        now = self._pass.get()
        if now is None or layer not in self._names:
            return y_ETO
        return self._record(now, self._names[layer], args[0], self._changed(now, layer, args[0], y_ETO))

    def _changed(self, now: _Pass, layer: nn.Module, x_ETI: Tensor, y_ETO: Tensor) -> Tensor:
        """A layer's output under the fast weights of a forward; where gradients are off, `y_ETO` may be overwritten."""
        name = self._names[layer]
        if isinstance(layer, nn.LayerNorm):
            shift = now.fast_weights.norms.get(name)
            return y_ETO if shift is None else self._shifted(layer, shift, x_ETI)
        for factors in now.fast_weights.linears.get(name, ()):
            scores_ETN = self._scores(now, x_ETI, factors, layer.bias is not None)
            scores_ETN, grads_ENO = scores_ETN.to(y_ETO.dtype), factors.grads_ENO.to(y_ETO.dtype)
            if torch.is_grad_enabled():
                y_ETO = torch.baddbmm(y_ETO, scores_ETN, grads_ENO)
            else:
                y_ETO.baddbmm_(scores_ETN, grads_ENO)
        return y_ETO

    @staticmethod
    def _shifted(layer: nn.LayerNorm, shift: NormShift, x_ETI: Tensor) -> Tensor:
        y_ETO = normalised(layer, x_ETI) * (layer.weight + shift.scale_EO).unsqueeze(1)
        return y_ETO if shift.shift_EO is None else y_ETO + (layer.bias + shift.shift_EO).unsqueeze(1)

    @staticmethod
    def _scores(now: _Pass, x_ETI: Tensor, factors: Factors, biased: bool) -> Tensor:
        if now.scored is not x_ETI:
            now.scored, now.scores = x_ETI, {}
        # The step is part of the key because in second order the lowest layer's input is the same tensor in all steps.
        key = id(factors.inputs_ENI), id(factors.step_EN), biased
        if key not in now.scores:
            # Autocast chooses the type of a product itself and would undo a conversion to the input's type.
            cast = torch.is_autocast_enabled(x_ETI.device.type)
            inputs_ENI = factors.inputs_ENI if cast else factors.inputs_ENI.to(x_ETI.dtype)
            scores_ETN = torch.bmm(x_ETI, inputs_ENI.transpose(1, 2))
            step_E1N = factors.step_EN.unsqueeze(1).to(scores_ETN.dtype)
            now.scores[key] = torch.addcmul(step_E1N, scores_ETN, step_E1N) if biased else scores_ETN * step_E1N
        return now.scores[key]

    @staticmethod
    def _record(now: _Pass, name: str, x_ETI: Tensor, y_ETO: Tensor) -> Tensor:
        if now.recording is not None:
            if name in now.recording.outputs:
                raise UserError(
                    f"layer {name} runs more than once in a forward; fast weights cannot follow this encoder"
                )
            if x_ETI.dim() != 3:
                raise UserError(
                    f"layer {name} got an input of shape {tuple(x_ETI.shape)}, not (rows, pieces, size); "
                    "fast weights cannot follow this encoder"
                )
            now.recording.inputs[name] = x_ETI
            now.recording.outputs[name] = y_ETO
        return y_ETO


class Correction:
    """What fast weights change in the outputs of layers that run without their modules; gradients are off.

    Args:
        names: of the adapted layers.
        fast_weights: of E episodes.
    """

    def __init__(self, names: Mapping[nn.Module, str], fast_weights: FastWeights) -> None:
        self._names, self._fast_weights = names, fast_weights

    def add(self, layers: Sequence[nn.Linear], x_ETI: Tensor, y_ETO: Tensor) -> None:
        """Adds to the outputs of linear layers that share an input, side by side, what fast weights add."""
        names = tuple(self._names[layer] for layer in layers)
        if (joined := self._fast_weights.joined.get(names)) is not None:
            _add(y_ETO, _scores(x_ETI, joined, layers[0].bias is not None), joined)
            return
        scores: dict[tuple[int, int, bool], Tensor] = {}
        outputs = torch.split_with_sizes(y_ETO, [layer.out_features for layer in layers], 2)
        for layer, name, own_ETO in zip(layers, names, outputs, strict=True):
            for factors in self._fast_weights.linears.get(name, ()):
                key = id(factors.inputs_ENI), id(factors.step_EN), layer.bias is not None
                if key not in scores:
                    scores[key] = _scores(x_ETI, factors, layer.bias is not None)
                _add(own_ETO, scores[key], factors)

    def scale(self, layer: nn.LayerNorm, normalised_ETO: Tensor) -> None:
        """Applies scale and shift to a norm's normalized input, which is overwritten."""
        shift = self._fast_weights.norms.get(self._names[layer])
        weight: Tensor = layer.weight
        bias: Tensor | None = layer.bias
        if shift is not None:
            weight = (weight + shift.scale_EO).unsqueeze(1)
            if shift.shift_EO is not None:
                bias = (layer.bias + shift.shift_EO).unsqueeze(1)
        normalised_ETO.mul_(weight)
        if bias is not None:
            normalised_ETO.add_(bias)


def _scores(x_ETI: Tensor, factors: Factors, biased: bool) -> Tensor:
    """How much of each support piece's gradient a piece gets (E, T, N).

    The product is made the other way round, since oneDNN copies the second matrix, and the factors are the larger one.
    """
    scores_ENT = torch.bmm(factors.inputs_ENI.to(x_ETI.dtype), x_ETI.transpose(1, 2))
    step_EN1 = factors.step_EN.unsqueeze(2).to(scores_ENT.dtype)
    scores_ENT = torch.addcmul(step_EN1, scores_ENT, step_EN1) if biased else scores_ENT.mul_(step_EN1)
    return scores_ENT.transpose(1, 2)


def _add(y_ETO: Tensor, scores_ETN: Tensor, factors: Factors) -> None:
    y_ETO.baddbmm_(scores_ETN, factors.grads_ENO.to(y_ETO.dtype))


def take_step(
    layers: FastLayers,
    fast_weights: FastWeights,
    recording: Recording,
    loss: Tensor,
    *,
    inner_lr: float,
    normalized: bool,
    second_order: bool = False,
) -> FastWeights:
    """Takes one inner step of every episode; returns the fast weights after it.

    Args:
        layers: the adapted layers that `recording` was made with.
        fast_weights: the fast weights that the recorded forward ran with.
        recording: that forward's inputs and outputs.
        loss: the sum of the episodes' support losses; each depends on its own row only.
        inner_lr: alpha of the paper, by which the gradient is multiplied; with `normalized` the length of an episode's
            step over all adapted parameters together.
        normalized: whether the step has a fixed length in the direction of the gradient.
        second_order: whether to keep the factors attached, so that a backward differentiates through the step.
    """
    gradient = low_rank_gradient(layers, recording, loss, second_order=second_order)
    if normalized:
        step_E1 = -inner_lr * inverse_length(gradient.squared_length(layers))[:, None]
    else:
        step_E1 = loss.new_full((len(next(iter(gradient.grads.values()))), 1), -inner_lr)
    linears = dict(fast_weights.linears)
    for n, grads_ENO in gradient.grads.items():
        linears[n] = (*linears.get(n, ()), Factors(gradient.inputs[n], grads_ENO, step_E1))
    norms = dict(fast_weights.norms)
    for n, (scale_EO, shift_EO) in gradient.norms.items():
        norms[n] = _moved(norms.get(n), scale_EO * step_E1, None if shift_EO is None else shift_EO * step_E1)
    return FastWeights(linears, norms)


@dataclass(frozen=True)
class LowRankGradient:
    """The gradient of E episodes' losses: two factors for each linear layer, two vectors for each LayerNorm.

    Layers that share an input hold the same tensor object, so that its scores are computed only once.
    """

    inputs: Mapping[str, Tensor]  # (E, N, I)
    grads: Mapping[str, Tensor]  # (E, N, O)
    norms: Mapping[str, tuple[Tensor, Tensor | None]]  # scale and shift, (E, O)

    def squared_length(self, layers: FastLayers) -> Tensor:
        """Each episode's squared length (E,) over all adapted parameters; at least fp32."""
        biased = {n for n in self.grads if layers.layers[n].bias is not None}
        return gradient_squared_norm({n: (self.inputs[n], self.grads[n]) for n in self.grads}, biased, self.norms)


def low_rank_gradient(
    layers: FastLayers, recording: Recording, loss: Tensor, *, second_order: bool = False
) -> LowRankGradient:
    """The gradient of each episode's part of `loss`; arguments as for `take_step`."""
    names = list(recording.outputs)
    found = torch.autograd.grad(loss, [recording.outputs[n] for n in names], create_graph=second_order)
    grads = dict(zip(names, found, strict=True))
    # Detaching makes a new tensor object; layers that share an input must share it afterwards too.
    detached: dict[int, Tensor] = {}
    inputs = {n: x if second_order else detached.setdefault(id(x), x.detach()) for n, x in recording.inputs.items()}
    norms = {n: norm_gradient(layers.layers[n], inputs[n], grads[n]) for n in names if _is_norm(layers.layers[n])}
    linear_names = [n for n in names if n not in norms]
    return LowRankGradient({n: inputs[n] for n in linear_names}, {n: grads[n] for n in linear_names}, norms)


@dataclass(frozen=True)
class PieceGradients:
    """What every piece adds to the gradient of a loss; the pieces (P) are those of all rows, one row after the other.

    Attributes:
        products: inputs (P, I) and gradients at outputs (P, O) of linear layers; of those that share an input the
            gradients are side by side.
        norms: what each piece adds to the gradients of a LayerNorm's scale and shift, (P, O) each; no shift: None.
    """

    products: Mapping[tuple[str, ...], tuple[Tensor, Tensor]]
    norms: Mapping[str, tuple[Tensor, Tensor | None]]


def piece_gradients(layers: FastLayers, recording: Recording, loss: Tensor) -> PieceGradients:
    """The gradient of `loss`, from the recorded forward that it comes from."""
    outputs: dict[tuple[str, ...], Tensor] = {(name,): y for name, y in recording.outputs.items()}
    outputs |= recording.joined
    found = torch.autograd.grad(loss, list(outputs.values()))
    grads = {names: grad.flatten(0, -2) for names, grad in zip(outputs, found, strict=True)}
    norms: dict[str, tuple[Tensor, Tensor | None]] = {}
    sharing: dict[tuple[int, bool], list[tuple[str, ...]]] = {}
    for names, grad_PO in grads.items():
        layer, x = layers.layers[names[0]], recording.inputs[names[0]].detach()
        if isinstance(layer, nn.LayerNorm):
            scale_PO = normalised(layer, x).flatten(0, -2) * grad_PO
            norms[names[0]] = scale_PO, None if layer.bias is None else grad_PO
        else:
            key = id(recording.inputs[names[0]]), layer.bias is not None
            sharing.setdefault(key, []).append(names)
    products = {}
    for parts in sharing.values():
        grad_PO = torch.cat([grads[names] for names in parts], 1) if len(parts) > 1 else grads[parts[0]]
        x_PI = recording.inputs[parts[0][0]].detach().flatten(0, -2)
        products[tuple(name for names in parts for name in names)] = x_PI, grad_PO
    return PieceGradients(products, norms)


def inverse_length(squared_E: Tensor) -> Tensor:
    """One over the length of each gradient; finite for a gradient of zeros."""
    return squared_E.clamp_min(torch.finfo(squared_E.dtype).tiny).rsqrt()


def norm_gradient(layer: nn.Module, x_ENO: Tensor, grad_ENO: Tensor) -> tuple[Tensor, Tensor | None]:
    """Each episode's gradient of a LayerNorm's scale and shift, (E, O) each; None for a LayerNorm without shift."""
    assert isinstance(layer, nn.LayerNorm)
    scale_EO = (normalised(layer, x_ENO) * grad_ENO).sum(1)
    return scale_EO, None if layer.bias is None else grad_ENO.sum(1)


def gradient_squared_norm(
    factors: Mapping[str, tuple[Tensor, Tensor]],
    biased: set[str],
    norm_grads: Mapping[str, tuple[Tensor, Tensor | None]],
) -> Tensor:
    """Each episode's squared gradient length (E,) from Gram matrices; at least fp32.

    Args:
        factors: inputs (E, N, I) and gradients at the outputs (E, N, O) of each linear layer.
        biased: names of the linear layers that have a bias.
        norm_grads: gradients of each LayerNorm's scale and shift, (E, O) each.

    Raises:
        ValueError: there is no layer.
    """
    total_E: Tensor | None = None
    last: tuple[Tensor, Tensor] | None = None
    for name, (inputs_ENI, grads_ENO) in factors.items():
        wide = torch.promote_types(inputs_ENI.dtype, torch.float32)
        if last is None or last[0] is not inputs_ENI:
            a_ENI = inputs_ENI.to(wide)
            last = (inputs_ENI, torch.bmm(a_ENI, a_ENI.transpose(1, 2)))
        g_ENO = grads_ENO.to(wide)
        gram_ENN = torch.bmm(g_ENO, g_ENO.transpose(1, 2))
        part_E = ((last[1] + (1 if name in biased else 0)) * gram_ENN).sum((1, 2))
        total_E = part_E if total_E is None else total_E + part_E
    for pair in norm_grads.values():
        for grad_EO in pair:
            if grad_EO is not None:
                part_E = grad_EO.square().sum(1)
                total_E = part_E if total_E is None else total_E + part_E
    if total_E is None:
        raise ValueError("no adapted layer")
    return total_E


def normalised(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    """A LayerNorm's normalized input, before its scale and shift are applied."""
    return functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)


def refuse_unfollowed(layers: Mapping[str, nn.Module]) -> None:
    """Refuses layers that fast weights cannot follow exactly.

    Raises:
        UserError: a parameter belongs to another kind of layer, or to two layers.
    """
    for name, layer in layers.items():
        if not isinstance(layer, FOLLOWED):
            raise UserError(
                f"layer {name} is a {type(layer).__name__}; fast weights follow linear layers and LayerNorm only. "
                "Choose another encoder, or freeze more layers (model.frozen_layers)."
            )
    owners: dict[int, str] = {}
    for name, layer in layers.items():
        for parameter in layer.parameters(recurse=False):
            if id(parameter) in owners:
                raise UserError(
                    f"layers {owners[id(parameter)]} and {name} share a parameter; fast weights cannot follow it"
                )
            owners[id(parameter)] = name


def _is_norm(layer: nn.Module) -> bool:
    return isinstance(layer, nn.LayerNorm)


def _moved(before: NormShift | None, scale_EO: Tensor, shift_EO: Tensor | None) -> NormShift:
    if before is None:
        return NormShift(scale_EO, shift_EO)
    shift = shift_EO if before.shift_EO is None or shift_EO is None else before.shift_EO + shift_EO
    return NormShift(before.scale_EO + scale_EO, shift)
