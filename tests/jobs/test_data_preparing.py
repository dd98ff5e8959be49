"""Data is split, counted and priced before anything is spent."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.jobs.data import BadData, check_data, choose_held_out, prepare
from distrai.jobs.data_check import Hardware, data_text, inspect_data
from distrai.training.data.formats import Format, read_value
from distrai.jobs.data_sources import BadSource
from distrai.jobs.estimate import Method, NotEstimable, estimate, memory_gb, peak_of
from distrai.jobs.tokens import TokenSum, count_bytes
from helpers.data_lines import chat, write


def test_prepared_data_is_split_by_prompt_whatever_its_order(tmp_path: Path) -> None:
    lines = [chat(f"q{number % 30}", f"a{number}") for number in range(100)]
    one = prepare(write(tmp_path / "a.jsonl", *lines), tmp_path / "one", held_out=0.2)
    two = prepare(write(tmp_path / "b.jsonl", *reversed(lines)), tmp_path / "two", held_out=0.2)
    assert one.train + one.held_out == 100 and 20 <= one.held_out <= 24
    sides = [[(tmp_path / name / side).read_bytes().splitlines() for side in ("train.jsonl", "heldout.jsonl")]
             for name in ("one", "two")]  # fmt: skip
    assert [sorted(side) for side in sides[0]] == [sorted(side) for side in sides[1]]
    asked = [{json.loads(line)["messages"][0]["content"] for line in side} for side in sides[0]]
    assert asked[0].isdisjoint(asked[1])
    other = prepare(str(tmp_path / "a.jsonl"), tmp_path / "three", held_out=0.2, seed=1)
    assert (tmp_path / "three" / "heldout.jsonl").read_bytes() != (
        tmp_path / "one" / "heldout.jsonl"
    ).read_bytes()
    told = json.loads((tmp_path / "one" / "data.json").read_text())
    assert told["hash"] == one.hash == other.hash == check_data(str(tmp_path / "a.jsonl")).hash != two.hash
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "data.json",
        "heldout.jsonl",
        "train.jsonl",
    ]


def test_bad_data_leaves_what_was_there(tmp_path: Path) -> None:
    good = write(tmp_path / "a.jsonl", *[chat(f"q{number}") for number in range(10)])
    first = prepare(good, tmp_path / "out")
    assert prepare(good, tmp_path / "out", seed=3).train == first.train  # again, over what it wrote itself
    before = (tmp_path / "out" / "train.jsonl").read_bytes()
    with pytest.raises(BadData, match="line 2"):
        prepare(write(tmp_path / "b.jsonl", chat("a"), "{"), tmp_path / "out")
    assert (tmp_path / "out" / "train.jsonl").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("x")
    with pytest.raises(BadData, match="other files in it"):
        prepare(good, tmp_path / "mine")
    with pytest.raises(BadSource, match="cannot be written"):
        prepare(good, tmp_path / "a.jsonl")
    with pytest.raises(BadData, match=r"not within 0\.\.1"):
        prepare(good, tmp_path / "never", held_out=1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl", "mine", "out"]


def test_a_limit_takes_the_first_examples(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", *[chat(f"q{number}") for number in range(10)], "{")
    assert prepare(source, tmp_path / "out", limit=4).train == 3
    assert check_data(source, limit=10).ok


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_something_is_held_out_and_something_is_left(keys: list[int], part: float) -> None:
    aside = choose_held_out(keys, part)
    assert aside < set(keys)
    assert bool(aside) == (len(set(keys)) > 1)
    if aside and len(aside) < len(set(keys)) - 1:
        held = [key for key in keys if key in aside]
        assert len(held) >= part * len(keys) > len([key for key in held if key != max(aside)])


def test_tokens_of_large_data_are_reckoned_from_its_bytes() -> None:
    example = read_value({"text": "x" * 10}, Format.TEXT, 1)
    total = TokenSum(count_bytes, longest_allowed=9, counted_max=20)
    for _ in range(50):
        total.add(example, 20)
    counts = total.counts()
    assert (counts.total, counts.exact, counts.counted, counts.longest, counts.too_long) == (
        500,
        False,
        20,
        10,
        20,
    )
    assert TokenSum(count_bytes).counts().total == 0


def test_data_of_a_job_is_told_with_what_it_will_take(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.jsonl", *[chat(f"q{number}") for number in range(10)], chat("q1"), chat("x" * 99)
    )
    values = {"data": source, "epochs": 2.0, "context": 50, "method": "qlora"}
    told = inspect_data("sft", values, 7_000_000_000, Hardware("H100", price_per_hour=2_000_000))
    assert told["ok"] and told["estimate"]["memory_gb"] == 5.0 and told["tokens"]["too_long"] == 1
    text = data_text(told)
    assert (
        "12 chat examples" in text and "1 are there more than once" in text and "1 are longer than 50" in text
    )
    assert "GB of GPU memory" in text and "$0.40 to $0.40" in text
    with pytest.raises(BadData, match="is chat data, and dpo needs preference"):
        inspect_data("dpo", values)
    assert "smoke preset" in inspect_data("grpo", values, 1, Hardware("H100"))["note"]
    assert inspect_data("sft", values)["estimate"] is None
    write(tmp_path / "a.jsonl", *["{"] * 30)
    told = inspect_data("sft", values)
    assert (
        not told["ok"]
        and "  line 1: no JSON" in data_text(told)
        and "and 10 bad lines more" in data_text(told)
    )
    prepared = prepare(
        write(tmp_path / "c.jsonl", *[chat(f"q{number}") for number in range(10)]), tmp_path / "ready"
    )
    assert inspect_data("sft", {"data": str(tmp_path / "ready")})["examples"] == prepared.train == 9
    answers = {"data": write(tmp_path / "d.jsonl", {"prompt": "1 + 1", "answer": 2})}
    assert inspect_data("grpo", answers)["ok"] and not inspect_data("sft", answers)["ok"]
    pairs = {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert inspect_data("dpo", {"data": write(tmp_path / "b.jsonl", pairs)})["format"] == "preference"


def test_an_estimate_is_a_range_and_a_measured_speed_makes_it_sharp() -> None:
    known = {"tokens": 3_600_000, "epochs": 2.0, "parameters": 7_000_000_000, "method": Method.QLORA}
    guess = estimate(**known, gpu="H100_80GB", price_per_hour=2_000_000)
    assert guess.hours_low < guess.hours_high and not guess.measured and guess.cost_low is not None
    assert guess.cost_low == round(guess.hours_low * 2_000_000) and guess.memory_gb == 5.0
    sure = estimate(**known, tokens_per_second=1000, price_per_hour=2_000_000)
    assert (
        sure.measured
        and sure.hours_low == sure.hours_high == pytest.approx(2.2)
        and sure.cost_low == 4_400_000
    )
    assert estimate(**known, tokens_per_second=1000).cost_low is None
    with pytest.raises(NotEstimable, match="smoke preset"):
        estimate(**known, gpu="Abacus 3000")
    with pytest.raises(NotEstimable):
        estimate(**{**known, "tokens": 0}, gpu="H100")


def test_memory_and_speeds_follow_the_tables() -> None:
    assert memory_gb(8_000_000_000, Method.LORA) == 22.0 and memory_gb(1_000_000_000, Method.FULL) == 16.0
    assert 6.0 < memory_gb(10_000_000_000, Method.QLORA) < 8.5 < memory_gb(100_000_000_000, Method.QLORA)
    assert (
        peak_of("NVIDIA A100-SXM4-80GB") == 312 and peak_of("L40S_48GB") == 362 and peak_of("RTX 4090") == 165
    )
