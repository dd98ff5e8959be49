"""Data is split, counted and priced before anything is spent."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrai.jobs.data.check import data_text, inspect_data, tokens_range
from distrai.jobs.data.dividing import choose_held_out, prepare
from distrai.jobs.data.examples import BadData, check_data
from distrai.jobs.data.prechecks import check_job_data, prepare_job_data
from distrai.jobs.data.prepared import data_of, read_prepared
from distrai.jobs.data.sources import BadSource
from distrai.jobs.data.tokens import TokenSum, count_bytes
from distrai.jobs.data.uses import use_of
from distrai.jobs.running.store import JobFolder
from distrai.training.data.formats import Format, read_value
from helpers.data_lines import chat, preference, write


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


def test_what_is_cut_is_counted_for_each_answer(tmp_path: Path) -> None:
    pair = preference("q" * 20, "a" * 10, "b" * 30)
    source = write(tmp_path / "a.jsonl", pair, preference("q", "a", "b"))
    counts = check_data(source, counter=count_bytes, longest_allowed=40).tokens
    assert counts is not None
    assert (counts.total, counts.kept, counts.longest, counts.too_long) == (84, 74, 50, 1)


def test_data_of_a_job_is_told(tmp_path: Path) -> None:
    lines = [*[chat(f"q{number}") for number in range(10)], chat("q1"), chat("x" * 99)]
    values = {"data": write(tmp_path / "a.jsonl", *lines), "context": 50}
    told = inspect_data("sft", values)
    assert told["ok"] and told["counted_in"] == "bytes"
    assert tokens_range(told) == (round(told["tokens"]["total"] / 5), round(told["tokens"]["total"] / 3))
    text = data_text(told)
    assert "12 chat examples" in text and "1 are there more than once" in text and "perhaps" in text
    with pytest.raises(BadData, match=r"is chat data \(line 1\), and dpo needs preference"):
        inspect_data("dpo", values)
    write(tmp_path / "a.jsonl", *["{"] * 30)
    told = inspect_data("sft", values)
    assert not told["ok"]
    assert "  line 1: no JSON" in data_text(told) and "and 10 bad lines more" in data_text(told)
    good = write(tmp_path / "c.jsonl", *[chat(f"q{number}") for number in range(10)])
    prepared = prepare(good, tmp_path / "ready")
    told = inspect_data("sft", {"data": str(tmp_path / "ready")})
    assert (told["examples"], told["train"], told["held_out"]) == (prepared.train, 9, 1)
    pairs = {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert inspect_data("dpo", {"data": write(tmp_path / "b.jsonl", pairs)})["format"] == "preference"


def test_the_right_answer_of_a_question_is_its_last_message() -> None:
    asked, right = {"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2"}
    use = use_of("grpo")
    assert use is not None and use.convert is not None
    for row in (
        {"prompt": "1 + 1", "answer": 2},
        {"question": "1 + 1", "answer": "2"},
        {"messages": [asked], "answer": 2},
        {"messages": [asked, {"role": "assistant", "content": "well, 1 + 1 is 2"}], "answer": "2"},
        {"messages": [asked, right]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "1 "}, {"type": "text", "text": "+ 1"}],
                },
                right,
            ]
        },
    ):
        made = use.convert(row)
        assert made["messages"] == [asked, right] and "answer" not in made


def values_of(data: Path | str, **more: Any) -> dict[str, Any]:
    return {"data": str(data), "held_out": 0.2, "seed": 0, **more}


def test_a_job_gets_its_data_divided_and_keeps_it(tmp_path: Path) -> None:
    said: list[str] = []
    source = write(tmp_path / "a.jsonl", *[chat(f"q{number % 40}", f"a{number}") for number in range(100)])
    folder = tmp_path / "job" / "data"
    (tmp_path / "job").mkdir()
    assert prepare_job_data("sft", values_of(source, held_out_max=5), folder, said.append) == folder
    ready = read_prepared(folder)
    assert ready is not None and ready.train + ready.held_out == 100 and 5 <= ready.held_out <= 7
    before = (folder / "train.jsonl").read_bytes()
    write(tmp_path / "a.jsonl", chat("another"))
    assert prepare_job_data("sft", values_of(source), folder, said.append) == folder
    assert (folder / "train.jsonl").read_bytes() == before, "a job that goes on has the data it began with"
    found = data_of(JobFolder(tmp_path / "job"))
    assert found is not None and (found.name, found.hash, found.train) == ("a.jsonl", ready.hash, ready.train)
    copied = tmp_path / "other" / "data"
    assert prepare_job_data("sft", values_of(folder), copied, said.append) == copied
    assert (copied / "heldout.jsonl").read_bytes() == (folder / "heldout.jsonl").read_bytes()
    assert prepare_job_data("custom", values_of(source), tmp_path / "no", said.append) is None
    assert prepare_job_data("sft", {"data": ""}, tmp_path / "no", said.append) is None
    assert data_of(JobFolder(tmp_path)) is None
    with pytest.raises(BadData, match="needs another format"):
        prepare_job_data("dpo", values_of(folder), tmp_path / "no", said.append)
    (folder / "data.json").write_text("{")
    with pytest.raises(BadData, match="no whole data.json"):
        prepare_job_data("sft", values_of(folder), tmp_path / "no", said.append)
    assert not (tmp_path / "no").exists()


def test_data_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", *[chat("the same", f"a{number}") for number in range(9)])
    with pytest.raises(BadData, match="at least two different"):
        prepare_job_data("sft", values_of(source), tmp_path / "data", print)
    bad = write(tmp_path / "b.jsonl", chat("a"), '{"messages": 3}')
    with pytest.raises(BadData, match="line 2"):
        check_job_data("sft", values_of(bad))
    with pytest.raises(BadData, match="line 2"):
        prepare_job_data("sft", values_of(bad), tmp_path / "data", print)
    check_job_data("sft", values_of(bad, examples_max=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_a_plain_text_is_divided_into_pieces(tmp_path: Path) -> None:
    """Also one without empty lines, and one whose paragraphs are many: what is held out is a part of the whole."""
    for name, text in (
        ("one", "".join(f"line {number} of a long text\n" for number in range(2000))),
        ("many", "".join(f"paragraph {number}\n\n" for number in range(2000))),
    ):
        (tmp_path / f"{name}.txt").write_text(text)
        folder = tmp_path / f"{name}-data"
        assert prepare_job_data("pretrain", values_of(tmp_path / f"{name}.txt"), folder, print) == folder
        ready = read_prepared(folder)
        assert ready is not None and 30 <= ready.train + ready.held_out <= 140 and ready.held_out >= 6
        kept = [json.loads(line)["text"] for side in ("train", "heldout")
                for line in (folder / f"{side}.jsonl").read_text().splitlines()]  # fmt: skip
        assert sorted("\n".join(kept).split()) == sorted(text.split()), "nothing is lost or there twice"
