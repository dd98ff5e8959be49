"""Our losses are those of trl, whose code has nothing in common with ours (and pads with a mask where we need none)."""

import pytest
import torch

from distrai.training.data.layouts import UNSCORED
from distrai.training.distillation import Distillation
from distrai.training.preference import DirectPreference
from helpers.toy_models import make_toy_model, preferences, toy_tokenizer

pytestmark = [pytest.mark.ci, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def models(tmp_path):
    from transformers import AutoModelForCausalLM

    folders = (
        make_toy_model(tmp_path / str(seed), hidden=64, layers=1, seed=seed, spread=0.5) for seed in (1, 2)
    )
    return [AutoModelForCausalLM.from_pretrained(folder) for folder in folders]


def entries(ids, scored):
    return torch.where(scored.bool(), ids, ids | UNSCORED)


def test_preferences_cost_what_they_cost_in_trl(models, tmp_path):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model, reference = models
    rows = [
        {
            "prompt": row["input"]["messages"],
            "chosen": row["preferred_output"],
            "rejected": row["non_preferred_output"],
        }
        for row in preferences(4)
    ]
    settings = DPOConfig(
        output_dir=str(tmp_path / "out"), beta=0.3, use_cpu=True, bf16=False, report_to=[],
        per_device_train_batch_size=4, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = DPOTrainer(
        model,
        reference,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=toy_tokenizer(),
    )
    inputs = next(iter(trainer.get_train_dataloader()))
    theirs = trainer.compute_loss(trainer.model, dict(inputs))
    lines = entries(inputs["input_ids"], inputs["completion_mask"])
    ours = DirectPreference(0.3, reference)(model, torch.cat(lines.chunk(2), dim=1))
    assert ours.loss.item() == pytest.approx(theirs.item(), rel=1e-4) and ours.scored == 4


def test_distributions_are_compared_as_in_trl(models):
    from trl.experimental.gkd import GKDTrainer

    student, teacher = models
    ids = torch.randint(0, 256, (3, 20), generator=torch.Generator().manual_seed(1))
    scored = torch.rand(3, 20, generator=torch.Generator().manual_seed(2)) < 0.5
    ours = Distillation(teacher, 2.5, 0.5, rows=True)(student, entries(ids, scored))
    said, taught = (model(input_ids=ids[:, :-1]).logits for model in models)
    labels = torch.where(scored, ids, -100)[:, 1:]
    theirs = GKDTrainer.generalized_jsd_loss(said, taught, labels, beta=0, temperature=2.5)
    assert ours.metrics["divergence"].item() == pytest.approx(theirs.item(), rel=1e-5)
