"""The shipped templates: their forms, and smoke runs of three on toy models (the rest: test_templates_ci.py)."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from distrai.jobs.running.packages import missing
from helpers.template_runs import (
    TEMPLATES,
    Ran,
    Toys,
    answer_loss,
    check_merge,
    check_model,
    distance,
    preference,
    writes,
)
from helpers.toy_models import chats

Run = Callable[..., Ran]
TRAINING = sorted(set(TEMPLATES) - {"evaluate"})
"""All but the one that judges, which has an environment of its own."""
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_these_are_shipped() -> None:
    names = "blank distill distill-sft dpo evaluate grpo pretrain rlhf sft-full sft-qlora unsloth-qlora"
    assert sorted(TEMPLATES) == names.split()


@pytest.mark.parametrize("name", TRAINING)
def test_a_form_is_complete(name: str) -> None:
    header = TEMPLATES[name].header()
    assert header.title
    assert header.kind
    assert all(parameter.help for parameter in header.parameters.values())
    needed = {key: "x" for key, parameter in header.parameters.items() if parameter.is_required}
    values = header.values("smoke", needed)
    assert values.get("max_steps", values.get("steps")) == 15
    assert values.get("held_out_max", 0) <= 16
    if "learning_rate" in values:
        assert header.values("", needed)["learning_rate"] == values["learning_rate"]


@pytest.mark.parametrize("name", TRAINING)
def test_all_share_the_environment_of_the_project(name: str) -> None:
    header = TEMPLATES[name].header()
    ours = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["jobs"]]
    allowed = {(item.name, item.specifier) for item in map(Requirement, ours)}
    assert {(item.name, item.specifier) for item in map(Requirement, header.dependencies)} <= allowed
    assert not missing(header)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_no_template_runs_code_of_a_model(name: str) -> None:
    text = TEMPLATES[name].data.decode()
    assert "trust_remote_code" not in text.replace("trust_remote_code=False", "")
    assert "pickle" not in text
    assert "torch.load" not in text
    assert len(text.splitlines()) < 250


def test_the_blank_one_runs(smoke: Run) -> None:
    ran = smoke("blank", note="ours")
    assert ran.result.status == "done", ran.log
    assert json.loads((ran.job.out / "result.json").read_text()) == {"note": "ours", "attempt": 1}
    assert [item["path"] for item in ran.result.artifacts] == ["result.json"]
    assert ran.metrics == {"loss": 1 / 15}


@pytest.mark.processes
def test_qlora_learns_and_its_merged_model_is_a_plain_one(smoke: Run, toys: Toys) -> None:
    ran = smoke("sft-qlora", model=toys.model, data=toys.chats, learning_rate=5e-3)
    check_model(ran)
    assert ran.metrics["eval_loss_after"] < ran.metrics["eval_loss_before"] - 0.2
    assert not [name for name in ran.metrics if "runtime" in name or "preparation" in name]
    model = ran.result.model_path
    fresh = chats(8, seed=99)
    before, after = answer_loss(toys.model, fresh), answer_loss(model, fresh)
    assert after < before - 0.2
    assert after == pytest.approx(ran.metrics["eval_loss_after"], abs=0.3)
    assert writes(model)
    check_merge(Path(toys.model), ran.job.out / "adapter", Path(model))


@pytest.mark.processes
def test_dpo_prefers_what_people_prefer(smoke: Run, toys: Toys) -> None:
    ran = smoke("dpo", model=toys.model, data=toys.preferences, learning_rate=2e-3)
    check_model(ran)
    assert ran.metrics["eval_loss_before"] == pytest.approx(0.6931, abs=1e-3)
    assert ran.metrics["eval_loss_after"] < 0.6
    assert ran.metrics["eval_accuracy_after"] > 0.75
    assert preference(ran.result.model_path) > preference(toys.model) + 0.2


@pytest.mark.processes
def test_a_distilled_student_comes_nearer_to_its_teacher(smoke: Run, toys: Toys) -> None:
    ran = smoke(
        "distill", student=toys.model, teacher=toys.teacher, data=toys.chats, share=1.0, learning_rate=2e-3
    )
    check_model(ran)
    assert ran.metrics["eval_kl_after"] < 0.9 * ran.metrics["eval_kl_before"]
    before = distance(toys.teacher, toys.model)
    assert distance(toys.teacher, ran.result.model_path) < 0.9 * before
