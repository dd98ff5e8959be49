"""Data sets of the hub by their names, streamed from a hub on loopback by the real client."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.data_lines import chat
from helpers.fake_hub import FakeHub, fake_hub

pytestmark = pytest.mark.processes
ROWS = 300
VERBS = "import sys, json; from distrai.cli.main import main\nfor text in sys.argv[1:]: print(main(json.loads(text)))"
PRIVATE = "there is no such data set, or it is private (then set HF_TOKEN)"
GOOD = {
    "alice/chats?split=test": 5,
    "alice/both?subset=de": 4,
    "alice/both?config=en&split=test": 2,
    "alice/texts?column=body": 7,
}
BAD = {
    "alice/none": PRIVATE, "alice/hidden": PRIVATE, "alice/chats?split=tset": "Available splits: ['train', 'test']",
    "alice/both": "['en', 'de']", "alice/texts?column=text": "there is no column 'text'; there are body",
    "alice/texts": "it has none of messages, preferred_output, text, but body", "alice/odd": "line 3",
}  # fmt: skip


def lines(count: int, first: int = 0, **more: Any) -> bytes:
    return "".join(
        json.dumps(chat(f"q{number}", **more)) + "\n" for number in range(first, first + count)
    ).encode()


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    parts = "  data_files:\n  - {split: train, path: %s/train.jsonl}\n"
    card = "configs:\n- config_name: en\n" + parts % "en" + "  - {split: test, path: en/test.jsonl}\n"
    card += "- config_name: de\n" + parts % "de"
    with fake_hub() as running:
        running.put("alice/chats", {"train.jsonl": lines(ROWS), "test.jsonl": lines(5, 900)}, "dataset")
        running.put("alice/both", {
            "README.md": f"---\n{card}---\n".encode(), "en/train.jsonl": lines(3), "en/test.jsonl": lines(2),
            "de/train.jsonl": lines(4, answer="ja"),
        }, "dataset")  # fmt: skip
        body = "".join(
            json.dumps({"body": f"text {number}", "day": "2026-01-01"}) + "\n" for number in range(7)
        )
        running.put("alice/texts", {"train.jsonl.gz": gzip.compress(body.encode())}, "dataset")
        running.put("alice/odd", {"train.jsonl": lines(2) + b'{"messages": null, "n": 1}\n'}, "dataset")
        running.put("alice/hidden", {"train.jsonl": lines(3)}, "dataset", private=True)
        yield running


@pytest.fixture(scope="module")
def answers(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, dict[str, Any]]]:
    """What `distrai jobs data` says of each: exit code and object. In one other process, whose hub is ours."""
    folder = tmp_path_factory.mktemp("hub")
    asked = {name: ["jobs", "data", f"hf:{name}", "--json"] for name in (*GOOD, *BAD)}
    asked["few"] = ["jobs", "data", "hf:alice/chats", "--limit", "50", "--for", "sft", "--json"]
    asked["out"] = ["jobs", "data", "hf:alice/chats?split=train", "--out", str(folder / "ready"), "--json"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DISTRAI_"))}
    environment = {
        **kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "XDG_DATA_HOME": str(folder / "data"),
    }  # fmt: skip
    command = [sys.executable, "-c", VERBS, *(json.dumps(arguments) for arguments in asked.values())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(asked), "every verb ends with one object"
    said = {name: (int(lines[2 * at + 1]), json.loads(lines[2 * at])) for at, name in enumerate(asked)}
    return {**said, "folder": (0, {"path": str(folder / "ready")})}


def test_a_data_set_is_streamed_checked_and_divided(answers: dict[str, tuple[int, dict[str, Any]]]) -> None:
    code, told = answers["few"]
    assert (code, told["ok"], told["examples"], told["part"]) == (0, True, 50, True)
    code, told = answers["out"]
    assert (code, told["train"], told["held_out"]) == (0, ROWS - 15, 15)
    out = Path(answers["folder"][1]["path"])
    kept = (out / "train.jsonl").read_bytes() + (out / "heldout.jsonl").read_bytes()
    assert sorted(kept.splitlines()) == sorted(
        json.dumps(chat(f"q{number}"), sort_keys=True, separators=(",", ":")).encode()
        for number in range(ROWS)
    )
    assert json.loads((out / "data.json").read_text())["source"] == "hf:alice/chats?split=train"


@pytest.mark.parametrize("name", GOOD)
def test_part_of_a_data_set_is_named_in_its_address(
    answers: dict[str, tuple[int, dict[str, Any]]], name: str
) -> None:
    code, told = answers[name]
    assert (code, told["ok"], told["examples"], told["part"]) == (0, True, GOOD[name], False)


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_data_set_is_one_sentence(
    answers: dict[str, tuple[int, dict[str, Any]]], name: str
) -> None:
    code, told = answers[name]
    said = told.get("why") or "; ".join(f"line {item['line']}: {item['why']}" for item in told["problems"])
    assert code in (1, 2) and not told["ok"] and BAD[name] in said
    assert "\n" not in said and len(said) < 2000
