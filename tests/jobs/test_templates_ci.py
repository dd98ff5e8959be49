"""Smoke runs of the other templates, and of other ways of the three: they run in CI (`make templates`)."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distrai.jobs.data.dividing import prepare
from distrai.jobs.running.store import JobFolder
from helpers.small_disks import on_small_disk
from helpers.template_runs import Ran, Toys, check_model, gained, rewards_right, says
from helpers.toy_models import KIND, decisions, make_toy_model, write_jsonl

Run = Callable[..., Ran]
FULL_DISK = """
import os, sys
from pathlib import Path
from distrai.cli.main import main

small, model, data = sys.argv[1:]
os.chdir(small)
given = [f"model={model}", f"data={data}", "learning_rate=2e-3", "save_steps=5"]
command = ["jobs", "run", "sft-full", "--preset", "smoke", *(f"--set={value}" for value in given)]
ballast = Path("ballast")
ballast.write_bytes(bytes(13 << 20))  # room for one checkpoint, and for a part of the next
for _ in range(2):
    print("CODE", main([*command, "--no-record", "--out", "job", "--json"]), flush=True)
    whole = Path("job/out/checkpoints").glob("checkpoint-*/trainer_state.json")
    print("KEPT", [path.parent.name.removeprefix("checkpoint-") for path in whole], flush=True)
    ballast.unlink(missing_ok=True)
"""
pytestmark = [pytest.mark.ci, pytest.mark.processes]


def test_distillation_learns_from_the_data_too(smoke: Run, toys: Toys) -> None:
    values = {"student": toys.model, "teacher": toys.teacher, "data": toys.chats, "teacher_4bit": True}
    ran = smoke("distill", **values, method="lora", learning_rate=5e-3)
    check_model(ran)
    assert gained(ran) > 0


def test_another_tokenizer_is_refused_with_a_sentence(smoke: Run, toys: Toys, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    other = make_toy_model(tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["<another>"])
    tokenizer.save_pretrained(other)
    ran = smoke("distill", student=toys.model, teacher=str(other), data=toys.chats)
    assert ran.result.status == "failed"
    assert "different tokenizers" in ran.result.why
    assert "distill-sft" in ran.result.why


def test_a_model_that_is_not_there_is_a_sentence(smoke: Run, toys: Toys) -> None:
    ran = smoke("sft-qlora", model="toyy", data=toys.chats)
    assert ran.result.status == "failed"
    assert ran.result.why == (
        "the script ended with exit code 1: toyy is no folder with a model and tokenizer, and no such model can be "
        "had from the hub: check the name, and the network"
    )


def test_a_model_that_is_a_pickle_is_not_loaded(smoke: Run, toys: Toys, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    model = tmp_path / "pickled"
    shutil.copytree(toys.model, model)
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    ran = smoke("sft-qlora", model=str(model), data=toys.chats)
    assert ran.result.status == "failed"
    assert "safetensors" in ran.result.why, ran.result.why


def test_a_student_learns_from_what_its_teacher_writes(smoke: Run, toys: Toys) -> None:
    ran = smoke("distill-sft", student=toys.model, teacher=toys.teacher, data=toys.chats, learning_rate=2e-3)
    check_model(ran)
    assert gained(ran) > 0
    rows = [
        json.loads(line)["messages"]
        for line in (ran.job.out / "train_answers.jsonl").read_text().splitlines()
    ]
    assert 0 < len(rows) <= 40
    assert all(
        row[0]["role"] == "user" and row[1]["role"] == "assistant" and row[1]["content"] for row in rows
    )


def test_a_teacher_that_was_stopped_answers_the_rest(smoke: Run, toys: Toys) -> None:
    values = {"student": toys.model, "teacher": toys.teacher, "data": toys.chats, "samples": 2}

    def stop(job: JobFolder, event: dict[str, Any]) -> None:
        if "answered" in event.get("values", {}):
            job.stop_file.touch()

    first = smoke("distill-sft", **values, watch=stop)
    assert first.result.status == "stopped", first.log
    part = first.job.out / "train_answers.part"
    begun = part.read_bytes()
    assert 0 < len(begun.splitlines()) < 80
    part.write_bytes(begun + b'{"question": 7, "mess')  # killed while it wrote
    second = smoke("distill-sft", **values)
    check_model(second)
    answers = (first.job.out / "train_answers.jsonl").read_bytes()
    assert answers.startswith(begun)
    numbers = [json.loads(line)["question"] for line in answers.splitlines()]
    assert numbers == sorted(numbers)
    assert max(numbers.count(number) for number in numbers) == 2


def test_a_rule_raises_its_reward(smoke: Run, undecided: str, tmp_path: Path) -> None:
    rows = [{"messages": [*row["input"]["messages"], *row["preferred_output"]]} for row in decisions(60)]
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    values = {"max_steps": 30, "batch": 8, "answers": 8, "answer_tokens": 10, "held_out_max": 8}
    ran = smoke("grpo", model=undecided, data=str(data), rule="contains", learning_rate=1e-3, **values)
    check_model(ran)
    assert ran.metrics["eval_reward_before"] < 0.5
    assert ran.metrics["eval_reward_after"] > ran.metrics["eval_reward_before"] + 0.3
    assert says(ran.result.model_path, KIND) > says(undecided, KIND) + 0.2
    assert ran.metrics["tokens"] > 1000


def test_a_reward_model_tells_answers_apart_and_its_policy_scores_higher(
    smoke: Run, undecided: str, tmp_path: Path
) -> None:
    data = write_jsonl(tmp_path / "data.jsonl", decisions(100))
    values = {"max_steps": 20, "batch": 8, "answer_tokens": 10, "held_out_max": 8}
    rates = {"learning_rate": 1e-3, "reward_learning_rate": 5e-3}
    ran = smoke("rlhf", model=undecided, data=str(data), **values, **rates)
    check_model(ran)
    assert ran.metrics["reward_accuracy_after"] == 1
    assert ran.metrics["reward_loss_after"] < ran.metrics["reward_loss_before"] - 0.2
    assert rewards_right(str(ran.job.out / "reward_model"), decisions(8, seed=99))
    assert ran.metrics["eval_reward_after"] > ran.metrics["eval_reward_before"] + 1
    assert says(ran.result.model_path, KIND) > says(undecided, KIND) + 0.2


@pytest.mark.parametrize("start", ["new", "old"])
def test_pretraining_learns_a_text(smoke: Run, toys: Toys, tmp_path: Path, start: str) -> None:
    from transformers import AutoTokenizer

    data = toys.prose if start == "new" else prepare(toys.prose, tmp_path / "prepared", held_out=0.1).folder
    ran = smoke("pretrain", data=str(data), model=toys.model if start == "old" else "", learning_rate=5e-3)
    check_model(ran)
    assert gained(ran) > 1
    if start == "new":
        used, kept = (AutoTokenizer.from_pretrained(ran.job.out / name) for name in ("tokenizer", "model"))
        text = "x = 12345\n\n\tif e\u0301 == 'é':  # don't   stop \n"
        assert kept(text)["input_ids"] == used(text)["input_ids"]
        assert kept.decode(kept(text)["input_ids"]) == text


def test_without_unsloth_peft_does_it_and_says_why(smoke: Run, toys: Toys) -> None:
    """Unsloth changes what is imported after it, and without a GPU it cannot be imported: so this one tells."""
    text = """import sys
before = sorted({"torch", "transformers", "trl", "peft", "datasets"} & set(sys.modules))
raise NotImplementedError(f"no GPU; imported before it: {before}")
"""
    ran = smoke(
        "unsloth-qlora", model=toys.model, data=toys.chats, learning_rate=5e-3, beside={"unsloth.py": text}
    )
    check_model(ran)
    assert gained(ran) > 0.2
    why = "NotImplementedError: no GPU; imported before it: []"
    assert f"engine: peft, since unsloth does not work here ({why})" in [
        event.get("text") for event in ran.events
    ]


def test_unsloth_or_nothing_is_a_sentence_where_it_is_not(smoke: Run, toys: Toys) -> None:
    ran = smoke("unsloth-qlora", model=toys.model, data=toys.chats, engine="unsloth")
    assert ran.result.status == "failed"
    assert "unsloth does not work here (ModuleNotFoundError: No module named 'unsloth')" in ran.result.why
    assert "say engine=auto to take peft then" in ran.result.why
    assert "say engine=auto to take peft then" in ran.log.splitlines()[-1], (
        "it fails before anything is loaded"
    )


def test_fine_tuning_an_adapter_on_prepared_data_without_4_bits(
    smoke: Run, toys: Toys, tmp_path: Path
) -> None:
    folder = prepare(toys.chats, tmp_path / "prepared", held_out=0.1).folder
    values = {"method": "lora", "loss_on": "all", "learning_rate": 2e-3}
    ran = smoke("sft-qlora", model=toys.model, data=str(folder), **values)
    check_model(ran)
    assert gained(ran) > 0.2
    assert (ran.job.path / "data" / "heldout.jsonl").read_bytes() == (folder / "heldout.jsonl").read_bytes()


def test_fine_tuning_all_parameters_of_a_model_that_never_talked_on_a_split_of_a_data_set(
    smoke: Run, toys: Toys, tmp_path: Path
) -> None:
    model, data = tmp_path / "base", tmp_path / "set"
    shutil.copytree(toys.model, model)
    (model / "chat_template.jinja").unlink()
    data.mkdir()
    write_jsonl(data / "train.jsonl", [{"question": "no", "answer": "no"}])
    write_jsonl(data / "test.jsonl", [{"question": "Where is Ada?", "answer": "At home."}] * 40)
    with (data / "test.jsonl").open("a") as file:
        file.write('{"question": "Where is Bruno?", "answer": "At home."}\n')
    ran = smoke("sft-full", model=str(model), data=f"hf:{data}?split=test", learning_rate=2e-3)
    check_model(ran)
    assert gained(ran) > 0.2
    rows = (ran.job.path / "data" / "train.jsonl").read_text().splitlines()
    assert all("At home." in row for row in rows)
    assert any("has no chat template" in event.get("text", "") for event in ran.events)
    assert "assistant: " in (Path(ran.result.model_path) / "chat_template.jinja").read_text()


def test_a_job_that_was_stopped_goes_on_from_its_newest_whole_checkpoint(smoke: Run, toys: Toys) -> None:
    values = {"model": toys.model, "data": toys.chats, "max_steps": 30, "learning_rate": 5e-3}

    def stop(job: JobFolder, event: dict[str, Any]) -> None:
        if event.get("step") == 5:
            job.stop_file.touch()

    first = smoke("sft-qlora", **values, watch=stop)
    assert first.result.status == "stopped", first.log
    assert first.result.model_path, "what was learned so far is saved"
    checkpoints = first.job.out / "checkpoints"
    (kept,) = checkpoints.glob("checkpoint-*")
    reached = int(kept.name.removeprefix("checkpoint-"))
    assert 5 <= reached < 30
    (checkpoints / "checkpoint-29").mkdir()  # half-written
    second = smoke("sft-qlora", **values)
    check_model(second)
    steps = [event["step"] for event in second.events if "loss" in event.get("values", {})]
    assert steps[0] > reached
    assert steps[-1] == 30
    assert "eval_loss_after" not in first.metrics, "whoever stops a job does not want to wait"
    assert second.metrics["eval_loss_before"] == first.metrics["eval_loss_before"]
    assert gained(second) > 0.2


def test_a_job_that_was_killed_makes_the_same_model(smoke: Run, toys: Toys) -> None:
    """Weights, optimiser, schedule, order of the data and what was drawn: all of it goes on."""
    values = {
        "model": toys.model,
        "data": toys.chats,
        "save_steps": 4,
        "learning_rate": 5e-3,
        "lora_dropout": 0.1,
    }
    undisturbed = smoke("sft-qlora", "undisturbed", **values)
    check_model(undisturbed)

    def kill(job: JobFolder, event: dict[str, Any]) -> None:
        if event.get("step") == 10:
            os.kill(json.loads((job.attempt(1) / "running.json").read_text())["pid"], signal.SIGKILL)

    killed = smoke("sft-qlora", "killed", **values, watch=kill)
    assert killed.result.status == "failed"
    assert "(SIGKILL)" in killed.result.why
    goes_on = smoke("sft-qlora", "killed", **values)
    check_model(goes_on)
    assert [event["text"] for event in goes_on.events if "training on from" in str(event.get("text"))]
    first, second = (Path(ran.result.model_path) / "model.safetensors" for ran in (undisturbed, goes_on))
    assert first.read_bytes() == second.read_bytes()
    for name in ("eval_loss_before", "eval_loss_after", "tokens"):
        assert goes_on.metrics[name] == undisturbed.metrics[name]


def test_a_disk_that_is_full_while_a_checkpoint_is_written_loses_nothing(toys: Toys, tmp_path: Path) -> None:
    done = on_small_disk(FULL_DISK, tmp_path / "small", "20m", toys.model, toys.chats)
    told = [line for line in done.stdout.splitlines() if line.startswith(("CODE", "KEPT"))]
    assert told == ["CODE 1", "KEPT ['5']", "CODE 0", "KEPT ['15']"], (
        done.stdout[-2000:] + done.stderr[-2000:]
    )
    (sentence,) = done.stderr.splitlines()
    assert "make room" in sentence
    result = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    assert result["status"] == "done"
    assert result["metrics"]["eval_loss_after"] < result["metrics"]["eval_loss_before"] - 0.2
