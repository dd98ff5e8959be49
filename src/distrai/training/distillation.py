"""Distillation: a student learns the distributions of a frozen teacher (Hinton et al. 2015) and the text itself.

The loss is ``(1 - weight) * cross-entropy + weight * T**2 * KL(teacher || student)``, both softened by the temperature
T in the divergence and not in the cross-entropy; ``T**2`` keeps the size of the gradients when T is changed.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from distrai.training.errors import TeacherDiffers
from distrai.training.scoring import ObjectiveOutput, predictions
from distrai.training.tokenizer import Tokenizer, load_tokenizer


class Distillation:
    """Mean over scored tokens, in nats. Metrics: ``cross_entropy``, and ``divergence`` (without ``T**2``)."""

    name = "distill"

    def __init__(self, teacher: nn.Module, temperature: float, weight: float, rows: bool = False) -> None:
        """``teacher`` stays on its device and in its precision, whatever the student trains in."""
        assert temperature > 0 and 0 <= weight <= 1
        self._teacher = teacher.eval().requires_grad_(False)
        self._temperature, self._weight, self._rows = temperature, weight, rows

    def __call__(self, model: nn.Module, batch: Tensor) -> ObjectiveOutput:
        """See ``Objective``. Raises TeacherDiffers."""
        wanted = self._taught(batch)
        logits, targets = predictions(model, batch, self._rows)
        if logits.shape != wanted.shape:
            raise TeacherDiffers(_sizes(logits.shape[-1], wanted.shape[-1]))
        cross = functional.cross_entropy(logits.float(), targets)
        softened = functional.log_softmax(logits.float() / self._temperature, -1)
        divergence = functional.kl_div(softened, wanted, reduction="batchmean", log_target=True)
        loss = (1 - self._weight) * cross + self._weight * self._temperature**2 * divergence
        metrics = {"cross_entropy": cross.detach(), "divergence": divergence.detach()}
        return ObjectiveOutput(loss, targets.numel(), metrics)

    def _taught(self, batch: Tensor) -> Tensor:
        """The teacher's softened log-probabilities at the scored entries, on the student's device, in fp32."""
        place = next(self._teacher.parameters()).device
        with torch.no_grad(), torch.autocast(place.type, enabled=False):
            logits, _ = predictions(self._teacher, batch.to(place), self._rows)
            return functional.log_softmax(logits.float() / self._temperature, -1).to(batch.device)


def check_teacher(student: nn.Module, teacher: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    """Raise TeacherDiffers unless student and teacher number their tokens alike.

    ``tokenizer`` is that of the data, ``folder`` the teacher's; one without ``tokenizer.json`` is believed.
    """
    sizes = [int(_config(model).vocab_size) for model in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise TeacherDiffers(_sizes(*sizes))
    if not (folder / "tokenizer.json").is_file():
        return
    ours, theirs = (
        each.to_fast().get_vocab(with_added_tokens=True) for each in (tokenizer, load_tokenizer(str(folder)))
    )
    if ours != theirs:
        odd = min(token for token, at in (ours.items() ^ theirs.items()))
        raise TeacherDiffers(
            f"the teacher has another tokenizer than the data ({odd[:40]!r} is not the same token in both); set "
            f"tokenizer in [data] to the teacher's, and train a student with that vocabulary"
        )


def _config(model: nn.Module) -> Any:
    return model.config


def _sizes(student: int, teacher: int) -> str:
    return (
        f"the student has {student} tokens in its vocabulary and the teacher {teacher}; distillation compares "
        f"them token by token, so choose a teacher with the student's tokenizer"
    )
