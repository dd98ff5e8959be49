"""Data sets of the hub, and folders that are laid out like them, as corpora: read by the real client."""

import json
import os
import subprocess
import sys

import pytest

from helpers.data_lines import chat, preference, write
from helpers.fake_hub import fake_hub

pytestmark = pytest.mark.processes

BUILD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from distrai.training.data.corpus import build_corpus
from distrai.training.data.layouts import TOKEN_MASK, UNSCORED
from distrai.training.errors import TrainingError
from distrai.training.tokenizer import ByteTokenizer
from training.tiny import Store, section
import numpy as np

def built(keys):
    store = Store()
    try:
        chosen = section(**{"source": "hub", "globs": (), "context": 48, **keys})
        corpus = build_corpus(chosen, ByteTokenizer(), store.write, Path(sys.argv[1]))
    except TrainingError as error:
        return type(error).__name__, str(error)
    texts = []
    for split in ("train", "tuning", "held_out"):
        data = b"".join(store.read(shard.blob) for shard in corpus.manifest.shards(split))
        if corpus.manifest.layout == "windows":
            texts.append(data.decode())
        else:
            entries = np.frombuffer(data, "<u4")
            texts.append(bytes((entries[entries < UNSCORED] & TOKEN_MASK).tolist()).decode())
    return corpus.manifest.layout, texts

print(json.dumps([built(keys) for keys in json.loads(sys.stdin.read())]))
"""


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def words(letter, count=40):
    return [{"body": f"{letter}{at} " * 30, "text": None, "n": at} for at in range(count)]


CONFIGS = b"""---
configs:
- config_name: latin
  data_files: [{split: train, path: latin.jsonl}, {split: more, path: more.jsonl}]
- config_name: greek
  data_files: greek.jsonl
---
"""
TRAP = "import pathlib\npathlib.Path({!r}).touch()\n"


def test_data_sets_become_corpora(tmp_path):
    trap, folder = tmp_path / "trap", tmp_path / "mine"
    folder.mkdir()
    write(folder / "train.jsonl", *(chat(f"q{at}", f"mine{at}") for at in range(9)))
    for name in ("mine/loader.py", "coded/coded.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TRAP.format(str(trap)))
    with fake_hub() as hub:
        texts = {"latin.jsonl": words("a"), "more.jsonl": words("m"), "greek.jsonl": words("g")}
        files = {name: lines(rows) for name, rows in texts.items()}
        old = hub.put("alice/words", {"README.md": CONFIGS, **files}, "dataset").head
        hub.put("alice/words", {"latin.jsonl": lines(words("z"))}, "dataset")
        hub.put(
            "alice/chats", {"train.jsonl": lines(chat(f"q{at}", f"said{at}") for at in range(9))}, "dataset"
        )
        chosen = [{"prompt": f"q{at}", "chosen": f"good{at}", "rejected": f"bad{at}"} for at in range(9)]
        hub.put("alice/pairs", {"train.jsonl": lines(chosen)}, "dataset")
        broken = [preference("a"), {"prompt": "b", "completion": ""}]
        hub.put("alice/broken", {"train.jsonl": lines(broken)}, "dataset")
        hub.put("alice/code", {"code.py": TRAP.format(str(trap)).encode()}, "dataset")
        secret = tmp_path / "secret.jsonl"
        write(secret, *(chat(f"q{at}", f"secret{at}") for at in range(9)))
        steals = f"---\nconfigs:\n- config_name: default\n  data_files: {secret}\n---\n".encode()
        hub.put("alice/thief", {"README.md": steals}, "dataset")
        (tmp_path / "thief").mkdir()
        (tmp_path / "thief" / "README.md").write_bytes(steals)
        text = {"dataset": "alice/words", "subset": "latin", "column": "body"}
        asked = [
            text,
            {**text, "revision": old},
            {**text, "split": "more", "max_documents": 5},
            {**text, "subset": "greek"},
            {"dataset": "alice/chats", "format": "chat"},
            {"dataset": "mine", "format": "chat"},
            {"dataset": "alice/pairs", "format": "preferences"},
            {**text, "column": "n"},
            {**text, "column": "text"},
            {"dataset": "alice/broken", "format": "chat"},
            {"dataset": "alice/code"},
            {"dataset": "coded"},
            {"dataset": "alice/none"},
            {**text, "split": "nope"},
            {"dataset": "alice/thief", "format": "chat"},
            {"dataset": "thief", "format": "chat"},
        ]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        told = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(tmp_path), "tests"], input=json.dumps(asked), text=True,
            env={**kept, **told, "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}, capture_output=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    new, before, more, greek, chats, mine, pairs, *wrong = json.loads(done.stdout)
    for (layout, parts), letter, count in (
        (new, "z", 40),
        (before, "a", 40),
        (more, "m", 5),
        (greek, "g", 40),
    ):
        found = [{word for word in part.split() if word} for part in parts]
        assert layout == "windows" and set.union(*found) == {f"{letter}{at}" for at in range(count)}
        assert sum(map(len, found)) == count and min(map(len, found)) >= 1
    for (layout, parts), word in ((chats, "said"), (mine, "mine")):
        assert layout == "rows" and sorted("".join(parts).split("<|end|>")[:-1]) == [
            f"{word}{at}" for at in range(9)
        ]
    assert pairs[0] == "pairs" and "".join(pairs[1]).count("good") == "".join(pairs[1]).count("bad") == 9
    expected = (
        ("BadExamples", "alice/words row 1: column 'n' is no text"),
        ("CorpusTooSmall", "alice/words has 0 different texts"),
        (
            "BadExamples",
            "alice/broken row 1: messages is missing; alice/broken row 2: messages[2].content is empty",
        ),
        ("BadSource", "alice/code cannot be read"),
        ("BadSource", "coded cannot be read"),
        ("BadSource", "alice/none cannot be read: there is no such data set"),
        ("BadSource", "nope"),
        ("BadSource", "alice/thief"),
        ("BadSource", "thief names a file outside of itself"),
    )
    for (kind, said), (wanted, part) in zip(wrong, expected, strict=True):
        assert (kind == wanted) and part in said and len(said.splitlines()) == 1, (said, part)
    assert not trap.exists()
