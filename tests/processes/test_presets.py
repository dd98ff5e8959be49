"""Every preset for the network trains over it, in real processes, and a replay of what was published agrees."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distrai.algorithms.presets import PRESETS
from distrai.protocol.recipe import AlgorithmSection
from distrai.runs.folder import RunFolder
from distrai.runs.verify import verify
from helpers.local_runs import Drive, check_consistent, own_messages, tiny_recipe
from helpers.nursery import Nursery

pytestmark = pytest.mark.processes

NewFolder = Callable[[str], Path]
PEERS = ("peer-0", "peer-1")
STEPS = 4
CONFIG = {
    "model_type": "granite",
    "vocab_size": 256,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
ONE_STEP = {"demo", "distro", "sparta"}
"""Presets whose rounds are one step."""
EXTRA: dict[str, dict[str, Any]] = {
    "streaming-diloco": {"overlap": 2},
    "averaged-overlap": {"preset": "prime", "overlap": 2},
    "sparse-overlap": {"preset": "sparseloco", "overlap": 3, "codec_options": {"k": 256}},
    "public": {"preset": "sparseloco", "inner_state": "public", "codec_options": {"k": 256}},
    "muon": {"preset": "diloco", "inner_optimiser": "muon", "inner_state": "kept"},
    "measured": {"preset": "prime", "pace": "measured"},
}
"""Configurations beside the presets, and what tiny rounds need."""
NETWORKED = [name for name, preset in PRESETS.items() if preset.network]


@pytest.mark.parametrize("name", [*NETWORKED, *(name for name in EXTRA if name not in PRESETS)])
def test_trains_over_the_network_and_replays(name: str, nursery: Nursery, new_folder: NewFolder) -> None:
    texts = new_folder(f"{name}-texts")
    settings = {"preset": name, "inner_steps": 1 if name in ONE_STEP else STEPS} | EXTRA.get(name, {})
    plain = tiny_recipe(texts, model={"config": CONFIG}, rounds={"count": 5})
    recipe = replace(plain, algorithm=AlgorithmSection(**settings))
    folder = RunFolder(new_folder(name))

    async def train() -> str:
        with nursery.attached():
            async with Drive(folder, nursery, recipe, texts) as drive:
                assert await drive.finish()
            check_consistent(drive.observer, folder, list(PEERS))
            assert drive.observer.newest_round() == 5
            return drive.observer.final_root()

    root = asyncio.run(train())
    verdict = verify(folder, None, lambda *_: None)
    assert verdict.ok, verdict.failure
    assert "0x" + verdict.to_json()["state_root"].removeprefix("0x") == "0x" + root.removeprefix("0x")
    for peer in PEERS:
        updates = [message for message in own_messages(folder, peer) if message.kind == "update"]
        taus = {update.tau for update in updates}  # type: ignore[attr-defined]
        overlap = recipe.algorithm.overlap or PRESETS[recipe.algorithm.preset].overlap
        assert taus <= {0, overlap}
        assert not overlap or overlap in taus
