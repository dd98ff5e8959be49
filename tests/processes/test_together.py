"""Fine-tuning in common, in real processes: an adapter, preferences, a student. What is frozen travels by its hash:
the folder that the opener read is removed before the first peer starts.
"""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from distrai.network.store import BlobStore
from distrai.peer.plan import Plan
from distrai.protocol.cipher import sealed_size
from distrai.protocol.messages import Update
from distrai.protocol.recipe import Recipe
from distrai.runs.exporting import export_run
from distrai.runs.folder import RunFolder
from distrai.runs.opened import OpenedRun
from distrai.runs.verify import verify
from distrai.training.frozen import parse_model_manifest
from helpers.learning import GRANITE, save_model
from helpers.local_runs import Drive, Observer, check_consistent, own_messages, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

NewFolder = Callable[[str], Path]
FROZEN = "frozen"
"""Where the base and the teacher are until the run is open."""
ROUNDS = 5
STUDENT = GRANITE | {"hidden_size": 32, "num_hidden_layers": 1}
ADAPTER = {"path": FROZEN, "source": "pretrained", "config": {}, "adapter": {"r": 4, "alpha": 8.0}}
COLOURS = ("red", "blue", "green", "white", "black", "amber")


def chat(number: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"ball {number}"},
        {"role": "assistant", "content": f"It is {COLOURS[number % 2]}."},
    ]


def write_examples(folder: Path) -> None:
    chats = [{"messages": chat(number)} for number in range(60)]
    preferences = [
        {
            "input": {"messages": chat(number)[:1]},
            "preferred_output": chat(number)[1:],
            "non_preferred_output": [{"role": "assistant", "content": "Go away."}],
        }
        for number in range(60)
    ]
    for name, rows in (("chats", chats), ("preferences", preferences)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe_of(kind: str, base: Path) -> Recipe:
    """A recipe of seconds, with all that it reads written to ``base``."""
    write_examples(base)
    save_model(base / FROZEN)
    rows = {"context": 56, "held_out_fraction": 0.2, "tuning_fraction": 0.1}
    sections: dict[str, dict[str, Any]] = {
        "rounds": {"count": ROUNDS},
        "algorithm": {"inner_steps": 4},
        "evaluation": {"samples_final": 64},
    }
    if kind == "lora":
        own = {
            "model": ADAPTER,
            "data": rows | {"format": "chat", "globs": ["chats.jsonl"]},
            "training": {"lr": 2e-2, "weight_decay": 0.0},
            "membership": {"peers": 3},
        }
    elif kind == "dpo":
        own = {
            "model": ADAPTER,
            "data": rows | {"format": "preferences", "globs": ["preferences.jsonl"]},
            "training": {"objective": "dpo", "lr": 1e-2, "weight_decay": 0.0},
        }
    else:
        own = {
            "model": {"config": STUDENT},
            "data": {"context": 32},
            "training": {"objective": "distill"},
            "teacher": {"path": FROZEN, "license": "MIT", "weight": 0.9},
        }
    return tiny_recipe(base, **sections, **own)


@dataclass
class Trained:
    """A run that is done."""

    kind: str
    folder: RunFolder
    observer: Observer
    peers: list[str]

    def opened(self) -> OpenedRun:
        return OpenedRun.open(self.folder, "cpu")

    @property
    def frozen(self) -> str:
        """What this run is based on, and does not change."""
        return "teacher" if self.kind == "distill" else "base"


def train(kind: str, nursery: Nursery, new_folder: NewFolder) -> Trained:
    base, folder = new_folder(f"{kind}-base"), RunFolder(new_folder(kind))
    recipe = recipe_of(kind, base)

    def forget(name: str) -> None:
        if name.startswith("peer-"):
            shutil.rmtree(base / FROZEN, ignore_errors=True)

    async def drive_it() -> Observer:
        with nursery.attached():
            async with Drive(folder, nursery, recipe, base, before_start=forget) as drive:
                assert await drive.finish()
                return drive.observer

    observer = asyncio.run(drive_it())
    assert not (base / FROZEN).exists()
    return Trained(kind, folder, observer, [f"peer-{number}" for number in range(recipe.membership.peers)])


@pytest.fixture(scope="module", params=["lora", "dpo", "distill"])
def trained(request: pytest.FixtureRequest, nursery: Nursery, new_folder: NewFolder) -> Trained:
    return train(request.param, nursery, new_folder)


def test_all_agree_and_a_replay_arrives_where_they_did(trained: Trained) -> None:
    observer = trained.observer
    check_consistent(observer, trained.folder, trained.peers)
    assert observer.newest_round() == ROUNDS
    verdict = verify(trained.folder, None, lambda *_: None)
    assert verdict.ok, verdict.failure
    assert int(verdict.to_json()["state_root"], 16) == int(observer.final_root(), 16)
    assert verdict.to_json()["updates"] == ROUNDS * len(trained.peers)


def test_only_what_is_trained_is_exchanged(trained: Trained) -> None:
    run = trained.opened()
    whole = sum(parameter.numel() for parameter in run.model.parameters())
    plan = Plan.of(run.resolved)
    layout = plan.layout
    if trained.kind == "distill":
        assert layout.numel == whole
    else:
        assert all(".lora_" in spec.name for spec in layout.tensors)
        assert layout.numel < whole / 4
    (state,) = {run.resolved.initial_state.size, len(run.archive.state(run.resolved)[1])}
    assert state < 4 * 4 * layout.numel, "parameters and averaged moments, and nothing else"
    for peer in trained.peers:
        updates = [each for each in own_messages(trained.folder, peer) if isinstance(each, Update)]
        assert len(updates) == ROUNDS
        assert {update.blob_size for update in updates} == {sealed_size(plan.payload_sizes[0])}


def test_what_is_frozen_came_by_its_hash_from_who_has_it(trained: Trained) -> None:
    told = trained.observer.of("downloading", *trained.peers[1:])
    assert {event["from"] for event in told if event["what"] == trained.frozen} == set(trained.peers[1:])
    resolved = trained.opened().resolved
    manifest = getattr(resolved, trained.frozen)
    for number in range(len(trained.peers)):
        store = BlobStore(trained.folder.peer(number) / "blobs")
        parts = list(parse_model_manifest(store.read(manifest)).blobs())
        assert parts
        assert all(store.has(part) for part in parts)


def test_it_learned(trained: Trained) -> None:
    run = trained.opened()
    run.load(run.archive.initial_state(run.resolved))
    before = run.measure(64)
    run.load_newest()
    after = run.measure(64)
    assert after.loss < before.loss - 0.05
    if trained.kind == "dpo":
        assert before.accuracy == 0, "nothing is preferred by the model that it is compared with"
        assert after.accuracy is not None
        assert after.accuracy > 0.7


def test_the_export_is_a_plain_model_that_says_the_same(trained: Trained, tmp_path: Path) -> None:
    done = export_run(trained.folder, tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(done.folder)
    assert not any("lora" in name for name, _ in plain.named_parameters())
    run = trained.opened()
    assert run.load_newest() == done.round == ROUNDS
    ids = torch.arange(48).unsqueeze(0)
    with torch.inference_mode():
        ours, theirs = (model.eval()(input_ids=ids).logits for model in (run.model, plain))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
