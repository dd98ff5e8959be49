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
VERB = "import sys; from distrai.cli.main import main; sys.exit(main(sys.argv[1:]))"


def lines(count: int, first: int = 0, **more: Any) -> bytes:
    return "".join(
        json.dumps(chat(f"q{number}", **more)) + "\n" for number in range(first, first + count)
    ).encode()


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    card = "configs:\n- config_name: en\n  data_files:\n  - {split: train, path: en/train.jsonl}\n  - {split: test, path: en/test.jsonl}\n"
    card += "- config_name: de\n  data_files:\n  - {split: train, path: de/train.jsonl}\n"
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


def distrai(hub: FakeHub, home: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """A verb in a process of its own, with this hub and an empty cache; its exit code and its one object."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DISTRAI_"))}
    environment = {
        **kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "XDG_DATA_HOME": str(home / "data"),
    }  # fmt: skip
    command = [sys.executable, "-c", VERB, *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return done.returncode, dict(json.loads(done.stdout))


def test_a_data_set_is_streamed_checked_and_divided(hub: FakeHub, tmp_path: Path) -> None:
    code, told = distrai(hub, tmp_path, "jobs", "data", "hf:alice/chats", "--limit", "50", "--for", "sft")
    assert (code, told["ok"], told["examples"], told["part"]) == (0, True, 50, True)
    out = tmp_path / "ready"
    code, told = distrai(hub, tmp_path, "jobs", "data", "hf:alice/chats?split=train", "--out", str(out))
    assert (code, told["train"], told["held_out"]) == (0, ROWS - 15, 15)
    kept = (out / "train.jsonl").read_bytes() + (out / "heldout.jsonl").read_bytes()
    assert sorted(kept.splitlines()) == sorted(
        json.dumps(chat(f"q{number}"), sort_keys=True, separators=(",", ":")).encode()
        for number in range(ROWS)
    )
    assert json.loads((out / "data.json").read_text())["source"] == "hf:alice/chats?split=train"


@pytest.mark.parametrize(
    ("name", "examples"),
    [("alice/chats?split=test", 5), ("alice/both?subset=de", 4), ("alice/both?config=en&split=test", 2),
     ("alice/texts?column=body", 7)],
)  # fmt: skip
def test_part_of_a_data_set_is_named_in_its_address(
    hub: FakeHub, tmp_path: Path, name: str, examples: int
) -> None:
    code, told = distrai(hub, tmp_path, "jobs", "data", f"hf:{name}")
    assert (code, told["ok"], told["examples"], told["part"]) == (0, True, examples, False)


@pytest.mark.parametrize(
    ("name", "why"),
    [("alice/none", "there is no such data set, or it is private (then set HF_TOKEN)"),
     ("alice/hidden", "there is no such data set, or it is private (then set HF_TOKEN)"),
     ("alice/chats?split=tset", "name one with ?split="), ("alice/both", "name one with ?subset="),
     ("alice/texts?column=text", "there is no column 'text'; there are body, day"),
     ("alice/texts", "it has none of messages, preferred_output, text, but body, day"),
     ("alice/odd", "line 3")],
)  # fmt: skip
def test_what_is_wrong_with_a_data_set_is_one_sentence(
    hub: FakeHub, tmp_path: Path, name: str, why: str
) -> None:
    code, told = distrai(hub, tmp_path, "jobs", "data", f"hf:{name}", "--out", str(tmp_path / "out"))
    said = told.get("why") or "; ".join(f"line {item['line']}: {item['why']}" for item in told["problems"])
    assert code in (1, 2) and not told["ok"] and why in said
    assert "\n" not in said and len(said) < 2000 and not (tmp_path / "out").exists()
