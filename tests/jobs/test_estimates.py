"""What a training takes is said before it begins, for every kind, with what of it is a guess and what is missing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from distrai.jobs.data.uses import KINDS
from distrai.jobs.estimates.costing import cost_of, cost_text, look_at_job
from distrai.jobs.estimates.estimate import SETUP_HOURS, Hardware, Work, Writing, estimate
from distrai.jobs.estimates.hardware import Method, NotEstimable, gpu_of, memory_gb
from distrai.jobs.estimates.model_size import size_of, size_of_new
from distrai.jobs.forms.library import shipped
from distrai.jobs.running.session import Unclear, hardware

H100 = Hardware("H100_80GB", price_per_hour=2_500_000)
TEMPLATES = {item.name: item.header() for item in shipped()}
TRAINING = sorted(name for name, header in TEMPLATES.items() if header.kind in KINDS)


def told(examples: int = 10_000, tokens: int = 5_000_000, **more: Any) -> dict[str, Any]:
    """What ``look_at`` says of data, in short."""
    counts = {"total": tokens, "kept": tokens, "longest": 900, "counted": examples, "exact": True}
    data = {"examples": examples, "tokens": counts, "counted_in": "tokens", "part": False}
    return {**data, "train": None, "held_out": None, **more}


def cost(name: str, on: Hardware = H100, data: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    """What a shipped template takes with its own defaults and these values."""
    header = TEMPLATES[name]
    models = {key: "x-7B" for key in ("model", "student", "teacher") if key in header.parameters}
    needed = {key: "x" for key, item in header.parameters.items() if item.is_required}
    return cost_of(header.kind, header.values("", {**needed, **models, **values}), data or told(), on)


@pytest.mark.parametrize("name", TRAINING)
def test_every_template_is_estimated(name: str) -> None:
    found = cost(name)
    assert found["missing"] == []
    assert SETUP_HOURS < found["hours_low"] < found["hours_high"] < 1000
    assert found["cost_low"] == round(found["hours_low"] * 2_500_000) < found["cost_high"]
    assert 0 < found["memory_gb_low"] < found["memory_gb_high"]
    more = cost(name, data=told(40_000, 20_000_000))
    assert more["hours_low"] - SETUP_HOURS > 2 * (found["hours_low"] - SETUP_HOURS), "more data takes longer"
    assert cost(name, max_steps=3)["hours_high"] < found["hours_high"], "a few steps are soon done"
    slow = cost(name, Hardware("T4"))
    assert slow["hours_low"] > found["hours_low"] and slow["cost_low"] is None
    sure = cost(name, Hardware(tokens_per_second=1e4, price_per_hour=1))
    assert sure["measured"] and sure["fits"] is None
    text = cost_text(found)
    assert "$" in text and "hours" in text and "GB of GPU memory" in text
    assert "a guess: 7 billion parameters, read from the name x-7B" in text or name == "pretrain"


def test_what_costs_more_is_estimated_so() -> None:
    hours = {name: cost(name)["hours_low"] for name in TRAINING}
    assert hours["sft-qlora"] < hours["dpo"] < hours["grpo"] < hours["rlhf"] * 10
    assert hours["sft-qlora"] < hours["sft-full"] and hours["distill-sft"] > hours["sft-full"]
    memory = {name: cost(name)["memory_gb_low"] for name in TRAINING}
    assert memory["sft-qlora"] == 5.0 and memory["sft-full"] == 112.0
    assert cost("sft-qlora", method="lora")["memory_gb_low"] == 19.0
    assert memory["distill"] > cost("distill", teacher="x-1B")["memory_gb_low"]
    assert cost("sft-full", Hardware("RTX4090"))["fits"] == "no"
    assert "take a larger GPU" in cost_text(cost("sft-full", Hardware("RTX4090")))
    two = cost("sft-qlora", Hardware("H100", gpus=2))
    assert (
        two["hours_low"] < cost("sft-qlora")["hours_low"]
        and two["hours_high"] == cost("sft-qlora")["hours_high"]
    )


def test_what_is_missing_is_said() -> None:
    values = TEMPLATES["sft-qlora"].values("", {"model": "somebody/unnamed", "data": "x"})
    found = cost_of("sft", values, told(), H100)
    assert found["hours_low"] is None and "--parameters 7e9" in found["missing"][0]
    assert cost_of("sft", values, told(), H100, 7_000_000_000)["hours_low"] is not None
    assert "--set data" in cost_of("sft", values, None, H100, 7)["missing"][0]
    assert "teacher" in cost("distill", teacher="unnamed")["missing"][0]
    unknown = cost("sft-qlora", Hardware("Abacus 3000"))
    assert "smoke preset" in unknown["missing"][0] and unknown["memory_gb_low"] == 5.0
    assert "not known" in cost_text(unknown)
    bytes_only = cost("sft-qlora", data=told(counted_in="bytes"))
    assert bytes_only["tokens"][0] * 1.5 < bytes_only["tokens"][1]
    assert any("3 to 5 bytes" in guess for guess in bytes_only["guesses"])
    assert look_at_job("custom", {"data": "x"}, H100) == (None, None)


def test_work_and_writing_follow_from_what_a_gpu_can_do() -> None:
    gpu = gpu_of("H100")
    assert Work((989e12, 989e12), 1.0).seconds(gpu) == (pytest.approx(2.5), pytest.approx(1 / 0.12))
    small, large = (Writing(10, 1, (100, 100), size, 32).seconds(gpu) for size in (1_000_000, 70_000_000_000))
    assert small == (pytest.approx(9.6), pytest.approx(38.4)), "however small, each layer takes its time"
    assert large[0] == pytest.approx(10 * 100 * 140e9 / (3350e9 * 0.6))
    measured = Hardware(tokens_per_second=1000, price_per_hour=10**6)
    known = estimate([Work((1, 1), 1)], (3_600_000, 7_200_000), measured)
    assert (known.hours_low, known.hours_high) == (pytest.approx(1.2), pytest.approx(2.2))
    assert (known.cost_low, known.cost_high, known.measured) == (1_200_000, 2_200_000, True)
    with pytest.raises(NotEstimable):
        estimate([], (1, 1), H100)


def test_memory_and_speeds_follow_the_tables() -> None:
    assert memory_gb(8_000_000_000, Method.LORA) == 22.0 and memory_gb(1_000_000_000, Method.FULL) == 16.0
    assert 6.0 < memory_gb(10_000_000_000, Method.QLORA) < 8.5 < memory_gb(100_000_000_000, Method.QLORA)
    assert gpu_of("NVIDIA A100-SXM4-80GB").memory_gb == 80 and gpu_of("L40S_48GB").tflops == 362
    assert gpu_of("RTX 4090").tflops == 165 and gpu_of("A40").tflops == 150


def test_the_size_of_a_model_is_counted_or_read_from_its_name(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.int8)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2, "vocab_size": 9}))
    size = size_of(str(tmp_path))
    assert size is not None and (size.parameters, size.depth, size.vocabulary, size.is_guess) == (
        17,
        2,
        9,
        False,
    )
    for name, count in (
        ("o/Qwen2.5-7B-Instruct", 7e9),
        ("Llama-3.2-1B", 1e9),
        ("SmolLM-135M", 135e6),
        ("a/b-1.5B", 1.5e9),
    ):
        read = size_of(name)
        assert read is not None and read.is_guess and read.parameters == count
    for name in ("", "gpt2", "o/phi-4", "v2", "B7", str(tmp_path / "none")):
        assert size_of(name) is None
    new = size_of_new({"hidden": 256, "layers": 6, "vocabulary": 8192})
    assert new is not None and new.parameters == 8192 * 256 + 6 * 16 * 256 * 256
    (tmp_path / "config.json").write_text("[" * 100_000)
    damaged = size_of(str(tmp_path))
    assert damaged is not None and damaged.vocabulary == 0


def test_hardware_as_users_say_it() -> None:
    assert hardware("", 1, 0) is None
    found = hardware("H100", 2, 2.5)
    assert found is not None and found.price_per_hour == 5_000_000
    for wrong in (
        ("", 1, 2.5),
        ("H100", 0, 0),
        ("H100", 1, -1),
        ("H100", 1, float("nan")),
        ("H100", 1, 0, float("inf")),
    ):
        with pytest.raises(Unclear):
            hardware(*wrong)
