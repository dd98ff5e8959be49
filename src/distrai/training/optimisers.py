"""Inner optimisers: AdamW, Muon with AdamW beside it, and plain SGD; made from an InnerState, read back into one.

They keep what they keep in fp32 on the device of the parameters, and never write into the state they came from.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from distrai.training.inner_state import Decays, InnerState
from distrai.training.model import trainable_parameters
from distrai.training.spec import InnerSpec

MUON_MOMENTUM = 0.95


class InnerOptimiser(Protocol):
    """One optimiser over all trainable parameters."""

    def step(self, rate: float) -> None:
        """Move the parameters by their gradients at this learning rate, and drop the gradients."""

    def moments(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """m and v, in layout order, on the CPU."""


def build_optimiser(spec: InnerSpec, model: nn.Module, state: InnerState) -> InnerOptimiser:
    """The optimiser of ``spec`` for the trainable parameters of ``model``, going on from ``state``."""
    return _BUILDERS[spec.inner_optimiser](spec, model, state)


def moment_decays(spec: InnerSpec, model: nn.Module) -> Decays:
    """By what a step multiplies what m and v were, for every trainable parameter."""
    if spec.inner_optimiser == "sgd":
        return [(0.0, 0.0) for _ in trainable_parameters(model)]
    hidden = hidden_matrices(model) if spec.inner_optimiser == "muon" else set()
    muon, adam = (MUON_MOMENTUM, 0.0), spec.betas
    return [muon if id(item) in hidden else adam for item in trainable_parameters(model)]


def hidden_matrices(model: nn.Module) -> set[int]:
    """Ids of the parameters that Muon is for: matrices that are neither embeddings nor the output layer."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    output = getattr(model, "get_output_embeddings", lambda: None)()
    outside = {id(item) for module in (*tables, output) if module is not None for item in module.parameters()}
    matrices = {id(item) for item in trainable_parameters(model) if item.ndim == 2}
    return matrices - outside


class _Parts:
    """Optimisers of torch, each for some of the parameters."""

    def __init__(self, parameters: Sequence[nn.Parameter], parts: Iterable[torch.optim.Optimizer]) -> None:
        self._parameters, self._parts = parameters, list(parts)

    def step(self, rate: float) -> None:
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)

    def moments(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        states: dict[Tensor, dict[str, Tensor]] = {}
        for part in self._parts:
            states |= part.state
        m = [_first(states.get(item, {}), item, "exp_avg", "momentum_buffer") for item in self._parameters]
        v = [_first(states.get(item, {}), item, "exp_avg_sq") for item in self._parameters]
        return tuple(m), tuple(v)


def _first(state: dict[str, Tensor], parameter: Tensor, *keys: str) -> Tensor:
    """The entry under the first of these keys, on the CPU; zeros if there is none."""
    found = next((state[key] for key in keys if key in state), None)
    return torch.zeros(parameter.shape) if found is None else found.cpu()


def _adamw(spec: InnerSpec, model: nn.Module, state: InnerState) -> InnerOptimiser:
    """AdamW (Loshchilov and Hutter 2019)."""
    parameters = trainable_parameters(model)
    return _Parts(parameters, [_adamw_part(spec, parameters, state, range(len(parameters)))])


def _muon(spec: InnerSpec, model: nn.Module, state: InnerState) -> InnerOptimiser:
    """Muon for hidden matrices, AdamW for the rest.

    Its step is scaled to the size of AdamW's, so that one learning rate does for both (arXiv:2502.16982).
    """
    parameters, hidden = trainable_parameters(model), hidden_matrices(model)
    matrices = [at for at, item in enumerate(parameters) if id(item) in hidden]
    others = [at for at, item in enumerate(parameters) if id(item) not in hidden]
    parts: list[torch.optim.Optimizer] = []
    if matrices:
        part = torch.optim.Muon(
            [parameters[at] for at in matrices],
            lr=spec.lr,
            weight_decay=spec.weight_decay,
            momentum=MUON_MOMENTUM,
            adjust_lr_fn="match_rms_adamw",
        )
        for at in matrices:
            part.state[parameters[at]] = {"momentum_buffer": _own(state.m[at], parameters[at])}
        parts.append(part)
    if others:
        parts.append(_adamw_part(spec, parameters, state, others))
    return _Parts(parameters, parts)


def _sgd(spec: InnerSpec, model: nn.Module, state: InnerState) -> InnerOptimiser:
    """Plain SGD without weight decay: what a step changes is the gradient times the rate, and nothing else.

    Decay belongs to the outer step then (outer_weight_decay).
    """
    del state
    parameters = trainable_parameters(model)
    return _Parts(parameters, [torch.optim.SGD(parameters, lr=spec.lr)])


_BUILDERS: dict[str, Callable[[InnerSpec, nn.Module, InnerState], InnerOptimiser]] = {
    "adamw": _adamw,
    "muon": _muon,
    "sgd": _sgd,
}


def _adamw_part(
    spec: InnerSpec, parameters: Sequence[nn.Parameter], state: InnerState, at: Iterable[int]
) -> torch.optim.Optimizer:
    """AdamW over the parameters at these places; weight decay on matrices only."""
    places = list(at)
    matrices = [place for place in places if parameters[place].ndim >= 2]
    vectors = [place for place in places if parameters[place].ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": [parameters[place] for place in some], "weight_decay": decay}
        for some, decay in ((matrices, spec.weight_decay), (vectors, 0.0))
        if some
    ]
    optimiser: torch.optim.Optimizer
    if state.restart is None:
        optimiser = torch.optim.AdamW(groups, lr=spec.lr, betas=spec.betas, eps=spec.eps, fused=True)
    else:
        optimiser = MaskedAdamW(groups, lr=spec.lr, betas=spec.betas, eps=spec.eps)
    for place in places:
        parameter = parameters[place]
        optimiser.state[parameter] = {
            **_count(state, place, parameter.device),
            "exp_avg": _own(state.m[place], parameter),
            "exp_avg_sq": _own(state.v[place], parameter),
        }
    return optimiser


def _count(state: InnerState, place: int, device: torch.device) -> dict[str, Any]:
    """How AdamW (its fused form wants a tensor) or MaskedAdamW is told the age of a parameter's moments."""
    if state.restart is None:
        return {"step": torch.tensor(float(state.steps), device=device)}
    restarted = state.restart.where[place].to(device)
    return {"step": state.steps, "since": state.restart.steps, "restarted": restarted}


def _own(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A copy on the device of the parameter: the optimiser writes into it."""
    return tensor.to(parameter.device, torch.float32, copy=True)


class MaskedAdamW(torch.optim.Optimizer):
    """AdamW in which the m of some coordinates began anew at 0 and has its bias corrected for that.

    Every parameter's state says which (``restarted``, bool) and how many steps ago (``since``). v is as old as
    ``step`` everywhere. Without such coordinates it is AdamW.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient. There is no closure."""
        for group in self.param_groups:
            found = [item for item in group["params"] if item.grad is not None]
            if found:
                self._step(group, found, [self.state[item] for item in found])

    def _step(self, group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]]) -> None:
        first, second = group["betas"]
        grads = [item.grad for item in params if item.grad is not None]
        ms, vs = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq"))
        for state in states:
            state["step"] += 1
            state["since"] += 1
        torch._foreach_lerp_(ms, grads, 1 - first)
        torch._foreach_mul_(vs, second)
        torch._foreach_addcmul_(vs, grads, grads, 1 - second)
        roots = [v.sqrt() for v in vs]
        torch._foreach_div_(roots, [(1 - second ** state["step"]) ** 0.5 for state in states])
        torch._foreach_add_(roots, group["eps"])
        unbiased = [_unbiased(state, first) for state in states]
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(params, unbiased, roots, -group["lr"])


def _unbiased(state: dict[str, Any], decay: float) -> Tensor:
    """m without the bias of having begun at 0, which is larger where it began later."""
    m: Tensor = state["exp_avg"]
    young, old = (m.new_tensor(1 - decay ** state[key]) for key in ("since", "step"))
    return m / torch.where(state["restarted"], young, old)
