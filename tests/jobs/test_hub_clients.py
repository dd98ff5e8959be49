"""Other people's clients, each in a process of its own, against the same hub: what we push they load, and back."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distrai.jobs.models.manifest import Origin
from distrai.jobs.models.saving import save_model
from distrai.jobs.models.store import ModelStore
from helpers.fake_hub import FakeHub, fake_hub
from helpers.toy_models import chats, make_toy_model

pytestmark = pytest.mark.processes
NAME = "0x" + "ab" * 20 + "/toy"
REPO = "alice/toy"


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with fake_hub() as running:
        yield running


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_model(tmp_path_factory.mktemp("toy") / "model", hidden=64, layers=1)


def run(hub: FakeHub, home: Path, token: str, *command: str) -> str:
    """Run Python with this hub, its own cache, and nothing else of ours; what it says must not have the token in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DISTRAI_"))}
    environment = {
        **kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "DISTRAI_MODELS": str(home / "models"), "OMP_NUM_THREADS": "1",
        **({"HF_TOKEN": token} if token else {}),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not token or token not in done.stdout + done.stderr
    return done.stdout


LOAD = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
written = []
for name in sys.argv[1:]:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    ids = tokenizer("The harbour", return_tensors="pt")
    written.append(model.generate(**ids, max_new_tokens=4, do_sample=False).tolist())
print(len(written[0][0]), written[0] == written[1])
"""


def test_what_we_push_plain_transformers_loads(hub: FakeHub, toy: Path, tmp_path: Path) -> None:
    store = ModelStore.at(str(tmp_path / "models"))
    saved = save_model(store, toy, NAME, Origin(kind="sft"), {"README.md": b"---\nlicense: mit\n---\n"})
    token = hub.token("alice")
    told = json.loads(run(hub, tmp_path, token, "-m", "distrai.cli", "models", "push", "toy", REPO, "--json"))
    assert told["ok"] and told["private"] and told["manifest"] == saved.manifest.hash
    assert run(hub, tmp_path / "theirs", token, "-c", LOAD, REPO, str(toy)) == "15 True\n"
    assert hub.leaked() == []


PUSH = """
import sys
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
model.push_to_hub("alice/theirs", private=True)
AutoTokenizer.from_pretrained(sys.argv[1]).push_to_hub("alice/theirs")
get_peft_model(model, LoraConfig(r=2, task_type="CAUSAL_LM")).push_to_hub("alice/adapter", private=True)
print(sorted(AutoModelForCausalLM.from_pretrained("alice/theirs").state_dict())[0])
"""


def test_what_transformers_and_peft_push_we_pull(hub: FakeHub, toy: Path, tmp_path: Path) -> None:
    token = hub.token("alice")
    assert "weight" in run(hub, tmp_path, token, "-c", PUSH, str(toy))
    assert hub.repos["model", "alice/theirs"].private and hub.repos["model", "alice/adapter"].private
    command = ("-m", "distrai.cli", "models", "pull")
    told = json.loads(run(hub, tmp_path, token, *command, "alice/theirs", "--json"))
    assert not told["sealed"] and told["origin"]["source"].startswith("hub:alice/theirs@")
    adapter = json.loads(run(hub, tmp_path, token, *command, "alice/adapter", "--json"))
    kept = Path(adapter["location"])
    assert {"adapter_model.safetensors", "adapter_config.json"} <= {path.name for path in kept.iterdir()}


READ = """
import json, sys
from distrai.jobs.data.examples import check_data
from distrai.jobs.data.sources import BadSource
from distrai.jobs.data.tokens import TokenizerCounter
counter = TokenizerCounter.load(sys.argv[1])
reports = [check_data("hf:alice/chats", counter=counter, limit=limit) for limit in (0, 7)]
told = [[report.ok, report.format, report.examples, report.tokens.total] for report in reports]
told.append(check_data("hf:alice/prose?column=body").format)
for wrong in ("hf:alice/none", "hf:alice/chats?split=nope", "hf:alice/chats?colum=text"):
    try:
        check_data(wrong)
    except BadSource as error:
        told.append(str(error))
print(json.dumps(told))
"""


def test_a_data_set_of_the_hub_is_streamed_by_its_name(hub: FakeHub, toy: Path, tmp_path: Path) -> None:
    lines = "".join(json.dumps(line) + "\n" for line in chats(40))
    hub.put("alice/prose", {"train.jsonl": b'{"body": "some text", "n": 1}\n'}, "dataset")
    hub.put("alice/chats", {"train.jsonl": lines.encode(), "README.md": b""}, "dataset")
    (ok, kind, count, tokens), (_, _, some, _), prose, *wrong = json.loads(
        run(hub, tmp_path, "", "-c", READ, str(toy))
    )
    assert ok and (kind, count, some, prose) == ("chat", 40, 7, "text") and tokens > 40 * 10
    for said, words in zip(
        wrong, ("hf:alice/none cannot be read", "nope", "'colum' is none of split"), strict=True
    ):
        assert words in said and len(said.splitlines()) == 1
