"""Direct preference optimisation (Rafailov et al. 2023): of two answers, one is preferred.

The loss of a pair is ``-log sigmoid(beta * (chosen - rejected))``, where each side is the log-likelihood of that answer
under the model less that under the reference: the model as it was at the start.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from distrai.training.errors import NoReference
from distrai.training.scoring import ObjectiveOutput, is_scored, tokens_of

_NOT_SCORED = -100


class DirectPreference:
    """Mean over pairs. Metrics, also means over pairs:

    ``accuracy``, the share in which the chosen answer gained more on the reference than the rejected one; ``margin``,
    by how much (times beta); ``chosen``, the log-likelihood of the chosen answer in nats.
    """

    name = "dpo"

    def __init__(self, beta: float, reference: nn.Module | None = None) -> None:
        """``reference`` None: the model has an adapter, and is its own reference without it."""
        assert beta > 0
        self._beta = beta
        self._reference = None if reference is None else reference.eval().requires_grad_(False)

    def __call__(self, model: nn.Module, batch: Tensor) -> ObjectiveOutput:
        """See ``Objective``. Raises NoReference."""
        rows = torch.cat(batch.chunk(2, dim=1))  # all chosen ones, then all rejected ones
        with torch.no_grad():
            before = self._before(model, rows)
        now = likelihoods(model, rows)
        chosen, rejected = (self._beta * (now - before)).chunk(2)
        margins = chosen - rejected
        metrics = {
            "accuracy": (margins > 0).float().mean(),
            "margin": margins.detach().mean(),
            "chosen": now.detach()[: len(batch)].mean(),
        }
        return ObjectiveOutput(-functional.logsigmoid(margins).mean(), len(batch), metrics)

    def _before(self, model: nn.Module, rows: Tensor) -> Tensor:
        """Log-likelihoods under the reference, without dropout. It draws no random numbers."""
        if self._reference is not None:
            place = next(self._reference.parameters()).device
            return likelihoods(self._reference, rows.to(place)).to(rows.device)
        plain: nn.Module = getattr(model, "_orig_mod", model)  # a compiled model would be compiled once more
        without = getattr(plain, "disable_adapter", None)
        if without is None:
            raise NoReference(
                "preferences are learned by comparing with the model as it was, and this one has no adapter to leave "
                "out; give the reference model, or add [model.adapter] to the recipe"
            )
        was_training = plain.training
        plain.eval()
        try:
            with without():
                return likelihoods(plain, rows)
        finally:
            plain.train(was_training)


def likelihoods(model: nn.Module, rows: Tensor) -> Tensor:
    """The log-likelihood of what is scored in each row ``(rows, context + 1)``, in nats: ``(rows,)`` fp32."""
    tokens, scored = tokens_of(rows), is_scored(rows[:, 1:])
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    targets = tokens[:, 1:].masked_fill(~scored, _NOT_SCORED)
    nats = functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=_NOT_SCORED, reduction="none"
    )
    return -nats.view(targets.shape).sum(1)
